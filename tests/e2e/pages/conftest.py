"""Chromium in front of a running server; what a browser complains of fails the test."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.serving import Server

CHROMIUM = os.environ.get("GRATICULE_TEST_CHROMIUM", "/usr/bin/chromium")
PICTURES = os.environ.get("GRATICULE_TEST_PICTURES", "")
"""A folder for a picture of each page, to look at; nothing is kept without it."""

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
Size = Literal["wide", "narrow"]
Scheme = Literal["light", "dark"]


@dataclass
class Visitor:
    """Somebody with a browser, and all that the browser has complained of."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Go to an address of the service and wait until it is there with all its parts."""
        self.page.goto(self.base + path, wait_until="load")
        return self.page

    def hear(self, message: ConsoleMessage) -> None:
        # A page that says "404" has that status; Chromium reports it as an error of the page itself.
        if message.type == "error" and message.location.get("url") != self.page.url:
            self.complaints.append(f"console: {message.text} ({message.location.get('url')})")

    def see(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme != "data" and parts.netloc != urlsplit(self.base).netloc:
            self.complaints.append(f"request to another host: {request.url}")

    def look(self, size: Size, scheme: Scheme, name: str) -> int:
        """Look at the page in a window of this size and scheme; return by how many pixels it is wider."""
        width, height = SIZES[size]
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(color_scheme=scheme)
        if PICTURES:
            path = Path(PICTURES) / f"{name.replace(' ', '-')}-{size}-{scheme}.png"
            self.page.screenshot(path=path, full_page=True)
        wide: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return wide


TURN = '''
import time
from typing import Annotated

from pydantic import Field

from graticule import Geometry, RunContext, process


@process
def turn(shape: Geometry, angle: Annotated[float, Field(ge=0, lt=360)]) -> Geometry:
    """Turn a shape, or rather do not.

    Parameters
    ----------
    shape : Geometry
        What is turned.
    angle : float
        Degrees; 360 is refused by the server only, since no browser knows what "less than" is.
    """
    return shape


@process
def talk_until_the_last_listener_has_left_the_room_and_the_lights_are_out(lines: int = 0) -> str:
    """Print lines and fail; with none, say nothing and succeed."""
    for line in range(lines):
        print(f"line {line}")
    if lines:
        raise ValueError("nobody is listening")
    return "good night"


@process
def count(seconds: float, *, context: RunContext) -> str:
    """Count aloud."""
    for number in range(20):
        print(f"said {number}")
        context.report(number * 5, f"at {number}")
        time.sleep(seconds / 20)
    return "counted"


@process
def chatter(seconds: float) -> str:
    """Print a line ten times a second, after fifty."""
    for number in range(50 + int(seconds * 10)):
        print(f"word {number}", flush=True)
        if number > 50:
            time.sleep(0.1)
    return "told"
'''
TALK = "talk-until-the-last-listener-has-left-the-room-and-the-lights-are-out"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the pages' own, since they run and dismiss jobs; its sample data is ready."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "turn.py").write_text(TURN, encoding="utf-8")
    with Server(folder / "home", [str(folder / "turn.py")]) as running:
        for _ in range(150):
            if httpx2.get(f"{running.url}/files/samples/places.geojson", trust_env=False).status_code == 200:
                break
            time.sleep(0.1)
        yield running


# Of module scope: as long as Playwright's synchronous interface is open, no test of this thread can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; no browser is downloaded."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


Come = Callable[..., Visitor]


@contextmanager
def visits(browser: Browser, base: str) -> Iterator[Come]:
    """Open windows; they are closed at the end."""
    with ExitStack() as stack:

        def arrive(*, scripts: bool = True) -> Visitor:
            context = browser.new_context(java_script_enabled=scripts)
            stack.callback(context.close)
            visitor = Visitor(context.new_page(), base)
            visitor.page.set_default_timeout(15_000)
            visitor.page.on("console", visitor.hear)
            visitor.page.on("pageerror", lambda error: visitor.complaints.append(f"script: {error}"))
            visitor.page.on("request", visitor.see)
            return visitor

        yield arrive


@pytest.fixture
def come(browser: Browser, site: Server) -> Iterator[Come]:
    """Open a window: ``come(scripts=False)``; at the end nobody may have complained."""
    visitors: list[Visitor] = []
    with visits(browser, site.url) as arrive:

        def arrive_and_listen(**options: bool) -> Visitor:
            visitors.append(arrive(**options))
            return visitors[-1]

        yield arrive_and_listen
    assert [complaint for visitor in visitors for complaint in visitor.complaints] == []


@dataclass(frozen=True)
class Jobs:
    """Runs examples without a browser, so that there is something to look at."""

    base: str

    def run(self, process: str, example: int = 0) -> str:
        """Run an example of a process; return the path of its job."""
        answer = httpx2.post(
            f"{self.base}/processes/{process}/form", data={"example": str(example)}, trust_env=False, timeout=30
        )
        assert answer.status_code == 303, answer.text
        return urlsplit(answer.headers["location"]).path

    def execute(self, process: str, inputs: dict[str, Any], **more: Any) -> str:
        """Send an execute request with more members; return the path of its job."""
        answer = httpx2.post(
            f"{self.base}/processes/{process}/execution", json={"inputs": inputs, **more},
            headers={"Prefer": "respond-async"}, trust_env=False, timeout=30,
        )  # fmt: skip
        assert answer.status_code == 201, answer.text
        return urlsplit(answer.headers["location"]).path

    def status(self, path: str) -> str:
        """Return the status of a job."""
        return str(httpx2.get(self.base + path, trust_env=False).json()["status"])

    def ended(self, path: str) -> str:
        """Wait for the end of a job; return its status."""
        for _ in range(200):
            if (status := self.status(path)) in ("successful", "failed", "dismissed"):
                return status
            time.sleep(0.1)
        pytest.fail(f"{path} did not end")


@pytest.fixture(scope="module")
def jobs(site: Server) -> Jobs:
    """Runs examples without a browser."""
    return Jobs(site.url)
