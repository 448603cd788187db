"""Subscribers are told how a job goes."""

from __future__ import annotations

import itertools
import json
import uuid

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import (
    assert_problem,
    execute,
    pointers,
    submit,
)
from tests.e2e.beyond_the_suite.elsewhere import told


def subscriber(elsewhere: str) -> tuple[str, dict[str, str]]:
    """Return a place of a test's own, and the subscriber that is told there."""
    prefix = f"/{uuid.uuid4()}"
    base = elsewhere + prefix
    return prefix, {
        "successUri": f"{base}/success", "inProgressUri": f"{base}/progress", "failedUri": f"{base}/failed",
    }  # fmt: skip


def test_t1_0__req_callback_job_callback_success(trusting: httpx2.Client, elsewhere: str) -> None:
    prefix, where = subscriber(elsewhere)

    submit(trusting, "echo", {"inputs": {"message": "hello"}, "subscriber": where})

    heard = told(prefix, "/success")
    assert heard["/success"] == [{"message": "hello", "count": 1}]
    assert "/failed" not in heard


def test_t1_0__req_callback_job_callback_progress(trusting: httpx2.Client, elsewhere: str) -> None:
    prefix, where = subscriber(elsewhere)

    job = submit(trusting, "echo", {"inputs": {"message": "hello", "pause": 2}, "subscriber": where})

    reports = told(prefix, "/success")["/progress"]
    assert {report["jobID"] for report in reports} == {job.rpartition("/")[2]}
    assert all(before["progress"] <= after["progress"] for before, after in itertools.pairwise(reports))


def test_t1_0__req_callback_job_callback_failure(trusting: httpx2.Client, elsewhere: str) -> None:
    prefix, where = subscriber(elsewhere)
    inputs = {"image": {"href": "http://nowhere.invalid/x.png"}}

    submit(trusting, "echo-all", {"inputs": inputs, "subscriber": where})

    heard = told(prefix, "/failed")
    assert "nowhere.invalid" in json.dumps(heard["/failed"][0])
    assert "/success" not in heard


@pytest.mark.usefixtures("nothing_created")
def test_a_subscriber_at_a_private_address_is_refused(http: httpx2.Client) -> None:
    document = {"inputs": {"message": "hello"}, "subscriber": {"successUri": "http://127.0.0.1:1/told"}}

    answer = execute(http, "echo", document, Prefer="respond-async")

    assert_problem(answer, 400)
    assert any(pointer.startswith("/subscriber") for pointer in pointers(answer)), answer.text
