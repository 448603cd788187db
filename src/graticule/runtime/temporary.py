"""Where the jobs of one job process have their temporary files: a folder in that of the job process.

Libraries ask for it once and remember it, and most jobs write nothing there. So it is made once for each process, while
the folder of a job is made by those jobs alone that ask for it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from graticule.data.removal import remove_tree

_VARIABLES = ("TMPDIR", "TEMP", "TMP", "CPL_TMPDIR")
"""Where libraries look for it; the last is GDAL's."""
_LONGEST = 75
"""Bytes that its name may have. Sockets have names of 107 bytes at most, of which multiprocessing adds 32."""


class TemporaryFolder:
    """A folder in the working folder, where all code that this process runs from now on puts temporary files."""

    def __init__(self) -> None:
        folder = Path.cwd() / "tmp"
        folder.mkdir(mode=0o700)
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._mark()
        # The other name is as good as long as this process lives, and what it starts ends with it.
        place = str(folder) if len(bytes(folder)) <= _LONGEST else f"/proc/{os.getpid()}/fd/{self._folder}"
        os.environ.update(dict.fromkeys(_VARIABLES, place))
        tempfile.tempdir = place  # else Python would look for another one when the disk is full

    def clear(self) -> bool:
        """Remove what a job has left; False if there was any, so that the process should run no further job.

        What was left is often what a library means to use again: multiprocessing has a folder of its own there.
        """
        try:
            found = self._state()
            if found == self._untouched:
                return True
            if found[:2] != self._untouched[:2]:  # a job has closed it, and opened another one
                return False
            here = Path(f"/proc/self/fd/{self._folder}")
            here.chmod(0o700)
            left = os.listdir(self._folder)  # noqa: PTH208 - of what is open, whatever it is called now
            for name in left:
                remove_tree(here / name)
            self._mark()
        except OSError:
            return False
        return not left

    def _mark(self) -> None:
        """Have every change of the folder be seen."""
        os.utime(self._folder, ns=(0, 0))  # any change gives it a later time
        self._untouched = self._state()

    def _state(self) -> tuple[int, ...]:
        found = os.fstat(self._folder)
        return found.st_dev, found.st_ino, found.st_mode, found.st_mtime_ns
