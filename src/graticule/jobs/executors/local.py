"""Run job processes on this machine, forked from a fork server."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import json
import logging
import math
import mmap
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graticule.data.removal import remove_tree
from graticule.jobs import trees
from graticule.jobs.cgroups import Groups
from graticule.jobs.executor import Assignment, Listener
from graticule.jobs.executors.job_process import AHEAD, Child, Handed, Key, exceeded_by
from graticule.jobs.failures import crashed, unhoused
from graticule.jobs.job import Failure, Job
from graticule.jobs.leftovers import LINKS
from graticule.jobs.messages import (
    Described,
    ProcessRef,
)  # fmt: skip

log = logging.getLogger("graticule.jobs")

_NEEDED = ("graticule.processes.decorator", "graticule.processes.resolve", "graticule.processes.values")
"""What every job process imports; the fork server has it before it forks the first."""
_WANTED = ("numpy", "rasterio")
"""What most do; the fork server imports it once the server has answered."""
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
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
_FORK_S = 10.0
"""Seconds that the fork server may take for a job process, while it imports something."""
_HUNG_S = (30.0, 60.0)
"""Seconds after which it counts as hung and another one takes its place: while it has no other jobs, and anyway. It
cannot look after those either, and they end with it, to be tried again."""
_FORKSERVER_S = 1.0
"""Seconds until it is tried again to start a fork server."""
_STATUS_S = 10.0
"""Seconds until the exit status of a job process that is gone counts as unknown."""
_AT_ONCE = frozenset({"out of memory", "disk limit"})
"""Causes of a stop that give no such time: what takes more than it may would go on taking it."""
_LOOK = 0.25
"""Seconds between two looks at the limits of running jobs."""
_GLANCE, _SOONEST = 0.02, 0.005
"""Seconds between two looks at what running jobs have printed, and the fewest, for one that is near its limit."""
_YOUNG = 0.01
"""Seconds before the first such look at a job."""
_SHORT = 0.005
"""Seconds that jobs of a kind take at most, lately, for further ones to be handed ahead."""
_TINY = 0.002
"""As `_SHORT`, while another job process is free: to wake that one would take longer than to wait."""


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
    open_files: int = 0
    """Files that a job process may have open; 0: as many as the server."""


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
    adopts : bool
        Whether this process adopts what a fork server that was killed leaves behind, and nothing else: then that is
        ended.
    """

    def __init__(
        self, scratch: Path, limits: LocalLimits, groups: Groups | None = None, *, adopts: bool = False
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._scratch = scratch
        self._jobs = str(scratch / "jobs")
        self._limits = limits
        self._groups = groups
        self._adopts = adopts
        self._idle: dict[Key, list[Child]] = {}
        self._busy: dict[str, Child] = {}
        self._ahead: dict[str, Child] = {}
        self._latest: Key | None = None
        self._pace: dict[Key, float] = {}
        self._children: dict[int, Child] = {}
        self._unforked: dict[int, Child] = {}
        """Those whose process number is not known yet, though their process may have run and ended already."""
        self._by_pid: dict[int, Child] = {}
        self._number = 0
        self._stopping: set[asyncio.Task[None]] = set()
        self._closed = False
        self._watch: asyncio.TimerHandle | None = None
        self._glancing: asyncio.TimerHandle | None = None
        self._linked: set[str] = set()
        self._place = self._make_folders()
        self._weighing = False
        self._preloaded = False
        self._kills = trees.out_of_memory_kills()
        self._control, self._forkserver = _start_forkserver(scratch, limits.open_files)
        self._loop.add_reader(self._control, self._hear_forkserver)

    # --- what an executor does --------------------------------------------------------------------------------------

    @property
    def places(self) -> int:
        return self._limits.workers

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
        self._keep_folders()
        child = None if assignment.fresh else self._warm(key)
        if child is None:
            self._make_room()
            child = self._spawn(key, assignment.most.memory_limit_mib or 0)
        self._busy[job.id] = child
        child.begin(Handed(assignment, listener, f"{self._jobs}/{job.id}"))
        if self._watch is None:
            self._watch = self._loop.call_later(_LOOK, self._look)
        if self._glancing is None:
            self._glancing = self._loop.call_later(_YOUNG, self._glance)

    def watch(self, seconds: float) -> None:
        with contextlib.suppress(OSError):  # it is gone; the next one is told
            self._control.send(json.dumps({"watch": seconds}).encode())

    @property
    def room_ahead(self) -> int:
        if self._latest is None or self._pace[self._latest] > self._limits.short_s:
            return 0
        return self._limits.workers * (AHEAD // 2) - len(self._ahead)

    def start_ahead(self, assignment: Assignment, listener: Listener) -> bool:
        if assignment.fresh or not self._busy:
            return False
        key = _key_of(assignment)
        limits = self._limits
        short, most = (limits.tiny_s, AHEAD // 2) if self.free > 0 else (limits.short_s, AHEAD)
        if self._pace.get(key, 1.0) > short:
            return False
        job_id = assignment.job.id
        for child in self._busy.values():
            if child.key == key and child.hand(Handed(assignment, listener, f"{self._jobs}/{job_id}"), most):
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

    def abandon(self, job_id: str) -> None:
        """End a job's process and all below it at once, since nobody looks after the job any more."""
        child = self._busy.get(job_id)
        if child is not None:
            child.why = child.why or Failure(cause="lost worker", detail="nobody looks after the job any more")
            self.kill(child)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def logs_of(self, job_id: str) -> dict[str, Path]:
        child = self._busy.get(job_id)
        return ({"process": child.log} if child is not None else {}) | logs_left(self._scratch / "jobs" / job_id)

    async def describe(self, refs: Sequence[ProcessRef]) -> list[Described]:
        return list(await asyncio.gather(*[self._describe(ref) for ref in refs]))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for timer in (self._watch, self._glancing):
            if timer is not None:
                timer.cancel()
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
            await asyncio.to_thread(self._forkserver.wait)

    # --- children ---------------------------------------------------------------------------------------------------

    def _warm(self, key: Key) -> Child | None:
        waiting = self._idle.get(key)
        return waiting.pop() if waiting else None

    def _make_folders(self) -> tuple[int, int]:
        """Make the folders of job processes and jobs; return which one that of the former is."""
        for name in ("jobs", "children", LINKS):
            (self._scratch / name).mkdir(parents=True, exist_ok=True)
        made = (self._scratch / "children").stat()
        return made.st_dev, made.st_ino

    def _keep_folders(self) -> None:
        """Make the folders again if somebody has removed them, and let go of those who had their files there."""
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._scratch / "children")  # noqa: PTH116 - for each job
            if (found.st_dev, found.st_ino) == self._place:
                return
        log.error("somebody has removed the scratch folder; it is made again")
        self._place = self._make_folders()
        for waiting in self._idle.values():
            for child in list(waiting):
                self._dismiss_idle(child)

    def _make_room(self) -> None:
        """Let go of a waiting job process of another kind, if all places are taken."""
        if len(self._children) < self._limits.workers:
            return
        for waiting in self._idle.values():
            if waiting:
                self._dismiss_idle(waiting.pop(0))
                return

    def _dismiss_idle(self, child: Child) -> None:
        child.close()  # it ends when its socket closes

    def _spawn(self, key: Key, memory_mib: int = 0) -> Child:
        python = shutil.which(key.ref.python) if key.ref.python else ""
        if python is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key.ref.python)
        if self._forkserver.returncode is not None:
            raise BlockingIOError(errno.EAGAIN, "the fork server is gone, and no other one could be started")
        self._number += 1
        log = self._scratch / "children" / f"{self._number}.log"
        with contextlib.ExitStack() as opened:  # what is open already goes again if there is not enough for all
            ours, theirs = map(opened.enter_context, socket.socketpair())
            sender, inbox = map(opened.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            step = os.memfd_create("step")
            opened.callback(os.close, step)
            os.ftruncate(step, 1)
            shared = mmap.mmap(step, 1)
            opened.pop_all()
        for end in (ours, sender, inbox):
            end.setblocking(False)  # noqa: FBT003 - the standard library's signature
        child = Child(self, self._number, key, ours, (sender, inbox), shared, log)
        self._children[child.number] = self._unforked[child.number] = child
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
            self._know_pid(self._unforked.pop(message["forked"]), message["pid"])
        elif "unforked" in message:
            reason = OSError(message["errno"], os.strerror(message["errno"]))
            self._unforked.pop(message["unforked"]).unforked(reason)
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
        if self._adopts:
            self._in_background(asyncio.to_thread(trees.end_adopted))
        for child in (*self._by_pid.values(), *self._unforked.values()):
            child.exited.set()
        self._by_pid.clear()
        self._unforked.clear()
        self._begin_forkserver()

    def _begin_forkserver(self) -> None:
        """Start a fork server after another one, as soon as the system lets us."""
        if self._closed:
            return
        try:
            self._control, self._forkserver = _start_forkserver(self._scratch, self._limits.open_files)
        except OSError as error:
            log.error("no fork server can be started yet: %s", error.strerror)  # noqa: TRY400 - that says all
            self._loop.call_later(_FORKSERVER_S, self._begin_forkserver)
            return
        self._loop.add_reader(self._control, self._hear_forkserver)
        if self._preloaded:
            self.preload()

    def _end_if_hung(self) -> None:
        """Kill a fork server that does not answer, so that another one takes its place."""
        waited, alone = self._waited(), not any(child.pid for child in self._busy.values())
        if waited > _HUNG_S[0 if alone else 1] and self._forkserver.poll() is None:
            log.error("the fork server has not forked a job process for %.0f s; it is killed", waited)
            self._forkserver.kill()

    def _waited(self) -> float:
        """Return the seconds for which the fork server has not done what it was asked for first."""
        return time.monotonic() - min((child.asked for child in self._unforked.values()), default=math.inf)

    def _know_pid(self, child: Child, pid: int) -> None:
        child.pid = pid
        child.started = trees.started(pid)
        self._by_pid[pid] = child
        child.forked.set()

    def paced(self, key: Key, seconds: float) -> None:
        """Note how long a job of a kind took."""
        self._latest = key
        before = self._pace.get(key, seconds)
        self._pace[key] = before + (seconds - before) / 4

    def promoted(self, child: Child, ended: Job, handed: Handed) -> None:
        """Note that a child has gone on to a job that was handed ahead."""
        self._leave(ended.id)
        del self._ahead[handed.job.id]
        self._busy[handed.job.id] = child
        handed.listener.began(handed.job)
        why = child.unwanted.pop(handed.job.id, None)
        if why is not None:
            self._loop.call_soon(self.stop, handed.job.id, why)

    def returned(self, handed: Handed) -> None:
        """Note that a job is no longer ahead."""
        self._ahead.pop(handed.job.id, None)

    def unburden(self, child: Child, handed: Handed, lacking: str = "") -> None:
        """Let go of a child that never got the job it should be running, which is given back."""
        self._leave(handed.job.id)
        child.close()
        handed.listener.returned(handed.job, lacking)

    def released(self, child: Child, *, keep: bool) -> None:
        """Keep a child that has ended its job for the next one of its kind, or let it go."""
        assert child.job is not None
        self._leave(child.job.id)
        if keep and not self._closed and child.why is None:
            child.idle_since = time.monotonic()
            self._idle.setdefault(child.key, []).append(child)
        else:
            child.close()

    def lost(self, child: Child) -> None:
        """Clean up after a child whose socket has closed: it ended by itself, or crashed."""
        self._children.pop(child.number, None)
        waiting = self._idle.get(child.key, [])
        if child in waiting:
            waiting.remove(child)
        if child.job is not None:
            self._leave(child.job.id)
        child.return_all()
        self._in_background(self._bury(child))

    async def _bury(self, child: Child) -> None:
        """Wait for the exit status, then tell how the job it had has ended."""
        with contextlib.suppress(TimeoutError):
            # Whoever was stopped has his reason; of the others only the exit status says what it was.
            async with asyncio.timeout(_STATUS_S if child.why is None else 2):
                await child.exited.wait()
        if child.job is not None:
            gone = self._crashed(child.status) if child.log.exists() else unhoused()
            child.tell_end(failure=child.why or child.exceeded() or gone)
        with contextlib.suppress(OSError):
            child.log.unlink()
        await asyncio.to_thread(remove_tree, child.home)
        if child.group is not None:
            child.group.remove()

    # --- stopping and limits ------------------------------------------------------------------------------------------

    def _crashed(self, status: int | None) -> Failure:
        kills = trees.out_of_memory_kills()
        memory_was_short, self._kills = kills > self._kills, kills
        return crashed(status, memory_was_short=memory_was_short)

    def kill(self, child: Child) -> None:
        """End a job process and everything below it at once."""
        self._in_background(self._kill_now(child))

    async def _kill_now(self, child: Child) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await child.forked.wait()
        await asyncio.to_thread(child.kill_tree)
        child.close()

    async def _kill(self, child: Child) -> None:
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
        heavy: list[tuple[Handed, Child]] = []
        for job_id, child in list(self._busy.items()):
            handed = child.current
            # Nothing is looked at of a job that is short: that would cost as much as the job.
            if handed is None or child.why is not None or now - child.began < _LOOK:
                continue
            child.ask()
            child.narrow()
            self._link(job_id, child)
            limits = handed.assignment.limits
            if limits.time_limit_s and now - child.began > limits.time_limit_s:
                self.stop(job_id, exceeded_by(handed, "time_limit_s"))
            elif child.pid and (limits.memory_limit_mib or limits.disk_limit_mib or limits.log_limit_mib):
                heavy.append((handed, child))
        self._end_if_hung()
        if heavy and not self._weighing:
            self._weighing = True
            self._loop.run_in_executor(None, self._weigh, heavy)
        for waiting in self._idle.values():
            for child in [child for child in waiting if now - child.idle_since > self._limits.idle_s]:
                waiting.remove(child)
                self._dismiss_idle(child)
        if (self._busy or any(self._idle.values())) and not self._closed:
            self._watch = self._loop.call_later(_LOOK, self._look)

    def _glance(self) -> None:
        """Stop jobs that print more than they may: that fills a disk faster than all else, and is soon looked at."""
        now, pause = time.monotonic(), _GLANCE
        for job_id, child in list(self._busy.items()):
            handed = child.current
            if handed is None or child.why is not None or now - child.began < _YOUNG:
                continue
            if limit := handed.assignment.limits.log_limit_mib:
                (before, at), size = child.printed, _size_of(child.log)
                child.printed = (size, now)
                if size > limit << 20:
                    self.stop(job_id, exceeded_by(handed, "log_limit_mib", -(-size >> 20)))
                elif size > before:  # at this pace it takes so long until then
                    pause = min(pause, ((limit << 20) - size) * (now - at) / (size - before))
        self._glancing = None
        if self._busy and not self._closed:
            self._glancing = self._loop.call_later(max(pause, _SOONEST), self._glance)

    def _link(self, job_id: str, child: Child) -> None:
        """Have the log of a job be found by its name when this server is killed, and its job processes with it."""
        if job_id not in self._linked:
            self._linked.add(job_id)
            with contextlib.suppress(OSError):  # not every file system has such links
                os.link(child.log, self._scratch / LINKS / f"{job_id}.log")

    def _leave(self, job_id: str) -> None:
        """Note that a job is with no job process any more."""
        self._busy.pop(job_id, None)
        if job_id in self._linked:
            self._linked.discard(job_id)
            (self._scratch / LINKS / f"{job_id}.log").unlink(missing_ok=True)

    def _weigh(self, heavy: Sequence[tuple[Handed, Child]]) -> None:
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

    def _stop_current(self, child: Child, handed: Handed, why: Failure) -> None:
        if child.current is handed:
            self.stop(handed.job.id, why)

    async def _describe(self, ref: ProcessRef) -> Described:
        try:
            child = self._spawn(Key(ref, "", ""))
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
        if self._forkserver.poll() is not None:
            return "the fork server is gone"
        waited = self._waited()
        return "" if waited < _FORK_S else f"the fork server has not forked a job process for {waited:.0f} s"


def logs_left(folder: Path) -> dict[str, Path]:
    """Return the logs in the scratch folder of a job, by step, until they are in storage."""
    found: dict[str, Path] = {}
    for place in (folder, folder.with_name(f"{folder.name}.kept")):  # the latter on its way into storage
        if place.is_dir():
            found |= {path.stem: path for path in (place / "logs").glob("*.log")}
            if (place / "process.log").is_file():
                found["process"] = place / "process.log"
    return found


def _key_of(assignment: Assignment) -> Key:
    return Key(assignment.ref, assignment.job.version, assignment.job.workspace)


def _start_forkserver(scratch: Path, open_files: int) -> tuple[socket.socket, subprocess.Popen[bytes]]:
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
    if open_files:  # from outside: job processes that have the module loaded are looked at more closely
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (open_files, most))
    return ours, process


def _overweight(handed: Handed, child: Child, table: trees.Table) -> Failure | None:
    """Return the failure of a job that takes more than it may."""
    limits = handed.assignment.limits
    if limit := limits.memory_limit_mib:
        tree = [child.pid, *(entry.pid for entry in trees.below(child.pid, table))]
        if (used := trees.memory_mib(tree, enough=limit)) > limit:
            return exceeded_by(handed, "memory_limit_mib", used)
    if (limit := limits.disk_limit_mib) and (used := _folder_mib(Path(handed.folder), child.home)) > limit:
        return exceeded_by(handed, "disk_limit_mib", used)
    if (limit := limits.log_limit_mib) and (used := _folder_mib(Path(handed.folder) / "logs", child.log)) > limit:
        return exceeded_by(handed, "log_limit_mib", used)
    return None


def _size_of(path: Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - many times a second
    except OSError:
        return 0


def _folder_mib(*places: Path) -> int:
    """Return the size of some files, or of all below some folders; what comes and goes meanwhile counts as nothing."""
    total = 0
    for place in places:
        paths = (Path(folder) / name for folder, _, names in os.walk(place) for name in names)
        for path in paths if place.is_dir() else (place,):
            with contextlib.suppress(OSError):
                total += path.lstat().st_size
    return total >> 20
