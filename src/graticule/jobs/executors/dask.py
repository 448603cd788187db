"""Run job processes on the workers of a Dask cluster; `dask_keeper` is what goes on there."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import logging
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from graticule.errors import InvalidSetting
from graticule.jobs.executor import Assignment, Ending, Listener
from graticule.jobs.executors.dask_keeper import (
    DOOR,
    RESOURCE,
    Beat,
    Comm,
    Order,
    Over,
    Piece,
    Returned,
    Stop,
    Taken,
    ToKeeper,
    beat,
    hear_from_keeper,
    keep,
    send,
)
from graticule.jobs.executors.local import LocalExecutor, LocalLimits, logs_left
from graticule.jobs.job import Failure, Job, Manifest
from graticule.jobs.messages import Described, ProcessRef, Progress

log = logging.getLogger("graticule.jobs")

_SILENCE = 2 / 3
"""Share of a lease for which one end may hear nothing of the other."""
_GONE_S = 2.0
"""Seconds until nothing of a job goes on whose connection has ended: by then its keeper, or the fork server of a Dask
worker that has ended, has killed it."""
_LOOK_S = 1.0
"""Seconds between two looks at the cluster."""
_ANSWER_S = 3.0
"""Seconds that the scheduler has to answer."""
_CLOSE_S = 5.0
"""Seconds that the connection to the scheduler, and a cluster of our own, have to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaskRules:
    """How jobs are given to a cluster."""

    scheduler: str = ""
    """Address of the scheduler; empty: a cluster of its own on this machine."""
    workers: int = 2
    """Jobs at once."""
    lease_s: float = 10.0
    """A Dask worker that is not heard of for so long has lost its jobs."""
    keeping: LocalLimits = field(default_factory=LocalLimits)
    """How job processes are kept and recycled on each Dask worker."""


class DaskExecutor:
    """Job processes on the workers of a Dask cluster; see `open`.

    Each job has a keeper, a task that needs one of the resource ``graticule``. Where Dask has put it, the agent
    connects to it and hands the job over. Until then nothing has begun, however often Dask begins the task anew.
    """

    def __init__(self, scratch: Path, rules: DaskRules, cluster: _Cluster) -> None:
        self._scratch = scratch
        self._rules = rules
        self._cluster = cluster
        self._agent = uuid.uuid4().hex
        self._topic = f"{RESOURCE}-{self._agent}"
        self._runs: dict[str, _Run] = {}
        self._tickets: dict[str, _Run] = {}
        self._offered = 0
        self._trouble = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, scratch: Path, rules: DaskRules) -> DaskExecutor:
        """Return an executor that is connected to its cluster.

        Parameters
        ----------
        scratch : Path
            Folder below which jobs have theirs.
        rules : DaskRules
            Which cluster, and how it is used.

        Raises
        ------
        InvalidSetting
            If the library is not installed, or the scheduler does not answer.
        """
        executor = cls(scratch, rules, await _Cluster.open(scratch, rules))
        await executor._begin()
        return executor

    async def _begin(self) -> None:
        self._cluster.client.subscribe_topic(self._topic, self._placed)
        await self._look()
        if self._trouble:
            log.warning("%s", self._trouble)
        self._watching = asyncio.create_task(self._watch())

    # --- what an executor does --------------------------------------------------------------------------------------

    @property
    def places(self) -> int:
        return min(self._rules.workers, self._offered)

    @property
    def free(self) -> int:
        return self.places - len(self._runs)

    @property
    def trouble(self) -> str:
        return self._trouble

    def logs_of(self, job_id: str) -> dict[str, Path]:
        return logs_left(self._folder(job_id))

    def start(self, assignment: Assignment, listener: Listener) -> None:
        run = _Run(assignment, listener, self._folder(assignment.job.id))
        self._runs[run.job.id] = self._tickets[run.ticket] = run
        self._in_background(self._look_after(run))

    def watch(self, seconds: float) -> None:
        """Each keeper has its own way to find out: it hears nothing more of this agent."""

    @property
    def room_ahead(self) -> int:
        return 0

    def start_ahead(self, assignment: Assignment, listener: Listener) -> bool:
        return False

    def recall(self, job_id: str) -> bool:
        return False

    def stop(self, job_id: str, why: Failure) -> None:
        run = self._runs.get(job_id)
        if run is not None and run.why is None:
            run.why = why
            run.unwanted.set()
            if run.comm is not None:
                self._in_background(_say(run.comm, Stop(why=why)))

    async def describe(self, refs: Sequence[ProcessRef]) -> list[Described]:
        """Load processes on this machine: a service can start before its Dask workers have."""
        local = LocalExecutor(self._scratch / "describing", LocalLimits(workers=1))
        try:
            return await local.describe(refs)
        finally:
            await local.close()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
        for job_id in list(self._runs):
            detail = "the server was stopped while the job ran"
            self.stop(job_id, Failure(cause="lost worker", detail=detail, transient=True))
        while self._tasks:  # all ends are told
            await asyncio.gather(*self._tasks)
        await self._cluster.close()

    def _folder(self, job_id: str) -> Path:
        return self._scratch / "jobs" / job_id

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- one job ----------------------------------------------------------------------------------------------------

    async def _look_after(self, run: _Run) -> None:
        """Have a job run, and tell its end."""
        try:
            ending = await self._have_run(run)
        except _NotBegun as error:
            log.warning("job %s is given back: %s", run.job.id, error)
            ending = None
        except Exception as error:  # a bug of ours must leave no job that runs for ever
            log.exception("job %s is given up", run.job.id)
            ending = run.lost(f"its executor failed with {type(error).__name__}")
        del self._runs[run.job.id], self._tickets[run.ticket]
        if ending is None:
            run.listener.returned(run.job)
        else:
            run.listener.ended(run.job, ending)

    async def _have_run(self, run: _Run) -> Ending | None:
        """Return how a job ended; None if it has not begun and is to be started anew."""
        if self._cluster.is_lost:
            raise _NotBegun("the connection to the Dask scheduler is lost")
        future = self._cluster.submit(run.ticket, self._topic)
        try:
            await self._place(run, future)
            if run.why is not None:
                return Ending(failure=run.why)
            comm = await self._cluster.enter(run.address, run.ticket)
            return await self._converse(run, comm)
        except _NoKeeper as error:
            return run.lost(str(error))
        except OSError as error:
            return run.lost(f"the Dask worker at {run.address} cannot be reached: {error}")
        finally:
            future.release()

    async def _place(self, run: _Run, future: Any) -> None:
        """Wait until a job has its keeper, or is not wanted any more."""
        outcome = asyncio.ensure_future(future.result())
        waits = [outcome, *(asyncio.ensure_future(event.wait()) for event in (run.placed, run.unwanted))]
        try:
            await asyncio.wait(waits, timeout=self._rules.lease_s, return_when=asyncio.FIRST_COMPLETED)
            if run.address or run.why is not None:
                return
            if not outcome.done():
                raise _NotBegun("no Dask worker has taken it within a lease")
            if outcome.cancelled() or self._cluster.is_lost:
                raise _NotBegun("the connection to the Dask scheduler is lost")
            raise _NoKeeper(f"no Dask worker can look after it: {outcome.exception()!r}")
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _converse(self, run: _Run, comm: Comm) -> Ending | None:
        """Hand a job over to its keeper, and hear how it goes."""
        silence = self._rules.lease_s * _SILENCE
        beating = asyncio.create_task(beat(comm, silence))
        try:
            if run.why is not None:  # meanwhile; a keeper that gets no order has nothing to do
                return Ending(failure=run.why)
            keeping, assignment = self._rules.keeping, run.assignment
            await send(comm, Order(agent=self._agent, assignment=assignment, keeping=keeping, silence_s=silence))
            run.comm = comm
            if run.why is not None:
                await send(comm, Stop(why=run.why))
            while True:
                message = await hear_from_keeper(comm, silence)
                if isinstance(message, Over):
                    return run.over(message.manifest, message.failure)
                if isinstance(message, Returned):
                    return None
                await self._take(run, comm, message)
        except TimeoutError:
            comm.abort()
            await asyncio.sleep(self._rules.lease_s)  # by then it has not heard of us either, and has ended the job
            return run.lost(f"its Dask worker at {run.address} is not heard of any more")
        except OSError:
            await asyncio.sleep(_GONE_S)
            return run.lost(f"the connection to its Dask worker at {run.address} has ended")
        finally:
            run.comm = None
            beating.cancel()
            comm.abort()

    async def _take(self, run: _Run, comm: Comm, message: Progress | Piece | Beat) -> None:
        """Take what a keeper tells of a job that goes on."""
        if isinstance(message, Progress):
            run.listener.progressed(run.job, message.percent, message.message)
        elif isinstance(message, Piece):
            try:
                await asyncio.to_thread(run.keep, message)
            except OSError as error:
                detail = f"the job's files cannot be kept on the disk of its agent: {error.strerror or error}"
                run.incomplete = Failure(cause="stage-out", detail=detail, step="stage-out")
                self.stop(run.job.id, run.incomplete)
            await send(comm, Taken())

    # --- the cluster ------------------------------------------------------------------------------------------------

    async def _placed(self, event: tuple[float, dict[str, str]]) -> None:
        """Hear that a keeper waits somewhere."""
        ticket, address = event[1]["ticket"], event[1]["worker"]
        run = self._tickets.get(ticket)
        if run is not None and not run.address and run.why is None:
            run.address = address
            run.placed.set()
            return
        # Dask has begun a keeper anew whose worker it lost, or one whose job nobody wants any more: it need not wait.
        with contextlib.suppress(OSError):
            comm = await self._cluster.enter(address, ticket)
            await comm.close()

    async def _watch(self) -> None:
        """Look at the cluster now and then, and connect anew."""
        while True:
            await asyncio.sleep(_LOOK_S)
            before = self._trouble
            try:
                if self._cluster.is_lost:
                    self._offered, self._trouble = 0, "the connection to the Dask scheduler is lost"
                    await self._cluster.reconnect()
                    self._cluster.client.subscribe_topic(self._topic, self._placed)
                await self._look()
            except OSError as error:
                self._offered, self._trouble = 0, self._cluster.why_lost(error)
            if self._trouble != before:
                log.warning("%s", self._trouble or "the Dask cluster takes jobs again")

    async def _look(self) -> None:
        """See how many jobs the cluster takes."""
        self._offered = await self._cluster.offered()
        remedy = f"no Dask worker offers the resource {RESOURCE!r}; start some with --resources {RESOURCE}=2"
        self._trouble = "" if self._offered else remedy


class _NotBegun(Exception):
    """A job could not begin, for no fault of its own, and is to be started anew."""


class _NoKeeper(Exception):
    """No Dask worker can look after a job."""


class _Run:
    """One job, from its start until its end is told."""

    def __init__(self, assignment: Assignment, listener: Listener, folder: Path) -> None:
        self.assignment = assignment
        self.listener = listener
        self.folder = folder
        """Where its files arrive."""
        self.ticket = uuid.uuid4().hex
        self.address = ""
        """The Dask worker that its keeper is on."""
        self.placed = asyncio.Event()
        self.unwanted = asyncio.Event()
        self.why: Failure | None = None
        """Set once the job is to be stopped: what it will have ended with."""
        self.incomplete: Failure | None = None
        """Why not all of its files are here."""
        self.comm: Comm | None = None

    @property
    def job(self) -> Job:
        return self.assignment.job

    def keep(self, piece: Piece) -> None:
        """Append to a file of the job; raises OSError."""
        path = PurePosixPath(piece.path)
        if path.is_absolute() or ".." in path.parts:
            raise OSError(errno.EINVAL, "a file that is not in the job's folder", piece.path)
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("ab") as file:
            file.write(piece.data)

    def over(self, manifest: Manifest, failure: Failure | None) -> Ending:
        """Return how the job ended, with the files that are here."""
        try:
            log_bytes = (self.folder / "process.log").stat().st_size
        except OSError:
            log_bytes = 0
        left = self.folder if self.folder.exists() else None
        failure = failure or self.incomplete
        return Ending(manifest={} if failure else manifest, failure=failure, folder=left, log_bytes=log_bytes)

    def lost(self, detail: str) -> Ending:
        """Return how the job ended of which nothing more is heard."""
        return self.over({}, self.why or Failure(cause="lost worker", detail=detail, transient=True))


class _Cluster:
    """A connection to a Dask cluster, our own or somebody else's."""

    def __init__(self, address: str, own: Any = None) -> None:
        self._address = address
        self._own = own  # a LocalCluster
        self._client: Any = None  # a Client: the library is but half typed

    @classmethod
    async def open(cls, scratch: Path, rules: DaskRules) -> _Cluster:
        """Return a connection; raises InvalidSetting."""
        try:
            importlib.import_module("distributed")
        except ImportError as error:
            remedy = "dask needs a library that is not installed: pip install graticule[dask]"
            raise InvalidSetting("jobs.executor", remedy) from error
        own = None if rules.scheduler else await _own_cluster(scratch / "dask", max(1, rules.workers))
        cluster = cls(own.scheduler_address if own is not None else rules.scheduler, own)
        try:
            await cluster.reconnect()
        except OSError as error:
            await cluster.close()
            raise InvalidSetting("jobs.dask_scheduler", cluster.why_lost(error)) from error
        return cluster

    @property
    def client(self) -> Any:
        return self._client

    @property
    def is_lost(self) -> bool:
        """Whether the scheduler has ended, or cannot be reached."""
        return self._client is None or self._client.status != "running"

    def why_lost(self, error: OSError) -> str:
        reason = "it does not answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return f"the Dask scheduler at {self._address} cannot be used: {reason}"

    async def reconnect(self) -> None:
        """Connect anew; raises OSError."""
        await self._disconnect()
        security = None if self._own is None else self._own.security
        client = importlib.import_module("distributed").Client(
            self._address, security=security, asynchronous=True, set_as_default=False, timeout=_ANSWER_S
        )  # fmt: skip
        try:
            await client
        except BaseException:
            await client.close()
            raise
        self._client = client

    async def offered(self) -> int:
        """Return how many jobs the Dask workers take; raises OSError."""
        async with asyncio.timeout(_ANSWER_S):
            found = await self.client.scheduler.identity(n_workers=-1)
        workers = [one for one in found["workers"].values() if one["status"] == "running"]
        return sum(int(one["resources"].get(RESOURCE, 0)) for one in workers)

    def submit(self, ticket: str, topic: str) -> Any:
        """Have Dask begin a keeper."""
        resources = {RESOURCE: 1}
        return self.client.submit(keep, ticket, topic, key=f"{RESOURCE}-{ticket}", resources=resources, retries=0)

    async def enter(self, address: str, ticket: str) -> Comm:
        """Return a connection to a keeper on a Dask worker; raises OSError."""
        connect = importlib.import_module("distributed.comm").connect
        comm: Comm = await connect(address, timeout=_ANSWER_S, deserialize=False, **self.client.connection_args)
        await comm.write({"op": DOOR, "ticket": ticket, "reply": False})
        return comm

    async def close(self) -> None:
        await self._disconnect()
        if self._own is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._own.close(), _CLOSE_S)

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError):
                await asyncio.wait_for(client.close(), _CLOSE_S)


async def _own_cluster(folder: Path, places: int) -> Any:
    """Return a cluster with one Dask worker on this machine, which nobody else can use."""
    logging.getLogger("distributed").setLevel(logging.WARNING)  # not each of its steps
    ours = {
        "temporary-directory": str(folder),
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.worker.profile.enabled": False,
    }
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    with importlib.import_module("dask").config.set(ours):
        return await importlib.import_module("distributed").LocalCluster(
            n_workers=1,
            threads_per_worker=places,  # Dask counts one for each keeper, though none runs in it
            resources={RESOURCE: places},
            memory_limit=0,  # jobs have limits of their own
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            security=True,  # with keys that nobody else has: whoever reaches a scheduler can run anything
            asynchronous=True,
        )


async def _say(comm: Comm, message: ToKeeper) -> None:
    """Send a message, if there is still somebody."""
    with contextlib.suppress(OSError):
        await send(comm, message)
