"""Exit codes that scripts can use, and how an error becomes one of them."""

from __future__ import annotations

import json
import sys
from enum import IntEnum

from graticule import errors
from graticule.errors import Fault


class Exit(IntEnum):
    """What the end of a command says; stable."""

    DONE = 0
    JOB_FAILED = 1
    """The job failed or was dismissed."""
    USAGE = 2
    """The command was called in a way that it does not know."""
    NOT_FOUND = 3
    """No such process, job, output or file."""
    BAD_INPUT = 4
    """Inputs or parameters were refused; each is named."""
    UNREACHABLE = 5
    """No answer from the service."""
    NOT_ALLOWED = 6
    """The service wants a token, or another one."""
    SERVER_FAULT = 7
    """The service answered with a fault of its own, or with something that cannot be read."""
    MISCONFIGURED = 8
    """A setting, a plug-in or the installation is wrong."""
    WAIT_EXPIRED = 9
    """The time that was given to wait is over; the job goes on."""
    INTERRUPTED = 130
    """Ctrl-C."""


_BRANCHES: dict[type[Exception], Exit] = {
    errors.NotFound: Exit.NOT_FOUND,
    errors.Invalid: Exit.BAD_INPUT,
    errors.Conflict: Exit.BAD_INPUT,
    errors.Denied: Exit.NOT_ALLOWED,
    errors.Failed: Exit.JOB_FAILED,
    errors.Unavailable: Exit.SERVER_FAULT,
    errors.Misconfigured: Exit.MISCONFIGURED,
}


def code_of(error: Exception) -> Exit | None:
    """Return the exit code of an error; None for one that is a defect of ours."""
    for branch, code in _BRANCHES.items():
        if isinstance(error, branch):
            return code
    # An error of the client can only have come if the client was loaded before.
    transport = sys.modules.get("graticule.client.transport")
    if transport is None or not isinstance(error, transport.ClientFault):
        return None
    if isinstance(error, transport.RemoteProblem):
        return code_of_status(error.status)
    if isinstance(error, transport.ServerUnreachable):
        return Exit.UNREACHABLE
    if isinstance(error, transport.WaitExpired):
        return Exit.WAIT_EXPIRED
    return Exit.SERVER_FAULT


def code_of_status(status: int) -> Exit:
    """Return the exit code of an HTTP status of 400 and above."""
    if status in {404, 410}:
        return Exit.NOT_FOUND
    if status in {401, 403}:
        return Exit.NOT_ALLOWED
    return Exit.BAD_INPUT if status < 500 else Exit.SERVER_FAULT


def report(error: Exception, code: Exit, *, as_json: bool) -> None:
    """Write an error to standard error: a sentence, and each fault with its place."""
    faults: tuple[Fault, ...] = getattr(error, "faults", ())
    sentence = _sentence(error)
    if as_json:
        told = {
            "error": sentence,
            "exitCode": int(code),
            "faults": [{"pointer": fault.pointer, "detail": fault.message} for fault in faults],
        }
        sys.stderr.write(json.dumps(told) + "\n")
        return
    lines = [f"  {fault.pointer}: {fault.message}" for fault in faults]
    # The sentence of an error with faults is those faults in a row.
    first = "this was refused:" if lines else sentence
    sys.stderr.write("\n".join([f"graticule: {first}", *lines]) + "\n")


def _sentence(error: Exception) -> str:
    """Return what an error says; where a process is missing here, a note has the remedy: its own is one for HTTP."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, errors.NoSuchProcess) and notes:
        return "; ".join([f"no process {error.process_id!r}", *notes])
    return str(error)
