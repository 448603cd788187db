"""Files that clients have sent, to be used as inputs: each in a folder of its own, for a limited time.

What is being sent lies on the disk of the server that it is sent to, beside a small document about it; when it is
complete, both go to the storage, the document last, so that nobody ever sees half of a file.
"""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import os
import re
import secrets
import shutil
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import unquote

import msgspec

from graticule.data.storage import Kept, Storage, read_all
from graticule.errors import ContentLost, InvalidBody, NoSuchFile, StorageUnavailable, UploadConflict

OCTETS = "application/octet-stream"
SAMPLES = "samples"
"""Stands where other addresses have an identifier."""

_DOCUMENT = "upload.json"
_FOLDER = "file"
"""Holds the file, so that it may have any name; sorts before the document, so that it is stored before it."""
_FORMER_DOCUMENT, _FORMER_PART, _MOVED = ".upload.json", ".part", ".moved"
"""Of earlier versions: their document, what a file was called until it had come whole; and where it waits meanwhile."""
_NAME_LENGTH = 100
_ABANDONED = timedelta(hours=24)
"""How long a part of a file is kept that nobody continues, where files never expire."""
_TYPES = {
    ".geojson": "application/geo+json",
    ".gpkg": "application/geopackage+sqlite3",
    ".jp2": "image/jp2",
    ".parquet": "application/vnd.apache.parquet",
    ".tif": "image/tiff; application=geotiff",
    ".tiff": "image/tiff; application=geotiff",
}
"""What spatial files are called by their endings; Python's own table knows others."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was sent, or is being sent. Moments are microseconds since 1970 in UTC."""

    id: str
    name: str
    media_type: str = OCTETS
    actor: str = "anonymous"
    created: int = 0
    expires: int = 0
    """0: never."""
    length: int = 0
    """Bytes that it will have; 0 where that is not known before its end."""
    size: int = 0
    """Bytes that it has."""
    sha256: str = ""
    """Empty until it is complete."""

    @property
    def complete(self) -> bool:
        return bool(self.sha256)

    @property
    def address(self) -> str:
        """Where it is served, below ``/files/``."""
        return f"{self.id}/{self.name}"


_document = msgspec.json.Decoder(Upload)


class Uploads:
    """The uploaded files of one workspace, and the samples, which are the same for all.

    Parameters
    ----------
    storage : Storage
        Where complete files are kept; every server finds them there.
    key : str
        What their keys begin with.
    staging : Path
        Where files lie on this machine until they are complete; on the storage's own disk, if it has one here.
    samples : Path
        Where the sample data lies.
    """

    def __init__(self, storage: Storage, key: str, *, staging: Path, samples: Path) -> None:
        self._storage = storage
        self._key = key
        self._staging = staging
        self._samples = samples
        self._open: set[str] = set()
        self._lock = threading.Lock()
        self._finishing: dict[str, asyncio.Lock] = {}
        self._known: dict[str, Upload] = {}

    # --- reading ------------------------------------------------------------------------------------------------------

    async def has(self, address: str, *, actor: str | None = None) -> bool:
        """Return whether there is a file behind an address below ``/files/``.

        Parameters
        ----------
        address : str
            ``{id}/{name}`` or ``samples/{name}``.
        actor : str, optional
            Whose upload it must be; None: anybody's.
        """
        parts = _parts_of(address)
        if parts is None:
            return False
        identifier, name = parts
        if identifier == SAMPLES:
            return await asyncio.to_thread((self._samples / name).is_file)
        upload = await self._find(identifier, name, actor)
        return upload is not None and upload.complete

    async def awaits(self, address: str, *, actor: str | None = None) -> bool:
        """Return whether a file behind an address below ``/files/`` has begun to come, and is not complete.

        Parameters
        ----------
        address : str
            ``{id}/{name}``.
        actor : str, optional
            Whose upload it must be; None: anybody's.
        """
        parts = _parts_of(address)
        upload = await self._find(*parts, actor) if parts is not None else None
        return upload is not None and not upload.complete

    async def _find(self, identifier: str, name: str, actor: str | None) -> Upload | None:
        try:
            upload = await self.get(identifier)
        except NoSuchFile:
            return None
        return upload if upload.name == name and actor in (None, upload.actor) else None

    def place_of(self, address: str) -> Path | str | None:
        """Return where a job process reads a file: its path, or a signed address; None: no file has such an address.

        Whether it is there is not asked.
        """
        parts = _parts_of(address)
        if parts is None:
            return None
        identifier, name = parts
        if identifier == SAMPLES:
            return self._samples / name
        return self._file(identifier, name).place

    def content(self, upload: Upload) -> Kept:
        """Return the content of a complete upload."""
        return self._file(upload.id, upload.name)

    async def get(self, identifier: str) -> Upload:
        """Return what is known of an upload, also one that is not complete.

        Raises
        ------
        NoSuchFile
            If there is none, or it has expired.
        """
        upload = None
        if _is_identifier(identifier):
            staged = await asyncio.to_thread(self._staged, identifier)
            if staged is not None and _expired(staged):
                await self.remove(identifier)
            elif staged is not None and self._is_all_here(staged):
                return await self.finish(identifier)  # its storage failed before, or the server was ended
            else:
                upload = staged or await self._stored(identifier)
        if upload is None:
            raise NoSuchFile(identifier)
        return upload

    async def complete(self) -> list[Upload]:
        """Return all complete uploads, newest first."""
        found = []
        identifiers = set()
        async for file in self._storage.files(self._key):
            identifier, _, name = file.key.removeprefix(f"{self._key}/").partition("/")
            if name == _DOCUMENT and _is_identifier(identifier):
                identifiers.add(identifier)
        for identifier in identifiers:
            upload = self._known.get(identifier) or await self._stored(identifier)
            if upload is not None and not _expired(upload):
                found.append(upload)
        self._known = {upload.id: upload for upload in found}
        return sorted(found, key=lambda upload: (upload.created, upload.id), reverse=True)

    def sample(self, name: str) -> Path | None:
        """Return a file of the sample data."""
        path = self._samples / name
        return path if _parts_of(f"{SAMPLES}/{name}") is not None and path.is_file() else None

    def samples(self) -> list[Path]:
        """Return the files of the sample data, by name."""
        if not self._samples.is_dir():
            return []
        return sorted(path for path in self._samples.iterdir() if path.is_file() and path.name[0] != ".")

    # --- writing ------------------------------------------------------------------------------------------------------

    def begin(
        self,
        name: str,
        *,
        media_type: str = "",
        actor: str = "anonymous",
        length: int = 0,
        expiry: timedelta | None = None,
    ) -> Upload:
        """Take on a file that is going to be sent; blocks.

        Parameters
        ----------
        name : str
            As its sender calls it; it is made safe.
        media_type : str
            As its sender says; a vague one is replaced by what the name's ending means.
        actor : str
            Who sends it.
        length : int
            Bytes that it will have; 0 if that is not known.
        expiry : timedelta, optional
            How long it is kept; None: until it is removed.

        Raises
        ------
        StorageUnavailable
            If this machine's disk does not take it, as a full one; nothing of it is left.
        """
        name = safe_name(name, media_type)
        created = _now()
        upload = Upload(
            id=secrets.token_hex(16),
            name=name,
            media_type=_media_type(name, media_type),
            actor=actor,
            created=created,
            expires=created + int(expiry.total_seconds() * 1e6) if expiry else 0,
            length=length,
        )
        part = self._part(upload)
        try:
            with _usable_disk():
                part.parent.mkdir(parents=True)
                part.touch()
                self._write(upload)
                _flush_folder(self._staging)
        except StorageUnavailable:
            shutil.rmtree(self._staging / upload.id, ignore_errors=True)
            raise
        return upload

    def append(self, identifier: str, offset: int) -> PartWriter:
        """Return what writes the next bytes of an upload; it must be closed. Blocks.

        Raises
        ------
        NoSuchFile
            If no such upload is being sent to this server.
        UploadConflict
            If it stands at another byte than `offset`, has come whole, or somebody else is sending it now.
        """
        with self._lock:
            upload = self._staged(identifier) if _is_identifier(identifier) else None
            if upload is None or _expired(upload):
                raise NoSuchFile(identifier)
            if upload.complete or upload.size != offset or identifier in self._open:
                raise UploadConflict(upload.name, upload.size)
            with _usable_disk():
                writer = PartWriter(self._part(upload), upload, lambda: self._open.discard(identifier))
            self._open.add(identifier)
        return writer

    async def finish(self, identifier: str, sha256: str = "", *, may_be_empty: bool = False) -> Upload:
        """Keep a file of which all bytes have come; return it as complete.

        If the storage fails, what has come is kept on this machine, and `get` tries again.

        Parameters
        ----------
        identifier : str
            Of the upload, whose writer is closed.
        sha256 : str
            Its checksum, where it is known; otherwise the file is read again.
        may_be_empty : bool
            Whether a file without bytes was meant; otherwise it is removed.

        Raises
        ------
        InvalidBody
            If it is empty.
        StorageUnavailable
            If the storage fails, or this machine's disk.
        """
        async with self._finishing.setdefault(identifier, asyncio.Lock()):
            try:
                done = await asyncio.to_thread(self._seal, identifier, sha256, may_be_empty=may_be_empty)
                if done is None:  # somebody else has just done it
                    return await self._stored(identifier) or _missing(identifier)
                # The document comes last: before it, nobody finds the file.
                types = {f"{_FOLDER}/{done.name}": done.media_type}
                await self._storage.store_folder(
                    self._staging / identifier, f"{self._key}/{identifier}", media_types=types
                )
            finally:
                self._finishing.pop(identifier, None)
        return done

    async def remove(self, identifier: str) -> None:
        """Remove an upload, complete or not; nothing happens if there is none."""
        if _is_identifier(identifier):
            self._known.pop(identifier, None)
            await asyncio.to_thread(shutil.rmtree, self._staging / identifier, ignore_errors=True)
            await self._storage.remove(f"{self._key}/{identifier}")

    async def sweep(self) -> int:
        """Remove what has expired or was given up half way; return how many files that were."""
        removed = await asyncio.to_thread(self._sweep_staging)
        ages: dict[str, float] = {}
        documents = set()
        async for file in self._storage.files(self._key):
            identifier, _, name = file.key.removeprefix(f"{self._key}/").partition("/")
            ages[identifier] = max(file.modified, ages.get(identifier, 0.0))
            if name == _DOCUMENT:
                documents.add(identifier)
        for identifier, modified in ages.items():
            upload = self._known.get(identifier)
            if upload is None and identifier in documents:
                upload = await self._stored(identifier, expired_too=True)
            if _expired(upload) if upload is not None else _is_old(modified):
                await self.remove(identifier)
                removed += 1
        return removed

    # --- complete files in the storage --------------------------------------------------------------------------------

    def _file(self, identifier: str, name: str) -> Kept:
        return Kept(storage=self._storage, key=f"{self._key}/{identifier}/{_FOLDER}/{name}")

    async def _stored(self, identifier: str, *, expired_too: bool = False) -> Upload | None:
        """Return a complete upload unless it has expired, though nobody has swept yet."""
        document = Kept(storage=self._storage, key=f"{self._key}/{identifier}/{_DOCUMENT}")
        try:
            upload = _document.decode(await read_all(document))
        except (ContentLost, msgspec.DecodeError):
            return None
        return upload if expired_too or not _expired(upload) else None

    # --- what is being sent, on this machine --------------------------------------------------------------------------

    def _part(self, upload: Upload) -> Path:
        return self._staging / upload.id / _FOLDER / upload.name

    def _staged(self, identifier: str) -> Upload | None:
        try:
            upload = _document.decode((self._staging / identifier / _DOCUMENT).read_bytes())
            return msgspec.structs.replace(upload, size=self._part(upload).stat().st_size)
        except (OSError, msgspec.DecodeError):
            return None

    def _is_all_here(self, staged: Upload) -> bool:
        return staged.id not in self._open and (staged.complete or 0 < staged.length == staged.size)

    def _seal(self, identifier: str, sha256: str, *, may_be_empty: bool) -> Upload | None:
        """Have all of a file on the disk, and its checksum in its document."""
        upload = self._staged(identifier)
        if upload is None or upload.complete:
            return upload
        if not upload.size and not may_be_empty:
            shutil.rmtree(self._staging / identifier, ignore_errors=True)
            raise InvalidBody("the file is empty; send its content as the body, or as the form field 'file'")
        with _usable_disk():
            with self._part(upload).open("rb") as file:
                digest = sha256 or hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            done = msgspec.structs.replace(upload, length=upload.size, sha256=digest)
            self._write(done)
        return done

    def _write(self, upload: Upload) -> None:
        place = self._staging / upload.id
        draft = self._staging / f"{upload.id}.draft"
        try:
            with draft.open("wb") as file:
                file.write(msgspec.json.encode(upload))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(place / _DOCUMENT)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def _sweep_staging(self) -> int:
        removed = 0
        for place in list(self._staging.iterdir()) if self._staging.is_dir() else ():
            if not _is_identifier(place.name) or place.name in self._open:
                continue
            upload = self._staged(place.name)
            old = _is_old(place.stat().st_mtime if upload is None else self._part(upload).stat().st_mtime)
            if old if upload is None else _expired(upload) or (old and not upload.expires):
                shutil.rmtree(place, ignore_errors=True)
                removed += 1
        return removed


class PartWriter:
    """Writes the bytes of an upload that come in one request."""

    def __init__(self, path: Path, upload: Upload, closed: Callable[[], None]) -> None:
        self.upload = upload
        self.size = upload.size
        """Bytes that the file has now."""
        self._digest = hashlib.sha256() if upload.size == 0 else None
        self._file = path.open("ab", buffering=0)  # what a full disk did not take must not be tried again by `close`
        self._closed = closed

    @property
    def sha256(self) -> str:
        """Checksum of the file, if all of it came through this writer."""
        return self._digest.hexdigest() if self._digest is not None else ""

    def write(self, content: bytes | bytearray) -> None:
        """Write the next bytes; raises StorageUnavailable where the disk takes no more of them."""
        left = memoryview(content)
        while left:
            with _usable_disk():
                written = self._file.write(left)
            self.size += written
            if self._digest is not None:
                self._digest.update(left[:written])
            left = left[written:]

    def close(self) -> None:
        """Have on the disk what was written, and let others continue; raises StorageUnavailable if that fails."""
        if self._file.closed:
            return
        try:
            with _usable_disk():
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
            self._closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def renew_uploads(folder: Path) -> None:
    """Bring the uploads that an earlier version has kept in a folder to their places of today; it may be broken off."""
    for document in list(folder.glob(f"*/{_FORMER_DOCUMENT}")):
        place = document.parent
        upload = _document.decode(document.read_bytes())
        if not upload.complete:  # it cannot be continued, and is swept
            continue
        (place / _MOVED).mkdir(exist_ok=True)
        for former in (place / upload.name, place / _FORMER_PART):
            if former.is_file():
                former.rename(place / _MOVED / upload.name)
        if not (place / _FOLDER).is_dir():
            (place / _MOVED).rename(place / _FOLDER)
        document.rename(place / _DOCUMENT)


def safe_name(name: str, media_type: str = "") -> str:
    """Return a file name without anything that a path, an address or a header could misread.

    Parameters
    ----------
    name : str
        As somebody calls a file; folders in it are dropped.
    media_type : str
        Decides the ending of a file that has no name.
    """
    last = re.split(r"[/\\]", name)[-1]
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("_")
    stem, dot, ending = plain.rpartition(".")
    if not dot:
        stem, ending = plain, ""
    if ending:
        ending = f".{ending[:20]}"
    elif not plain:
        ending = mimetypes.guess_extension(media_type.partition(";")[0].strip()) or ""
    return (stem.strip("._-")[: _NAME_LENGTH - len(ending)] or "upload") + ending


def guess_type(name: str) -> str:
    """Return the media type that a file name's ending means."""
    ending = Path(name).suffix.lower()
    return _TYPES.get(ending) or mimetypes.guess_type(name)[0] or OCTETS


def _media_type(name: str, said: str) -> str:
    """Return what the sender says, unless that says nothing."""
    essence = said.partition(";")[0].strip().lower()
    vague = essence in (
        "",
        OCTETS,
        "application/x-www-form-urlencoded",
        "binary/octet-stream",
        "application/offset+octet-stream",
    )
    if vague or not re.fullmatch(
        r"[\w!#$&^.+-]+/[\w!#$&^.+-]+( *; *[\w.-]+=(\"[ !#-~]*\"|[\w.+-]+))*", said.strip(), re.ASCII
    ):
        return guess_type(name)
    return said.strip()


def _is_identifier(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9a-f]{32}", text))


def _expired(upload: Upload) -> bool:
    return 0 < upload.expires <= _now()


def _is_old(modified: float) -> bool:
    return time.time() - modified > _ABANDONED.total_seconds()


def _missing(identifier: str) -> Upload:
    raise NoSuchFile(identifier)


def _parts_of(address: str) -> tuple[str, str] | None:
    """Return identifier and name of an address below ``/files/``, if it can be one."""
    identifier, _, name = unquote(address).partition("/")
    if not name or "/" in name or name.startswith(".") or not (identifier == SAMPLES or _is_identifier(identifier)):
        return None
    return identifier, name


def _now() -> int:
    return time.time_ns() // 1000


@contextmanager
def _usable_disk() -> Iterator[None]:
    """Say of a disk that does not do what it is asked for, as a full one, what is said of a storage."""
    try:
        yield
    except OSError as error:
        reason = f"the disk for uploads cannot be used ({error.strerror or error})"
        raise StorageUnavailable(reason, "storage.folder") from error


def _flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
