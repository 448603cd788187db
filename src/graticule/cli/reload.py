"""Serve again and again: a server in a process of its own, replaced when a file it was made from changes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from graticule.cli.show import print_note

_LOOK_S = 0.5


def serve_with_reload(arguments: Sequence[str], watched: Sequence[Path]) -> int:
    """
    Run ``graticule serve`` with these arguments until somebody stops it, replacing it when a file changes.

    Returns
    -------
    int
        The exit code of the last server.
    """
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    while True:
        seen = _stamps(watched)
        server = subprocess.Popen([sys.executable, "-m", "graticule", *arguments], start_new_session=True)
        # A server that could not start, e.g. for a slip of the pen, is started again after the next change.
        while not stopping and _stamps(watched) == seen:
            time.sleep(_LOOK_S)
        code = _ended(server)
        if stopping:
            return code
        print_note("graticule: files changed, serving again")


def _ended(server: subprocess.Popen[bytes]) -> int:
    if server.poll() is None:
        server.terminate()
    return server.wait()


def watched_files(plugins: Iterable[str], config: Path | None) -> list[Path]:
    """Return the files and folders that a server is made from."""
    found = [] if config is None else [config]
    for plugin in plugins:
        target = plugin.partition(":")[0]
        if target.endswith(".py"):
            found.append(Path(target))
            continue
        spec = find_spec(target.partition(".")[0])
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin)
            found.append(path.parent if path.name == "__init__.py" else path)
    return found


def _stamps(watched: Sequence[Path]) -> dict[Path, int]:
    """Return when each watched file was last written."""
    files = [file for path in watched for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    return {file: file.stat().st_mtime_ns for file in files if file.exists()}
