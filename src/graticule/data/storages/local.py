"""Keep files in a folder of this machine, or of one that all machines have mounted."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from graticule.data.removal import remove_tree
from graticule.data.storage import NO_TYPES, PIECE_BYTES, Content, StoredFile
from graticule.errors import ContentLost, StorageUnavailable

T = TypeVar("T")

_DRAFT = ".draft-"
"""What names begin with until all bytes are there; no key has such a part."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    async def open(self, *, start: int = 0, stop: int | None = None) -> Content:
        found = await _threaded(_look_at, self.path, self.path.name)
        if found is None:
            raise ContentLost(self.path.name)
        return Content(file=found, pieces=_pieces(self.path, start, found.size if stop is None else stop))


class LocalStorage:
    """A storage in a folder.

    Parameters
    ----------
    root : Path
        The folder; it is made when it is missing. Where it lies on the same file system as the scratch folder,
        storing is a rename.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._inode: int | None = None

    async def store_folder(self, source: Path, key: str, *, media_types: Mapping[str, str] = NO_TYPES) -> None:
        await _threaded(self._store, _store, source, self._place(key), _move)

    async def store_file(self, source: Path, key: str, *, media_type: str = "") -> None:
        await _threaded(self._store, _store, source, self._place(key), _copy)

    async def store_content(self, content: bytes, key: str) -> None:
        await _threaded(self._store, _store_content, content, self._place(key))

    async def open(self, key: str, *, start: int = 0, stop: int | None = None) -> Content:
        found = await _threaded(self._find, key)
        if found is None:
            raise ContentLost(key)
        return Content(file=found, pieces=_pieces(self._place(key), start, found.size if stop is None else stop))

    async def find(self, key: str) -> StoredFile | None:
        return await _threaded(self._find, key)

    async def files(self, key: str) -> AsyncIterator[StoredFile]:
        for file in await _threaded(self._list, key):
            yield file

    async def remove(self, key: str) -> None:
        await _threaded(_remove, self._place(key))

    async def check(self) -> None:
        await _threaded(self._store, _write_little, self._root)

    def path_of(self, key: str) -> Path | None:
        return self._place(key)

    def signed_url(self, key: str, *, seconds: int) -> str | None:
        return None

    def _place(self, key: str) -> Path:
        path = self._root / key
        if ".." in path.parts or not path.is_relative_to(self._root):
            raise ValueError(f"{key!r} leads out of the storage")
        return path

    def _store(self, work: Callable[..., None], *arguments: object) -> None:
        """Write something, unless the folder is not there any more: what lies in its place then is another disk."""
        self._check_root()
        work(*arguments)
        if self._inode is None:
            self._inode = self._root.stat().st_ino

    def _find(self, key: str) -> StoredFile | None:
        found = _look_at(self._place(key), key)
        if found is None:
            self._check_root()
        return found

    def _check_root(self) -> None:
        """Raise OSError if the folder is not the one that was written to: what seems lost is only out of reach.

        Its number tells it from the empty folder that an unmounted disk leaves. The device's does not count: that of a
        share changes when it is mounted anew.
        """
        if self._inode is None:
            return
        try:
            inode = self._root.stat().st_ino
        except FileNotFoundError:
            raise OSError(errno.ENODEV, "its folder is not there: is its disk mounted?") from None
        if inode != self._inode:
            raise OSError(errno.ENODEV, "another folder lies in its place: is its disk mounted?")

    def _list(self, key: str) -> list[StoredFile]:
        found = []
        for place, folders, names in os.walk(self._place(key)):
            folders[:] = [name for name in folders if not name.startswith(_DRAFT)]
            for name in names:
                path = Path(place, name)
                if not name.startswith(_DRAFT) and (file := _look_at(path, path.relative_to(self._root).as_posix())):
                    found.append(file)
        if not found:
            self._check_root()
        return found


async def _threaded(work: Callable[..., T], *arguments: object) -> T:
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:
        raise _unavailable(error) from error


def _unavailable(error: OSError) -> StorageUnavailable:
    return StorageUnavailable(f"the storage cannot be used ({error.strerror or error})", "storage.folder")


def _look_at(path: Path, key: str) -> StoredFile | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    etag = f'"{status.st_size:x}-{status.st_mtime_ns:x}"'
    return StoredFile(key=key, size=status.st_size, etag=etag, modified=status.st_mtime)


async def _pieces(path: Path, start: int, stop: int) -> AsyncGenerator[bytes]:
    left = stop - start
    try:
        file = await asyncio.to_thread(path.open, "rb")
        try:
            file.seek(start)
            while left > 0 and (piece := await asyncio.to_thread(file.read, min(PIECE_BYTES, left))):
                left -= len(piece)
                yield piece
        finally:
            file.close()
    except FileNotFoundError as error:
        raise ContentLost(path.name) from error
    except OSError as error:
        raise _unavailable(error) from error


def _store(source: Path, target: Path, bring: Callable[[Path, Path], None]) -> None:
    """Bring a file or folder to its place by way of another name beside it, so that nobody sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{_DRAFT}{uuid.uuid4().hex}")
    try:
        bring(source, draft)
        if target.is_dir():
            remove_tree(target)  # left by an attempt of the same source
        draft.replace(target)
    except BaseException:
        if draft.exists() and not source.exists():
            draft.replace(source)
        _remove(draft)
        raise
    _flush(target.parent)


def _store_content(content: bytes, target: Path) -> None:
    """Write a file as `_store` brings one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{_DRAFT}{uuid.uuid4().hex}")
    try:
        draft.write_bytes(content)
        _flush(draft)
        draft.replace(target)
    except BaseException:
        _remove(draft)
        raise
    _flush(target.parent)


def _move(source: Path, draft: Path) -> None:
    """Move a folder; where it lies on another disk, by a copy that is durable before the source goes."""
    _flush(source)
    try:
        source.rename(draft)
    except OSError:
        shutil.copytree(source, draft)
        for place, _, names in os.walk(draft):
            for name in names:
                _flush(Path(place, name))
            _flush(Path(place))
        remove_tree(source)


def _copy(source: Path, draft: Path) -> None:
    shutil.copyfile(source, draft)
    _flush(draft)


def _write_little(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"graticule")
        file.flush()


def _remove(path: Path) -> None:
    if path.is_dir():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
