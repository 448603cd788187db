"""Look after jobs on a Dask worker: what runs there, and what it and the agent tell each other.

The agent submits a keeper, a task of Dask, and Dask finds it a worker. There the keeper says where it is, the agent
connects to that worker, and by this connection come the job, its progress, what it prints and its files. Nothing of
them passes through the scheduler. The job itself runs as on any machine: in a job process, below a fork server, and
never in the Dask worker's own process.

A job goes on only as long as its agent is heard. When the connection ends, or nothing has come for two thirds of a
lease, all of the job is killed at once. When the Dask worker ends, its fork server kills what is below it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import logging
import os
import stat
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from graticule.data.removal import remove_tree
from graticule.jobs.executor import Assignment, Ending
from graticule.jobs.executors.local import LocalExecutor, LocalLimits
from graticule.jobs.failures import not_started
from graticule.jobs.job import Failure, Job, Manifest
from graticule.jobs.log import PROCESS
from graticule.jobs.messages import Progress, encode

log = logging.getLogger("graticule.jobs")

RESOURCE = "graticule"
"""What a Dask worker must offer, one for each job that it may run at the same time."""
DOOR = "graticule_keeper"
"""The operation by which an agent enters a Dask worker."""
_PATIENCE_S = 30.0
"""Seconds that a keeper waits for its agent."""
_PRELOAD_S = 5.0
"""Seconds after an agent's first job here until its fork server imports what most job processes want."""
_LOOK_S = 0.2
"""Seconds between two looks at what a job has printed."""
_PIECE = 1 << 20
"""Bytes of a file that travel at once."""
_UNDER_WAY = 4
"""Pieces that may be under way: a connection of Dask takes whatever it is given into memory."""


class Comm(Protocol):
    """What we use of a connection of Dask, whose own class has no types. Its errors are OSError."""

    async def read(self) -> Any:
        """Return the next message."""

    async def write(self, message: Any) -> Any:
        """Send a message."""

    async def close(self) -> None:
        """End it once everything is sent."""

    def abort(self) -> None:
        """End it at once."""


class Worker(Protocol):
    """What we use of a Dask worker."""

    address: str
    local_directory: str
    handlers: dict[str, Any]
    """What is done for whoever connects, by operation."""
    extensions: dict[str, Any]

    def log_event(self, topic: str, message: Any) -> None:
        """Tell those who follow a topic."""


# --- what travels between agent and keeper ------------------------------------------------------------------------


class Order(msgspec.Struct, frozen=True, kw_only=True, tag="order"):
    """To a keeper, first of all: have this job run."""

    agent: str
    """Who asks; its jobs share a fork server on each Dask worker."""
    assignment: Assignment
    keeping: LocalLimits
    """How its job processes are kept and recycled."""
    silence_s: float
    """How long nothing may come from the agent until the job is ended."""


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """To a keeper: end the job."""

    why: Failure


class Taken(msgspec.Struct, frozen=True, tag="taken"):
    """To a keeper: one more `Piece` is on the agent's disk."""


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """To and from a keeper: still there."""


class Piece(msgspec.Struct, frozen=True, kw_only=True, tag="piece"):
    """From a keeper: what comes next in a file of the job."""

    path: str
    """The file, in the job's folder."""
    data: bytes


class Over(msgspec.Struct, frozen=True, kw_only=True, tag="over"):
    """From a keeper, last of all: the job has ended, and all of its files have come."""

    manifest: Manifest = {}
    failure: Failure | None = None


class Returned(msgspec.Struct, frozen=True, tag="returned"):
    """From a keeper, last of all: the job has not begun and must be started anew."""


ToKeeper = Order | Stop | Taken | Beat
FromKeeper = Progress | Piece | Over | Returned | Beat

_to_keeper: msgspec.msgpack.Decoder[ToKeeper] = msgspec.msgpack.Decoder(ToKeeper)
_from_keeper: msgspec.msgpack.Decoder[FromKeeper] = msgspec.msgpack.Decoder(FromKeeper)


async def send(comm: Comm, message: ToKeeper | FromKeeper) -> None:
    """Send a message; raises OSError if the connection has ended."""
    await comm.write(encode(message))


async def hear_from_keeper(comm: Comm, seconds: float) -> FromKeeper:
    """Return the next message; raises OSError if the connection has ended, TimeoutError if nothing comes."""
    return _from_keeper.decode(await asyncio.wait_for(comm.read(), seconds))


async def hear_from_agent(comm: Comm, seconds: float) -> ToKeeper:
    """Return the next message, as `hear_from_keeper`."""
    return _to_keeper.decode(await asyncio.wait_for(comm.read(), seconds))


async def beat(comm: Comm, silence_s: float) -> None:
    """Let the other end know, until the connection ends, that this one is still there."""
    with contextlib.suppress(OSError):
        while True:
            await asyncio.sleep(silence_s / 6)
            await send(comm, Beat())


# --- on the Dask worker -------------------------------------------------------------------------------------------


async def keep(ticket: str, topic: str) -> None:
    """Look after a job of an agent until it has ended; this is the task that Dask runs.

    Parameters
    ----------
    ticket : str
        Names the job between the two.
    topic : str
        The events of Dask that the agent follows.
    """
    worker: Worker = importlib.import_module("distributed").get_worker()
    keepers = worker.extensions.get(RESOURCE)
    if keepers is None:
        keepers = worker.extensions[RESOURCE] = Keepers(worker)
    await keepers.wait(ticket, topic)


class _Visit:
    """An agent's stay at a keeper."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = asyncio.Event()


class Keepers:
    """The keepers on one Dask worker.

    Parameters
    ----------
    worker : Worker
        The Dask worker.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._visits: dict[str, _Visit] = {}
        self._shops: dict[str, _Shop] = {}
        self._closing: set[asyncio.Task[None]] = set()
        worker.handlers[DOOR] = self.attend

    async def wait(self, ticket: str, topic: str) -> None:
        """Tell the agent of a job where its keeper is, and wait until the job has ended."""
        visit = self._visits[ticket] = _Visit()
        try:
            self._worker.log_event(topic, {"ticket": ticket, "worker": self._worker.address})
            async with asyncio.timeout(_PATIENCE_S):
                await visit.began.wait()
        finally:
            del self._visits[ticket]
        await visit.ended.wait()

    async def attend(self, comm: Comm, ticket: str) -> None:
        """Serve an agent that has connected to this Dask worker."""
        visit = self._visits.get(ticket)
        if visit is None:
            comm.abort()
            return
        visit.began.set()
        try:
            await self._attend(comm)
        except OSError:  # the agent does not want the job to run, or is gone
            comm.abort()
        finally:
            visit.ended.set()

    async def _attend(self, comm: Comm) -> None:
        order = await hear_from_agent(comm, _PATIENCE_S)
        if not isinstance(order, Order):
            raise OSError(errno.EPROTO, "the agent sends no order")
        shop = self._shops.get(order.agent)
        if shop is None:
            folder = Path(tempfile.mkdtemp(prefix=f"{RESOURCE}-", dir=self._worker.local_directory))
            shop = self._shops[order.agent] = _Shop(folder, order.keeping)
        with shop.used():
            await _Keeper(comm, order, shop.executor).run()
        task = asyncio.create_task(self._close_idle(order.agent, shop, order.keeping.idle_s))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_idle(self, agent: str, shop: _Shop, idle_s: float) -> None:
        """Close what an agent has not used for a while: it may never come again."""
        uses = shop.uses
        await asyncio.sleep(idle_s)
        if uses == shop.uses and not shop.users and self._shops.get(agent) is shop:
            del self._shops[agent]
            await shop.close()


class _Shop:
    """Where the jobs of one agent run on this machine."""

    def __init__(self, folder: Path, keeping: LocalLimits) -> None:
        self._folder = folder
        self.executor = LocalExecutor(folder, keeping)
        asyncio.get_running_loop().call_later(_PRELOAD_S, self.executor.preload)
        self.users = 0
        self.uses = 0

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        self.users += 1
        self.uses += 1
        try:
            yield
        finally:
            self.users -= 1

    async def close(self) -> None:
        await self.executor.close()
        await asyncio.to_thread(remove_tree, self._folder)


class _Keeper:
    """Has one job run, and tells its agent."""

    def __init__(self, comm: Comm, order: Order, executor: LocalExecutor) -> None:
        self._comm = comm
        self._order = order
        self._executor = executor
        self._progress: deque[Progress] = deque()
        self._news = asyncio.Event()
        self._over = asyncio.Event()
        self._end: Over | Returned = Returned()
        self._told = False
        self._folder: Path | None = None
        self._sent: dict[str, int] = {}
        self._under_way = asyncio.Semaphore(_UNDER_WAY)

    @property
    def _job(self) -> Job:
        return self._order.assignment.job

    # --- listening to the executor ---

    def began(self, job: Job) -> None:
        """Nothing is started ahead here."""

    def returned(self, job: Job, lacking: str = "") -> None:
        self._over.set()
        self._news.set()

    def progressed(self, job: Job, percent: int, message: str) -> None:
        self._progress.append(Progress(job=job.id, percent=percent, message=message))
        self._news.set()

    def ended(self, job: Job, ending: Ending) -> None:
        self._end = Over(manifest=ending.manifest, failure=ending.failure)
        self._folder = ending.folder
        self._over.set()
        self._news.set()

    # --- the conversation ---

    async def run(self) -> None:
        """Have the job run; whatever happens, nothing of it is left in the end."""
        try:
            self._executor.start(self._order.assignment, self)
        except OSError as error:
            self.ended(self._job, Ending(failure=not_started(error)))
        hearing, *others = [
            asyncio.create_task(work) for work in (self._hear(), self._tell(), beat(self._comm, self._order.silence_s))
        ]
        try:
            done, _ = await asyncio.wait([hearing, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (failed := task.exception()) is not None and not isinstance(failed, OSError):
                    log.error("job %s is ended: its keeper failed", self._job.id, exc_info=failed)
            if self._told:
                # The agent closes first: what it has sent and nobody has read would take the last message with it.
                await asyncio.wait([hearing], timeout=self._order.silence_s)
        finally:
            for task in (hearing, *others):
                task.cancel()
            if not self._over.is_set():
                log.warning("job %s is ended: its agent is not heard any more", self._job.id)
                self._executor.abandon(self._job.id)
            await self._over.wait()
            await asyncio.gather(hearing, *others, return_exceptions=True)
            if self._folder is not None:
                await asyncio.to_thread(remove_tree, self._folder)
            await self._comm.close()

    async def _hear(self) -> None:
        """Do what the agent says, until it is heard no more."""
        while True:
            message = await hear_from_agent(self._comm, self._order.silence_s)
            self._executor.watch(self._order.silence_s)  # this process may be frozen, too
            if isinstance(message, Stop):
                self._executor.stop(self._job.id, message.why)
            elif isinstance(message, Taken):
                self._under_way.release()

    async def _tell(self) -> None:
        """Tell what there is, until the job has ended and all of it is told."""
        more = False
        while not self._over.is_set() or more:
            if not more:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), _LOOK_S)
                self._news.clear()
            over = self._over.is_set()
            while self._progress:
                await send(self._comm, self._progress.popleft())
            # Once more after the end: what was printed last may have come after the last look.
            more = await self._send_logs() or (self._over.is_set() and not over)
        if self._folder is not None and isinstance(self._end, Over) and self._end.failure is None:
            await self._send_files(self._folder / "outputs")
        await send(self._comm, self._end)
        self._told = True

    async def _send_logs(self) -> bool:
        """Send the next piece of each log; return whether there may be more."""
        more = False
        for step, path in self._executor.logs_of(self._job.id).items():
            name = "process.log" if step == PROCESS else f"logs/{step}.log"
            data = _read(path, self._sent.get(name, 0))
            if data:
                self._sent[name] = self._sent.get(name, 0) + len(data)
                await self._send(name, data)
                more = more or len(data) == _PIECE
        return more

    async def _send_files(self, outputs: Path) -> None:
        for path in await asyncio.to_thread(_files_below, outputs):
            name, offset = path.relative_to(outputs.parent).as_posix(), 0
            while data := await asyncio.to_thread(_read, path, offset):
                offset += len(data)
                await self._send(name, data)
            if not offset:
                await self._send(name, b"")

    async def _send(self, name: str, data: bytes) -> None:
        await self._under_way.acquire()
        await send(self._comm, Piece(path=name, data=data))


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if stat.S_ISREG(path.lstat().st_mode))


def _read(path: Path, offset: int) -> bytes:
    """Return what comes next in a file; nothing if it is gone, or is no file: its folder is the job's to write."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, _PIECE, offset)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
