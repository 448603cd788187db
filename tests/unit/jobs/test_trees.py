"""Process trees: real processes, killed however they hide."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from graticule.jobs import trees

FOREST = """
import ctypes, os, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
nap = "import os, time, sys\\nif os.fork(): os._exit(0)\\nos.setsid()\\nprint(os.getpid(), flush=True)\\ntime.sleep(60)"
for _ in range(3):
    subprocess.Popen([sys.executable, "-c", nap])
time.sleep(60)
"""
BOMB = """
import ctypes, os, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
os.setsid()
print("begun", flush=True)
while True:
    pid = os.fork()
    if pid == 0:
        time.sleep(0.01)
        if os.fork(): os._exit(0)
        time.sleep(60)
    time.sleep(0.002)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError:
        pass
"""
FAMILY = """
import os, time
held = bytearray(b"x") * (64 << 20)
for _ in range(3):
    if not os.fork():
        break
os.write(1, b"%d\\n" % os.getpid())
time.sleep(60)
"""


@pytest.fixture
def started(tmp_path):
    """Start a script; whatever is left of it is killed."""
    running = []

    def start(code: str) -> subprocess.Popen[str]:
        environment = {**os.environ, trees.MARK: str(tmp_path)}
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
    trees.kill_strays(tmp_path)


def living(pids):
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_a_tree_is_killed_with_what_detached_itself(started):
    process = started(FOREST)
    pids = [int(process.stdout.readline()) for _ in range(3)]
    assert {entry.pid for entry in trees.below(process.pid)} >= set(pids)

    trees.kill_tree(process.pid, trees.started(process.pid))

    assert process.wait(5) == -9
    assert living(pids) == []


def test_a_process_that_got_the_number_of_another_is_left_alone(started):
    process = started("import time; print(1, flush=True); time.sleep(60)")
    process.stdout.readline()

    trees.kill_tree(process.pid, trees.started(process.pid) - 1)

    assert process.poll() is None


def test_what_forks_without_end_is_killed_too(started, tmp_path):
    process = started(BOMB)
    process.stdout.readline()
    time.sleep(0.3)

    trees.kill_tree(process.pid, trees.started(process.pid))

    assert process.wait(5) == -9
    assert trees.kill_strays(tmp_path) == 0


def test_strays_are_known_by_their_mark(started, tmp_path):
    process = started("import time; print(1, flush=True); time.sleep(60)")
    process.stdout.readline()

    assert trees.kill_strays(tmp_path / "other") == 0
    assert trees.kill_strays(tmp_path) == 1
    assert process.wait(5) == -9


def test_strays_have_a_moment_to_end_by_themselves(started, tmp_path):
    process = started("import time; print(1, flush=True); time.sleep(0.3)")
    process.stdout.readline()

    assert trees.kill_strays(tmp_path, patience=5) == 0
    assert process.wait(5) == 0


def test_shared_memory_counts_once(started):
    process = started(FAMILY)
    pids = [int(process.stdout.readline()) for _ in range(4)]

    used = trees.memory_mib(pids, enough=0)

    trees.kill_tree(process.pid, trees.started(process.pid))
    assert 64 <= used < 128
