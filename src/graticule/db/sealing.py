"""Seal secrets before they are kept in the database, so that whoever reads its file or a backup of it learns none."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken


class NotSealed(Exception):
    """Something was sealed with another key, or changed since."""


class Seal:
    """Seals and opens with one key.

    Parameters
    ----------
    key : bytes
        Any bytes that nobody guesses.
    """

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(key).digest()))

    def seal(self, content: bytes) -> bytes:
        """Return content as nobody can read it without the key; each time other bytes."""
        return self._fernet.encrypt(content)

    def open(self, sealed: bytes) -> bytes:
        """Return what was sealed.

        Raises
        ------
        NotSealed
            If it was sealed with another key, or changed since.
        """
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken as error:
            raise NotSealed from error


def fingerprint(key: bytes) -> str:
    """Return what tells keys apart and says nothing of the key."""
    return hmac.digest(key, b"graticule: fingerprint of the key of secrets", "sha256").hex()


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
