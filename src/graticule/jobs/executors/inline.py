"""Run jobs in this very process, in a thread: for tests of what surrounds an executor, and of nothing else.

A thread cannot be killed, and it shares memory, working folder and standard output with everything else. So a job is
stopped when its process next reports or looks at ``context.stopping``; one that does neither is given up after a
moment and goes on unheard; limits but that of time are not kept. There is one place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from graticule.jobs.executor import Assignment, Ending, Listener
from graticule.jobs.failures import exceeded
from graticule.jobs.job import Failure, Manifest
from graticule.jobs.messages import Described, ProcessRef, Progress, Start

_GRACE = 1.0
"""Seconds that a job has to end by itself once it is to be stopped."""


class Attempts(Protocol):
    """Runs a job's process (``runtime.child.Attempts``)."""

    stopping: bool

    def run(self, start: Start, /) -> tuple[Failure | None, Manifest]:
        """Return why the job failed, or what it gave."""


class InlineExecutor:
    """An executor with one place, in a thread of this process.

    Parameters
    ----------
    scratch : Path
        Folder below which jobs have theirs.
    attempts : callable
        Makes what runs one job; it is given whom to tell of progress, and where to note the step.
    describe : callable
        Loads the processes behind a reference and says what they are.
    """

    def __init__(
        self,
        scratch: Path,
        attempts: Callable[[Callable[[Progress], None], bytearray], Attempts],
        describe: Callable[[ProcessRef], Described],
    ) -> None:
        self._scratch = scratch
        self._attempts = attempts
        self._describe = describe
        self._current: _Run | None = None
        scratch.mkdir(parents=True, exist_ok=True)

    @property
    def places(self) -> int:
        return 1

    @property
    def free(self) -> int:
        return 1 if self._current is None else 0

    def start(self, assignment: Assignment, listener: Listener) -> None:
        self._current = _Run(assignment, listener, self._scratch / assignment.job.id, self._attempts, self._released)

    def watch(self, seconds: float) -> None:
        """Nothing outlives this process that would have to be ended."""

    @property
    def room_ahead(self) -> int:
        return 0

    def start_ahead(self, assignment: Assignment, listener: Listener) -> bool:
        return False

    def recall(self, job_id: str) -> bool:
        return False

    def stop(self, job_id: str, why: Failure) -> None:
        if self._current is not None and self._current.job_id == job_id:
            self._current.stop(why)

    async def describe(self, refs: Sequence[ProcessRef]) -> list[Described]:
        return [self._describe(ref) for ref in refs]

    async def close(self) -> None:
        run = self._current
        if run is not None:
            detail = "the server was stopped while the job ran"
            run.stop(Failure(cause="lost worker", detail=detail, transient=True))
            await run.done.wait()

    def _released(self) -> None:
        self._current = None


class _Run:
    """One job in its thread."""

    def __init__(
        self,
        assignment: Assignment,
        listener: Listener,
        folder: Path,
        attempts: Callable[[Callable[[Progress], None], bytearray], Attempts],
        released: Callable[[], None],
    ) -> None:
        self.job_id = assignment.job.id
        self.done = asyncio.Event()
        self._assignment = assignment
        self._listener = listener
        self._folder = folder
        self._released = released
        self._loop = asyncio.get_running_loop()
        self._attempts = attempts(self._progressed, bytearray(1))
        self._why: Failure | None = None
        self._timers: list[asyncio.TimerHandle] = []
        if limit := assignment.limits.time_limit_s:
            self._timers.append(self._loop.call_later(limit, self._too_long))
        threading.Thread(target=self._run, name=f"job {self.job_id}", daemon=True).start()

    def stop(self, why: Failure) -> None:
        if self._why is None:
            self._why = why
            self._attempts.stopping = True
            self._timers.append(self._loop.call_later(_GRACE, self._end, why, {}))

    def _too_long(self) -> None:
        one = self._assignment
        self.stop(exceeded("time_limit_s", limits=one.limits, most=one.most, process=one.job.process))

    def _progressed(self, progress: Progress) -> None:
        self._loop.call_soon_threadsafe(
            self._listener.progressed, self._assignment.job, progress.percent, progress.message
        )

    def _run(self) -> None:
        one, before = self._assignment, Path.cwd()
        start = Start(
            job=self.job_id, ref=one.ref, request=one.job.request, folder=str(self._folder), policy=one.policy
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        log = (self._folder / "process.log").open("w")
        with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            failure, manifest = self._attempts.run(start)
        os.chdir(before)
        with contextlib.suppress(RuntimeError):  # the loop may have ended before a job that nothing stops
            self._loop.call_soon_threadsafe(self._end, failure, manifest)

    def _end(self, failure: Failure | None, manifest: Manifest) -> None:
        """Tell the end, unless it was told."""
        if self.done.is_set():
            return
        self.done.set()
        for timer in self._timers:
            timer.cancel()
        if failure is not None and self._why is not None:
            failure = msgspec.structs.replace(self._why, step=failure.step)
        log_bytes = (self._folder / "process.log").stat().st_size
        self._released()
        self._listener.ended(
            self._assignment.job,
            Ending(manifest=manifest, failure=failure, folder=self._folder, log_bytes=log_bytes),
        )
