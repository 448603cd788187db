"""Run job processes on this machine, forked from a fork server."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import json
import logging
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from graticule.jobs import trees
from graticule.jobs.cgroups import Group, Groups
from graticule.jobs.executor import Assignment, Ending, Listener
from graticule.jobs.failures import LimitName, crashed, exceeded, tail_of
from graticule.jobs.job import STEPS, Failure, Job, Step
from graticule.jobs.messages import (
    READ,
    Broke,
    Describe,
    Described,
    Done,
    Frames,
    FromChild,
    Ping,
    Pong,
    ProcessRef,
    Progress,
    Start,
    decode_from_child,
    decode_to_child,
    encode,
    encode_frame,
    framed,
)  # fmt: skip
from graticule.jobs.traces import traceparent

log = logging.getLogger("graticule.jobs")

_NEEDED = ("graticule.processes.decorator", "graticule.processes.resolve", "graticule.processes.values")
"""What every job process imports; the fork server has it before it forks the first."""
_WANTED = ("numpy", "rasterio")
"""What most do; the fork server imports it once the server has answered."""
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
_SETTLED = {
    # One thread each: numpy would start one per core at import, and a process with threads cannot be forked safely.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_MAX_THREADS": "1",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_CACHEMAX": "64MB",  # the default is 5 % of the machine for each job process
    "PYTHONUNBUFFERED": "1",
}
_GRACE = 1.0
"""Seconds between asking a job process to stop and killing it."""
_AT_ONCE = frozenset({"out of memory", "disk limit"})
"""Causes of a stop that give no such time: what takes more than it may would go on taking it."""
_LOOK = 0.25
"""Seconds between two looks at the limits of running jobs."""
_AHEAD = 8
"""Jobs that are handed to a job process while it runs one: it then need not be woken for each."""
_SHORT = 0.005
"""Seconds that jobs of a kind take at most, lately, for further ones to be handed ahead."""
_TINY = 0.002
"""As `_SHORT`, while another job process is free: to wake that one would take longer than to wait."""
_PATIENCE = 0.05
"""Seconds that a job handed ahead waits for the one before it; then it is taken back for whoever is free."""
_MID_MESSAGE = 10.0
"""Seconds without a byte in the middle of a message, which a job process writes at once, until it counts as garbage."""
_PACKET = 1 << 14
"""Bytes of the largest message that goes to a job process's inbox; larger ones go by the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalLimits:
    """How job processes are kept and recycled."""

    workers: int = 2
    """Job processes at once."""
    recycle_jobs: int = 1000
    """A job process is thrown away after this many jobs."""
    recycle_mib: int = 512
    """A job process that has grown by more than this is thrown away."""
    idle_s: float = 300.0
    """A job process that has waited this long is thrown away."""
    short_s: float = _SHORT
    """What jobs of a kind take at most, lately, for further ones to be handed ahead of their turn."""
    tiny_s: float = _TINY
    """The same while another job process is free."""


class _Key(NamedTuple):
    """Whose jobs a job process may run: one process's, in one workspace."""

    ref: ProcessRef
    version: str
    workspace: str


class _Handed(NamedTuple):
    """A job that a job process has, or will have."""

    assignment: Assignment
    listener: Listener
    folder: str

    @property
    def job(self) -> Job:
        return self.assignment.job


class LocalExecutor:
    """Job processes of one agent.

    While jobs of one kind are short, a busy job process is handed the next ones ahead. They lie in its inbox, a socket
    that keeps messages apart and whose other end the agent holds too: each message is read either by the job process,
    which takes one at a time, or taken back by the agent. So a job that is dismissed or would have to wait is known to
    have begun or not.

    Parameters
    ----------
    scratch : Path
        Folder below which job processes and jobs have theirs.
    limits : LocalLimits
        How many, and how long they are kept.
    groups : Groups, optional
        Where the kernel keeps job processes below their memory limit; without, it is measured now and then.
    """

    def __init__(self, scratch: Path, limits: LocalLimits, groups: Groups | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._scratch = scratch
        self._jobs = str(scratch / "jobs")
        self._limits = limits
        self._groups = groups
        self._idle: dict[_Key, list[_Child]] = {}
        self._busy: dict[str, _Child] = {}
        self._ahead: dict[str, _Child] = {}
        self._pace: dict[_Key, float] = {}
        self._children: dict[int, _Child] = {}
        self._by_pid: dict[int, _Child] = {}
        self._number = 0
        self._stopping: set[asyncio.Task[None]] = set()
        self._closed = False
        self._watch: asyncio.TimerHandle | None = None
        for name in ("jobs", "children"):
            (scratch / name).mkdir(parents=True, exist_ok=True)
        self._weighing = False
        self._preloaded = False
        self._kills = trees.out_of_memory_kills()
        self._control, self._forkserver = _start_forkserver(scratch)
        self._loop.add_reader(self._control, self._hear_forkserver)

    # --- what an executor does --------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        return self._limits.workers - len(self._busy)

    def preload(self) -> None:
        """Have the fork server import what most job processes want; to be called once the server has answered."""
        if self._closed:
            return
        self._preloaded = True
        with contextlib.suppress(OSError):  # it is gone; the next one is told
            self._control.send(json.dumps({"preload": _WANTED}).encode())

    def start(self, assignment: Assignment, listener: Listener) -> None:
        job = assignment.job
        key = _key_of(assignment)
        child = None if assignment.fresh else self._warm(key)
        if child is None:
            self._make_room()
            child = self._spawn(key, assignment.most.memory_limit_mib or 0)
        self._busy[job.id] = child
        child.begin(_Handed(assignment, listener, f"{self._jobs}/{job.id}"))
        if self._watch is None:
            self._watch = self._loop.call_later(_LOOK, self._look)

    def start_ahead(self, assignment: Assignment, listener: Listener) -> bool:
        if assignment.fresh or not self._busy:
            return False
        key = _key_of(assignment)
        limits = self._limits
        short, most = (limits.tiny_s, _AHEAD // 2) if self.free > 0 else (limits.short_s, _AHEAD)
        if self._pace.get(key, 1.0) > short:
            return False
        job_id = assignment.job.id
        for child in self._busy.values():
            if child.key == key and child.hand(_Handed(assignment, listener, f"{self._jobs}/{job_id}"), most):
                self._ahead[job_id] = child
                return True
        return False

    def recall(self, job_id: str) -> bool:
        child = self._ahead.get(job_id)
        return child is not None and bool(child.take_back({job_id}))

    def stop(self, job_id: str, why: Failure) -> None:
        child = self._busy.get(job_id)
        if child is None:
            if job_id in self._ahead:
                self._ahead[job_id].unwanted[job_id] = why
            return
        if child.why is not None:
            return
        child.settle()
        if self._busy.get(job_id) is not child:
            return
        child.why = why
        self._in_background(self._kill(child))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def logs_of(self, job_id: str) -> dict[str, Path]:
        child, folder = self._busy.get(job_id), self._scratch / "jobs" / job_id
        found = {"process": child.log} if child is not None else {}
        for place in (folder, folder.with_name(f"{job_id}.kept")):  # the latter on its way into storage
            if place.is_dir():
                found |= {path.stem: path for path in (place / "logs").glob("*.log")}
                if (place / "process.log").is_file():
                    found["process"] = place / "process.log"
        return found

    async def describe(self, refs: Sequence[ProcessRef]) -> list[Described]:
        return list(await asyncio.gather(*[self._describe(ref) for ref in refs]))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        for child in list(self._children.values()):
            if child.why is None and child.job is not None:
                detail = "the server was stopped while the job ran"
                child.why = Failure(cause="lost worker", detail=detail, transient=True)
        await asyncio.gather(*[self._kill(child) for child in list(self._children.values())])
        while self._stopping:  # all ends are told
            await asyncio.gather(*self._stopping)
        self._loop.remove_reader(self._control)
        self._control.close()
        try:
            await asyncio.to_thread(self._forkserver.wait, 3)
        except subprocess.TimeoutExpired:
            self._forkserver.kill()

    # --- children ---------------------------------------------------------------------------------------------------

    def _warm(self, key: _Key) -> _Child | None:
        waiting = self._idle.get(key)
        return waiting.pop() if waiting else None

    def _make_room(self) -> None:
        """Let go of a waiting job process of another kind, if all places are taken."""
        if len(self._children) < self._limits.workers:
            return
        for waiting in self._idle.values():
            if waiting:
                self._dismiss_idle(waiting.pop(0))
                return

    def _dismiss_idle(self, child: _Child) -> None:
        child.close()  # it ends when its socket closes

    def _spawn(self, key: _Key, memory_mib: int = 0) -> _Child:
        python = shutil.which(key.ref.python) if key.ref.python else ""
        if python is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key.ref.python)
        self._number += 1
        ours, theirs = socket.socketpair()
        sender, inbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, sender, inbox):
            end.setblocking(False)  # noqa: FBT003 - the standard library's signature
        log = self._scratch / "children" / f"{self._number}.log"
        step = os.memfd_create("step")
        os.ftruncate(step, 1)
        child = _Child(self, self._number, key, ours, (sender, inbox), mmap.mmap(step, 1), log)
        self._children[child.number] = child
        child.group = None if self._groups is None else self._groups.make(child.number, memory_mib)
        door = "" if child.group is None else str(child.group.door)
        packet = json.dumps({"fork": child.number, "log": str(log), "python": python, "group": door}).encode()
        given = array.array("i", [theirs.fileno(), inbox.fileno(), step])
        # If the fork server has just ended, the other end of `ours` is closed with what was sent: the child is lost.
        with contextlib.suppress(OSError):
            self._control.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)])
        theirs.close()
        os.close(step)
        return child

    def _hear_forkserver(self) -> None:
        try:
            data = self._control.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._loop.remove_reader(self._control)
            if not self._closed:
                self._replace_forkserver()
            return
        message = json.loads(data)
        if "forked" in message:
            child = self._children.get(message["forked"])
            if child is not None:
                self._know_pid(child, message["pid"])
        else:
            gone = self._by_pid.pop(message["ended"], None)
            if gone is not None:
                gone.status = message["status"]
                gone.exited.set()

    def _replace_forkserver(self) -> None:
        """Start another fork server. The job processes of the one that is gone die with it, but not what is below."""
        log.error("the fork server is gone; starting another one")
        self._control.close()
        self._forkserver.kill()
        self._forkserver.wait()
        for child in self._children.values():
            if child.job is not None and child.why is None:
                detail = "the fork server of the job's process was killed, and the process with it"
                child.why = Failure(cause="lost worker", detail=detail, transient=True)
        trees.kill_strays(self._scratch)
        for child in self._by_pid.values():
            child.exited.set()
        self._by_pid.clear()
        self._control, self._forkserver = _start_forkserver(self._scratch)
        self._loop.add_reader(self._control, self._hear_forkserver)
        if self._preloaded:
            self.preload()

    def _know_pid(self, child: _Child, pid: int) -> None:
        child.pid = pid
        child.started = trees.started(pid)
        self._by_pid[pid] = child
        child.forked.set()

    def paced(self, key: _Key, seconds: float) -> None:
        """Note how long a job of a kind took."""
        before = self._pace.get(key, seconds)
        self._pace[key] = before + (seconds - before) / 4

    def promoted(self, child: _Child, ended: Job, handed: _Handed) -> None:
        """Note that a child has gone on to a job that was handed ahead."""
        self._busy.pop(ended.id, None)
        del self._ahead[handed.job.id]
        self._busy[handed.job.id] = child
        handed.listener.began(handed.job)
        why = child.unwanted.pop(handed.job.id, None)
        if why is not None:
            self._loop.call_soon(self.stop, handed.job.id, why)

    def returned(self, handed: _Handed) -> None:
        """Note that a job is no longer ahead."""
        self._ahead.pop(handed.job.id, None)

    def unburden(self, child: _Child, handed: _Handed) -> None:
        """Let go of a child that never got the job it should be running, which is given back."""
        self._busy.pop(handed.job.id, None)
        child.close()
        handed.listener.returned(handed.job)

    def released(self, child: _Child, *, keep: bool) -> None:
        """Keep a child that has ended its job for the next one of its kind, or let it go."""
        assert child.job is not None
        self._busy.pop(child.job.id, None)
        if keep and not self._closed and child.why is None:
            child.idle_since = time.monotonic()
            self._idle.setdefault(child.key, []).append(child)
        else:
            child.close()

    def lost(self, child: _Child) -> None:
        """Clean up after a child whose socket has closed: it ended by itself, or crashed."""
        self._children.pop(child.number, None)
        waiting = self._idle.get(child.key, [])
        if child in waiting:
            waiting.remove(child)
        if child.job is not None:
            self._busy.pop(child.job.id, None)
        child.return_all()
        self._in_background(self._bury(child))

    async def _bury(self, child: _Child) -> None:
        """Wait for the exit status, then tell how the job it had has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await child.exited.wait()
        if child.job is not None:
            child.tell_end(failure=child.why or child.exceeded() or self._crashed(child.status))
        with contextlib.suppress(OSError):
            child.log.unlink()
        await asyncio.to_thread(shutil.rmtree, child.home, ignore_errors=True)
        if child.group is not None:
            child.group.remove()

    # --- stopping and limits ------------------------------------------------------------------------------------------

    def _crashed(self, status: int | None) -> Failure:
        kills = trees.out_of_memory_kills()
        memory_was_short, self._kills = kills > self._kills, kills
        return crashed(status, memory_was_short=memory_was_short)

    def kill(self, child: _Child) -> None:
        """End a job process and everything below it at once."""
        self._in_background(self._kill_now(child))

    async def _kill_now(self, child: _Child) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await child.forked.wait()
        await asyncio.to_thread(child.kill_tree)
        child.close()

    async def _kill(self, child: _Child) -> None:
        """Ask a job process to stop, wait a little, then kill it and everything below it."""
        at_once = child.why is not None and child.why.cause in _AT_ONCE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if at_once else _GRACE):
                await child.forked.wait()
                child.signal(signal.SIGTERM)
                if child.job is None:
                    child.close()
                await child.done.wait()
        if not child.exited.is_set():
            await asyncio.to_thread(child.kill_tree)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await child.exited.wait()
        child.close()

    def _look(self) -> None:
        """Compare what running jobs use with what they may, and let go of job processes that idle too long."""
        self._watch = None
        now = time.monotonic()
        heavy: list[tuple[_Handed, _Child]] = []
        for job_id, child in list(self._busy.items()):
            handed = child.current
            # Nothing is looked at of a job that is short: that would cost as much as the job.
            if handed is None or child.why is not None or now - child.began < _LOOK:
                continue
            child.ask()
            child.narrow()
            limits = handed.assignment.limits
            if limits.time_limit_s and now - child.began > limits.time_limit_s:
                self.stop(job_id, _exceeded(handed, "time_limit_s"))
            elif child.pid and (limits.memory_limit_mib or limits.disk_limit_mib or limits.log_limit_mib):
                heavy.append((handed, child))
        if heavy and not self._weighing:
            self._weighing = True
            self._loop.run_in_executor(None, self._weigh, heavy)
        for waiting in self._idle.values():
            for child in [child for child in waiting if now - child.idle_since > self._limits.idle_s]:
                waiting.remove(child)
                self._dismiss_idle(child)
        if (self._busy or any(self._idle.values())) and not self._closed:
            self._watch = self._loop.call_later(_LOOK, self._look)

    def _weigh(self, heavy: Sequence[tuple[_Handed, _Child]]) -> None:
        """Measure the memory of jobs, their folders and logs; runs in a thread."""
        try:
            weighed = any(handed.assignment.limits.memory_limit_mib for handed, _ in heavy)
            table = trees.read_table() if weighed else {}
            for handed, child in heavy:
                failure = _overweight(handed, child, table)
                if failure is not None:
                    self._loop.call_soon_threadsafe(self._stop_current, child, handed, failure)
        finally:
            self._weighing = False

    def _stop_current(self, child: _Child, handed: _Handed, why: Failure) -> None:
        if child.current is handed:
            self.stop(handed.job.id, why)

    async def _describe(self, ref: ProcessRef) -> Described:
        try:
            child = self._spawn(_Key(ref, "", ""))
        except OSError as error:
            return Described(ref=ref, error=f"{ref.python} cannot be run: {error.strerror or error}")
        answer = await child.describe(ref)
        child.close()
        return answer

    @property
    def limits(self) -> LocalLimits:
        return self._limits

    @property
    def trouble(self) -> str:
        return "" if self._forkserver.poll() is None else "the fork server is gone"


class _Child:
    """The agent's end of one job process."""

    def __init__(
        self,
        executor: LocalExecutor,
        number: int,
        key: _Key,
        connection: socket.socket,
        inbox: tuple[socket.socket, socket.socket],
        step: mmap.mmap,
        log: Path,
    ) -> None:
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._inbox, self._inbox_end = inbox
        self._step = step
        self._frames = Frames()
        self._unsent = bytearray()
        self._current: _Handed | None = None
        self._ahead: dict[str, _Handed] = {}
        self._hurry: asyncio.TimerHandle | None = None
        self._ask_at = 0.0
        self._heard = 0.0
        self._lost_track = False
        self._ending: Ending | None = None
        self._described: asyncio.Future[Described] | None = None
        self._jobs = 0
        self._open = True
        self._retiring = False
        self.number = number
        self.key = key
        self.log = log
        self.home = log.with_suffix("")
        """Its working folder, while its job has made none."""
        self.group: Group | None = None
        self._narrowed = False
        self.pid = 0
        self.started = 0
        """When it began, so that its number is not taken for somebody else's."""
        self.why: Failure | None = None
        """Set once the job is to be stopped: what it will have ended with."""
        self.unwanted: dict[str, Failure] = {}
        """Jobs that were handed ahead and must be stopped as soon as they begin, for they could not be taken back."""
        self.status: int | None = None
        self.began = 0.0
        self.idle_since = 0.0
        self.forked = asyncio.Event()
        self.exited = asyncio.Event()
        self.done = asyncio.Event()
        self._loop.add_reader(connection, self._receive)

    @property
    def current(self) -> _Handed | None:
        return self._current

    @property
    def step(self) -> Step:
        """How far its current job has come."""
        number = self._step[0]
        return STEPS[number] if number < len(STEPS) else "run"

    @property
    def job(self) -> Job | None:
        return self._current.job if self._current is not None else None

    def begin(self, handed: _Handed) -> None:
        self._make_current(handed)
        packet = _start_of(handed)
        if len(packet) <= _PACKET:
            with contextlib.suppress(OSError):  # it is gone; the reader says so
                self._inbox.send(packet)
        else:
            self._send(framed(packet))

    def hand(self, handed: _Handed, most: int) -> bool:
        """Put a further job into the inbox, `most` in all; False if this child is not the one to have it."""
        limit = self._executor.limits.recycle_jobs
        if (
            self.why is not None
            or self._retiring
            or len(self._ahead) >= _AHEAD
            or self._jobs + len(self._ahead) >= limit
        ):
            return False
        packet = _start_of(handed)
        if len(packet) > _PACKET:
            return False
        try:
            self._inbox.send(packet)
        except OSError:  # full, or gone
            return False
        self._ahead[handed.job.id] = handed
        if self._hurry is None:
            self._hurry = self._loop.call_later(_PATIENCE, self._look_ahead)
        return True

    def take_back(self, wanted: Collection[str]) -> list[_Handed]:
        """Take jobs out of the inbox that were handed ahead; those that the child has read already stay with it."""
        packets = []
        with contextlib.suppress(OSError):
            while packet := self._inbox_end.recv(READ):
                packets.append(packet)
        back = []
        for packet in packets:
            start = decode_to_child(packet)
            if isinstance(start, Start) and start.job in wanted:
                back.append(self._ahead.pop(start.job))
                self._executor.returned(back[-1])
            else:
                with contextlib.suppress(OSError):
                    self._inbox.send(packet)
        return back

    def return_ahead(self) -> None:
        """Give back what was handed ahead and has not begun."""
        if self._ahead:
            for handed in self.take_back(set(self._ahead)):
                handed.listener.returned(handed.job)

    def return_all(self) -> None:
        """Give back what this child will never begin: it has ended, or takes nothing else.

        That may be its current job too, if it ended between two jobs. One that died over its first job is no reason to
        try that again.
        """
        if self._current is not None and self.why is None and not self._open and self._current_waits():
            handed, self._current = self._current, None
            handed.listener.returned(handed.job)
        self.return_ahead()
        for handed in list(self._ahead.values()):
            del self._ahead[handed.job.id]
            self._executor.returned(handed)
            if self._lost_track:  # it may have run, and must not run twice
                handed.listener.began(handed.job)
                detail = "an earlier job broke the connection of its process, so that nobody knows whether it ran"
                handed.listener.ended(handed.job, Ending(failure=Failure(cause="lost worker", detail=detail)))
            else:
                handed.listener.returned(handed.job)

    def _current_waits(self) -> bool:
        """Take back the current job if it has not begun, though another one had ended before it."""
        if self._current is None or self._jobs <= 1:
            return False
        job_id = self._current.job.id
        self._ahead[job_id] = self._current
        waited = bool(self.take_back({job_id}))
        self._ahead.pop(job_id, None)
        return waited

    def _look_ahead(self) -> None:
        """Give jobs back that were handed ahead of a job that turns out to be long."""
        self._hurry = None
        if not self._ahead:
            return
        if time.monotonic() - self.began >= _PATIENCE:
            self._executor.paced(self.key, time.monotonic() - self.began)
            self.return_ahead()
        if self._ahead:
            self._hurry = self._loop.call_later(_PATIENCE, self._look_ahead)

    def _make_current(self, handed: _Handed) -> None:
        self._current = handed
        self.began = time.monotonic()
        self._ask_at = self.began
        self.done.clear()
        self._jobs += 1

    async def describe(self, ref: ProcessRef) -> Described:
        self._described = self._loop.create_future()
        self._send(encode_frame(Describe(refs=[ref])))
        return await self._described

    def signal(self, number: signal.Signals) -> None:
        if self.pid and not self.exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def narrow(self) -> None:
        """Have the kernel know of a memory limit that is lower than that of all jobs of the process."""
        assert self._current is not None
        own, most = (one.memory_limit_mib for one in (self._current.assignment.limits, self._current.assignment.most))
        if self.group is not None and own != most and not self._narrowed:
            self._narrowed = True
            self.group.limit(own or 0)

    def widen(self) -> None:
        """Undo `narrow` for the next job."""
        if self._narrowed:
            assert self._current is not None
            assert self.group is not None
            self._narrowed = False
            self.group.limit(self._current.assignment.most.memory_limit_mib or 0)

    def exceeded(self) -> Failure | None:
        """Return the failure of a job for which the kernel has killed something, since it held too much memory."""
        if self.group is None or self._current is None or not self.group.was_exceeded():
            return None
        return _exceeded(self._current, "memory_limit_mib")

    def kill_tree(self) -> None:
        """Kill it and everything below it; this takes some milliseconds."""
        trees.kill_tree(self.pid, self.started)
        if self.group is not None:
            self.group.kill()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._connection)
            self._loop.remove_writer(self._connection)
            self._executor.lost(self)
            for end in (self._connection, self._inbox, self._inbox_end):
                end.close()

    def tell_end(self, *, failure: Failure) -> None:
        """Tell the listener of an end that the child itself did not tell."""
        if self._current is None:
            return
        ended, self._current = self._current, None
        if self._ending is not None:
            ended.listener.ended(ended.job, self._ending)
            return
        failure = msgspec.structs.replace(failure, step=failure.step or self.step)
        folder = Path(ended.folder)
        log_bytes = _save_log(self.log, folder)
        left = folder if folder.exists() else None
        ended.listener.ended(ended.job, Ending(failure=failure, folder=left, log_bytes=log_bytes))

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._connection.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it is gone; the reader says so
        if sent < len(data):
            self._unsent += data[sent:]
            self._loop.add_writer(self._connection, self._send_rest)

    def _send_rest(self) -> None:
        try:
            sent = self._connection.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._unsent)
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._connection)

    def _receive(self) -> bool:
        """Take what the child tells; False if that was nothing."""
        try:
            data = self._connection.recv(READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            if self._described is not None and not self._described.done():
                error = ": ".join(["its import ended the process that loaded it", *tail_of(self.log)[-1:]])
                self._described.set_result(Described(ref=self.key.ref, error=error))
            self.done.set()
            self.close()
            return False
        self._heard = time.monotonic()
        try:
            for frame in self._frames.feed(data):
                self._take(decode_from_child(frame))
                if not self._open:
                    return False
        except (ValueError, msgspec.DecodeError):
            self._give_up()
        return True

    def settle(self) -> None:
        """Make sure which job is the current one, before it is stopped, and that it stays so until it ends.

        What has not begun is taken back first: whatever is read then, no other job can begin afterwards.
        """
        self._retiring = True
        self.return_ahead()
        while self._open and not self._lost_track and self._receive():
            pass

    def _give_up(self) -> None:
        """End a child that nobody understands: what it runs has written to descriptors that are not its own."""
        log.warning("job process %d sends what is no message; it is ended", self.pid)
        self._lost_track = True
        self._loop.remove_reader(self._connection)
        if self._current is None or self.why is not None:
            self.close()
            return
        if self._current_waits():
            unbegun, self._current = self._current, None
            self._executor.unburden(self, unbegun)
            return
        detail = "the process wrote to file descriptors that it had not opened; it must leave them alone"
        self._executor.stop(self._current.job.id, Failure(cause="process error", detail=detail))

    def ask(self) -> None:
        """Ask whether the current job was received: the one before it may have read what was not meant for it.

        That may read the question too, so it is asked again and again, each time after twice as long: a job that runs
        for hours reads none of them.
        """
        now = time.monotonic()
        if self._frames.unfinished and now - self._heard > _MID_MESSAGE:
            self._give_up()  # whoever wrote that was no child: it would have written all of it
        elif self._current is not None and now >= self._ask_at:
            self._ask_at = now + (now - self.began)
            self._send(encode_frame(Ping(job=self._current.job.id)))

    def _take(self, message: FromChild) -> None:
        if isinstance(message, Described):
            if self._described is not None and not self._described.done():
                self._described.set_result(message)
            return
        ended = self._meant_by(message)
        if ended is None:
            return
        if isinstance(message, Pong):
            if self.why is not None:
                self.done.set()
                self.close()
                return
            log.warning("job process %d did not receive job %s; it is ended", self.pid, ended.job.id)
            self._current = None
            self._executor.unburden(self, ended)
            return
        if isinstance(message, Progress):
            ended.listener.progressed(ended.job, message.percent, message.message)
            return
        if isinstance(message, Done):
            limits = self._executor.limits
            small = message.grown_mib <= limits.recycle_mib and self._jobs < limits.recycle_jobs
            keep = small and not ended.assignment.fresh and not message.littered and not self._retiring
            left = Path(ended.folder) if message.folder else None
            ending = Ending(manifest=message.outputs, folder=left, log_bytes=message.log_bytes)
            self._executor.paced(self.key, time.monotonic() - self.began)
        else:
            keep = False
            failure = _unasked(message.failure)
            if (better := self.why or self.exceeded()) is not None:
                failure = msgspec.structs.replace(better, step=failure.step)
            ending = Ending(failure=failure, folder=Path(ended.folder), log_bytes=message.log_bytes)
        if message.busy:
            # What goes on would write into a folder that is being removed: the end is told when it is no more.
            self._retiring = True
            self._ending = ending
            self._executor.kill(self)
            self.done.set()
            return
        self._go_on(ended.job, keep=keep, reads_on=isinstance(message, Done) and not message.littered)
        ended.listener.ended(ended.job, ending)

    def _meant_by(self, message: Progress | Done | Broke | Pong) -> _Handed | None:
        """Return the job that a message is about, if this child has that; it is the current one then."""
        current = self._current
        if current is None or message.job == current.job.id:
            return current
        if isinstance(message, Pong) or message.job not in self._ahead:
            return None
        return self._skip_to(message.job)

    def _skip_to(self, job_id: str) -> _Handed:
        """Go on to a job that the child tells of, and give back those before it: it takes one after the other.

        They have not run: only the loop of the job process runs jobs, whoever else may have read their messages.
        """
        assert self._current is not None
        self._retiring = True
        if self.why is not None:
            self.why = Failure(cause="lost worker", detail="the job's process was stopped for the sake of another job")
        while (missed := self._current).job.id != job_id:
            log.warning("job process %d did not receive job %s; it is given back", self.pid, missed.job.id)
            handed = self._ahead.pop(next(iter(self._ahead)))
            self._make_current(handed)
            self._executor.promoted(self, missed.job, handed)
            missed.listener.returned(missed.job)
        return self._current

    def _go_on(self, ended: Job, *, keep: bool, reads_on: bool) -> None:
        """After a job: go on to the next one that was handed ahead, wait for another one, or end."""
        self._retiring = not keep
        self.widen()
        if self.why is not None or not reads_on:
            self.return_all()
        elif not keep:
            self.return_ahead()
        if self._ahead:
            handed = self._ahead.pop(next(iter(self._ahead)))
            self._make_current(handed)
            self._executor.promoted(self, ended, handed)
        else:
            self._executor.released(self, keep=keep)
            self._current = None
            self.done.set()


def _unasked(failure: Failure) -> Failure:
    """Return the failure of a job that nobody has stopped."""
    if failure.kind != "Dismissed":
        return failure
    detail = "the job ended by SIGTERM, or raised Dismissed by itself: nobody had dismissed it"
    return msgspec.structs.replace(failure, cause="process error", detail=detail)


def _key_of(assignment: Assignment) -> _Key:
    return _Key(assignment.ref, assignment.job.version, assignment.job.workspace)


def _start_of(handed: _Handed) -> bytes:
    """Return the message that begins a job."""
    job, assignment = handed.job, handed.assignment
    return encode(
        Start(
            job=job.id,
            ref=assignment.ref,
            request=job.request,
            folder=handed.folder,
            policy=assignment.policy,
            trace=traceparent(job, "process") if job.trace else "",
        )
    )


def _start_forkserver(scratch: Path) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    call = f"from graticule.runtime.forkserver import main; main({theirs.fileno()}, {_NEEDED!r})"
    code = f"import sys; sys.path[:] = {sys.path!r}; {call}"
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        env=_SETTLED | passed_on | {trees.MARK: str(scratch.resolve())},
    )
    theirs.close()
    ours.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return ours, process


def _overweight(handed: _Handed, child: _Child, table: trees.Table) -> Failure | None:
    """Return the failure of a job that takes more than it may."""
    limits = handed.assignment.limits
    if limit := limits.memory_limit_mib:
        tree = [child.pid, *(entry.pid for entry in trees.below(child.pid, table))]
        if (used := trees.memory_mib(tree, enough=limit)) > limit:
            return _exceeded(handed, "memory_limit_mib", used)
    if (limit := limits.disk_limit_mib) and (used := _folder_mib(Path(handed.folder), child.home)) > limit:
        return _exceeded(handed, "disk_limit_mib", used)
    if (limit := limits.log_limit_mib) and (used := _folder_mib(Path(handed.folder) / "logs", child.log)) > limit:
        return _exceeded(handed, "log_limit_mib", used)
    return None


def _exceeded(handed: _Handed, name: LimitName, used_mib: int = 0) -> Failure:
    assignment = handed.assignment
    return exceeded(name, limits=assignment.limits, most=assignment.most, process=handed.job.process, used_mib=used_mib)


def _folder_mib(*places: Path) -> int:
    """Return the size of some files, or of all below some folders; what comes and goes meanwhile counts as nothing."""
    total = 0
    for place in places:
        paths = (Path(folder) / name for folder, _, names in os.walk(place) for name in names)
        for path in paths if place.is_dir() else (place,):
            with contextlib.suppress(OSError):
                total += path.lstat().st_size
    return total >> 20


def _save_log(log: Path, folder: Path) -> int:
    """Keep what a job process had printed before it was no more."""
    try:
        size = log.stat().st_size
        if not size:
            return 0
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(log, folder / "process.log")
    except OSError:
        return 0
    return size
