"""A real Dask scheduler and its workers, each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import psutil

import graticule

START_SECONDS = 30


class DaskCluster:
    """A scheduler and workers on this machine; a context manager.

    Parameters
    ----------
    folder : Path
        Where workers have their files; what all print goes there too.
    workers : int
        How many workers there are at first.
    places : int
        Jobs that each of them may run at the same time.
    """

    def __init__(self, folder: Path, *, workers: int = 1, places: int = 2) -> None:
        self.folder = folder
        self.places = places
        self.port = _free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler: psutil.Popen | None = None
        self.workers: list[psutil.Popen] = []
        self._wanted = workers

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start_scheduler()
        for _ in range(self._wanted):
            self.start_worker()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            if process is not None:
                kill(process)

    def start_scheduler(self) -> None:
        """Start the scheduler, at the same address each time."""
        arguments = ["dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--no-show"]
        self.scheduler = self._start("scheduler", arguments)
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.port):
            assert time.monotonic() < deadline, (self.folder / "scheduler.log").read_text()
            time.sleep(0.05)

    def start_worker(self, *more: str) -> psutil.Popen:
        """Start a worker and wait until the scheduler knows it; it is one process, without a nanny."""
        name = f"worker-{len(self.workers)}"
        resources = ["--resources", f"graticule={self.places}"] if self.places else []
        arguments = [
            *("dask_worker", self.address, "--host", "127.0.0.1", "--nworkers", "1", "--nthreads", "4", "--no-nanny"),
            *("--no-dashboard", "--name", name, "--local-directory", str(self.folder), *resources, *more),
        ]
        worker = self._start(name, arguments)
        self.workers.append(worker)
        log, deadline = self.folder / f"{name}.log", time.monotonic() + START_SECONDS
        while "Registered to" not in log.read_text():
            assert worker.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        return worker

    def _start(self, name: str, arguments: list[str]) -> psutil.Popen:
        """Start a part of Dask, as a machine has it that knows no setting of ours."""
        module, *rest = arguments
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GRATICULE_")}
        environment["PYTHONPATH"] = str(Path(graticule.__file__).parents[1])
        with (self.folder / f"{name}.log").open("ab") as log:
            return psutil.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *rest],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )


def kill(process: psutil.Popen) -> None:
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
