"""A process that leaves marks of when it ran, for scripts that kill what runs it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from graticule import process


@process
def marking(name: str, seconds: float, marks: str) -> str:
    """Leave a line when it begins, when it ends and ten times a second between, with the id of the process."""

    def mark(what: str) -> None:
        with Path(marks).open("a") as file:
            file.write(f"{what} {name} {os.getpid()} {time.time():.4f}\n")

    mark("begin")
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(0.1, left))
        mark("beat")
    mark("end")
    return name
