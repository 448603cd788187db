"""Sync or async."""

from __future__ import annotations

import time

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import (
    echo,
    execute,
    preferences_applied,
)
from tests.e2e.ogc_suite import wire
from tests.e2e.ogc_suite.schemas import Schemas
from tests.serving import Server


@pytest.mark.parametrize(
    "prefer",
    [
        "respond-async",
        "respond-async ",
        " RESPOND-ASYNC",
        "respond-async; foo=bar",
        "respond-async;return=representation",
        "respond-async, return=minimal",
        "return=minimal, respond-async",
        "unknown, respond-async, handling=lenient",
        'unknown="a, b; c", respond-async',
    ],
)  # fmt: skip
def test_t1_0__rec_core_process_execute_honor_prefer(server: Server, prefer: str) -> None:
    answer = wire.post(f"{server.url}/processes/echo/execution", {"inputs": {"message": "hello"}}, prefer=prefer)

    assert answer.status == 201, str(answer)
    assert "respond-async" in answer.first("Preference-Applied")


def test_preferences_may_come_in_several_headers(http: httpx2.Client) -> None:
    headers = [("Prefer", "return=minimal"), ("Prefer", "respond-async")]

    answer = http.post("/processes/echo/execution", json={"inputs": {"message": "hello"}}, headers=headers)

    assert answer.status_code == 201


@pytest.mark.parametrize("prefer", ["respond-sync", "nonsense", "wait=abc", "return=pizza", ";;,,=", "wait=-1", "wait"])
def test_preferences_that_mean_nothing_are_ignored(http: httpx2.Client, prefer: str) -> None:
    answer = execute(http, "echo", {"inputs": {"message": "hello"}}, Prefer=prefer)

    assert answer.status_code == 200
    assert "respond-async" not in preferences_applied(answer)


def test_t1_0__req_core_process_execute_default_execution_mode_is_sync(http: httpx2.Client) -> None:
    assert echo(http).status_code == 200


def test_t1_0__req_core_process_execute_success_async(http: httpx2.Client, server: Server, schemas: Schemas) -> None:
    answer = execute(http, "echo", {"inputs": {"message": "hello"}}, Prefer="respond-async")

    status = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{server.url}/jobs/{status['jobID']}"
    assert status["status"] in {"accepted", "running", "successful"}
    assert schemas.remote_faults("statusInfo.yaml", status) == []


def test_x_wait_alone_falls_back_to_a_job(http: httpx2.Client) -> None:
    start = time.monotonic()

    answer = execute(http, "echo", {"inputs": {"message": "hello", "pause": 20}}, Prefer="wait=1")

    assert answer.status_code == 201
    assert 0.9 <= time.monotonic() - start < 10
    assert answer.json()["status"] == "running"
    assert preferences_applied(answer) == {"wait=1"}
    http.delete(answer.headers["Location"])


@pytest.mark.parametrize("prefer", ["wait=20", "respond-async, wait=20"])
def test_x_wait_gives_the_results_when_they_come_in_time(http: httpx2.Client, prefer: str) -> None:
    answer = execute(http, "echo", {"inputs": {"message": "hello"}}, Prefer=prefer)

    assert answer.status_code == 200
    assert answer.json() == {"message": "hello", "count": 1}
    assert preferences_applied(answer) == {"wait=20"}


def test_x_wait_with_respond_async_falls_back_to_a_job(http: httpx2.Client) -> None:
    answer = execute(http, "echo", {"inputs": {"message": "hello", "pause": 20}}, Prefer="respond-async, wait=1")

    assert answer.status_code == 201
    assert preferences_applied(answer) == {"respond-async", "wait=1"}
    http.delete(answer.headers["Location"])


def test_t1_0__req_core_process_execute_auto_execution_mode_of_a_sync_process(modes: httpx2.Client) -> None:
    answer = execute(modes, "only-sync", {"inputs": {}}, Prefer="respond-async")

    assert answer.status_code == 200
    assert "respond-async" not in preferences_applied(answer)


def test_t1_0__req_core_process_execute_default_execution_mode_of_an_async_process(modes: httpx2.Client) -> None:
    assert execute(modes, "only-async", {"inputs": {}}).status_code == 201
