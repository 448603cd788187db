"""The clock that nobody sets: leases and pauses go by it, whatever happens to the time of day."""

from __future__ import annotations

import time

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, unlike Linux's CLOCK_MONOTONIC: leases end meanwhile, and others begin the jobs. By
a clock that had slept too, whoever wakes up would believe in its leases, and write new ones that have ended long ago.
Where there is no such clock (macOS), the monotonic one goes on by itself."""


def steady() -> float:
    """Return seconds since some moment, by a clock that is never set and does not sleep."""
    return time.clock_gettime(_STEADY)


def steady_us() -> int:
    """Return the same in microseconds."""
    return time.clock_gettime_ns(_STEADY) // 1000
