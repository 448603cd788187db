"""Where a service keeps files: opened, tried, and the same for all that share a ledger, as is the key of secrets."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import uuid
from urllib.parse import urlsplit

from graticule.data.storage import Kept, Storage, read_all
from graticule.data.storages.local import LocalStorage
from graticule.db.sealing import fingerprint
from graticule.errors import ContentLost, InvalidSetting, StorageUnavailable
from graticule.jobs.ledger import Ledger
from graticule.runtime.home import storage_folder
from graticule.settings import Settings

log = logging.getLogger("graticule")

_MARK_S = 2
"""Seconds to wait for the mark of a storage that another server is about to write."""
STAGING = ".staging"
"""Folder of uploads that are being sent, in that of the storage; no workspace has such a name."""
_STORAGE_MARK = ".graticule"
"""Key of what tells one storage from another."""
_PROBES = ".probes"
"""What the keys of files begin with by which storage is tried."""


def _make_storage(settings: Settings) -> Storage:
    chosen = settings.storage
    if not chosen.url:
        return LocalStorage(storage_folder(settings))
    from graticule.data.storages.s3 import Bucket, S3Storage  # its library costs 16 MiB that a folder need not pay

    place = urlsplit(chosen.url)
    return S3Storage(
        Bucket(
            name=place.netloc,
            prefix=place.path.strip("/"),
            endpoint=chosen.endpoint,
            region=chosen.region,
            access_key_id=chosen.access_key_id,
            secret_access_key=chosen.secret_access_key,
        )
    )


async def open_storage(settings: Settings) -> Storage:
    """Return the storage once a file was written there and read back; a service that cannot is of no use."""
    storage = _make_storage(settings)
    probe = Kept(storage=storage, key=f"{_PROBES}/{uuid.uuid4().hex}")
    content = os.urandom(64)
    try:
        # Uploads gather there, wherever they are kept afterwards.
        await asyncio.to_thread(storage_folder(settings).mkdir, parents=True, exist_ok=True)
        await storage.store_content(content, probe.key)
        if await read_all(probe) != content:
            raise InvalidSetting("storage.url", "a file that was written there is another one when it is read back")
        await storage.remove(probe.key)
    except OSError as error:
        raise InvalidSetting("storage.folder", f"it cannot be made: {error.strerror or error}") from error
    except StorageUnavailable as error:
        reason = f"{error.reason}: a small file could not be written and read back"
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"{reason}; {_full(settings)}"
        raise InvalidSetting(error.setting, reason) from error
    except ContentLost as error:
        raise InvalidSetting(
            "storage.url", "a file that was written there is not there when it is read back"
        ) from error
    return storage


def _full(settings: Settings) -> str:
    """Return what to do about a full disk while no server runs that could remove jobs."""
    spare = [settings.home / "samples", *settings.home.glob("*.before-*")]
    found = " and ".join(str(path) for path in spare if path.exists())
    own = (
        f" ({found} can be spared: sample data is made again, and copies of a database are from before it was migrated)"
    )
    return (
        f"free some MiB of the disk of {storage_folder(settings)}{own if found else ''} and leave all else in there; "
        "then start, and remove jobs that have ended (graticule dismiss --status failed)"
    )


async def check_shared(ledger: Ledger, storage: Storage, settings: Settings) -> None:
    """Refuse a storage or a key that is not that of the other servers and workers of this database."""
    await _check_storage(ledger, storage, settings)
    await _check_key(ledger, settings)


async def _check_storage(ledger: Ledger, storage: Storage, settings: Settings) -> None:
    """Refuse a storage that is not the one which the other servers and workers of this database use."""
    mark = Kept(storage=storage, key=_STORAGE_MARK)
    mine, proposed = await _read_mark(mark), uuid.uuid4().hex
    theirs = await ledger.mark("storage", mine or proposed)
    if mine is None and theirs == proposed:
        await storage.store_content(theirs.encode(), mark.key)
        return
    for _ in range(_MARK_S):  # whoever was first may be about to write it
        if mine is not None:
            break
        await asyncio.sleep(1)
        mine = await _read_mark(mark)
    if mine != theirs:
        place = settings.storage.url or storage_folder(settings)
        raise InvalidSetting(
            "storage.url" if settings.storage.url else "storage.folder",
            f"{place} is not the storage that the other servers of this database use; name one that all of them reach, "
            "the same for all",
        )


async def _check_key(ledger: Ledger, settings: Settings) -> None:
    """Refuse a key with which the secrets that the other servers of this database have sealed cannot be opened."""
    key = settings.security.secret_key
    if not key:  # that of the home: this server may be the only one, and then needs no other
        return
    mine = fingerprint(key.encode())
    if await ledger.mark("secret_key", mine) != mine:
        raise InvalidSetting(
            "security.secret_key",
            "it is not the key that the other servers of this database use; set the same on all of them",
        )


async def _read_mark(mark: Kept) -> str | None:
    try:
        return (await read_all(mark)).decode().strip()
    except ContentLost:
        return None
