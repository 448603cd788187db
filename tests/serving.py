"""A real ``graticule serve`` in a process of its own, for tests, benchmarks and the official suite."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

ANSWERS = re.compile(r"^Graticule answers at (?P<url>http://\S+)$")
WORKS = re.compile(r"^Graticule works on \S+, [0-9]+ jobs at a time(; ask (?P<url>http://\S+) how it is)?$")
START_SECONDS = 30
STOP_SECONDS = 20
LOG_LINES = 80


class ServerDidNotStart(Exception):
    """The server ended, or stayed silent, before it said where it answers."""


class ServerDidNotStop(Exception):
    """The server outlived SIGTERM, left children behind, or ended with another code than 0."""


class Server:
    """``graticule serve`` on a home of its own and a free port; a context manager.

    Parameters
    ----------
    home : Path
        Its home folder; what it prints is kept beside it, in ``NAME.stdout`` and ``NAME.stderr``.
    arguments : sequence of str
        More arguments of ``graticule serve``, e.g. the file of a plug-in.
    environment : mapping of str to str
        Settings as variables, ``GRATICULE_JOBS__WORKERS``; those of the caller's own environment do not count.
    port : int
        0: a free one.
    open_files : tuple of int, optional
        How many files it may have open, and how many it may allow itself; default: as the caller.
    """

    def __init__(
        self,
        home: Path,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        open_files: tuple[int, int] | None = None,
    ) -> None:
        self._limited = ["prlimit", f"--nofile={open_files[0]}:{open_files[1]}"] if open_files else []
        self.home = home
        self.arguments = list(arguments)
        self.environment = dict(environment or {})
        self.port = port
        self.url = ""
        self._stderr = home.with_name(home.name + ".stderr")
        self._lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> subprocess.Popen[str]:
        """The server's process; there is one between `start` and `stop`."""
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    @property
    def pid(self) -> int:
        """The serving process's id."""
        return self.process.pid

    @property
    def output(self) -> str:
        """What it has printed on standard output."""
        return "\n".join(self._lines)

    @property
    def log(self) -> str:
        """What it has printed on standard error."""
        return self._stderr.read_text(encoding="utf-8", errors="replace") if self._stderr.exists() else ""

    def start(self) -> Self:
        """Start it and wait for the line with its address."""
        command = [*self._limited, sys.executable, "-m", "graticule", *self._command()]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GRATICULE_")}
        self.home.parent.mkdir(parents=True, exist_ok=True)
        self.url = ""
        with self._stderr.open("ab") as stderr:
            self._process = subprocess.Popen(
                command,
                env={**inherited, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        answered = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(answered,), daemon=True)
        self._reader.start()
        answered.wait(START_SECONDS)
        if not self.url:
            self.kill()
            raise ServerDidNotStart(f"{' '.join(command)}\n{self.output}\n{self.tail()}")
        return self

    def _command(self) -> list[str]:
        return ["serve", *self.arguments, "--home", str(self.home), "--port", str(self.port)]

    def _address(self, line: str) -> str:
        """Return where it answers, if a line says so."""
        found = ANSWERS.match(line)
        return found["url"].rstrip("/") if found else ""

    def stop(self) -> None:
        """End it by SIGTERM, which must leave exit code 0 and no process behind."""
        if self.process.poll() is not None:
            raise ServerDidNotStop(f"it had ended before, with code {self.process.returncode}\n{self.tail()}")
        below = psutil.Process(self.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerDidNotStop(f"it still ran {STOP_SECONDS} s after SIGTERM\n{self.tail()}") from None
        self._reader.join(STOP_SECONDS)
        _, left = psutil.wait_procs(below, timeout=3)
        _kill(left)
        if left:
            raise ServerDidNotStop(f"it left processes behind: {left}\n{self.tail()}")
        if code != 0:
            raise ServerDidNotStop(f"it ended with code {code} instead of 0\n{self.tail()}")

    def kill(self) -> None:
        """End it and all below it at once, without manners."""
        try:
            processes = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            processes = []
        _kill(processes)
        self.process.wait()
        self._reader.join(STOP_SECONDS)

    def tail(self) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.log.splitlines()[-LOG_LINES:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def _read(self, answered: threading.Event) -> None:
        """Keep what it prints, so that its pipe never fills."""
        stdout = self.process.stdout
        if stdout is None:
            raise RuntimeError("the server's standard output is a pipe")
        with stdout:
            for line in stdout:
                self._lines.append(line.rstrip("\n"))
                if not self.url and (url := self._address(line.strip())):
                    self.url = url
                    answered.set()
        answered.set()


class Worker(Server):
    """``graticule worker``: runs the jobs of servers with the same database; with a port it tells how it is."""

    def _command(self) -> list[str]:
        return ["worker", *self.arguments, "--home", str(self.home)]

    def _address(self, line: str) -> str:
        found = WORKS.match(line)
        return (found["url"] or "nowhere") if found else ""


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=5)
