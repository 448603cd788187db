"""The list of jobs and the page of a job, as people follow, filter and end what runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

both = pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])


@pytest.fixture(autouse=True)
def quiet(jobs: Any) -> Iterator[None]:
    """Leave nothing running to the next test."""
    yield
    listed = httpx2.get(f"{jobs.base}/jobs?status=accepted,running&limit=100", trust_env=False).json()["jobs"]
    for job in listed:
        httpx2.delete(f"{jobs.base}/jobs/{job['jobID']}", trust_env=False)


def row(page: Page, path: str) -> Locator:
    """Return the row of a job in the list."""
    return page.locator(f"tr[data-job='{path.rpartition('/')[2]}']")


def end_of_log(log: Locator) -> float:
    """Return how many pixels of the log are below what is seen of it."""
    return float(log.evaluate("box => -box.scrollTop"))


@both
def test_the_filter_is_kept_from_page_to_page(come: Any, jobs: Any, scripts: bool) -> None:
    for _ in range(3):
        jobs.ended(jobs.execute("hello-world", {"name": "you"}))
    jobs.ended(jobs.execute("echo", {"message": "not this"}))
    page = come(scripts=scripts).open("/jobs?limit=2")

    page.get_by_label("Process").fill("hello-world")
    page.get_by_label(re.compile("^Status")).select_option("successful")
    page.get_by_label(re.compile("^Created")).select_option(label="in the last hour")
    page.get_by_label("At most, s").fill("60")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr", has_text="hello-world")).to_have_count(2)
    page.get_by_role("link", name="Older").click()

    expect(page.get_by_label("Process")).to_have_value("hello-world")
    expect(page.get_by_label(re.compile("^Status"))).to_have_value("successful")
    expect(page.get_by_label(re.compile("^Created")).locator("option:checked")).to_contain_text("from 20")
    expect(page.locator("tbody tr", has_text="hello-world")).not_to_have_count(0)
    expect(page.locator("tbody tr", has_not_text="hello-world")).to_have_count(0)
    page.get_by_role("link", name="Newest").click()
    expect(page.locator("tbody tr", has_text="hello-world")).to_have_count(2)


@both
def test_jobs_are_found_by_their_label(come: Any, jobs: Any, scripts: bool) -> None:
    for labels in (["flood", "team/a"], ["flood"], ["drought"]):
        jobs.ended(jobs.execute("hello-world", {"name": "you"}, labels=labels))
    page = come(scripts=scripts).open("/jobs?limit=1&label=flood")

    page.get_by_label("Process").fill("hello-world")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_label("Label", exact=True)).to_have_value("flood")
    expect(page.locator("tbody tr .labels")).to_have_text("Labels: flood")
    page.get_by_role("link", name="Older").click()

    expect(page.get_by_label("Label", exact=True)).to_have_value("flood")
    expect(page.locator("tbody tr .labels")).to_have_text("Labels: flood, team/a")
    page.get_by_role("link", name=re.compile("^hello-world")).click()
    page.get_by_role("link", name="team/a").click()
    expect(page.get_by_label("Label", exact=True)).to_have_value("team/a")
    expect(page.locator("tbody tr").first.locator(".labels")).to_have_text("Labels: flood, team/a")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_row_goes_on_as_its_job_does_and_moves_no_other(come: Any, jobs: Any, width: int) -> None:
    jobs.ended(below := jobs.execute("hello-world", {"name": "below"}))
    path = jobs.execute("count", {"seconds": 6})
    page = come().open("/jobs")
    page.set_viewport_size({"width": width, "height": 800})
    here = row(page, path)
    place = row(page, below).bounding_box()
    page.evaluate("() => (window.same = true)")

    expect(here.locator(".status")).to_contain_text("running")
    before = here.locator(".status").text_content()
    here.get_by_role("link", name=re.compile("^count")).focus()
    expect(here.locator(".status")).not_to_have_text(str(before))
    expect(here.get_by_role("link", name=re.compile("^count"))).to_be_focused()
    expect(here.locator(".status")).to_contain_text("successful", timeout=10_000)

    expect(here.get_by_role("link", name="Results")).to_be_visible()
    expect(page.locator("#told")).to_contain_text("is successful")
    assert page.evaluate("window.same")
    assert row(page, below).bounding_box() == place


def test_a_row_goes_on_when_the_filter_does_not_let_its_job_through_any_more(come: Any, jobs: Any) -> None:
    path = jobs.execute("echo", {"message": "soon", "pause": 3})
    page = come().open("/jobs?status=running")

    expect(row(page, path).locator(".status")).to_contain_text("running")

    expect(row(page, path).locator(".status")).to_contain_text("successful", timeout=10_000)


def test_new_jobs_are_announced_and_move_nothing(come: Any, jobs: Any) -> None:
    first = jobs.execute("hello-world", {"name": "first"})
    jobs.ended(first)
    page = come().open("/jobs")
    place = row(page, first).bounding_box()

    later = [jobs.execute("hello-world", {"name": "later"}) for _ in range(3)]
    expect(page.get_by_role("status").filter(has_text="3 new jobs")).to_be_visible()
    assert row(page, first).bounding_box() == place
    page.get_by_role("link", name="3 new jobs").click()

    expect(row(page, later[-1])).to_be_visible()


def test_a_list_that_stays_as_it_is_costs_no_page(come: Any, jobs: Any) -> None:
    jobs.ended(jobs.execute("hello-world", {"name": "you"}))
    visitor = come()
    answers: list[int] = []
    visitor.page.on("response", lambda answer: answers.append(answer.status) if "/jobs?" in answer.url else None)

    page = visitor.open("/jobs?processID=hello-world")
    page.wait_for_timeout(8000)

    assert answers[:2] == [200, 200]  # the page, and the first look
    assert set(answers[2:]) == {304}


@both
def test_a_job_is_dismissed_from_the_list_after_one_question(come: Any, jobs: Any, scripts: bool) -> None:
    path = jobs.execute("echo", {"message": "never", "pause": 60})
    page = come(scripts=scripts).open("/jobs?processID=echo")
    here = row(page, path)

    here.get_by_role("button", name="Dismiss").click()
    page.get_by_role("dialog").get_by_role("button", name="Dismiss it").click()

    expect(here.locator(".status")).to_contain_text("dismissed")
    expect(here.get_by_role("button", name="Remove")).to_be_visible()
    assert jobs.status(path) == "dismissed"
    assert "processID=echo" in page.url


@both
def test_chosen_jobs_are_dismissed_and_removed_together(come: Any, jobs: Any, scripts: bool) -> None:
    ended = jobs.execute("hello-world", {"name": "ended"})
    jobs.ended(ended)
    running = [jobs.execute("echo", {"message": "never", "pause": 60}) for _ in range(2)]
    page = come(scripts=scripts).open("/jobs")

    for path in (ended, *running):
        row(page, path).get_by_role("checkbox").check()
    page.get_by_role("button", name="Dismiss or remove").click()
    page.get_by_role("button", name="Dismiss those that wait or run").click()
    for path in running:
        expect(row(page, path).locator(".status")).to_contain_text("dismissed")
    assert jobs.status(ended) == "successful"

    row(page, ended).get_by_role("checkbox").check()
    page.get_by_role("button", name="Dismiss or remove").click()
    page.get_by_role("button", name="Remove those that have ended").click()

    if scripts:
        expect(row(page, ended).locator(".status")).to_contain_text("removed")
        expect(row(page, ended).get_by_role("checkbox")).to_be_disabled()
    else:
        expect(row(page, ended)).to_have_count(0)
    assert httpx2.get(jobs.base + ended, trust_env=False).status_code == 410


def test_a_job_that_has_ended_meanwhile_keeps_its_results(jobs: Any) -> None:
    path = jobs.execute("hello-world", {"name": "quick"})
    jobs.ended(path)

    for address in (f"{jobs.base}/jobs/form", f"{jobs.base}{path}/dismissal"):
        posted = {"job": path.rpartition("/")[2], "choice": "dismiss"}
        assert httpx2.post(address, data=posted, trust_env=False).status_code == 303

    assert httpx2.get(f"{jobs.base}{path}/results", trust_env=False).status_code == 200


def test_a_question_that_is_open_stays_and_the_row_goes_on_afterwards(come: Any, jobs: Any) -> None:
    path = jobs.execute("echo", {"message": "soon", "pause": 3})
    page = come().open("/jobs")

    row(page, path).get_by_role("button", name="Dismiss").click()
    jobs.ended(path)
    page.wait_for_timeout(3000)
    page.get_by_role("button", name="Leave it").click()

    expect(row(page, path).get_by_role("button", name="Remove")).to_be_visible()
    assert jobs.status(path) == "successful"


def test_the_list_is_used_by_keyboard_alone(come: Any, jobs: Any) -> None:
    path = jobs.execute("echo", {"message": "never", "pause": 60})
    page = come().open("/jobs")
    button = row(page, path).get_by_role("button", name="Dismiss")

    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Leave it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")

    expect(row(page, path).locator(".status")).to_contain_text("dismissed")


def test_the_log_follows_its_end_until_somebody_scrolls_up(come: Any, jobs: Any) -> None:
    path = jobs.execute("chatter", {"seconds": 60})
    page = come().open(path)
    log = page.get_by_role("region", name="Last lines of its log")

    expect(log).to_contain_text("word 60")
    assert end_of_log(log) == 0
    log.evaluate("box => (box.scrollTop = -300)")
    seen = log.evaluate("box => box.scrollTop + box.scrollHeight")
    expect(page.get_by_role("button", name=re.compile(r"Follow again \([1-9]"))).to_be_visible()
    assert abs(log.evaluate("box => box.scrollTop + box.scrollHeight") - seen) <= 1  # the lines that are read stay
    page.get_by_role("button", name="Follow again").click()

    expect(page.get_by_role("button", name="Follow again")).to_be_hidden()
    assert end_of_log(log) == 0


def test_a_waiting_job_tells_its_place_and_moves_up(come: Any, jobs: Any) -> None:
    running = [jobs.execute("echo", {"message": "first", "pause": 60}) for _ in range(2)]
    before = jobs.execute("echo", {"message": "before", "pause": 60})
    mine = jobs.execute("echo", {"message": "mine", "pause": 60})
    page = come().open(mine)

    expect(page.locator("#place")).to_contain_text("number 2 in the queue")
    httpx2.delete(jobs.base + before, trust_env=False)
    expect(page.locator("#place")).to_contain_text("next to begin")
    httpx2.delete(jobs.base + running[0], trust_env=False)

    expect(page.locator("h1 .state-running")).to_be_visible()


@both
def test_a_job_is_pinned_and_unpinned_on_its_page(come: Any, jobs: Any, scripts: bool) -> None:
    path = jobs.execute("hello-world", {"name": "you"})
    jobs.ended(path)
    page = come(scripts=scripts).open(path)

    page.get_by_role("button", name="Pin", exact=True).click()
    expect(page.get_by_text("until somebody removes or unpins the job")).to_be_visible()
    page.get_by_role("button", name="Unpin").click()

    expect(page.get_by_role("button", name="Pin", exact=True)).to_be_visible()
    expect(page.get_by_text("until somebody removes or unpins the job")).to_have_count(0)
