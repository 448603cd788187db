"""The list of jobs and its filters."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import (
    HTML,
    SECONDS,
    assert_problem,
    done,
    ended,
    href,
    media_type,
    nulls_in,
    running,
    submit,
)
from tests.e2e.ogc_suite.schemas import Schemas
from tests.serving import Server


class Jobs:
    """Some jobs with known properties, and lists of them."""

    def __init__(self, http: httpx2.Client) -> None:
        self.http = http
        self.since = datetime.now(UTC)
        greeting = {"inputs": {"name": "Ada"}}
        self.paths = {
            "quick": done(http, "echo", {"inputs": {"message": "hello"}}),
            "slow": done(http, "echo", {"inputs": {"message": "hello", "pause": 2}}),
            "greeting": done(http, "hello-world", greeting),
            "dismissed": running(http),
            "running": running(http, 60),
            "failed": submit(http, "echo-all", {"inputs": {"image": {"href": "http://nowhere.invalid/x.png"}}}),
        }
        http.delete(self.paths["dismissed"])
        ended(http, self.paths["failed"], status="failed")
        self.names = {path.rpartition("/")[2]: name for name, path in self.paths.items()}

    def listed(self, query: str) -> list[str]:
        """Return the names of those of ours that a query lists, in its order."""
        document = self.http.get(f"/jobs?limit=1000&{query}").json()
        return [self.names[job["jobID"]] for job in document["jobs"] if job["jobID"] in self.names]

    def created(self, name: str) -> str:
        """Return when a job was created, ready for a query."""
        return quote(self.http.get(self.paths[name]).json()["created"])


@pytest.fixture(scope="module")
def jobs(http: httpx2.Client) -> Iterator[Jobs]:
    """Six jobs."""
    made = Jobs(http)
    yield made
    http.delete(made.paths["running"])


def test_t1_0__req_job_list_job_list_success(
    http: httpx2.Client, jobs: Jobs, schemas: Schemas, draft: Callable[[str, Any], list[str]]
) -> None:
    document = http.get("/jobs?limit=100").json()

    assert schemas.remote_faults("jobList.yaml", document) == []
    assert draft("processes-core/jobList.yaml", document) == []
    assert list(nulls_in(document)) == []


def test_x_the_newest_jobs_come_first(jobs: Jobs) -> None:
    assert jobs.listed("") == ["failed", "running", "dismissed", "greeting", "slow", "quick"]


def test_t1_0__req_job_list_processid_mandatory(http: httpx2.Client, jobs: Jobs) -> None:
    assert all(job["processID"] for job in http.get("/jobs?limit=100").json()["jobs"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("processID=hello-world", {"greeting"}),
        ("processID=hello-world&processID=echo-all", {"greeting", "failed"}),
        ("processID=hello-world,echo-all", {"greeting", "failed"}),
        ("processID=nothing-here", set()),
        ("status=running", {"running"}),
        ("status=failed&status=dismissed", {"failed", "dismissed"}),
        ("status=failed,dismissed", {"failed", "dismissed"}),
        ("status=successful", {"quick", "slow", "greeting"}),
        ("status=accepted", set()),
        ("status=successful&processID=echo", {"quick", "slow"}),
        ("type=process", {"quick", "slow", "greeting", "dismissed", "running", "failed"}),
    ],
)
def test_t1_0__req_job_list_responses(jobs: Jobs, query: str, expected: set[str]) -> None:
    assert set(jobs.listed(query)) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("minDuration=2&status=successful", {"slow"}),
        ("maxDuration=1&status=successful&processID=echo", {"quick"}),
        ("minDuration=1&maxDuration=30&status=successful", {"slow"}),
        ("minDuration=1&minDuration=2&status=successful", {"slow"}),
        ("minDuration=1000", set()),
    ],
)
def test_t1_0__req_job_list_duration_response(jobs: Jobs, query: str, expected: set[str]) -> None:
    assert set(jobs.listed(query)) == expected


def test_t1_0__req_job_list_duration_response_counts_a_running_job_from_its_start(jobs: Jobs) -> None:
    deadline = time.monotonic() + SECONDS

    while "running" not in jobs.listed("minDuration=1"):
        assert time.monotonic() < deadline
        time.sleep(0.2)

    assert "running" not in jobs.listed("minDuration=3600")


DATETIMES: list[tuple[str, set[str]]] = [
    ("{slow}", {"slow"}),
    ("{slow}/{greeting}", {"slow", "greeting"}),
    ("../{slow}", {"quick", "slow"}),
    ("/{slow}", {"quick", "slow"}),
    ("{running}/..", {"running", "failed"}),
    ("{running}/", {"running", "failed"}),
    ("9999-12-31T23:59:60Z/..", set()),
    ("../2016-12-31T23:59:60.5Z", set()),
    ("2000-01-01T00:00:00Z/2001-01-01T00:00:00Z", set()),
    ("2000-01-01T00:00:00%2B01:00/..", {"quick", "slow", "greeting", "dismissed", "running", "failed"}),
]


@pytest.mark.parametrize(("form", "expected"), DATETIMES, ids=[form for form, _ in DATETIMES])
def test_t1_0__req_job_list_datetime_response(jobs: Jobs, form: str, expected: set[str]) -> None:
    query = form.format(**{name: jobs.created(name) for name in ("slow", "greeting", "running")})

    assert set(jobs.listed(f"datetime={query}")) == expected


@pytest.mark.parametrize(
    "query",
    [
        "status=sleeping",
        "datetime=yesterday",
        "datetime=2026-01-01T00:00:00Z/2026-01-02T00:00:00Z/2026-01-03T00:00:00Z",
        "datetime=../..&datetime=x",
        "datetime=../2026-01-01T00:00:00Z&datetime=2026-01-01T00:00:00Z/..",
        "minDuration=long",
        "maxDuration=-1",
        "limit=0",
        "limit=1&limit=2",
        "type=foo",
        "type=process,foo",
        "type=sync",
        "type=",
        "status=",
        "status=failed&status=",
        "processID=",
        "processID=%20,",
        "label=",
        "label=%20",
        "label=a&label=",
        "minDuration=",
        "datetime=2026-01-01T00:00:60Z/..",
        "cursor=abc",
        "cursor=",
        "f=json&f=json",
    ],
)
def test_x_bad_values_of_filters_give_400(http: httpx2.Client, query: str) -> None:
    answer = http.get(f"/jobs?{query}")

    assert_problem(answer, 400, "invalid-query-parameter-value")
    (fault,) = answer.json()["errors"]
    assert fault["parameter"] == query.partition("=")[0]
    assert re.match("use|send|follow|it is given more than once; send one", fault["detail"])


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_t1_0__rec_job_list_next_2_pages_do_not_overlap_while_jobs_come_in(
    http: httpx2.Client, jobs: Jobs, limit: int
) -> None:
    query = f"datetime={quote(jobs.since.isoformat())}/..&processID=echo&limit={limit}"
    before = [job["jobID"] for job in http.get(f"/jobs?{query}".replace(f"limit={limit}", "limit=1000")).json()["jobs"]]
    followed: list[str] = []
    url: str | None = f"/jobs?{query}"

    while url is not None:
        page = http.get(url).json()
        assert len(page["jobs"]) <= limit
        followed += [job["jobID"] for job in page["jobs"]]
        if len(followed) <= limit:
            done(http, "echo", {"inputs": {"message": "meanwhile"}})
        url = href(page, "next")

    assert followed == before


def test_t1_0__req_job_list_links(http: httpx2.Client, server: Server) -> None:
    document = http.get("/jobs").json()

    assert (href(document, "self") or "").startswith(f"{server.url}/jobs")
    assert media_type(http.get(href(document, "alternate", HTML) or "")) == HTML
