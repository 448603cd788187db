"""Dismissing and removing jobs."""

from __future__ import annotations

import uuid

import httpx2

from tests.e2e.beyond_the_suite.asking import (
    all_jobs,
    assert_problem,
    done,
    href,
    running,
)
from tests.e2e.ogc_suite.schemas import Schemas
from tests.serving import Server


def test_t1_0__req_dismiss_job_dismiss_success(http: httpx2.Client, server: Server, schemas: Schemas) -> None:
    job = running(http)

    answer = http.delete(job)

    assert answer.status_code == 200
    assert answer.json()["status"] == "dismissed"
    assert schemas.remote_faults("statusInfo.yaml", answer.json()) == []
    assert href(answer.json(), "up") == f"{server.url}/jobs"


def test_t2_0__req_dismiss_job_dismiss_status_a_running_job_stays_visible(http: httpx2.Client) -> None:
    job = running(http)

    http.delete(job)

    assert http.get(job).json()["status"] == "dismissed"
    assert job.rpartition("/")[2] in all_jobs(http)


def test_x_failed_a_dismissed_job_has_no_results(http: httpx2.Client) -> None:
    job = running(http)

    http.delete(job)

    assert_problem(http.get(f"{job}/results"), 404, "result-not-available")


def test_t2_0__req_dismiss_job_dismiss_status_a_second_time_removes(http: httpx2.Client) -> None:
    job = running(http)
    http.delete(job)

    again = http.delete(job)

    assert again.status_code == 200
    assert again.json()["status"] == "dismissed"
    assert_problem(http.get(job), 410, "no-such-job")
    assert job.rpartition("/")[2] not in all_jobs(http)


def test_t2_0__req_dismiss_job_dismiss_status_a_finished_job_is_removed(http: httpx2.Client) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}})

    answer = http.delete(job)

    assert answer.status_code == 200
    assert answer.json()["status"] == "dismissed"
    assert_problem(http.get(job), 410, "no-such-job")
    assert_problem(http.get(f"{job}/results"), 410, "no-such-job")


def test_x_removing_what_was_removed_gives_410(http: httpx2.Client) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}})
    http.delete(job)

    assert_problem(http.delete(job), 410, "no-such-job")


def test_x_removing_what_never_was_gives_404(http: httpx2.Client) -> None:
    assert_problem(http.delete(f"/jobs/{uuid.uuid4()}"), 404, "no-such-job")
