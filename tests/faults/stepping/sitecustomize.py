"""Loaded by Python at its start: sets the time of day forward or back when SIGUSR1 comes, for this process alone."""

from __future__ import annotations

import os
import signal
import time

_STEP_S = int(os.environ["STEP_S"])
_time, _time_ns = time.time, time.time_ns


def _step(*_: object) -> None:
    time.time = lambda: _time() + _STEP_S
    time.time_ns = lambda: _time_ns() + _STEP_S * 1_000_000_000


signal.signal(signal.SIGUSR1, _step)
