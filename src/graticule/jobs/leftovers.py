"""What jobs had printed on this machine when their server was killed: found in the scratch folder by the next one."""

from __future__ import annotations

import contextlib
from pathlib import Path

from graticule.data.removal import remove_tree
from graticule.jobs.results import LOGS, kept_of

LINKS = "running"
"""Folder in the scratch folder with a second name for the log of each running job that is not short."""
_JOBS = "jobs"
_LEFT = "left"


def gather_logs(scratch: Path) -> Path:
    """Remove all but the logs of jobs from a scratch folder that nobody uses any more; return where they lie then.

    They lie there as jobs leave them: in a folder by the job's identifier. One that cannot be had is lost.
    """
    left = scratch / _LEFT
    # First what makes room: the disk may be full.
    for place in (*scratch.glob("*"), *scratch.glob(f"{_JOBS}/*/*")):
        if place.name not in (_LEFT, LINKS, _JOBS) and (place.parent == scratch or place.name not in LOGS):
            remove_tree(place)
    left.mkdir(parents=True, exist_ok=True)  # the scratch folder may be a disk of its own, which stays
    for folder in (scratch / _JOBS).glob("*"):
        with contextlib.suppress(OSError):  # what a job has done to its folder must not keep the server from starting
            folder.rename(left / folder.name)
    for link in (scratch / LINKS).glob("*.log"):
        folder = left / link.stem
        if not any((place / "process.log").exists() for place in (folder, kept_of(folder))):
            with contextlib.suppress(OSError):
                folder.mkdir(exist_ok=True)
                link.rename(folder / "process.log")
    for place in (*scratch.iterdir(), *left.glob("*/*")):
        if place != left and (place.parent == scratch or place.name not in LOGS):
            remove_tree(place)
    return left
