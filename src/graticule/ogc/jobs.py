"""Job status documents (statusInfo.yaml of 1.0 and of the 2.0 draft, as one union)."""

from __future__ import annotations

from typing import Any, Literal

from graticule.ogc.common import Document, Link, Problem

JobStatus = Literal["created", "accepted", "running", "successful", "failed", "dismissed"]
ENDED: frozenset[str] = frozenset({"successful", "failed", "dismissed"})


class AttemptInfo(Document, frozen=True, kw_only=True):
    """An attempt to run a job whose worker was lost, or whose input could not be fetched for the moment."""

    number: int = 0
    """1 for the first."""
    started: str | None
    ended: str | None
    reason: str
    links: list[Link] = []


class StatusInfo(Document, frozen=True, kw_only=True):
    """What is known of a job. `id` and `job_id` are the same; 1.0 reads one, the draft the other."""

    id: str = ""
    job_id: str = ""
    type: str = ""
    processing_entity_type: str | None = None
    process_id: str | None = None
    status: JobStatus
    message: str | None = None
    progress: int | None = None
    """Percent, 0 to 100."""
    created: str | None = None
    started: str | None = None
    finished: str | None = None
    updated: str | None = None
    """RFC 3339 with zone."""
    queue_position: int | None = None
    """Ours: of a job that waits, 1 for the one that begins next."""
    estimated_start: str | None = None
    """Ours: of a job that waits, when it may begin, from how long jobs took lately."""
    priority: int | None = None
    """Ours: of a job that an operator has moved in the queue; larger goes first."""
    labels: list[str] | None = None
    """Ours: what its sender calls it."""
    pinned: bool | None = None
    """Ours: true when its results are kept however long others are."""
    expires: str | None = None
    """Ours: until when its results are kept, if not for ever."""
    attempts: list[AttemptInfo] | None = None
    """Ours: earlier attempts to run it that came to nothing, for no fault of its own."""
    exception: Problem | None = None
    links: list[Link] = []

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class JobInputs(Document, frozen=True, kw_only=True):
    """What a job was sent with (inputs.yaml of Part 4)."""

    inputs: Any
    """By identifier, as they were sent."""
    outputs: Any
    """What is wanted, by identifier; all of them where nothing was said."""
    headers: dict[str, str] | None = None
    """Of a job that was created for a later start: the headers that it was created with."""
    links: list[Link] = []


class JobDefinition(JobInputs, frozen=True, kw_only=True):
    """What a job was sent with, and what it is a job of (jobDefinition.yaml of Part 4)."""

    entity: str
    """Address of the process."""


class LogLine(Document, frozen=True, kw_only=True):
    """One line that a job has printed."""

    step: str
    offset: int
    """Where it begins, bytes from the beginning of the log."""
    text: str
    time: str | None = None
    """RFC 3339, if the line itself says when it was printed."""
    stream: str | None = None
    """``stdout`` or ``stderr``, where they are kept apart."""


class LogPage(Document, frozen=True, kw_only=True):
    """A page of a log, line by line."""

    job_id: str
    step: str
    offset: int
    size: int
    """Bytes of the whole log so far."""
    complete: bool
    """Whether nothing more will be printed."""
    lines: list[LogLine]
    links: list[Link]


class JobList(Document, frozen=True, kw_only=True):
    """One page of jobs (jobList.yaml)."""

    jobs: list[StatusInfo]
    links: list[Link] = []
