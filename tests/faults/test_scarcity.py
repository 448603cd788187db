"""What a server lacks for a while is no fault of its jobs: they wait, it says what and why, and none is lost."""

from __future__ import annotations

import resource
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.faults.asking import ended, execute, has_status, leftovers, send, wait_until
from tests.faults.conftest import client_of
from tests.serving import Server

SCARCE = str(Path(__file__).with_name("scarce.py"))
SOFT, HARD = 200, 256
FOLLOWERS = HARD // 4


@contextmanager
def connected(server: Server, many: int, request: str = "") -> Iterator[list[socket.socket]]:
    """Hold connections, each with one request."""
    place = httpx2.URL(server.url)
    assert place.port is not None
    connections = []
    try:
        for _ in range(many):
            connections.append(socket.create_connection((place.host, place.port), timeout=10))
            connections[-1].sendall(request.encode())
        yield connections
    finally:
        for one in connections:
            one.close()


def received(connection: socket.socket) -> str:
    """Return what is answered: a refusal whole, of a stream its beginning."""
    answer = connection.recv(4096)
    while answer.startswith(b"HTTP/1.1 503") and (more := connection.recv(4096)):
        answer += more
    return answer.decode()


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Server]:
    """A server that may have few files open, connections among them."""
    with Server(tmp_path / "home", [SCARCE], open_files=(SOFT, HARD)) as server:
        yield server


def test_more_followers_than_there_are_files_are_told_to_come_later_and_jobs_run_on(limited: Server) -> None:
    with client_of(limited) as http:
        assert resource.prlimit(limited.pid, resource.RLIMIT_NOFILE) == (HARD, HARD)
        assert execute(http, "open-files").json() == SOFT, "a job has the limit that the server was started with"
        job = send(http, "ticking", seconds=4)
        has_status(http, job, "running")

        asked = f"GET /jobs/{job}/events HTTP/1.1\r\nHost: {httpx2.URL(limited.url).netloc.decode()}\r\n\r\n"
        with connected(limited, HARD + 50, asked) as connections:
            answers = [received(one) for one in connections]

            refused = [answer for answer in answers if answer.startswith("HTTP/1.1 503")]
            assert sum(answer.startswith("HTTP/1.1 200") for answer in answers) == FOLLOWERS
            assert len(refused) == len(answers) - FOLLOWERS
            for answer in refused:
                assert "retry-after: 10" in answer.lower()
                assert "application/problem+json" in answer
                assert f"{FOLLOWERS} clients follow" in answer
            assert execute(http, "scarce-greeting").json() == "hello"
            assert http.get("/health").status_code == 200

        assert ended(http, job)["status"] == "successful"
        wait_until(lambda: http.get(f"/jobs/{job}/events").status_code == 200)
    assert "Traceback" not in limited.log


def test_a_job_waits_while_no_file_can_be_opened_for_its_process(limited: Server) -> None:
    with client_of(limited) as http:
        http.get("/health")
        with connected(limited, HARD):
            wait_until(lambda: psutil.Process(limited.pid).num_fds() >= HARD - 4)
            job = send(http, "scarce-greeting")
            time.sleep(1)
            status, health = http.get(f"/jobs/{job}").json(), http.get("/health")

            assert status["status"] == "accepted"
            assert "Too many open files" in status["message"]
            assert health.status_code == 503
            reason = health.json()["parts"]["executor"]["reason"]
            assert "Too many open files" in reason
            assert "ulimit -n" in reason

        after = ended(http, job)
        assert after["status"] == "successful"
        assert "attempts" not in after
        wait_until(lambda: http.get("/health").status_code == 200)
    assert "Traceback" not in limited.log


def test_a_scratch_folder_that_somebody_has_removed_is_made_again(tmp_path: Path) -> None:
    with Server(tmp_path / "home", [SCARCE]) as server, client_of(server) as http:
        assert execute(http, "scarce-greeting").json() == "hello"
        runs = send(http, "ticking", seconds=2)
        has_status(http, runs, "running")
        time.sleep(0.5)

        shutil.rmtree(server.home / "scratch")

        assert execute(http, "scarce-greeting").json() == "hello"
        assert execute(http, "open-files").status_code == 200
        assert ended(http, runs)["status"] == "successful", "what lost its files was tried again"
        assert "attempts" in http.get(f"/jobs/{runs}").json()
        assert http.get("/health").status_code == 200
        wait_until(lambda: not leftovers(server.home))


def test_a_scratch_folder_that_cannot_be_made_again_blames_no_process(tmp_path: Path) -> None:
    with Server(tmp_path / "home", [SCARCE]) as server, client_of(server) as http:
        assert execute(http, "scarce-greeting").json() == "hello"
        scratch = server.home / "scratch"
        shutil.rmtree(scratch)
        scratch.write_text("in the way")

        job = send(http, "scarce-greeting")
        time.sleep(1)
        status, health = http.get(f"/jobs/{job}").json(), http.get("/health")
        scratch.unlink()

        assert status["status"] == "accepted"
        assert "scratch" in health.json()["parts"]["executor"]["reason"]
        assert ended(http, job)["status"] == "successful"


@pytest.mark.parametrize("ends", [False, True], ids=["prints on", "ends by itself"])
def test_no_more_of_a_log_is_kept_than_its_limit(tmp_path: Path, ends: bool) -> None:
    environment = {"GRATICULE_JOBS__LOG_LIMIT_MIB": "3"}
    with Server(tmp_path / "home", [SCARCE], environment=environment) as server, client_of(server) as http:
        job = send(http, "flooding", mebibytes=8 if ends else 100_000)

        status = ended(http, job)
        text = http.get(f"/jobs/{job}/logs/process").text
        stored = sum(path.stat().st_size for path in (server.home / "storage").rglob("*") if path.is_file())

        assert status["status"] == ("successful" if ends else "failed")
        assert 3 << 20 < len(text) < (3 << 20) + 100
        assert text.endswith("[what was printed beyond the limit of 3 MiB was not kept]\n")
        assert stored < 3.5 * (1 << 20)
        if not ends:
            assert status["exception"]["cause"] == "disk limit"
            assert "log is 3 MiB" in status["exception"]["detail"]
