"""Keep files in a folder of this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


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
        root.mkdir(parents=True, exist_ok=True)

    def store_folder(self, source: Path, key: str) -> None:
        target = self.path_of(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
        _flush_folder(target)
        _flush_folder(target.parent)

    def check(self) -> None:
        with tempfile.TemporaryFile(dir=self._root) as file:
            file.write(b"graticule")
            file.flush()

    def path_of(self, key: str) -> Path:
        path = self._root / key
        if ".." in path.parts or not path.is_relative_to(self._root):
            raise ValueError(f"{key!r} leads out of the storage")
        return path

    def exists(self, key: str) -> bool:
        return self.path_of(key).exists()

    def remove(self, key: str) -> None:
        path = self.path_of(key)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk; files were flushed when they were written."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
