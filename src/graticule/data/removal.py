"""Remove folders whatever a job has done to them: rights taken away, thousands of folders in each other."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import uuid
from pathlib import Path

log = logging.getLogger("graticule.storage")


def remove_tree(place: Path) -> None:
    """Remove a folder and all in it, a file, or a link but not what it leads to; what stays is told in the log."""
    with contextlib.suppress(OSError):
        place.unlink()
        return
    with contextlib.suppress(RecursionError):
        shutil.rmtree(place, ignore_errors=True)
    if not os.path.lexists(place):
        return
    with contextlib.suppress(OSError):
        _level(place)
    try:
        shutil.rmtree(place)
    except FileNotFoundError:
        return
    except (OSError, RecursionError) as error:
        log.warning("%s cannot be removed; remove it by hand: %s", place, error)


def _level(folder: Path) -> None:
    """Remove what is in a folder; folders in it are first brought to the top, so that depth costs nothing."""
    top = _open(folder)
    try:
        waiting = _emptied(top, top)
        while waiting:
            name = waiting.pop()
            with contextlib.suppress(OSError):
                inner = _open(name, top)
                try:
                    waiting += _emptied(inner, top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _emptied(folder: int, top: int) -> list[str]:
    """Remove the files of a folder and bring its folders to the top; return the names that they have there."""
    brought: list[str] = []
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        with contextlib.suppress(OSError):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
                continue
            os.close(_open(entry.name, folder))  # only a folder that may be written to can be moved
            name = uuid.uuid4().hex
            os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=top)
            brought.append(name)
    return brought


def _open(folder: Path | str, above: int | None = None) -> int:
    """Open a folder, no link, and have its owner do everything with it; raises OSError."""
    # To name it needs no right to it, and its name may lead elsewhere a moment later.
    named = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        if os.fstat(named).st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{named}", 0o700)  # noqa: PTH101 - what is open, which has no other name
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=named)
    finally:
        os.close(named)
