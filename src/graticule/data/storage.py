"""Where results, logs and uploads are kept: what a storage promises. ``storages/`` holds one file per kind."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Storage(Protocol):
    """Keeps files under keys: relative paths with ``/``, the first segment a workspace.

    Its methods block; callers on an event loop use a thread.
    """

    def store_folder(self, source: Path, key: str) -> None:
        """Take all files of a finished folder, at once and durably; the source is gone afterwards."""

    def check(self) -> None:
        """Raise OSError if nothing can be kept now."""

    def path_of(self, key: str) -> Path:
        """Return a local path to read a file from."""

    def exists(self, key: str) -> bool:
        """Return whether a file is kept under `key`."""

    def remove(self, key: str) -> None:
        """Remove a file or everything below a key; nothing happens if there is none."""
