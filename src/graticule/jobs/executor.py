"""Where a claimed job's process runs: what an executor promises. ``executors/`` holds one file per kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from graticule.jobs.job import Failure, Job, Manifest
from graticule.jobs.messages import Described, ProcessRef
from graticule.ogc.processes import NO_LIMITS, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """All that an executor needs to run a job."""

    job: Job
    ref: ProcessRef
    fresh: bool = False
    """True: in a job process that has run nothing before and will run nothing after."""
    policy: bytes = b""
    """How references are fetched, as JSON; goes to the job process as it is."""
    limits: Limits = NO_LIMITS
    """What the job may use; memory is that of the whole process tree, shared pages counted once."""
    most: Limits = NO_LIMITS
    """What a request may ask for; a failure says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job process ended a job."""

    manifest: Manifest = field(default_factory=dict)
    failure: Failure | None = None
    """None: it was successful."""
    folder: Path | None = None
    """Where files are left that must be stored or removed; None: there are none."""
    log_bytes: int = 0
    """Size of ``process.log`` in the folder; 0: nothing was printed."""


class Listener(Protocol):
    """Whom an executor tells about a job. Calls come on the event loop; `ended` comes once and last."""

    def began(self, job: Job) -> None:
        """Hear that a job which was started ahead has begun."""

    def returned(self, job: Job, lacking: str = "") -> None:
        """Hear that a job which was started, mostly ahead, has not begun and must be started anew.

        Parameters
        ----------
        job : Job
            The job.
        lacking : str
            What no job can begin without now, and the remedy; empty: nothing.
        """

    def progressed(self, job: Job, percent: int, message: str) -> None:
        """Hear how far a process is."""

    def ended(self, job: Job, ending: Ending) -> None:
        """Hear that a job's process is done with it, or is no more."""


class Executor(Protocol):
    """Runs job processes somewhere. It decides nothing about jobs: it starts, tells and stops.

    It also keeps them below their limits, and when it tells an end nothing of the job goes on anywhere.
    """

    @property
    def places(self) -> int:
        """How many jobs can run at the same time."""

    @property
    def free(self) -> int:
        """How many more jobs can be started now."""

    @property
    def trouble(self) -> str:
        """Why no job process can be started at all; empty: nothing keeps it from that."""

    def logs_of(self, job_id: str) -> dict[str, Path]:
        """Return the files that a job prints to, by step, from its start here until they are stored."""

    def start(self, assignment: Assignment, listener: Listener) -> None:
        """Begin a job; there must be a free place."""

    def watch(self, seconds: float) -> None:
        """End all job processes if this is not said again within so many seconds: who says it may be frozen.

        Others begin the same jobs when its leases have ended, and nothing of them may go on by then.
        """

    @property
    def room_ahead(self) -> int:
        """How many more jobs may be handed over ahead, if they are as short as the latest ones were; else 0."""

    def start_ahead(self, assignment: Assignment, listener: Listener) -> bool:
        """Have a job begin when another one ends, if that is soon; `began` or `returned` is told then.

        Returns
        -------
        bool
            False if the job was not taken.
        """

    def recall(self, job_id: str) -> bool:
        """Take a job back that was started ahead; False if it was not, or may have begun."""

    def stop(self, job_id: str, why: Failure) -> None:
        """End a job's process and all below it; `ended` is told with `why` unless the job was done already."""

    async def describe(self, refs: Sequence[ProcessRef]) -> list[Described]:
        """Load processes away from here and return what they are."""

    async def close(self) -> None:
        """Stop everything and wait until nothing is left."""
