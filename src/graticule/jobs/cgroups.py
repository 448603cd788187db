"""Control groups: where the system has given us some, the kernel itself keeps jobs below their memory limit.

Only a group that was handed over (delegated) is used: one whose files an ordinary user may write, one that systemd
marks so (``Delegate=yes``), or the root of a container's own hierarchy. A superuser may write all of them, but they are
somebody else's.

References: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; systemd, CGROUP_DELEGATION.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from graticule.jobs import trees

_SERVER = "graticule-server"
_JOBS = "graticule-jobs-"


class _Files(NamedTuple):
    """How the files of a group are named."""

    limit: str
    unlimited: str
    swap: str
    """What bounds memory and swap together (v1), or swap alone (v2)."""
    kills: str
    """Has a line ``oom_kill N``."""


_V2 = _Files("memory.max", "max", "memory.swap.max", "memory.events")
_V1 = _Files("memory.limit_in_bytes", "-1", "memory.memsw.limit_in_bytes", "memory.oom_control")


@dataclass(frozen=True, slots=True)
class Group:
    """The group of one job process and all that it starts."""

    path: Path
    _files: _Files

    @property
    def door(self) -> Path:
        """The file that a process writes ``0`` to in order to enter."""
        return self.path / "cgroup.procs"

    def limit(self, mebibytes: int) -> None:
        """Set how much memory it may hold; 0: no limit. What cannot be set is measured all the same."""
        number = str(mebibytes << 20) if mebibytes else self._files.unlimited
        swap = "0" if mebibytes and self._files is _V2 else number
        # In v1 memory and swap together are never less than memory alone: that decides which goes first.
        for name, value in ((self._files.limit, number), (self._files.swap, swap), (self._files.limit, number)):
            if (self.path / name).exists():
                _write(self.path / name, value)

    def was_exceeded(self) -> bool:
        """Whether the kernel has killed something in it since memory was short there."""
        try:
            lines = (self.path / self._files.kills).read_text().splitlines()
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)

    def kill(self) -> None:
        """Kill all that is in it, where the kernel knows how to."""
        if (self.path / "cgroup.kill").exists():
            _write(self.path / "cgroup.kill", "1")

    def remove(self) -> None:
        """Remove it, once nothing is in it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


@dataclass(frozen=True, slots=True)
class Groups:
    """A place where groups can be made."""

    place: Path
    _files: _Files

    def make(self, number: int, memory_mib: int) -> Group | None:
        """Make the group of a job process; None if the system does not let us."""
        group = Group(self.place / f"{_JOBS}{os.getpid()}-{number}", self._files)
        try:
            group.path.mkdir()
        except OSError:
            return None
        _write(group.path / "memory.oom.group", "1")  # v2: a job whose helper is gone is of no use
        group.limit(memory_mib)
        return group


def find_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Groups | None:
    """Return where groups with a memory limit can be made, found by trying; None if that is nowhere.

    Parameters
    ----------
    root : Path
        Where the hierarchies of groups are mounted.
    own : Path
        Says in which groups this process is.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    for number, controllers, path in lines:
        inside = path.lstrip("/")
        if number == "0" and not controllers and _prepare(root / inside):
            return _cleaned(Groups(root / inside, _V2))
        if "memory" in controllers.split(",") and _is_ours(root / "memory" / inside):
            return _cleaned(Groups(root / "memory" / inside, _V1))
    return None


def _is_ours(place: Path) -> bool:
    """Return whether a group was handed over to us."""
    if not os.access(place, os.W_OK) or not os.access(place / "cgroup.procs", os.W_OK):
        return False
    if os.geteuid() != 0:
        return True
    for name in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(place, name) == b"1":
                return True
    # The root of a hierarchy has no type, that of a container's own one has.
    return (place / "cgroup.type").exists() and place.samefile("/sys/fs/cgroup")


def _prepare(place: Path) -> bool:
    """Have a group of v2 share out memory: it may then hold no process itself, so this one goes to a group below."""
    try:
        if not _is_ours(place) or "memory" not in (place / "cgroup.controllers").read_text().split():
            return False
        if "memory" in (place / "cgroup.subtree_control").read_text().split():
            return True
        here = [int(pid) for pid in (place / "cgroup.procs").read_text().split()]
        known = {os.getpid(), *(entry.pid for entry in trees.below(os.getpid()))}
        if not known.issuperset(here):
            return False  # others live here, and are not ours to move
        (place / _SERVER).mkdir(exist_ok=True)
        for pid in here:
            (place / _SERVER / "cgroup.procs").write_text(str(pid))
        (place / "cgroup.subtree_control").write_text("+memory")
    except OSError:
        return False
    return True


def _cleaned(groups: Groups) -> Groups:
    """Remove the groups of earlier servers, which are empty."""
    for left in groups.place.glob(f"{_JOBS}*"):
        with contextlib.suppress(OSError):
            left.rmdir()
    return groups


def _write(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        path.write_text(text)
