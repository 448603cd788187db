"""Who follows a job as it goes on: each watcher has the newest state, however slow it is."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator

from graticule.errors import TooManyFollowers
from graticule.jobs.job import Job, JobKey
from graticule.jobs.ledger import Advance


class Watch:
    """One watcher of one job."""

    def __init__(self) -> None:
        self.job: Job | None = None
        """The newest state that was told; None: nothing was told yet."""
        self.over = False
        """Whether there is no reason to go on: nobody listens any more, or the service stops."""
        self._news = asyncio.Event()
        self._last = asyncio.Event()

    async def news(self, seconds: float) -> None:
        """Wait until something was told, so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    async def pause(self, seconds: float) -> None:
        """Let some time pass, unless the job ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._last.wait()

    def tell(self, job: Job) -> None:
        """Take the newest state; what comes after the end is older than it."""
        if self.job is not None and self.job.ended:
            return
        self.job = job
        self._news.set()
        if job.ended:
            self._last.set()

    def end(self) -> None:
        """Say that there is no reason to go on."""
        self.over = True
        self._news.set()
        self._last.set()


class Watchers:
    """All that watch a job here; a listener of the feed of jobs, which costs nothing where nobody watches.

    Parameters
    ----------
    most : int
        How many there may be: each holds a connection and an open file.
    """

    def __init__(self, most: int = sys.maxsize) -> None:
        self._most = most
        self._count = 0
        self._watches: dict[JobKey, set[Watch]] = {}
        self._closed = False

    def check_room(self) -> None:
        """Raise TooManyFollowers if nobody else may watch."""
        if self._count >= self._most:
            raise TooManyFollowers(self._most)

    @contextlib.contextmanager
    def watch(self, key: JobKey) -> Iterator[Watch]:
        """Watch a job."""
        watch = Watch()
        if self._closed:
            watch.end()
        self._watches.setdefault(key, set()).add(watch)
        self._count += 1
        try:
            yield watch
        finally:
            self._count -= 1
            watches = self._watches[key]
            watches.discard(watch)
            if not watches:
                del self._watches[key]

    @property
    def watched(self) -> list[JobKey]:
        """The jobs that somebody watches here."""
        return list(self._watches)

    def watches(self, key: JobKey) -> bool:
        """Whether somebody watches a job here."""
        return key in self._watches

    def began(self, job: Job) -> None:
        self.tell(job)

    def progressed(self, job: Job) -> None:
        self.tell(job)

    def ended(self, job: Job) -> None:
        self.tell(job)

    def tell(self, job: Job) -> None:
        """Tell those who watch a job its newest state."""
        for watch in self._watches.get(job.key, ()):
            watch.tell(job)

    def advance(self, advance: Advance) -> bool:
        """Tell those who watch a job how far it is; False if somebody does not know yet that it runs."""
        known = True
        for watch in self._watches.get(advance.key, ()):
            if watch.job is not None and (watch.job.status, watch.job.token) == ("running", advance.token):
                watch.tell(advance.applied(watch.job))
            else:
                known = False
        return known

    def close(self) -> None:
        """Let all watchers go: the service stops."""
        self._closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.end()
