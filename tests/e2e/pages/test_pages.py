"""Every page, on a wide and a narrow screen, light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.pages.conftest import TALK, Scheme, Size, visits

pytestmark = pytest.mark.browser

SIZES: tuple[Size, ...] = ("wide", "narrow")
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
NAMELESS = """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea, button")]
    .filter((control) => !control.labels?.length && !control.textContent.trim() && !control.ariaLabel)
    .map((control) => control.name || control.outerHTML)"""
PAGES = (
    "landing", "processes", "plain form", "form of every kind", "form with faults", "conformance", "jobs", "no jobs",
    "running job", "raster job", "map job", "job of every kind", "failed job", "results", "files", "api", "not found",
    "told job", "notifications", "notification profiles", "notification profile",
    "provenance",
)  # fmt: skip


@pytest.fixture(scope="module")
def paths(jobs: Any) -> dict[str, str]:
    """Where each page is."""
    failed = jobs.execute("raster-statistics", {"raster": {"href": f"{jobs.base}/files/samples/places.geojson"}})
    raster = jobs.run("band-math")
    found = {
        "landing": "/",
        "processes": "/processes",
        "plain form": "/processes/buffer",
        "form of every kind": "/processes/echo-all?example=0",
        "form with faults": f"/processes/raster-statistics/form?job={failed.rpartition('/')[2]}",
        "conformance": "/conformance",
        "jobs": "/jobs",
        "no jobs": "/jobs?processID=nothing",
        "running job": jobs.execute("echo", {"message": "late", "pause": 60}),
        "raster job": raster,
        "map job": jobs.run("zonal-statistics"),
        "job of every kind": jobs.run("echo-all"),
        "failed job": failed,
        "results": f"{raster}/results",
        "provenance": f"{raster}/prov?f=html",
        "files": "/files",
        "api": "/api?f=html",
        "not found": "/nothing",
        "job with a long name": jobs.execute(TALK, {}),
    }
    subscriber = {"successUri": "https://station.invalid/told", "authorization": {"profile": "station"}}
    profile = f"{jobs.base}/notification-profiles/station"
    httpx2.put(profile, json={"type": "bearer", "token": "t"}, trust_env=False).raise_for_status()
    found["told job"] = told = jobs.execute("echo", {"message": "hello"}, subscriber=subscriber)
    found["notifications"] = f"{told}/notifications"
    found["notification profiles"] = "/notification-profiles"
    found["notification profile"] = "/notification-profiles/station"
    for name in ("raster job", "map job", "failed job", "told job"):
        jobs.ended(found[name])
    return found


@dataclass(frozen=True)
class Seen:
    """What was seen of a page."""

    title: str
    headings: int
    beyond: dict[tuple[str, str], int]
    """By how many pixels it is wider than its window, for each size and scheme."""
    grounds: set[str]
    """Colours of its ground."""
    nameless: list[str]
    """Controls without a label."""
    complaints: list[str]
    """What the browser said against it."""


@pytest.fixture(scope="module", params=PAGES)
def seen(request: pytest.FixtureRequest, browser: Any, site: Any, paths: dict[str, str]) -> Seen:
    """A page, looked at once."""
    with visits(browser, site.url) as arrive:
        visitor = arrive()
        page = visitor.open(paths[request.param])
        beyond, grounds = {}, set()
        for size in SIZES:
            for scheme in SCHEMES:
                beyond[size, scheme] = visitor.look(size, scheme, request.param)
                grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        return Seen(
            page.title(), page.locator("h1").count(), beyond, grounds, page.evaluate(NAMELESS), visitor.complaints
        )


def test_a_page_fits_wide_and_narrow_windows(seen: Seen) -> None:
    assert {look: pixels for look, pixels in seen.beyond.items() if pixels > 0} == {}


def test_a_page_is_light_or_dark_as_its_visitor_likes(seen: Seen) -> None:
    assert seen.grounds == {"rgb(255, 255, 255)", "rgb(18, 24, 29)"}


def test_a_page_stays_on_its_host_and_no_script_fails(seen: Seen) -> None:
    assert seen.complaints == []


def test_a_page_has_one_heading_and_a_name_for_every_control(seen: Seen) -> None:
    assert seen.title
    assert seen.headings == 1
    assert seen.nameless == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "part"),
    [("plain form", "pre:has-text('curl')"), ("jobs", "[aria-label=Jobs]"), ("files", "[aria-label=Files]")],
)
def test_calls_jobs_and_files_are_seen_without_scrolling_sideways(
    come: Any, paths: dict[str, str], size: Size, name: str, part: str
) -> None:
    visitor = come()
    page = visitor.open(paths[name])
    visitor.look(size, "light", name)

    beyond = page.locator(part).evaluate("part => part.scrollWidth - part.clientWidth")

    assert beyond == 0


def test_the_head_of_a_page_is_in_line_with_its_content(come: Any) -> None:
    visitor = come()
    page = visitor.open("/")
    visitor.look("wide", "light", "landing")

    assert page.locator(".home").bounding_box()["x"] == page.locator("h1").bounding_box()["x"]


def test_the_picture_of_a_raster_is_drawn(come: Any, paths: dict[str, str]) -> None:
    page = come().open(paths["raster job"])

    size = page.locator("img.picture").evaluate("picture => [picture.naturalWidth, picture.naturalHeight]")

    assert size == [400, 400]  # of the sample landscape, which is smaller than the largest picture


def test_a_picture_is_drawn_of_a_small_raster_without_a_file_too(site: Any, paths: dict[str, str]) -> None:
    answer = httpx2.get(f"{site.url}{paths['job of every kind']}/results/image/0/preview.png", trust_env=False)

    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")


def test_every_page_has_a_strict_content_policy(site: Any, paths: dict[str, str]) -> None:
    with httpx2.Client(base_url=site.url, headers={"accept": "text/html"}, trust_env=False) as client:
        answers = {name: client.get(path) for name, path in paths.items()}

    for name, answer in answers.items():
        policy = answer.headers.get("content-security-policy", "")
        assert "default-src 'none'" in policy, name
        assert "unsafe" not in policy, name
        assert answer.headers["x-content-type-options"] == "nosniff", name


def test_every_link_of_a_document_is_on_its_page(site: Any, paths: dict[str, str]) -> None:
    with httpx2.Client(base_url=site.url, trust_env=False) as client:
        for name in ("landing", "processes", "plain form", "jobs", "raster job", "files"):
            links = client.get(paths[name], headers={"accept": "application/json"}).json()["links"]
            page = client.get(paths[name], headers={"accept": "text/html"}).text
            for link in links:
                # The link to itself says f=json on one side and nothing on the other.
                assert f'href="{link["href"].replace("&", "&amp;")}"' in page, (name, link["href"])


def test_assets_are_kept_for_good_under_their_version_only(site: Any) -> None:
    page = httpx2.get(site.url, headers={"accept": "text/html"}, trust_env=False).text
    address = page.partition('rel="stylesheet" href="')[2].partition('"')[0]

    versioned = httpx2.get(address, trust_env=False)
    plain = httpx2.get(address.partition("?")[0], trust_env=False)
    again = httpx2.get(address, headers={"if-none-match": versioned.headers["etag"]}, trust_env=False)

    assert "immutable" in versioned.headers["cache-control"]
    assert plain.headers["cache-control"] == "no-cache"
    assert again.status_code == 304


def test_the_pages_weigh_little(site: Any) -> None:
    folder = Path(__file__).parents[3] / "src/graticule/web/static"

    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) < 150_000
