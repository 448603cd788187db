"""The agent's end of one job process: what it is handed, what it says, and what of that belongs to which job."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import shutil
import signal
import socket
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from graticule.jobs import trees
from graticule.jobs.cgroups import Group
from graticule.jobs.executor import Assignment, Ending, Listener
from graticule.jobs.failures import LimitName, exceeded, scarcity, tail_of, unhoused
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

if TYPE_CHECKING:
    from graticule.jobs.executors.local import LocalExecutor

log = logging.getLogger("graticule.jobs")

AHEAD = 8
"""Jobs that are handed to a job process while it runs one: it then need not be woken for each."""
_PATIENCE = 0.05
"""Seconds that a job handed ahead waits for the one before it; then it is taken back for whoever is free."""
_MID_MESSAGE = 10.0
"""Seconds without a byte in the middle of a message, which a job process writes at once, until it counts as garbage."""
_PACKET = 1 << 14
"""Bytes of the largest message that goes to a job process's inbox; larger ones go by the stream."""


class Key(NamedTuple):
    """Whose jobs a job process may run: one process's, in one workspace."""

    ref: ProcessRef
    version: str
    workspace: str


class Handed(NamedTuple):
    """A job that a job process has, or will have."""

    assignment: Assignment
    listener: Listener
    folder: str

    @property
    def job(self) -> Job:
        return self.assignment.job


class Child:
    """The agent's end of one job process."""

    def __init__(
        self,
        executor: LocalExecutor,
        number: int,
        key: Key,
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
        self._current: Handed | None = None
        self._ahead: dict[str, Handed] = {}
        self._hurry: asyncio.TimerHandle | None = None
        self._ask_at = 0.0
        self._heard = 0.0
        self._lost_track = False
        self._ending: Ending | None = None
        self._described: asyncio.Future[Described] | None = None
        self._jobs = 0
        self._open = True
        self._retiring = False
        self.asked = time.monotonic()
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
        self.printed = (0, 0.0)
        """Bytes that its current job had printed when that was last looked at, and when that was."""
        self.idle_since = 0.0
        self.forked = asyncio.Event()
        self.exited = asyncio.Event()
        self.done = asyncio.Event()
        self._loop.add_reader(connection, self._receive)

    @property
    def current(self) -> Handed | None:
        return self._current

    @property
    def step(self) -> Step:
        """How far its current job has come."""
        number = self._step[0]
        return STEPS[number] if number < len(STEPS) else "run"

    @property
    def job(self) -> Job | None:
        return self._current.job if self._current is not None else None

    def begin(self, handed: Handed) -> None:
        self._make_current(handed)
        packet = _start_of(handed)
        if len(packet) <= _PACKET:
            with contextlib.suppress(OSError):  # it is gone; the reader says so
                self._inbox.send(packet)
        else:
            self._send(framed(packet))

    def hand(self, handed: Handed, most: int) -> bool:
        """Put a further job into the inbox, `most` in all; False if this child is not the one to have it."""
        limit = self._executor.limits.recycle_jobs
        if (
            self.why is not None
            or self._retiring
            or len(self._ahead) >= AHEAD
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

    def take_back(self, wanted: Collection[str]) -> list[Handed]:
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

    def _make_current(self, handed: Handed) -> None:
        self._current = handed
        self.began = time.monotonic()
        self.printed = (0, self.began)
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
        return exceeded_by(self._current, "memory_limit_mib")

    def kill_tree(self) -> None:
        """Kill it and everything below it; this takes some milliseconds."""
        trees.kill_tree(self.pid, self.started)
        if self.group is not None:
            self.group.kill()

    def unforked(self, error: OSError) -> None:
        """Give the current job back: there was no process to be had for it."""
        self.exited.set()
        if self.why is None and self._current is not None:
            unbegun, self._current = self._current, None
            self._executor.unburden(self, unbegun, scarcity(error))
        self.close()

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
            ended.listener.ended(ended.job, _within_limit(ended, self._ending))
            return
        failure = msgspec.structs.replace(failure, step=failure.step or self.step)
        folder = Path(ended.folder)
        log_bytes = _save_log(self.log, folder)
        left = folder if folder.exists() else None
        ending = Ending(failure=failure, folder=left, log_bytes=log_bytes)
        ended.listener.ended(ended.job, _within_limit(ended, ending))

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
        elif self._current is not None and self._ending is None and now >= self._ask_at:
            self._ask_at = now + (now - self.began)
            self._send(encode_frame(Ping(job=self._current.job.id)))

    def _take(self, message: FromChild) -> None:
        if isinstance(message, Described):
            if self._described is not None and not self._described.done():
                self._described.set_result(message)
            return
        if self._ending is not None:  # it is being killed; a late answer must not say that its job never began
            return
        ended = self._meant_by(message)
        if ended is None:
            return
        if isinstance(message, Pong):
            self._let_go_of(ended)
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
            failure = _unasked(message.failure, self.log)
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
        ended.listener.ended(ended.job, _within_limit(ended, ending))

    def _let_go_of(self, unreceived: Handed) -> None:
        """End the child, for it never got its current job."""
        if self.why is not None:
            self.done.set()
            self.close()
            return
        log.warning("job process %d did not receive job %s; it is ended", self.pid, unreceived.job.id)
        self._current = None
        self._executor.unburden(self, unreceived)

    def _meant_by(self, message: Progress | Done | Broke | Pong) -> Handed | None:
        """Return the job that a message is about, if this child has that; it is the current one then."""
        current = self._current
        if current is None or message.job == current.job.id:
            return current
        if isinstance(message, Pong) or message.job not in self._ahead:
            return None
        return self._skip_to(message.job)

    def _skip_to(self, job_id: str) -> Handed:
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


def _unasked(failure: Failure, log: Path) -> Failure:
    """Return the failure of a job that nobody has stopped."""
    if not log.exists():
        return msgspec.structs.replace(unhoused(), step=failure.step)
    if failure.kind != "Dismissed":
        return failure
    detail = "the job ended by SIGTERM, or raised Dismissed by itself: nobody had dismissed it"
    return msgspec.structs.replace(failure, cause="process error", detail=detail)


def _start_of(handed: Handed) -> bytes:
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


def _within_limit(handed: Handed, ending: Ending) -> Ending:
    """Cut what a job has printed to its limit: it is looked at only now and then, and may have come far beyond."""
    limit = handed.assignment.limits.log_limit_mib
    if not limit or ending.folder is None:
        return ending
    printed = ending.folder / "process.log"
    left, logs = limit << 20, [printed] if ending.log_bytes else []
    if os.path.isdir(ending.folder / "logs"):  # noqa: PTH112 - for each job
        logs += sorted((ending.folder / "logs").glob("*.log"))
    for path in logs:
        with contextlib.suppress(OSError):  # it would be stored as it is
            size = path.stat().st_size
            if size > left:
                os.truncate(path, left)
                with path.open("ab") as file:
                    file.write(f"\n[what was printed beyond the limit of {limit} MiB was not kept]\n".encode())
                if path is printed:
                    ending = replace(ending, log_bytes=path.stat().st_size)
            left -= min(size, left)
    return ending


def exceeded_by(handed: Handed, name: LimitName, used_mib: int = 0) -> Failure:
    """Return the failure of a job that took more than a limit of it, or of the server."""
    assignment = handed.assignment
    return exceeded(name, limits=assignment.limits, most=assignment.most, process=handed.job.process, used_mib=used_mib)
