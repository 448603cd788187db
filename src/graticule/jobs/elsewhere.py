"""What becomes of jobs that other processes run: passes it on to those who follow or await them here."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

from graticule.errors import GraticuleError
from graticule.jobs.feed import Feed
from graticule.jobs.job import Job, JobKey
from graticule.jobs.ledger import Advance, Ledger, News
from graticule.jobs.watching import Watchers

log = logging.getLogger("graticule.jobs")

_REMEMBERED = 10_000
"""Jobs whose progress is known at most: the news of an end may have been lost."""


class Elsewhere:
    """Knows of the jobs of other processes what these tell.

    Parameters
    ----------
    ledger : Ledger
        Where all is kept but the newest progress.
    feed : Feed
        Who awaits jobs here.
    watchers : Watchers
        Who follows them.
    """

    def __init__(self, ledger: Ledger, feed: Feed, watchers: Watchers) -> None:
        self._ledger = ledger
        self._feed = feed
        self._watchers = watchers
        self._advances: OrderedDict[JobKey, Advance] = OrderedDict()
        self._looking: dict[JobKey, asyncio.Task[None]] = {}

    def newest(self, job: Job) -> Job:
        """Return a job as it was read, with its newest progress."""
        advance = self._advances.get(job.key)
        return job if advance is None else advance.applied(job)

    def hear(self, news: News) -> None:
        """Hear what another process has changed."""
        if news.kind == "missed":
            for key in {*self._feed.awaited, *self._watchers.watched}:
                self._look(key)
        elif news.advance is not None:
            self._advance(news.advance)
        elif news.key is not None:
            self._advances.pop(news.key, None)
            if self._watchers.watches(news.key) or (news.kind == "ended" and self._feed.awaits(news.key)):
                self._look(news.key)

    def _advance(self, advance: Advance) -> None:
        self._advances[advance.key] = advance
        self._advances.move_to_end(advance.key)
        if len(self._advances) > _REMEMBERED:
            self._advances.popitem(last=False)
        if self._watchers.watches(advance.key) and not self._watchers.advance(advance):
            self._look(advance.key)

    def _look(self, key: JobKey) -> None:
        """Read a job and tell of it; if it is being read, once more, for that may have been too early."""
        self._looking[key] = asyncio.get_running_loop().create_task(self._look_after(self._looking.get(key), key))

    async def _look_after(self, before: asyncio.Task[None] | None, key: JobKey) -> None:
        if before is not None:
            await asyncio.wait({before})
        try:
            job = self.newest(await self._ledger.get(key))
        except GraticuleError as error:
            log.info("what became of job %s is not told yet: %s", key.id, error)
        else:
            if job.ended:
                self._feed.ended_elsewhere(job)
            else:
                self._feed.moved(job)
        finally:
            if self._looking.get(key) is asyncio.current_task():
                del self._looking[key]

    async def close(self) -> None:
        """Tell no more."""
        for task in list(self._looking.values()):
            task.cancel()
        await asyncio.gather(*self._looking.values(), return_exceptions=True)
