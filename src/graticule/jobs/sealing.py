"""Bring the logs of running jobs to the storage piece by piece, for those who read them on other machines.

A new piece takes in those before it that are no larger, so that of what comes slowly there are few pieces, and each
byte is sent a few times at most; from `_LARGEST` on pieces stay as they are. The log itself lies in a file here, of
which one piece is held at a time. What was sealed is there when the agent is killed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from graticule.errors import GraticuleError
from graticule.jobs.job import Job
from graticule.jobs.log import PROCESS, Logs, OpenLog
from graticule.jobs.results import ResultStore

log = logging.getLogger("graticule.jobs")

_EVERY_S = 0.75
"""Seconds between two looks at what was printed."""
_LARGEST = 2 << 20
"""Bytes of a piece at most."""
_AT_ONCE = 2
"""Pieces that are held in memory at once."""


@dataclass(slots=True)
class _Sealed:
    """What has been sealed of the log of one step."""

    opened: OpenLog | None = None
    """None while nothing comes: a job may have a thousand steps. What the process itself prints stays open, for the
    next job's log will have the name of its file."""
    starts: list[int] = field(default_factory=list)
    """Where its pieces begin."""
    end: int = 0

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def next_start(self, stop: int) -> int:
        """Return where a piece begins that ends at `stop`: at the end of the last one, or before those it takes in."""
        start, end = self.end, self.end
        for before in reversed(self.starts):
            if end - before > stop - start or stop - before > _LARGEST:
                break
            start = end = before
        return start


@dataclass(slots=True, eq=False)
class _Followed:
    """A running job."""

    job: Job
    steps: dict[str, _Sealed] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    over: bool = False
    troubled: bool = False

    def close(self) -> None:
        for sealed in self.steps.values():
            sealed.close()


class Sealer:
    """Seals the logs of the jobs that run here.

    Parameters
    ----------
    logs : Logs
        Where they are printed.
    results : ResultStore
        Where they go.
    """

    def __init__(self, logs: Logs, results: ResultStore) -> None:
        self._logs = logs
        self._results = results
        self._followed: dict[str, _Followed] = {}
        self._held = asyncio.Semaphore(_AT_ONCE)
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def follow(self, job: Job) -> None:
        """Seal what a job prints from now on."""
        self._followed[job.id] = _Followed(job)

    async def release(self, job: Job) -> bool:
        """Seal no more of a job, which has ended; return whether anything was sealed."""
        followed = self._followed.get(job.id)
        self.forget(job)
        if followed is not None and followed.task is not None:
            await asyncio.wait({followed.task})
        return followed is not None and any(sealed.starts for sealed in followed.steps.values())

    def forget(self, job: Job) -> None:
        """Seal no more of a job than what is on its way."""
        followed = self._followed.pop(job.id, None)
        if followed is None:
            return
        followed.over = True
        if followed.task is not None and not followed.task.done():
            followed.task.add_done_callback(lambda _: followed.close())
        else:
            followed.close()

    def close(self) -> None:
        """Look at nothing any more."""
        self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            for followed in self._followed.values():
                if followed.task is None or followed.task.done():
                    followed.task = asyncio.get_running_loop().create_task(self._seal(followed))

    async def _seal(self, followed: _Followed) -> None:
        """Seal what a job has printed since the last time."""
        try:
            for step, size in self._logs.sizes_here(followed.job).items():
                sealed = followed.steps.setdefault(step, _Sealed())
                before = sealed.end
                if sealed.opened is None and size > before:
                    sealed.opened = await self._logs.open(followed.job, step, ended_only=True)
                if sealed.opened is not None and sealed.opened.grows:  # else it has just ended, and moved into storage
                    await self._seal_step(followed, step, sealed, sealed.opened)
                if step != PROCESS and sealed.end == before:
                    sealed.close()
        except (GraticuleError, OSError) as error:
            if not followed.troubled:
                log.warning("the log of job %s is not readable elsewhere yet: %s", followed.job.id, error)
            followed.troubled = True
        else:
            followed.troubled = False

    async def _seal_step(self, followed: _Followed, step: str, sealed: _Sealed, opened: OpenLog) -> None:
        job = followed.job
        while not followed.over and sealed.end < (size := opened.size):
            stop = min(size, sealed.end + _LARGEST)
            start = sealed.next_start(stop)
            async with self._held:
                content = await opened.read(start, stop - start)
                if start + len(content) <= sealed.end:  # the job has cut its log
                    return
                await self._results.keep_segment(job, step, start, content)
            contained = [before for before in sealed.starts if before > start]
            sealed.starts = [before for before in sealed.starts if before < start] + [start]
            sealed.end = start + len(content)
            for before in contained:
                await self._results.drop_segment(job, step, before)
