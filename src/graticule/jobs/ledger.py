"""The one truth about jobs: what a ledger promises. ``ledgers/`` holds one file per kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from graticule.jobs.job import Job, JobKey, NoticeKind
from graticule.ogc.jobs import JobStatus
from graticule.ogc.notifications import AuthorizationType


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which jobs a page is about. Filters combine with AND, the values within one with OR; newest first."""

    workspace: str
    actor: str | None = None
    """Only this actor's jobs; None: everybody's."""
    types: tuple[str, ...] = ("process",)
    processes: tuple[str, ...] = ()
    statuses: tuple[JobStatus, ...] = ()
    created_from: int | None = None
    """Microseconds since 1970, included."""
    created_to: int | None = None
    min_duration: float | None = None
    """Seconds, included. A job that runs has lasted since it started; one that never started has no duration."""
    max_duration: float | None = None
    now: int = 0
    limit: int = 10
    before: int | None = None
    """Keyset cursor: only jobs older than this sequence number."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of jobs."""

    jobs: list[Job]
    next: int | None
    """Cursor of the next page, None on the last."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the outbox: the news of a job's end that an address is to get. Moments as in `Job`.

    What is sent is made from the job when it is sent, so the row is small and the news are never older than the job.
    """

    seq: int
    """Its number in the outbox."""
    workspace: str
    job: str
    kind: NoticeKind
    address: str
    host: str
    """Host of the address: no more than so many deliveries go to one at once."""
    status: Literal["waiting", "delivered", "undelivered"] = "waiting"
    """``undelivered``: given up; `last_error` says why."""
    created: int = 0
    updated: int = 0
    not_before: int = 0
    """Not to be sent before this moment (back-off between attempts)."""
    attempts: int = 0
    last_error: str = ""

    @property
    def key(self) -> JobKey:
        return JobKey(self.workspace, self.job)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A notification profile as it is kept: credentials that the jobs of one actor name."""

    workspace: str
    actor: str
    name: str
    type: AuthorizationType
    sealed: bytes
    """The credentials, sealed."""
    created: int
    updated: int


class Ledger(Protocol):
    """What keeps jobs, and beside them the outbox: a job with a subscriber ends together with the notice of its end.

    Every method that changes something returns an awaitable which is done when the change is **durable**; the change
    itself is already ordered after all earlier ones when the method returns. An owner that runs the work itself may
    therefore begin it before the awaitable is done: if the machine dies in between, both are gone together.
    """

    def add(self, job: Job) -> Awaitable[None]:
        """Keep a new job, whether it waits (``accepted``) or was handed over at once (``running``)."""

    def finish(self, job: Job) -> Awaitable[bool]:
        """Keep the end of a job that ran; False when its token is no longer the newest, and nothing was changed.

        If the end is kept, the notice for its subscriber is kept in the same transaction; so it is with `move`.
        """

    def discard(self, job: Job) -> Awaitable[None]:
        """Remove a job as if it had never been: its request turned out to be wrong before any work was done."""

    def claim(self, agent: str, *, slots: int, at: int, lease: int) -> Awaitable[list[Job]]:
        """Take up to `slots` waiting jobs, by priority, then age; done once taken, before it is durable."""

    def take(self, job: Job) -> Awaitable[None]:
        """Note that an agent has begun a waiting job that it knows of, without asking first: only the one owner may."""

    def renew(self, running: Sequence[Job]) -> Awaitable[None]:
        """Write the latest progress of running jobs and lengthen their leases."""

    def move(self, key: JobKey, change: Callable[[Job], Job]) -> Awaitable[Job]:
        """Change a job by a pure function, compare-and-set; raises NoSuchJob, or what the function raises."""

    def remove(self, key: JobKey) -> Awaitable[None]:
        """Remove an ended job and its notices; its identifier is remembered as gone."""

    async def get(self, key: JobKey) -> Job:
        """Return a job; raises NoSuchJob, or JobGone if it was removed."""

    async def page(self, query: JobQuery) -> Page:
        """Return one page of jobs."""

    async def due(self, *, at: int, limit: int, without_hosts: Collection[str] = ()) -> list[Notice]:
        """Return notices that may be sent now, those that waited longest first, but none for some hosts."""

    async def next_due(self, *, after: int) -> int | None:
        """Return when the next notice may be sent that may not be sent yet; None: there is none."""

    async def notices_of(self, key: JobKey) -> list[Notice]:
        """Return the notices of a job, whatever became of them."""

    def keep_profile(self, profile: Profile) -> Awaitable[bool]:
        """Keep a notification profile; False if it took the place of one of its name, whose creation it inherits."""

    def drop_profile(self, workspace: str, actor: str, name: str) -> Awaitable[bool]:
        """Remove a notification profile; False if there was none."""

    async def profiles(self, workspace: str, actor: str, name: str | None = None) -> list[Profile]:
        """Return the notification profiles of an actor by name, or only the one of that name."""

    def note(self, notice: Notice) -> Awaitable[None]:
        """Keep what became of an attempt to send a notice; one that is gone with its job stays gone."""

    @property
    def waiting(self) -> int:
        """How many jobs wait to be claimed."""
