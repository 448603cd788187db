"""Processes that go wrong in every way that the job engine knows."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

from graticule import File, OutputFile, RunContext, process

HEARTBEAT = "import sys,time\nwhile True: open(sys.argv[1],'w').write(str(time.time())); time.sleep(0.02)"
DETACHED = f"""
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.chdir("/")
os.closerange(0, 64)
{HEARTBEAT}
"""


@process
def well(word: str = "well") -> str:
    """End well."""
    return word


@process
def faulty(how: str, *, context: RunContext) -> str:
    """Go wrong in the way that is asked for."""
    print(f"about to {how}", flush=True)
    (context.folder / "left.tmp").write_bytes(bytes(1000))
    if how == "raise":
        raise ValueError("bad luck")
    if how == "tell secrets":
        print("password=hunter2 and Authorization: Bearer abcdefghij", flush=True)
        raise ValueError("https://ada:hunter2@example.org/x.tif?X-Amz-Signature=0123abcd failed")
    if how == "exit":
        sys.exit(7)
    if how == "crash":
        ctypes.string_at(0)
    if how == "be killed":
        os.kill(os.getpid(), 9)
    if how == "fill the disk":
        with (context.folder / "full").open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
    if how.endswith("close a folder"):
        (context.folder / "closed").mkdir()
        (context.folder / "closed" / "file").write_bytes(bytes(1000))
        (context.folder / "closed").chmod(0o500)
    if how.startswith("wait"):
        context.report(50)
        time.sleep(60)
    return "nothing went wrong"


@process
def hungry(mebibytes: int) -> int:
    """Hold memory for a while."""
    held = bytearray(mebibytes << 20)
    for start in range(0, len(held), 4096):
        held[start] = 1
    time.sleep(30)
    return len(held)


@process
def hoarding(mebibytes: int, *, context: RunContext) -> str:
    """Fill the folder, then wait."""
    (context.folder / "hoard").write_bytes(bytes(mebibytes << 20))
    time.sleep(30)
    return "full"


@process
def chatty(pause: float = 0.001) -> str:
    """Print without end."""
    while True:
        print("and another thing " * 200)
        time.sleep(pause)


@process
def undeclared() -> str:
    """Return something else than is declared."""
    return {"not": "text"}  # type: ignore[return-value]


@process
def unwritten(*, context: RunContext) -> OutputFile:
    """Name an output file that is not there."""
    return OutputFile(context.folder / "never.tif", media_type="image/tiff")


@process
def filed(*, context: RunContext) -> OutputFile:
    """Write a file."""
    path = context.folder / "content.bin"
    path.write_bytes(bytes(1 << 20))
    return OutputFile(path, media_type="application/x-test")


@process
def reading(file: File) -> int:
    """Return the size of a file."""
    return file.path.stat().st_size


@process
def stubborn(heartbeat: str, native: bool = True) -> str:
    """Ignore SIGTERM in native code, below it a grandchild that has detached itself and writes a heartbeat."""
    libc = ctypes.PyDLL(None)  # calls keep the interpreter's lock, so no handler of a signal runs
    libc.signal(15, 1)
    subprocess.Popen([sys.executable, "-c", DETACHED, heartbeat])
    while not Path(heartbeat).exists():
        time.sleep(0.01)
    if native:
        libc.sleep(60)
    return "outlived"


@process
def hidden(heartbeat: str) -> str:
    """Start a grandchild that has detached itself, and whose environment names nobody."""
    subprocess.Popen([sys.executable, "-c", DETACHED, heartbeat], env={})
    time.sleep(60)
    return "outlived"


@process
def forsaken(heartbeat: str, how: str) -> str:
    """Go wrong, or end well, but leave a grandchild that writes into the folder of the job."""
    subprocess.Popen([sys.executable, "-c", DETACHED, heartbeat])
    while not Path(heartbeat).exists():
        time.sleep(0.01)
    if how == "raise":
        raise ValueError("bad luck")
    if how == "be killed":
        os.kill(os.getpid(), 9)
    return "well"
