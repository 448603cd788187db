"""What the tests of faults ask a server, and see on its machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil

ENDED = ("successful", "failed", "dismissed")


def execute(http: httpx2.Client, process: str, prefer: str = "", **inputs: Any) -> httpx2.Response:
    """Run a process."""
    headers = {"Prefer": prefer} if prefer else {}
    return http.post(f"/processes/{process}/execution", json={"inputs": inputs}, headers=headers)


def send(http: httpx2.Client, process: str, limits: dict[str, float] | None = None, **inputs: Any) -> str:
    """Send a job and return its identifier."""
    body = {"inputs": inputs, "limits": limits}
    answer = http.post(f"/processes/{process}/execution", json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobID"])


def ended(http: httpx2.Client, job: str, seconds: float = 20) -> dict[str, Any]:
    """Wait for the end of a job and return its status."""
    return has_status(http, job, *ENDED, seconds=seconds)


def has_status(http: httpx2.Client, job: str, *statuses: str, seconds: float = 20) -> dict[str, Any]:
    """Wait until a job has one of some statuses, and return its document."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status: dict[str, Any] = http.get(f"/jobs/{job}").json()
        if status["status"] in statuses:
            return status
        time.sleep(0.02)
    raise AssertionError(f"job {job} is not {statuses}: {status}")


def wait_until(holds: Callable[[], Any], seconds: float = 5) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def leftovers(home: Path) -> list[str]:
    """Return what jobs have left in the scratch folder."""
    return [path.name for path in (home / "scratch" / "jobs").iterdir()]


def living(home: Path) -> list[psutil.Process]:
    """Return the processes of a server's jobs, its fork server among them, wherever they are."""
    mark = str((home / "scratch").resolve())
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("JOB_PROCESS_OF") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def beats(heartbeat: Path, seconds: float = 0.3) -> bool:
    """Return whether something goes on writing a heartbeat."""
    before = heartbeat.read_text()
    time.sleep(seconds)
    return heartbeat.read_text() != before
