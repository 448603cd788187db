"""Start what is measured: Graticule, pygeoapi under its production server, PostgreSQL for it, and the bound.

The peers' configuration, the bound and the load tools are not part of this checkout: they lie in the folder that
``BENCH_PEERS`` names (default ``../shared/tools/perf``). pygeoapi and what the bound needs live in the environment
whose Python is named by ``--peers-python`` (``make bench`` makes it: ``.venv-pygeoapi``).
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEERS = Path(os.environ.get("BENCH_PEERS", ROOT.parent / "shared" / "tools" / "perf")).resolve()

if not (PEERS / "perfcommon.py").is_file():
    raise SystemExit(f"the peers' scripts are missing: {PEERS}; name their folder by BENCH_PEERS")
sys.path.insert(0, str(PEERS))

from perfcommon import Client, ServerProc, children, loop_run, tree_rss, wrk  # noqa: E402 - found by the line above

__all__ = [
    "PEERS", "Client", "Running", "ServerProc", "bound", "children", "graticule", "loop_run", "options", "postgresql",
    "pygeoapi", "tree_rss", "verdict", "wrk",
]  # fmt: skip


def options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all measurements share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--peers-python", type=lambda text: Path(text).absolute(), default=ROOT / ".venv-pygeoapi" / "bin" / "python"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each figure is taken, in turn")
    return parser


def verdict(reached: bool) -> str:
    """Say beside a figure how it stands to its bar; nothing else follows from it."""
    return "reached" if reached else "MISSED"


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    pid: int
    start_seconds: float
    """From exec to the first answer on ``/conformance``."""


@contextmanager
def serving(command: str, port: int, *, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run a server until the block ends; its log is shown when it does not start."""
    url = f"http://127.0.0.1:{port}"
    server = ServerProc(command, f"{url}/conformance", env=environment, log=str(log), cwd=str(log.parent))
    try:
        server.start()
    except RuntimeError as error:
        server.stop()
        raise SystemExit(f"{error}\n{log.read_text(errors='replace')[-4000:]}") from error
    try:
        yield Running(url, server.pid, server.startup)
    finally:
        server.stop()


@contextmanager
def graticule(
    *arguments: str, home: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run our server, on a fresh home unless one is given."""
    with tempfile.TemporaryDirectory(prefix="bench-graticule-") as folder:
        port = free_port()
        place = f"--home {home or Path(folder) / 'home'} --port {port}"
        command = f"{sys.executable} -m graticule serve {' '.join(arguments)} {place}"
        with serving(command, port, log=Path(folder) / "log", environment=environment) as running:
            yield running


@contextmanager
def bound(python: Path, *, synchronous: str) -> Iterator[Running]:
    """Run the bound: a minimal program without validation, links or negotiation, on a fresh store."""
    with tempfile.TemporaryDirectory(prefix="bench-bound-") as folder:
        port = free_port()
        environment = {
            "BOUND_DB": f"{folder}/jobs.db",
            "BOUND_SYNC": synchronous,
            "PYTHONPATH": str(PEERS / "peers"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = f"{python} -m uvicorn --port {port} --no-access-log bound_server:app"
        with serving(command, port, log=Path(folder) / "log", environment=environment) as running:
            yield running


@contextmanager
def pygeoapi(python: Path, *, workers: str, database: str | None = None) -> Iterator[Running]:
    """Run pygeoapi under gunicorn on a fresh store: TinyDB, its default, or the PostgreSQL of `postgresql`."""
    with tempfile.TemporaryDirectory(prefix="bench-pygeoapi-") as folder:
        port = free_port()
        manager = ["--manager", "postgres", "--pg", database] if database else ["--manager", "tinydb"]
        setup = [python, PEERS / "peers" / "pygeoapi_setup.py", folder, "--port", str(port), *manager]
        done = subprocess.run(setup, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"pygeoapi's set-up failed:\n{done.stdout}{done.stderr}")
        environment = {
            "PYGEOAPI_CONFIG": f"{folder}/config.yml",
            "PYGEOAPI_OPENAPI": f"{folder}/openapi.yml",
            "PYTHONPATH": folder,
        }
        command = f"{python} -m gunicorn {workers} --bind 127.0.0.1:{port} pygeoapi.flask_app:APP"
        with serving(command, port, log=Path(folder) / "log", environment=environment) as running:
            yield running


@contextmanager
def postgresql() -> Iterator[str]:
    """Run Debian's PostgreSQL with its default settings, not as root; yield ``HOST:PORT:DATABASE:USER``."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        raise SystemExit("Debian's package postgresql is missing")
    binaries = programs[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="bench-postgresql-"))
    owner: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
        owner |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    data, port = folder / "data", free_port()
    address = ["--host", "127.0.0.1", "--port", str(port), "--username", "postgres"]
    subprocess.run([binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres"], check=True, **owner)
    listen = ["-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]
    server = subprocess.Popen([binaries / "postgres", "-D", data, *listen], **owner)
    try:
        for _ in range(100):
            if subprocess.run([binaries / "pg_isready", *address], check=False, **owner).returncode == 0:
                break
            time.sleep(0.1)
        subprocess.run([binaries / "createdb", *address, "pygeoapi"], check=True, **owner)
        yield f"127.0.0.1:{port}:pygeoapi:postgres"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
