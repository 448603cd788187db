"""The waiting jobs that the only owner of a ledger knows itself, so as to begin them without asking."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from graticule.jobs.job import Job
from graticule.jobs.queue import Head, Lane, Load, QueueRules, Turns, next_lane

_REMEMBERED = 4096
"""Waiting jobs that an agent knows without asking the ledger; with more of them, memory must not grow."""
_REMEMBERED_BYTES = 16 << 20
"""What the requests of those jobs may take."""


class Line:
    """The waiting jobs that an owner knows itself, in their lanes."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, deque[tuple[int, Job]]] = {}
        self._number = 0
        self._bytes = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        return self._count >= _REMEMBERED or self._bytes >= _REMEMBERED_BYTES

    def sizes(self) -> dict[Lane, int]:
        """Return how many jobs wait in each lane."""
        return {lane: len(jobs) for lane, jobs in self._lanes.items()}

    def push(self, job: Job, *, first: bool = False) -> None:
        lane = self._lanes.setdefault(Lane.of(job), deque())
        self._number += 1
        (lane.appendleft if first else lane.append)((self._number, job))
        self._bytes += len(job.request)
        self._count += 1

    def next(
        self, load: Load, turns: Turns, rules: QueueRules, at: int, *, fits: Callable[[Lane], bool]
    ) -> Lane | None:
        """Return the lane whose first job is the next that may begin; `fits` says whose jobs can be run here."""
        if len(self._lanes) == 1 and not rules.limited:
            lane = next(iter(self._lanes))
            return lane if fits(lane) else None
        heads = {lane: Head(jobs[0][1].created, jobs[0][0]) for lane, jobs in self._lanes.items() if fits(lane)}
        return next_lane(heads, load, turns, rules, at=at)

    def first(self, lane: Lane) -> Job:
        return self._lanes[lane][0][1]

    def pop(self, lane: Lane) -> Job:
        jobs = self._lanes[lane]
        _, job = jobs.popleft()
        if not jobs:
            del self._lanes[lane]
        self._bytes -= len(job.request)
        self._count -= 1
        return job

    def drop(self, job_id: str) -> None:
        for lane, jobs in list(self._lanes.items()):
            kept = deque(entry for entry in jobs if entry[1].id != job_id)
            if len(kept) < len(jobs):
                self._count -= 1
                self._bytes -= sum(len(job.request) for _, job in jobs if job.id == job_id)
                if kept:
                    self._lanes[lane] = kept
                else:
                    del self._lanes[lane]
                return

    def clear(self) -> None:
        self._lanes.clear()
        self._bytes = self._count = 0
