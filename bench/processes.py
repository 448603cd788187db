"""Requests, executions and submissions per second: Graticule beside pygeoapi and the bound, in turn, in one run.

The clock judges nothing here: the figures and their ratios are printed, the exit status is 0.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import median

from servers import Client, Running, bound, graticule, loop_run, options, postgresql, pygeoapi, verdict, wrk

Start = Callable[[], AbstractContextManager[Running]]
CONNECTIONS = 8
WARM_UP = 24
PATHS = ("/processes", "/processes/hello-world", "/conformance")
SYNC, ASYNC = "sync executions", "async submissions"


@dataclass(frozen=True)
class Bar:
    """What Graticule's median is to reach, as a multiple of another's."""

    figure: str
    of: str
    times: float


BARS = (
    Bar("GET /processes", "pygeoapi", 20),
    Bar("GET /processes/hello-world", "pygeoapi", 12),
    Bar("GET /conformance", "pygeoapi", 10),
    *(Bar(f"GET {path}", "bound", 0.4) for path in PATHS),
    Bar(SYNC, "pygeoapi TinyDB", 10),
    Bar(SYNC, "pygeoapi PostgreSQL", 4),
    Bar(SYNC, "bound", 0.5),
    Bar(SYNC, "bound, synchronous=FULL", 0.5),
    Bar(ASYNC, "pygeoapi TinyDB", 15),
    Bar(ASYNC, "pygeoapi PostgreSQL", 6),
    Bar(ASYNC, "bound", 0.5),
    Bar(ASYNC, "bound, synchronous=FULL", 0.5),
)


def discovery(server: Running, seconds: int) -> Iterator[tuple[str, float]]:
    """Yield requests per second for each path."""
    for path in PATHS:
        wrk(server.url + path, CONNECTIONS, duration=1)
        measured = wrk(server.url + path, CONNECTIONS, duration=seconds)
        if measured["errors"]:
            print(f"  {measured['errors']} errors at {server.url}{path}")
        yield f"GET {path}", measured["rps"]


async def executions(server: Running, count: int, headers: dict[str, str]) -> float:
    """Return executions of hello-world per second over `CONNECTIONS` connections; the first ones do not count."""
    names = iter(f"name-{number}" for number in range(count))
    body = {"inputs": {"name": "warm-up"}}

    async def one(client: Client, name: str) -> None:
        sent = json.dumps(body | {"inputs": {"name": name}}).encode()
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


def measure(starts: dict[str, Start], arguments: argparse.Namespace) -> dict[tuple[str, str], list[float]]:
    """Return every figure of every server: ``(figure, server) -> one value a round``."""
    figures: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(arguments.rounds):
        for name, start in starts.items():
            print(f"round {number + 1}: {name}", flush=True)
            if not name.endswith(("PostgreSQL", "FULL", "threads")):
                with start() as server:
                    for figure, value in discovery(server, arguments.seconds):
                        figures[figure, name].append(value)
            for figure, headers in ((SYNC, {}), (ASYNC, {"Prefer": "respond-async"})):
                with start() as server:
                    figures[figure, name].append(loop_run(executions(server, arguments.jobs, headers)))
    return figures


def best(figures: dict[tuple[str, str], list[float]], figure: str, server: str) -> float | None:
    """Return the best median of a figure among the set-ups whose name begins with `server`."""
    if server == "bound":
        return median(figures[figure, server]) if (figure, server) in figures else None
    medians = [median(values) for (what, name), values in figures.items() if what == figure and name.startswith(server)]
    return max(medians, default=None)


def report(figures: dict[tuple[str, str], list[float]]) -> None:
    """Print all medians with their spread, then the ratios beside their bars."""
    print(f"\n{'figure':28} {'server':38} {'per second':>10}  [least .. most]")
    for (figure, name), values in sorted(figures.items()):
        print(f"{figure:28} {name:38} {median(values):10.0f}  [{min(values):.0f} .. {max(values):.0f}]")
    print(f"\n{'figure':28} {'against':28} {'ratio':>8} {'bar':>6}")
    for bar in BARS:
        ours, theirs = best(figures, bar.figure, "graticule"), best(figures, bar.figure, bar.of)
        if ours is not None and theirs is not None:
            ratio = ours / theirs
            print(f"{bar.figure:28} {bar.of:28} {ratio:8.2f} {bar.times:6g}  {verdict(ratio >= bar.times)}")


@contextmanager
def all_starts(arguments: argparse.Namespace) -> Iterator[dict[str, Start]]:
    """Yield how to start each server, in the order of a round."""
    python = arguments.peers_python
    with postgresql() as database:
        starts: dict[str, Start] = {
            "graticule": graticule,
            "pygeoapi TinyDB, gevent x1": functools.partial(
                pygeoapi, python, workers="--worker-class gevent --workers 1"
            ),
            "bound": functools.partial(bound, python, synchronous="NORMAL"),
            "pygeoapi TinyDB, gevent x2": functools.partial(
                pygeoapi, python, workers="--worker-class gevent --workers 2"
            ),
            "bound, synchronous=FULL": functools.partial(bound, python, synchronous="FULL"),
            "pygeoapi PostgreSQL": functools.partial(
                pygeoapi, python, workers="--worker-class gevent --workers 2", database=database
            ),
            "pygeoapi PostgreSQL, threads": functools.partial(
                pygeoapi, python, workers="--worker-class gthread --workers 2 --threads 4", database=database
            ),
        }
        yield {name: start for name, start in starts.items() if name.startswith(tuple(arguments.only))}


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=int, default=2, help="how long each path is asked for, a round")
    parser.add_argument("--jobs", type=int, default=500, help="executions and submissions on each fresh store")
    parser.add_argument(
        "--only", nargs="+", default=["graticule", "pygeoapi", "bound"], help="servers by the beginning of their name"
    )
    arguments = parser.parse_args()
    with all_starts(arguments) as starts:
        report(measure(starts, arguments))


if __name__ == "__main__":
    main()
