"""Start what is measured: Graticule, pygeoapi under its production server, wraptile, PostgreSQL, and the bound.

The peers' configuration, the bound and the load tools are not part of this checkout: they lie in the folder that
``BENCH_PEERS`` names (default ``../shared/tools/perf``). pygeoapi, wraptile and what the bound needs live in the
environment whose Python is named by ``--peers-python`` (``make bench`` makes it: ``.venv-pygeoapi``).
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
PEERS = Path(os.environ.get("BENCH_PEERS", ROOT.parent / "shared" / "tools" / "perf")).resolve()

if not (PEERS / "perfcommon.py").is_file():
    raise SystemExit(f"the peers' scripts are missing: {PEERS}; name their folder by BENCH_PEERS")
sys.path[:0] = [str(PEERS), str(ROOT)]

from perfcommon import Client, ServerProc, children, loop_run, tree_rss, wrk  # noqa: E402 - found by the line above

from tests.postgres import Postgres  # noqa: E402

__all__ = [
    "PEERS", "Client", "Postgres", "Running", "ServerProc", "address_of", "bound", "children", "graticule", "loop_run",
    "options", "p95", "pygeoapi", "times_ms", "tree_rss", "verdict", "wraptile", "wrk",
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


async def times_ms(server: Running, paths: Iterable[str], headers: Mapping[str, str] | None = None) -> list[float]:
    """Return how long each path took, one after the other."""
    client, taken = Client(server.url, timeout=120), []
    for path in paths:
        begin = time.perf_counter()
        status, _, body = await client.request("GET", path, headers=headers)
        taken.append((time.perf_counter() - begin) * 1000)
        if status != 200:
            raise SystemExit(f"{path}: {status} {body[:500]!r}")
    await client.close()
    return taken


def p95(values: list[float]) -> float:
    """Return the value that 95 of 100 stay under."""
    return quantiles(values, n=20)[-1]


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
    """Run pygeoapi under gunicorn on a fresh store: TinyDB, its default, or a PostgreSQL database."""
    with tempfile.TemporaryDirectory(prefix="bench-pygeoapi-") as folder:
        port = free_port()
        manager = ["--manager", "postgres", "--pg", address_of(database)] if database else ["--manager", "tinydb"]
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
def wraptile(python: Path) -> Iterator[Running]:
    """Run wraptile in its faster set-up, with threads; it keeps its jobs in memory alone."""
    with tempfile.TemporaryDirectory(prefix="bench-wraptile-") as folder:
        port = free_port()
        environment = {"PYTHONPATH": str(PEERS / "peers"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = f"{python.with_name('wraptile')} run --port {port} -- wraptile_service:service --max-workers=2"
        with serving(command, port, log=Path(folder) / "log", environment=environment) as running:
            yield running


def address_of(database: str) -> str:
    """Return a database's address as pygeoapi's set-up wants it: ``HOST:PORT:DATABASE:USER``."""
    parts = urlsplit(database)
    return f"{parts.hostname}:{parts.port}:{parts.path[1:]}:{parts.username}"
