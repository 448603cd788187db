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
