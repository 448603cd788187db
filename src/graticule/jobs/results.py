"""Where the files of a job lie in storage: ``{workspace}/jobs/{id}/{token}/``, one place for each time it was begun.

The token grows with each claim, so an agent that comes late, whose job another one has begun anew, writes beside the
results of that one and never over them. A job that ended before there were such places has no token, and its files
lie at ``{workspace}/jobs/{id}/`` itself.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graticule.data.storage import Kept, Storage
from graticule.jobs.job import Job, JobKey, Manifest, Source, StoredValue

_LOG_TYPE = "text/plain; charset=utf-8"
_REMEMBERED = 4096
"""Ended jobs whose logs are known without asking the storage; they do not change any more."""


@dataclass(frozen=True, slots=True)
class Log:
    """The log of one step."""

    file: Kept
    size: int


class ResultStore:
    """The files of jobs: outputs, their pictures and logs.

    Parameters
    ----------
    storage : Storage
        Where they are kept.
    signed_s : int
        Seconds for which the storage itself offers outputs to whoever has their address; 0: it does not.
    """

    def __init__(self, storage: Storage, *, signed_s: int = 0) -> None:
        self._storage = storage
        self._signed_s = signed_s
        self._logs: OrderedDict[str, Mapping[str, Log]] = OrderedDict()

    async def commit(self, job: Job, folder: Path, manifest: Manifest | None) -> None:
        """Store what a job left in its scratch folder, and remove the folder.

        Parameters
        ----------
        job : Job
            Whose files they are, with the token under which it ran.
        folder : Path
            The scratch folder: ``outputs/``, ``logs/`` and ``process.log`` in it are kept, all else goes.
        manifest : Manifest, optional
            The outputs; None: only logs are kept, since the job was not successful.

        Raises
        ------
        StorageUnavailable
            If they cannot be stored; it may be tried again.
        """
        names = ("logs", "process.log") if manifest is None else ("outputs", "logs", "process.log")
        if await asyncio.to_thread(_gather, folder, names):
            types = {f"outputs/{value.file}": value.media_type for value in _files(manifest)}
            await self._storage.store_folder(
                _kept(folder), _place(job.key, job.token), media_types={**types, "process.log": _LOG_TYPE}
            )
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def give_up(self, folder: Path) -> None:
        """Remove what a job left in its scratch folder and cannot be stored."""
        for place in (folder, _kept(folder)):
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    def value(self, job: Job, value: StoredValue) -> Kept:
        """Return the file that holds a value."""
        return self._file(job, f"outputs/{value.file}")

    def place_of(self, workspace: str, source: Source) -> Path | str | None:
        """Return where a job process reads the result of another job: its path, or a signed address."""
        place = _place(JobKey(workspace, source.job), source.token)
        return Kept(storage=self._storage, key=f"{place}/outputs/{source.value.file}").place

    @property
    def signs(self) -> bool:
        """Whether outputs are offered at addresses of the storage."""
        return self._signed_s > 0

    def signed_url(self, job: Job, value: StoredValue) -> str | None:
        """Return the address at which the storage offers a value now; None: it does not."""
        if not self._signed_s or value.file is None:
            return None
        return self.value(job, value).signed_url(seconds=self._signed_s)

    def picture(self, job: Job, value: StoredValue) -> Kept:
        """Return the file in which a picture of a value is kept, once it was made."""
        return self._file(job, f"previews/{value.file}.png")

    async def keep_picture(self, job: Job, value: StoredValue, picture: Path) -> None:
        """Keep a picture of a value beside it."""
        await self._storage.store_file(picture, self.picture(job, value).key, media_type="image/png")

    async def logs_of(self, job: Job, token: int | None = None) -> Mapping[str, Log]:
        """Return the logs that a job left, by step; ``process`` is what it printed.

        Parameters
        ----------
        job : Job
            The job.
        token : int, optional
            Those of an earlier time it was begun; default: of the last one.
        """
        place = _place(job.key, job.token if token is None else token)
        known = self._logs.get(place)
        if known is not None:
            return known
        found = {}
        async for file in self._storage.files(place):
            step = _step(file.key.removeprefix(f"{place}/"))
            if step:
                found[step] = Log(Kept(storage=self._storage, key=file.key), file.size)
        logs = dict(sorted(found.items(), key=lambda pair: (pair[0] != "process", pair[0])))
        if job.status in ("successful", "failed"):  # those of a dismissed one may come after its end
            self._logs[place] = logs
            if len(self._logs) > _REMEMBERED:
                self._logs.popitem(last=False)
        return logs

    async def remove_outputs(self, job: Job) -> None:
        """Remove the outputs of a job that this token has, but not its logs."""
        await self._storage.remove(f"{_place(job.key, job.token)}/outputs")

    async def remove(self, key: JobKey) -> None:
        """Remove all files of a job."""
        await self._storage.remove(_root(key))

    def _file(self, job: Job, name: str) -> Kept:
        return Kept(storage=self._storage, key=f"{_place(job.key, job.token)}/{name}")


def _gather(folder: Path, names: tuple[str, ...]) -> bool:
    """Bring what is kept into a folder of its own, unless that was done before; return whether there is any."""
    kept = _kept(folder)
    found = [name for name in names if (folder / name).exists()]
    if found:
        kept.mkdir(exist_ok=True)
    for name in found:
        (folder / name).rename(kept / name)
    return kept.is_dir()


def _kept(folder: Path) -> Path:
    """Return where those files of a scratch folder gather that are stored."""
    return folder.with_name(f"{folder.name}.kept")


def _files(manifest: Manifest | None) -> list[StoredValue]:
    return [value for output in (manifest or {}).values() for value in output.values if value.file is not None]


def _step(name: str) -> str:
    """Return which step's log a file of a job is; empty: it is none."""
    if name == "process.log":
        return "process"
    folder, _, last = name.partition("/")
    return last.removesuffix(".log") if folder == "logs" and last.endswith(".log") and "/" not in last else ""


def _root(key: JobKey) -> str:
    return f"{key.workspace}/jobs/{key.id}"


def _place(key: JobKey, token: int) -> str:
    return f"{_root(key)}/{token}" if token else _root(key)
