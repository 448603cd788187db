"""Who is next, where a job stands, what is sent twice, and what becomes of a job whose worker is lost."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.e2e.test_jobs import PROCESSES, client, run, send, wait_for
from tests.postgres import Postgres
from tests.serving import Server, Worker

TOKENS = """
[[security.tokens]]
actor = "ada"
sha256 = "{ada}"
[[security.tokens]]
actor = "ben"
sha256 = "{ben}"
"""


def as_actor(server: Server, name: str) -> httpx2.Client:
    return httpx2.Client(
        base_url=server.url,
        timeout=30,
        trust_env=False,
        headers={"Accept": "application/json", "Authorization": f"Bearer token-of-{name}"},
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of each kind of ledger."""
    if request.param == "sqlite":
        return {}
    return {"GRATICULE_DATABASE__URL": request.getfixturevalue("postgres").new_database()}


def test_somebodys_one_job_begins_next_after_anothers_many(serve: Any, ledger: dict[str, str], tmp_path: Path) -> None:
    tokens = {name: hashlib.sha256(f"token-of-{name}".encode()).hexdigest() for name in ("ada", "ben")}
    server = serve(str(PROCESSES), env={**ledger, "GRATICULE_JOBS__WORKERS": "1"}, config=TOKENS.format(**tokens))
    marks = tmp_path / "marks"
    with as_actor(server, "ada") as ada, as_actor(server, "ben") as ben:
        many = [send(ada, "mark", name="a0", marks=str(marks), seconds=3)]
        many += [send(ada, "mark", name=f"a{number}", marks=str(marks), seconds=0.3) for number in range(1, 12)]
        one = send(ben, "mark", name="b", marks=str(marks))

        assert ben.get(f"/jobs/{one}").json().get("queuePosition") in (1, None)
        assert ada.get(f"/jobs/{many[-1]}").json()["queuePosition"] > 5
        wait_for(ben, one)

        assert marks.read_text().split()[:2] == ["a0", "b"]
        for job in many:
            ada.delete(f"/jobs/{job}")


def test_never_more_of_a_process_run_than_may(serve: Any, ledger: dict[str, str]) -> None:
    server = serve(
        str(PROCESSES), env={**ledger, "GRATICULE_JOBS__WORKERS": "4"}, config="[processes.nap]\nmax_running = 1\n"
    )
    with client(server) as http:
        jobs = [send(http, "nap", seconds=0.4) for _ in range(3)]
        other = send(http, "mark", name="other", marks=os.devnull)

        most = 0
        while any(http.get(f"/jobs/{job}").json()["status"] not in ("successful", "failed") for job in jobs):
            running = http.get("/jobs", params={"status": "running", "processID": "nap"}).json()["jobs"]
            most = max(most, len(running))

        assert most == 1
        assert wait_for(http, other)["status"] == "successful"


def test_beyond_the_limit_of_waiting_jobs_a_request_is_to_come_again(serve: Any) -> None:
    server = serve(str(PROCESSES), env={"GRATICULE_JOBS__WORKERS": "1", "GRATICULE_JOBS__MAX_WAITING": "2"})
    with client(server) as http:
        jobs = [send(http, "nap", seconds=5) for _ in range(3)]
        time.sleep(0.1)

        refused = run(http, "nap", "respond-async", seconds=5)

        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "5"
        assert refused.json()["type"] == "urn:graticule:problem:too-many-jobs"
        assert len(http.get("/jobs").json()["jobs"]) == 3
        for job in jobs:
            http.delete(f"/jobs/{job}")
        assert run(http, "nap", seconds=0).status_code == 200


def test_beyond_the_limit_of_waiting_jobs_a_created_one_stays_created(serve: Any) -> None:
    server = serve(str(PROCESSES), env={"GRATICULE_JOBS__WORKERS": "1", "GRATICULE_JOBS__MAX_WAITING_PER_ACTOR": "1"})
    with client(server) as http:
        ended = send(http, "nap", seconds=0)
        wait_for(http, ended)
        job = created(http, "nap", seconds=0).json()["jobID"]
        busy = [send(http, "nap", seconds=5) for _ in range(2)]
        time.sleep(0.1)

        refused = [http.post(f"/jobs/{job}/results"), http.post(f"/jobs/{ended}/again")]

        assert [answer.status_code for answer in refused] == [429, 429]
        assert {answer.headers["retry-after"] for answer in refused} == {"5"}
        assert http.get(f"/jobs/{job}").json()["status"] == "created"
        for one in busy:
            http.delete(f"/jobs/{one}")
        assert http.post(f"/jobs/{job}/results").status_code == 200
        assert wait_for(http, job)["status"] == "successful"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with Server(tmp_path_factory.mktemp("keys") / "home", [str(PROCESSES)]) as server, client(server) as found:
        yield found


def keyed(http: httpx2.Client, key: str, process: str, prefer: str = "respond-async", **inputs: Any) -> httpx2.Response:
    headers = {"Idempotency-Key": key, **({"Prefer": prefer} if prefer else {})}
    return http.post(f"/processes/{process}/execution", json={"inputs": inputs}, headers=headers)


def created(http: httpx2.Client, process: str, key: str = "", **inputs: Any) -> httpx2.Response:
    headers = {"Prefer": 'status="created"', **({"Idempotency-Key": key} if key else {})}
    return http.post("/jobs", json={"process": process, "inputs": inputs}, headers=headers)


def test_a_job_that_is_created_again_with_its_key_is_the_same_job(http: httpx2.Client) -> None:
    first = created(http, "nap", "c1", seconds=0)
    again = created(http, "nap", "c1", seconds=0)
    http.post(f"/jobs/{first.json()['jobID']}/results")
    started = created(http, "nap", "c1", seconds=0)

    assert [answer.status_code for answer in (first, again, started)] == [201] * 3
    assert {answer.headers["location"] for answer in (again, started)} == {first.headers["location"]}
    assert again.json()["status"] == "created"
    assert started.json()["status"] != "created"


def test_the_key_of_a_created_job_is_good_for_no_other_request(http: httpx2.Client) -> None:
    first = created(http, "nap", "c2", seconds=0).json()["jobID"]

    other = created(http, "nap", "c2", seconds=1)
    body = {"process": "nap", "inputs": {"seconds": 0}}
    at_once = http.post("/jobs", json=body, headers={"Idempotency-Key": "c2", "Prefer": "respond-async"})

    assert [answer.status_code for answer in (other, at_once)] == [422, 422]
    assert first in other.json()["detail"]
    assert created(http, "nap", "c 2", seconds=0).status_code == 400
    assert http.get(f"/jobs/{first}").json()["status"] == "created"


def test_a_created_job_that_was_changed_is_found_by_what_it_was_first_sent_with(http: httpx2.Client) -> None:
    first = created(http, "nap", "c4", seconds=0)
    job = first.json()["jobID"]

    for seconds in (1, 2, 3):
        assert http.patch(f"/jobs/{job}", json={"inputs": {"seconds": seconds}}).status_code == 200
        again = created(http, "nap", "c4", seconds=0)
        assert (again.status_code, again.json()["jobID"]) == (201, job)

    assert [created(http, "nap", "c4", seconds=seconds).status_code for seconds in (1, 3)] == [422, 422]
    assert http.get(f"/jobs/{job}/inputs").json()["inputs"] == {"seconds": 3}
    http.post(f"/jobs/{job}/results")
    assert created(http, "nap", "c4", seconds=0).json()["jobID"] == job


def test_a_created_job_keeps_its_key_when_it_becomes_one_of_another_process(
    serve: Any, ledger: dict[str, str]
) -> None:  # fmt: skip
    greeting = {"process": "mark", "inputs": {"name": "two", "marks": os.devnull}}
    with client(serve(str(PROCESSES), env=ledger)) as http:
        job = created(http, "nap", "c3", seconds=0).json()["jobID"]
        other = keyed(http, "c3", "mark", name="one", marks=os.devnull).json()["jobID"]

        changed = http.put(f"/jobs/{job}", json=greeting)

        assert changed.status_code == 200, changed.text
        assert created(http, "nap", "c3", seconds=0).json()["jobID"] == job
        assert created(http, "nap", "c3", seconds=1).status_code == 422
        assert keyed(http, "c3", "mark", name="one", marks=os.devnull).json()["jobID"] == other
        assert len(http.get("/jobs").json()["jobs"]) == 2
        back = http.put(f"/jobs/{job}", json={"process": "nap", "inputs": {"seconds": 2}})
        assert back.status_code == 200, back.text
        assert created(http, "nap", "c3", seconds=0).json()["jobID"] == job


def test_a_job_that_is_sent_again_with_a_key_becomes_one_new_job(http: httpx2.Client) -> None:
    before, other = (run(http, "nap", "respond-async", seconds=0).json()["jobID"] for _ in range(2))
    wait_for(http, before)
    wait_for(http, other)

    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda _: http.post(f"/jobs/{before}/again", headers={"Idempotency-Key": "a1"}), "abcd")
        )
    elsewhere = http.post(f"/jobs/{other}/again", headers={"Idempotency-Key": "a1"})

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert elsewhere.status_code == 422
    assert http.post(f"/jobs/{before}/again").headers["location"] != answers[0].headers["location"]


def test_a_request_that_is_sent_again_with_its_key_is_the_same_job(http: httpx2.Client, tmp_path: Path) -> None:
    marks = str(tmp_path / "marks")
    first = keyed(http, "k1", "mark", name="once", marks=marks)
    wait_for(http, first.json()["jobID"])

    again = keyed(http, "k1", "mark", name="once", marks=marks)
    waited = keyed(http, "k1", "mark", prefer="", name="once", marks=marks)

    assert (again.status_code, again.headers["location"]) == (201, first.headers["location"])
    assert (waited.status_code, waited.json()) == (200, "once")
    assert Path(marks).read_text().split() == ["once"]


def test_many_at_once_with_one_key_are_one_job(http: httpx2.Client, tmp_path: Path) -> None:
    marks = str(tmp_path / "marks")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: keyed(http, "k2", "mark", name="one", marks=marks), range(16)))

    assert {answer.status_code for answer in answers} == {201}
    (location,) = {answer.headers["location"] for answer in answers}
    wait_for(http, location.rpartition("/")[2])
    assert Path(marks).read_text().split() == ["one"]


def test_a_key_is_good_for_one_request_of_one_process(http: httpx2.Client) -> None:
    first = keyed(http, "k3", "mark", name="one", marks=os.devnull)

    other = keyed(http, "k3", "mark", name="other", marks=os.devnull)
    elsewhere = keyed(http, "k3", "nap", seconds=0)

    assert other.status_code == 422
    assert other.json()["type"] == "urn:graticule:problem:idempotency-key-reused"
    assert first.json()["jobID"] in other.json()["detail"]
    assert elsewhere.status_code == 201
    assert keyed(http, "k y", "nap", seconds=0).status_code == 400


def test_a_job_whose_process_is_killed_runs_again_and_says_so(http: httpx2.Client, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = send(http, "die-once", marks=str(pids))

    status = wait_for(http, job, seconds=20)

    assert status["status"] == "successful", status
    assert len(pids.read_text().split()) == 2
    (attempt,) = status["attempts"]
    assert "SIGKILL" in attempt["reason"]
    assert attempt["started"] <= attempt["ended"]
    page = http.get(f"/jobs/{job}", headers={"Accept": "text/html"}).text
    assert f"/jobs/{job}/logs/process?attempt=1" in page


def test_the_jobs_of_a_lost_worker_run_elsewhere(postgres: Postgres, tmp_path: Path) -> None:
    shared = {
        "GRATICULE_DATABASE__URL": postgres.new_database(),
        "GRATICULE_STORAGE__FOLDER": str(tmp_path / "storage"),
        "GRATICULE_JOBS__LEASE_S": "5",
    }
    none = {**shared, "GRATICULE_JOBS__WORKERS": "0"}
    marks = tmp_path / "marks"
    with (
        Server(tmp_path / "web", [str(PROCESSES)], environment=none) as web,
        Server(tmp_path / "other", [str(PROCESSES)], environment=none) as other,
        client(web) as http,
        client(other) as there,
    ):
        alone = send(http, "nap", seconds=0)
        waits = there.get(f"/jobs/{alone}").json()
        assert waits["status"] == "accepted"
        assert "waits for a worker" in waits["message"]
        first = Worker(tmp_path / "first", [str(PROCESSES)], environment=shared).start()
        assert wait_for(there, alone)["status"] == "successful"
        job = send(http, "mark", name="long", marks=str(marks), seconds=3)
        wait_for(there, job, "running")

        os.kill(first.pid, signal.SIGKILL)
        first.process.wait()
        with Worker(tmp_path / "second", [str(PROCESSES)], environment=shared):
            status = wait_for(there, job, seconds=30)
            sync = run(there, "mark", name="sync", marks=str(marks))
            refused = send(there, "nap", seconds=30)
            wait_for(http, refused, "running")
            assert http.delete(f"/jobs/{refused}").json()["status"] == "dismissed"

        assert status["status"] == "successful"
        assert [attempt["reason"] for attempt in status["attempts"]] == ["its worker was lost"]
        assert (sync.status_code, sync.json()) == (200, "sync")
        assert there.get(f"/jobs/{job}/results").json() == "long"
        with pytest.raises(Exception, match="storage"):
            Worker(tmp_path / "third", environment={**shared, "GRATICULE_STORAGE__FOLDER": str(tmp_path / "x")}).start()


def test_the_jobs_of_a_frozen_worker_end_before_others_begin_them(postgres: Postgres, tmp_path: Path) -> None:
    shared = {
        "GRATICULE_DATABASE__URL": postgres.new_database(),
        "GRATICULE_STORAGE__FOLDER": str(tmp_path / "storage"),
        "GRATICULE_JOBS__LEASE_S": "5",
    }
    with (
        Server(
            tmp_path / "web", [str(PROCESSES)], environment={**shared, "GRATICULE_JOBS__WORKERS": "0"}
        ) as web,
        client(web) as http,
    ):  # fmt: skip
        worker = Worker(tmp_path / "worker", [str(PROCESSES)], environment=shared).start()
        job = send(http, "nap", seconds=30)
        wait_for(http, job, "running")
        time.sleep(1)
        (forkserver,) = psutil.Process(worker.pid).children()
        (running,) = forkserver.children()

        worker.process.send_signal(signal.SIGSTOP)

        gone, _ = psutil.wait_procs([running], timeout=7)
        assert gone, "it still runs when its lease has ended"
        wait_for(http, job, "accepted")
        worker.process.send_signal(signal.SIGCONT)
        wait_for(http, job, "running")
        assert [one["reason"] for one in http.get(f"/jobs/{job}").json()["attempts"]] == ["its worker was lost"]
        http.delete(f"/jobs/{job}")
        worker.stop()
