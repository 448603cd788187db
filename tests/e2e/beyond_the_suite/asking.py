"""Asking a server, and reading its answers."""

from __future__ import annotations

import email
import email.message
import email.policy
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

JSON = "application/json"
HTML = "text/html"
PROBLEM = "application/problem+json"
REL = "http://www.opengis.net/def/rel/ogc/1.0/"
TYPE = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"
PROFILE = "https://www.opengis.net/def/profile/OGC/0/"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
ENDED = {"successful", "failed", "dismissed"}
SECONDS = 30

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
RESOURCES = ["/", "/conformance", "/processes", "/processes/echo", "/jobs"]
BUILT_IN = [
    "band-math", "buffer", "echo", "echo-all", "hello-world", "raster-statistics", "reproject", "zonal-statistics",
]  # fmt: skip

Answer = httpx2.Response


def execute(http: httpx2.Client, process: str, document: Any, **headers: str) -> Answer:
    """POST an execute request; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.post(f"/processes/{process}/execution", json=document, headers=named)


def echo(http: httpx2.Client, outputs: Any = None, *, accept: str = JSON, **members: Any) -> Answer:
    """Run echo on the message `hello`."""
    document = {"inputs": {"message": "hello"}, **members}
    if outputs is not None:
        document["outputs"] = outputs
    return execute(http, "echo", document, Accept=accept)


def submit(http: httpx2.Client, process: str, document: Any) -> str:
    """Submit a job and return its path."""
    answer = execute(http, process, document, Prefer="respond-async")
    assert answer.status_code == 201, answer.text
    return urlsplit(answer.headers["Location"]).path


def ended(http: httpx2.Client, job: str, *, status: str | None = None) -> Any:
    """Wait for a job and return its status document."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        document = http.get(job).json()
        if document["status"] in ENDED:
            assert status in {None, document["status"]}, document
            return document
        time.sleep(0.05)
    pytest.fail(f"{job} did not end")


def done(http: httpx2.Client, process: str, document: Any) -> str:
    """Run a job to its successful end and return its path."""
    job = submit(http, process, document)
    ended(http, job, status="successful")
    return job


def running(http: httpx2.Client, seconds: int = 30) -> str:
    """Submit an echo that pauses, wait until it runs, and return its path."""
    job = submit(http, "echo", {"inputs": {"message": "hello", "pause": seconds}})
    deadline = time.monotonic() + SECONDS
    while http.get(job).json()["status"] != "running":
        assert time.monotonic() < deadline, f"{job} did not start"
        time.sleep(0.05)
    return job


def all_jobs(http: httpx2.Client) -> set[str]:
    """Return the identifiers of all jobs."""
    found: set[str] = set()
    url: str | None = "/jobs?limit=1000"
    while url is not None:
        page = http.get(url).json()
        found |= {job["jobID"] for job in page["jobs"]}
        url = href(page, "next")
    return found


def hrefs(document: Any, rel: str, type_: str | None = None) -> list[str]:
    """Return the addresses of a document's links of a relation."""
    links = document["links"]
    return [link["href"] for link in links if link["rel"] == rel and type_ in {None, link.get("type")}]


def href(document: Any, rel: str, type_: str | None = None) -> str | None:
    """Return the first of them, or None."""
    return next(iter(hrefs(document, rel, type_)), None)


def header_links(answer: Answer) -> list[tuple[str, str]]:
    """Return address and relation of each link in the headers (RFC 8288)."""
    text = ", ".join(answer.headers.get_list("Link"))
    found = re.findall(r'<([^>]*)>((?:\s*;\s*[\w*-]+\s*=\s*(?:"[^"]*"|[^\s",;]+))*)', text)
    return [(target, re.search(r'rel\s*=\s*"?([^";]+)"?', parameters)[1]) for target, parameters in found]


def media_type(answer: Answer) -> str:
    """Return the media type of an answer without its parameters."""
    return answer.headers["Content-Type"].split(";")[0].strip()


def preferences_applied(answer: Answer) -> set[str]:
    """Return what the answer says it did of the preferences."""
    text = answer.headers.get("Preference-Applied", "")
    return {token.strip() for token in text.replace(";", ",").split(",") if token.strip()}


def pointers(answer: Answer) -> list[str]:
    """Return the places that a problem document names."""
    return [fault.get("pointer", "") for fault in answer.json().get("errors", [])]


def assert_problem(answer: Answer, status: int, type_: str | None = None) -> None:
    """Fail unless an answer is a problem document with this status, and this type of the standard."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:500]}"
    document = answer.json()
    assert document["status"] == status
    assert document["detail"], document
    if type_ is not None:
        assert document["type"] == TYPE + type_


def parts_of(answer: Answer) -> list[email.message.EmailMessage]:
    """Return the parts of a multipart answer."""
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    assert message.is_multipart(), answer.text
    return list(message.iter_parts())


def nulls_in(document: Any, pointer: str = "") -> Iterator[str]:
    """Yield where a document holds null."""
    if document is None:
        yield pointer
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for step, value in items:
        yield from nulls_in(value, f"{pointer}/{step}")
