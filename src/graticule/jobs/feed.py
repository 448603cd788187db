"""Who must know: hands the news of a job to all that wait for it in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from graticule.jobs.job import Job, JobKey


class JobListener(Protocol):
    """Who hears of every job that runs here. Calls come on the event loop."""

    def began(self, job: Job) -> None:
        """Hear that a job runs."""

    def progressed(self, job: Job) -> None:
        """Hear how far a running job is; possibly once more after its end."""

    def ended(self, job: Job) -> None:
        """Hear that a job has ended, durably unless the ledger could not be written."""


class Feed:
    """News of jobs, fanned out in memory. Nobody polls."""

    def __init__(self) -> None:
        self._ends: dict[JobKey, list[asyncio.Future[Job]]] = {}
        self._waits: set[asyncio.Future[None]] = set()
        self.closed = False
        """Whether nobody may wait any longer, since the service stops."""
        self._listeners: list[JobListener] = []
        self._watchers: list[Callable[[Job], None]] = []

    @property
    def awaited(self) -> list[JobKey]:
        """The jobs whose end somebody waits for here."""
        return list(self._ends)

    def awaits(self, key: JobKey) -> bool:
        """Whether somebody waits here for the end of a job."""
        return key in self._ends

    def listen(self, listener: JobListener) -> None:
        """Tell this one of every job from now on."""
        self._listeners.append(listener)

    def watch(self, tell: Callable[[Job], None]) -> None:
        """Have a function called with each job whose state becomes known here although it does not run here."""
        self._watchers.append(tell)

    def end_of(self, key: JobKey) -> asyncio.Future[Job]:
        """Return a future that gets the job when it has ended and its end is durable."""
        future: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        self._ends.setdefault(key, []).append(future)
        return future

    async def wait(self, end: asyncio.Future[Job], kept: asyncio.Future[None], *, seconds: float) -> None:
        """Wait until a future of `end_of` is done, so many seconds at most, and no longer than anybody may.

        No longer either if the job turns out not to be `kept`: then there is none that could end.
        """
        if end.done() or self.closed:
            return
        # A timer and a bare await: a third of the cost of asyncio.wait_for on the path of every execution.
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(seconds, _be_over, over)
        end.add_done_callback(lambda _: _be_over(over))
        kept.add_done_callback(lambda _: _be_over(over) if kept.cancelled() or kept.exception() is not None else None)
        self._waits.add(over)
        try:
            await over
        finally:
            timer.cancel()
            self._waits.discard(over)

    def close(self) -> None:
        """Have nobody wait any longer."""
        self.closed = True
        for over in self._waits:
            _be_over(over)

    def forget(self, key: JobKey, future: asyncio.Future[Job]) -> None:
        """Stop waiting."""
        waiting = self._ends.get(key)
        if waiting is not None and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._ends[key]

    def began(self, job: Job) -> None:
        """Tell that a job runs."""
        for listener in self._listeners:
            listener.began(job)

    def progressed(self, job: Job) -> None:
        """Tell how far a running job is."""
        for listener in self._listeners:
            listener.progressed(job)

    def moved(self, job: Job) -> None:
        """Tell those who watch a job what is known of it, which does not run here."""
        for tell in self._watchers:
            tell(job)

    def ended_elsewhere(self, job: Job) -> None:
        """Tell those who watch a job and all that wait for its end; it is counted where it ran."""
        self.moved(job)
        self._resolve(job)

    def ended(self, job: Job) -> None:
        """Tell all that wait for this job's end."""
        for listener in self._listeners:
            listener.ended(job)
        self._resolve(job)

    def _resolve(self, job: Job) -> None:
        for future in self._ends.pop(job.key, ()):
            if not future.done():
                future.set_result(job)

    def broke(self, job: Job, error: Exception) -> None:
        """Tell all that wait for this job that its end could not be kept."""
        for listener in self._listeners:
            listener.ended(job)
        for future in self._ends.pop(job.key, ()):
            if not future.done():
                future.set_exception(error)


def _be_over(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
