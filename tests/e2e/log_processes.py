"""Processes that print, for the tests of logs and events."""

from __future__ import annotations

import time

from graticule import RunContext, process


@process
def flood(mib: int, hold: float = 0.0) -> int:
    """Print so many MiB in lines of 64 bytes, then wait."""
    block = "".join(f"{number:063d}\n" for number in range(1 << 14))
    for _ in range(mib):
        print(block, end="", flush=True)
    time.sleep(hold)
    return mib


@process
def steps(seconds: float, *, context: RunContext) -> str:
    """Print in two steps, with progress, slowly."""
    print("2026-01-02T03:04:05Z begin")
    for number in range(10):
        with_time = f"2026-01-02 03:04:{number:02d},250+01:00 "
        context.log("crop").write(f"{with_time}tile {number} für Köln\n")
        print(f"turn {number}")
        context.report(number * 10, f"turn {number}")
        time.sleep(seconds / 10)
    print("the last word, without an end", end="")
    return "done"


@process
def restless(seconds: float, *, context: RunContext) -> str:
    """Report as often as it can."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        context.report(int(100 * (1 - (end - time.monotonic()) / seconds)), f"beat {number}")
        number += 1
        time.sleep(0.01)
    return "done"


@process
def short(word: str) -> str:
    """Print a word and end at once."""
    print(word)
    return word


@process
def step(name: str, *, context: RunContext) -> str:
    """Write a line in a step of a name."""
    print("a line", file=context.log(name))
    return name
