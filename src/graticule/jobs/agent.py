"""The agent: claims jobs, has them run, renews their leases, stores their results and ends them.

It lives on the event loop of the serving process. A job that finds a free place is handed over at once, already
``running`` in the row that is inserted; only those that must wait are claimed from the ledger later.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from graticule.errors import GraticuleError, NotFound, StorageUnavailable
from graticule.jobs.executor import Assignment, Ending, Executor
from graticule.jobs.feed import Feed
from graticule.jobs.job import Failure, Job, JobKey
from graticule.jobs.ledger import Ledger
from graticule.jobs.results import ResultStore
from graticule.processes.catalog import Catalog

log = logging.getLogger("graticule.jobs")

_REMEMBERED = 4096
"""Waiting jobs that an agent knows without asking the ledger; with more of them, memory must not grow."""
_REMEMBERED_BYTES = 16 << 20
"""What the requests of those jobs may take."""

_STORE_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between attempts to store what a job left; then it has failed."""

_encode = msgspec.msgpack.Encoder().encode


def now() -> int:
    """Return the moment as jobs keep it: microseconds since 1970, UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRules:
    """What an agent goes by."""

    lease_s: float = 10.0
    """A lease that is not renewed for this long is lost; renewed four times as often."""
    memory_limit_mib: int = 0
    disk_limit_mib: int = 0
    time_limit_s: float = 0.0


class Agent:
    """Runs the jobs of a ledger.

    Parameters
    ----------
    ledger : Ledger
        Where jobs are kept.
    executor : Executor
        Where job processes run.
    feed : Feed
        Who is told of ends.
    results : ResultStore
        Where files go.
    catalog : callable
        Gives the processes of a workspace.
    policy : callable
        Gives how a job's references are fetched, as JSON.
    rules : AgentRules
        Leases and limits.
    """

    def __init__(
        self,
        ledger: Ledger,
        executor: Executor,
        feed: Feed,
        results: ResultStore,
        catalog: Callable[[str], Catalog],
        policy: Callable[[Job], bytes],
        rules: AgentRules,
    ) -> None:
        self.id = uuid.uuid4().hex
        self._ledger = ledger
        self._executor = executor
        self._feed = feed
        self._results = results
        self._catalog = catalog
        self._policy = policy
        self._rules = rules
        self._lease = int(rules.lease_s * 1e6)
        self._running: dict[str, Job] = {}
        self._queue: list[tuple[int, int, int, Job]] = []
        self._queued_bytes = 0
        self._known = 0
        self._ahead: dict[str, Job] = {}
        self._claiming = False
        self._closing = False
        self._ending = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing = asyncio.get_running_loop().create_task(self._renew())

    # --- admitting --------------------------------------------------------------------------------------------------

    def admit(self, job: Job) -> tuple[Job, Awaitable[None]]:
        """Take a new job: hand it over at once if a place is free and nobody waits for it, else let it wait.

        Returns
        -------
        tuple of Job and awaitable
            The job as it is now, and what is done when it is durable.
        """
        next_in_line = self._knows_all and not self._queue and not self._closing
        if next_in_line and self._hand_ahead(job):
            kept = self._ledger.add(job)
        elif next_in_line and self._executor.free > 0:
            job = self._claimed(job)
            kept = self._ledger.add(job)
            self._begin(job)
        else:
            self._remember(job)
            kept = self._ledger.add(job)
            self.wake()
        return job, kept

    def _remember(self, job: Job) -> None:
        """Keep a waiting job in memory too, as long as memory knows all that wait: then the next needs no asking."""
        if self._knows_all and len(self._queue) < _REMEMBERED and self._queued_bytes < _REMEMBERED_BYTES:
            self._push(job)

    @property
    def _knows_all(self) -> bool:
        """Whether memory has every job that the ledger knows to wait."""
        return len(self._queue) + len(self._ahead) == self._ledger.waiting

    def _push(self, job: Job) -> None:
        self._known += 1
        self._queued_bytes += len(job.request)
        heapq.heappush(self._queue, (-job.priority, job.created, self._known, job))

    def _pop(self) -> Job:
        job = heapq.heappop(self._queue)[3]
        self._queued_bytes -= len(job.request)
        return job

    def forget(self, job_id: str) -> None:
        """Do not begin a waiting job: it is about to be dismissed."""
        handed = self._ahead.get(job_id)
        if handed is not None:
            if self._executor.recall(job_id):
                del self._ahead[job_id]
            else:  # it has begun, only we were not told yet: `stop` ends it
                self.began(handed)
            return
        self._queue = [entry for entry in self._queue if entry[3].id != job_id]
        self._queued_bytes = sum(len(entry[3].request) for entry in self._queue)
        heapq.heapify(self._queue)

    def progress_of(self, job: Job) -> Job:
        """Return a running job with its newest progress, which reaches the ledger only now and then."""
        return self._running.get(job.id, job)

    def stop(self, key: JobKey, why: Failure) -> None:
        """Have a job's process stopped; the ledger already says what became of it."""
        self._executor.stop(key.id, why)

    def detach(self, job_id: str) -> None:
        """Note that nobody waits for a running job any more; it goes on as if it had been sent asynchronously."""
        running = self._running.get(job_id)
        if running is not None:
            self._running[job_id] = msgspec.structs.replace(running, sync=False, type="process")

    def wake(self) -> None:
        """Begin jobs that wait, if there is a place for them."""
        if self._knows_all and not self._claiming and not self._closing:
            while self._queue:
                if self._hand_ahead(self._queue[0][3]):
                    self._pop()
                elif self._executor.free > 0:
                    self._begin(self._taken(self._pop()))
                else:
                    return
            return
        self._forget_all()  # others wait too: the ledger says who is next
        if self._claiming or self._closing or self._executor.free <= 0 or not self._ledger.waiting:
            return
        self._claiming = True
        claim = self._ledger.claim(self.id, slots=self._executor.free, at=now(), lease=self._lease)
        asyncio.ensure_future(claim).add_done_callback(self._claimed_some)

    def _taken(self, job: Job) -> Job:
        """Return a waiting job as this agent runs it, in the ledger too."""
        job = job.moved_to("running", at=now(), agent=self.id, lease_end=now() + self._lease)
        self._ledger.take(job)
        return job

    def _hand_ahead(self, job: Job) -> bool:
        """Hand the next waiting job to a job process that is about to be free; until it begins it is one that waits."""
        assignment = self._assignment(job)
        if assignment is None or not self._executor.start_ahead(assignment, self):
            return False
        self._ahead[job.id] = job
        return True

    def _forget_all(self) -> None:
        """Leave all that waits to the ledger."""
        for job in list(self._ahead.values()):
            if not self._executor.recall(job.id):
                self.began(job)
        self._ahead.clear()
        self._queue.clear()
        self._queued_bytes = 0

    async def close(self) -> None:
        """Stop claiming, stop job processes, and write what is known."""
        self._closing = True
        self._ending.set()
        self._renewing.cancel()
        await self._executor.close()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _claimed(self, job: Job) -> Job:
        """Return a new job as it is when this agent runs it; its fields are set as ``Job.moved_to`` would."""
        return job.moved_to("running", at=job.created, agent=self.id, lease_end=job.created + self._lease)

    def _claimed_some(self, future: asyncio.Future[list[Job]]) -> None:
        self._claiming = False
        if future.cancelled() or (error := future.exception()) is not None:
            log.error("jobs cannot be claimed: %s", "cancelled" if future.cancelled() else error)
            asyncio.get_running_loop().call_later(1.0, self.wake)
            return
        for job in future.result():
            self._begin(job)
        self.wake()

    def _assignment(self, job: Job) -> Assignment | None:
        """Return how a job is run, or None if its process is not there any more."""
        try:
            offer = self._catalog(job.workspace).get(job.process)
        except GraticuleError:
            return None
        return Assignment(
            job=job,
            ref=offer.ref,
            fresh=offer.fresh,
            policy=self._policy(job),
            memory_limit_mib=self._rules.memory_limit_mib,
            disk_limit_mib=self._rules.disk_limit_mib,
            time_limit_s=self._rules.time_limit_s,
        )

    def _begin(self, job: Job) -> None:
        assignment = self._assignment(job)
        if assignment is None:
            detail = f"process {job.process!r} is not there any more; it was when the job was sent"
            self.ended_early(job, Failure(cause="plug-in", detail=detail))
            return
        self._running[job.id] = job
        self._feed.began(job)
        try:
            self._executor.start(assignment, self)
        except OSError as error:  # no such Python, no process or descriptor left
            log.warning("job %s cannot be begun: %s", job.id, error)
            detail = f"no job process could be started: {error.strerror or error}; tell whoever runs this service"
            asyncio.get_running_loop().call_soon(self.ended_early, job, Failure(cause="plug-in", detail=detail))

    def ended_early(self, job: Job, failure: Failure) -> None:
        """End a job that was claimed but cannot be begun."""
        self._running[job.id] = job
        self.ended(job, Ending(failure=failure))

    # --- listening to the executor ----------------------------------------------------------------------------------

    def began(self, job: Job) -> None:
        if self._ahead.pop(job.id, None) is not None:
            job = self._running[job.id] = self._taken(job)
            self._feed.began(job)

    def returned(self, job: Job) -> None:
        if self._ahead.pop(job.id, None) is not None:
            self._push(job)
            self.wake()
        elif (running := self._running.pop(job.id, None)) is not None:
            waiting = self._ledger.move(running.key, lambda found: found.moved_to("accepted", at=now(), agent=""))
            asyncio.ensure_future(waiting).add_done_callback(self._waits_again)

    def _waits_again(self, future: asyncio.Future[Job]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            log.info("a job that had not begun was not given back: %s", error)  # it was dismissed meanwhile
        self.wake()

    def progressed(self, job: Job, percent: int, message: str) -> None:
        running = self._running.get(job.id)
        if running is not None:
            running = msgspec.structs.replace(
                running, progress=percent, message=message, updated=now(), revision=running.revision + 1
            )
            self._running[job.id] = running
            self._feed.progressed(running)

    def ended(self, job: Job, ending: Ending) -> None:
        latest = self._running.pop(job.id, job)
        if ending.folder is None:
            self._keep_end(latest, ending)
        else:
            self._running[job.id] = latest  # its lease is renewed until all is stored
            self._in_background(self._store(latest, ending))
        self.wake()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _store(self, job: Job, ending: Ending) -> None:
        """Store what the job left, then end it: results exist before the job is called successful."""
        assert ending.folder is not None
        if _is_refused(job, ending.failure):
            await asyncio.to_thread(shutil.rmtree, ending.folder, ignore_errors=True)
            self._running.pop(job.id, None)
            self._keep_end(job, ending)
            return
        manifest = ending.manifest if ending.failure is None else None
        for pause in (*_STORE_PAUSES_S, None):
            try:
                await self._results.commit(job, ending.folder, manifest)
                break
            except (GraticuleError, OSError) as error:
                log.warning("results of job %s cannot be stored%s: %s", job.id, "" if pause is None else " yet", error)
                reason = error.reason if isinstance(error, StorageUnavailable) else str(error)
            if pause is None:
                await self._results.give_up(ending.folder)
                detail = f"the job's results cannot be stored: {reason}; tell whoever runs this service"
                # What failed before has only lost its log by this.
                ending = Ending(failure=ending.failure or Failure(cause="stage-out", detail=detail))
            elif not await self._paused(pause) and not job.sync:
                return  # the next server takes it up again
        self._keep_end(self._running.pop(job.id, job), ending)

    async def _paused(self, seconds: float) -> bool:
        """Wait; return False, soon, when the agent is to end meanwhile."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
        return not self._closing

    def _keep_end(self, job: Job, ending: Ending) -> None:
        failure, at = ending.failure, now()
        if failure is None:
            end = job.moved_to("successful", at=at, manifest=_encode(ending.manifest), log_bytes=ending.log_bytes)
        elif failure.cause == "lost worker" and self._closing and not job.sync:
            # The next server of this home takes it up again: to lose a worker is no fault of the job.
            return
        else:
            end = job.moved_to(
                "dismissed" if failure.cause == "dismissed" else "failed",
                at=at,
                failure=_encode(failure),
                log_bytes=ending.log_bytes,
                message=failure.detail[:1000],
            )
        # Whoever sent wrong inputs gets the faults at once; there was no work, so there is no job.
        refused = _is_refused(job, failure)
        kept: Awaitable[Any] = self._ledger.discard(job) if refused else self._ledger.finish(end)
        asyncio.ensure_future(kept).add_done_callback(partial(self._kept, end))

    def _kept(self, end: Job, future: asyncio.Future[bool | None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            log.error("the end of job %s cannot be kept: %s", end.id, error)
            self._feed.broke(end, error)  # type: ignore[arg-type]
        elif future.result() is False:
            self._in_background(self._clean_after(end))
        else:
            self._feed.ended(end)

    async def _clean_after(self, end: Job) -> None:
        """Remove the results of a job that was dismissed while it ended: the ledger's word is the last one."""
        try:
            await self._ledger.get(end.key)
        except NotFound:  # its record is gone too, so are its logs
            removing = self._results.remove(end.key)
        else:
            removing = self._results.remove_outputs(end)
        try:
            await removing
        except StorageUnavailable as error:
            log.warning("results of job %s, which was dismissed, cannot be removed: %s", end.id, error)

    # --- leases -----------------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        written: dict[str, int] = {}
        elapsed = 0.0
        step = min(1.0, self._rules.lease_s / 4)
        while True:
            await asyncio.sleep(step)
            elapsed += step
            due = elapsed >= self._rules.lease_s / 4
            if due:
                elapsed = 0.0
            news = [job for job in self._running.values() if due or written.get(job.id) != job.updated]
            written = {job.id: job.updated for job in self._running.values()}
            if news:
                lease_end = now() + self._lease
                renewed = [msgspec.structs.replace(job, lease_end=lease_end) for job in news]
                try:
                    await self._ledger.renew(renewed)
                except GraticuleError as error:
                    log.warning("leases cannot be renewed: %s", error)


def _is_refused(job: Job, failure: Failure | None) -> bool:
    """Return whether a waiting client is told of wrong inputs, so that neither the job nor anything of it stays."""
    return failure is not None and failure.cause == "bad input" and job.sync
