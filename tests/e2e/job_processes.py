"""Processes that behave badly in every way, for the tests of jobs."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from graticule import OutputFile, RunContext, process


@process(version="1.0.0")
def nap(seconds: float, *, context: RunContext) -> str:
    """Sleep and say so."""
    for step in range(10):
        context.report(step * 10, f"step {step}")
        time.sleep(seconds / 10)
    return "rested"


@process
def mark(name: str, marks: str, seconds: float = 0.0) -> str:
    """Leave a line in a file; the first thing it does."""
    with Path(marks).open("a") as file:
        file.write(f"{name}\n")
    time.sleep(seconds)
    return name


@process
def tight_lipped() -> str:
    """Close standard output and error, as a daemon does, after one last word."""
    print("the last word")
    sys.stdout.flush()
    os.close(1)
    os.close(2)
    return "closed"


@process(job_control=["sync-execute"])
def only_now(seconds: float) -> str:
    """Run synchronously alone."""
    time.sleep(seconds)
    return "done"


@process(job_control=["async-execute", "dismiss"])
def only_later(word: str) -> str:
    """Run asynchronously alone."""
    return word


@process
def crash(how: str) -> str:
    """End in the way that is asked for."""
    print(f"about to {how}")
    if how == "raise":
        raise ValueError("bad luck")
    if how == "exit":
        raise SystemExit(7)
    if how == "_exit":
        os._exit(7)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "undeclared":
        return {"not": "text"}  # type: ignore[return-value]
    return how


@process
def stubborn(heartbeat: str) -> str:
    """Ignore SIGTERM, and leave a grandchild in a session of its own that writes a heartbeat."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = "import sys,time\nwhile True: open(sys.argv[1],'w').write(str(time.time())); time.sleep(0.05)"
    subprocess.Popen([sys.executable, "-c", code, heartbeat], start_new_session=True)
    while True:
        time.sleep(1)


@process
def chatter(lines: int) -> int:
    """Print lines, from Python and from a child."""
    for number in range(lines):
        print(f"line {number}")
    subprocess.run(["echo", "a child's line"], check=True)
    return lines


@process
def who_am_i() -> dict:  # type: ignore[type-arg]
    """Tell the process's identity and environment."""
    return {"pid": os.getpid(), "cwd": str(Path.cwd()), "environment": dict(os.environ)}


@process(fresh=True)
def always_new() -> int:
    """Tell the number of the process, which runs nothing else."""
    return os.getpid()


@process
def litter(name: str) -> list:  # type: ignore[type-arg]
    """Write beside the folder, change the environment, and tell what an earlier job left."""
    found = [*sorted(entry.name for entry in Path.cwd().iterdir()), os.environ.get("LITTER", "")]
    Path(name).write_text("x")
    os.environ["LITTER"] = name
    return found


@process
def orphan(heartbeat: str) -> str:
    """End well, but leave a grandchild in a session of its own that writes a heartbeat."""
    code = "import sys,time\nwhile True: open(sys.argv[1],'w').write(str(time.time())); time.sleep(0.05)"
    subprocess.Popen([sys.executable, "-c", code, heartbeat], start_new_session=True)
    while not Path(heartbeat).exists():
        time.sleep(0.02)
    return "gone"


@process
def hoard(megabytes: int, *, context: RunContext) -> str:
    """Fill the folder, then wait."""
    (context.folder / "hoard").write_bytes(bytes(megabytes << 20))
    time.sleep(20)
    return "full"


@process
def big(megabytes: float, kind: str, *, context: RunContext) -> OutputFile:
    """Write a file of a size."""
    path = context.folder / "big.bin"
    with path.open("wb") as file:
        for _ in range(int(megabytes * 16)):
            file.write(bytes(range(256)) * 256)
    return OutputFile(path, media_type=kind)


@process
def named(name: str, *, context: RunContext) -> OutputFile:
    """Write a file of a name."""
    path = context.folder / name
    path.write_bytes(b"content")
    return OutputFile(path, media_type="application/x-test")


@process
def hungry(megabytes: int) -> int:
    """Hold memory for a while."""
    held = bytearray(megabytes << 20)
    for start in range(0, len(held), 4096):
        held[start] = 1
    time.sleep(20)
    return len(held)


@process
def die_once(marks: str) -> str:
    """Be killed the first time, as by the kernel; a line in a file tells the times apart."""
    path = Path(marks)
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(path.read_text().split()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "lived"
