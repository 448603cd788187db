"""What one workspace sees of another."""

from __future__ import annotations

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import (
    assert_problem,
    done,
)


@pytest.mark.parametrize("path", ["", "/results", "/results/message"])
def test_a_job_of_another_workspace_is_not_there(trusting: httpx2.Client, path: str) -> None:
    job = done(trusting, "echo", {"inputs": {"message": "hello"}})

    assert trusting.get(f"{job}{path}").status_code == 200
    assert_problem(trusting.get(f"/other/ogc-api{job}{path}"), 404, "no-such-job")


def test_a_job_of_another_workspace_cannot_be_dismissed(trusting: httpx2.Client) -> None:
    job = done(trusting, "echo", {"inputs": {"message": "hello"}})

    assert_problem(trusting.delete(f"/other/ogc-api{job}"), 404, "no-such-job")
    assert trusting.get(job).status_code == 200


def test_links_stay_in_their_workspace(trusting: httpx2.Client) -> None:
    document = trusting.get("/other/ogc-api").json()

    assert all("/other/ogc-api" in link["href"] for link in document["links"] if link["href"].startswith("http://127."))


def test_an_unknown_workspace_gives_404(trusting: httpx2.Client) -> None:
    assert_problem(trusting.get("/nobody/ogc-api/processes"), 404)
