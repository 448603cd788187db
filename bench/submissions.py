"""Executions and submissions of hello-world per second, by 8 connections, beside the peers, in turn, in one run.

A submission of Graticule, of pygeoapi and of the bound is durable when it is acknowledged; wraptile keeps its jobs in
memory. The clock judges nothing here: the figures and their ratios are printed, the exit status is 0.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rounds import Bar, Start, report
from servers import Client, Postgres, Running, bound, graticule, loop_run, options, pygeoapi, wraptile
from stores import fill_postgresql, fill_sqlite

CONNECTIONS = 8
WARM_UP = 24
SYNC, ASYNC = "sync executions", "async submissions"
FULL = "async submissions, with stored jobs"
SQLITE, POSTGRESQL = "graticule SQLite", "graticule PostgreSQL"
BARS = (
    Bar(SYNC, "pygeoapi TinyDB", 10, SQLITE),
    Bar(SYNC, "pygeoapi PostgreSQL", 4, SQLITE),
    Bar(SYNC, "bound NORMAL", 0.5, SQLITE),
    Bar(SYNC, "bound FULL", 0.5, SQLITE),
    Bar(SYNC, "pygeoapi PostgreSQL", 1.5, POSTGRESQL),
    Bar(ASYNC, "pygeoapi TinyDB", 15, SQLITE),
    Bar(ASYNC, "pygeoapi PostgreSQL", 6, SQLITE),
    Bar(ASYNC, "wraptile", 1.2, SQLITE),
    Bar(ASYNC, "bound NORMAL", 0.5, SQLITE),
    Bar(ASYNC, "bound FULL", 0.5, SQLITE),
    Bar(ASYNC, "pygeoapi PostgreSQL", 4, POSTGRESQL),
    Bar(FULL, SQLITE, 0.9, SQLITE, of_figure=ASYNC),
    Bar(FULL, POSTGRESQL, 0.9, POSTGRESQL, of_figure=ASYNC),
)


async def executions(server: Running, count: int, headers: dict[str, str]) -> float:
    """Return executions of hello-world per second over `CONNECTIONS` connections; the first ones do not count."""
    names = iter(f"name-{number}" for number in range(count))

    async def one(client: Client, name: str) -> None:
        sent = json.dumps({"inputs": {"name": name}}).encode()
        status, _, answer = await client.request("POST", "/processes/hello-world/execution", sent, headers)
        if status not in {200, 201} or (not headers and name.encode() not in answer):
            raise SystemExit(f"{server.url} answered {status}: {answer[:300]!r}")

    async def connection(client: Client) -> None:
        for name in names:
            await one(client, name)

    clients = [Client(server.url, timeout=120) for _ in range(CONNECTIONS)]
    for _ in range(WARM_UP // CONNECTIONS):
        await asyncio.gather(*(one(client, "warm-up") for client in clients))
    begin = time.perf_counter()
    await asyncio.gather(*map(connection, clients))
    taken = time.perf_counter() - begin
    for client in clients:
        await client.close()
    return count / taken


@contextmanager
def on_sqlite(stored: int = 0) -> Iterator[Running]:
    """Run our server on a fresh home whose ledger has so many jobs."""
    with tempfile.TemporaryDirectory(prefix="bench-submissions-") as folder:
        home = Path(folder) / "home"
        fill_sqlite(home, stored)
        with graticule(home=home) as server:
            yield server


@contextmanager
def on_postgresql(postgres: Postgres, stored: int = 0) -> Iterator[Running]:
    """Run our server on a fresh database that has so many jobs."""
    database = postgres.new_database()
    fill_postgresql(database, stored)
    with graticule(environment={"GRATICULE_DATABASE__URL": database}) as server:
        yield server


def measure(starts: dict[tuple[str, str], Start], arguments: argparse.Namespace) -> dict[tuple[str, str], list[float]]:
    """Return every figure of every server: ``(figure, server) -> one value a round``."""
    figures: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(arguments.rounds):
        for (figure, name), start in starts.items():
            headers = {} if figure == SYNC else {"Prefer": "respond-async"}
            with start() as server:
                value = loop_run(executions(server, arguments.jobs, headers))
            figures[figure, name].append(value)
            print(f"round {number + 1}: {figure:38} {name:32} {value:8.0f} per second", flush=True)
    return figures


def all_starts(postgres: Postgres, arguments: argparse.Namespace) -> dict[tuple[str, str], Start]:
    """Return how to start each server, by what is measured and its name, in the order of a round."""
    python = arguments.peers_python
    ours = functools.partial(on_postgresql, postgres)
    gevent, database = "--worker-class gevent --workers", postgres.new_database()
    peers: dict[str, Start] = {
        "pygeoapi TinyDB, gevent x1": functools.partial(pygeoapi, python, workers=f"{gevent} 1"),
        "pygeoapi TinyDB, gevent x2": functools.partial(pygeoapi, python, workers=f"{gevent} 2"),
        "bound NORMAL": functools.partial(bound, python, synchronous="NORMAL"),
        "bound FULL": functools.partial(bound, python, synchronous="FULL"),
        "pygeoapi PostgreSQL, gevent x2": functools.partial(pygeoapi, python, workers=f"{gevent} 2", database=database),
        "pygeoapi PostgreSQL, threads": functools.partial(
            pygeoapi, python, workers="--worker-class gthread --workers 2 --threads 4", database=database
        ),
        "wraptile": functools.partial(wraptile, python),  # it has no synchronous executions
    }
    starts: dict[tuple[str, str], Start] = {}
    for figure in (SYNC, ASYNC):
        starts[figure, SQLITE] = on_sqlite
        if figure == ASYNC:  # beside each other, so that the machine is in the same mood
            starts[FULL, SQLITE] = functools.partial(on_sqlite, arguments.stored)
        starts |= {(figure, name): start for name, start in peers.items() if (figure, name) != (SYNC, "wraptile")}
        starts[figure, POSTGRESQL] = ours
    starts[FULL, POSTGRESQL] = functools.partial(ours, arguments.stored)
    return {(figure, name): start for (figure, name), start in starts.items() if name.startswith(tuple(arguments.only))}


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--jobs", type=int, default=500, help="executions and submissions on each fresh store")
    parser.add_argument("--stored", type=int, default=10_000, help="jobs in the stores that are not empty")
    parser.add_argument(
        "--only", nargs="+", default=["graticule", "pygeoapi", "bound", "wraptile"],
        help="servers by the beginning of their name",
    )  # fmt: skip
    arguments = parser.parse_args()
    with Postgres() as postgres:
        report(measure(all_starts(postgres, arguments), arguments), BARS)


if __name__ == "__main__":
    main()
