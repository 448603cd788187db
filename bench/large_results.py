"""A plug-in for `bench/memory.py`: processes that return a value of any size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from graticule import process
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
