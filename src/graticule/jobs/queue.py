"""Who is next: the one policy by which waiting jobs are begun. No clock and no I/O here.

Jobs wait in *lanes*: those of one actor, for one process, of one priority, first in, first out. Only the heads of lanes
are compared, so a choice costs as much as there are lanes, however many jobs wait in them. The highest priority is
served first, where one that was not served for long is raised step by step; within it the actor with the fewest running
jobs, then the one who was served least recently, then the older job.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from graticule.jobs.job import Job

_SEPARATOR = "\x1f"
_TURNS = 10_000
"""Actors whose last turn is remembered."""


class Lane(NamedTuple):
    """What the jobs of one line have in common."""

    workspace: str
    actor: str
    process: str
    version: str
    requires: str
    priority: int

    @classmethod
    def of(cls, job: Job) -> Lane:
        """Return the lane in which a job waits."""
        return cls(job.workspace, job.actor, job.process, job.version, job.requires, job.priority)


class Head(NamedTuple):
    """A waiting job, as far as the choice needs it."""

    created: int
    seq: int


class QueueRules(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs may run at once, and how long waiting counts. A limit of zero is none."""

    most: int = 0
    """Of all."""
    per_process: int = 0
    """Of one process, unless `processes` has a number of its own for it."""
    processes: Mapping[str, int] = {}
    """By process."""
    per_workspace: int = 0
    per_actor: int = 0
    ageing_s: float = 60.0
    """Seconds after which a priority that is not served is raised by one: nothing waits for ever. 0: never."""
    paused: bool = False
    """Nothing begins."""
    paused_processes: frozenset[str] = frozenset()
    """Jobs of these do not begin."""
    paused_workspaces: frozenset[str] = frozenset()
    """Nor do jobs there."""

    @property
    def limited(self) -> bool:
        """Whether a free place alone is not enough for a job to begin."""
        return bool(
            self.most
            or self.per_process
            or self.processes
            or self.per_workspace
            or self.per_actor
            or self.paused
            or self.paused_processes
            or self.paused_workspaces
        )

    def limit_of(self, process: str) -> int:
        """Return how many jobs of a process may run at once; 0: as many as there are places."""
        return self.processes.get(process, self.per_process)


class Load:
    """How many jobs run, by all that limits speak of."""

    def __init__(self, running: Iterable[tuple[str, str, str, int]] = ()) -> None:
        self.total = 0
        self.processes: Counter[str] = Counter()
        self.workspaces: Counter[str] = Counter()
        self.actors: Counter[tuple[str, str]] = Counter()
        for workspace, actor, process, count in running:
            self.add(workspace, actor, process, count)

    def add(self, workspace: str, actor: str, process: str, count: int = 1) -> None:
        """Count jobs that have begun; a negative `count` are jobs that have ended."""
        self.total += count
        self.processes[process] += count
        self.workspaces[workspace] += count
        self.actors[workspace, actor] += count

    def admits(self, job: Job | Lane, rules: QueueRules) -> bool:
        """Return whether one more job of this kind may run."""
        limit = rules.limit_of(job.process)
        return not (
            rules.paused
            or job.process in rules.paused_processes
            or job.workspace in rules.paused_workspaces
            or (rules.most and self.total >= rules.most)
            or (limit and self.processes[job.process] >= limit)
            or (rules.per_workspace and self.workspaces[job.workspace] >= rules.per_workspace)
            or (rules.per_actor and self.actors[job.workspace, job.actor] >= rules.per_actor)
        )


class Turns:
    """Whose turn it was last: the order in which actors were served, and when each priority was."""

    def __init__(self) -> None:
        self._count = 0
        self._last: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._served: dict[int, int] = {}

    def take(self, lane: Job | Lane, at: int) -> None:
        """Note that a job of this lane begins."""
        self._count += 1
        self._served[lane.priority] = at
        actor = lane.workspace, lane.actor
        self._last[actor] = self._count
        self._last.move_to_end(actor)
        if len(self._last) > _TURNS:
            self._last.popitem(last=False)

    def last(self, workspace: str, actor: str) -> int:
        """Return a number that is larger the more recently the actor was served; 0: not in memory."""
        return self._last.get((workspace, actor), 0)

    def served(self, priority: int) -> int:
        """Return when a job of this priority began last, microseconds since 1970; 0: not in memory."""
        return self._served.get(priority, 0)


def lane_of(job: Job) -> str:
    """Return the name of the lane in which a job waits; it orders and compares as text."""
    return _SEPARATOR.join((job.workspace, job.actor, job.process, job.version, job.requires, str(job.priority)))


def parse_lane(name: str) -> Lane:
    """Return what a lane's name says."""
    workspace, actor, process, version, requires, priority = name.split(_SEPARATOR)
    return Lane(workspace, actor, process, version, requires, int(priority))


def choose(
    lanes: Mapping[Lane, Sequence[Head]], load: Load, turns: Turns, rules: QueueRules, *, at: int, slots: int
) -> list[Head]:
    """Return the jobs that begin next, in their order, at most `slots`.

    Parameters
    ----------
    lanes : Mapping of Lane to sequence of Head
        The first jobs of each lane, `slots` of them if there are so many.
    load : Load
        What runs; the chosen jobs are added to it.
    turns : Turns
        Who was served when; the chosen jobs are noted in it.
    rules : QueueRules
        The limits.
    at : int
        Now, microseconds since 1970.
    slots : int
        How many places are free.
    """
    chosen: list[Head] = []
    taken: Counter[Lane] = Counter()
    while len(chosen) < slots:
        heads = {lane: waiting[taken[lane]] for lane, waiting in lanes.items() if taken[lane] < len(waiting)}
        lane = next_lane(heads, load, turns, rules, at=at)
        if lane is None:
            break
        taken[lane] += 1
        load.add(lane.workspace, lane.actor, lane.process)
        turns.take(lane, at)
        chosen.append(heads[lane])
    return chosen


def next_lane(
    heads: Mapping[Lane, Head], load: Load, turns: Turns, rules: QueueRules, *, at: int
) -> Lane | None:  # fmt: skip
    """Return the lane whose first job begins next; None: no job may begin now."""
    admitted = {lane: head for lane, head in heads.items() if load.admits(lane, rules)}
    if len(admitted) <= 1:
        return next(iter(admitted), None)
    priority = _class_of(admitted, turns, rules, at)
    return min(
        (lane for lane in admitted if lane.priority == priority),
        key=lambda lane: (
            load.actors[lane.workspace, lane.actor],
            turns.last(lane.workspace, lane.actor),
            admitted[lane],
        ),
    )


def _class_of(heads: Mapping[Lane, Head], turns: Turns, rules: QueueRules, at: int) -> int:
    """Return the priority that is served next.

    A whole class ages, from when it was last served: were it the single job, then whoever sent many jobs long ago would
    go before somebody's first one.
    """
    oldest: dict[int, int] = {}
    for lane, head in heads.items():
        oldest[lane.priority] = min(oldest.get(lane.priority, head.created), head.created)

    def raised(priority: int) -> tuple[int, int]:
        waited = max(0, at - max(oldest[priority], turns.served(priority))) / 1e6
        return priority + (int(waited / rules.ageing_s) if rules.ageing_s else 0), priority

    return max(oldest, key=raised)
