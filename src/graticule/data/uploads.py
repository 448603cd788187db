"""Files that clients have sent, to be used as inputs: each in a folder of its own, for a limited time.

A file is written beside a small document about it and gets its name only when it is complete and on the disk, so that
nobody ever sees half of one. All methods block; callers on an event loop use a thread.
"""

from __future__ import annotations

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
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import unquote

import msgspec

from graticule.errors import InvalidBody, NoSuchFile, UploadConflict

OCTETS = "application/octet-stream"
SAMPLES = "samples"
"""Stands where other addresses have an identifier."""

_DOCUMENT = ".upload.json"
_PART = ".part"
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
    folder : Path
        Where the uploads of this workspace lie.
    samples : Path
        Where the sample data lies.
    """

    def __init__(self, folder: Path, samples: Path) -> None:
        self._folder = folder
        self._samples = samples
        self._open: set[str] = set()
        self._lock = threading.Lock()

    # --- reading ------------------------------------------------------------------------------------------------------

    def find(self, address: str, *, actor: str | None = None) -> Path | None:
        """Return the file behind an address below ``/files/``, if it exists.

        Parameters
        ----------
        address : str
            ``{id}/{name}`` or ``samples/{name}``.
        actor : str, optional
            Whose upload it must be; None: anybody's.
        """
        identifier, _, name = unquote(address).partition("/")
        if not name or "/" in name or name.startswith("."):
            return None
        if identifier == SAMPLES:
            path = self._samples / name
            return path if path.is_file() else None
        upload = self._read(identifier)
        if upload is None or not upload.complete or upload.name != name or actor not in (None, upload.actor):
            return None
        return self._folder / identifier / name

    def get(self, identifier: str) -> Upload:
        """Return what is known of an upload, also one that is not complete.

        Raises
        ------
        NoSuchFile
            If there is none, or it has expired.
        """
        upload = self._read(identifier)
        if upload is None:
            raise NoSuchFile(identifier)
        return upload

    def complete(self) -> list[Upload]:
        """Return all complete uploads, newest first."""
        found = [upload for upload in self._iter() if upload.complete and not _expired(upload)]
        return sorted(found, key=lambda upload: (upload.created, upload.id), reverse=True)

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
        """Take on a file that is going to be sent.

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
        place = self._folder / upload.id
        place.mkdir(parents=True)
        (place / _PART).touch()
        self._write(upload)
        _flush_folder(self._folder)
        return upload

    def append(self, identifier: str, offset: int) -> PartWriter:
        """Return what writes the next bytes of an upload; it must be closed.

        Raises
        ------
        NoSuchFile
            If there is no such upload.
        UploadConflict
            If it stands at another byte than `offset`, is complete, or somebody else is sending it now.
        """
        with self._lock:
            upload = self.get(identifier)
            if upload.complete or upload.size != offset or identifier in self._open:
                raise UploadConflict(upload.name, upload.size)
            self._open.add(identifier)
        return PartWriter(self._folder / identifier / _PART, upload, lambda: self._open.discard(identifier))

    def finish(self, identifier: str, sha256: str = "") -> Upload:
        """Give a file its name, once all of it is on the disk; return it as complete.

        Parameters
        ----------
        identifier : str
            Of the upload, whose writer is closed.
        sha256 : str
            Its checksum, where it is known; otherwise the file is read again.
        """
        upload = self.get(identifier)
        place = self._folder / identifier
        part = place / _PART
        if not part.stat().st_size:
            self.remove(identifier)
            raise InvalidBody("the file is empty; send its content as the body, or as the form field 'file'")
        with part.open("rb") as file:
            digest = sha256 or hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        done = msgspec.structs.replace(upload, size=part.stat().st_size, length=part.stat().st_size, sha256=digest)
        self._write(done)
        _name(place, upload.name)
        _flush_folder(place)
        return done

    def remove(self, identifier: str) -> None:
        """Remove an upload, complete or not; nothing happens if there is none."""
        if _is_identifier(identifier):
            shutil.rmtree(self._folder / identifier, ignore_errors=True)

    def sweep(self) -> int:
        """Remove what has expired or was given up half way; return how many files that were."""
        removed = 0
        if not self._folder.is_dir():
            return removed
        for place in list(self._folder.iterdir()):
            if not _is_identifier(place.name) or place.name in self._open:
                continue
            upload = self._load(place.name)
            if upload is None or _expired(upload) or _abandoned(upload, place / _PART):
                self.remove(place.name)
                removed += 1
        return removed

    # --- the documents ------------------------------------------------------------------------------------------------

    def _iter(self) -> Iterator[Upload]:
        if not self._folder.is_dir():
            return
        for place in self._folder.iterdir():
            upload = self._load(place.name) if _is_identifier(place.name) else None
            if upload is not None:
                yield upload

    def _read(self, identifier: str) -> Upload | None:
        """Return an upload unless it has expired; then it is removed, though nobody has swept yet."""
        upload = self._load(identifier) if _is_identifier(identifier) else None
        if upload is not None and _expired(upload):
            self.remove(identifier)
            return None
        return upload

    def _load(self, identifier: str) -> Upload | None:
        place = self._folder / identifier
        try:
            upload = _document.decode((place / _DOCUMENT).read_bytes())
            if not upload.complete:
                return msgspec.structs.replace(upload, size=(place / _PART).stat().st_size)
            if not (place / upload.name).exists():
                _name(place, upload.name)  # the server was ended between saying that it is complete and naming it
        except (OSError, msgspec.DecodeError):
            return None
        return upload

    def _write(self, upload: Upload) -> None:
        place = self._folder / upload.id
        draft = place / f"{_DOCUMENT}.new"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(upload))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(place / _DOCUMENT)


class PartWriter:
    """Writes the bytes of an upload that come in one request."""

    def __init__(self, path: Path, upload: Upload, closed: Callable[[], None]) -> None:
        self.upload = upload
        self.size = upload.size
        """Bytes that the file has now."""
        self._digest = hashlib.sha256() if upload.size == 0 else None
        self._file = path.open("ab")
        self._closed = closed

    @property
    def sha256(self) -> str:
        """Checksum of the file, if all of it came through this writer."""
        return self._digest.hexdigest() if self._digest is not None else ""

    def write(self, content: bytes | bytearray) -> None:
        self._file.write(content)
        self.size += len(content)
        if self._digest is not None:
            self._digest.update(content)

    def close(self) -> None:
        """Have on the disk what was written, and let others continue."""
        if self._file.closed:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
            self._closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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


def _abandoned(upload: Upload, part: Path) -> bool:
    if upload.complete or upload.expires:
        return False
    try:
        return time.time() - part.stat().st_mtime > _ABANDONED.total_seconds()
    except OSError:
        return True


def _now() -> int:
    return time.time_ns() // 1000


def _name(place: Path, name: str) -> None:
    """Give a complete file its name, unless somebody who looked meanwhile has done so."""
    with suppress(FileNotFoundError):
        (place / _PART).rename(place / name)


def _flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
