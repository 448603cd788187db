"""Two process attributes of Linux that Python does not offer: prctl(2)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(with_signal: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent ends; elsewhere than on Linux, do nothing."""
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, int(with_signal))
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), with_signal)


def become_subreaper() -> None:
    """Adopt orphaned descendants, so that a grandchild that detached itself is still found below this process."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, argument: int) -> None:
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")
