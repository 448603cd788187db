"""What people do on the pages, with and without scripts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import expect

from tests.e2e.pages.conftest import TALK

pytestmark = pytest.mark.browser

both = pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])


@both
def test_an_example_on_the_landing_page_is_one_click_from_its_result(come: Any, scripts: bool) -> None:
    page = come(scripts=scripts).open("/")

    page.get_by_role("button", name="Vegetation index (NDVI) of the sample landscape").click()

    expect(page.locator("h1 .state-successful")).to_be_visible()
    expect(page.locator("img.picture")).to_be_visible()


@both
def test_an_example_on_the_page_of_its_process_is_one_click_from_its_result(come: Any, scripts: bool) -> None:
    page = come(scripts=scripts).open("/processes/zonal-statistics")

    page.get_by_role("button", name="Run the example Heights of the sample fields").click()

    expect(page.locator("h1 .state-successful")).to_be_visible()
    expect(page.locator("svg.map path.area")).to_have_count(10)


@both
def test_a_slow_job_is_followed_until_its_result(come: Any, scripts: bool) -> None:
    page = come(scripts=scripts).open("/processes/echo")

    page.get_by_label("Message").fill("here I am")
    page.get_by_label("Pause").fill("3")
    page.get_by_role("button", name="Run", exact=True).click()

    expect(page.locator("progress")).to_be_visible()
    expect(page.locator("h1 .state-successful")).to_be_visible()
    expect(page.locator(".exhibit .value", has_text="here I am")).to_be_visible()


@both
def test_an_example_fills_the_form_and_the_form_runs(come: Any, scripts: bool) -> None:
    page = come(scripts=scripts).open("/processes/zonal-statistics")

    page.get_by_role("link", name="Mean reflectance of the sample fields").click()
    page.get_by_label("max", exact=True).check()
    page.get_by_role("button", name="Run", exact=True).click()

    expect(page.locator("svg.map path.area")).to_have_count(10)
    expect(page.get_by_role("columnheader", name="nir_max")).to_be_visible()


@pytest.mark.parametrize("clipboard", [True, False], ids=["over HTTPS", "over plain HTTP"])
def test_the_call_of_a_process_is_copied(come: Any, clipboard: bool) -> None:
    visitor = come()
    visitor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if not clipboard:
        visitor.page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page = visitor.open("/processes/echo")

    page.get_by_role("button", name="Copy the call").click()
    expect(page.get_by_role("button", name="Copied the call")).to_be_visible()
    page.get_by_label("Numbers").press("Control+V")

    call = page.locator("pre", has_text="curl").text_content()
    expect(page.get_by_label("Numbers")).to_have_value(call)
    assert call.startswith("curl -X POST")


@both
def test_faults_stand_at_their_fields_and_nothing_typed_is_lost(come: Any, scripts: bool) -> None:
    page = come(scripts=scripts).open("/processes/turn")

    page.get_by_label("Content, typed or pasted").fill('{"type": "Point", "coordinates": [8.5, 47.4]')
    page.get_by_label("Angle").fill("360")
    page.get_by_role("button", name="Run", exact=True).click()

    expect(page.get_by_role("alert")).to_contain_text("2 things want a change")
    expect(page.locator("#in-shape .fault")).to_contain_text("no JSON")
    expect(page.locator("#in-angle .fault")).to_contain_text("360")
    expect(page.get_by_label("Content, typed or pasted")).to_have_value('{"type": "Point", "coordinates": [8.5, 47.4]')
    expect(page.get_by_label("Angle")).to_have_value("360")


@both
def test_an_uploaded_file_is_an_input_and_is_kept_when_another_field_is_wrong(
    come: Any, tmp_path: Path, scripts: bool
) -> None:
    mine = tmp_path / "mine.geojson"
    mine.write_text(json.dumps({"type": "Point", "coordinates": [8.5, 47.4]}), encoding="utf-8")
    page = come(scripts=scripts).open("/processes/turn")

    page.get_by_label("Or a file of yours").set_input_files(mine)
    page.get_by_label("Angle").fill("360")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_label("Or its address")).to_have_value(re.compile("/mine\\.geojson$"))
    page.get_by_label("Angle").fill("30")
    page.get_by_role("button", name="Run", exact=True).click()

    expect(page.locator("svg.map .point")).to_have_count(1)


@both
def test_a_running_job_is_dismissed_after_one_question(come: Any, jobs: Any, scripts: bool) -> None:
    path = jobs.execute("echo", {"message": "never", "pause": 60})
    page = come(scripts=scripts).open(path)

    page.locator("summary", has_text="Dismiss").click()
    page.get_by_role("button", name="Dismiss it").click()

    expect(page.locator("h1 .state-dismissed")).to_be_visible()
    assert jobs.status(path) == "dismissed"


@both
def test_a_failed_job_leads_back_to_its_form_with_the_fault_at_the_field(come: Any, jobs: Any, scripts: bool) -> None:
    path = jobs.execute("raster-statistics", {"raster": {"href": f"{jobs.base}/files/samples/places.geojson"}})
    jobs.ended(path)
    page = come(scripts=scripts).open(path)

    expect(page.get_by_role("alert")).to_contain_text("/inputs/raster")
    page.get_by_role("link", name="Change and run again").click()

    expect(page.locator("#in-raster .fault")).to_be_visible()
    expect(page.get_by_label("Address")).to_have_value(f"{jobs.base}/files/samples/places.geojson")


def test_whoever_uses_the_keyboard_keeps_their_place_while_a_job_is_followed(come: Any, jobs: Any) -> None:
    path = jobs.execute("echo", {"message": "never", "pause": 60})
    page = come().open(path)
    message = page.locator(".lede").text_content()

    page.get_by_role("link", name="Tool log").focus()
    expect(page.locator(".lede")).not_to_have_text(message)

    expect(page.get_by_role("link", name="Tool log")).to_be_focused()


def test_a_running_job_is_followed_by_events_without_asking_again(come: Any, jobs: Any) -> None:
    path = jobs.execute("count", {"seconds": 6})
    visitor = come()
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url.removeprefix(jobs.base)))
    page = visitor.open(path)

    log = page.get_by_role("region", name="Last lines of its log")
    expect(log).to_contain_text("said 5")
    before = len(asked)
    expect(log).to_contain_text("said 12")
    expect(page.locator(".lede")).to_contain_text("at 1")
    assert asked[before:] == []
    expect(page.locator("h1 .state-successful")).to_be_visible()

    assert log.count() == 0
    assert [address for address in asked if "/events?offset=" in address]
    assert asked.count(path) <= 5


def test_a_running_job_is_followed_without_scripts_by_looking_again(come: Any, jobs: Any) -> None:
    path = jobs.execute("count", {"seconds": 5})
    page = come(scripts=False).open(path)

    expect(page.locator("h1 .state-running")).to_be_visible()
    expect(page.locator("h1 .state-successful")).to_be_visible(timeout=15_000)


def test_the_page_of_a_failed_job_shows_the_end_of_its_log(come: Any, jobs: Any) -> None:
    path = jobs.execute(TALK, {"lines": 200})
    jobs.ended(path)
    page = come(scripts=False).open(path)

    log = page.get_by_role("region", name="Last lines of its log")
    beyond = log.evaluate(
        "log => log.firstElementChild.getBoundingClientRect().bottom - log.getBoundingClientRect().bottom"
    )

    assert "nobody is listening" in log.inner_text()
    assert beyond <= 0


def test_the_page_of_a_silent_job_says_that_nothing_was_printed(come: Any, jobs: Any) -> None:
    path = jobs.execute(TALK, {})
    jobs.ended(path)
    page = come().open(path)

    expect(page.get_by_role("listitem").filter(has_text="nothing was printed")).to_contain_text("Tool log")


def test_a_field_without_a_description_says_whether_it_must_be_filled(come: Any) -> None:
    page = come().open(f"/processes/{TALK}")

    expect(page.get_by_label("Lines")).to_have_accessible_description("Default: 0. Optional.")


def test_what_only_scripts_can_do_is_not_offered_without_them(come: Any) -> None:
    visitor = come(scripts=False)

    expect(visitor.open("/processes/echo").get_by_role("button", name="Copy the call")).to_have_count(0)
    expect(visitor.open("/api.html").get_by_role("button", name="Try it against this server")).to_have_count(0)


def test_jobs_are_filtered_by_the_address(come: Any, jobs: Any) -> None:
    jobs.run("hello-world")
    page = come().open("/jobs")

    page.get_by_label("Process").fill("hello-world")
    page.get_by_role("button", name="Filter").click()

    assert "processID=hello-world" in page.url
    expect(page.locator("tbody tr")).not_to_have_count(0)
    expect(page.locator("tbody tr", has_not_text="hello-world")).to_have_count(0)


def test_a_file_is_uploaded_on_the_page_of_files(come: Any, tmp_path: Path) -> None:
    mine = tmp_path / "notes.txt"
    mine.write_text("north is up", encoding="utf-8")
    page = come().open("/files")

    page.get_by_label("File", exact=True).set_input_files(mine)
    page.get_by_role("button", name="Upload").click()

    expect(page.get_by_role("link", name="notes.txt")).to_be_visible()


def test_the_api_can_be_tried_on_its_page(come: Any) -> None:
    page = come().open("/api?f=html")

    page.get_by_role("button", name="Try it against this server").click()

    expect(page.locator("#reference .opblock-get").first).to_be_visible()
    expect(page.locator("#plain")).to_be_hidden()


def test_the_api_that_can_be_tried_does_not_widen_a_narrow_page(come: Any) -> None:
    visitor = come()
    page = visitor.open("/api?f=html")

    page.get_by_role("button", name="Try it against this server").click()
    page.locator(".opblock-post .opblock-summary-control").first.click()
    expect(page.locator(".opblock-post .responses-table").first).to_be_visible()

    assert visitor.look("narrow", "dark", "tried api") == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://example.org"},
        {"Origin": "null"},
    ],
    ids=["another site", "another host of the site", "another origin", "an origin that hides"],
)
def test_a_form_on_another_site_runs_nothing(site: Any, headers: dict[str, str]) -> None:
    address = f"{site.url}/processes/hello-world/form"

    answer = httpx2.post(address, data={"example": "0"}, headers=headers, trust_env=False)

    assert answer.status_code == 403


def test_an_output_that_is_a_web_page_gets_no_rights_here(site: Any) -> None:
    answer = httpx2.post(
        f"{site.url}/processes/echo-all/execution",
        json={
            "inputs": {"formats": {"value": "<script>alert(1)</script>", "mediaType": "text/plain"}},
            "outputs": {"formats": {}},
        },
        trust_env=False,
    )

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
