"""However a job ends, and whoever is killed: nothing that it started goes on, and no status flips back."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

import graticule
from tests.faults import silence
from tests.faults.asking import beats, ended, execute, leftovers, living, send, wait_until
from tests.faults.conftest import FAULTY, client_of
from tests.serving import Server


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Server]:
    """A server that a test may kill."""
    server = Server(tmp_path / "home", [str(FAULTY)]).start()
    yield server
    server.kill()
    for process in living(server.home):
        process.kill()


def begin_stubborn(http: httpx2.Client, heartbeat: Path) -> str:
    """Have a job run that ignores SIGTERM, and whose grandchild has detached itself."""
    job = send(http, "stubborn", heartbeat=str(heartbeat))
    wait_until(heartbeat.exists)
    return job


def test_a_dismissed_job_is_silent_within_three_seconds_and_stays_dismissed(tmp_path: Path) -> None:
    figures = silence.run(tmp_path, jobs=10 if os.environ.get("GRATICULE_TEST_ALL") else 1)

    print(figures)
    assert max(figures.silent_after_s) <= silence.SILENT_S
    assert set(figures.statuses) == {"dismissed"}
    assert not figures.left


def test_after_a_dismissed_job_the_next_one_is_well(running: Server, tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    with client_of(running) as http:
        job = begin_stubborn(http, heartbeat)
        assert beats(heartbeat)

        assert http.delete(f"/jobs/{job}").json()["status"] == "dismissed"

        wait_until(lambda: not beats(heartbeat), seconds=silence.SILENT_S)
        wait_until(lambda: not leftovers(running.home))
        assert execute(http, "well").json() == "well"
    assert len(living(running.home)) <= 2, "the fork server, and the job process that is kept"


@pytest.mark.parametrize(("how", "status"), [("", "successful"), ("raise", "failed"), ("be killed", "failed")])
def test_what_a_job_leaves_behind_is_gone_when_its_end_is_told(
    running: Server, tmp_path: Path, how: str, status: str
) -> None:
    heartbeat = tmp_path / "heartbeat"
    with client_of(running) as http:
        assert ended(http, send(http, "forsaken", heartbeat=str(heartbeat), how=how))["status"] == status

        assert not beats(heartbeat)
        assert not leftovers(running.home)


def test_a_job_above_its_time_limit_is_silent_too(running: Server, tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    with client_of(running) as http:
        job = send(http, "stubborn", {"timeLimitS": 1}, heartbeat=str(heartbeat))

        assert ended(http, job)["exception"]["cause"] == "time limit"
        assert not beats(heartbeat)


def test_nothing_outlives_a_server_that_is_killed(running: Server, tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    with client_of(running) as http:
        begin_stubborn(http, heartbeat)

    os.kill(running.pid, signal.SIGKILL)

    wait_until(lambda: not living(running.home), seconds=3)
    assert not beats(heartbeat)


@pytest.mark.parametrize("process", ["stubborn", "hidden"])
def test_nothing_outlives_a_fork_server_that_is_killed_and_its_jobs_are_lost(tmp_path: Path, process: str) -> None:
    heartbeat = tmp_path / "heartbeat"
    once = {"GRATICULE_JOBS__MAX_ATTEMPTS": "1"}
    with Server(tmp_path / "home", [str(FAULTY)], environment=once) as running, client_of(running) as http:
        children = psutil.Process(running.pid).children()
        (forkserver,) = [one for one in children if "forkserver" in " ".join(one.cmdline())]
        job = send(http, process, heartbeat=str(heartbeat))
        wait_until(heartbeat.exists)

        forkserver.kill()

        problem = ended(http, job, seconds=10)["exception"]
        assert problem["cause"] == "lost worker"
        assert problem["step"] == "run"
        wait_until(lambda: not beats(heartbeat))
        assert not leftovers(running.home)
        wait_until(lambda: len(psutil.Process(running.pid).children()) == 1)  # the new fork server; no zombies
        assert execute(http, "well").json() == "well"


def test_a_server_ends_what_outlived_the_one_before_it(running: Server, tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    (forkserver,) = [one for one in psutil.Process(running.pid).children() if "forkserver" in " ".join(one.cmdline())]
    with client_of(running) as http:
        begin_stubborn(http, heartbeat)
    forkserver.suspend()  # as if both were killed at the same moment
    os.kill(running.pid, signal.SIGKILL)
    forkserver.kill()
    running.process.wait()
    wait_until(lambda: len(living(running.home)) == 1)  # the job's process ends with its parent, a moment later
    (grandchild,) = living(running.home)

    with Server(running.home, [str(FAULTY)]) as second:
        assert grandchild not in living(running.home)
        assert "processes of jobs of an earlier server still ran" in second.log


def test_the_python_of_a_process_ends_with_its_server_too(tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    python = tmp_path / "python"
    place = Path(graticule.__file__).parents[1]
    python.write_text(f'#!/bin/sh\nPYTHONPATH={place} exec {sys.executable} "$@"\n')
    python.chmod(0o700)
    (tmp_path / "graticule.toml").write_text(f'[processes.stubborn]\npython = "{python}"\n')
    server = Server(tmp_path / "home", [str(FAULTY), "--config", str(tmp_path / "graticule.toml")]).start()
    try:
        with client_of(server) as http:
            begin_stubborn(http, heartbeat)
    finally:
        server.process.kill()
        server.process.wait()

    wait_until(lambda: not living(server.home), seconds=3)
    assert not beats(heartbeat)
