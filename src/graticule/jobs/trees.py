"""Process trees of this machine, as ``/proc`` shows them: who is below whom, what they hold, how they are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

MARK = "JOB_PROCESS_OF"
"""Variable in the environment of all job processes: the scratch folder that they belong to. It is inherited, so what a
job leaves behind is recognised even when nobody is left who knows of it."""

_PAGE_KIB = os.sysconf("SC_PAGESIZE") >> 10
_ROUND = 0.002
"""Seconds until killed processes are looked for again."""
_ADOPTING = 0.1
"""Seconds until it is looked again for what was adopted."""


class Entry(NamedTuple):
    """One process; its number alone may belong to somebody else later."""

    pid: int
    parent: int
    started: int
    """Clock ticks after the machine's start."""


Table = Mapping[int, Entry]
"""The living processes by number; those that have ended and only wait to be noticed are not in it."""


def read_table() -> Table:
    """Return all living processes."""
    entries = (_entry(int(name)) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - a tenth of the cost
    return {entry.pid: entry for entry in entries if entry is not None}


def started(pid: int) -> int:
    """Return when a living process began, as `Entry` has it; 0 if there is none."""
    entry = _entry(pid)
    return 0 if entry is None else entry.started


def _entry(pid: int) -> Entry | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - hundreds at a time
            # The name, in parentheses, may hold anything; after it come state, parent and, as 22nd, the start.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    ended = fields[0] in (b"Z", b"X") and int(fields[17]) < 2  # else only its first thread has
    return None if ended else Entry(pid, int(fields[1]), int(fields[19]))


def below(root: int, table: Table | None = None) -> list[Entry]:
    """Return the living processes below one, whether that lives or not."""
    children: dict[int, list[Entry]] = {}
    for entry in (read_table() if table is None else table).values():
        children.setdefault(entry.parent, []).append(entry)
    found: list[Entry] = []
    parents = [root]
    while parents:
        following = children.pop(parents.pop(), [])
        found += following
        parents += [entry.pid for entry in following]
    return found


# --- killing ------------------------------------------------------------------------------------------------------


def kill_tree(pid: int, began: int, *, seconds: float = 1.0) -> None:
    """Kill a process and everything below it.

    Parameters
    ----------
    pid : int
        The process. If it adopts orphans (a subreaper), nothing that detached itself is missed.
    began : int
        When it began (`started`): another process that has got its number is left alone.
    seconds : float
        How long to look for more below it, at most.
    """
    root = _entry(pid)
    if root is None or root.started != began:
        return
    _signal([root], signal.SIGSTOP)  # it cannot start anything meanwhile, and goes on adopting
    kill_below(pid, seconds=seconds)
    _signal([root], signal.SIGKILL)


def kill_below(root: int, *, seconds: float = 1.0) -> None:
    """Kill everything below a process until nothing is left; see `kill_tree`."""
    deadline = time.monotonic() + seconds
    while _kill_all(partial(below, root)) and time.monotonic() < deadline:
        time.sleep(_ROUND)


def kill_strays(scratch: Path, *, patience: float = 0.0, seconds: float = 2.0) -> int:
    """Kill job processes, and what they started, that no living server looks after.

    Parameters
    ----------
    scratch : Path
        The scratch folder that they belong to. Whoever calls owns it and has no job process yet.
    patience : float
        Seconds that they have to end by themselves: a fork server that lost its server is just killing them.
    seconds : float
        How long to look for more, at most.

    Returns
    -------
    int
        How many were killed.
    """
    began = time.monotonic()
    killed: set[Entry] = set()
    while _strays(scratch):
        if time.monotonic() >= began + patience:
            break
        time.sleep(_ROUND)
    else:
        return 0
    while (found := _kill_all(partial(_strays, scratch))) and time.monotonic() < began + patience + seconds:
        killed |= found
        time.sleep(_ROUND)
    return len(killed)


def end_adopted(seconds: float = 3.0) -> None:
    """Kill what this process has adopted, and all below it, and bury it: its children in other sessions than its own.

    That holds for whatever a job has started, even without a variable of its environment: each job process begins a
    session. It takes a while until all of them are here, for each of its ancestors must have ended.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        table = read_table()
        adopted = [
            entry for entry in below(os.getpid(), table) if entry.parent == os.getpid() and _is_foreign(entry.pid)
        ]
        _kill_all(lambda: [*adopted, *(one for entry in adopted for one in below(entry.pid))])  # noqa: B023 - called now
        for pid in _children():
            if _is_foreign(pid):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        time.sleep(_ADOPTING)


def _children() -> list[int]:
    """Return the children of this process, ended ones that nobody has buried among them."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a kernel without this list, or a thread that has ended
            found += map(int, (task / "children").read_text().split())
    return found


def _is_foreign(pid: int) -> bool:
    """Whether a process is in another session than this one."""
    try:
        return os.getsid(pid) != os.getsid(0)
    except ProcessLookupError:
        return False


def _kill_all(find: Callable[[], Collection[Entry]]) -> set[Entry]:
    """Stop all that are found until there are no more, so that none starts another one, then kill them."""
    stopped: set[Entry] = set()
    while new := [entry for entry in find() if entry not in stopped]:
        _signal(new, signal.SIGSTOP)
        stopped.update(new)
    _signal(stopped, signal.SIGKILL)
    return stopped


def _signal(entries: Iterable[Entry], number: signal.Signals) -> None:
    for entry in entries:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(entry.pid, number)


def _strays(scratch: Path) -> list[Entry]:
    """Return processes that carry the mark of a scratch folder, or print into it, and all below them."""
    table = read_table()
    place = os.fsencode(scratch.resolve())
    found = [entry for pid, entry in table.items() if pid != os.getpid() and _belongs(pid, place)]
    return list({one.pid: one for entry in found for one in (entry, *below(entry.pid, table))}.values())


def _belongs(pid: int, place: bytes) -> bool:
    mark = b"%s=%s" % (MARK.encode(), place)
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - hundreds at a time
            if mark in file.read().split(b"\0"):
                return True
    except OSError:  # somebody else's, or gone
        return False
    return any(_leads_below(place, f"/proc/{pid}/fd/{number}") for number in (1, 2))


def _leads_below(place: bytes, path: str) -> bool:
    try:
        return bytes(Path(path).readlink()).startswith(place + b"/")
    except OSError:
        return False


# --- measuring ----------------------------------------------------------------------------------------------------


def memory_mib(pids: Collection[int], *, enough: int) -> int:
    """Return the memory of some processes, what they share counted once.

    Parameters
    ----------
    pids : collection of int
        The processes.
    enough : int
        If they cannot hold more than this, all that is shared may be counted several times: that is much cheaper.
    """
    resident = sum(_resident_kib(pid) for pid in pids) >> 10
    return resident if resident <= enough else sum(map(_proportional_kib, pids)) >> 10


def _resident_kib(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_KIB
    except (OSError, IndexError):
        return 0


def _proportional_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(b"Pss:")), 0)


def out_of_memory_kills() -> int:
    """Return how often the kernel has killed a process of this machine since memory was short."""
    try:
        lines = Path("/proc/vmstat").read_bytes().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(b"oom_kill ")), 0)
