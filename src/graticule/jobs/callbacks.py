"""Tell subscribers how their jobs go (OGC API - Processes Part 1, requirements class "Callback").

The end of a job is told at least once: its notice lies in the ledger's outbox, put there by the transaction that ended
the job, and is sent until the receiver has taken it or all attempts are used up. What is under way in between is told
when it can be, from memory, the latest news only. Of the processes that share a ledger one tells both, wherever a job
runs, so that all comes in its order. Whatever a receiver does, its job never changes for it, and a host that does not
answer keeps no place from others: it is left alone for a while, then asked once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from graticule.data.post import Unsent, receiver_of
from graticule.errors import GraticuleError, NotFound
from graticule.jobs.agent import now
from graticule.jobs.job import Job, JobKey, NoticeKind
from graticule.jobs.ledger import Advance, Ledger, News, Notice
from graticule.jobs.subscriptions import Message
from graticule.jobs.traces import traceparent
from graticule.ogc.common import JSON

log = logging.getLogger("graticule.callbacks")

Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]
"""Sends a body with headers to an address and returns the HTTP status; raises Unsent."""

Write = Callable[[Job, NoticeKind], bytes]
"""Writes what is sent about a job, as JSON."""

_ELSEWHERE_S = 2.0
"""Seconds until the next look whether to deliver is this process's part now."""

Authorize = Callable[[Job, Message], Awaitable[dict[str, str]]]
"""Gives the headers by which a receiver knows that a message about a job is ours; raises Unsent."""

_UNREADABLE_S = 5.0
"""Seconds to wait when the outbox cannot be read or written."""

_SILENT_S = 600.0
"""Seconds without news of a job that is followed until it is looked at: the news of its end may have been lost."""

_GONE = 410
"""The status with which a receiver says that it wants no more."""

_TOO_MANY = 429

_HOSTS = 10_000
"""Hosts in trouble that are remembered; with more of them, memory must not grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often and how many at a time. All times in seconds."""

    retries: tuple[float, ...] = (10, 60, 300, 1800, 7200, 21600)
    """Pauses before the second and each later attempt. The first ones cover a receiver that is restarted, all of them
    together a working day, in which somebody can mend it; after that the notice counts as undelivered."""
    jitter: float = 0.25
    """Share by which a pause may be longer or shorter, so that what failed together is not sent again together."""
    progress: float = 60.0
    """Least time between two news of one running job that has not come a step further meanwhile."""
    step: int = 10
    """Percent of progress that are news at once."""
    failures: int = 5
    """Failures of a host in a row after which it is left alone."""
    rest: float = 15.0
    """How long it is left alone before it is asked again, once."""
    gap: float = 1.0
    """Least time between two requests to a host in trouble: each notice has a last attempt of its own."""
    at_once: int = 64
    """Deliveries at a time. They cost little, but each holds a connection."""
    at_once_per_host: int = 4
    """Deliveries at a time to one host: a slow receiver keeps no place from others."""


_PACE = Pace()


class Callbacks:
    """Delivers the notices of the outbox, and the progress of running jobs, from the event loop.

    Parameters
    ----------
    ledger : Ledger
        Holds the outbox and the jobs.
    post : callable
        Sends one request.
    pace : Pace
        How often, how many at a time.
    authorize : callable, optional
        Signs what is sent; default: nobody does.
    count : callable, optional
        Gets what became of each attempt, also of those that a host in trouble was spared: the notice's status after it.
    """

    def __init__(
        self,
        ledger: Ledger,
        post: Post,
        pace: Pace = _PACE,
        *,
        authorize: Authorize | None = None,
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._post = post
        self._pace = pace
        self._authorize = authorize
        self._count = count
        self._troubles: dict[str, _Trouble] = {}
        self._paused: dict[str, int] = {}
        self._write: Write | None = None
        self._sending: dict[int, Notice] = {}
        self._following: dict[JobKey, _Following] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    def start(self, write: Write) -> None:
        """Begin to deliver, with what an earlier server has left.

        Parameters
        ----------
        write : callable
            Writes the documents that are sent: they belong to the interface that took the job.
        """
        self._write = write
        self._spawn(self._keep_sending())

    async def close(self) -> None:
        """Stop; what is not delivered stays in the outbox for the next start."""
        self._write = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- listening to jobs ------------------------------------------------------------------------------------------

    def began(self, job: Job) -> None:
        if job.subscriber and self._leads and job.subscribed("inProgress") is not None:
            self._take_up(job.key).hear(job)

    def progressed(self, job: Job) -> None:
        if not job.subscriber:
            return
        following = self._following.get(job.key)
        if following is not None and following.job is not None:
            following.hear(job)
        else:  # this process may lead only now, and a job that was dismissed may still report
            self._advance(Advance.of(job))

    def ended(self, job: Job) -> None:
        if job.subscriber:
            self._end(job.key)

    def hear(self, news: News) -> None:
        """Hear what another process has changed: how far a job is, or that the outbox has something new."""
        if news.advance is not None:
            self._advance(news.advance)
        elif news.kind == "ended" and news.key is not None:
            self._end(news.key)
        elif news.kind == "missed":  # whoever hears nothing leads no more: another process may tell by now
            for following in self._following.values():
                following.end()
            self._news.set()

    @property
    def _leads(self) -> bool:
        return self._write is not None and self._ledger.leads

    def _advance(self, advance: Advance) -> None:
        if advance.told and self._leads:
            self._take_up(advance.key).advance_to(advance)

    def _take_up(self, key: JobKey) -> _Following:
        """Return how a job is followed, which begins now unless it is already."""
        following = self._following.get(key)
        if following is None:
            following = self._following[key] = _Following(key)
            self._spawn(self._follow(following))
        return following

    def _end(self, key: JobKey) -> None:
        if (following := self._following.get(key)) is not None:
            following.end()
        self._news.set()

    async def send_again(self, notice: Notice) -> Notice:
        """Send a notice now, whatever became of it, and again as often as a new one; return it as it is then."""
        if notice.seq in self._sending:
            return notice
        if (trouble := self._troubles.get(receiver_of(notice.address))) is not None:
            trouble.until = 0  # whoever asks for it knows that the host is well again
        self._paused.pop(receiver_of(notice.address), None)
        at = self._ledger.clock()
        again = msgspec.structs.replace(notice, status="waiting", attempts=0, not_before=at, updated=at)
        await self._ledger.note(again)
        self._news.set()
        return again

    # --- the outbox -------------------------------------------------------------------------------------------------

    async def _keep_sending(self) -> None:
        while True:
            self._news.clear()
            try:
                pause = await self._send_due() if self._ledger.leads else _ELSEWHERE_S
            except GraticuleError as error:
                log.warning("the outbox cannot be read: %s", error)
                pause = _UNREADABLE_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), pause)

    async def _send_due(self) -> float | None:
        """Send what is due as far as there are places; return the seconds until the next is, None if there is none."""
        at = self._ledger.clock()  # one moment for what is due and what is not yet: nothing falls between them
        self._paused = {host: until for host, until in self._paused.items() if until > at}
        while (free := self._pace.at_once - len(self._sending)) > 0:
            # Those that are being sent are still due, so there must be room for them besides.
            limit = free + len(self._sending)
            found = await self._ledger.due(at=at, limit=limit, without_hosts=_as_kept(self._busy()))
            begun = [self._begin(notice) for notice in found]
            if not any(begun):
                break
        moments = [*self._paused.values()]
        if (moment := await self._ledger.next_due(after=at)) is not None:
            moments.append(moment)
        return max(0.0, (min(moments) - self._ledger.clock()) / 1e6) if moments else None

    def _busy(self) -> set[str]:
        """Return the hosts to which no delivery may begin now."""
        sending = Counter(receiver_of(notice.address) for notice in self._sending.values())
        return {*self._paused, *(host for host, count in sending.items() if count >= self._places(host))}

    def _begin(self, notice: Notice) -> bool:
        """Begin to deliver a notice, unless that is already under way or its host has enough to do."""
        if notice.seq in self._sending or len(self._sending) >= self._pace.at_once:
            return False
        host = receiver_of(notice.address)
        beside = sum(receiver_of(other.address) == host for other in self._sending.values())
        if host in self._paused or beside >= self._places(host):
            return False
        self._sending[notice.seq] = notice
        self._spawn(self._deliver(notice))
        return True

    def _places(self, host: str) -> int:
        """Return how many deliveries to a host there may be at a time: one to a host that has failed often."""
        trouble = self._troubles.get(host)
        alone = trouble is not None and trouble.failures >= self._pace.failures
        return 1 if alone else self._pace.at_once_per_host

    async def _deliver(self, notice: Notice) -> None:
        try:
            after = self._held_back(notice)
            if after is None:
                if (following := self._following.get(notice.key)) is not None:
                    await following.silent.wait()  # the news of a job arrive in their order
                after = await self._attempt(notice)
            if after is not None:
                await self._ledger.note(after)
                if after.attempts > notice.attempts:
                    self._count(after.status)
        except GraticuleError as error:
            # The ledger does not know what became of the attempt, so the notice is sent once more, but not at once.
            log.warning("the delivery of a notice of job %s cannot be noted: %s", notice.job, error)
            await asyncio.sleep(_UNREADABLE_S)
        finally:
            del self._sending[notice.seq]
            self._news.set()

    async def _attempt(self, notice: Notice) -> Notice | None:
        """Try to deliver a notice; return it with what became of it, or None if its job has been removed."""
        try:
            job = await self._ledger.get(notice.key)
        except NotFound:
            return None
        try:
            status = await self._send(job, notice.kind, notice.address, f"{job.id}_{notice.kind}")
        except Unsent as error:
            return self._after(notice, str(error))
        if 200 <= status < 300:
            return self._after(notice, "")
        return self._after(notice, f"it answered {status}", final=status == _GONE)

    def _held_back(self, notice: Notice) -> Notice | None:
        """Return a notice as it is put off while its host is left alone; None: it is sent.

        If the host has failed since this notice was looked at, that was an attempt for this one too: a dead host is
        asked once for all that waits for it, and still each notice is given up in its time. But none is given up
        without a request of its own: the last attempt is always made.
        """
        trouble = self._troubles.get(receiver_of(notice.address))
        if trouble is None or trouble.until <= self._ledger.clock() or notice.attempts >= len(self._pace.retries):
            return None
        if trouble.failed > notice.updated:
            return self._after(notice, f"its host is in trouble: {trouble.failure}")
        return msgspec.structs.replace(notice, not_before=trouble.until)

    def _after(self, notice: Notice, failure: str, *, final: bool = False) -> Notice:
        """Return a notice after an attempt; without a failure it was delivered."""
        attempts, at = notice.attempts + 1, self._ledger.clock()
        tried = msgspec.structs.replace(notice, attempts=attempts, updated=at, last_error=failure)
        if not failure:
            return msgspec.structs.replace(tried, status="delivered")
        if not final and attempts <= len(self._pace.retries):
            log.info("job %s: %s was not told (%s), attempt %d", notice.job, notice.host, failure, attempts)
            return msgspec.structs.replace(tried, not_before=at + int(self._pause(notice.attempts) * 1e6))
        log.warning("job %s: %s will not be told (%s, attempt %d)", notice.job, notice.host, failure, attempts)
        return msgspec.structs.replace(tried, status="undelivered")

    def _pause(self, attempts: int) -> float:
        """Return the seconds to let pass after an attempt that had so many before it."""
        retries, jitter = self._pace.retries, self._pace.jitter
        pause = retries[min(attempts, len(retries) - 1)]
        return pause * random.uniform(1 - jitter, 1 + jitter)  # noqa: S311 - nobody gains by guessing it

    # --- progress ---------------------------------------------------------------------------------------------------

    async def _follow(self, following: _Following) -> None:
        """Tell how far a job is, but not too often, until it ends or another process tells of it."""
        told: Job | None = None
        try:
            while not following.over.is_set() and self._leads:
                if following.job is told or following.outdated:
                    await self._read(following)
                job = following.job
                if job is None or following.over.is_set():
                    continue
                if job is not told:
                    told = job
                    await self._tell_progress(job)
                await self._wait_for_news(following, job)
        finally:
            del self._following[following.key]
            following.silent.set()

    async def _read(self, following: _Following) -> None:
        """Look at a job that another process runs, or of which nothing was heard for long."""
        try:
            following.read(await self._ledger.get(following.key))
        except GraticuleError as error:
            log.info("the progress of job %s is not told until it comes on: %s", following.key.id, error)
            following.end()

    async def _wait_for_news(self, following: _Following, told: Job) -> None:
        """Wait until a job has come a step further, or has changed and was not told of for a while, or is over."""
        earliest = time.monotonic() + self._pace.progress
        while not following.over.is_set() and not following.outdated:
            job, left = following.job or told, earliest - time.monotonic()
            changed = job is not told
            if job.progress >= told.progress + self._pace.step or (changed and left <= 0):
                return
            following.news.clear()
            try:
                await asyncio.wait_for(following.news.wait(), left if changed else _SILENT_S)
            except TimeoutError:
                return

    async def _tell_progress(self, job: Job) -> None:
        address = job.subscribed("inProgress")
        assert address is not None
        trouble = self._troubles.get(receiver_of(address))
        if trouble is not None and trouble.until > self._ledger.clock():
            return
        try:
            # By its moment: processes count revisions each for itself, and another one may tell the next state.
            await self._send(job, "inProgress", address, f"{job.id}_inProgress_{job.updated}")
        except Unsent as error:  # the next news are better than these sent once more
            log.debug("job %s: its progress was not told (%s)", job.id, error)

    # --- one message ------------------------------------------------------------------------------------------------

    async def _send(self, job: Job, kind: NoticeKind, address: str, identifier: str) -> int:
        """Send a document about a job; return the status of the answer, or raise Unsent."""
        assert self._write is not None
        message = Message(id=identifier, moment=now() // 1_000_000, body=self._write(job, kind))
        headers = {"content-type": JSON, "webhook-id": message.id, "webhook-timestamp": str(message.moment)}
        if job.base.isascii() and job.base.isprintable():
            # A results document does not say whose results they are.
            headers["link"] = f'<{job.base}/jobs/{job.id}>; rel="monitor"'
        if job.trace:
            headers["traceparent"] = traceparent(job, "job")
        if self._authorize is not None:
            headers |= await self._authorize(job, message)
        host = receiver_of(address)
        try:
            status = await self._post(address, message.body, headers)
        except Unsent as error:
            self._troubled(host, str(error))
            raise
        if status >= 500 or status == _TOO_MANY:
            self._troubled(host, f"it answered {status}")
        else:
            self._troubles.pop(host, None)
        return status

    def _troubled(self, host: str, failure: str) -> None:
        """Note that a host has failed, and leave it alone if that was once too often."""
        if host not in self._troubles and len(self._troubles) >= _HOSTS:
            self._troubles.clear()
        trouble = self._troubles.setdefault(host, _Trouble())
        trouble.failures, trouble.failed, trouble.failure = trouble.failures + 1, self._ledger.clock(), failure
        if trouble.failures >= self._pace.failures:
            trouble.until = trouble.failed + int(self._pace.rest * 1e6)
            self._paused[host] = trouble.failed + int(self._pace.gap * 1e6)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a callback went wrong: %s", error, exc_info=error)


def _as_kept(hosts: Collection[str]) -> set[str]:
    """Return hosts as they may stand in the outbox, where an older version kept them without their port."""
    return {*hosts, *(host.rpartition(":")[0].strip("[]") for host in hosts)}


@dataclass(slots=True)
class _Trouble:
    """A host that has failed and not answered well since. Moments as in `Job`."""

    failures: int = 0
    """In a row."""
    failed: int = 0
    """When it did so last."""
    failure: str = ""
    until: int = 0
    """It is left alone until then."""


@dataclass(slots=True, eq=False)
class _Following:
    """A running job whose progress somebody wants to hear of."""

    key: JobKey
    job: Job | None = None
    """As it is now, as far as is known here; None: it was not read yet."""
    advance: Advance | None = None
    """What another process told of it last."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something to tell."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the job has ended, which is told from the outbox, or is not to be told of here any more."""
    silent: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nothing is being told any more."""

    @property
    def outdated(self) -> bool:
        """Whether it was begun anew since it was read, or was not read yet."""
        return self.advance is not None and (self.job is None or self.job.token < self.advance.token)

    def hear(self, job: Job) -> None:
        """Take its newest state."""
        self.job = job
        self.news.set()

    def advance_to(self, advance: Advance) -> None:
        """Take how far it is."""
        self.advance = advance
        if self.job is not None:
            self.job = advance.applied(self.job)
        self.news.set()

    def read(self, found: Job) -> None:
        """Take what the ledger has, which may be older than what was heard."""
        job = found if self.advance is None else self.advance.applied(found)
        if job.status != "running" or (self.advance is not None and job.token < self.advance.token):
            self.end()
        elif self.job is None or (self.job.token, self.job.updated) < (job.token, job.updated):
            self.job = job

    def end(self) -> None:
        """Have it followed no more."""
        self.over.set()
        self.news.set()
