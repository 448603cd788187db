"""Seal secrets before they are kept in the database, so that whoever reads its file or a backup of it learns none.

Python's own library has keyed hashes and no cipher, so the cipher is made of the hash: HMAC-SHA256 of a nonce and a
counter gives the key stream, and a second key signs nonce and content (encrypt, then authenticate). Decision 0032.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

_VERSION = b"\x01"
_NONCE_BYTES = 16
_TAG_BYTES = 32


class NotSealed(Exception):
    """Something was sealed with another key, or changed since."""


class Seal:
    """Seals and opens with one key.

    Parameters
    ----------
    key : bytes
        Any bytes that nobody guesses; the two keys of the cipher are derived from it.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = hmac.digest(key, b"graticule cipher", hashlib.sha256)
        self._signer = hmac.digest(key, b"graticule signer", hashlib.sha256)

    def seal(self, content: bytes) -> bytes:
        """Return content as nobody can read it without the key; each time other bytes."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = _VERSION + nonce + self._mixed(nonce, content)
        return sealed + hmac.digest(self._signer, sealed, hashlib.sha256)

    def open(self, sealed: bytes) -> bytes:
        """Return what was sealed.

        Raises
        ------
        NotSealed
            If it was sealed with another key, or changed since.
        """
        body, tag = sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:]
        genuine = hmac.compare_digest(tag, hmac.digest(self._signer, body, hashlib.sha256))
        if not genuine or not body.startswith(_VERSION):
            raise NotSealed
        start = len(_VERSION) + _NONCE_BYTES
        return self._mixed(body[len(_VERSION) : start], body[start:])

    def _mixed(self, nonce: bytes, content: bytes) -> bytes:
        """Combine content with the key stream of a nonce; twice gives the content again."""
        blocks = (len(content) + 31) // 32
        stream = b"".join(
            hmac.digest(self._cipher, nonce + number.to_bytes(8, "big"), hashlib.sha256) for number in range(blocks)
        )
        mixed = int.from_bytes(content, "big") ^ int.from_bytes(stream[: len(content)], "big")
        return mixed.to_bytes(len(content), "big")


def key_of_home(path: Path) -> bytes:
    """Return the key in a file that its owner alone may read; it is made when there is none.

    It is written beside its place and linked there, so that a server killed meanwhile leaves a whole key or none.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(32))
        file.flush()
        os.fsync(descriptor)
    unfinished.replace(path)
    return path.read_bytes()
