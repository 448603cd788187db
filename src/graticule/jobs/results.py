"""Where the files of a job lie in storage: ``{workspace}/jobs/{id}/{token}/``, one place for each time it was begun.

They come there when it ends. Where several machines share the storage, the logs of a running job come piece by piece
before, to ``{workspace}/jobs/{id}/segments/{token}/{step}.log/{offset}``, for those who read them elsewhere.

The token grows with each claim, so an agent that comes late, whose job another one has begun anew, writes beside the
results of that one and never over them. A job that ended before there were such places has no token, and its files
lie at ``{workspace}/jobs/{id}/`` itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from graticule.data.removal import remove_tree
from graticule.data.storage import Kept, Storage, read_part
from graticule.errors import StorageUnavailable
from graticule.jobs.job import Job, JobKey, Manifest, Source, StoredValue

LOGS = ("logs", "process.log")
"""What a job prints, in its scratch folder: its steps, and the process itself."""
_LOG_TYPE = "text/plain; charset=utf-8"
_REMEMBERED = 4096
"""Ended jobs whose logs are known without asking the storage; they do not change any more."""
_FRESH_S = 0.5
"""Seconds for which it is known what the storage has of other logs: whoever looks more often costs nothing."""


@dataclass(frozen=True, slots=True)
class Log:
    """The log of one step."""

    file: Kept
    size: int

    async def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; raises ContentLost and StorageUnavailable."""
        return await read_part(self.file, offset, min(offset + size, self.size))


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a log of which more is to come."""

    file: Kept
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class SegmentedLog:
    """The log of one step as far as it has come to the storage while its job runs, or until its agent was lost."""

    segments: tuple[Segment, ...]
    """By their beginning, without a gap; one may begin with what the one before it ends with."""

    @property
    def size(self) -> int:
        return self.segments[-1].end if self.segments else 0

    async def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; raises StorageUnavailable, and ContentLost if it has gone on meanwhile."""
        pieces, stop = [], min(offset + size, self.size)
        for segment in self.segments:
            if segment.start <= offset < min(segment.end, stop):
                end = min(segment.end, stop)
                pieces.append(await read_part(segment.file, offset - segment.start, end - segment.start))
                offset = end
        return b"".join(pieces)


StoredLog = Log | SegmentedLog


class ResultStore:
    """The files of jobs: outputs, their pictures and logs.

    Parameters
    ----------
    storage : Storage
        Where they are kept.
    signed_s : int
        Seconds for which the storage itself offers outputs to whoever has their address; 0: it does not.
    shared : bool
        Whether several machines keep their files there, and the logs of running jobs too.
    """

    def __init__(self, storage: Storage, *, signed_s: int = 0, shared: bool = False) -> None:
        self._storage = storage
        self._signed_s = signed_s
        self._shared = shared
        self._logs: OrderedDict[str, Mapping[str, StoredLog]] = OrderedDict()
        self._recent: OrderedDict[tuple[str, bool], tuple[float, asyncio.Task[Mapping[str, StoredLog]]]] = OrderedDict()

    async def commit(
        self, job: Job, folder: Path, manifest: Manifest | None, *, sealed: bool = False
    ) -> None:  # fmt: skip
        """Store what a job left in its scratch folder, and remove the folder.

        Parameters
        ----------
        job : Job
            Whose files they are, with the token under which it ran.
        folder : Path
            The scratch folder: ``outputs/``, ``logs/`` and ``process.log`` in it are kept, all else goes.
        manifest : Manifest, optional
            The outputs; None: only logs are kept, since the job was not successful.
        sealed : bool
            Whether there are segments of its logs, which the whole logs take the place of.

        Raises
        ------
        StorageUnavailable
            If they cannot be stored; it may be tried again.
        """
        names = LOGS if manifest is None else ("outputs", *LOGS)
        if await asyncio.to_thread(_gather, folder, names):
            types = {f"outputs/{value.file}": value.media_type for value in _files(manifest)}
            await self._storage.store_folder(
                kept_of(folder), _place(job.key, job.token), media_types={**types, "process.log": _LOG_TYPE}
            )
            for ended in (False, True):
                self._recent.pop((_place(job.key, job.token), ended), None)
            if sealed:
                with contextlib.suppress(StorageUnavailable):  # nobody reads them any more
                    await self._storage.remove(_segments(job.key, job.token))
        await asyncio.to_thread(remove_tree, folder)

    async def give_up(self, folder: Path) -> None:
        """Remove what a job left in its scratch folder and cannot be stored."""
        for place in (folder, kept_of(folder)):
            await asyncio.to_thread(remove_tree, place)

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

    async def keep_segment(self, job: Job, step: str, start: int, content: bytes) -> None:
        """Keep a piece of the log of a running job; it takes the place of those that begin within it."""
        await self._storage.store_content(content, _segment(job, step, start))

    async def drop_segment(self, job: Job, step: str, start: int) -> None:
        """Remove a piece that another one contains."""
        await self._storage.remove(_segment(job, step, start))

    async def logs_of(
        self, job: Job, token: int | None = None, *, anew: bool = False
    ) -> Mapping[str, StoredLog]:  # fmt: skip
        """Return the logs that a job left, by step; ``process`` is what it printed.

        Parameters
        ----------
        job : Job
            The job.
        token : int, optional
            Those of an earlier time it was begun; default: of the last one.
        anew : bool
            Whether the storage is asked even if it was a moment ago.
        """
        token = job.token if token is None else token
        place = _place(job.key, token)
        known = self._logs.get(place)
        if known is not None and not anew:
            return known
        wanted = place, job.ended  # what was found before the end is not all
        began, listing = self._recent.get(wanted, (0.0, None))
        if listing is None or anew or time.monotonic() - began > _FRESH_S:
            # Of a job that was successful all has come to its place.
            segmented = self._shared and (job.status != "successful" or token != job.token)
            began, listing = time.monotonic(), asyncio.ensure_future(self._list(job.key, token, segmented=segmented))
            self._recent[wanted] = began, listing
            self._recent.move_to_end(wanted)
            while began - next(iter(self._recent.values()))[0] > _FRESH_S:
                self._recent.popitem(last=False)
        logs = await asyncio.shield(listing)  # whoever hangs up does not take it from the others
        # Those of a dismissed job, or of an agent that was cut off, may come after its end.
        lasting = job.status in ("successful", "failed") and token == job.token
        if lasting and (logs or not job.log_bytes) and all(isinstance(log, Log) for log in logs.values()):
            self._recent.pop(wanted, None)
            self._logs[place] = logs
            if len(self._logs) > _REMEMBERED:
                self._logs.popitem(last=False)
        return logs

    async def _list(self, key: JobKey, token: int, *, segmented: bool) -> Mapping[str, StoredLog]:
        """Ask the storage which logs there are."""
        found: dict[str, StoredLog] = {}
        if segmented:  # first: they go when the whole log has come
            found |= await self._list_segments(_segments(key, token))
        place = _place(key, token)
        async for file in self._storage.files(place):
            step = _step(file.key.removeprefix(f"{place}/"))
            if step:
                found[step] = Log(Kept(storage=self._storage, key=file.key), file.size)
        return dict(sorted(found.items(), key=lambda pair: (pair[0] != "process", pair[0])))

    async def _list_segments(self, place: str) -> Mapping[str, SegmentedLog]:
        segments: dict[str, list[Segment]] = {}
        async for file in self._storage.files(place):
            name, _, start = file.key.removeprefix(f"{place}/").rpartition("/")
            found = Segment(Kept(storage=self._storage, key=file.key), int(start), file.size)
            segments.setdefault(name.removesuffix(".log"), []).append(found)
        return {step: joined for step, some in segments.items() if (joined := _joined(some)).segments}

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
    kept = kept_of(folder)
    found = [name for name in names if (folder / name).exists()]
    if found:
        kept.mkdir(exist_ok=True)
    for name in found:
        (folder / name).rename(kept / name)
    return kept.is_dir()


def kept_of(folder: Path) -> Path:
    """Return where those files of a scratch folder gather that are stored."""
    return folder.with_name(f"{folder.name}.kept")


def has_files(manifest: Manifest) -> bool:
    """Whether any output is kept in a file; the others are in the manifest itself."""
    return bool(_files(manifest))


def _files(manifest: Manifest | None) -> list[StoredValue]:
    return [value for output in (manifest or {}).values() for value in output.values if value.file is not None]


def _step(name: str) -> str:
    """Return which step's log a file of a job is; empty: it is none."""
    if name == "process.log":
        return "process"
    folder, _, last = name.partition("/")
    return last.removesuffix(".log") if folder == "logs" and last.endswith(".log") and "/" not in last else ""


def _joined(segments: Iterable[Segment]) -> SegmentedLog:
    """Return the log that segments make, up to the first that is not there."""
    found: list[Segment] = []
    end = 0
    for segment in sorted(segments, key=lambda one: (one.start, -one.size)):
        if segment.start > end:
            break
        if segment.end > end:
            found.append(segment)
            end = segment.end
    return SegmentedLog(tuple(found))


def _segment(job: Job, step: str, start: int) -> str:
    return f"{_segments(job.key, job.token)}/{step}.log/{start:015}"


def _segments(key: JobKey, token: int) -> str:
    return f"{_root(key)}/segments/{token}"


def _root(key: JobKey) -> str:
    return f"{key.workspace}/jobs/{key.id}"


def _place(key: JobKey, token: int) -> str:
    return f"{_root(key)}/{token}" if token else _root(key)
