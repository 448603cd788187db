"""Requests for documents per second: Graticule beside pygeoapi and the bound, in turn, in one run.

The clock judges nothing here: the figures and their ratios are printed, the exit status is 0.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator

from rounds import Bar, Start, report
from servers import Running, bound, graticule, options, pygeoapi, wrk

CONNECTIONS = 8
PATHS = ("/processes", "/processes/hello-world", "/conformance")
BARS = (
    Bar("GET /processes", "pygeoapi", 20),
    Bar("GET /processes/hello-world", "pygeoapi", 12),
    Bar("GET /conformance", "pygeoapi", 10),
    *(Bar(f"GET {path}", "bound", 0.4) for path in PATHS),
)


def discovery(server: Running, seconds: int) -> Iterator[tuple[str, float]]:
    """Yield requests per second for each path."""
    for path in PATHS:
        wrk(server.url + path, CONNECTIONS, duration=1)
        measured = wrk(server.url + path, CONNECTIONS, duration=seconds)
        if measured["errors"]:
            print(f"  {measured['errors']} errors at {server.url}{path}")
        yield f"GET {path}", measured["rps"]


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=int, default=2, help="how long each path is asked for, a round")
    arguments = parser.parse_args()
    gevent = functools.partial(pygeoapi, arguments.peers_python)
    starts: dict[str, Start] = {
        "graticule": graticule,
        "pygeoapi, gevent x1": functools.partial(gevent, workers="--worker-class gevent --workers 1"),
        "bound": functools.partial(bound, arguments.peers_python, synchronous="NORMAL"),
        "pygeoapi, gevent x2": functools.partial(gevent, workers="--worker-class gevent --workers 2"),
    }
    figures: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(arguments.rounds):
        for name, start in starts.items():
            print(f"round {number + 1}: {name}", flush=True)
            with start() as server:
                for figure, value in discovery(server, arguments.seconds):
                    figures[figure, name].append(value)
    report(figures, BARS)


if __name__ == "__main__":
    main()
