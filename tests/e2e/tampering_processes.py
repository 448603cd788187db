"""A process that does what no process should: to what it runs in, and to what connects that to the server."""

from __future__ import annotations

import builtins
import gc
import json
import locale
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import rasterio  # noqa: F401 - it sets variables, and the fork server imports it sooner or later: so every look has them

from graticule import RunContext, process

_kept: list[object] = []


@process
def tamper(name: str, marks: str, how: str = "", *, context: RunContext) -> str:
    """Leave a line in a file, do what is asked for, and return the name, or how the process is."""
    with Path(marks).open("a") as file:
        file.write(f"{name}\n")
    if how == "look":
        return _look()
    for part in ("fork", "steal", "leave", "end", "print"):
        if how.startswith(part):
            globals()[f"_{part}"](how, context)
    return name


def _look() -> str:
    """Return what the process is like, some time later: a timer would have gone off."""
    time.sleep(0.02)
    return json.dumps(
        {
            "handlers": [str(signal.getsignal(number)).split(" at ")[0] for number in range(1, 32)],
            "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "nice": os.nice(0),
            "umask": Path("/proc/self/status").read_text().split("Umask:")[1].split()[0],
            "folder": Path.cwd().name.isdigit(),
            # The folder for temporary files is each process's own.
            "environment": {
                name: value.replace(tempfile.gettempdir(), "its own") for name, value in os.environ.items()
            },
            "trace": str(sys.gettrace()),
            "locale": locale.setlocale(locale.LC_ALL, None),
            "limit": resource.getrlimit(resource.RLIMIT_CPU),
            "streams": [sys.stdout.name, sys.stderr.name],
            "import": builtins.__import__.__name__,
            "interpreter": [sys.getrecursionlimit(), gc.isenabled(), socket.getdefaulttimeout(), sys.path],
            "processors": sorted(os.sched_getaffinity(0)),
            "zone": time.tzname,
            "files": [str(entry.readlink()) for entry in _open_files() if "left" in entry.readlink().name],
        }
    )


def _open_files() -> list[Path]:
    return [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]


def _fork(how: str, context: RunContext) -> None:
    if os.fork() != 0:
        return
    if how == "fork and exit":
        sys.exit(0)
    if how == "fork and raise":
        raise ValueError("in the fork")
    if how == "fork and report":
        context.report(50, "from the fork")
    if how == "fork and steal":
        _steal_for(0.1)
        os._exit(0)


def _steal(how: str, _context: RunContext) -> None:
    if how == "steal in a thread":
        threading.Thread(target=_steal_for, args=(0.1,), daemon=True).start()
    else:
        _steal_for(0.002)


def _sockets() -> list[int]:
    numbers = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    return [n for n in numbers if n > 2 and Path(f"/proc/self/fd/{n}").is_socket()]


def _steal_for(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for number in _sockets():
            try:
                with socket.socket(fileno=os.dup(number)) as copy:
                    copy.recv(1 << 16, socket.MSG_DONTWAIT)
            except OSError:
                pass
        time.sleep(0.0005)


def _print(how: str, _context: RunContext) -> None:
    """Print, and have descriptors 1 and 2 lead elsewhere: to a file, or a pipe whose other end stays open."""
    print("before", flush=True)
    target = how.removeprefix("print to ")
    if target == "a pipe":
        kept, opened = os.pipe()
        _kept.append(kept)
    elif target == "the log":
        return
    else:
        opened = os.open(target, os.O_WRONLY)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    os.close(opened)


def _leave(how: str, context: RunContext) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    actions: dict[str, Callable[[], object]] = {
        "timer": lambda: signal.setitimer(signal.ITIMER_REAL, 0.01),
        "alarm handler": lambda: (signal.signal(signal.SIGALRM, _raise), signal.setitimer(signal.ITIMER_REAL, 0.01)),
        "handler": lambda: [signal.signal(number, _raise) for number in (signal.SIGUSR1, signal.SIGTERM)],
        "mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2}),
        "nice": lambda: os.nice(1),
        "umask": lambda: os.umask(0o001),
        "folder": lambda: os.chdir("/"),
        "environment": lambda: os.environ.update(LEFT="behind"),
        "trace": lambda: sys.settrace(lambda *_: None),
        "locale": lambda: locale.setlocale(locale.LC_ALL, "C"),
        "limit": lambda: resource.setrlimit(resource.RLIMIT_CPU, (3600, hard)),
        "stream": lambda: setattr(sys, "stdout", Path(os.devnull).open("w")),  # noqa: SIM115 - left open
        "import": lambda: setattr(builtins, "__import__", _own_import(builtins.__import__)),
        "recursion": lambda: sys.setrecursionlimit(200),
        "collector": gc.disable,
        "patience": lambda: socket.setdefaulttimeout(0.001),
        "path": sys.path.clear,
        "modules": sys.modules.clear,
        "processor": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        "zone": lambda: (os.environ.update(TZ="Asia/Tokyo"), time.tzset()),
        "file": lambda: _kept.append((context.folder / "left").open("w")),
    }
    actions[how.removeprefix("leave ")]()


def _own_import(importing: Callable[..., object]) -> Callable[..., object]:
    def refusing(name: str, *arguments: object) -> object:
        if name.startswith("graticule"):
            raise ImportError(name)
        return importing(name, *arguments)

    return refusing


def _raise(*_: object) -> None:
    raise RuntimeError("a handler of another job")


def _end(how: str, _context: RunContext) -> None:
    if how == "end by a signal":
        os.kill(os.getpid(), signal.SIGTERM)
    elif how == "end by garbage":
        threading.Thread(target=_write_garbage, daemon=True).start()
    else:
        os._exit(3)


def _write_garbage() -> None:
    time.sleep(0.005)
    for number in _sockets():
        try:
            os.set_blocking(number, False)
            os.write(number, b'{"x": "garbage"}\n\x00\xff' * 3)
        except OSError:
            pass
    time.sleep(0.5)
