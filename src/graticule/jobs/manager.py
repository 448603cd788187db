"""What routes talk to: the jobs of one actor in one workspace."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from graticule.data.uploads import Uploads
from graticule.errors import (
    Fault,
    InvalidInputs,
    JobFailed,
    NoSuchJob,
    NoSuchNotice,
    ResultNotAvailable,
    ResultNotReady,
    ResultsExpired,
    SyncTimeout,
)  # fmt: skip
from graticule.jobs.agent import Agent, now
from graticule.jobs.callbacks import Callbacks
from graticule.jobs.feed import Feed
from graticule.jobs.job import Failure, Job, JobKey
from graticule.jobs.ledger import JobQuery, Ledger, Notice, Page
from graticule.jobs.results import ResultStore
from graticule.jobs.subscriptions import Subscription, Subscriptions
from graticule.ogc.processes import Execute
from graticule.processes.catalog import Catalog, Offer
from graticule.processes.inputs import ReferencePolicy

_DISMISSED = Failure(cause="dismissed", detail="the job was dismissed")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFiles:
    """The service's own files among the references of a request."""

    places: Mapping[str, Path | str] = field(default_factory=dict)
    """Where each is read: a path of this machine, or a signed address of the storage."""
    faults: Sequence[Fault] = ()
    """One for each that is not there."""

    def admitted(self, policy: ReferencePolicy) -> ReferencePolicy:
        """Return a policy that lets these files be read."""
        if not self.places:
            return policy
        local = {href: str(place) for href, place in self.places.items() if isinstance(place, Path)}
        signed = {href: place for href, place in self.places.items() if isinstance(place, str)}
        return msgspec.structs.replace(policy, local_files=local, signed_files=signed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequest:
    """An execute request as it came."""

    execute: Execute
    body: bytes
    """The same, as received; it is kept with the job."""
    subscription: Subscription | None = None
    """Its subscriber, from `JobManager.subscription`; without it nobody is told."""
    base: str
    """Address of the service as the client sees it."""
    sync: bool = False
    files: OwnFiles = field(default_factory=OwnFiles)
    """What `JobManager.look_up` found of the service's own files in it."""
    listed: bool = True
    """False: its answer cannot link the job, so the list of jobs does not show it either."""


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
    results: ResultStore
    subscriptions: Subscriptions
    callbacks: Callbacks


@dataclass(frozen=True, slots=True, kw_only=True)
class JobManager:
    """The jobs of one actor in one workspace."""

    workspace: str
    actor: str
    private: bool
    """True where actors are known by tokens: each then sees only its own jobs."""
    catalog: Catalog
    engine: Engine
    policy: ReferencePolicy
    uploads: Uploads
    """The files that inputs may refer to by addresses below ``/files/``."""

    async def look_up(self, execute: Execute, base: str, body: bytes) -> OwnFiles:
        """Return what is known of the service's own files among the references of a request."""
        if b'"href"' not in body:
            return OwnFiles()
        places: dict[str, Path | str] = {}
        faults = []
        for pointer, href, address in own_references(execute, base):
            place = self.uploads.place_of(address)
            if place is None or not await self.uploads.has(address):
                faults.append(Fault(pointer, _missing(href)))
            else:
                places[href] = place
        return OwnFiles(places=places, faults=faults)

    async def subscription(self, execute: Execute, body: bytes) -> Subscription | None:
        """Return the subscriber of a request ready to be kept, and the request without secrets; None: it has none."""
        if execute.subscriber is None and b'"subscriber"' not in body:
            return None
        subscriptions = self.engine.subscriptions
        return await subscriptions.accept(execute.subscriber, body, workspace=self.workspace, actor=self.actor)

    def submit(self, process_id: str, request: ExecutionRequest) -> Submission:
        """Check a request and take it on.

        Raises
        ------
        NoSuchProcess
            If there is no such process here.
        InvalidInputs
            If anything in the request does not fit, as far as that can be seen without fetching or opening data;
            no job exists then.
        """
        offer = self.catalog.get(process_id)
        execute, policy, faults = request.execute, request.files.admitted(self.policy), [*request.files.faults]
        subscription = request.subscription
        assert execute.subscriber is None or subscription is not None, "secrets of a subscriber must not be kept"
        unknown = {fault.pointer for fault in faults}
        checked = offer.checker.check(execute.inputs, execute.outputs, policy)
        faults += [fault for fault in checked if fault.pointer not in unknown]
        if subscription is not None:
            faults += subscription.faults
        if faults:
            raise InvalidInputs(faults)
        at = now()
        job = Job(
            id=_new_id(at),
            workspace=self.workspace,
            actor=self.actor,
            type="process" if request.listed else "sync",
            process=process_id,
            version=offer.description.version,
            sync=request.sync,
            created=at,
            updated=at,
            request=request.body if subscription is None else subscription.body,
            subscriber=b"" if subscription is None else subscription.kept,
            base=request.base,
        )
        end = self.engine.feed.end_of(job.key) if request.sync else None
        job, kept = self.engine.agent.admit(job)
        return Submission(job=job, offer=offer, kept=kept, end=end)

    async def wait(self, submission: Submission, *, seconds: float) -> Job:
        """Wait until a job ends, at most so many `seconds`; return it as it is then.

        Raises
        ------
        InvalidInputs
            If its inputs turned out to be wrong when they were opened; the job is gone then.
        """
        assert submission.end is not None
        end = submission.end
        if not end.done():
            # A timer and a bare await: a third of the cost of asyncio.wait_for on the path of every execution.
            timer = asyncio.get_running_loop().call_later(seconds, end.cancel)
            try:
                job = await end
            except asyncio.CancelledError:
                if not end.cancelled() or ((task := asyncio.current_task()) is not None and task.cancelling()):
                    raise
                await submission.kept  # before that, nobody else can read it
                return await self.get(submission.job.id)
            finally:
                timer.cancel()
        else:
            job = end.result()
        failure = job.failed_because()
        if failure is not None and failure.cause == "bad input":
            if self.engine.ledger.shared:  # another machine has found it out, and could not know that we wait
                await self.engine.ledger.discard(job)
                await self.engine.results.remove(job.key)
            raise InvalidInputs([Fault(fault.pointer, fault.message) for fault in failure.faults])
        return job

    async def let_go(self, submission: Submission, *, seconds: float) -> Job:
        """Stop waiting for a job: it goes on by itself, or is dismissed where the process knows only sync.

        Raises
        ------
        SyncTimeout
            If it was dismissed.
        """
        job = submission.job
        if not submission.offer.description.allows_async:
            await self.dismiss(job.id)
            raise SyncTimeout(job.process, seconds)
        self.engine.agent.detach(job.id)
        return await self.engine.ledger.move(job.key, _detached)

    async def get(self, job_id: str) -> Job:
        """Return a job with its newest progress; raises NoSuchJob or JobGone."""
        job = await self.engine.ledger.get(JobKey(self.workspace, job_id))
        if self.private and job.actor != self.actor:
            raise NoSuchJob(job_id)
        if job.status == "running":
            latest = self.engine.agent.progress_of(job)
            return msgspec.structs.replace(
                job, progress=latest.progress, message=latest.message, updated=max(job.updated, latest.updated)
            )
        return job

    async def page(self, query: JobQuery) -> Page:
        """Return one page of the actor's jobs; workspace and actor of the query are filled in."""
        return await self.engine.ledger.page(
            replace(query, workspace=self.workspace, actor=self.actor if self.private else None, now=now())
        )

    async def dismiss(self, job_id: str) -> Job:
        """Stop a job that waits or runs, or remove one that has ended; return it as dismissed."""
        job = await self.get(job_id)
        engine = self.engine
        if job.ended:
            await engine.results.remove(job.key)  # first: what no record names is found by nobody
            await engine.ledger.remove(job.key)
            return msgspec.structs.replace(job, status="dismissed", message="the job and its results were removed")
        at = now()
        engine.agent.forget(job.id)
        job = await engine.ledger.move(job.key, lambda found: _dismissed(found, at))
        engine.agent.stop(job.key, _DISMISSED)
        engine.feed.ended(job)
        return job

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
        job.id, failure.cause, failure.detail, [Fault(fault.pointer, fault.message) for fault in failure.faults]
    )


def own_references(execute: Execute, base: str) -> Iterator[tuple[str, str, str]]:
    """Yield pointer and href of each reference to a file of the service, and its address below ``/files/``."""
    for pointer, href in _hrefs(execute.inputs, "/inputs"):
        for prefix in (f"{base}/files/", "/files/"):
            if href.startswith(prefix):
                yield pointer, href, href.removeprefix(prefix)
                break


def _missing(href: str) -> str:
    if "/files/samples/" in href:
        return f"there is no sample {href!r} (a new home needs a moment to make them); GET /files lists what there is"
    return f"no file {href!r} is kept here (files expire); upload it again"


def _hrefs(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        href = value.get("href")
        if isinstance(href, str):
            yield f"{pointer}/href", href
            return
        for key, item in value.items():
            yield from _hrefs(item, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, (Mapping, list)):
                yield from _hrefs(item, f"{pointer}/{index}")


def _new_id(at: int) -> str:
    """Return a UUID that begins with the time (version 7, RFC 9562): those of one moment lie together in an index."""
    number = at // 1000 << 80 | int.from_bytes(os.urandom(10), "big")
    digits = f"{number & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _detached(job: Job) -> Job:
    return msgspec.structs.replace(job, sync=False, type="process", revision=job.revision + 1)


def _dismissed(job: Job, at: int) -> Job:
    return job.moved_to("dismissed", at=at, message="the job was dismissed", failure=_ENCODED_DISMISSED)


_ENCODED_DISMISSED = msgspec.msgpack.encode(_DISMISSED)
