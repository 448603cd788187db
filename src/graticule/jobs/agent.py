"""The agent: claims jobs, has them run, renews their leases, stores their results and ends them.

It lives on the event loop of the serving process, or alone in ``graticule worker``. A job that finds a free place is
handed over at once, already ``running`` in the row that is inserted; only those that must wait are claimed later. With
one owner of the ledger the agent knows the waiting jobs itself and begins them without asking; where the ledger is
shared, they are claimed from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from graticule.data.removal import remove_tree
from graticule.errors import (
    GraticuleError,
    IllegalTransition,
    LedgerUnavailable,
    NotFound,
    StorageUnavailable,
    TooManyJobs,
)  # fmt: skip
from graticule.jobs.clock import steady
from graticule.jobs.executor import Assignment, Ending, Executor
from graticule.jobs.failures import not_started, scarcity, tail_of
from graticule.jobs.feed import Feed
from graticule.jobs.holds import Hold, Holds
from graticule.jobs.job import Attempt, Failure, Job, JobKey, Step
from graticule.jobs.ledger import AgentRecord, Claim, Ledger, News, Room
from graticule.jobs.line import Line
from graticule.jobs.queue import Lane, Load, QueueRules, Turns
from graticule.jobs.results import ResultStore, has_files, kept_of
from graticule.jobs.sealing import Sealer
from graticule.ogc.processes import Execute, Limits
from graticule.processes.catalog import Catalog
from graticule.processes.limits import limits_of

log = logging.getLogger("graticule.jobs")

_AGAIN_S = 1.0
"""Seconds until something is tried again that the ledger did not take."""
_END_AGAIN_S = 0.2
"""As `_AGAIN_S`, for the end of a job: until it is kept, the job is said to run."""
_SCARCE_S = 2.0
"""Seconds until a job is begun again after none could be, since the system had nothing left for its process."""
_NOT_AHEAD_S = 0.5
"""Seconds for which nothing is claimed ahead after a job was that was not short, and had to be given back."""
_CUT_OFF = 2 / 3
"""Share of a lease after which an agent that could not renew it ends its job processes: before anybody else may begin
the same jobs, they are gone."""

_TELL_S = 0.4
"""Seconds between two reports to other processes on what runs here; they promise it to their clients within one."""

_KEEP_LOG_S = 10.0
"""Seconds that storing the log of an attempt may take that came to nothing: the job waits for its next one."""

_STORE_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between attempts to store what a job left; then it has failed."""

_encode = msgspec.msgpack.Encoder().encode
_execute = msgspec.json.Decoder(Execute)


def now() -> int:
    """Return the moment as jobs keep it: microseconds since 1970, UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRules:
    """What an agent goes by."""

    lease_s: float = 10.0
    """A lease that is not renewed for this long is lost; renewed four times as often."""
    grace_s: float = 5.0
    """How long running jobs may go on when the agent is to stop; then they are given back."""
    max_attempts: int = 3
    """How often a job is begun that fails for no fault of its own."""
    backoff_s: float = 5.0
    """Pause before the third attempt, doubled for each later one; the second comes at once."""
    queue: QueueRules = field(default_factory=QueueRules)
    room: Room | None = None
    """How many jobs may wait; None: as many as come. With a limit nothing is taken ahead that might wait again."""
    kind: str = "serve"
    labels: frozenset[str] = frozenset()
    """What this machine has, for jobs that ask for it, e.g. ``gpu``."""


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
        Leases, attempts and the queue.
    count_lost : callable, optional
        Gets how many jobs of lost agents were found.
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
        *,
        count_lost: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._count_lost = count_lost
        self.sealer: Sealer | None = None
        """Brings the logs of running jobs to the storage, where other machines read them; None: there are none."""
        self.id = uuid.uuid4().hex
        self.rules = rules
        self._ledger = ledger
        self._executor = executor
        self._feed = feed
        self._results = results
        self._catalog = catalog
        self._policy = policy
        self._lease = int(rules.lease_s * 1e6)
        self._running: dict[str, Job] = {}
        self._line = Line()
        self._ahead: dict[str, Job] = {}
        self._load = Load()
        self._turns = Turns()
        self.hold: Hold | None = None
        """What an operator has this worker do."""
        self._abandoned: set[str] = set()
        self._claiming = False
        self._again = False
        self._reserved = 0
        self._ahead_from = 0.0
        self._reap_from = math.inf
        """When, by `steady`, lost jobs may be looked for; never while the ledger is not reached."""
        self._ahead_us: int | None = None
        """How far the ledger's clock was ahead of `steady` when this agent made itself known last."""
        self.lacking = ""
        """What this machine lacks that every job needs; empty: nothing."""
        self.starting = 0
        """Created jobs that are being started, which the ledger may count among those that wait before memory does."""
        self.scarce = ""
        """As `lacking`, of what may be there again at any time, as open files: it is tried again and again."""
        self._pace = 0.0
        self._started_work = False
        self._idle = asyncio.Event()
        self._closing = False
        self._retiring: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._started = ledger.clock()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._keeping = asyncio.get_running_loop().create_task(self._keep_leases())
        self._telling = asyncio.get_running_loop().create_task(self._tell_others())

    def lack(self, reason: str) -> None:
        """Begin nothing while this machine lacks something that every job needs, as room on a disk; empty: go on."""
        before, self.lacking = self.lacking, reason
        if reason and not before:
            log.error("no job is begun: %s", reason)
        elif before and not reason:
            log.warning("jobs are begun again")
            self.wake(look=self._ledger.shared)

    def _wait_for_more(self, reason: str) -> None:
        """Begin nothing for a moment, since the system has nothing left for a job process."""
        if not self.scarce:
            log.error("no job is begun for %g s: %s", _SCARCE_S, reason)
            asyncio.get_running_loop().call_later(_SCARCE_S, self._try_again)
        self.scarce = reason

    def _try_again(self) -> None:
        self.scarce = ""
        self.wake(look=self._ledger.shared)

    # --- admitting --------------------------------------------------------------------------------------------------

    def admit(self, job: Job) -> tuple[Job, Awaitable[None]]:
        """Take a new job: hand it over at once if a place is free and nobody waits for it, else let it wait.

        Returns
        -------
        tuple of Job and awaitable
            The job as it is now, and what is done when it is durable.

        Raises
        ------
        TooManyJobs
            If as many wait as may; where others take jobs too, what is returned says so.
        """
        if self._is_next_in_line(job):
            if self._may_wait(job) and self._hand_ahead(job):
                self._turns.take(job, job.created)
                return job, self._ledger.add(job)
            if self._room > 0:
                self._turns.take(job, job.created)
                job = self._claimed(job)
                kept = self._ledger.add(job)
                if self._ledger.shared:  # somebody must be able to find it before it begins
                    self._reserved += 1
                    self._in_background(self._begin_when(kept, job))
                else:
                    self._begin(job)
                return job, kept
        room = self.rules.room
        if not self._ledger.shared and self._knows_all and not self._line.full and not self.starting:
            if room is not None:
                room.check(self._waiting(), job.workspace, job.actor)
            self._line.push(job)
            room = None
        kept = self._ledger.add(job, room)
        self.wake()
        return job, kept

    def _is_next_in_line(self, job: Job) -> bool:
        """Whether a new job may begin before all others that wait, as far as is known here."""
        if self._closing or self.lacking or self.scarce or not self.fits(job):
            return False
        rules = self.rules.queue
        if self._ledger.shared:  # limits hold for all agents together, and only the ledger can count them
            return not rules.limited and not self._ledger.waiting and not self._claiming
        return self._knows_all and not len(self._line) and (not rules.limited or self._load.admits(job, rules))

    async def _begin_when(self, kept: Awaitable[None], job: Job) -> None:
        try:
            await kept
        except GraticuleError:  # whoever sent it is told
            return
        finally:
            self._reserved -= 1
        self._take_on(job)

    def _take_on(self, job: Job) -> None:
        """Begin a job that is this agent's now, or have it begin when a short one ends; else give it back."""
        if self._closing or self._is_late(job):
            self._in_background(self._give_back(job, "", begun=False))
        elif self._executor.free > 0:
            self._begin(job)
        elif (assignment := self._assignment(job)) is not None and self._executor.start_ahead(assignment, self):
            self._note_begin(job)
        else:
            self._ahead_from = asyncio.get_running_loop().time() + _NOT_AHEAD_S
            self._in_background(self._give_back(job, "", begun=False))

    def _is_late(self, job: Job) -> bool:
        """Whether it took so long to hear of a claim that its lease might end before it is renewed or cut off."""
        left = job.lease_end - self._ledger.clock()
        return self._ledger.shared and left < self._lease * _CUT_OFF

    @property
    def _room(self) -> int:
        """How many jobs this agent may take on: to begin now, or when the short ones end that run.

        To have each of these wait in a shared ledger until it is claimed would take longer than they run.
        """
        ahead = 0
        if self._ledger.shared and not self.rules.queue.limited and self.rules.room is None:
            ahead = self._executor.room_ahead if asyncio.get_running_loop().time() >= self._ahead_from else 0
        return self._free + ahead

    @property
    def _free(self) -> int:
        """How many jobs may begin now."""
        return self._executor.free - self._reserved

    @property
    def _knows_all(self) -> bool:
        """Whether memory has every job that the ledger knows to wait."""
        return len(self._line) + len(self._ahead) == self._ledger.waiting

    def _waiting(self) -> Counter[Lane]:
        """Return how many jobs wait in each lane, as far as memory has them."""
        return Counter(self._line.sizes()) + Counter(map(Lane.of, self._ahead.values()))

    def _may_wait(self, job: Job) -> bool:
        """Whether a job may be one of those that wait, as far as is known here."""
        if self.rules.room is None:
            return True
        if not self._knows_all or self.starting:
            return False
        with contextlib.suppress(TooManyJobs):
            self.rules.room.check(self._waiting(), job.workspace, job.actor)
            return True
        return False

    def forget(self, job_id: str) -> None:
        """Do not begin a waiting job unless the ledger says so: it is about to be dismissed, or to stand elsewhere."""
        handed = self._ahead.get(job_id)
        if handed is None:
            self._line.drop(job_id)
        elif self._executor.recall(job_id):
            del self._ahead[job_id]
        else:  # it has begun, only we were not told yet: `stop` ends it
            self.began(handed)

    def progress_of(self, job: Job) -> Job:
        """Return a running job with its newest progress, which reaches the ledger only now and then."""
        return self._running.get(job.id, job)

    def stop(self, key: JobKey, why: Failure) -> None:
        """Have a job's process stopped; the ledger already says what became of it."""
        running = self._running.get(key.id)
        if running is not None and self._executor.recall(key.id):  # it still waited for a short one to end
            self._drop(running)
        else:
            self._executor.stop(key.id, why)

    def obey(self, holds: Holds) -> None:
        """Begin nothing any more that operators hold back, and what they do no longer."""
        own = holds.find("worker", self.id)
        queue = holds.applied(self.rules.queue, self.id)
        if (own, queue) == (self.hold, self.rules.queue):
            return
        self.hold, self.rules = own, replace(self.rules, queue=queue)
        self._forget_all()
        self.wake(look=self._ledger.shared)

    async def drained(self) -> None:
        """Return when it was told to begin nothing more and then to end, and all that it ran has ended."""

        def at_work() -> bool:
            return bool(self._running or self._reserved or self._claiming or self._tasks)

        while self.hold is None or self.hold.action != "drain" or at_work():  # noqa: ASYNC110 - that changes in many places
            await asyncio.sleep(_AGAIN_S / 4)

    async def detach(self, job: Job) -> Job:
        """Have a job that nobody waits for any more go on as if it had been sent asynchronously; return it as such.

        While the ledger cannot be written it is tried again later: the job goes on, whatever the ledger says of it.
        """
        running = self._running.get(job.id)
        if running is not None:
            self._running[job.id] = msgspec.structs.replace(running, sync=False, type="process")
        try:
            return await self._ledger.move(job.key, _detached)
        except LedgerUnavailable:
            self._in_background(self._keep_detaching(job.key))
            return _detached(self.progress_of(job))

    async def _keep_detaching(self, key: JobKey) -> None:
        while not self._ending.is_set():
            await asyncio.sleep(_AGAIN_S)
            with contextlib.suppress(LedgerUnavailable):
                try:
                    await self._ledger.move(key, _detached)
                except NotFound:
                    log.info("job %s is gone before it was told that nobody waits for it", key.id)
                return

    def start(self) -> None:
        """Take up jobs that wait; before, its processes may not all be known."""
        self._started_work = True
        self.wake()

    def wake(self, *, look: bool = False) -> None:
        """Begin jobs that wait, if there is a place for them.

        Parameters
        ----------
        look : bool
            Ask a shared ledger even if nobody has said that something waits there.
        """
        if self._closing or self.lacking or self.scarce or not self._started_work:
            return
        if self._claiming:
            self._again = True
        elif not self._ledger.shared and self._knows_all:
            self._begin_known()
        else:
            self._forget_all()  # others wait too: the ledger says who is next
            self._claim(look=look)

    def _begin_known(self) -> None:
        """Begin waiting jobs that are in memory."""
        while len(self._line):
            at = self._ledger.clock()
            lane = self._line.next(self._load, self._turns, self.rules.queue, at, fits=self._has_labels)
            if lane is None:
                return
            if self._hand_ahead(self._line.first(lane)):
                self._line.pop(lane)
            elif self._free > 0:
                self._begin(self._taken(self._line.pop(lane)))
            else:
                return
            self._turns.take(lane, at)

    def _claim(self, *, look: bool) -> None:
        """Ask the ledger for jobs, if there may be some."""
        slots = self._room
        if slots <= 0 or not (look or self._ledger.waiting) or self.rules.queue.paused:
            return
        self._claiming, self._again = True, False
        claim = Claim(
            agent=self.id,
            slots=slots,
            at=self._ledger.clock(),
            lease=self._lease,
            fits=self.fits,
            rules=self.rules.queue,
            turns=self._turns,
        )
        asyncio.ensure_future(self._ledger.claim(claim)).add_done_callback(self._claimed_some)

    def _claimed_some(self, future: asyncio.Future[list[Job]]) -> None:
        self._claiming = False
        if future.cancelled() or (error := future.exception()) is not None:
            if future.cancelled() or not isinstance(error, LedgerUnavailable):
                log.error("jobs cannot be claimed: %s", "cancelled" if future.cancelled() else error)
            asyncio.get_running_loop().call_later(_AGAIN_S, self.wake)
            return
        claimed = future.result()
        for job in claimed:
            self._take_on(job)
        if claimed or self._again:
            self.wake()

    def _has_labels(self, kind: Job | Lane) -> bool:
        return not kind.requires or kind.requires in self.rules.labels

    def fits(self, kind: Job | Lane) -> bool:
        """Whether this agent has the process and version of a job, and what it requires."""
        if not self._has_labels(kind):
            return False
        try:
            return self._catalog(kind.workspace).get(kind.process).description.version == kind.version
        except GraticuleError:
            return False

    def _taken(self, job: Job) -> Job:
        """Return a waiting job as this agent runs it, in the ledger too."""
        at = self._ledger.clock()
        job = job.moved_to("running", at=at, agent=self.id, lease_end=at + self._lease)
        self._ledger.take(job)
        return job

    def _hand_ahead(self, job: Job) -> bool:
        """Hand the next waiting job to a job process that is about to be free; until it begins it is one that waits."""
        if self._ledger.shared or self.rules.queue.limited:
            return False
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
        self._line.clear()

    def _claimed(self, job: Job) -> Job:
        """Return a new job as it is when this agent runs it."""
        return job.moved_to("running", at=job.created, agent=self.id, lease_end=job.created + self._lease)

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
            limits=_limits_of(job, offer.limits),
            most=offer.limits,
        )

    def _begin(self, job: Job) -> None:
        self._note_begin(job)
        assignment = self._assignment(job)
        if assignment is None:
            detail = f"process {job.process!r} is not there any more; it was when the job was sent"
            self.ended(job, Ending(failure=Failure(cause="plug-in", detail=detail)))
            return
        try:
            self._executor.start(assignment, self)
        except OSError as error:
            if lacking := scarcity(error):
                self.returned(job, lacking)
                return
            log.warning("job %s cannot be begun: %s", job.id, error)
            ending = Ending(failure=not_started(error))
            asyncio.get_running_loop().call_soon(self.ended, job, ending)

    def _note_begin(self, job: Job) -> None:
        self._running[job.id] = job
        self._load.add(job.workspace, job.actor, job.process)
        if self.sealer is not None:
            self.sealer.follow(job)
        self._feed.began(job)

    @property
    def pace_s(self) -> float:
        """Seconds that jobs took here lately, in the mean; 0: none has ended yet."""
        return self._pace

    @property
    def slots(self) -> int:
        """How many jobs run here at once."""
        return self._executor.free + len(self._running)

    def _drop(self, job: Job) -> Job:
        """Note that a job does not run here any more; return it with its newest progress."""
        latest = self._running.pop(job.id, None)
        if latest is None:
            return job
        self._load.add(job.workspace, job.actor, job.process, -1)
        if self.sealer is not None:
            self.sealer.forget(job)
        took = (self._ledger.clock() - job.started) / 1e6
        self._pace += (took - self._pace) / (8 if self._pace else 1)
        if not self._running:
            self._idle.set()
        return latest

    # --- listening to the executor ----------------------------------------------------------------------------------

    def began(self, job: Job) -> None:
        if self._ahead.pop(job.id, None) is not None:
            self._note_begin(self._taken(job))

    def returned(self, job: Job, lacking: str = "") -> None:
        if lacking:
            self._wait_for_more(lacking)
        if self._ahead.pop(job.id, None) is not None:
            self._line.push(job, first=True)
            self.wake()
        elif job.id in self._running:
            self._in_background(self._give_back(self._drop(job), "", begun=False))

    def progressed(self, job: Job, percent: int, message: str) -> None:
        running = self._running.get(job.id)
        if running is not None:
            running = msgspec.structs.replace(
                running,
                progress=percent,
                message=message,
                updated=self._ledger.clock(),
                revision=running.revision + 1,
            )
            self._running[job.id] = running
            self._feed.progressed(running)

    def ended(self, job: Job, ending: Ending) -> None:
        if ending.folder is None:
            self._keep_end(job, ending)
        else:
            self._in_background(self._store(job, ending))  # its lease is renewed until its results are stored
        self.wake()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        self._note_task(asyncio.get_running_loop().create_task(work))

    def _note_task(self, task: asyncio.Future[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _store(self, job: Job, ending: Ending) -> None:
        """Store what the job left, then end it: results exist before the job is called successful."""
        folder = ending.folder
        assert folder is not None
        sealed = self.sealer is not None and await self.sealer.release(job)
        if self._is_refused(self.progress_of(job), ending.failure):
            await asyncio.to_thread(remove_tree, folder)
            if sealed:
                with contextlib.suppress(StorageUnavailable):
                    await self._results.remove(job.key)
            self._keep_end(job, replace(ending, log_bytes=0))
            return
        if job.id in self._abandoned or self._is_tried_again(job, ending.failure):
            await self._keep_log(job, folder, sealed=sealed)
            self._keep_end(job, ending)
            return
        if ending.failure is not None:
            printed = await asyncio.to_thread(tail_of, folder / "process.log")
            ending = replace(ending, failure=msgspec.structs.replace(ending.failure, log=printed))
        self._keep_end(job, await self._stored(job, ending, folder, sealed=sealed))

    async def _stored(self, job: Job, ending: Ending, folder: Path, *, sealed: bool) -> Ending:
        """Store what the job left, again and again for a while; return its end, another one if that has failed."""
        manifest = ending.manifest if ending.failure is None else None
        for pause in (*_STORE_PAUSES_S, None):
            try:
                await self._results.commit(job, folder, manifest, sealed=sealed)
            except (GraticuleError, OSError) as error:
                log.warning("results of job %s cannot be stored%s: %s", job.id, "" if pause is None else " yet", error)
                reason = error.reason if isinstance(error, StorageUnavailable) else str(error)
            else:
                return ending
            if job.id in self._abandoned:
                break
            if pause is not None and await self._is_interrupted(pause):
                lost = Failure(cause="lost worker", detail="its worker was stopped before the results were stored")
                ending = replace(ending, failure=ending.failure or lost)
                break
        else:
            if manifest is not None and has_files(manifest):
                detail = f"the job's results cannot be stored: {reason}"
                printed = await asyncio.to_thread(tail_of, kept_of(folder) / "process.log")
                failure = Failure(cause="stage-out", detail=detail, step="stage-out", log=printed)
                ending = replace(ending, failure=failure)
            else:  # what failed before, or has its results in the ledger, has only lost its log by this
                log.warning("the log of job %s is lost: %s", job.id, reason)
        await self._results.give_up(folder)
        return ending

    async def _keep_log(self, job: Job, folder: Path, *, sealed: bool) -> None:
        """Store what an attempt has printed that came to nothing, if that can be done at once."""
        try:
            async with asyncio.timeout(_KEEP_LOG_S):
                await self._results.commit(job, folder, None, sealed=sealed)
            await self._ledger.get(job.key)
        except NotFound:  # the job was removed meanwhile, and what was stored of it before
            with contextlib.suppress(StorageUnavailable):
                await self._results.remove(job.key)
        except LedgerUnavailable:
            return
        except (GraticuleError, OSError) as error:
            log.warning("the log of an attempt of job %s is lost: %s", job.id, error)
            await self._results.give_up(folder)

    async def _is_interrupted(self, seconds: float) -> bool:
        """Wait, and return whether the agent has to end meanwhile."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
        return self._ending.is_set()

    def _keep_end(self, job: Job, ending: Ending) -> None:
        job = self._drop(job)
        if job.id in self._abandoned:  # somebody else has it, or nobody: the ledger knows
            self._abandoned.discard(job.id)
            return
        failure, at = ending.failure, self._ledger.clock()
        if failure is None:
            end = job.moved_to("successful", at=at, manifest=_encode(ending.manifest), log_bytes=ending.log_bytes)
        elif self._is_tried_again(job, failure):
            self._in_background(self._give_back(job, failure.detail))
            return
        else:
            end = job.moved_to(
                "dismissed" if failure.cause == "cancelled" else "failed",
                at=at,
                failure=_encode(failure),
                log_bytes=ending.log_bytes,
                message=failure.detail[:1000],
            )
        if self._is_refused(job, failure):
            self._in_background(self._discard(end))
        else:
            self._finish(end)

    def _finish(self, end: Job) -> None:
        kept = asyncio.ensure_future(self._ledger.finish(end))
        kept.add_done_callback(partial(self._kept, end))
        self._note_task(kept)

    async def _discard(self, end: Job) -> None:
        """Keep nothing of a job with wrong inputs, unless a client was told its address meanwhile."""
        with contextlib.suppress(LedgerUnavailable):
            if await self._ledger.discard(end):
                self._feed.ended(end)
                return
        self._finish(end)

    def _is_refused(self, job: Job, failure: Failure | None) -> bool:
        """Whether a client that waits here is told of wrong inputs: there was no work, so nothing of the job stays."""
        if failure is None or not failure.blames_inputs or not job.sync:
            return False
        return not self._ledger.shared or self._feed.awaits(job.key)

    def _is_tried_again(self, job: Job, failure: Failure | None) -> bool:
        """Whether a job that failed is begun again: for no fault of its own, and not too often."""
        if failure is None or not (failure.transient or failure.cause == "lost worker"):
            return False
        return self._closing or job.attempts < self.rules.max_attempts

    async def _give_back(self, job: Job, why: str, *, begun: bool = True) -> None:
        """Let a job wait again that did not come to its end here."""

        def waits_again(found: Job) -> Job:
            if found.token != job.token:
                raise IllegalTransition(found.status, "accepted")
            at = self._ledger.clock()
            if not begun:
                return found.moved_to("accepted", at=at, agent="", lease_end=0, attempts=found.attempts - 1)
            return given_back(found, why, at, self.rules)

        while True:
            try:
                self._feed.moved(await self._ledger.move(job.key, waits_again))
            except LedgerUnavailable:
                if self._closing:  # the lease ends, or the next owner finds it
                    break
                await asyncio.sleep(_AGAIN_S)
            except GraticuleError as error:  # it was dismissed meanwhile
                log.info("job %s was not given back: %s", job.id, error)
                break
            else:
                break
        self.wake()

    def _kept(self, end: Job, future: asyncio.Future[bool | None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, LedgerUnavailable):
            self._in_background(self._keep_trying(end))
        elif error is not None:
            log.error("the end of job %s cannot be kept: %s", end.id, error)
            self._feed.broke(end, error)  # type: ignore[arg-type]
        elif future.result() is False:
            self._in_background(self._clean_after(end))
        else:
            self._feed.ended(end)

    async def _keep_trying(self, end: Job) -> None:
        """Write an end that the ledger could not take: its results are there, nothing of it must be lost."""
        log.warning("the end of job %s cannot be kept now; it is tried again", end.id)
        while not self._ending.is_set():
            await asyncio.sleep(_END_AGAIN_S)
            try:
                kept = await self._ledger.finish(end)
            except LedgerUnavailable:
                continue
            if kept:
                self._feed.ended(end)
            else:
                await self._clean_after(end)
            return

    async def _clean_after(self, end: Job) -> None:
        """Remove the results of a job that was dismissed or given to somebody else while it ended."""
        log.info("the end of job %s came too late and is dropped", end.id)
        try:
            found = await self._ledger.get(end.key)
            if found.status == "successful" and found.token == end.token:  # it was kept, only we did not hear of it
                return
            await self._results.remove_outputs(end)
        except NotFound:  # its record is gone too, so are its logs
            await self._results.remove(end.key)
        except LedgerUnavailable:
            return

    # --- leases -----------------------------------------------------------------------------------------------------

    async def take_over(self, left: Path) -> int:
        """Void the claims of an earlier owner of the ledger, which is no more; return how many jobs that were.

        Parameters
        ----------
        left : Path
            Where the logs of its jobs lie, each in a folder by the job's identifier.
        """
        began = time.monotonic()
        touched = await self._ledger.reap(self._lost, before=None)
        for job in touched:
            if (left / job.id).exists() or kept_of(left / job.id).exists():
                await self._keep_log(job, left / job.id, sealed=False)
        if touched:
            log.warning("%d jobs of an earlier server were taken up in %.2f s", len(touched), time.monotonic() - began)
        return len(touched)

    def _lost(self, job: Job) -> Job:
        """Return what becomes of a job whose agent is lost: it waits again, or fails."""
        at = self._ledger.clock()
        if job.sync and not job.idempotency_key and not self._ledger.shared:
            when = "while the job ran" if job.attempts else "before the job began"
            detail = f"the server was stopped {when}, and nobody waits for its result any more"
        elif job.attempts >= self.rules.max_attempts:
            detail = f"the server was stopped while the job ran, {job.attempts} times; it is not tried again"
        else:
            return given_back(job, "its worker was lost", at, self.rules)
        # How far it had come died with its agent: as far as anybody knows, it ran.
        step: Step = "run" if job.attempts else ""
        failure = msgspec.msgpack.encode(Failure(cause="lost worker", detail=detail, step=step))
        return job.moved_to("failed", at=at, failure=failure, message=detail)

    async def _keep_leases(self) -> None:
        written: dict[str, int] = {}
        elapsed = 0.0
        step = min(1.0, self.rules.lease_s / 8)
        renewed = steady()
        while True:
            await asyncio.sleep(step)
            elapsed += step
            due = elapsed >= self.rules.lease_s / 4
            if due:
                elapsed = 0.0
                self._look_around()
                if self._ledger.shared:
                    self._executor.watch(renewed + self.rules.lease_s * _CUT_OFF - steady())
            news = [job for job in self._running.values() if due or written.get(job.id) != job.updated]
            written = {job.id: job.updated for job in self._running.values()}
            asked = steady()  # from here on the leases count that are written now, however late the answer comes
            if not self._running:
                renewed = asked
            if news and await self._is_renewed(news, renewed) and due:
                renewed = asked
            if self._ledger.shared and steady() - renewed > self.rules.lease_s * _CUT_OFF:
                self._cut_off()

    async def _tell_others(self) -> None:
        """Tell other processes now and then what is new of running jobs; one that is short costs nothing."""
        told: dict[str, tuple[int, int]] = {}
        while self._ledger.shared:
            await asyncio.sleep(_TELL_S)
            now_known = {job.id: (job.token, job.revision) for job in self._running.values()}
            news = [job for job in self._running.values() if told.get(job.id) != now_known[job.id]]
            try:
                if news:
                    await self._ledger.tell(news)
            except LedgerUnavailable:
                await asyncio.sleep(_AGAIN_S)
            else:
                told = now_known

    async def _is_renewed(self, news: list[Job], renewed: float) -> bool:
        """Renew leases; return whether that was possible."""
        try:
            await self._renew(news, renewed)
        except GraticuleError as error:
            if not isinstance(error, LedgerUnavailable):  # of that the ledger itself writes, and not each second
                log.warning("leases cannot be renewed: %s", error)
            return False
        return True

    async def _renew(self, news: list[Job], renewed: float) -> None:
        """Write progress, and lengthen leases; let go of jobs that are not held any more."""
        lease_end = self._ledger.clock() + self._lease
        jobs = [msgspec.structs.replace(job, lease_end=lease_end) for job in news]
        if self._ledger.shared:
            limit = self.rules.lease_s * _CUT_OFF - (steady() - renewed)
            try:
                lost = await asyncio.wait_for(asyncio.ensure_future(self._ledger.renew(jobs)), max(0.05, limit))
            except TimeoutError:
                raise LedgerUnavailable("it does not answer") from None
        else:
            lost = await self._ledger.renew(jobs)
        for job in news:
            if job.id in lost and job.id in self._running:
                await self._look_at(job.key)

    def _cut_off(self) -> None:
        """End all that runs here: others will begin it anew when the leases end."""
        for job in list(self._running.values()):
            if job.id not in self._abandoned:
                log.error("job %s is stopped: its lease cannot be renewed", job.id)
                self._abandon(job, "the worker could not reach the ledger")

    def _abandon(self, job: Job, why: str) -> None:
        self._abandoned.add(job.id)
        self._executor.stop(job.id, Failure(cause="lost worker", detail=why))

    async def _look_at(self, key: JobKey) -> None:
        """Stop a job that runs here although the ledger says otherwise."""
        running = self._running.get(key.id)
        if running is None or running.id in self._abandoned:
            return
        try:
            found = await self._ledger.get(key)
        except NotFound:
            self._abandon(running, "the job was removed")
        except LedgerUnavailable:
            return
        else:
            if found.status == "dismissed" and found.token == running.token:
                self._executor.stop(key.id, Failure(cause="cancelled", detail="the job was dismissed"))
            elif found.status != "running" or found.token != running.token:
                self._abandon(running, "the job was given to another worker")

    def _look_around(self) -> None:
        """Do what is done at every renewal, whether anything runs or not."""
        self.wake(look=self._ledger.shared)  # jobs that were to wait a while may begin
        if self._closing:
            return
        self._in_background(self._report_and_reap() if self._ledger.shared else self._ledger.set_clock())

    async def _report_and_reap(self) -> None:
        """Make this agent known, and look for the jobs of those that are lost.

        Leases also run out while nobody reaches the ledger. Whoever lives gets half a lease afterwards to renew them,
        and to write the ends that came meanwhile. When somebody has set the ledger's own clock, a whole one: those that
        live have learnt of that, and renewed their leases by it, before any is thought to have ended.
        """
        began = steady()
        try:
            await self.report()
            answered = steady()
            if self._reap_from == math.inf or answered - began > self.rules.lease_s / 4:
                self._reap_from = answered + self.rules.lease_s / 2
            ahead = self._ledger.clock() - int(answered * 1e6)
            if self._ahead_us is not None and abs(ahead - self._ahead_us) > self._lease / 8:
                self._reap_from = answered + self.rules.lease_s
            self._ahead_us = ahead
            if answered < self._reap_from:
                return
            touched = await self._ledger.reap(self._lost, before=self._ledger.clock())
        except GraticuleError as error:
            if not isinstance(error, LedgerUnavailable):
                log.warning("lost jobs cannot be looked for: %s", error)
            self._reap_from = math.inf
            return
        for job in touched:
            agent = job.agent or job.attempts_before()[-1].agent
            log.warning("job %s of agent %s was lost: %s", job.id, agent, job.message)
            if job.ended:
                self._feed.ended(job)
            else:
                self._feed.moved(job)
        if touched:
            self._count_lost(len(touched))
            self.wake()

    async def report(self) -> None:
        """Make this agent known to the others."""
        await self._ledger.report(self.record())

    def record(self) -> AgentRecord:
        """Return what this agent says of itself."""
        offers = [(offer.description.id, offer.description.version) for offer in self._catalog("").offers()]
        return AgentRecord(
            id=self.id,
            kind=self.rules.kind,  # type: ignore[arg-type]
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._started,
            seen=self._ledger.clock(),
            slots=self.slots,
            busy=len(self._running),
            labels=",".join(sorted(self.rules.labels)),
            offers=msgspec.json.encode(offers).decode(),
            paused=0 if self.hold is None else {"pause": 1, "drain": 2}[self.hold.action],
        )

    # --- news of others ---------------------------------------------------------------------------------------------

    def hear(self, news: News) -> None:
        """Hear what another process has changed."""
        if news.kind == "waiting" or (news.kind == "ended" and self.rules.queue.limited):
            self.wake()  # what has ended elsewhere may have been all that a limit allowed
        if news.kind == "waiting":
            return
        if news.kind == "missed":
            self.wake()
            for job in list(self._running.values()):
                self._in_background(self._look_at(job.key))
        elif news.key is not None and news.key.id in self._running:
            self._in_background(self._look_at(news.key))

    # --- the end ----------------------------------------------------------------------------------------------------

    def retire(self) -> asyncio.Task[None]:
        """Begin nothing any more, and let running jobs end for a while; after that nobody waits here for any job.

        Returns
        -------
        asyncio.Task
            Done when nothing runs here, or when the time is over.
        """
        if self._retiring is None:
            self._closing = True
            self._forget_all()
            self._retiring = asyncio.get_running_loop().create_task(self._see_out())
            if self._ledger.shared:  # others may end what is waited for here
                asyncio.get_running_loop().call_later(self.rules.grace_s, self._feed.close)
        return self._retiring

    async def _see_out(self) -> None:
        """Let running jobs end for a while, and their ends be kept."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.rules.grace_s):
                if self._running:
                    self._idle.clear()
                    await self._idle.wait()
                while self._tasks:
                    await asyncio.wait(self._tasks)
        if not self._ledger.shared:
            self._feed.close()

    async def close(self) -> None:
        """Stop claiming, let running jobs end for a while, give the others back, and write what is known."""
        await self.retire()
        self._feed.close()
        self._ending.set()
        await self._executor.close()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._keeping.cancel()
        self._telling.cancel()
        if self.sealer is not None:
            self.sealer.close()
        if self._ledger.shared:
            try:
                await self._ledger.leave(self.id)
            except GraticuleError as error:
                log.warning("the others are not told that this agent has ended: %s", error)


def given_back(job: Job, why: str, at: int, rules: AgentRules) -> Job:
    """Return a running job as it waits for its next attempt."""
    pause = rules.backoff_s * 2 ** (job.attempts - 2) if job.attempts > 1 else 0.0
    message = f"{why}; waiting again (attempt {job.attempts + 1} of {rules.max_attempts})"
    attempt = Attempt(agent=job.agent, started=job.started, ended=max(at, job.started), why=why, token=job.token)
    return job.moved_to(
        "accepted",
        at=at,
        agent="",
        progress=0,
        lease_end=0,
        message=message,
        not_before=at + int(pause * 1e6),
        history=_encode([*job.attempts_before(), attempt]),
    )


def _detached(job: Job) -> Job:
    return msgspec.structs.replace(job, sync=False, type="process", revision=job.revision + 1)


def _limits_of(job: Job, most: Limits) -> Limits:
    """Return what a job may use; most requests do not say, and are not read again."""
    return limits_of(_execute.decode(job.request).limits, most) if b'"limits"' in job.request else most
