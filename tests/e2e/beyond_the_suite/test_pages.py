"""Every resource has a page."""

from __future__ import annotations

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import (
    HTML,
    RESOURCES,
    done,
    media_type,
)
from tests.serving import Server


@pytest.mark.parametrize("path", RESOURCES)
def test_t1_0__req_html_definition(http: httpx2.Client, path: str) -> None:
    answer = http.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})

    assert answer.status_code == 200
    assert media_type(answer) == HTML
    assert answer.text.lstrip().lower().startswith("<!doctype html>")


@pytest.mark.parametrize("path", ["/", "/processes", "/processes/echo"])
def test_t1_0__req_html_content_every_link_is_on_the_page(http: httpx2.Client, server: Server, path: str) -> None:
    page = http.get(path, params={"f": "html"}).text.replace("&amp;", "&")

    for link in http.get(path).json()["links"]:
        if link["rel"] not in {"profile", "self", "alternate"} and not link["rel"].startswith("https:"):
            local = link["href"].removeprefix(server.url) or "/"
            assert f'href="{link["href"]}"' in page or f'href="{local}"' in page, link


def test_t1_0__req_html_content_a_job_has_a_page(http: httpx2.Client) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}})

    page = http.get(job, headers={"Accept": HTML})

    assert media_type(page) == HTML
    assert "successful" in page.text
    assert job.rpartition("/")[2] in page.text


def test_t1_0__req_html_definition_results_have_a_page(http: httpx2.Client) -> None:
    job = done(http, "echo", {"inputs": {"message": "a word to find"}})

    page = http.get(f"{job}/results", headers={"Accept": HTML})

    assert page.status_code == 200
    assert media_type(page) == HTML
    assert "a word to find" in page.text


def test_pages_tell_jobs_of_one_moment_apart(http: httpx2.Client) -> None:
    jobs = [done(http, "echo", {"inputs": {"message": "hello"}}) for _ in range(3)]
    shown = [f"…{job[-8:]}" for job in jobs]

    listed = http.get("/jobs", params={"f": "html", "limit": 100}).text
    pages = [http.get(path, params={"f": "html"}).text for path in (jobs[0], f"{jobs[0]}/results")]

    assert len(set(shown)) == 3
    assert all(f"<code>{name}</code>" in listed for name in shown)
    assert all(f">{shown[0]}</" in page for page in pages)
