"""A job process: loads processes, runs one job at a time, and has nothing else.

It has a socket to its agent, its own folder, and a clean environment: no database, no keys. It is kept for further jobs
of the same process in the same workspace, and thrown away after anything unusual.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import functools
import json
import mmap
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import msgspec

from graticule import plugins
from graticule.errors import GraticuleError, InvalidInputs, PluginNotLoaded, ProcessFault
from graticule.jobs.failures import encodable, print_traceback, shortened
from graticule.jobs.job import STEPS, Failure, Fault, Manifest, Step
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
    ToChild,
    decode_to_child,
    encode_frame,
)  # fmt: skip
from graticule.jobs.outputs import keep_outputs
from graticule.ogc.processes import NO_LIMITS, Execute, Limits
from graticule.processes.process import Dismissed, Process
from graticule.runtime import prctl
from graticule.runtime.surroundings import Surroundings
from graticule.runtime.temporary import TemporaryFolder

if TYPE_CHECKING:
    from graticule.processes.inputs import ReferencePolicy

_execute = msgspec.json.Decoder(Execute)
_PROGRESS_INTERVAL = 0.05
_STAGE_IN, _RUN, _STAGE_OUT = map(STEPS.index, ("stage-in", "run", "stage-out"))
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""How the system says that nothing more can be written."""

GIVEN = 3
"""How many open descriptors a job process is given; see `main`."""


def main(given: Iterable[int], log: str) -> None:
    """Serve the agent until it closes the socket.

    Parameters
    ----------
    given : iterable of int
        Three open descriptors: this process's end of the pair of sockets; the socket that small messages come from,
        one at a time, which the agent may take back while they are not read; and one byte of shared memory, where the
        agent looks how far a job had come that ended without a word.
    log : str
        The file that standard output and error go to while no job says otherwise.
    """
    os.setsid()
    # Jobs do not push the server off its processor whenever they are woken: it stays quick to answer.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    home = Path(log).with_suffix("")
    home.mkdir()
    os.chdir(home)
    prctl.become_subreaper()
    prctl.die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _offer_to_the_kernel()
    _redirect(log)
    agent, inbox, step = given
    shared = mmap.mmap(step, 1)
    os.close(step)
    JobProcess(socket.socket(fileno=agent), socket.socket(fileno=inbox), shared, Path(log)).serve()


def start_alone() -> None:
    """Be a job process that was started by exec, because a process names the Python that runs it."""
    main(map(int, sys.argv[1 : 1 + GIVEN]), sys.argv[1 + GIVEN])


def _offer_to_the_kernel() -> None:
    """Have the kernel end this process rather than the server when the machine has no memory left."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _redirect(log: str) -> tuple[int, int]:
    """Have 1 and 2 (native code's output too) write to the log, and 0 read nothing; return which file the log is."""
    _put_at((1, 2), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    _put_at((0,), os.open(os.devnull, os.O_RDONLY))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - lives as long as the process
    for name in ("stdout", "stderr"):
        stream = open(1 if name == "stdout" else 2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
    return _file_at(1)


def _file_at(number: int) -> tuple[int, int]:
    """Return device and number of the file that is open at a descriptor; raises OSError if none is."""
    found = os.fstat(number)
    return found.st_dev, found.st_ino


def _put_at(numbers: tuple[int, ...], opened: int) -> None:
    """Have an open file at some descriptors only, where it may already be if one of them was closed."""
    for number in numbers:
        os.dup2(opened, number)
    if opened not in numbers:
        os.close(opened)
    else:
        os.set_inheritable(opened, True)  # noqa: FBT003 - the standard library's signature


class JobProcess:
    """The loop of a job process.

    Parameters
    ----------
    agent : socket.socket
        Where large messages come from and where ends are told.
    inbox : socket.socket
        Where small messages come from.
    step : mmap.mmap
        Where the agent sees the step of the job that runs.
    log : Path
        What is printed goes here; the agent may read it while a job runs.
    """

    def __init__(self, agent: socket.socket, inbox: socket.socket, step: mmap.mmap, log: Path) -> None:
        self._agent = agent
        self._inbox = inbox
        self._attempts = Attempts(self.send, step)
        self._log = log
        self._printing = (_file_at(1), sys.stdout, sys.stderr)
        """Where descriptors 1 and 2, and what Python prints to, lead while no job has changed it."""
        self._temporary = TemporaryFolder()
        self._home = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.utime(self._home, ns=(0, 0))  # any change of the folder gives it a later time
        self._resident_mib = _resident_mib()
        self._place = os.getcwd()  # noqa: PTH109 - a string is what is compared
        self._pid = os.getpid()
        self._jobs = 0
        self._spoilt = False
        self._sending = threading.Lock()
        signal.signal(signal.SIGTERM, self._stop)
        for end in (agent, inbox):
            end.set_inheritable(False)
        os.register_at_fork(after_in_child=self._let_go)

    def _let_go(self) -> None:
        """In a process that a job has forked: be nobody whom the agent could take for this one."""
        self._agent.close()
        self._inbox.close()
        if signal.getsignal(signal.SIGTERM) == self._stop:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def serve(self) -> None:
        """Take messages until the agent closes the socket."""
        frames = Frames()
        # Polled: who waits in recv on a Unix socket is also woken when the peer reads, once more for each job.
        poller = select.poll()
        poller.register(self._agent, select.POLLIN)
        poller.register(self._inbox, select.POLLIN)
        stream = self._agent.fileno()
        while ready := poller.poll():
            by_stream = any(number == stream for number, _ in ready)
            try:
                data = (self._agent if by_stream else self._inbox).recv(READ)
            except BlockingIOError:  # the agent took it back, or a job has read it
                continue
            if not data:
                return
            for message in list(frames.feed(data)) if by_stream else [data]:
                if not self._answer(decode_to_child(message)):
                    # The agent lets go of this process: what else lies there is not for it.
                    poller.unregister(self._inbox)

    def _answer(self, message: ToChild) -> bool:
        """Do what a message says; False if this process should do nothing else."""
        if isinstance(message, Describe):
            for ref in message.refs:
                described = describe(ref, self._pid)
                _end_if_forked(self._pid)
                self.send(described)
            return True
        if isinstance(message, Ping):
            if not select.select([self._inbox], [], [], 0)[0]:  # what is asked about may lie there
                self.send(Pong(job=message.job))
            return True
        if self._attempts.stopping:  # an earlier job, or somebody outside, has ended this process
            self.send(Pong(job=message.job))
            return False
        end = self._run(message)
        self.send(end)
        return isinstance(end, Done) and not end.littered

    def send(self, message: FromChild) -> None:
        """Tell the agent; safe from the progress thread too. What a job has forked tells nothing."""
        if os.getpid() != self._pid:
            return
        with self._sending:
            self._agent.sendall(encode_frame(message))

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._attempts.stopping = True
        if self._attempts.running:
            raise Dismissed

    def _run(self, start: Start) -> Done | Broke:
        folder = Path(start.folder)
        failure, outputs = self._attempts.run(start)
        surroundings = self._attempts.surroundings
        restored = surroundings is not None and surroundings.restore((start.folder, self._place))
        log_bytes = self._seal_log(folder)
        os.fchdir(self._home)
        # A thread that goes on would print into the log of the next job.
        busy = _thread._count() > 0 or _has_children()  # noqa: SLF001 - counts those unknown to threading too
        tidy = not busy and self._temporary.clear()
        if failure is not None:
            return Broke(job=start.job, failure=failure, log_bytes=log_bytes, busy=busy)
        left = os.path.lexists(folder)
        touched = self._spoilt or os.fstat(self._home).st_mtime_ns != 0 or not restored
        littered = busy or touched or not tidy or self._attempts.stopping
        self._jobs += 1
        # Growth is slow; looking each time would cost a small job as much as its own work.
        grown_mib = _resident_mib() - self._resident_mib if self._jobs % 16 == 1 else 0
        return Done(
            job=start.job, outputs=outputs, log_bytes=log_bytes, folder=left, littered=littered, busy=busy,
            grown_mib=grown_mib,
        )  # fmt: skip

    def _seal_log(self, folder: Path) -> int:
        """Give the job what it has printed, and begin an empty log for the next one."""
        if self._prints_elsewhere():
            # Nothing is flushed: that may be a pipe which nobody reads. Nor may another job print there.
            self._spoilt = True
            _redirect(str(self._log))
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        size = os.fstat(1).st_size
        if size:
            folder.mkdir(parents=True, exist_ok=True)
            self._log.rename(folder / "process.log")
            self._printing = (_redirect(str(self._log)), sys.stdout, sys.stderr)
        return size

    def _prints_elsewhere(self) -> bool:
        """Return whether a job has closed, or replaced, what leads to the log."""
        file, stdout, stderr = self._printing
        try:
            return not (_file_at(1) == _file_at(2) == file and sys.stdout is stdout and sys.stderr is stderr)
        except OSError:
            return True


class Attempts:
    """Runs processes around foreign code: whatever that does, there is an end to tell.

    Parameters
    ----------
    send : callable
        Told how far a process is, by the progress thread too.
    step : mmap.mmap or bytearray
        Gets the number of the step, in `STEPS`, of the job that runs.
    """

    def __init__(self, send: Callable[[Progress], None], step: mmap.mmap | bytearray) -> None:
        self.send = send
        self.stopping = False
        self.running = False
        """Whether foreign code runs, so that a signal may raise `Dismissed`."""
        self.surroundings: Surroundings | None = None
        """How this process was when the code of a job had been loaded."""
        self._pid = os.getpid()
        self._step = step
        self._loaded: dict[ProcessRef, Process] = {}

    def run(self, start: Start) -> tuple[Failure | None, Manifest]:
        """Run a job; return why it failed, or what it gave."""
        folder = Path(start.folder)
        context: Context | None = None
        step = self._step
        try:
            step[0] = _STAGE_IN
            process = self._process(start.ref)
            execute = _execute.decode(start.request)
            context = Context(folder, execute, process, self, start.job)
            if start.trace:
                os.environ["TRACEPARENT"] = start.trace  # where OpenTelemetry has programs look for it
            self.running = True
            inputs = _resolved(process, execute, start.policy, folder)
            step[0] = _RUN
            outputs = process.run(inputs, context)
            self.running = False
            _end_if_forked(self._pid)
            step[0] = _STAGE_OUT
            return None, keep_outputs(outputs, process.description, context.wanted, folder)
        except BaseException as error:  # noqa: BLE001 - edge: foreign code may raise anything, SystemExit too
            self.running = False
            _end_if_forked(self._pid, error)
            return failure_of(error, STEPS[step[0]]), {}
        finally:
            _end_if_forked(self._pid)
            if context is not None:
                context.close()

    def _process(self, ref: ProcessRef) -> Process:
        process = self._loaded.get(ref)
        if process is None:
            from graticule.processes.decorator import identifier_of

            # Not described: a neighbour that cannot be is no fault of this one.
            found = {identifier_of(one): one for one in load_processes(ref)}
            if ref.id not in found:
                raise PluginNotLoaded(ref.target, f"it has no process {ref.id!r}")
            process = self._loaded[ref] = found[ref.id]
            _end_if_forked(self._pid)
            self.surroundings = Surroundings()
        return process


def load_processes(ref: ProcessRef) -> list[Process]:
    """Return the processes behind a reference; raises PluginNotLoaded."""
    if ref.kind == "pygeoapi":
        from graticule.compat.pygeoapi import wrap_processor

        return [wrap_processor(ref.id, ref.target, json.loads(ref.options or "{}"))]
    from graticule.processes.decorator import discover, find_named

    place, _, name = ref.target.partition(":")
    loaded = plugins.load(place)
    found = find_named(loaded, name) if name else discover(loaded)
    if not found:
        what = f"process {name!r}" if name else "process"
        raise PluginNotLoaded(ref.target, f"it has no {what}; decorate a function with @process")
    return found


def describe(ref: ProcessRef, pid: int = 0) -> Described:
    """Return what the processes behind a reference are, or why they cannot be loaded.

    Parameters
    ----------
    ref : ProcessRef
        Where they are.
    pid : int
        The job process that asks; a fork that their import makes of it ends. 0: there is none.
    """
    try:
        processes = load_processes(ref)
    except PluginNotLoaded as error:
        _end_if_forked(pid, error)
        print_traceback(error)
        return Described(ref=ref, error=error.reason)
    except BaseException as error:  # noqa: BLE001 - edge: foreign code may raise anything on import
        _end_if_forked(pid, error)
        print_traceback(error)
        return Described(ref=ref, error=f"{type(error).__name__}: {error}")
    documents, fresh, limits, requires, reasons = [], [], [], [], []
    for process in processes:
        try:
            documents.append(msgspec.json.encode(process.description))
            fresh.append(bool(getattr(process, "fresh", False)))
            stated = getattr(process, "limits", None)
            limits.append(stated if isinstance(stated, Limits) else NO_LIMITS)
            requires.append(str(getattr(process, "requires", "")))
        except PluginNotLoaded as error:
            reasons.append(error.reason)
        except BaseException as error:  # noqa: BLE001 - edge: a description may be computed by foreign code
            _end_if_forked(pid, error)
            print_traceback(error)
            reasons.append(f"{getattr(process, 'id', type(process).__name__)}: {type(error).__name__}: {error}")
    return Described(
        ref=ref, documents=documents, fresh=fresh, limits=limits, requires=requires, error="; ".join(reasons)
    )


def _resolved(process: Process, execute: Execute, policy: bytes, folder: Path) -> Any:
    from graticule.processes.resolve import resolve_inputs

    return resolve_inputs(process.description, execute.inputs, policy=_rules(policy), folder=folder)


@functools.lru_cache(maxsize=4)  # nearly always the same
def _rules(policy: bytes) -> ReferencePolicy:
    from graticule.processes.inputs import ReferencePolicy

    return msgspec.json.decode(policy, type=ReferencePolicy) if policy else ReferencePolicy()


def failure_of(error: BaseException, step: Step = "run") -> Failure:
    """Say in one sentence why a job failed; the whole story goes to its log, which is standard error."""
    kind, text = type(error).__name__, _text_of(error)
    if isinstance(error, InvalidInputs):
        faults = [Fault(shortened(fault.pointer), shortened(fault.message)) for fault in error.faults]
        transient = bool(faults) and all(fault.transient for fault in error.faults)
        return Failure(
            cause="stage-in" if transient else "bad input", detail=text, faults=faults, kind=kind,
            step="stage-in", transient=transient,
        )  # fmt: skip
    if isinstance(error, Dismissed):
        return Failure(cause="cancelled", detail="the job was dismissed while it ran", kind=kind, step=step)
    if isinstance(error, ProcessFault):
        return Failure(cause="process error", detail=text, kind=kind, step=step)
    if isinstance(error, PluginNotLoaded):
        return Failure(cause="plug-in", detail=text, kind=kind, step=step)
    with contextlib.suppress(OSError):  # the disk may be full
        print_traceback(error)
    if isinstance(error, MemoryError):
        return Failure(cause="out of memory", detail="the process ran out of memory", kind=kind, step=step)
    if isinstance(error, SystemExit):
        detail = f"the process ended itself with exit({error.code!r}) instead of returning its outputs"
        return Failure(cause="process error", detail=shortened(detail), kind=kind, step=step)
    if isinstance(error, OSError) and error.errno in _FULL:
        detail = f"no space was left on the disk for the job's files ({error.strerror})"
        remedy = (
            "have the job write and print less, or try again later; whoever runs this service must free space, "
            "where this job's log may be what takes it: remove the job (graticule dismiss JOB)"
        )
        return Failure(cause="disk limit", detail=detail, kind=kind, step=step, remedy=remedy)
    said = text if isinstance(error, GraticuleError) else f"{kind}: {text}".rstrip(": ")
    return Failure(cause="process error", detail=f"the process failed with {said}", kind=kind, step=step)


def _text_of(error: BaseException) -> str:
    """Return what an exception says; nothing if that cannot be had, for its ``__str__`` may be foreign code too."""
    try:
        return shortened(str(error))
    except BaseException:  # noqa: BLE001 - edge: foreign code may raise anything
        return ""


def _end_if_forked(pid: int, error: BaseException | None = None) -> None:
    """End a process that a job has forked and that comes back from its code: the job is its parent's.

    It ends as it would by itself, but flushes nothing, for what it holds is a copy of what its parent will write.

    Parameters
    ----------
    pid : int
        The job process's own.
    error : BaseException, optional
        What it came back with.
    """
    if os.getpid() != (pid or os.getpid()):
        code = error.code if isinstance(error, SystemExit) else error and 1
        os._exit(code & 0xFF if isinstance(code, int) else int(code is not None))


def _has_children() -> bool:
    """Return whether anything that a job has started still runs; what has ended is cleared away."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
    return False


def _resident_mib() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - half the cost of Path, on every job
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20


class Teller(Protocol):
    """Whom a running process tells how far it is: a job process, or whoever runs one without a server."""

    @property
    def stopping(self) -> bool:
        """Whether the process must stop."""

    def send(self, progress: Progress, /) -> None:
        """Tell; the progress thread calls it too."""


class Context:
    """What a running process may ask for (``processes.process.RunContext``).

    The job's folder is made when it is first asked for: most small jobs need none, and making and removing one waits
    for the file system's journal, which the ledger keeps busy.
    """

    def __init__(self, folder: Path, execute: Execute, process: Process, job: Teller, job_id: str = "") -> None:
        self._folder = folder
        self._made = False
        asked = execute.outputs
        every = asked is None or (not asked and execute.response is not None)
        self.wanted = frozenset(process.description.outputs if every else asked or ())
        self._asked = asked or {}
        self._job = job
        self._job_id = job_id
        self._told = 0.0
        self._percent = 0
        self._closed = False
        self._pending: Progress | None = None
        self._teller: threading.Timer | None = None
        self._logs: dict[str, TextIO] = {}

    @property
    def folder(self) -> Path:
        if not self._made:
            self._made = True
            self._folder.mkdir(parents=True, exist_ok=True)
            os.chdir(self._folder)
        return self._folder

    @property
    def stopping(self) -> bool:
        return self._job.stopping

    def wanted_media_type(self, output_id: str) -> str | None:
        wanted = self._asked.get(output_id)
        return wanted.format.media_type if wanted is not None and wanted.format is not None else None

    def report(self, progress: int, message: str = "") -> None:
        """Tell the agent, at most twenty times a second; the latest of a burst is told when the time is up."""
        if self._closed:
            return  # a thread that outlived its job: what it says would be told of the next one
        if self._job.stopping:
            raise Dismissed
        if progress == progress:  # not NaN, which says nothing: 0 of 0 is no reason to fail  # noqa: PLR0124
            self._percent = int(max(0, min(100, progress)))
        self._pending = Progress(job=self._job_id, percent=self._percent, message=encodable(str(message)[:1000]))
        wait = self._told + _PROGRESS_INTERVAL - time.monotonic()
        if wait <= 0:
            self._tell()
        elif self._teller is None:
            self._teller = threading.Timer(wait, self._tell)
            self._teller.daemon = True
            self._teller.start()

    def log(self, step: str) -> TextIO:
        name = "".join(character if character.isalnum() or character in "-_." else "_" for character in step)
        if name not in self._logs:
            logs = self.folder / "logs"
            logs.mkdir(exist_ok=True)
            self._logs[name] = (logs / f"{name}.log").open("a", encoding="utf-8", buffering=1)
        return self._logs[name]

    def close(self) -> None:
        """Tell what is still untold: the end of the job comes after it."""
        teller = self._teller
        if teller is not None:
            teller.cancel()
            teller.join()
        self._closed = True
        self._tell()
        for file in self._logs.values():
            with contextlib.suppress(OSError):
                file.close()

    def _tell(self) -> None:
        pending, self._pending, self._teller = self._pending, None, None
        if pending is not None:
            self._told = time.monotonic()
            self._job.send(pending)
