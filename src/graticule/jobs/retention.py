"""Remove results whose time is up; their jobs stay, and say so."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from graticule.errors import NotFound, StorageUnavailable
from graticule.jobs.job import Job
from graticule.jobs.ledger import Ledger
from graticule.jobs.results import ResultStore

log = logging.getLogger("graticule.jobs")

_HOUR = 3_600_000_000
_BATCH = 100
"""Jobs that are looked at together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRules:
    """How many hours results are kept after their job has ended. 0: for ever."""

    hours: int = 0
    workspaces: Mapping[str, int] = field(default_factory=dict)
    """Those of workspaces that have their own."""
    processes: Mapping[str, int] = field(default_factory=dict)
    """Those of processes that have their own, in whichever workspace; they count before all others."""

    def hours_of(self, workspace: str, process: str) -> int:
        """Return how long the results of a process are kept in a workspace."""
        return self.processes.get(process, self.workspaces.get(workspace, self.hours))


class Retention:
    """Removes results whose time is up.

    Parameters
    ----------
    ledger : Ledger
        Where jobs are kept.
    results : ResultStore
        Where results are kept.
    rules : RetentionRules
        How long.
    """

    def __init__(self, ledger: Ledger, results: ResultStore, rules: RetentionRules) -> None:
        self._ledger = ledger
        self._results = results
        self.rules = rules

    async def sweep(self, workspaces: Sequence[str], *, at: int) -> int:
        """Remove what has expired, log a report, and return of how many jobs.

        Raises
        ------
        StorageUnavailable
            If the storage does not remove; the next sweep goes on.
        """
        removed = size = 0
        for workspace in workspaces:
            for hours, only, without in self._groups(workspace):
                before = at - hours * _HOUR
                while jobs := await self._ledger.expirable(
                    workspace, before=before, only=only, without=without, limit=_BATCH
                ):
                    for job in jobs:
                        size += sum(value.size for output in job.outputs().values() for value in output.values)
                        removed += await self._expire(job, at)
        if removed:
            log.info("results of %d jobs have expired and were removed: %.1f MB", removed, size / 1e6)
        return removed

    def _groups(self, workspace: str) -> Iterator[tuple[int, tuple[str, ...], tuple[str, ...]]]:
        """Yield hours, the processes that have them, and those that all others are told from."""
        for process, hours in self.rules.processes.items():
            if hours:
                yield hours, (process,), ()
        if general := self.rules.workspaces.get(workspace, self.rules.hours):
            yield general, (), tuple(self.rules.processes)

    async def _expire(self, job: Job, at: int) -> bool:
        """Remove the results of one job: first nobody finds them, then they go, then nobody looks again."""
        try:
            job = await self._ledger.move(job.key, lambda found: _going(found, at))
            if job.keeping != "expiring":
                return False  # it was pinned meanwhile
            await self._results.remove_outputs(job)
            await self._ledger.move(job.key, _gone)
        except NotFound:  # it was removed meanwhile
            return False
        except StorageUnavailable:
            log.warning("expired results cannot be removed now; it is tried again")
            raise
        return True


def _going(job: Job, at: int) -> Job:
    if job.keeping:
        return job
    return msgspec.structs.replace(job, keeping="expiring", manifest=b"", updated=at, revision=job.revision + 1)


def _gone(job: Job) -> Job:
    return msgspec.structs.replace(job, keeping="expired", revision=job.revision + 1)
