"""A process that leaves marks of when it ran, for scripts that kill what runs it, and one that is dismissed in time."""

from __future__ import annotations

import os
import time
from pathlib import Path

from graticule import OutputFile, RunContext, process


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


@process
def racing(seconds: float, *, context: RunContext) -> OutputFile:
    """Take so long, and write a file that is stored."""
    time.sleep(seconds)
    path = context.folder / "raced.bin"
    path.write_bytes(bytes(100_000))
    return OutputFile(path, media_type="application/x-test")
