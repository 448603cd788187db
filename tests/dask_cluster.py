"""A real Dask scheduler and its workers, each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import graticule

START_SECONDS = 30
ALL = bool(os.environ.get("GRATICULE_TEST_ALL"))


class DaskCluster:
    """A scheduler and one worker on this machine, to which a test may add others; a context manager.

    Parameters
    ----------
    folder : Path
        Where workers have their files; what all print goes there too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self._started = 0

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start_scheduler()
        self.start_worker()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            if process is not None:
                kill(process)

    def mend(self) -> None:
        """Start anew what a test has killed, so that there is one worker."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        for worker in self.workers[1:]:
            kill(worker)
        del self.workers[1:]
        if self.scheduler is None or self.scheduler.poll() is not None:
            self.start_scheduler()
        if not self.workers:
            self.start_worker()

    def start_scheduler(self) -> None:
        """Start the scheduler, at the same address each time."""
        arguments = ["dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--no-show"]
        self.scheduler = self._start("scheduler", arguments)
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.port):
            assert time.monotonic() < deadline, (self.folder / "scheduler.log").read_text()
            time.sleep(0.05)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker and wait until the scheduler knows it; it takes two jobs, and is one process."""
        self._started += 1
        name = f"worker-{self._started}"
        arguments = [
            *("dask_worker", self.address, "--host", "127.0.0.1", "--nworkers", "1", "--nthreads", "4", "--no-nanny"),
            *("--no-dashboard", "--name", name, "--local-directory", str(self.folder), "--resources", "graticule=2"),
        ]
        worker = self._start(name, arguments)
        self.workers.append(worker)
        log, deadline = self.folder / f"{name}.log", time.monotonic() + START_SECONDS
        while "Registered to" not in log.read_text():
            assert worker.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        return worker

    def _start(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        """Start a part of Dask, as a machine has it that knows no setting of ours."""
        module, *rest = arguments
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GRATICULE_")}
        environment["PYTHONPATH"] = str(Path(graticule.__file__).parents[1])
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *rest],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )


def only_in_test_all(test: Callable[..., Any]) -> Callable[..., Any]:
    """Leave a long test to ``make test-all``."""
    test.__test__ = ALL  # type: ignore[attr-defined]
    return test


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process at once, if it still lives; what is below it is its own care."""
    process.kill()
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
