"""The database does not answer, and nobody says that it is gone."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx2

from tests.faults.asking import ended, execute, send, wait_until
from tests.faults.conftest import client_of
from tests.faults.kills import read_marks
from tests.postgres import Postgres
from tests.serving import Server

MARKING = str(Path(__file__).with_name("marking.py"))
FROZEN_S = 22.0
PATIENCE_S = 8.0
"""Seconds within which every request is answered."""
LINES = 3
"""Of one kind in the log, at most: when it begins, and every ten seconds."""


def test_nobody_waits_without_end_for_a_frozen_database(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with Postgres() as postgres, ThreadPoolExecutor(8) as pool:
        settings = {"GRATICULE_DATABASE__URL": postgres.new_database(), "GRATICULE_JOBS__WORKERS": "1"}
        with Server(tmp_path / "home", [MARKING], environment=settings) as server, client_of(server) as http:
            jobs = [send(http, "marking", name=name, seconds=1.0, marks=str(marks)) for name in ("runs", "waits")]
            wait_until(marks.exists)
            later = {"name": "refused", "seconds": 0, "marks": str(marks)}

            postgres.freeze()
            began = time.monotonic()
            asked = {
                "health": pool.submit(timed, partial(http.get, "/health")),
                "ready": pool.submit(timed, partial(http.get, "/health/ready")),
                "list": pool.submit(timed, partial(http.get, "/jobs")),
                "status": pool.submit(timed, partial(http.get, f"/jobs/{jobs[0]}")),
                "async": pool.submit(timed, partial(execute, http, "marking", "respond-async", **later)),
                "sync": pool.submit(timed, partial(execute, http, "marking", **later)),
                "dismissal": pool.submit(timed, partial(http.delete, f"/jobs/{jobs[1]}")),
            }
            found = {name: answer.result() for name, answer in asked.items()}
            while time.monotonic() < began + FROZEN_S:  # clients ask again and again
                timed(partial(execute, http, "marking", "respond-async", **later))
            postgres.thaw()

            ends = [ended(http, job, seconds=30)["status"] for job in jobs]
            assert execute(http, "marking", name="next", seconds=0, marks=str(marks)).json() == "next"
            wait_until(lambda: http.get("/health/ready").status_code == 200, seconds=10)
            listed = http.get("/jobs").json()["jobs"]
            log = server.log

    refused = {name: answer for name, (answer, _) in found.items() if name not in ("health", "ready")}
    assert {name: answer.status_code for name, answer in refused.items()} == dict.fromkeys(refused, 503)
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused.values())
    assert max(took for _, took in found.values()) < PATIENCE_S, found
    assert found["health"][1] < 3
    assert found["ready"][1] < 3
    assert found["ready"][0].status_code == 503
    assert ends == ["successful"] * 2
    assert len(listed) == len(jobs) + 1  # none of those that were refused
    begun = {name: [one.what for one in entries].count("begin") for name, entries in read_marks(marks).items()}
    assert begun == {"runs": 1, "waits": 1, "next": 1}
    errors = Counter(line.partition("]")[2].split(":")[0] for line in log.splitlines() if "cannot be" in line)
    assert max(errors.values()) <= LINES, errors
    assert "it is over" in log


def timed(ask: partial[httpx2.Response]) -> tuple[httpx2.Response, float]:
    """Return an answer, and the seconds until it came."""
    began = time.monotonic()
    return ask(), time.monotonic() - began
