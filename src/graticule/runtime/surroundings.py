"""What a job may change of the process that it runs in, beyond its own variables, put back before the next job."""

from __future__ import annotations

import _locale
import _signal  # type: ignore[import-not-found]
import builtins
import contextlib
import gc
import os
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_SIGNALS = range(1, 32)
_PRECISION = 28
"""Digits that `decimal` computes with where nobody has said otherwise."""
_MOST_FILES = 64
"""Descriptors that jobs may leave open in all; libraries keep some, so as to be quick the next time."""


class Surroundings:
    """How a process is before its jobs: made when their code is loaded, for what that has set is meant to stay.

    All of it is looked at after every job, so each look costs a system call at most; the functions of `_signal` take a
    third of the time of those of `signal`, which make enumerations of what they return.
    """

    def __init__(self) -> None:
        self._handlers = _handlers()
        self._mask = _signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._environment = dict(os.environb)
        self._interpreter = _interpreter()
        self._modules = len(sys.modules)
        self._temporary = tempfile.tempdir
        self._locale = _locale.setlocale(_locale.LC_ALL, None)
        self._limits = _limits()
        self._files = set(_open_files())
        self._began_with = len(self._files)
        self._lowest = _lowest_free()

    def restore(self, folders: tuple[str, ...]) -> bool:
        """Put back what a job has changed.

        Parameters
        ----------
        folders : tuple of str
            Where the job had its files; none of them may stay open.

        Returns
        -------
        bool
            False if that cannot be, so that the process should run no further job.
        """
        if sys.gettrace() is not None:
            sys.settrace(None)
        if sys.getprofile() is not None:
            sys.setprofile(None)
        for timer in _TIMERS:
            _signal.setitimer(timer, 0)
        if self._environment != os.environ._data:  # type: ignore[attr-defined]  # noqa: SLF001 - a tenth of the cost
            os.environ.clear()
            os.environb.update(self._environment)
            time.tzset()
        tempfile.tempdir = self._temporary
        if _locale.setlocale(_locale.LC_ALL, None) != self._locale:
            _locale.setlocale(_locale.LC_ALL, self._locale)
        same_umask = os.umask(self._umask) == self._umask
        return (
            self._restore_handlers()
            and same_umask
            and _interpreter() == self._interpreter
            and len(sys.modules) >= self._modules
            and _signal.pthread_sigmask(signal.SIG_BLOCK, ()) == self._mask
            and os.getpriority(os.PRIO_PROCESS, 0) == self._nice
            # Nobody changes these without that module, and to read them takes long.
            and ("resource" not in sys.modules or _limits() == self._limits)
            and (_lowest_free() == self._lowest or self._may_stay_open(folders))
        )

    def _restore_handlers(self) -> bool:
        handlers = _handlers()
        if handlers == self._handlers:
            return True
        for number, before, after in zip(_SIGNALS, self._handlers, handlers, strict=True):
            if after is not before:
                if before is None:  # native code had set it
                    return False
                _signal.signal(number, before)
        return True

    def _may_stay_open(self, folders: tuple[str, ...]) -> bool:
        """Return whether what a job has left open harms nobody, as a database of coordinate systems or a connection."""
        files = set(_open_files())
        if len(files) > self._began_with + _MOST_FILES or not self._files <= files:
            return False
        if any(_is_the_jobs_own(number, folders) for number in files - self._files):
            return False
        self._files = files
        self._lowest = _lowest_free()
        return True


def _interpreter() -> tuple[Any, ...]:
    """Return what changes how all code behaves.

    Not among it is what libraries set when they are imported, as filters of warnings: many are imported by the first
    job only, and its process would be thrown away each time.
    """
    decimal = sys.modules.get("decimal")
    return (
        builtins.__import__,
        sys.excepthook,
        sys.getrecursionlimit(),
        sys.get_int_max_str_digits(),
        gc.isenabled(),
        socket.getdefaulttimeout(),
        os.sched_getaffinity(0),
        tuple(sys.path),
        _PRECISION if decimal is None else decimal.getcontext().prec,
    )


def _handlers() -> list[Any]:
    return list(map(_signal.getsignal, _SIGNALS))


def _limits() -> bytes:
    try:
        return Path("/proc/self/limits").read_bytes()
    except OSError:  # not Linux
        return b""


def _lowest_free() -> int:
    """Return the number that the next opened file gets: it is another one when one more is open than before."""
    try:
        number = os.dup(0)
    except OSError:  # the job has closed it
        return -1
    os.close(number)
    return number


def _open_files() -> Iterator[int]:
    try:
        numbers = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:  # not Linux
        return
    for number in numbers:
        with contextlib.suppress(OSError):  # that of the listing itself is closed
            os.fstat(number)
            yield number


def _is_the_jobs_own(number: int, folders: tuple[str, ...]) -> bool:
    """Return whether a descriptor is of a file that can be written to, or that lay in some folders."""
    import fcntl

    with contextlib.suppress(OSError):
        mode = os.fstat(number).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            writable = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
            place = Path(f"/proc/self/fd/{number}").readlink()
            return writable or str(place).startswith(tuple(map(os.path.realpath, folders)))
    return False
