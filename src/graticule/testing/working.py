"""Processes that the contract of executors runs: well-behaved ones and others."""
# ruff: noqa: T201 - what a process prints is its log

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Listener
from pathlib import Path

from graticule import OutputFile, RunContext, process

_HEARTBEAT = """
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
while True:
    with open(sys.argv[1], "w") as file:
        file.write(str(time.time()))
    time.sleep(0.02)
"""


@process
def greet(name: str) -> str:
    """Return a greeting, and print it."""
    print(f"greeting {name}")
    return f"Hello {name}"


@process
def write(kibibytes: int, *, context: RunContext) -> OutputFile:
    """Write a file of a size."""
    path = context.folder / "written.bin"
    path.write_bytes(bytes(kibibytes << 10))
    return OutputFile(path, media_type="application/octet-stream")


@process
def advance(steps: int, seconds: float, *, context: RunContext) -> int:
    """Take some steps, and tell of each."""
    for step in range(steps):
        context.report(step * 100 // steps, f"step {step}")
        time.sleep(seconds)
    return steps


@process
def break_down(how: str) -> str:
    """Print a line, then raise, end or crash."""
    print(f"about to {how}", flush=True)
    if how == "raise":
        raise ValueError("bad luck")
    if how == "exit":
        os._exit(7)
    if how == "crash":
        ctypes.string_at(0)
    if how == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return how


@process
def resist(heartbeat: str) -> str:
    """Ignore SIGTERM in native code; below it, a grandchild that has detached itself writes a heartbeat."""
    libc = ctypes.PyDLL(None)  # its calls keep the interpreter's lock, so that no handler of a signal runs
    libc.signal(int(signal.SIGTERM), 1)
    subprocess.Popen([sys.executable, "-c", _HEARTBEAT, heartbeat])
    while not Path(heartbeat).exists():
        time.sleep(0.01)
    libc.sleep(60)
    return "outlived"


@process
def leave(what: str, seconds: float) -> str:
    """End after a while, and leave a child, or a thread, that goes on."""
    print("once")
    if what.startswith("child"):
        subprocess.Popen(["sleep", "60"])
    else:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    time.sleep(seconds)
    if what == "child and failure":
        raise ValueError("bad luck")
    return what


@process
def put_away(how: str, *, context: RunContext) -> list:  # type: ignore[type-arg]
    """Leave temporary files, then end or go wrong; return where they lie, what lay there before, and who runs it."""
    place = Path(tempfile.gettempdir())
    found = sorted(path.name for path in place.iterdir())
    print(place.resolve(), flush=True)
    variables = {os.environ[name] for name in ("TMPDIR", "TEMP", "TMP", "CPL_TMPDIR")}
    held = tempfile.NamedTemporaryFile()  # noqa: SIM115 - as libraries hold them
    if how != "tidy up":
        folder = Path(tempfile.mkdtemp())
        (folder / "a").write_text("42")
        folder.chmod(0o500)
        Listener(family="AF_UNIX").close()  # its name must not be too long for a socket
    if how == "change":
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    if how in ("raise", "be killed"):
        break_down(how)
    if how == "be dismissed":
        context.report(50)
        time.sleep(60)
    held.close()
    return [str(place.resolve()), found, os.getpid(), variables == {str(place)}]


@process
def take(what: str, mebibytes: int, *, context: RunContext) -> str:
    """Take memory or disk, or print, then wait."""
    if what == "memory":
        held = bytearray(b"x") * (mebibytes << 20)
    elif what == "disk":
        (context.folder / "taken").write_bytes(bytes(mebibytes << 20))
    elif what == "temporary files":
        Path(tempfile.mkdtemp(), "taken").write_bytes(bytes(mebibytes << 20))
    else:
        for _ in range(mebibytes << 10):
            print("x" * 1023)
    time.sleep(30)
    return f"kept {len(held) if what == 'memory' else mebibytes}"
