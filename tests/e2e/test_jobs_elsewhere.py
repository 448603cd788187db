"""Jobs that run on another machine: their logs, their progress and their worker are as visible as local ones."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.test_logs_and_events import GROWTH_MIB, PROCESSES, resident_mib, send, wait_for
from tests.e2e.test_operations import metrics
from tests.e2e.watching import Event, Watcher
from tests.object_storage import ObjectStorage
from tests.postgres import Postgres
from tests.serving import Server, Worker

FLOOD_MIB = 200 if os.environ.get("GRATICULE_TEST_ALL") else 24


def client(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, timeout=60, trust_env=False)


def shared_by(postgres: Postgres, tmp_path: Path) -> dict[str, str]:
    """The settings that all servers and workers have."""
    return {
        "GRATICULE_DATABASE__URL": postgres.new_database(),
        "GRATICULE_STORAGE__FOLDER": str(tmp_path / "storage"),
        "GRATICULE_JOBS__LEASE_S": "5",
    }


def web_of(tmp_path: Path, shared: Mapping[str, str]) -> Server:
    """A server that runs no jobs itself."""
    return Server(tmp_path / "web", [str(PROCESSES)], environment={**shared, "GRATICULE_JOBS__WORKERS": "0"})


@pytest.fixture(scope="module")
def shared(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return shared_by(postgres, tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def web(shared: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with web_of(tmp_path_factory.mktemp("web"), shared) as running:
        yield running


@pytest.fixture(scope="module")
def worker(shared: dict[str, str], web: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    environment = {**shared, "GRATICULE_SERVER__LOG_FORMAT": "json", "GRATICULE_SERVER__ACCESS_LOG": "true"}
    home = tmp_path_factory.mktemp("worker") / "home"
    with Worker(home, [str(PROCESSES), "--port", "0"], environment=environment) as running:
        yield running


@pytest.fixture
def http(web: Server, worker: Worker) -> Iterator[httpx2.Client]:
    with client(web) as found:
        yield found


def read(http: httpx2.Client, job: str, step: str = "process", **query: str) -> str:
    answer = http.get(f"/jobs/{job}/logs/{step}", params=query)
    return answer.text if answer.status_code == 200 else ""


def wait_for_text(http: httpx2.Client, job: str, text: str, step: str = "process", seconds: float = 20) -> str:
    """Wait until a log has some text; return it."""
    deadline = time.monotonic() + seconds
    while text not in (found := read(http, job, step)):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


# --- logs ------------------------------------------------------------------------------------------------------------


def test_the_logs_of_a_job_elsewhere_grow_while_it_runs(http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=8)
    seen: dict[str, float] = {}
    while http.get(f"/jobs/{job}").json()["status"] != "successful":
        for line in read(http, job).splitlines():
            seen.setdefault(line, time.monotonic())
        time.sleep(0.1)
    late = [seen[f"turn {number}"] - seen["turn 0"] - 0.8 * number for number in range(1, 9)]
    whole = read(http, job)

    print(f"lines of a job elsewhere come up to {max(late) - min(late):.2f} s later than others")
    assert max(late) - min(late) < 2
    assert whole.endswith("turn 9\nthe last word, without an end")
    assert read(http, job, "crop").count("\n") == 10


def test_its_steps_are_listed_while_it_runs(http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=4)
    wait_for_text(http, job, "tile 1", "crop")
    status = http.get(f"/jobs/{job}").json()

    titles = [link["title"] for link in status["links"] if link["rel"] == "related" and link["type"] == "text/plain"]
    assert status["status"] == "running"
    assert titles == ["Tool log process.log", "Tool log crop.log"]
    http.delete(f"/jobs/{job}")


def test_it_is_read_page_by_page_by_range_and_by_line(http: httpx2.Client) -> None:
    job = send(http, "steps", seconds=4)
    wait_for_text(http, job, "turn 1")
    text, address, status = "", f"/jobs/{job}/logs/process?limit=40", ""
    part = http.get(f"/jobs/{job}/logs/process", headers={"Range": "bytes=21-25"})
    lines = http.get(f"/jobs/{job}/logs/process", params={"f": "json"}).json()
    while address:
        page = http.get(address)
        text += page.text
        address = page.links.get("next", {}).get("url", "")
        if not page.content:
            time.sleep(0.1)
    status = wait_for(http, job)["status"]

    assert status == "successful"
    assert text == read(http, job)
    assert (part.status_code, part.text) == (206, "begin")
    assert lines["lines"][1]["text"] == "turn 0"
    assert lines["complete"] is False


def test_nothing_is_left_of_the_pieces_when_the_whole_log_has_come(http: httpx2.Client, shared: dict[str, str]) -> None:
    job = send(http, "steps", seconds=3)
    place = Path(shared["GRATICULE_STORAGE__FOLDER"]) / "default/jobs" / job
    wait_for_text(http, job, "turn 3")
    pieces = [path for path in place.rglob("*") if path.is_file()]
    wait_for(http, job)

    assert pieces
    assert sorted(path.name for path in place.rglob("*") if path.is_file()) == ["crop.log", "process.log"]


def test_a_large_log_elsewhere_is_followed_without_memory(http: httpx2.Client, web: Server, worker: Worker) -> None:
    http.get("/jobs")
    wait_for(http, send(http, "flood", mib=1, hold=2))
    before = {server: resident_mib(server) for server in (web, worker)}
    highest, over = dict(before), threading.Event()

    def weigh() -> None:
        while not over.wait(0.05):
            for server in (web, worker):
                highest[server] = max(highest[server], resident_mib(server))

    scales = threading.Thread(target=weigh)
    scales.start()
    job = send(http, "flood", mib=FLOOD_MIB, hold=6)
    with Watcher(web.url, job) as watcher:
        followed = 0
        for event in watcher.events():
            followed += len(event.data["text"]) if event.name == "log" else 0
    with http.stream("GET", f"/jobs/{job}/logs/process") as answer:
        downloaded = sum(len(chunk) for chunk in answer.iter_raw())
    over.set()
    scales.join()
    grown = {name: highest[one] - before[one] for name, one in (("server", web), ("worker", worker))}

    print(f"a log of {FLOOD_MIB} MiB elsewhere: {grown} MiB")
    assert followed == downloaded == FLOOD_MIB << 20
    assert max(grown.values()) < GROWTH_MIB


# --- events and progress ---------------------------------------------------------------------------------------------


def test_events_of_a_job_elsewhere_tell_its_progress_and_its_end_within_a_second(
    web: Server, http: httpx2.Client
) -> None:
    job = send(http, "steps", seconds=6)
    with Watcher(web.url, job) as watcher:
        events = list(watcher.events())
    told: dict[str, float] = {}
    for event in events:
        if event.name == "progress":
            told.setdefault(event.data["message"], event.moment)
    statuses = [event.data["status"] for event in events if event.name == "status"]
    text = "".join(event.data["text"] for event in events if event.name == "log")
    moments = [told[f"turn {number}"] - 0.6 * number for number in range(1, 10)]
    ended = events[-1].moment - 0.6 * 10

    print(f"progress elsewhere comes up to {max(moments) - min(moments):.2f} s later than other progress")
    assert max(moments) - min(moments) < 1
    assert ended - min(moments) < 1.2
    assert statuses[-1] == "successful"
    assert text == read(http, job)


def test_a_waiting_job_is_heard_to_begin_elsewhere(web: Server, http: httpx2.Client) -> None:
    first = [send(http, "restless", seconds=3) for _ in range(2)]
    job = send(http, "restless", seconds=3)
    with Watcher(web.url, job) as watcher:
        seen = [(event.data["status"], event.moment) for event in watcher.events() if event.name == "status"]
    moments = dict(seen)

    assert [wait_for(http, one)["status"] for one in first] == ["successful"] * 2
    assert [status for status, _ in seen] == ["accepted", "running", "successful"]
    assert moments["successful"] - moments["running"] > 2


def test_every_server_shows_progress_that_is_not_older_than_a_second(http: httpx2.Client) -> None:
    job = send(http, "restless", seconds=5)
    wait_for(http, job, "running")
    time.sleep(1)
    ages = []
    for _ in range(20):
        status = http.get(f"/jobs/{job}").json()
        ages.append(time.time() - httpx_time(status["updated"]))
        time.sleep(0.1)

    print(f"progress elsewhere is up to {max(ages):.2f} s old")
    assert max(ages) < 1
    http.delete(f"/jobs/{job}")


def httpx_time(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


# --- a worker that is killed -----------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "bucket"])
def elsewhere(request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path) -> dict[str, str]:
    """The settings of servers that share a folder, or a bucket of an object storage."""
    settings = shared_by(postgres, tmp_path)
    if request.param == "bucket":
        storage: ObjectStorage = request.getfixturevalue("object_storage")
        del settings["GRATICULE_STORAGE__FOLDER"]
        settings |= storage.settings(request.getfixturevalue("bucket"), "shared")
    return settings


def test_the_log_of_a_killed_worker_is_kept_beside_that_of_the_next_attempt(
    elsewhere: dict[str, str], tmp_path: Path
) -> None:
    with web_of(tmp_path, elsewhere) as web, client(web) as http:
        first = Worker(tmp_path / "first", [str(PROCESSES)], environment=elsewhere).start()
        job = send(http, "steps", seconds=8)
        events: list[Event] = []
        with Watcher(web.url, job) as watcher:
            following = threading.Thread(target=lambda: events.extend(watcher.events()))
            following.start()
            sealed = wait_for_text(http, job, "turn 2")
            sealed_step = read(http, job, "crop")
            os.kill(first.pid, signal.SIGKILL)
            first.process.wait()
            with Worker(tmp_path / "second", [str(PROCESSES)], environment=elsewhere):
                status = wait_for(http, job)
                following.join()

        (attempt,) = status["attempts"]
        logs = {link["title"]: link["href"] for link in attempt["links"]}
        kept = http.get(logs["Tool log process.log of attempt 1"])
        second = read(http, job)
        page = http.get(kept.links["alternate"]["url"]).json()
        unknown = [http.get(f"/jobs/{job}/logs/process?attempt={number}").status_code for number in (0, 2, "x")]

        assert (attempt["number"], attempt["reason"]) == (1, "its worker was lost")
        assert kept.text.startswith(sealed)
        assert http.get(logs["Tool log crop.log of attempt 1"]).text.startswith(sealed_step)
        assert "turn 9" not in kept.text
        assert second.endswith("turn 9\nthe last word, without an end")
        assert (page["complete"], page["lines"][1]["text"]) == (True, "turn 0")
        assert kept.headers["etag"] != http.get(f"/jobs/{job}/logs/process").headers["etag"]
        assert unknown == [400, 404, 400]
        told = [event.data for event in events if event.name == "log"]
        again = [number for number, data in enumerate(told) if data["offset"] == 0]
        *_, begun_anew, ended = [event.data for event in events if event.name == "status"]
        assert "".join(data["text"] for data in told[again[-1] :]) == second
        assert len(again) == 2
        assert (begun_anew["status"], len(begun_anew["attempts"])) == ("running", 1)
        assert ended["status"] == "successful"


def test_the_log_of_an_attempt_that_a_server_gave_back_is_kept(tmp_path: Path, postgres: Postgres) -> None:
    shared = {**shared_by(postgres, tmp_path), "GRATICULE_JOBS__GRACE_S": "0"}
    with web_of(tmp_path, shared) as web, client(web) as http:
        with Worker(tmp_path / "first", [str(PROCESSES)], environment=shared):
            job = send(http, "steps", seconds=5)
            wait_for_text(http, job, "turn 1")
        given_back = http.get(f"/jobs/{job}").json()

        assert given_back["status"] == "accepted"
        assert "turn 1" in read(http, job, attempt="1")


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_the_log_of_an_attempt_outlives_its_server(tmp_path: Path, end: str) -> None:
    environment = {"GRATICULE_JOBS__GRACE_S": "0"}
    server = Server(tmp_path / "home", [str(PROCESSES)], environment=environment).start()
    with client(server) as http:
        job = send(http, "steps", seconds=4)
        before = wait_for_text(http, job, "turn 2")
    if end == "killed":
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
    else:
        server.stop()

    with Server(tmp_path / "home", [str(PROCESSES)], environment=environment) as again, client(again) as http:
        status = wait_for(http, job)
        first, second = read(http, job, attempt="1"), read(http, job)

        assert status["status"] == "successful"
        assert [attempt["number"] for attempt in status["attempts"]] == [1]
        assert first.startswith(before)
        assert read(http, job, "crop", attempt="1").startswith("2026")
        assert "turn 9" not in first
        assert second.endswith("turn 9\nthe last word, without an end")
        assert not [path for path in (tmp_path / "home/scratch/jobs").iterdir() if path.name == job]
        assert not (tmp_path / "home/scratch/left").exists()


# --- how a worker is -------------------------------------------------------------------------------------------------


def test_a_worker_tells_how_it_is_and_nothing_else(http: httpx2.Client, worker: Worker) -> None:
    wait_for(http, send(http, "short", word="x"))
    with client(worker) as asked:
        health = asked.get("/health")
        numbers = metrics(asked)

        assert asked.get("/health/live").json() == {"status": "ok", "live": True}
        assert asked.get("/health/ready").status_code == 200
        assert set(health.json()["parts"]) == {"ledger", "storage", "executor", "disk"}
        assert numbers["graticule_job_places", ()] == 2
        assert numbers["graticule_jobs_ended_total", ("", "successful")] >= 1
        assert asked.get("/processes").status_code == 404
        assert asked.get("/jobs").status_code == 404


def test_a_worker_logs_as_a_server_does(http: httpx2.Client, worker: Worker) -> None:
    job = send(http, "short", word="x")
    wait_for(http, job)
    deadline = time.monotonic() + 5
    lines: list[dict[str, Any]] = []
    while not [line for line in lines if line.get("job") == job]:
        assert time.monotonic() < deadline, worker.log
        lines = [json.loads(line) for line in worker.log.splitlines()]

    (line,) = [line for line in lines if line.get("job") == job]
    assert (line["event"], line["status"], line["level"]) == ("job.ended", "successful", "info")


def test_a_port_that_is_taken_is_said_by_the_name_of_its_setting(shared: dict[str, str], tmp_path: Path) -> None:
    with Worker(tmp_path / "one", ["--port", "0"], environment=shared) as one:
        port = one.url.rpartition(":")[2]

        with pytest.raises(Exception, match=r"worker\.port"):
            Worker(tmp_path / "two", ["--port", port], environment=shared).start()
