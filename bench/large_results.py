"""A plug-in for `bench/memory.py`: processes that return a value of any size, or print as much."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from graticule import OutputFile, RunContext, process
from graticule.processes.values import MediaType

MEGABYTE = 1_000_000
Megabytes = Annotated[int, Field(ge=1, le=4000)]


def begin(report: str) -> None:
    """Write down who runs and what the process held before it made its value."""
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    Path(report).write_text(f"{os.getpid()} {resident.split()[1]}", encoding="ascii")


@process
def large_json(megabytes: Megabytes, report: str) -> dict[str, list[str]]:
    """Return an object that takes as many megabytes as JSON as it takes in memory."""
    begin(report)
    return {"parts": [f"{number:08d}" * (MEGABYTE // 8) for number in range(megabytes)]}


@process
def large_binary(megabytes: Megabytes, report: str) -> Annotated[bytes, MediaType("application/octet-stream")]:
    """Return that many megabytes."""
    begin(report)
    return b"\x01" * (megabytes * MEGABYTE)  # zeros would cost no memory before somebody reads them


@process
def large_file(megabytes: Megabytes, log_megabytes: Megabytes, report: str, *, context: RunContext) -> OutputFile:
    """Print that many megabytes, and write that many into a file."""
    begin(report)
    line = "and another thing " * 55
    for _ in range(log_megabytes * MEGABYTE // (len(line) + 1)):
        print(line)
    path = context.folder / "large.bin"
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(b"\x01" * MEGABYTE)
    return OutputFile(path, media_type="application/octet-stream")
