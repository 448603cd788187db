"""What the classes of the official suite set up before their tests."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ogc_suite import wire
from tests.e2e.ogc_suite.echo import TEXT, Echo, parse_echo
from tests.e2e.ogc_suite.schemas import Schemas
from tests.serving import Server

ECHO = "echo"
JAVA_ACCEPT = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
"""What Java's URL connection sends when nobody says what to accept; a bare ``*`` is no media range."""

REL_RESULTS = "http://www.opengis.net/def/rel/ogc/1.0/results"


class Polling:
    """The suite's patience with jobs: four pauses of five seconds, shared by all tests of the Jobs class."""

    ATTEMPTS = 4
    PAUSE_SECONDS = 5

    def __init__(self) -> None:
        self.attempts = 0

    def until_results(self, status: Any) -> None:
        """Follow a status document to results, which must contain the string that was sent."""
        while True:
            assert self.attempts < self.ATTEMPTS, "the suite's patience is used up: no results in 20 s"
            assert status.get("status") != "failed", f"the job failed: {status}"
            href = _followed(status, {REL_RESULTS})
            if href is not None:
                results = wire.get(href, accept=None)
                assert TEXT in results.text, f"{results}\ndoes not contain {TEXT!r}"
                return
            href = _followed(status, {"monitor", "status"})
            assert href is not None, f"neither a results link nor a monitor link: {status}"
            status = wire.get(href).json()
            time.sleep(self.PAUSE_SECONDS)
            self.attempts += 1


def _followed(status: Any, relations: set[str]) -> str | None:
    """Return the first link of these relations; every link before it must have a `rel`."""
    for link in status["links"]:
        assert "rel" in link, f"a link without rel: {link}"
        if link["rel"] in relations:
            return str(link["href"])
    return None


@pytest.fixture(scope="session")
def iut(server: Server) -> str:
    """The landing page as the suite is told it, after the request that must succeed before any test runs."""
    url = server.url.rstrip("/")
    answer = wire.get(url, accept=JAVA_ACCEPT)
    assert answer.status == 200, f"the suite does not start: {answer}"
    assert answer.all("Content-Type"), f"the suite does not start: {answer}"
    return url


@pytest.fixture(scope="session")
def schemas(shared_data: Path) -> Schemas:
    """The schemas of version 1.0."""
    return Schemas(shared_data / "ogc-schemas" / "part1-1.0")


@pytest.fixture(scope="session")
def echo(iut: str) -> Echo:
    """The echo process; every test that executes uses it alone."""
    return parse_echo(wire.get(f"{iut}/processes/{ECHO}").json())


@pytest.fixture(scope="session")
def polling() -> Polling:
    """The one counter of the Jobs class."""
    return Polling()
