"""Documents for operators: the queue, what is held back, and what became of many jobs. All of this is ours."""

from __future__ import annotations

from typing import Literal

from graticule.ogc.common import Document, Link

HIGHEST_PRIORITY = 1000
"""Priorities lie between this and its opposite."""


class HoldRequest(Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How something is to be held back."""

    action: Literal["pause", "drain"]
    reason: str = ""


class HoldInfo(Document, frozen=True, kw_only=True, omit_defaults=False):
    """Something that an operator holds back."""

    scope: str
    """``queue``, or ``workspace:NAME``, ``process:ID``, ``worker:ID``."""
    action: Literal["pause", "drain"]
    reason: str
    actor: str
    since: str | None = None
    links: list[Link] = []


class HoldList(Document, frozen=True, kw_only=True, omit_defaults=False):
    """All that is held back."""

    holds: list[HoldInfo]
    links: list[Link] = []


class LaneInfo(Document, frozen=True, kw_only=True, omit_defaults=False):
    """Jobs that wait in one line."""

    workspace: str
    actor: str
    process_id: str
    version: str
    requires: str
    """What a worker must have to run them; empty: nothing."""
    priority: int
    waiting: int


class LoadInfo(Document, frozen=True, kw_only=True, omit_defaults=False):
    """Jobs that run, of one actor and process."""

    workspace: str
    actor: str
    process_id: str
    running: int


class WorkerInfo(Document, frozen=True, kw_only=True, omit_defaults=False):
    """A server or worker that runs jobs."""

    id: str
    kind: str
    """``serve`` or ``worker``."""
    host: str
    pid: int
    state: Literal["working", "paused", "draining"]
    places: int
    """Jobs that it runs at once."""
    busy: int
    labels: list[str]
    started: str | None = None
    seen: str | None = None


class QueueInfo(Document, frozen=True, kw_only=True, omit_defaults=False):
    """How the queue of the whole service stands."""

    waiting: int
    running: int
    holds: list[HoldInfo]
    lanes: list[LaneInfo]
    load: list[LoadInfo]
    workers: list[WorkerInfo]
    links: list[Link] = []


class Priority(Document, frozen=True, kw_only=True, omit_defaults=False, forbid_unknown_fields=True):
    """The priority of a waiting job; larger goes first."""

    priority: int | float
    """A whole number; JSON makes no difference between 1 and 1.0."""


class Dismissal(Document, frozen=True, kw_only=True, omit_defaults=False):
    """What became of the jobs that some filters select."""

    matched: int
    dismissed: int
    """Those that waited or ran, and were stopped."""
    removed: int
    """Those that had ended, and were removed with their results."""
    dry_run: bool
    """Whether nothing was done."""
