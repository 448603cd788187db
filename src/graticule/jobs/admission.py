"""Whether a request may become a job now: how many may wait, and requests that are sent again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from graticule.jobs.job import Job
from graticule.jobs.ledger import Ledger, Room
from graticule.jobs.queue import Lane

_RECENT_S = 1.0
"""Seconds for which what waits is not counted again: a position that is a second old is as good as a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a waiting job stands."""

    position: int
    """1: it begins next, as far as can be foreseen."""
    start: int | None
    """When it may begin, microseconds since 1970; None: nobody can say yet."""
    offered: bool
    """Whether somebody who lives can run it."""
    held: str = ""
    """What keeps it from beginning: that an operator has paused something, and why; empty: nothing."""


@dataclass(slots=True, kw_only=True)
class Admission:
    """The doors of the queue, for all workspaces."""

    ledger: Ledger
    room: Room | None = None
    """How many jobs may wait; None: as many as come."""
    _locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _lanes: dict[Lane, int] = field(default_factory=dict)
    _counted: float = float("-inf")

    def recount(self) -> None:
        """Count what waits anew when a position is asked for next: it stands in another order."""
        self._counted = float("-inf")

    def turn(self, key: tuple[str, ...]) -> asyncio.Lock:
        """Return what lets requests with one idempotency key in one by one: the second finds the job of the first."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    async def position(self, job: Job) -> int:
        """Return how many jobs begin before a waiting one, and itself, as far as can be foreseen.

        Higher priorities go first; of one priority each actor has a turn after the other, with its jobs in their order.
        """
        at = asyncio.get_running_loop().time()
        if at - self._counted > _RECENT_S:
            self._lanes, self._counted = await self.ledger.lanes(), at
        before = await self.ledger.before_in_lane(job)
        higher, others = 0, dict[tuple[str, str], int]()
        for lane, count in self._lanes.items():
            if lane.priority > job.priority:
                higher += count
            elif lane.priority == job.priority and (lane.workspace, lane.actor) != (job.workspace, job.actor):
                actor = lane.workspace, lane.actor
                others[actor] = others.get(actor, 0) + count
        return higher + before + sum(min(count, before) for count in others.values()) + 1
