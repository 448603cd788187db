"""Keep files in a bucket of an object storage that speaks S3."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from graticule.data.removal import remove_tree
from graticule.data.storage import NO_TYPES, PIECE_BYTES, Content, StoredFile
from graticule.errors import ContentLost, StorageUnavailable

if TYPE_CHECKING:
    from obstore import Attributes, GetOptions, ObjectMeta

log = logging.getLogger("graticule.storage")

_PART_BYTES = 5 << 20
"""A larger file is sent in parts of this size, the smallest that S3 knows; one is held while the next is gathered."""
_MOST_PARTS = 9_000
"""S3 takes 10 000; the parts of a file beyond 44 GiB are larger."""
_LISTED = 1000
"""Files that are removed with one request."""
_SILENCE = timedelta(seconds=30)
"""Without a byte for so long, a request is given up."""
_LONG_SILENCE = timedelta(minutes=15)
"""The same, while a file is sent in parts: after the last one, some storages copy them together before they answer."""
_PROBE = ".probes/health"
"""Key of a file by which is tried whether anything can be kept; no workspace has such a name."""
_NO_BUCKET = "NoSuchBucket"
_REASON = re.compile(r"<Code>\s*(?P<code>\w+)\s*</Code>(\s*<Message>(?P<message>[^<]*))?")
"""What S3 calls the reason of a refusal, in the document that it answers with."""
_KEYS = "storage.access_key_id, storage.secret_access_key"
_REFUSALS = {
    _NO_BUCKET: ("the storage has no bucket {bucket!r}", "storage.url"),
    "InvalidBucketName": ("the storage takes {bucket!r} for no name of a bucket", "storage.url"),
    "SignatureDoesNotMatch": ("the storage refuses the key of this service", "storage.secret_access_key"),
    "InvalidAccessKeyId": ("the storage refuses the key of this service, which it does not know", _KEYS),
    "XAdminUserNotFound": ("the storage refuses the key of this service, which it does not know", _KEYS),
    "AccessDenied": ("the storage refuses the key of this service in bucket {bucket!r}", f"{_KEYS}, storage.url"),
    "AuthorizationHeaderMalformed": ("the storage is in another region than this service asks", "storage.region"),
    "PermanentRedirect": ("the storage has bucket {bucket!r} in another region or place", "storage.region"),
    "RequestTimeTooSkewed": ("the clock of this machine is not that of the storage; set it right", "storage.endpoint"),
}
"""What is said of a refusal, and the settings to look at."""
_REFUSED = ("403 Forbidden", "401 Unauthorized")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where an object storage is, and by which key it is entered."""

    name: str
    prefix: str = ""
    """What all keys begin with."""
    endpoint: str = ""
    """Address of the service; empty: that of AWS in the region."""
    region: str = "us-east-1"
    access_key_id: str = ""
    """Empty: what the machine itself offers, as AWS's own tools find it."""
    secret_access_key: str = ""


class S3Storage:
    """A storage in a bucket.

    Parameters
    ----------
    bucket : Bucket
        Where it is.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        config: dict[str, Any] = {"region": bucket.region}
        if bucket.endpoint:
            config |= {"endpoint": bucket.endpoint, "virtual_hosted_style_request": False}
        if bucket.access_key_id:
            config |= {"access_key_id": bucket.access_key_id, "secret_access_key": bucket.secret_access_key}
        self._store, self._patient_store = (
            S3Store(
                bucket.name,
                prefix=bucket.prefix or None,
                config=config,  # type: ignore[arg-type]
                client_options={
                    "allow_http": bucket.endpoint.startswith("http://"),
                    "connect_timeout": timedelta(seconds=5),
                    "read_timeout": silence,
                    "timeout": timedelta(days=7),  # a slow reader may take long; silence is what ends a request
                },
                # Who must have it tries again for longer; a reader is told soon.
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=10)},
            )
            for silence in (_SILENCE, _LONG_SILENCE)
        )

    async def store_folder(self, source: Path, key: str, *, media_types: Mapping[str, str] = NO_TYPES) -> None:
        files = await asyncio.to_thread(lambda: [path for path in sorted(source.rglob("*")) if path.is_file()])
        names = {path.relative_to(source).as_posix(): path for path in files}
        try:
            for name, path in names.items():
                await self.store_file(path, f"{key}/{name}", media_type=media_types.get(name, ""))
        except BaseException:
            # What is there already would never be asked for.
            with suppress(StorageUnavailable):
                await self.remove(key)
            raise
        await asyncio.to_thread(remove_tree, source)

    async def store_file(self, source: Path, key: str, *, media_type: str = "") -> None:
        attributes: Attributes = {"Content-Type": media_type} if media_type else {}
        size = (await asyncio.to_thread(source.stat)).st_size
        try:
            if size <= _PART_BYTES:
                content = await asyncio.to_thread(source.read_bytes)
                await obstore.put_async(self._store, key, content, attributes=attributes, use_multipart=False)
                return
            # obstore would read a path with a buffer more in memory.
            await obstore.put_async(
                self._patient_store, key, _read(source), attributes=attributes,
                chunk_size=max(_PART_BYTES, -(-size // _MOST_PARTS)), max_concurrency=1,
            )  # fmt: skip
        except (BaseError, FileNotFoundError) as error:  # the latter: the bucket, or the parts, are not there any more
            raise self._unavailable(error) from error

    async def store_content(self, content: bytes, key: str) -> None:
        try:
            await obstore.put_async(self._store, key, content, use_multipart=False)
        except (BaseError, FileNotFoundError) as error:
            raise self._unavailable(error) from error

    async def open(self, key: str, *, start: int = 0, stop: int | None = None) -> Content:
        options: GetOptions = {}
        if stop is not None:
            options["range"] = (start, stop)
        elif start:
            options["range"] = {"offset": start}
        with self._errors(key):
            if stop is not None and stop <= start:  # no range of S3 is empty
                return Content(file=_described(await obstore.head_async(self._store, key)), pieces=_nothing())
            found = await obstore.get_async(self._store, key, options=options)
        return Content(file=_described(found.meta), pieces=self._pieces(key, found))

    async def _pieces(self, key: str, found: obstore.GetResult) -> AsyncGenerator[bytes]:
        stream = found.stream(min_chunk_size=PIECE_BYTES)
        while True:
            with self._errors(key):
                try:
                    piece = await anext(stream)
                except StopAsyncIteration:
                    return
            yield bytes(piece)

    async def find(self, key: str) -> StoredFile | None:
        try:
            with self._errors(key):
                return _described(await obstore.head_async(self._store, key))
        except ContentLost:
            return None

    async def files(self, key: str) -> AsyncIterator[StoredFile]:
        stream = self._store.list(key, chunk_size=_LISTED)
        while True:
            with self._errors(key):
                try:
                    found = await anext(stream)
                except StopAsyncIteration:
                    return
            for meta in found:
                yield _described(meta)

    async def remove(self, key: str) -> None:
        found: list[str] = [key]
        async for file in self.files(key):
            found.append(file.key)
            if len(found) == _LISTED:
                await self._delete(found)
                found = []
        await self._delete(found)

    async def _delete(self, keys: list[str]) -> None:
        if keys:
            with self._errors(keys[0]), suppress(FileNotFoundError):
                await obstore.delete_async(self._store, keys)

    async def check(self) -> None:
        await self.store_content(b"graticule", _PROBE)

    def path_of(self, key: str) -> Path | None:
        return None

    def signed_url(self, key: str, *, seconds: int) -> str | None:
        with self._errors(key):
            return obstore.sign(self._store, "GET", key, timedelta(seconds=seconds))

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Turn what the library raises into our errors; what it says in full is for the log, it names addresses."""
        try:
            yield
        except FileNotFoundError as error:
            if _NO_BUCKET not in str(error):
                raise ContentLost(key) from error
            raise self._unavailable(error) from error
        except BaseError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        text = str(error)
        found = _REASON.search(text)
        code, message = (found["code"], found["message"] or "") if found else ("", "")
        # The rest of the document repeats what was signed.
        log.warning("storage: %s %s %s", text.partition("\n")[0].partition("<?xml")[0].strip(), code, message)
        named = f" ({code})" if code else ""
        if code in _REFUSALS:
            reason, setting = _REFUSALS[code]
            return StorageUnavailable(reason.format(bucket=self._bucket.name) + named, setting)
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or any(word in text for word in _REFUSED):
            return StorageUnavailable(f"the storage refuses the key of this service{named}", _KEYS)
        return StorageUnavailable(f"the storage does not answer as it should{named}", "storage.endpoint")


def _described(meta: ObjectMeta) -> StoredFile:
    return StoredFile(
        key=meta["path"], size=meta["size"], etag=meta["e_tag"] or "", modified=meta["last_modified"].timestamp()
    )


async def _read(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
    finally:
        file.close()


async def _nothing() -> AsyncGenerator[bytes]:
    return
    yield b""
