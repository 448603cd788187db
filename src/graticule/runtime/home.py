"""The home folder of a service: who owns it, and what lies where."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sys
from pathlib import Path

from graticule.data.removal import remove_tree
from graticule.errors import HomeInUse, InvalidSetting
from graticule.jobs.executor import Executor
from graticule.jobs.leftovers import gather_logs
from graticule.jobs.trees import kill_strays
from graticule.settings import Settings

log = logging.getLogger("graticule")

_STRAYS_S = 2.0
"""Seconds that the fork server of an earlier server has to end what runs below it."""
_SAMPLES_WAIT_S = 10
"""Seconds that the samples of a new home wait at most for jobs to end."""


def make_home(home: Path) -> None:
    """Make the folder, if there is none; raises InvalidSetting."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting("storage.home", f"{home} cannot be made: {error.strerror}") from error


class HomeLock:
    """Says that a running server owns a home folder, and which."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, home: Path) -> HomeLock:
        path = home / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = path.read_text().strip()
            os.close(descriptor)
            raise HomeInUse(str(home), int(owner) if owner.isdigit() else 0) from None
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, and says not whose it is
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        return cls(descriptor)

    def release(self) -> None:
        """Let the home go; a killed server's is let go by the system."""
        os.close(self._descriptor)


def database_path(settings: Settings) -> Path:
    """Return where the SQLite database lies."""
    url = settings.database.url
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else settings.home / "graticule.db"


def storage_folder(settings: Settings) -> Path:
    """Return where results and uploads lie."""
    return Path(settings.storage.folder).expanduser() if settings.storage.folder else settings.home / "storage"


def clear_scratch(scratch: Path) -> Path:
    """End job processes of an earlier server that outlived it; return where the logs lie, which are all that stays."""
    if scratch.exists() and (killed := kill_strays(scratch, patience=_STRAYS_S)):
        log.warning("%d processes of jobs of an earlier server still ran; they were ended", killed)
    return gather_logs(scratch)


async def make_samples(folder: Path, executor: Executor) -> None:
    """Generate the sample data in a process of its own: the server itself never loads raster libraries.

    It takes a second of a processor, so it lets jobs go before, if they come at once and do not go on for long.
    """
    for _ in range(_SAMPLES_WAIT_S):
        await asyncio.sleep(1)
        if executor.free == executor.places:
            break
    unfinished = folder.with_name("samples.unfinished")
    await asyncio.to_thread(remove_tree, unfinished)
    call = "from graticule.processes.samples import generate_samples; generate_samples(Path(sys.argv[1]))"
    code = f"import sys; from pathlib import Path; sys.path[:] = {sys.path!r}; {call}"
    # In a session of its own, so that Ctrl-C does not reach it, and giving way to whoever asks for something meanwhile.
    nice = f"import os; os.nice(15); {code}"
    while True:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", nice, str(unfinished), start_new_session=True
            )
        except OSError as error:  # the system has nothing left for a process now
            log.warning("the sample data cannot be generated yet: %s", error.strerror)
            await asyncio.sleep(_SAMPLES_WAIT_S)
        else:
            break
    try:
        if await process.wait() == 0:
            unfinished.rename(folder)
        else:
            log.error("the sample data could not be generated in %s", folder)
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
