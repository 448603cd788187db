"""Class JobList of the official suite; the tests bear its names.

In the suite this class runs after Jobs and finds the jobs of that; here a fixture makes sure of one.
"""
# ruff: noqa: N802

from __future__ import annotations

import pytest

from tests.e2e.ogc_suite import wire
from tests.e2e.ogc_suite.echo import Echo
from tests.e2e.ogc_suite.schemas import Schemas


@pytest.fixture(scope="module", autouse=True)
def _a_job(iut: str, echo: Echo) -> None:
    answer = wire.post(f"{iut}/processes/echo/execution", echo.plain(), prefer="respond-async")
    assert answer.status == 201, str(answer)


def test_joblist_testJobList(iut: str) -> None:
    answer = wire.get(f"{iut}/jobs")

    assert len(answer.json()["jobs"]) > 0, str(answer)


def test_joblist_testJobListSuccess(iut: str, schemas: Schemas) -> None:
    answer = wire.get(f"{iut}/jobs")

    assert answer.all("Content-Type"), str(answer)
    schemas.assert_remote("jobList.yaml", answer)
