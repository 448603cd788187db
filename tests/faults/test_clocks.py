"""Somebody sets the clock of a machine while jobs run."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from tests.faults.asking import ended, send, wait_until
from tests.faults.conftest import client_of
from tests.faults.kills import read_marks
from tests.postgres import Postgres
from tests.serving import Server, Worker

MARKING = str(Path(__file__).with_name("marking.py"))
STEPPING = Path(__file__).with_name("stepping")
HOUR_S = 3600
JOBS = 6
LEASE_S = 4


def stepping(seconds: int) -> dict[str, str]:
    """Return the environment of a process whose clock is set by so many seconds at SIGUSR1."""
    return {"STEP_S": str(seconds), "PYTHONPATH": os.pathsep.join([str(STEPPING), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])
def test_a_clock_that_is_set_on_one_of_several_machines_has_no_job_begin_twice(
    postgres: Postgres, tmp_path: Path, step_s: int
) -> None:
    marks, url = tmp_path / "marks", postgres.new_database()
    settings = {
        "GRATICULE_DATABASE__URL": url,
        "GRATICULE_STORAGE__FOLDER": str(tmp_path / "storage"),
        "GRATICULE_JOBS__LEASE_S": str(LEASE_S),
    }
    few, none = {**settings, "GRATICULE_JOBS__WORKERS": "3"}, {**settings, "GRATICULE_JOBS__WORKERS": "0"}
    with ExitStack() as stack:
        server = stack.enter_context(Server(tmp_path / "server", [MARKING], environment=none))
        http = stack.enter_context(client_of(server))
        stack.enter_context(Worker(tmp_path / "steady", [MARKING], environment=few))
        moved = stack.enter_context(Worker(tmp_path / "moved", [MARKING], environment={**few, **stepping(step_s)}))
        time.sleep(LEASE_S)  # from now on each looks for the jobs of lost ones
        jobs = [send(http, "marking", name=f"job-{n}", seconds=2.5 * LEASE_S, marks=str(marks)) for n in range(JOBS)]
        wait_until(lambda: marks.exists() and len(read_marks(marks)) == JOBS, seconds=10)
        with psycopg.connect(url) as database:
            agents = database.execute("SELECT DISTINCT agent FROM jobs").fetchall()

        os.kill(moved.pid, signal.SIGUSR1)
        found = [ended(http, job, seconds=40) for job in jobs]

    assert len(agents) == 2
    assert [job["status"] for job in found] == ["successful"] * JOBS
    assert {name: [one.what for one in found].count("begin") for name, found in read_marks(marks).items()} == {
        f"job-{number}": 1 for number in range(JOBS)
    }
    assert all(job["created"] <= job["started"] <= job["finished"] for job in found)
    assert all(time.time() - HOUR_S / 2 < _moment(job["finished"]) < time.time() + HOUR_S / 2 for job in found)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
