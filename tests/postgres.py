"""A real PostgreSQL server for tests, from Debian's package ``postgresql``, on a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg

START_SECONDS = 30


class Postgres:
    """PostgreSQL with its default settings, on loopback; a context manager. It never runs as root."""

    def __init__(self) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not programs:
            raise RuntimeError("PostgreSQL is missing; `make test` installs Debian's package postgresql")
        self._binaries = programs[-1].parent
        self.folder = Path(tempfile.mkdtemp(prefix="graticule-postgresql-"))
        self._owner: dict[str, Any] = {"cwd": self.folder}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._owner |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._server: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def __enter__(self) -> Self:
        command = [self._binaries / "initdb", "-D", self.folder / "data", "-A", "trust", "-U", "graticule"]
        subprocess.run(command, check=True, capture_output=True, **self._owner)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self.thaw()
            self._server.send_signal(signal.SIGINT)  # fast shutdown: it does not wait for its clients
            self._server.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server, or start it again after `kill`."""
        end = time.monotonic() + START_SECONDS
        while True:
            if self._server is None or self._server.poll() is not None:
                self._run()  # children of a killed server may still be there, and it refuses to start beside them
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=1).close()
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
            else:
                return

    def _run(self) -> None:
        listen = ["-p", str(self.port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1"]
        command = [self._binaries / "postgres", "-D", self.folder / "data", *listen]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log, **self._owner)

    def kill(self) -> None:
        """Kill the server with -9; its children end when they notice."""
        assert self._server is not None
        self._server.kill()
        self._server.wait()
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let the server do nothing any more: connections stay, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on where it stopped."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._server is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._server.pid)
            for process in (server, *server.children()):
                process.send_signal(number)

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://graticule@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Return the address of a new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)
