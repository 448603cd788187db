"""What jobs print: where it lies, while they run and afterwards, and how it is read piece by piece.

A log is never held in memory: whoever reads has the file open and takes a piece at an offset. A file of this machine
stays the same one when a job ends, so a reader goes on across the end; one in an object storage is read by ranges, and
that of a job which runs on another machine by the segments that have come to the storage.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, Self

from graticule.errors import ContentLost, StorageUnavailable
from graticule.jobs.job import Job
from graticule.jobs.results import SegmentedLog, StoredLog
from graticule.ogc.common import format_time

PROCESS = "process"
"""The step whose log is what the job process itself prints."""

_ATTEMPTS = 5
"""How often a log is looked for that moves from the job process to storage in the same moment."""
_TIME = re.compile(
    rb"""\s*\[?(?:\{.*?"(?:time|timestamp|asctime)"\s*:\s*")?"""
    rb"""(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)"""
)
"""A moment at the beginning of a line, or in a line that is a JSON object."""
_TIMED_BYTES = 512
"""Bytes of a line in which its moment is looked for."""


class Logs:
    """Finds the logs of jobs.

    Parameters
    ----------
    live : callable
        Gives the files that a job which runs here prints to, by step; nothing if it does not run here.
    kept : Kept
        Gives what was stored of the logs of a job, as `ResultStore.logs_of`.
    shared : bool
        Whether other machines run jobs too, and store what they print while they run.
    """

    def __init__(
        self, live: Callable[[str], Mapping[str, Path]], kept: KeptLogs, *, shared: bool = False
    ) -> None:  # fmt: skip
        self._live = live
        self._kept = kept
        self._shared = shared

    async def places(
        self, job: Job, token: int | None = None, *, ended_only: bool = False
    ) -> dict[str, Path | StoredLog]:
        """Return where the logs of a job lie, by step: the one place that knows.

        Parameters
        ----------
        job : Job
            The job.
        token : int, optional
            Those of an earlier attempt, which had this token; default: of the last one.
        ended_only : bool
            Whether the storage is asked only if it may have something, so not of a job that runs on this machine: for
            whoever looks again and again.

        Raises
        ------
        StorageUnavailable
            If the storage must be asked and does not answer.
        """
        if not job.started:
            return {}
        earlier = token not in (None, job.token)
        live: dict[str, Path | StoredLog] = {} if earlier else {**self._live(job.id)}
        if not earlier and not job.ended and (live or (ended_only and not self._shared)):
            return live
        # What has moved to storage since it was looked for here is found there.
        return {step: _at_hand(log) for step, log in (await self._kept(job, token)).items()} | live

    async def steps(self, job: Job, token: int | None = None) -> list[str]:
        """Return the steps of a job that have printed something, what the process itself printed first."""
        try:
            places = await self.places(job, token, ended_only=True)
        except StorageUnavailable:  # its status can be told all the same
            places = {}
        found = [step for step, place in places.items() if _size(place)]
        return sorted(found, key=lambda step: (step != PROCESS, step))

    async def earlier_steps(self, job: Job) -> dict[int, list[str]]:
        """Return the same of each earlier attempt, by its number from 1."""
        attempts = job.attempts_before()
        return {number: await self.steps(job, attempt.token) for number, attempt in enumerate(attempts, 1)}

    async def open(
        self, job: Job, step: str, token: int | None = None, *, ended_only: bool = False
    ) -> OpenLog | None:  # fmt: skip
        """Open the log of a step; None if it has printed nothing. For the rest see `places`.

        Raises
        ------
        ContentLost
            If it has printed something, and that is not there.
        StorageUnavailable
            If nobody can say.
        """

        async def look_again() -> StoredLog | None:
            return (await self._kept(job, token, anew=True)).get(step)

        for _ in range(_ATTEMPTS):
            place = (await self.places(job, token, ended_only=ended_only)).get(step)
            if place is None or _size(place) == 0:
                break
            if not isinstance(place, Path):
                return _StoredLog(place, look_again)
            opened = await asyncio.to_thread(_LogFile.open, place)
            if opened is not None and await self._belongs_to(job, step, place, token):
                return opened
            if opened is not None:
                opened.close()
        if _is_lost(job, step, token):
            await look_again()  # what cannot be reached is not lost
            raise ContentLost(f"{step}.log")
        return None

    def sizes_here(self, job: Job) -> dict[str, int]:
        """Return the bytes that a job which runs on this machine has printed, by step."""
        return {step: _size(path) or 0 for step, path in self._live(job.id).items()}

    async def _belongs_to(self, job: Job, step: str, path: Path, token: int | None) -> bool:
        """Return whether a file that was just opened is the job's own.

        A job process prints to one file after another under the same name, and it tells the end of a job before it
        begins the next one. So the file was this job's if, once all that has been told was heard, the job still has it.
        """
        for _ in range(3):  # a turn of the event loop hears what was told; the others are for loops that poll late
            await asyncio.sleep(0)
        return (await self.places(job, token, ended_only=True)).get(step) == path


class KeptLogs(Protocol):
    """Gives what was stored of the logs of a job, by step; see `ResultStore.logs_of`."""

    def __call__(
        self, job: Job, token: int | None = None, *, anew: bool = False
    ) -> Awaitable[Mapping[str, StoredLog]]: ...  # fmt: skip


class OpenLog(Protocol):
    """A log that has something in it, open for reading."""

    @property
    def size(self) -> int:
        """Bytes in it now; if it does not `grow`, when it was opened."""

    @property
    def grows(self) -> bool:
        """Whether it has what is printed from now on; else whoever wants that opens it again."""

    async def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; raises ContentLost and StorageUnavailable."""

    def close(self) -> None:
        """Read no more."""


@dataclass(slots=True)
class _LogFile:
    """A log on this machine."""

    descriptor: int
    grows = True

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Open a file; None if it is empty or gone."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if os.fstat(descriptor).st_size:
            return cls(descriptor)
        os.close(descriptor)
        return None

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    async def read(self, offset: int, size: int) -> bytes:
        return await asyncio.to_thread(os.pread, self.descriptor, size, offset)

    def close(self) -> None:
        os.close(self.descriptor)


@dataclass(slots=True)
class _StoredLog:
    """A log in an object storage, or in segments."""

    log: StoredLog
    look_again: Callable[[], Awaitable[StoredLog | None]]
    grows = False

    @property
    def size(self) -> int:
        return self.log.size

    async def read(self, offset: int, size: int) -> bytes:
        for _ in range(_ATTEMPTS):
            try:
                return await self.log.read(offset, size)
            except ContentLost:  # its segments were joined, or the whole log has come instead
                if not isinstance(self.log, SegmentedLog):
                    raise
                found = await self.look_again()
                if found is None or found.size < self.size:
                    raise
                self.log = found
        return await self.log.read(offset, size)

    def close(self) -> None:
        """Nothing is open between two reads."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log."""

    offset: int
    """Where it begins, bytes."""
    text: str
    time: str | None
    """When it was printed, RFC 3339, if the line says so."""


def cut(data: bytes, *, more: bool, lines: bool) -> bytes:
    """Return as much of a piece of a log as can be shown by itself: whole lines, at least whole characters.

    Parameters
    ----------
    data : bytes
        The piece.
    more : bool
        Whether something follows or may follow.
    lines : bool
        Whether a line that is not complete is left for the next piece even if nothing follows it yet.
    """
    if not more:
        return data
    end = data.rfind(b"\n") + 1
    if end or lines:
        return data[:end]
    return whole_characters(data)


def whole_characters(data: bytes) -> bytes:
    """Return bytes without a UTF-8 character that is cut at their end."""
    for length in range(1, min(4, len(data)) + 1):
        byte = data[-length]
        if byte & 0xC0 != 0x80:  # the first byte of a character
            wanted = 1 if byte < 0xC0 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-length] if wanted > length else data
    return data


def iter_lines(data: bytes, offset: int) -> Iterator[Line]:
    """Yield the lines of a piece of a log that begins at `offset`."""
    for line in data.splitlines(keepends=True) if b"\r" not in data else _split(data):
        yield Line(offset, line.rstrip(b"\r\n").decode(errors="replace"), _time_of(line))
        offset += len(line)


def _split(data: bytes) -> list[bytes]:
    """Cut at line feeds alone: a carriage return overwrites a line, it does not end one."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def _time_of(line: bytes) -> str | None:
    found = _TIME.match(line[:_TIMED_BYTES])
    if found is None:
        return None
    text = found["time"].decode().replace(",", ".")
    try:
        # Without a zone it is the local time of this machine, which job processes share.
        return format_time(datetime.fromisoformat(text))
    except ValueError:
        return None


def _at_hand(log: StoredLog) -> Path | StoredLog:
    """Return the file of a whole log if it lies on this machine."""
    return log if isinstance(log, SegmentedLog) else log.file.path or log


def _is_lost(job: Job, step: str, token: int | None) -> bool:
    """Whether a log that is not there was to be there: the ledger knows how much was printed."""
    # Those of a dismissed job, or of an agent that was cut off, may come after its end.
    complete = job.status in ("successful", "failed") and token in (None, job.token)
    return complete and step == PROCESS and job.log_bytes > 0


def _size(place: Path | StoredLog) -> int | None:
    """Return the bytes of a log; None if it is gone."""
    if not isinstance(place, Path):
        return place.size
    try:
        return place.stat().st_size
    except OSError:
        return None
