"""What routes talk to: the jobs of one actor in one workspace."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from graticule.data.uploads import Uploads
from graticule.errors import (
    DuplicateJob,
    Fault,
    GraticuleError,
    IllegalTransition,
    InvalidInputs,
    JobChanged,
    JobFailed,
    JobGone,
    JobLocked,
    KeyReused,
    LedgerUnavailable,
    NoSuchJob,
    NoSuchNotice,
    NotEnded,
    ResultNotAvailable,
    ResultNotReady,
    ResultsExpired,
    ShuttingDown,
    StorageUnavailable,
    SyncTimeout,
    TooManyJobs,
)  # fmt: skip
from graticule.jobs.admission import Admission, Place
from graticule.jobs.agent import Agent
from graticule.jobs.aside import aside
from graticule.jobs.callbacks import Callbacks
from graticule.jobs.elsewhere import Elsewhere
from graticule.jobs.failures import remedy_of
from graticule.jobs.feed import Feed
from graticule.jobs.holds import Holds
from graticule.jobs.job import Failure, Job, JobKey, Preparation, Source
from graticule.jobs.ledger import Found, JobQuery, Ledger, Notice, Page
from graticule.jobs.own_files import (
    RESULT,
    NoSource,
    OwnFiles,
    missing_file,
    own_addresses,
    own_references,
    source_of,
)
from graticule.jobs.results import ResultStore
from graticule.jobs.subscriptions import Subscription, Subscriptions
from graticule.ogc.jobs import ENDED
from graticule.ogc.operations import Dismissal
from graticule.ogc.processes import LABEL, MOST_LABELS, Execute
from graticule.processes.catalog import Catalog, Offer
from graticule.processes.inputs import ReferencePolicy
from graticule.processes.limits import limit_faults
from graticule.processes.secrets import mask_faults

_CHANGED = ("process", "version", "requires", "request", "subscriber", "base", "updated", "sources", "labels")
"""What another request makes of a created job; its identifier, its owner and its beginning stay."""

_AT_ONCE = 50
"""Jobs that are dismissed at the same time, of many."""

_execute = msgspec.json.Decoder(Execute)

_DISMISSED = Failure(cause="cancelled", detail="the job was dismissed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequest:
    """An execute request as it came."""

    execute: Execute
    body: bytes
    """The same, as received; it is kept with the job."""
    subscription: Subscription | None = None
    """Its subscriber, as `JobManager.request` gives it; without it nobody is told."""
    base: str
    """Address of the service as the client sees it."""
    sync: bool = False
    prompt: bool = False
    """True: the client waits and has not said that it would take a job, so it is told if the job would not begin."""
    files: OwnFiles = field(default_factory=OwnFiles)
    """What `JobManager.request` found of what it refers to."""
    listed: bool = True
    """False: its answer cannot link the job, so the list of jobs does not show it either."""
    trace: str = ""
    """The header ``traceparent`` of the request, where it is traced."""
    idempotency_key: str = ""
    """Sent again with the same key, it is the same job; empty: each is a new one."""
    repeats: str = ""
    """The job that is sent again by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job that was just sent."""

    job: Job
    offer: Offer
    kept: Awaitable[None]
    """Done when the job is durable."""
    end: asyncio.Future[Job] | None
    """Gets the job when it has ended; only for one that somebody waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The parts of the job engine, shared by all workspaces."""

    ledger: Ledger
    agent: Agent
    feed: Feed
    holds: Holds
    elsewhere: Elsewhere
    results: ResultStore
    subscriptions: Subscriptions
    callbacks: Callbacks
    admission: Admission


@dataclass(frozen=True, slots=True, kw_only=True)
class JobManager:
    """The jobs of one actor in one workspace."""

    workspace: str
    at_root: bool
    """True for the workspace whose resources have addresses without its name, too."""
    actor: str
    private: bool
    """True where actors are known by tokens: each then sees only its own jobs, unless it is an operator."""
    operates: bool
    """True for an operator, who sees and dismisses everybody's."""
    catalog: Catalog
    engine: Engine
    policy: ReferencePolicy
    uploads: Uploads
    """The files that inputs may refer to by addresses below ``/files/``."""

    async def request(self, execute: Execute, body: bytes, *, base: str, **fields: Any) -> ExecutionRequest:
        """Return an execute request with what must be looked up before it can become a job.

        Parameters
        ----------
        execute : Execute
            The request.
        body : bytes
            The same, as received.
        base : str
            Address of the service as the client sees it.
        **fields
            Others of `ExecutionRequest`; a `subscription` that is given is not looked up.
        """
        if b'"href"' in body:
            fields["files"] = await self._look_up(execute, base, len(body))
        if "subscription" not in fields and (execute.subscriber is not None or b'"subscriber"' in body):
            fields["subscription"] = await self.engine.subscriptions.accept(
                execute.subscriber, body, workspace=self.workspace, actor=self.actor
            )
        return ExecutionRequest(execute=execute, body=body, base=base, **fields)

    async def _look_up(self, execute: Execute, base: str, size: int) -> OwnFiles:
        """Find the uploads, samples and results of jobs to which a request refers."""
        places: dict[str, Path | str] = {}
        sources: dict[str, Source] = {}
        faults = []
        actor = self.actor if self.private else None
        addresses = own_addresses(base, self.workspace, at_root=self.at_root)
        for pointer, href, address in await aside(size, own_references, execute, addresses, "files"):
            place = self.uploads.place_of(address)
            if place is None or not await self.uploads.has(address, actor=actor):
                begun = await self.uploads.awaits(address, actor=actor)
                faults.append(Fault(pointer, missing_file(href, begun=begun)))
            else:
                places[href] = place
        for pointer, href, address in await aside(size, own_references, execute, addresses, "jobs"):
            if (named := RESULT.fullmatch(address)) is not None:
                try:
                    sources[href] = source_of(await self.get(named["job"]), named)
                except (NoSuchJob, JobGone):
                    detail = f"no job with the result {href!r} is kept here; run it again"
                    faults.append(Fault(pointer, detail))
                except NoSource as error:
                    faults.append(Fault(pointer, str(error)))
        return OwnFiles(places=places, sources=sources, faults=faults)

    async def submit(self, process_id: str, request: ExecutionRequest) -> Submission:
        """Check a request and take it on.

        Raises
        ------
        NoSuchProcess
            If there is no such process here.
        InvalidInputs
            If anything in the request does not fit, as far as that can be seen without fetching or opening data;
            no job exists then.
        TooManyJobs
            If as many jobs wait as may.
        QueueHeld
            If an operator has none taken, or begun while a client waits for it.
        """
        offer = await self._check(process_id, request)
        self._check_doors(process_id, prompt=request.prompt)
        job = self._new(offer, request)
        end = self.engine.feed.end_of(job.key) if request.sync else None
        try:
            job, kept = self.engine.agent.admit(job)
        except TooManyJobs:
            if end is not None:
                self.engine.feed.forget(job.key, end)
            raise
        return Submission(job=job, offer=offer, kept=kept, end=end)

    async def submit_once(self, process_id: str, request: ExecutionRequest) -> Submission:
        """Take a request on as `submit` does; one with an idempotency key that was used before is the same job.

        Raises
        ------
        KeyReused
            If the key was used for another request.
        TooManyJobs
            If as many jobs wait as may.
        QueueHeld
            If an operator has none taken.
        """
        if not request.idempotency_key:
            return await self.submit(process_id, request)
        offer = await self._check(process_id, request)
        taken: list[Submission] = []

        async def take() -> None:
            taken.append(await self.submit(process_id, request))
            await taken[0].kept

        while True:
            found = await self._sent_before(self._new(offer, request), take)
            if found is None:
                return taken[0]
            with contextlib.suppress(NoSuchJob):  # refused in this moment: it is sent for the first time now
                return await self._follow(found, offer, waits=request.sync)

    async def _sent_before(self, wanted: Job, take: Callable[[], Awaitable[None]]) -> Job | None:
        """Return the job that was sent before with the same idempotency key; None: `take` has taken it on now.

        Raises
        ------
        KeyReused
            If the key was used for something else: another body, or to create a job, run it, or send it again.
        """
        async with self.engine.admission.turn((self.workspace, self.actor, wanted.process, wanted.idempotency_key)):
            found = await self.engine.ledger.find_same(wanted)
            if found is None:
                try:
                    await take()
                except DuplicateJob:  # another server has it
                    found = await self.engine.ledger.find_same(wanted)
                else:
                    return None
        if found is None or found.asked_by() != wanted.asked_by():
            raise KeyReused(wanted.idempotency_key, found.id if found is not None else "unknown")
        return found

    async def _follow(self, job: Job, offer: Offer, *, waits: bool) -> Submission:
        """Return a job that was sent before as if it had just been sent."""
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        kept.set_result(None)
        end: asyncio.Future[Job] | None = None
        if waits:
            end = self.engine.feed.end_of(job.key)
            job = await self.engine.ledger.get(job.key)
            if job.ended and not end.done():
                self.engine.feed.forget(job.key, end)
                end.set_result(job)
        elif job.sync:  # whoever has sent it waits, but now its address is told
            job = await self.engine.agent.detach(job)
        return Submission(job=job, offer=offer, kept=kept, end=end)

    async def place(self, job: Job) -> Place | None:
        """Return where a job stands in the queue; None: it does not wait."""
        if job.status != "accepted":
            return None
        ledger, agent, holds = self.engine.ledger, self.engine.agent, self.engine.holds
        hold = holds.over(self.workspace, job.process, "pause")
        position, slots, offered = await self.engine.admission.position(job), agent.slots, agent.fits(job)
        if ledger.shared:
            living = await ledger.agents(since=ledger.clock() - int(agent.rules.lease_s * 1e6))
            slots = sum(one.slots for one in living)
            offered = any(one.can_run(job) for one in living if one.slots and not one.paused)
        else:
            hold = hold or agent.hold
        start: int | None = None
        if offered and slots and agent.pace_s and hold is None:
            start = max(job.not_before, ledger.clock() + int(agent.pace_s * 1e6 * position / slots))
        held = agent.lacking or agent.scarce if hold is None else hold.sentence
        return Place(position=position, start=start, offered=offered, held=held)

    async def _check(self, process_id: str, request: ExecutionRequest) -> Offer:
        """Return the process that a request is for, if all in it fits; raises NoSuchProcess or InvalidInputs."""
        offer = self.catalog.get(process_id)
        execute, subscription = request.execute, request.subscription
        assert execute.subscriber is None or subscription is not None, "secrets of a subscriber must not be kept"
        policy = request.files.admitted(self.policy, self.workspace, self.engine.results)
        faults = [*request.files.faults]
        unknown = {fault.pointer for fault in faults}
        checked = await aside(len(request.body), offer.checker.check, execute.inputs, execute.outputs, policy)
        faults += [fault for fault in checked if fault.pointer not in unknown]
        faults += mask_faults(execute.inputs, offer.description)
        if execute.limits is not None:
            faults += limit_faults(execute.limits, offer.limits)
        faults += _label_faults(execute.labels or ())
        if subscription is not None:
            faults += subscription.faults
        if faults:
            raise InvalidInputs(faults)
        return offer

    def _check_doors(self, process_id: str, *, prompt: bool) -> None:
        """Raise QueueHeld or StorageUnavailable if no job is taken now."""
        self.check_disk()
        self.engine.holds.check_open(self.workspace, process_id)
        if prompt:
            self.engine.holds.check_prompt(self.workspace, process_id)

    def check_disk(self) -> None:
        """Raise StorageUnavailable while the disk has too little room for anything new."""
        if lacking := self.engine.agent.lacking:
            raise StorageUnavailable(lacking, "storage.min_free_mib")

    def _new(self, offer: Offer, request: ExecutionRequest) -> Job:
        at, subscription, files = self.engine.ledger.clock(), request.subscription, request.files
        return Job(
            id=_new_id(at),
            workspace=self.workspace,
            actor=self.actor,
            type="process" if request.listed else "sync",
            process=offer.description.id,
            version=offer.description.version,
            requires=offer.requires,
            sync=request.sync,
            created=at,
            updated=at,
            request=request.body if subscription is None else subscription.body,
            subscriber=b"" if subscription is None else subscription.kept,
            base=request.base,
            sources=msgspec.msgpack.encode(files.sources) if files.sources else b"",
            trace=request.trace,
            idempotency_key=request.idempotency_key,
            repeats=request.repeats,
            labels=f",{','.join(dict.fromkeys(labels))}," if (labels := request.execute.labels) else "",
        )

    async def create(self, process_id: str, request: ExecutionRequest, preparation: Preparation) -> Job:
        """Check a request and keep it as a job that waits to be started; with a key that was used, return the same job.

        Raises
        ------
        NoSuchProcess, InvalidInputs, KeyReused, StorageUnavailable
            As for one that is run.
        """
        job = self._new(await self._check(process_id, request), request)
        job = msgspec.structs.replace(job, status="created", preparation=msgspec.msgpack.encode(preparation))

        async def take() -> None:
            self.check_disk()
            await self.engine.ledger.add(job)

        if not request.idempotency_key:
            await take()
            return job
        return await self._sent_before(job, take) or job

    async def get_created(self, job_id: str) -> Job:
        """Return a job that waits to be started.

        Raises
        ------
        JobLocked
            If it was started, or dismissed.
        """
        job = await self.get(job_id)
        if job.status != "created":
            raise JobLocked(job.id, job.status)
        return job

    async def change(
        self, job: Job, process_id: str, request: ExecutionRequest, preparation: Preparation
    ) -> Job | None:  # fmt: skip
        """Put another request in place of that of a created job; None if it is not any more as it was read.

        Raises
        ------
        JobLocked
            If it was started or dismissed meanwhile.
        NoSuchProcess, InvalidInputs
            If the request does not fit; the job stays as it was.
        """
        new = self._new(await self._check(process_id, request), request)
        changes = {name: getattr(new, name) for name in _CHANGED}
        changes["idempotency_key"] = job.key_at(new.process)
        first = job.asked_by() if job.idempotency_key else b""
        encoded = msgspec.msgpack.encode(msgspec.structs.replace(preparation, first=first))
        wanted = msgspec.structs.replace(job, **changes, preparation=encoded, revision=job.revision + 1)
        moved = await self.engine.ledger.move(job.key, lambda found: wanted if _as_read(found, job) else found)
        return moved if moved == wanted else None

    async def start(self, job: Job, execute: Execute, *, waits: bool) -> Submission | None:
        """Start a created job; None if it is not any more as it was read.

        Parameters
        ----------
        job : Job
            The job, as it was read.
        execute : Execute
            Its request.
        waits : bool
            Whether somebody will wait for its end.

        Raises
        ------
        JobLocked
            If it was started or dismissed meanwhile.
        NoSuchProcess, InvalidInputs
            If its request does not fit any more; it stays created.
        TooManyJobs
            If as many jobs wait as may; it stays created.
        """
        subscription = Subscription(kept=job.subscriber, body=job.request) if job.subscriber else None
        request = await self.request(execute, job.request, base=job.base, subscription=subscription)
        offer = await self._check(job.process, request)
        self._check_doors(job.process, prompt=waits and not offer.description.allows_async)
        sources = self._new(offer, request).sources
        wanted = job.moved_to(
            "accepted",
            at=self.engine.ledger.clock(),
            version=offer.description.version,
            requires=offer.requires,
            sources=sources,
        )
        end = self.engine.feed.end_of(job.key) if waits else None
        moved: Job | None = None
        self.engine.agent.starting += 1
        try:
            moved = await self.engine.ledger.move(
                job.key, lambda found: wanted if _as_read(found, job) else found, self.engine.admission.room
            )
        finally:
            self.engine.agent.starting -= 1
            if moved != wanted and end is not None:
                self.engine.feed.forget(job.key, end)
        if moved != wanted:
            return None
        self.engine.feed.moved(moved)
        self.engine.agent.wake()
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        kept.set_result(None)
        return Submission(job=moved, offer=offer, kept=kept, end=end)

    async def wait(self, submission: Submission, *, seconds: float) -> Job:
        """Wait until a job ends, at most so many `seconds` and not longer than a service may that stops.

        Returns
        -------
        Job
            The job as it is then.

        Raises
        ------
        InvalidInputs
            If its inputs turned out to be wrong when they were opened; the job is gone then, unless a client knows it.
        """
        assert submission.end is not None
        end = submission.end
        await self.engine.feed.wait(end, asyncio.ensure_future(submission.kept), seconds=seconds)
        if not end.done():
            try:
                await submission.kept  # before that, nobody else can read it
            except GraticuleError:  # there is no job whose end could come
                self.engine.feed.forget(submission.job.key, end)
                raise
            try:
                return await self.get(submission.job.id)
            except NoSuchJob:  # refused in this moment: its end is about to be told
                await end
            except LedgerUnavailable:  # it was kept: whoever is told that nothing was would send it once more
                return self.engine.agent.progress_of(submission.job)
        job = end.result()
        failure = job.failed_because()
        if failure is not None and failure.blames_inputs:
            # Another machine has found it out, and could not know that we wait.
            if self.engine.ledger.shared and await self.engine.ledger.discard(job):
                await self.engine.results.remove(job.key)
            raise InvalidInputs([Fault(fault.pointer, fault.message) for fault in failure.faults])
        return job

    async def let_go(self, submission: Submission, *, seconds: float) -> Job:
        """Stop waiting for a job: it goes on by itself, or is dismissed where the process knows only sync.

        While the service stops, a job goes on whatever its process knows if its client can ask for it once more.

        Returns
        -------
        Job
            The job as it is now; it may have ended in this moment.

        Raises
        ------
        SyncTimeout, ShuttingDown
            If it was dismissed.
        """
        job = submission.job
        if submission.end is not None:
            self.engine.feed.forget(job.key, submission.end)
        stops = self.engine.feed.closed
        found_again = not job.sync or bool(job.idempotency_key)
        if submission.offer.description.allows_async or (stops and found_again):
            return await self.engine.agent.detach(job)
        try:
            await self.stop(job.key)
        except IllegalTransition:
            return await self.get(job.id)
        raise ShuttingDown if stops else SyncTimeout(job.process, seconds)

    async def get(self, job_id: str) -> Job:
        """Return a job with its newest progress; raises NoSuchJob or JobGone."""
        job = await self.engine.ledger.get(JobKey(self.workspace, job_id))
        if self.private and not self.operates and job.actor != self.actor:
            raise NoSuchJob(job_id)
        if job.status == "running":
            latest = self.engine.agent.progress_of(job)
            job = msgspec.structs.replace(
                job, progress=latest.progress, message=latest.message, updated=max(job.updated, latest.updated)
            )
            return self.engine.elsewhere.newest(job)
        return job

    async def page(self, query: JobQuery) -> Page:
        """Return one page of the actor's jobs; workspace and actor of the query are filled in."""
        return await self.engine.ledger.page(self._own(query))

    def _own(self, query: JobQuery) -> JobQuery:
        actor = self.actor if self.private and not self.operates else None
        return replace(query, workspace=self.workspace, actor=actor, now=self.engine.ledger.clock())

    async def dismiss(self, job_id: str, *, read: Job | None = None) -> Job:
        """Stop a job that waits or runs, or remove one that has ended; return it as dismissed.

        With the job as it was `read`, raise JobChanged if one that waits or runs is not any more so.
        """
        job = read or await self.get(job_id)
        return await (self.remove(job) if job.ended else self.stop(job.key, read=read))

    async def remove(self, job: Job) -> Job:
        """Remove a job that has ended, with its results; return it as dismissed."""
        await self._remove(job.key)
        return msgspec.structs.replace(job, status="dismissed", message="the job and its results were removed")

    async def _remove(self, key: JobKey) -> None:
        await self.engine.results.remove(key)  # first: what no record names is found by nobody
        await self.engine.ledger.remove(key)

    async def stop(self, key: JobKey, *, read: Job | None = None) -> Job:
        """Stop a job that waits or runs; raises IllegalTransition if it has ended by now, and leaves it as it is."""
        engine, at = self.engine, self.engine.ledger.clock()

        def dismissed(found: Job) -> Job:
            if read is not None and found.revision != read.revision:
                raise JobChanged(found.id)
            return found.moved_to("dismissed", at=at, message="the job was dismissed", failure=_ENCODED_DISMISSED)

        engine.agent.forget(key.id)
        job = await engine.ledger.move(key, dismissed)
        engine.agent.stop(job.key, _DISMISSED)
        engine.feed.ended(job)
        return job

    async def dismiss_all(self, query: JobQuery, *, dry_run: bool) -> Dismissal:
        """Dismiss the jobs that some filters select, as `dismiss` does each; those of others only for an operator.

        Parameters
        ----------
        query : JobQuery
            The filters.
        dry_run : bool
            Only count them.
        """
        query = replace(self._own(query), limit=_AT_ONCE)
        matched = dismissed = removed = 0
        while found := await self.engine.ledger.find(query):
            query = replace(query, before=found[-1].cursor)
            matched += len(found)
            if not dry_run:
                ends = await asyncio.gather(*map(self._dismiss_found, found))
                dismissed, removed = dismissed + ends.count("dismissed"), removed + ends.count("removed")
        return Dismissal(matched=matched, dismissed=dismissed, removed=removed, dry_run=dry_run)

    async def _dismiss_found(self, found: Found) -> str:
        """Dismiss a job that was found in a status; one that has ended meanwhile is not removed but left as it is."""
        key = JobKey(self.workspace, found.id)
        try:
            if found.status in ENDED:
                await self._remove(key)
                return "removed"
            await self.stop(key)
        except (IllegalTransition, NoSuchJob, JobGone):
            return ""
        return "dismissed"

    async def prioritize(self, job_id: str, priority: int) -> Job:
        """Give a waiting job another priority; raises NotWaiting if it waits no more."""
        job = await self.get(job_id)
        self.engine.agent.forget(job.id)  # where it stands is for the ledger to say from now on
        try:
            return await self.engine.ledger.move(job.key, lambda found: found.prioritized(priority))
        finally:
            self.engine.admission.recount()
            self.engine.agent.wake()

    async def again(self, job_id: str, *, base: str, trace: str, idempotency_key: str = "") -> Job:
        """Send an ended job again: a new one of the same actor, with the same inputs.

        Once more with the same key, it is the same new one.

        Raises
        ------
        NotEnded
            If it has not ended.
        NoSuchProcess, InvalidInputs, KeyReused, TooManyJobs, QueueHeld
            As for a new one: what its inputs refer to may be gone.
        """
        job = await self.get(job_id)
        if not job.ended:
            raise NotEnded(job.id, job.status)
        owner = replace(self, actor=job.actor, operates=False)
        request = await owner.request(
            _execute.decode(job.request),
            job.request,
            base=job.base or base,
            trace=trace,
            repeats=job.id,
            idempotency_key=idempotency_key,
            subscription=Subscription(kept=job.subscriber, body=job.request) if job.subscriber else None,
        )
        submission = await owner.submit_once(job.process, request)
        await submission.kept
        with contextlib.suppress(NoSuchJob, JobGone):
            await self.engine.ledger.move(job.key, lambda found: found.repeated(submission.job.id))
        return submission.job

    async def pin(self, job_id: str) -> Job:
        """Keep the results of a job until somebody removes it; raises ResultsExpired if they are gone."""
        job = await self.get(job_id)
        return await self.engine.ledger.move(job.key, Job.pinned)

    async def unpin(self, job_id: str) -> Job:
        """Keep the results of a job as long as those of others."""
        job = await self.get(job_id)
        return await self.engine.ledger.move(job.key, Job.unpinned)

    async def notices(self, job_id: str) -> list[Notice]:
        """Return what became of the news of a job's end; raises NoSuchJob or JobGone."""
        job = await self.get(job_id)
        return await self.engine.ledger.notices_of(job.key) if job.subscriber else []

    async def send_again(self, job_id: str, number: str) -> Notice:
        """Send a notice of a job now; its number counts from 1.

        Raises
        ------
        NoSuchNotice
            If the job has none of that number.
        """
        notices = await self.notices(job_id)
        if number not in map(str, range(1, len(notices) + 1)):
            raise NoSuchNotice(job_id, number)
        return await self.engine.callbacks.send_again(notices[int(number) - 1])

    async def results(self, job_id: str) -> Job:
        """Return a job that has results.

        Raises
        ------
        ResultsExpired
            If their time was up.
        ResultNotReady
            If it has not ended.
        ResultNotAvailable
            If it was dismissed.
        JobFailed
            If it failed; the error says why.
        """
        job = await self.get(job_id)
        require_success(job)
        return job


def require_success(job: Job) -> None:
    """Raise what says why a job has no results, unless it was successful."""
    if job.keeping in ("expiring", "expired"):
        raise ResultsExpired(job.id)
    if job.status == "successful":
        return
    if not job.ended:
        raise ResultNotReady(job.id, job.status)
    failure = job.failed_because()
    if job.status == "dismissed" or failure is None:
        raise ResultNotAvailable(job.id, "it was dismissed")
    raise JobFailed(
        job.id,
        failure.cause,
        failure.detail,
        [Fault(fault.pointer, fault.message) for fault in failure.faults],
        step=failure.step,
        remedy=remedy_of(failure),
        log=failure.log,
    )


def _label_faults(labels: Sequence[str]) -> Iterator[Fault]:
    """Yield a fault for each label that is none, and one if there are too many."""
    if len(labels) > MOST_LABELS:
        yield Fault("/labels", f"{len(labels)} labels are too many; send {MOST_LABELS} at most")
        return
    for index, label in enumerate(labels):
        if not re.fullmatch(LABEL, label):
            remedy = "use 1 to 63 letters, digits and . _ : / -, beginning with a letter or digit"
            yield Fault(f"/labels/{index}", f"{label[:80]!r} is no label; {remedy}")


def _new_id(at: int) -> str:
    """Return a UUID that begins with the time (version 7, RFC 9562): those of one moment lie together in an index."""
    number = at // 1000 << 80 | int.from_bytes(os.urandom(10), "big")
    digits = f"{number & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _as_read(found: Job, read: Job) -> bool:
    """Return whether a created job is still as it was read; raises JobLocked if it is no created one any more."""
    if found.status != "created":
        raise JobLocked(found.id, found.status)
    return found.revision == read.revision


_ENCODED_DISMISSED = msgspec.msgpack.encode(_DISMISSED)
