"""Where results, logs and uploads are kept: what a storage promises. ``storages/`` holds one file per kind."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

PIECE_BYTES = 256 << 10
"""Most bytes of a piece that is read or written at once: what one transfer holds of a file of any size."""

_SIGNED_S = 7 * 24 * 3600
"""For which a job may read a file of an object storage; the longest that there is."""

NO_TYPES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """What a storage knows of a file."""

    key: str
    size: int
    """Bytes."""
    etag: str
    """Another one when the content is another one; quoted, as HTTP has it."""
    modified: float
    """Seconds since 1970, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file that is being read."""

    file: StoredFile
    pieces: AsyncGenerator[bytes]
    """The bytes that were asked for; close it when not all of them are read."""


class Readable(Protocol):
    """A file that can be read, wherever it lies."""

    @property
    def name(self) -> str:
        """Its last name, without folders."""

    async def open(self, *, start: int = 0, stop: int | None = None) -> Content:
        """Begin to read the bytes from `start` to before `stop`; raises as `Storage.open` does."""


class Storage(Protocol):
    """Keeps files under keys: relative paths with ``/``, the first segment a workspace.

    What is wrong with the storage itself is raised as StorageUnavailable by every method that reaches it; no method
    blocks the event loop, and none holds more of a file in memory than some pieces.
    """

    async def store_folder(self, source: Path, key: str, *, media_types: Mapping[str, str] = NO_TYPES) -> None:
        """Keep all files of a finished folder below a key, durably; the source is gone afterwards.

        They come in the order of their names, or all at once. If this fails, nothing of them is there, the source is
        whole, and it may be tried again.

        Parameters
        ----------
        source : Path
            The folder.
        key : str
            What the names of its files are put after.
        media_types : mapping of str to str
            Media types of files by their path below the folder, for who reads them at a signed address.
        """

    async def store_file(self, source: Path, key: str, *, media_type: str = "") -> None:
        """Keep a copy of a finished file under a key, durably; nobody ever sees half of it."""

    async def store_content(self, content: bytes, key: str) -> None:
        """Keep a few bytes under a key as `store_file` does a file."""

    async def open(self, key: str, *, start: int = 0, stop: int | None = None) -> Content:
        """Begin to read the bytes of a file from `start` to before `stop`, which lie within it.

        Raises
        ------
        ContentLost
            If there is no file of that key.
        """

    async def find(self, key: str) -> StoredFile | None:
        """Return what is known of a file; None: there is none."""

    def files(self, key: str) -> AsyncIterator[StoredFile]:
        """Yield all files below a key, in no order."""

    async def remove(self, key: str) -> None:
        """Remove a file, or everything below a key; nothing happens if there is none."""

    async def check(self) -> None:
        """Raise StorageUnavailable if nothing can be kept now."""

    def path_of(self, key: str) -> Path | None:
        """Return where a file lies on this machine; None: it does not lie on this machine."""

    def signed_url(self, key: str, *, seconds: int) -> str | None:
        """Return an address at which anybody may read a file for so long; None: this storage has no addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One file of a storage."""

    storage: Storage
    key: str

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def path(self) -> Path | None:
        """Where it lies on this machine, if it does."""
        return self.storage.path_of(self.key)

    @property
    def place(self) -> Path | str | None:
        """Where a job process reads it: its path, or a signed address."""
        return self.path or self.signed_url(seconds=_SIGNED_S)

    async def open(self, *, start: int = 0, stop: int | None = None) -> Content:
        return await self.storage.open(self.key, start=start, stop=stop)

    def signed_url(self, *, seconds: int) -> str | None:
        return self.storage.signed_url(self.key, seconds=seconds)


async def read_all(file: Readable) -> bytes:
    """Return the whole content of a small file."""
    content = await file.open()
    async with aclosing(content.pieces):
        return b"".join([piece async for piece in content.pieces])


async def read_part(file: Readable, start: int, stop: int) -> bytes:
    """Return the bytes of a file from `start` to before `stop`."""
    content = await file.open(start=start, stop=stop)
    async with aclosing(content.pieces):
        return b"".join([piece async for piece in content.pieces])
