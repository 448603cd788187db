"""Processes for the tests of what operators do."""

from __future__ import annotations

import time
from pathlib import Path

from graticule import process


@process
def mark(name: str, marks: str, seconds: float = 0.0) -> str:
    """Leave a line in a file; the first thing it does."""
    with Path(marks).open("a") as file:
        file.write(f"{name}\n")
    time.sleep(seconds)
    return name


@process
def nap(seconds: float) -> str:
    """Sleep and say so."""
    time.sleep(seconds)
    return "rested"


@process(requires="gpu")
def train(name: str) -> str:
    """Want a machine that has what others do not."""
    return f"trained {name}"


@process
def doubtful(switch: str) -> str:
    """Fail as long as a file is not there."""
    if not Path(switch).exists():
        raise ValueError("the switch is off")
    return "on"
