"""The one truth about jobs: what a ledger promises. ``ledgers/`` holds one file per kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, Self

import msgspec

from graticule.errors import TooManyJobs
from graticule.jobs.holds import Hold
from graticule.jobs.job import Job, JobKey, NoticeKind
from graticule.jobs.queue import Lane, QueueRules, Turns
from graticule.ogc.jobs import JobStatus
from graticule.ogc.notifications import AuthorizationType


class Cursor(NamedTuple):
    """Where a job stands in lists: by its moment, then by its number, for many may have one moment."""

    created: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which jobs a page is about. Filters combine with AND, the values within one with OR; newest first."""

    workspace: str
    actor: str | None = None
    """Only this actor's jobs; None: everybody's."""
    types: tuple[str, ...] = ("process",)
    processes: tuple[str, ...] = ()
    statuses: tuple[JobStatus, ...] = ()
    labels: tuple[str, ...] = ()
    created_from: int | None = None
    """Microseconds since 1970, included."""
    created_to: int | None = None
    min_duration: float | None = None
    """Seconds, included. A job that runs has lasted since it started; one that never started has no duration."""
    max_duration: float | None = None
    now: int = 0
    limit: int = 10
    before: Cursor | None = None
    """Only jobs after this one in the list."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of jobs."""

    jobs: list[Job]
    next: Cursor | None
    """Where the next page begins, None on the last."""


class Found(NamedTuple):
    """What tells a job from others."""

    cursor: Cursor
    id: str
    status: JobStatus


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
    """Host and port of the address: no more than so many deliveries go to one at once. Older rows have no port."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What an agent could begin now."""

    agent: str
    slots: int
    at: int
    """Now, by the ledger's clock."""
    lease: int
    """Microseconds."""
    fits: Callable[[Lane], bool] = lambda _: True
    """Whether the agent can run the jobs of a lane: has their process and version, and what they require."""
    rules: QueueRules = field(default_factory=QueueRules)
    turns: Turns = field(default_factory=Turns)
    """Who was served when; what is claimed is noted in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many jobs may wait."""

    most: int = 0
    """Of all; 0: no limit."""
    most_per_actor: int = 0
    """Of one actor in each workspace; 0: no limit."""

    def check(self, lanes: Mapping[Lane, int], workspace: str, actor: str) -> None:
        """Raise TooManyJobs if, of those that wait in some lanes, there may not be one more of an actor."""
        if self.most and sum(lanes.values()) >= self.most:
            raise TooManyJobs("the service", self.most)
        own = sum(count for lane, count in lanes.items() if (lane.workspace, lane.actor) == (workspace, actor))
        if self.most_per_actor and own >= self.most_per_actor:
            raise TooManyJobs("you", self.most_per_actor)


class AgentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that lives, or did lately. Moments as in `Job`."""

    id: str
    kind: Literal["serve", "worker"] = "serve"
    host: str = ""
    pid: int = 0
    started: int = 0
    seen: int = 0
    """When it renewed its leases last."""
    slots: int = 0
    busy: int = 0
    labels: str = ""
    """Comma list."""
    offers: str = ""
    """JSON array of ``[process, version]``."""
    paused: int = 0
    """1: it begins nothing. 2: and ends when what it runs has ended."""

    def can_run(self, job: Job) -> bool:
        """Whether it has the process and version of a job, and what it requires."""
        if job.requires and job.requires not in self.labels.split(","):
            return False
        return [job.process, job.version] in _OFFERS.decode(self.offers or "[]")


_OFFERS = msgspec.json.Decoder(list[list[str]])


class Advance(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How far a job is that runs in another process: what it told, which the ledger need not have yet."""

    workspace: str
    job: str
    token: int
    progress: int
    message: str
    updated: int
    told: bool = False
    """Whether somebody is to be told of it: the process that leads does that."""

    @property
    def key(self) -> JobKey:
        return JobKey(self.workspace, self.job)

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return how far a running job is."""
        return cls(
            workspace=job.workspace, job=job.id, token=job.token, progress=job.progress, message=job.message,
            updated=job.updated, told=bool(job.subscriber) and job.subscribed("inProgress") is not None,
        )  # fmt: skip

    def applied(self, job: Job) -> Job:
        """Return a job with this progress, if that is news of it."""
        if job.status != "running" or job.token != self.token or job.updated >= self.updated:
            return job
        changes: dict[str, Any] = {"progress": self.progress, "message": self.message, "updated": self.updated}
        return msgspec.structs.replace(job, revision=job.revision + 1, **changes)


class News(NamedTuple):
    """What another process has changed, as far as this one must know at once."""

    kind: Literal["waiting", "moved", "advanced", "ended", "held", "missed"]
    """``waiting``: there is a job to claim. ``moved``: a job has another status and has not ended. ``advanced``: one
    runs, or has progressed. ``ended``: one has ended. ``held``: operators hold back something else. ``missed``: news
    were lost."""
    key: JobKey | None = None
    advance: Advance | None = None
    """Of ``advanced``."""


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
    therefore begin it before the awaitable is done: if the machine dies in between, both are gone together. All of them
    raise LedgerUnavailable when nothing can be changed.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes may change it too: then waiting jobs can only be had by claiming them."""

    @property
    def trouble(self) -> str:
        """Why something could not be kept in the last seconds; empty: nothing keeps it from that."""

    def clock(self) -> int:
        """Return the moment, microseconds since 1970, by the one clock that leases go by.

        Nobody who sets the clock of this machine moves it while jobs wait or run.
        """

    async def set_clock(self) -> None:
        """Follow this machine's clock after somebody has set it, if the ledger goes by it and nothing depends on it."""

    def listen(self, hear: Callable[[News], None]) -> None:
        """Have a function called on the event loop with what other processes change; the last one wins."""

    def add(self, job: Job, room: Room | None = None) -> Awaitable[None]:
        """Keep a new job, whether it waits (``accepted``) or was handed over at once (``running``).

        Raises DuplicateJob if its idempotency key was used before by the same actor for the same process, and
        TooManyJobs if there is no room for one more that waits, whoever adds others meanwhile.
        """

    def finish(self, job: Job) -> Awaitable[bool]:
        """Keep the end of a job that ran; False when its token is no longer the newest, and nothing was changed.

        If the end is kept, the notice for its subscriber is kept in the same transaction; so it is with `move`.
        """

    def discard(self, job: Job) -> Awaitable[bool]:
        """Remove a job as if it had never been: its request turned out to be wrong before any work was done.

        False if it is kept: it is not ``sync``, so that a client was told its address.
        """

    def claim(self, claim: Claim) -> Awaitable[list[Job]]:
        """Take the waiting jobs that are next by the queue's policy; with one owner done before it is durable."""

    def take(self, job: Job) -> Awaitable[None]:
        """Note that an agent has begun a waiting job that it knows of, without asking first: only the one owner may."""

    def tell(self, running: Sequence[Job]) -> Awaitable[None]:
        """Tell other processes how far jobs are that run here. Nothing of it is kept, and it may be lost."""

    def renew(self, running: Sequence[Job]) -> Awaitable[list[str]]:
        """Write the latest progress of running jobs and lengthen their leases.

        Returns
        -------
        list of str
            Those that are not held any more: they were dismissed, or given to somebody else.
        """

    def move(self, key: JobKey, change: Callable[[Job], Job], room: Room | None = None) -> Awaitable[Job]:
        """Change a job by a pure function, compare-and-set; raises NoSuchJob, or what the function raises.

        One that was only created and waits from now on needs room as a new one does.
        """

    def reap(self, change: Callable[[Job], Job], *, before: int | None) -> Awaitable[list[Job]]:
        """Change running jobs whose agents are lost by a pure function; return them as they are then.

        Parameters
        ----------
        change : callable
            Gives them back or fails them.
        before : int or None
            Those whose lease has ended before this moment. None: all of an earlier owner, which is no more, and the
            jobs that waited there and whose clients cannot ask for them once more.
        """

    def remove(self, key: JobKey) -> Awaitable[None]:
        """Remove an ended job and its notices; its identifier is remembered as gone."""

    async def get(self, key: JobKey) -> Job:
        """Return a job; raises NoSuchJob, or JobGone if it was removed."""

    async def find_same(self, job: Job) -> Job | None:
        """Return the job that was sent before with the same key to the same process, if there is one.

        It may have become one of another process since; see `Job.key_at`.
        """

    async def page(self, query: JobQuery) -> Page:
        """Return one page of jobs."""

    async def expirable(
        self, workspace: str, *, before: int, limit: int, only: Sequence[str] = (), without: Sequence[str] = ()
    ) -> list[Job]:
        """Return successful jobs that ended before a moment and whose results may go, oldest first.

        Parameters
        ----------
        workspace : str
            Whose jobs.
        before : int
            Microseconds since 1970, excluded.
        limit : int
            Most jobs that are returned.
        only : sequence of str
            Jobs of these processes; none: of all.
        without : sequence of str
            But not of these.
        """

    async def lanes(self) -> dict[Lane, int]:
        """Return how many jobs wait in each lane."""

    async def before_in_lane(self, job: Job) -> int:
        """Return how many jobs wait before a waiting one in its own lane."""

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

    def report(self, agent: AgentRecord) -> Awaitable[None]:
        """Keep what an agent says of itself."""

    def leave(self, agent: str) -> Awaitable[None]:
        """Forget an agent that has ended."""

    def mark(self, name: str, value: str) -> Awaitable[str]:
        """Keep what belongs to the whole service under a name, unless it is there; return what is kept."""

    def hold(self, hold: Hold) -> Awaitable[None]:
        """Keep that something is held back, in place of what was kept of it."""

    def release(self, scope: str) -> Awaitable[None]:
        """Hold something back no longer, if it was."""

    async def holds(self) -> list[Hold]:
        """Return all that is held back, by scope."""

    async def running(self) -> list[tuple[str, str, str, int]]:
        """Return how many jobs run, by workspace, actor and process."""

    async def find(self, query: JobQuery) -> list[Found]:
        """Return the jobs of a page, but only what tells them apart: they may be large."""

    async def agents(self, *, since: int) -> list[AgentRecord]:
        """Return the agents that were seen since a moment, the oldest first."""

    @property
    def leads(self) -> bool:
        """Whether this process does what only one may do at a time: to deliver notices, to sweep."""

    @property
    def waiting(self) -> int:
        """How many jobs wait to be claimed, as far as this process knows: exact for one owner, else a hint."""

    async def close(self) -> None:
        """Write what has queued up, and let go of the database."""
