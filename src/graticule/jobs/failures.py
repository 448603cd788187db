"""What is said of a job that ended without success: the sentence, the remedy, its last lines, and nothing secret."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from graticule.jobs.job import Cause, Failure
from graticule.ogc.processes import Limits

REMEDIES: dict[Cause, str] = {
    "bad input": "correct what is named and send the request again",
    "process error": "read the log; if the inputs are right, tell whoever wrote the process",
    "out of memory": "give the job less data at once",
    "time limit": "give the job less to do",
    "disk limit": "have the job write less",
    "lost worker": "send the job again; it is not at fault",
    "stage-in": "try again later, or upload the data and refer to that",
    "stage-out": "tell whoever runs this service; afterwards send the job again",
    "cancelled": "send the job again if its results are wanted after all",
    "plug-in": "tell whoever runs this service",
}
"""What to change where a failure says nothing better."""

_DETAIL_CHARACTERS = 2000
_TAIL_LINES = 20
_TAIL_CHARACTERS = 400
"""Of one line."""
_TAIL_BYTES = 1 << 16
"""What is read of a log; a stack trace at its end may be most of it."""


def remedy_of(failure: Failure) -> str:
    """Return what to change."""
    return failure.remedy or REMEDIES[failure.cause]


# --- limits -------------------------------------------------------------------------------------------------------

LimitName = Literal["time_limit_s", "memory_limit_mib", "disk_limit_mib", "log_limit_mib"]


class _Words(NamedTuple):
    cause: Cause
    detail: str
    less: str
    member: str


_LIMITS: dict[LimitName, _Words] = {
    "time_limit_s": _Words(
        "time limit", "the job ran longer than its time limit of {limit:g} s", "give it less to do", "timeLimitS"
    ),
    "memory_limit_mib": _Words(
        "out of memory", "the job used {used}more memory than its limit allows; its limit is {limit} MiB",
        "give it less data at once", "memoryLimitMib",
    ),
    "disk_limit_mib": _Words(
        "disk limit", "the job's files take {used}more than they may; their limit is {limit} MiB",
        "have it write less", "diskLimitMib",
    ),
    "log_limit_mib": _Words(
        "disk limit", "the job printed {used}more than it may; the limit of its log is {limit} MiB",
        "have it print less", "logLimitMib",
    ),
}  # fmt: skip


def exceeded(name: LimitName, *, limits: Limits, most: Limits, process: str, used_mib: int = 0) -> Failure:
    """Return the failure of a job that went beyond a limit.

    Parameters
    ----------
    name : str
        The limit.
    limits : Limits
        Those of the job.
    most : Limits
        Those that its request may ask for.
    process : str
        Identifier of its process.
    used_mib : int
        What was measured; 0: nobody knows.
    """
    words = _LIMITS[name]
    limit, highest = getattr(limits, name), getattr(most, name)
    if highest and limit >= highest:
        raised = f"whoever runs this service can raise processes.{process}.{name}"
    else:
        up_to = f" (at most {highest:g})" if highest else ""
        raised = f"ask for a larger limits.{words.member}{up_to} in the request"
    detail = words.detail.format(limit=limit, used=f"{used_mib} MiB, " if used_mib else "")
    return Failure(cause=words.cause, detail=detail, remedy=f"{words.less}, or {raised}")


# --- ends without a word ------------------------------------------------------------------------------------------


_SCARCE = {
    errno.EMFILE: "raise its limit of open files (ulimit -n; LimitNOFILE= of a unit), or have fewer clients at once",
    errno.ENFILE: "raise the machine's limit of open files (fs.file-max)",
    errno.EAGAIN: "raise its limit of processes (ulimit -u; TasksMax= of a unit; pids of a container)",
    errno.ENOMEM: "give the machine more memory, or set fewer jobs.workers",
}
"""What whoever runs the service can do where the system has nothing left."""


def scarcity(error: OSError) -> str:
    """Say what this server lacks for any job process to start, and the remedy; empty: it is the job's own fault."""
    if isinstance(error, FileNotFoundError):  # the Python that its process names
        return ""
    remedy = _SCARCE.get(error.errno or 0, "see to the folder scratch of the server's home")
    return f"this server can start no job process now ({error.strerror or type(error).__name__}); {remedy}"


def not_started(error: OSError) -> Failure:
    """Say why no job process could be started: no such Python, or nothing left of what every one needs."""
    if lacking := scarcity(error):
        return _lost(lacking)
    return Failure(cause="plug-in", detail=f"no job process could be started: {error.strerror or error}")


def unhoused() -> Failure:
    """Say that a job process had no place for its files: whatever it did then is not its fault."""
    return _lost("somebody has removed the files of the job's process below the server's scratch folder")


def crashed(status: int | None, *, memory_was_short: bool) -> Failure:
    """Say why a job process is gone without a word.

    Parameters
    ----------
    status : int, optional
        Its wait status; None when nobody could tell.
    memory_was_short : bool
        Whether the kernel has killed processes of this machine, meanwhile, since it had no memory left.
    """
    if status is None:
        return _lost("the job's process is gone, and nobody saw how it ended")
    if not os.WIFSIGNALED(status):
        code = os.WEXITSTATUS(status)
        detail = f"the job's process ended itself with exit code {code} instead of returning its outputs"
        return Failure(cause="process error", detail=detail)
    name = signal.Signals(os.WTERMSIG(status)).name
    if name == "SIGKILL" and memory_was_short:
        detail = "the machine ran out of memory and ended the job's process (SIGKILL)"
        remedy = "give the job less data at once; whoever runs this service can set a memory limit, or fewer workers"
        return Failure(cause="out of memory", detail=detail, remedy=remedy)
    if name == "SIGKILL":
        return _lost("the job's process was killed from outside (SIGKILL)")
    what = "crashed in native code (SIGSEGV, segmentation fault)" if name == "SIGSEGV" else f"ended by {name}"
    return Failure(cause="process error", detail=f"the job's process {what}")


def _lost(detail: str) -> Failure:
    return Failure(cause="lost worker", detail=detail, transient=True)


# --- the last lines -----------------------------------------------------------------------------------------------

_TRACE = re.compile(r"[\s|+-]*(Exception Group )?Traceback \(most recent call last\):")
_FRAME = re.compile(r'[\s|]*(File "[^"]*", line \d+|Fatal Python error|(Current )?[Tt]hread 0x|Stack \(most recent)')
_JOINT = ("During handling of the above exception", "The above exception was the direct cause")


def tail_of(log: Path) -> list[str]:
    """Return the last lines of a log, without stack traces and secrets; none if there is no such file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode(errors="replace")
    except OSError:
        return []
    lines = list(_without_traces(text.splitlines()))[-_TAIL_LINES:]
    return [without_secrets(_printable(line)[:_TAIL_CHARACTERS]) for line in lines]


def _without_traces(lines: Iterable[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        if _TRACE.match(line):
            inside = True
        elif inside:
            # Frames are indented; the first line that is not names the exception, which the failure says itself.
            inside = not line or line[0] in " |+\t"
        elif line.strip() and not _FRAME.match(line) and not line.startswith(_JOINT):
            yield line


def _printable(line: str) -> str:
    return "".join(character for character in line if character.isprintable() or character == "\t")


def shortened(text: str) -> str:
    """Return what foreign code says as it may stand in a failure: not however long, and without secrets."""
    return without_secrets(encodable(text if len(text) <= _DETAIL_CHARACTERS else f"{text[:_DETAIL_CHARACTERS]}…"))


def encodable(text: str) -> str:
    """Return a text as it can be sent: with a question mark for each lone surrogate, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "replace").decode()


_NAMED = r"[\w.-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|signature|credential|authorization)[\w.-]*"
# A text may have megabytes without a blank: no pattern tries anew at each character of a word.
_SECRETS = (
    (re.compile(r"(?<=://)[^/\s@]+@"), "***@"),
    (re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)\b(['\"]?\s*[:=]\s*).+"), r"\1\2***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 ***"),
    (re.compile(rf"(?i)(?<![\w.-])({_NAMED}|sig)=(?!=)\s*[^\s&;,)]+"), r"\1=***"),
    (re.compile(rf"(?i)(['\"]{_NAMED}['\"]\s*:\s*)(?:'[^']*'|\"[^\"]*\"|[^\s,}}]+)"), r"\1***"),
    (re.compile(r"(?i)\b(password|passwd|secret)(\s*:\s*)\S+"), r"\1\2***"),
)


def without_secrets(text: str) -> str:
    """Return a text with what looks like a password, a token or a signature made unreadable."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def print_traceback(error: BaseException) -> None:
    """Print the stack trace of what foreign code has raised, as Python does, but without secrets.

    What is printed to standard error is a job's log, which whoever sees the job may read.
    """
    sys.stderr.write("".join(map(without_secrets, traceback.format_exception(error))))
    sys.stderr.flush()
