"""A job as a value, and the one table of what may become of it. No clock and no I/O here."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, NamedTuple

import msgspec

from graticule.errors import IllegalTransition, NotWaiting, ResultsExpired
from graticule.ogc.jobs import ENDED, JobStatus
from graticule.ogc.processes import Subscriber

NEXT: dict[JobStatus, frozenset[JobStatus]] = {
    "created": frozenset({"accepted", "dismissed"}),
    "accepted": frozenset({"running", "failed", "dismissed"}),
    "running": frozenset({"successful", "failed", "dismissed", "accepted"}),
    "successful": frozenset(),
    "failed": frozenset(),
    "dismissed": frozenset(),
}
"""Job statuses and what each may become. ``running -> accepted``: its worker was lost and it goes back to the queue."""

Cause = Literal[
    "bad input", "process error", "out of memory", "time limit", "disk limit", "lost worker", "stage-in", "stage-out",
    "cancelled", "plug-in",
]  # fmt: skip
"""Why a job ended without success; each has a sentence and a remedy in its problem."""

Step = Literal["", "stage-in", "run", "stage-out"]
"""How far a job had come: its inputs were resolved, its process ran, its outputs were kept. Empty: it had not begun."""

STEPS: tuple[Step, ...] = ("", "stage-in", "run", "stage-out")
"""By the number that a job process writes into the memory it shares with its agent."""

NoticeKind = Literal["success", "inProgress", "failed"]
"""What a subscriber is told of: the members of the standard's ``subscriber``, without their ``Uri``."""


Keeping = Literal["", "pinned", "expiring", "expired"]
"""``pinned``: for ever. ``expiring``: results are being removed, nobody finds them any more."""


class JobKey(NamedTuple):
    """What names a job: its identifier is only good inside its workspace."""

    workspace: str
    id: str


class StoredValue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One value of an output as it is kept: inline when small, else a file in storage, or a link elsewhere."""

    media_type: str = "application/json"
    content: bytes | None = None
    """The encoded value itself, when it is small."""
    file: str | None = None
    """Name of the file below the job's place in storage."""
    href: str | None = None
    """An address elsewhere."""
    size: int = 0
    """Bytes of `content` or `file`."""
    sha256: str = ""
    is_object: bool = False
    """Of a JSON `file`: whether it is an object, which a results document qualifies, or else bare."""
    title: str | None = None


class StoredOutput(msgspec.Struct, frozen=True, kw_only=True):
    """An output as it is kept."""

    values: list[StoredValue]
    many: bool = False
    """True where the description allows more than one value, so that an array is the answer even for one."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a job to which an input of another one refers, as it was when that one was sent."""

    job: str
    """Identifier of the job that has it."""
    token: int = 0
    """Of that job, when it was successful: its results lie below it."""
    value: StoredValue


Manifest = dict[str, StoredOutput]
"""The outputs of a job by identifier."""


class Fault(msgspec.Struct, frozen=True):
    """One fault of an input, as it crosses from the job process (the wire form of ``errors.Fault``)."""

    pointer: str
    message: str


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a job ended without success, for the person who sent it."""

    cause: Cause
    detail: str
    """What happened, in one sentence."""
    faults: list[Fault] = []
    """With the causes ``bad input`` and ``stage-in``: every fault and its place in the request."""
    kind: str = ""
    """Name of the exception's class, when the process raised one."""
    step: Step = ""
    remedy: str = ""
    """What to change."""
    log: list[str] = []
    """The last lines that the job had printed, without stack traces."""
    transient: bool = False
    """True: the same job may end well if it is run again."""

    @property
    def blames_inputs(self) -> bool:
        """Whether the inputs are at fault, or what they refer to, so that `faults` says all."""
        return bool(self.faults) and self.cause in ("bad input", "stage-in")


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to run a job that came to nothing, for no fault of the job's own. Moments as in `Job`."""

    agent: str
    started: int
    ended: int
    why: str
    token: int = 0
    """The job's while it ran: below it lies its log."""


class StoredSubscriber(Subscriber, frozen=True, kw_only=True):
    """A subscriber as it is kept: its authorization says which kind it is and no more."""

    sealed: bytes = b""
    """The authorization as it was sent, sealed; empty where a profile holds it, and where there is none."""


class Preparation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a job was asked for that was created for a later start: what counts beside its body when it is started."""

    headers: dict[str, str] = {}
    """By their lower-case names."""
    query: str = ""
    """The query, still encoded."""
    first: bytes = b""
    """Digest of the request that its idempotency key came with, once the job has another; see `Job.asked_by`."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job. Moments are microseconds since 1970 in UTC; zero means not yet."""

    id: str
    workspace: str = "default"
    actor: str = "anonymous"
    type: str = "process"
    """``process``: an execution. ``task``: the platform's own work. ``sync``: an execution that is answered at once and
    to whose request no link to a job may be added; the latter two are listed only when asked for."""
    process: str
    version: str = ""
    status: JobStatus = "accepted"
    sync: bool = False
    """True: a client waits for it and none was told its address. With wrong inputs nothing of it is kept, and when its
    server dies, nobody wants the result, so it is not run again unless `idempotency_key` names it."""
    priority: int = 0
    """Larger goes first."""
    created: int = 0
    started: int = 0
    finished: int = 0
    updated: int = 0
    not_before: int = 0
    """Not to be claimed before this moment (back-off between attempts)."""
    attempts: int = 0
    """How often it was begun."""
    agent: str = ""
    """Who runs it."""
    token: int = 0
    """Grows with each claim; a result with an older one is dropped (fencing)."""
    lease_end: int = 0
    progress: int = 0
    message: str = ""
    request: bytes = b""
    """The execute request, as received."""
    subscriber: bytes = b""
    """Whom to tell about the job, a `StoredSubscriber`; empty: nobody, which costs nothing."""
    base: str = ""
    """Address of the service as the submitter saw it; hrefs below it are our own files."""
    manifest: bytes = b""
    failure: bytes = b""
    log_bytes: int = 0
    revision: int = 0
    """Grows with each change."""
    idempotency_key: str = ""
    """Good for the process that the job was sent to; when the job gets another one, that first one follows a blank."""
    requires: str = ""
    """What an agent must have to run it, e.g. ``gpu``; empty: nothing."""
    history: bytes = b""
    """The attempts before the present one, an array of `Attempt`; empty: there was none."""
    preparation: bytes = b""
    """Of a job that was created for a later start: how it was asked for, a `Preparation`; of others nothing."""
    sources: bytes = b""
    """The results of other jobs among its inputs, a `Source` by the address that names it; empty: there are none."""
    trace: str = ""
    """The header ``traceparent`` of the request that sent it, where traces are configured; empty: it is not traced."""
    keeping: Keeping = ""
    """Whether its results are kept beyond the time that results have, or are gone since that is up."""
    labels: str = ""
    """What its sender calls it, to find it again: each label between commas, ``,flood,2026,``; empty: nothing."""
    repeats: str = ""
    """The job that was sent again as this one; empty: it is the first."""
    repeated_by: str = ""
    """The job by which this one was sent again last."""

    @property
    def key(self) -> JobKey:
        return JobKey(self.workspace, self.id)

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def moved_to(self, status: JobStatus, *, at: int, **changes: Any) -> Job:
        """Return this job in its next status.

        Parameters
        ----------
        status : JobStatus
            The status to go to.
        at : int
            The moment, microseconds since 1970; the clock is the caller's.
        **changes
            Other fields that change with it (`message`, `manifest`, `failure` …).

        Raises
        ------
        IllegalTransition
            If the table ``NEXT`` does not allow it.
        """
        if status not in NEXT[self.status]:
            raise IllegalTransition(self.status, status)
        at = max(at, self.created, self.started)  # no clock of another machine may let it end before it began
        changes.update(status=status, updated=at, revision=self.revision + 1)
        if status in ("running", "successful"):  # what was said of the time before is over
            changes.setdefault("message", "")
        if status == "running":
            changes.update(started=at, attempts=self.attempts + 1, token=self.token + 1)
        elif status in ENDED:
            changes.update(finished=at)
            if status == "successful":
                changes.setdefault("progress", 100)
        return msgspec.structs.replace(self, **changes)

    def pinned(self) -> Job:
        """Return this job with its results kept for ever; raises ResultsExpired if they are gone."""
        if self.keeping in ("expiring", "expired"):
            raise ResultsExpired(self.id)
        return msgspec.structs.replace(self, keeping="pinned", revision=self.revision + 1)

    def unpinned(self) -> Job:
        """Return this job with its results kept as long as others are."""
        if self.keeping != "pinned":
            return self
        return msgspec.structs.replace(self, keeping="", revision=self.revision + 1)

    def prioritized(self, priority: int) -> Job:
        """Return this waiting job with another priority; raises NotWaiting."""
        if self.status != "accepted":
            raise NotWaiting(self.id, self.status)
        return msgspec.structs.replace(self, priority=priority, revision=self.revision + 1)

    def repeated(self, by: str) -> Job:
        """Return this job as it is when it was sent again as another one."""
        return msgspec.structs.replace(self, repeated_by=by, revision=self.revision + 1)

    def asked_by(self) -> bytes:
        """Return a digest of what requests with one idempotency key have in common: the body, and what is to be done.

        Of a created job that was changed it is that of its first request, which may still be sent again.
        """
        asked = (self.request, bool(self.preparation), self.repeats)
        return self.prepared().first or hashlib.sha256(msgspec.msgpack.encode(asked)).digest()

    def key_at(self, process: str) -> str:
        """Return the idempotency key as it is kept when the job becomes one of a process."""
        key, _, first = self.idempotency_key.partition(" ")
        first = first or self.process
        return key if not key or process == first else f"{key} {first}"

    def label_list(self) -> list[str]:
        """Return what its sender calls it."""
        return self.labels.strip(",").split(",") if self.labels else []

    def subscribers(self) -> StoredSubscriber | None:
        """Return whom to tell about the job; None: nobody."""
        return _SUBSCRIBER.decode(self.subscriber) if self.subscriber else None

    def subscribed(self, kind: NoticeKind) -> str | None:
        """Return the address that is to be told of this, if there is one."""
        subscriber = self.subscribers()
        if subscriber is None:
            return None
        if kind == "success":
            return subscriber.success_uri or subscriber.success_url
        return subscriber.failed_uri if kind == "failed" else subscriber.in_progress_uri

    def end_notice(self) -> tuple[NoticeKind, str] | None:
        """Return what must be told of the end of an ended job, and to which address; None: nobody wants to know.

        A dismissed job produces no results, so whoever asked for news of a failure hears of it.
        """
        kind: NoticeKind = "success" if self.status == "successful" else "failed"
        address = self.subscribed(kind)
        return None if address is None else (kind, address)

    def outputs(self) -> Manifest:
        """Return the outputs that were kept; none before the job is successful."""
        return _MANIFEST.decode(self.manifest) if self.manifest else {}

    def own_sources(self) -> dict[str, Source]:
        """Return the results of other jobs to which its inputs refer, by the addresses that stand there."""
        return _SOURCES.decode(self.sources) if self.sources else {}

    def attempts_before(self) -> list[Attempt]:
        """Return the attempts that came to nothing, the first one first."""
        return _HISTORY.decode(self.history) if self.history else []

    def failed_because(self) -> Failure | None:
        """Return why the job ended without success, if it did."""
        return _FAILURE.decode(self.failure) if self.failure else None

    def prepared(self) -> Preparation:
        """Return how the job was asked for, if it was created for a later start."""
        return _PREPARATION.decode(self.preparation) if self.preparation else Preparation()


_HISTORY = msgspec.msgpack.Decoder(list[Attempt])
_MANIFEST = msgspec.msgpack.Decoder(Manifest)
_SOURCES = msgspec.msgpack.Decoder(dict[str, Source])
_FAILURE = msgspec.msgpack.Decoder(Failure)
_PREPARATION = msgspec.msgpack.Decoder(Preparation)
_SUBSCRIBER = msgspec.msgpack.Decoder(StoredSubscriber)
