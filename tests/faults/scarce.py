"""Processes that show what a server has left for its jobs."""

from __future__ import annotations

import resource
import sys
import time

from graticule import process


@process
def open_files() -> int:
    """Return how many files a job may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@process
def scarce_greeting() -> str:
    """Greet, and print that too."""
    print("hello")
    return "hello"


@process
def ticking(seconds: float) -> str:
    """Print for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        print("tick", flush=True)
        time.sleep(0.1)
    return "done"


@process
def flooding(mebibytes: int) -> str:
    """Print as fast as can be."""
    piece = "and another thing " * 3640 + "\n"
    for _ in range(mebibytes * 16):
        sys.stdout.write(piece)
    return "done"
