"""A process that leaves marks of when it ran, for scripts that kill what runs it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from graticule import process


@process
def marking(name: str, seconds: float, marks: str) -> str:
    """Leave a line when it begins and another when it ends, each with the id of the process and the time."""

    def mark(what: str) -> None:
        with Path(marks).open("a") as file:
            file.write(f"{what} {name} {os.getpid()} {time.time():.4f}\n")

    mark("begin")
    time.sleep(seconds)
    mark("end")
    return name
