"""Status documents, and jobs that fail."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import (
    REL,
    SECONDS,
    assert_problem,
    done,
    ended,
    href,
    media_type,
    nulls_in,
    pointers,
    running,
    submit,
)
from tests.e2e.ogc_suite.schemas import Schemas
from tests.serving import Server


def test_t1_0__req_core_job_success(http: httpx2.Client, schemas: Schemas) -> None:
    status = ended(http, submit(http, "echo", {"inputs": {"message": "hello"}}))

    assert schemas.remote_faults("statusInfo.yaml", status) == []
    assert list(nulls_in(status)) == []


def test_t2_0__req_core_job_success(http: httpx2.Client, draft: Callable[[str, Any], list[str]]) -> None:
    status = ended(http, submit(http, "echo", {"inputs": {"message": "hello"}}))

    assert draft("processes-core/statusInfo.yaml", status) == []


def test_x_status_is_the_union_of_both_editions(http: httpx2.Client, server: Server) -> None:
    job = submit(http, "echo", {"inputs": {"message": "hello"}})

    status = ended(http, job)

    assert server.url + job == f"{server.url}/jobs/{status['jobID']}"
    assert status["id"] == status["jobID"]
    assert status["type"] == "process"
    assert status["processingEntityType"] == "ogc-api-processes"
    assert status["processID"] == "echo"
    assert status["progress"] == 100


def test_t1_0__rec_core_job_status_stamps_are_in_order(http: httpx2.Client) -> None:
    status = ended(http, submit(http, "echo", {"inputs": {"message": "hello", "pause": 1}}))

    created, started, finished, updated = (
        datetime.fromisoformat(status[name]) for name in ("created", "started", "finished", "updated")
    )
    assert created <= started <= finished <= updated
    assert timedelta(seconds=1) <= finished - started < timedelta(seconds=10)


def test_t2_0__rec_core_job_links_of_a_finished_job(http: httpx2.Client, server: Server) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}})

    status = http.get(job).json()

    assert href(status, "self") == server.url + job
    assert href(status, "monitor") == server.url + job
    assert href(status, "up") == f"{server.url}/jobs"
    assert href(status, f"{REL}results") == f"{server.url}{job}/results"
    assert all(link["rel"] for link in status["links"])


def test_t2_0__rec_core_job_links_results_only_once_there_are_any(http: httpx2.Client) -> None:
    job = running(http)

    assert href(http.get(job).json(), f"{REL}results") is None
    http.delete(job)


def test_t2_0__rec_core_job_links_lead_to_the_log(modes: httpx2.Client) -> None:
    job = done(modes, "only-async", {"inputs": {}})

    link = next(link for link in modes.get(job).json()["links"] if link["rel"] == f"{REL}log")

    assert link["title"].startswith("Tool log")
    answer = modes.get(link["href"], headers={"Accept": "*/*"})
    assert answer.status_code == 200
    assert media_type(answer) == "text/plain"
    assert "working on it" in answer.text


def test_a_running_job_tells_its_progress(http: httpx2.Client) -> None:
    job = running(http, 10)
    deadline = time.monotonic() + SECONDS

    while not 0 < (status := http.get(job).json()).get("progress", 0) < 100:
        assert time.monotonic() < deadline, status
        time.sleep(0.1)

    assert status["message"]
    http.delete(job)


@pytest.mark.parametrize("path", ["", "/results", "/results/message", "/results/message/0"])
@pytest.mark.parametrize("job", ["nothing-here", str(uuid.UUID(int=7))])
def test_t1_0__req_core_job_exception_no_such_job(http: httpx2.Client, job: str, path: str) -> None:
    assert_problem(http.get(f"/jobs/{job}{path}"), 404, "no-such-job")


@pytest.mark.parametrize("path", ["/results", "/results/message"])
def test_t1_0__req_core_job_results_exception_results_not_ready(http: httpx2.Client, path: str) -> None:
    job = running(http)

    assert_problem(http.get(job + path), 404, "result-not-ready")
    http.delete(job)


@pytest.fixture(scope="module")
def failed(http: httpx2.Client) -> str:
    """A job that failed since its input could not be fetched."""
    job = submit(http, "echo-all", {"inputs": {"image": {"href": "http://nowhere.invalid/x.png"}}})
    ended(http, job, status="failed")
    return job


def test_a_job_whose_input_cannot_be_fetched_fails_and_says_so(http: httpx2.Client, failed: str) -> None:
    status = http.get(failed).json()

    assert status["exception"]["type"]
    assert status["exception"]["detail"]
    assert "nowhere.invalid" in json.dumps(status)
    assert href(status, f"{REL}exceptions")
    assert href(status, f"{REL}results") is None


def test_t1_0__req_core_job_results_failed(http: httpx2.Client, failed: str, schemas: Schemas) -> None:
    answer = http.get(f"{failed}/results")

    assert_problem(answer, 400)
    assert answer.json()["type"] == http.get(failed).json()["exception"]["type"]
    assert any(pointer.startswith("/inputs/image") for pointer in pointers(answer)), answer.text
    assert schemas.remote_faults("exception.yaml", answer.json()) == []


def test_t1_0__a_failed_job_is_valid_in_both_editions(
    http: httpx2.Client, failed: str, schemas: Schemas, draft: Callable[[str, Any], list[str]]
) -> None:
    status = http.get(failed).json()

    assert schemas.remote_faults("statusInfo.yaml", status) == []
    assert draft("processes-core/statusInfo.yaml", status) == []
    assert list(nulls_in(status)) == []
