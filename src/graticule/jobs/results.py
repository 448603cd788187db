"""Where the files of a job lie in storage."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from graticule.data.storage import Storage
from graticule.jobs.job import JobKey, StoredValue


class ResultStore:
    """The files of jobs: outputs and logs, below one place per job.

    Parameters
    ----------
    storage : Storage
        Where they are kept.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def commit(self, key: JobKey, folder: Path, *, outputs: bool) -> None:
        """Store what a job left in its scratch folder, and remove the folder.

        Parameters
        ----------
        key : JobKey
            Whose files they are.
        folder : Path
            The scratch folder: ``outputs/``, ``logs/`` and ``process.log`` in it are kept, all else goes.
        outputs : bool
            False: only logs are kept, since the job was not successful.
        """
        names = ("outputs", "logs", "process.log") if outputs else ("logs", "process.log")
        found = [name for name in names if (folder / name).exists()]
        if found:
            kept = _kept(folder)
            kept.mkdir()
            for name in found:
                (folder / name).rename(kept / name)
            self._storage.store_folder(kept, _place(key))
        shutil.rmtree(folder, ignore_errors=True)

    def discard(self, key: JobKey, folder: Path) -> None:
        """Remove what is left of a job whose files could not be stored, in scratch and in storage."""
        for left in (folder, _kept(folder)):
            shutil.rmtree(left, ignore_errors=True)
        with contextlib.suppress(OSError):  # what refused the files may refuse this too
            self.remove(key)

    def path_of(self, key: JobKey, value: StoredValue) -> Path:
        """Return where the content of a kept value can be read."""
        return self._storage.path_of(f"{_place(key)}/outputs/{value.file}")

    def logs_of(self, key: JobKey) -> dict[str, Path]:
        """Return the logs that a job left, by step; ``process`` is what it printed."""
        place = self._storage.path_of(_place(key))
        found = {path.stem: path for path in sorted((place / "logs").glob("*.log"))} if place.is_dir() else {}
        if (place / "process.log").is_file():
            found = {"process": place / "process.log", **found}
        return found

    def remove_outputs(self, key: JobKey) -> None:
        """Remove the outputs of a job, but not its logs."""
        self._storage.remove(f"{_place(key)}/outputs")

    def remove(self, key: JobKey) -> None:
        """Remove all files of a job."""
        self._storage.remove(_place(key))


def _kept(folder: Path) -> Path:
    """Return where those files of a scratch folder gather that are stored."""
    return folder.parent / f"{folder.name}.kept"


def _place(key: JobKey) -> str:
    return f"{key.workspace}/jobs/{key.id}"
