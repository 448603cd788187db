"""Logs of jobs while they run and afterwards, and the events of whoever follows one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.conftest import Serve
from tests.e2e.watching import Event, Watcher
from tests.serving import Server

PROCESSES = Path(__file__).with_name("log_processes.py")
FLOOD_MIB = 200 if os.environ.get("GRATICULE_TEST_ALL") else 24
GROWTH_MIB = 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the processes of ``log_processes.py``."""
    with Server(tmp_path_factory.mktemp("logs") / "home", [str(PROCESSES)]) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        yield client


def send(http: httpx2.Client, process: str, **inputs: Any) -> str:
    answer = http.post(f"/processes/{process}/execution", json={"inputs": inputs}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobID"])


def wait_for(http: httpx2.Client, job: str, *statuses: str) -> dict[str, Any]:
    wanted = statuses or ("successful", "failed", "dismissed")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status: dict[str, Any] = http.get(f"/jobs/{job}").json()
        if status["status"] in wanted:
            return status
        time.sleep(0.02)
    raise AssertionError(f"job {job} did not become {wanted}: {status}")


def wait_until(http: httpx2.Client, path: str, size: int) -> None:
    """Wait until a log has so many bytes."""
    deadline = time.monotonic() + 60
    while (answer := http.head(path)).status_code != 200 or int(answer.headers["content-length"]) < size:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def resident_mib(server: Server) -> float:
    return float(psutil.Process(server.pid).memory_info().rss) / (1 << 20)


# --- logs ------------------------------------------------------------------------------------------------------------


def test_the_logs_of_all_steps_can_be_read_while_the_job_runs_and_afterwards(http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=2)
    wait_until(http, f"/jobs/{job}/logs/crop", 60)
    running = http.get(f"/jobs/{job}").json()
    begun = {step: http.get(f"/jobs/{job}/logs/{step}").text for step in ("process", "crop")}
    assert running["status"] == "running"
    ended = wait_for(http, job)
    whole = {step: http.get(f"/jobs/{job}/logs/{step}").text for step in ("process", "crop")}

    for status in (running, ended):
        links = [link for link in status["links"] if link["rel"] == "related" and link["type"] == "text/plain"]
        assert [link["title"] for link in links] == ["Tool log process.log", "Tool log crop.log"]
        assert [http.get(link["href"]).headers["content-type"] for link in links] == ["text/plain; charset=utf-8"] * 2
    assert all(whole[step].startswith(text) and len(text) < len(whole[step]) for step, text in begun.items())
    assert whole["process"].endswith("turn 9\nthe last word, without an end")
    assert whole["crop"].count("\n") == 10


def test_a_log_is_read_page_by_page_to_its_end_while_it_grows(http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=1)
    wait_until(http, f"/jobs/{job}/logs/process", 30)

    text, pages, address = "", 0, f"/jobs/{job}/logs/process?limit=40"
    while address:
        page = http.get(address)
        assert len(page.content) <= 40
        text, pages = text + page.text, pages + 1
        address = page.links.get("next", {}).get("url", "")
        if not page.content:
            time.sleep(0.05)

    assert text == http.get(f"/jobs/{job}/logs/process").text
    assert pages > 3


def test_a_log_as_json_has_lines_with_step_offset_and_time_where_it_is_known(http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=0)
    wait_for(http, job)

    first = http.get(f"/jobs/{job}/logs/crop", params={"f": "json", "limit": 100}).json()
    (following,) = [link["href"] for link in first["links"] if link["rel"] == "next"]
    second = http.get(following).json()
    process = http.get(f"/jobs/{job}/logs/process", params={"f": "json"}).json()

    assert first["lines"][0] == {
        "step": "crop",
        "offset": 0,
        "text": "2026-01-02 03:04:00,250+01:00 tile 0 für Köln",
        "time": "2026-01-02T02:04:00.250000Z",
    }
    assert (
        second["offset"]
        == second["lines"][0]["offset"]
        == sum(len(line["text"].encode()) + 1 for line in first["lines"])
    )
    assert process["complete"] is True
    assert process["lines"][0]["time"] == "2026-01-02T03:04:05.000000Z"
    assert process["lines"][1] == {"step": "process", "offset": 27, "text": "turn 0"}
    assert process["lines"][-1]["text"] == "the last word, without an end"
    assert not [link for link in process["links"] if link["rel"] == "next"]


def test_a_log_is_downloaded_under_a_name_whole_or_by_range(http: httpx2.Client) -> None:
    job = send(http, "short", word="hello")
    wait_for(http, job)
    whole = http.get(f"/jobs/{job}/logs/process")
    part = http.get(f"/jobs/{job}/logs/process", headers={"Range": "bytes=1-3"})

    assert whole.text == "hello\n"
    assert whole.headers["content-disposition"] == f'inline; filename="{job}-process.log"'
    assert (part.status_code, part.text, part.headers["content-range"]) == (206, "ell", "bytes 1-3/6")
    assert http.get(f"/jobs/{job}/logs/process", headers={"Range": "bytes=9-"}).status_code == 416
    assert http.head(f"/jobs/{job}/logs/process").headers["content-length"] == "6"
    assert http.get(f"/jobs/{job}/logs/process", headers={"If-None-Match": whole.headers["etag"]}).status_code == 304


def test_a_log_that_is_gone_is_not_called_empty(server: Server, http: httpx2.Client) -> None:
    job = send(http, "short", word="said")
    wait_for(http, job)
    (file,) = (server.home / "storage").rglob(f"{job}/*/process.log")
    storage = server.home / "storage"
    storage.rename(server.home / "unmounted")
    away = http.get(f"/jobs/{job}/logs/process")
    assert (away.status_code, away.json()["type"]) == (503, "urn:graticule:problem:storage-unavailable")
    (server.home / "unmounted").rename(storage)
    assert http.get(f"/jobs/{job}/logs/process").text == "said\n"
    file.unlink()

    for query in ("", "?f=json", "?offset=0"):
        answer = http.get(f"/jobs/{job}/logs/process{query}")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:graticule:problem:content-lost")
    assert http.get(f"/jobs/{job}").json()["status"] == "successful"
    with http.stream("GET", f"/jobs/{job}/events") as answer:
        assert b"event: status" in b"".join(answer.iter_bytes())


def test_a_step_may_have_a_name_in_any_script(server: Server, http: httpx2.Client) -> None:
    job = send(http, "step", name="größe 中/1")
    links = {link["title"]: link["href"] for link in wait_for(http, job)["links"] if "title" in link}
    log = http.get(links["Tool log größe_中_1.log"])
    page = http.get(log.links["alternate"]["url"]).json()
    with Watcher(server.url, job, "?step=gr%C3%B6%C3%9Fe_%E4%B8%AD_1") as watcher:
        (told,) = [event.data for event in watcher.events() if event.name == "log"]

    assert log.text == "a line\n"
    assert page["lines"] == [{"step": "größe_中_1", "offset": 0, "text": "a line"}]
    assert told["text"] == "a line\n"


@pytest.mark.parametrize("query", ["offset=-1", "limit=0", "limit=x", "f=html", "page=1"])
def test_a_page_that_cannot_be_is_refused(http: httpx2.Client, query: str) -> None:
    job = send(http, "short", word="hello")

    assert http.get(f"/jobs/{job}/logs/process?{query}").status_code == 400


def test_no_job_ever_shows_what_another_one_printed(http: httpx2.Client) -> None:
    def run(number: int) -> tuple[str, str]:
        word = f"word {number}"
        job = send(http, "short", word=word)
        answers = [http.get(f"/jobs/{job}/logs/process") for _ in range(3)]
        return word, "".join(answer.text for answer in answers if answer.status_code == 200)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, range(160)))

    assert [(word, seen) for word, seen in found if seen.replace(f"{word}\n", "")] == []


def test_a_large_log_is_read_and_followed_without_memory(server: Server, http: httpx2.Client) -> None:
    size = FLOOD_MIB << 20
    job = send(http, "flood", mib=FLOOD_MIB, hold=1)
    http.get("/jobs")
    before = resident_mib(server)
    highest, over = before, threading.Event()

    def weigh() -> None:
        nonlocal highest
        while not over.wait(0.05):
            highest = max(highest, resident_mib(server))

    scales = threading.Thread(target=weigh)
    scales.start()
    with Watcher(server.url, job) as watcher:
        followed = sum(len(event.data["text"]) for event in watcher.events() if event.name == "log")
    with http.stream("GET", f"/jobs/{job}/logs/process") as answer:
        downloaded = sum(len(chunk) for chunk in answer.iter_raw())
    lines, offset = 0, size - (1 << 20)
    page = http.get(f"/jobs/{job}/logs/process", params={"f": "json", "offset": offset, "limit": 1 << 20}).json()
    lines = len(page["lines"])
    over.set()
    scales.join()

    print(f"a log of {FLOOD_MIB} MiB, followed and downloaded: the server grew by {highest - before:.1f} MiB")
    assert followed == downloaded == size
    assert lines == (1 << 20) // 64
    assert highest - before < GROWTH_MIB


# --- events ----------------------------------------------------------------------------------------------------------


def test_events_tell_status_progress_and_log_until_the_job_has_ended(server: Server, http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=2)
    with Watcher(server.url, job) as watcher:
        events = list(watcher.events())

    statuses = [event.data["status"] for event in events if event.name == "status"]
    text = "".join(event.data["text"] for event in events if event.name == "log")
    progress = [event.data["progress"] for event in events if event.name == "progress"]
    assert watcher.status == 200
    assert watcher.headers["content-type"].startswith("text/event-stream")
    assert watcher.headers["x-accel-buffering"] == "no"
    assert watcher.headers["cache-control"] == "no-store"
    assert statuses[-1] == "successful"
    assert set(statuses[:-1]) <= {"accepted", "running"}
    assert events[-1].name == "status"
    assert events[-1].data == {**http.get(f"/jobs/{job}").json(), "links": events[-1].data["links"]}
    assert text == http.get(f"/jobs/{job}/logs/process").text
    assert progress == sorted(progress)
    assert len(progress) >= 5


def test_progress_arrives_within_a_second(server: Server, http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=3)
    seen: dict[str, float] = {}
    with Watcher(server.url, job) as watcher:
        for event in watcher.events():
            if event.name == "log":
                for line in event.data["text"].splitlines():
                    seen.setdefault(line, event.moment)
            if event.name == "progress":
                seen.setdefault(event.data["message"] + " told", event.moment)
    gaps = [seen[f"turn {n} told"] - seen["turn 1 told"] - (n - 1) * 0.3 for n in range(2, 9)]

    assert max(gaps) < 1
    assert all(abs(seen[f"turn {n}"] - seen[f"turn {n} told"]) < 1 for n in range(2, 9))


def test_a_step_can_be_followed_instead(server: Server, http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=1)
    with Watcher(server.url, job, "?step=crop") as watcher:
        text = "".join(event.data["text"] for event in watcher.events() if event.name == "log")

    assert text == http.get(f"/jobs/{job}/logs/crop").text


def test_a_lost_connection_goes_on_after_the_last_event(server: Server, http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=2)
    first: list[Event] = []
    with Watcher(server.url, job) as watcher:
        for event in watcher.events():
            first.append(event)
            if len([one for one in first if one.name == "log"]) == 3:
                break
    with Watcher(server.url, job, Last_Event_ID=first[-1].id) as watcher:
        second = list(watcher.events())
    with Watcher(server.url, job, Last_Event_ID=second[-1].id) as again:
        third = [event.name for event in again.events()] if again.status == 200 else []
    text = "".join(event.data["text"] for event in first + second if event.name == "log")

    assert text == http.get(f"/jobs/{job}/logs/process").text
    assert "log" not in third
    with Watcher(server.url, job) as whole:
        last = list(whole.events())[-1].id
    with Watcher(server.url, job, Last_Event_ID=last) as over:
        assert over.status == 204


@pytest.mark.parametrize("strange", ["x", "1/", "1/-1", "1/2/3/4", "1 /2"])
def test_an_event_id_that_is_none_is_refused(http: httpx2.Client, strange: str) -> None:
    job = send(http, "short", word="x")

    assert http.get(f"/jobs/{job}/events", headers={"Last-Event-ID": strange}).status_code == 400


def test_an_empty_event_id_is_none(server: Server, http: httpx2.Client) -> None:
    job = send(http, "short", word="x")
    wait_for(http, job)

    with Watcher(server.url, job, Last_Event_ID="") as watcher:
        events = list(watcher.events())

    assert "".join(event.data["text"] for event in events if event.name == "log").strip() == "x"
    assert events[-1].data["status"] == "successful"


def test_nobody_follows_a_step_that_an_ended_job_does_not_have(server: Server, http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=0)
    wait_for(http, job)

    nope = http.get(f"/jobs/{job}/events?step=nope")

    assert nope.status_code == 404
    assert "step=nope" in nope.json()["detail"]
    for step in ("process", "crop"):
        with Watcher(server.url, job, f"?step={step}") as watcher:
            assert [event.data["status"] for event in watcher.events() if event.name == "status"] == ["successful"]
    with Watcher(server.url, job, "?step=nope", Last_Event_ID="0/0") as watcher:
        assert [event.name for event in watcher.events()] == ["status"]


def test_nobody_follows_a_job_that_is_none(http: httpx2.Client) -> None:
    assert http.get("/jobs/nothing/events").status_code == 404
    assert http.get("/jobs/nothing/events?offset=x").status_code == 400


def test_a_job_that_is_dismissed_ends_its_stream(server: Server, http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=60)
    wait_for(http, job, "running")
    with Watcher(server.url, job) as watcher:
        events = watcher.events()
        next(events)
        http.delete(f"/jobs/{job}")
        began = time.monotonic()
        last = list(events)[-1]

    assert last.data["status"] == "dismissed"
    assert time.monotonic() - began < 3


@pytest.mark.slow
def test_who_follows_a_silent_job_hears_a_comment_every_fifteen_seconds(server: Server, http: httpx2.Client) -> None:
    job = send(http, "flood", mib=0, hold=17)
    wait_for(http, job, "running")
    began = time.monotonic()
    with Watcher(server.url, job) as watcher:
        last = list(watcher.events())[-1]

    assert watcher.comments == ["still here"]
    assert last.data["status"] == "successful"
    assert 15 < last.moment - began < 20


def test_a_waiting_job_is_followed_from_its_place_in_the_queue(serve: Serve) -> None:
    server = serve(str(PROCESSES), env={"GRATICULE_JOBS__WORKERS": "1"})
    with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as http:
        send(http, "restless", seconds=1)
        job = send(http, "restless", seconds=0.5)
        with Watcher(server.url, job) as watcher:
            statuses = [event.data["status"] for event in watcher.events() if event.name == "status"]

    assert statuses == ["accepted", "running", "successful"]


def test_a_hundred_watchers_of_one_job_hear_of_its_end_and_keep_nobody(server: Server, http: httpx2.Client) -> None:
    job = send(http, "restless", seconds=4)
    wait_for(http, job, "running")
    cpu = psutil.Process(server.pid)
    with ThreadPoolExecutor(100) as pool:

        def watch(_: int) -> list[Event]:
            with Watcher(server.url, job) as watcher:
                return list(watcher.events())

        before = cpu.cpu_times()
        watched = [pool.submit(watch, number) for number in range(100)]
        time.sleep(0.5)
        waits = []
        for _ in range(10):
            began = time.perf_counter()
            http.get("/conformance")
            waits.append(time.perf_counter() - began)
        found = [one.result() for one in watched]
        after = cpu.cpu_times()

    print(f"100 watchers: {after.user + after.system - before.user - before.system:.2f} s of CPU in 4 s")
    assert all(events[-1].data["status"] == "successful" for events in found)
    assert all(len(events) <= 4 * 6 for events in found)
    assert sorted(waits)[5] < 0.2


def test_slow_and_vanished_watchers_hold_neither_memory_nor_the_server(server: Server, http: httpx2.Client) -> None:
    job = send(http, "flood", mib=8, hold=3)
    wait_until(http, f"/jobs/{job}/logs/process", 8 << 20)
    before, open_before = resident_mib(server), psutil.Process(server.pid).num_fds()
    slow = [Watcher(server.url, job, buffer=4096) for _ in range(20)]
    for watcher in [Watcher(server.url, job) for _ in range(20)]:
        watcher.__exit__()
    time.sleep(1)
    grown = resident_mib(server) - before
    began = time.perf_counter()
    assert http.get("/conformance").status_code == 200
    waited = time.perf_counter() - began
    wait_for(http, job)
    (ended,) = [event.data for event in slow[0].events() if event.name == "status" and event.data["progress"] == 100]
    for watcher in slow:
        watcher.__exit__()
    deadline = time.monotonic() + 10
    while psutil.Process(server.pid).num_fds() > open_before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert grown < GROWTH_MIB
    assert waited < 0.5
    assert ended["status"] == "successful"


def test_a_server_that_stops_ends_its_streams_at_once(tmp_path: Path) -> None:
    at_once = {"GRATICULE_JOBS__GRACE_S": "1"}
    with Server(tmp_path / "home", [str(PROCESSES)], environment=at_once) as server:
        with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as http:
            job = send(http, "steps", seconds=60)
            wait_for(http, job, "running")
        watcher = Watcher(server.url, job)
        events = watcher.events()
        next(events)
        began = time.monotonic()
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        rest = list(events)
        waited = time.monotonic() - began
        stopping.join()
        watcher.__exit__()
        server.start()

    assert waited < 2
    assert not [event for event in rest if event.name == "status"]
