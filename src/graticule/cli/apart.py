"""Run a process in a child, so that one that ends its interpreter, or crashes it, is told in a sentence."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, NoReturn

import msgspec

from graticule.errors import Fault, InvalidInputs, JobFailed, ProcessFault
from graticule.jobs.failures import crashed, remedy_of
from graticule.jobs.job import Failure, Manifest
from graticule.jobs.messages import Broke, Done, Progress
from graticule.processes.process import Dismissed
from graticule.runtime.child import failure_of
from graticule.runtime.prctl import die_with_parent

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ONCE_S = 1.0
"""Ctrl-C reaches the child from the terminal and from its parent: what comes in this time is the same one, seconds."""
_LOOK_S = 0.2
"""How often it is looked whether the child is gone though somebody holds its end of the pipe, seconds."""
_message = msgspec.json.Decoder(Progress | Done | Broke)


class Teller:
    """What a context tells its progress to, in the child."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._pid = os.getpid()
        self._stopped_at = 0.0
        self.stopping = False

    def send(self, message: Progress | Done | Broke, /) -> None:
        self._pipe.write(msgspec.json.encode(message) + b"\n")
        self._pipe.flush()

    def end_if_forked(self) -> None:
        """End a process that the foreign code has forked and that comes back from it: the outcome is its parent's."""
        if os.getpid() != self._pid:
            os._exit(1)

    def stop(self, _number: int, _frame: object) -> None:
        """Stop the process as a dismissal would."""
        self.stopping = True
        before, self._stopped_at = self._stopped_at, time.monotonic()
        if self._stopped_at - before > _ONCE_S:
            raise Dismissed


def run_apart(work: Callable[[Teller], Manifest], told: Callable[[Progress], None]) -> Manifest:
    """
    Do work in a child process and return what it gives.

    Parameters
    ----------
    work : Callable
        Runs a process and returns the manifest of its outputs.
    told : Callable
        Is told of progress, here.

    Raises
    ------
    InvalidInputs, ProcessFault
        As the process raised them.
    JobFailed
        If it raised anything that is no word to its user, or ended without a word.
    Dismissed
        If Ctrl-C or SIGTERM came meanwhile.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work_to_the_end(work, writing, before)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as pipe, _passing_on(child) as passed:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        outcome = _outcome(pipe, child, told)
    if isinstance(outcome, Failure):
        raise _error_of(outcome, dismissed=bool(passed))
    return outcome.outputs


def _work_to_the_end(work: Callable[[Teller], Manifest], writing: int, mask: set[int | signal.Signals]) -> NoReturn:
    """Do the work and tell its outcome; this process never comes back."""
    code = 1
    try:
        with os.fdopen(writing, "wb") as pipe:
            teller = Teller(pipe)
            for number in _SIGNALS:
                signal.signal(number, teller.stop)
            outcome: Done | Broke
            try:
                die_with_parent(signal.SIGTERM)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                outcome = Done(job="", outputs=work(teller))
            except BaseException as error:  # noqa: BLE001 - foreign code may raise anything; it is told as it is
                outcome = Broke(job="", failure=failure_of(error))
            teller.send(outcome)
            sys.stdout.flush()
            sys.stderr.flush()
            code = 0
    finally:
        os._exit(code)


@contextmanager
def _passing_on(child: int) -> Iterator[list[int]]:
    """Pass signals on to the child, which decides what becomes of them; gives those that came."""
    passed: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        passed.append(number)
        os.kill(child, number)  # it is waited for below, so that the number is its own

    before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
    try:
        yield passed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome(pipe: BinaryIO, child: int, told: Callable[[Progress], None]) -> Done | Failure:
    """Return what the child says, or how it ended when it says nothing."""
    status = None
    said = b""
    outcome: Done | Failure | None = None
    while outcome is None:
        if select.select([pipe], [], [], _LOOK_S)[0]:
            piece = pipe.read(1 << 16)
            if not piece:
                break
            *lines, said = (said + piece).split(b"\n")
            for message in map(_message.decode, lines):
                if isinstance(message, Progress):
                    told(message)
                else:
                    outcome = message.failure if isinstance(message, Broke) else message
        elif status is not None:
            break
        else:
            status = _status(child, os.WNOHANG)
    if status is None:
        status = _status(child, 0)
    return outcome or crashed(status, memory_was_short=False)


def _status(child: int, options: int) -> int | None:
    # Not reaped before its pipe is read to the end: until then its number may be sent signals.
    pid, status = os.waitpid(child, options)
    return status if pid else None


def _error_of(failure: Failure, *, dismissed: bool) -> BaseException:
    if failure.blames_inputs:
        return InvalidInputs([Fault(fault.pointer, fault.message) for fault in failure.faults])
    if dismissed or failure.cause == "cancelled":
        return Dismissed()
    if failure.kind == ProcessFault.__name__:
        return ProcessFault(failure.detail)
    return JobFailed("here", failure.cause, f"{failure.detail}; {remedy_of(failure)}")
