"""The fork server: one small single-threaded process that forks job processes in a few milliseconds.

It is started by exec before anything else, so it has no threads and none of the server's open files. It imports what
job processes need (once they are asked for), so that a forked one is warm and shares its memory. It does nothing else.

Over its control socket (SOCK_SEQPACKET, one JSON document a packet) it takes ``{"fork": number, "log": path, "python":
path, "group": path}`` with what the job process is given open attached, ``{"preload": [module, …]}`` and ``{"watch":
seconds}``, after which all job processes end if it is not said again; it tells ``{"forked": number, "pid": pid}``, or
``{"unforked": number, "errno": number}`` if the system let it have no process, and ``{"ended": pid, "status": wait
status}``. A Python that is named is started in the forked process, a control group that is named is entered.

When the socket closes, the server has ended, perhaps killed. Nothing of its jobs may go on then: everything below this
process is killed, detached grandchildren too, since it adopts orphans; then it ends.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import math
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from graticule.jobs import trees
from graticule.runtime import child, prctl

_ROUNDS, _ROUND_S = 50, 0.002
"""How often, and after how many seconds, it is looked again for what an ended job process left behind."""


def main(descriptor: int, modules: Sequence[str] = ()) -> None:
    """Serve until the control socket, an inherited file descriptor, closes.

    Parameters
    ----------
    descriptor : int
        The control socket.
    modules : sequence of str
        What every job process needs; it is imported once, before the first one is forked.
    """
    prctl.become_subreaper()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the agent decides what it means
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # so does Ctrl-Z, which would leave jobs that nobody looks after
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    control = socket.socket(fileno=descriptor)
    for module in modules:
        importlib.import_module(module)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        pids: set[int] = set()
        later: list[str] = []
        watch = _Watch()
        while True:
            ready = selector.select(0 if later else watch.left)
            watch.look()
            for key, _ in ready:
                if key.fd == wake_read:
                    os.read(wake_read, 4096)
                    _reap(control, pids)
                elif not _serve(control, pids, later, watch, (wake_read, wake_write)):
                    trees.kill_below(os.getpid())
                    return
            if later and not ready:
                # One at a time: a job process that is wanted meanwhile does not wait for all of them.
                _preload(later.pop(0), last=not later)


class _Watch:
    """Ends all job processes when the agent has not said for too long that it lives: it may be frozen."""

    def __init__(self) -> None:
        self._until = math.inf

    @property
    def left(self) -> float | None:
        """Seconds until then; None: the agent has not asked for it."""
        return None if self._until == math.inf else max(0.0, self._until - time.monotonic())

    def put_off(self, seconds: float) -> None:
        """Let it be so many seconds from now."""
        self._until = time.monotonic() + seconds

    def look(self) -> None:
        """End them if it is time; then it is quiet until the agent speaks again."""
        if time.monotonic() > self._until:
            self._until = math.inf
            trees.kill_below(os.getpid())


def _serve(
    control: socket.socket, pids: set[int], later: list[str], watch: _Watch, wake: tuple[int, int]
) -> bool:  # fmt: skip
    """Answer one packet; False when the agent is gone."""
    try:
        data, ancillary, *_ = control.recvmsg(1 << 16, socket.CMSG_SPACE(child.GIVEN * array.array("i").itemsize))
    except ConnectionResetError:
        return False
    if not data:
        return False
    request = json.loads(data)
    if "watch" in request:
        watch.put_off(request["watch"])
        return True
    if "preload" in request:
        later += request["preload"]
        return True
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: child.GIVEN * fds.itemsize])
    _fork(control, fds, request, pids, wake)
    for fd in fds:
        os.close(fd)
    return True


def _fork(
    control: socket.socket, fds: Iterable[int], request: dict[str, Any], pids: set[int], wake: tuple[int, int]
) -> None:  # fmt: skip
    """Have a job process, and tell its number."""
    try:
        pid = os.fork()
    except OSError as error:  # no process, or no memory, is left
        _tell(control, {"unforked": request["fork"], "errno": error.errno})
        return
    if pid == 0:
        _become_child(control, fds, request, wake)
    pids.add(pid)
    _tell(control, {"forked": request["fork"], "pid": pid})


def _become_child(
    control: socket.socket, fds: Iterable[int], request: dict[str, str], wake: tuple[int, int]
) -> None:  # fmt: skip
    """In the forked process: let go of everything of the fork server's, then be a job process. Does not return."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTSTP):
            signal.signal(number, signal.SIG_DFL)
        control.close()
        for wake_fd in wake:
            os.close(wake_fd)
        if request["group"]:
            with contextlib.suppress(OSError):  # its agent measures it all the same
                Path(request["group"]).write_text("0")
        if request["python"]:
            _start_foreign(request["python"], fds, request["log"])
        child.main(fds, request["log"])
        status = 0
    finally:
        os._exit(status)


def _start_foreign(python: str, fds: Iterable[int], log: str) -> None:
    """Be a job process with the Python that its process names. Does not return."""
    for fd in fds:
        os.set_inheritable(fd, True)  # noqa: FBT003 - the standard library's signature
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    code = "from graticule.runtime.child import start_alone; start_alone()"
    try:
        os.execve(python, [python, "-c", code, *map(str, fds), log], environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        Path(log).write_text(f"{python} cannot be run: {error.strerror}\n")
        raise


def _preload(name: str, *, last: bool) -> None:
    """Import a module that most job processes want; one that starts a thread would make forking unsafe."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        sys.stderr.write(f"graticule: cannot preload {name}: {error}\n")
    if not last:
        return
    gc.collect()
    gc.freeze()  # the collector then leaves the shared pages of all children alone
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        sys.stderr.write(f"graticule: {threads} threads run in the fork server after loading what job processes want\n")


def _reap(control: socket.socket, pids: set[int]) -> None:
    """Take note of ended processes; of a job process it is told when nothing of what it left goes on."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = found[1]
    job_processes = pids.intersection(ended)
    pids -= job_processes
    _kill_strays(pids)
    for pid in job_processes:
        _tell(control, {"ended": pid, "status": ended[pid]})


def _kill_strays(pids: set[int]) -> None:
    """Kill what ended job processes left behind: as subreapers, their orphans are children of this process now."""
    me = os.getpid()
    for _ in range(_ROUNDS):
        try:
            children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
        except OSError:  # a kernel without this list
            return
        strays = set(map(int, children)) - pids
        if not strays:
            return
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        time.sleep(_ROUND_S)


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    try:
        control.send(json.dumps(message).encode())
    except OSError:
        return  # the agent is gone; the next read says so
