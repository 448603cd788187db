"""What clients that wait are told when the server stops or dies, and which jobs are kept that came to nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.test_jobs import PROCESSES, client, run, wait_for
from tests.serving import Server

NO_RASTER = {"value": "SUkqAA==", "mediaType": "image/tiff; application=geotiff"}
PROBLEM = "urn:graticule:problem"


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of each kind of ledger."""
    if request.param == "sqlite":
        return {}
    return {"GRATICULE_DATABASE__URL": request.getfixturevalue("postgres").new_database()}


def ask(server: Server, process: str, *, prefer: str = "", key: str = "", **inputs: Any) -> httpx2.Response:
    """Execute a process; the answer may be long in coming."""
    headers = {"Prefer": prefer, "Idempotency-Key": key}
    with client(server) as http:
        return http.post(
            f"/processes/{process}/execution",
            json={"inputs": inputs},
            headers={name: value for name, value in headers.items() if value},
        )


def job_of(answer: httpx2.Response) -> str:
    assert answer.status_code == 201, answer.text
    return answer.headers["location"].rpartition("/")[2]


def until_it_runs(server: Server, *processes: str) -> list[str]:
    """Return the identifiers of all jobs, once one runs and there is one for each name."""
    with client(server) as http:
        for _ in range(500):
            jobs = http.get("/jobs").json()["jobs"]
            sent = sorted(job["processID"] for job in jobs) == sorted(processes)
            if sent and any(job["status"] == "running" for job in jobs):
                return [job["jobID"] for job in jobs]
            time.sleep(0.02)
    raise AssertionError(jobs)


def killed(server: Server) -> None:
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()


# --- a server that is stopped ------------------------------------------------------------------------------------


def test_who_waits_when_the_server_stops_gets_the_job_that_goes_on_later(
    tmp_path: Path, ledger: dict[str, str]
) -> None:  # fmt: skip
    one = {**ledger, "GRATICULE_JOBS__GRACE_S": "1", "GRATICULE_JOBS__WORKERS": "1"}
    server = Server(tmp_path / "home", [str(PROCESSES)], environment=one).start()
    with ThreadPoolExecutor(6) as pool:
        running = pool.submit(ask, server, "nap", seconds=4)
        until_it_runs(server, "nap")
        others = [
            pool.submit(ask, server, "nap", seconds=0.1),
            pool.submit(ask, server, "nap", prefer="respond-async, wait=30", seconds=0.1),
            pool.submit(ask, server, "nap", key="k", seconds=0.2),
            pool.submit(ask, server, "only-now", key="k", seconds=0.1),
        ]
        without = pool.submit(ask, server, "only-now", seconds=0.3)
        until_it_runs(server, *["nap"] * 4, *["only-now"] * 2)
        began = time.monotonic()
        server.stop()
        took = time.monotonic() - began

    assert took < 4
    assert "Traceback" not in server.log
    refused = without.result()
    assert (refused.status_code, refused.json()["type"]) == (503, f"{PROBLEM}:shutting-down")
    assert refused.headers["retry-after"] == "5"
    jobs = [job_of(answer.result()) for answer in (running, *others)]
    with Server(tmp_path / "home", [str(PROCESSES)], environment=ledger) as again, client(again) as http:
        assert [wait_for(http, job)["status"] for job in jobs] == ["successful"] * 5
        listed = {job["jobID"]: job["status"] for job in http.get("/jobs").json()["jobs"]}
        assert [status for job, status in listed.items() if job not in jobs] == ["dismissed"]


def test_who_waits_when_the_server_stops_gets_the_result_of_a_job_that_ends_in_time(
    tmp_path: Path, ledger: dict[str, str]
) -> None:
    patient = {**ledger, "GRATICULE_JOBS__GRACE_S": "12"}
    server = Server(tmp_path / "home", [str(PROCESSES)], environment=patient).start()
    with ThreadPoolExecutor(2) as pool:
        both = pool.submit(ask, server, "nap", seconds=7), pool.submit(ask, server, "only-now", seconds=6.5)
        until_it_runs(server, "nap", "only-now")
        server.stop()

    answers = [answer.result() for answer in both]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, "rested"), (200, "done")]


def test_a_created_job_that_is_waited_for_goes_on_after_a_stop(tmp_path: Path, ledger: dict[str, str]) -> None:
    hasty = {**ledger, "GRATICULE_JOBS__GRACE_S": "0.2"}
    server = Server(tmp_path / "home", [str(PROCESSES)], environment=hasty).start()
    with ThreadPoolExecutor(1) as pool, client(server) as http:
        job = created(http, "nap", seconds=3)
        answer: Future[httpx2.Response] = pool.submit(
            http.post, f"/jobs/{job}/results", headers={"Prefer": "wait=20"}
        )  # fmt: skip
        until_it_runs(server, "nap")
        server.stop()

    assert (answer.result().status_code, answer.result().json()["jobID"]) == (200, job)
    with Server(tmp_path / "home", [str(PROCESSES)], environment=ledger) as again, client(again) as http:
        assert wait_for(http, job)["status"] == "successful"


def test_a_request_that_does_not_come_to_its_end_is_told_that_the_server_stops(tmp_path: Path) -> None:
    server = Server(tmp_path / "home", environment={"GRATICULE_JOBS__GRACE_S": "0"}).start()
    address = httpx2.URL(server.url)
    head = f"POST /processes/echo/execution HTTP/1.1\r\nHost: {address.host}:{address.port}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(f'{head}{{"inputs": '.encode())
        time.sleep(0.3)
        server.stop()
        answer = connection.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert f'"{PROBLEM}:shutting-down"'.encode() in answer
    assert "Traceback" not in server.log


# --- a server that dies ------------------------------------------------------------------------------------------


def test_a_key_survives_a_server_that_is_killed(tmp_path: Path, ledger: dict[str, str]) -> None:
    environment = {**ledger, "GRATICULE_JOBS__WORKERS": "1", "GRATICULE_JOBS__LEASE_S": "2"}
    server = Server(tmp_path / "home", [str(PROCESSES)], environment=environment).start()
    requests = {"running": 2.0, "waiting": 0.1}
    with ThreadPoolExecutor(2) as pool:
        for number, (key, seconds) in enumerate(requests.items(), 1):
            pool.submit(ask, server, "nap", key=key, seconds=seconds)
            before = until_it_runs(server, *["nap"] * number)
        killed(server)

    with Server(tmp_path / "home", [str(PROCESSES)], environment=environment) as again:
        answers = [ask(again, "nap", key=key, seconds=seconds) for key, seconds in requests.items()]
        with client(again) as http:
            after = [job["jobID"] for job in http.get("/jobs").json()["jobs"]]

    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, "rested")] * 2
    assert sorted(after) == sorted(before)


def test_a_job_that_nobody_waits_for_any_more_says_whether_it_began(tmp_path: Path) -> None:
    environment = {"GRATICULE_JOBS__WORKERS": "1"}
    server = Server(tmp_path / "home", [str(PROCESSES)], environment=environment).start()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(ask, server, "nap", seconds=20)
        (running,) = until_it_runs(server, "nap")
        pool.submit(ask, server, "nap", seconds=20)
        (waiting,) = set(until_it_runs(server, "nap", "nap")) - {running}
        killed(server)

    with Server(tmp_path / "home", [str(PROCESSES)], environment=environment) as again, client(again) as http:
        ran, waited = wait_for(http, running), wait_for(http, waiting)

    assert "stopped while the job ran" in ran["message"]
    assert "stopped before the job began" in waited["message"]
    assert "step" not in waited["exception"]


# --- wrong inputs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def http(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a server that fetches from this machine, on each kind of ledger."""
    environment = {"GRATICULE_SECURITY__ALLOW_PRIVATE_ADDRESSES": "true"}
    if request.param == "postgresql":
        environment["GRATICULE_DATABASE__URL"] = request.getfixturevalue("postgres").new_database()
    with Server(tmp_path_factory.mktemp("inputs") / "home", environment=environment) as server, client(server) as found:
        yield found


def created(http: httpx2.Client, process: str, **inputs: Any) -> str:
    body = {"process": process, "inputs": inputs}
    return job_of(http.post("/jobs", json=body, headers={"Prefer": 'status="created"'}))


def keyed(http: httpx2.Client, key: str, *, prefer: str = "wait=20", raster: Any = NO_RASTER) -> httpx2.Response:
    headers = {"Idempotency-Key": key, "Prefer": prefer}
    return http.post("/processes/raster-statistics/execution", json={"inputs": {"raster": raster}}, headers=headers)


@contextmanager
def slow_source() -> Iterator[str]:
    """Serve what is no raster, after a while."""

    class Source(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(1.5)
            self.send_response(200)
            self.send_header("Content-Type", "image/tiff")
            self.end_headers()
            self.wfile.write(b"no raster")

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = HTTPServer(("127.0.0.1", 0), Source)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/x.tif"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_failed_job_stays_when_somebody_waits_for_it_by_its_key(http: httpx2.Client) -> None:
    job = job_of(keyed(http, "asynchronous", prefer="respond-async"))
    wait_for(http, job, "failed")

    waited = keyed(http, "asynchronous")

    assert waited.status_code == 400
    assert http.get(f"/jobs/{job}").json()["status"] == "failed"


def test_a_created_job_stays_whose_inputs_are_wrong(http: httpx2.Client) -> None:
    job = created(http, "raster-statistics", raster=NO_RASTER)

    waited = http.post(f"/jobs/{job}/results", headers={"Prefer": "wait=20"})

    assert waited.status_code == 400
    assert http.get(f"/jobs/{job}").json()["status"] == "failed"


def test_a_job_stays_whose_address_is_told_while_somebody_waits_for_it(http: httpx2.Client) -> None:
    with slow_source() as address, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(keyed, http, "both", raster={"href": address})
        time.sleep(0.7)
        job = job_of(keyed(http, "both", prefer="respond-async", raster={"href": address}))
        waited = waiting.result()

    assert waited.status_code == 400
    assert wait_for(http, job)["status"] == "failed"
    assert http.get(f"/jobs/{job}/logs/process").status_code == 200


def test_nothing_stays_of_wrong_inputs_whose_job_nobody_knows(http: httpx2.Client) -> None:
    before = http.get("/jobs", params={"limit": 1000}).json()["jobs"]

    answers = [keyed(http, "refused"), run(http, "raster-statistics", raster=NO_RASTER), keyed(http, "refused")]

    assert [answer.status_code for answer in answers] == [400] * 3
    assert http.get("/jobs", params={"limit": 1000}).json()["jobs"] == before


def test_what_is_sent_again_by_a_key_that_was_refused_is_a_new_job(http: httpx2.Client) -> None:
    assert keyed(http, "anew").status_code == 400

    job = job_of(keyed(http, "anew", prefer="respond-async"))

    assert wait_for(http, job)["status"] == "failed"
