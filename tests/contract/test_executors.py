"""Every kind of executor keeps the same promises.

Those of this machine hand one job after the other to their job processes, which run each once and lose none.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from graticule.jobs.cgroups import find_groups
from graticule.jobs.executor import Assignment
from graticule.jobs.executors import local
from graticule.jobs.executors.inline import InlineExecutor
from graticule.jobs.executors.local import LocalExecutor, LocalLimits
from graticule.jobs.job import Failure
from graticule.jobs.messages import ProcessRef
from graticule.ogc.processes import Limits
from graticule.runtime.child import Attempts, describe
from graticule.testing.executor import ExecutorContract, IsolatingExecutorContract, Told, assignment, until
from graticule.testing.ledger import job

pytestmark = pytest.mark.anyio


class TestInlineExecutor(ExecutorContract):
    @pytest.fixture
    async def executor(self, tmp_path: Path) -> AsyncIterator[InlineExecutor]:
        executor = InlineExecutor(tmp_path / "scratch", Attempts, describe)
        yield executor
        await executor.close()


class TestLocalExecutor(IsolatingExecutorContract):
    @pytest.fixture
    async def executor(self, tmp_path: Path) -> AsyncIterator[LocalExecutor]:
        executor = LocalExecutor(tmp_path / "scratch", LocalLimits(workers=2))
        yield executor
        await executor.close()


PROCESS = '''
import _thread, os, signal, sys, threading, time
from graticule import RunContext, process

@process
def work(name: str, marks: str, seconds: float = 0.0, how: str = "", *, context: RunContext) -> str:
    """Leave a mark, then work, fail or crash."""
    with open(marks, "a") as file:
        file.write(name + "\\n")
    time.sleep(seconds)
    if how == "fail":
        raise ValueError("as asked")
    if how == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(3)
    if how == "linger":
        def later():
            time.sleep(0.1)
            with open(marks, "a") as file:
                file.write("late\\n")
            print("said too late", flush=True)
            context.report(50, "told too late")
        threading.Thread(target=later, daemon=True).start()
    if how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "fork":
        os.fork()
    if how == "exit in a fork" and os.fork() == 0:
        sys.exit(4)
    if how == "report in a fork" and os.fork() == 0:
        context.report(66, "from a fork")
        os._exit(0)
    if how == "pry on":
        def read():
            for _ in range(1200):
                for number in sockets:
                    try:
                        os.read(number, 1 << 16)
                    except OSError:
                        pass
                time.sleep(0.0005)
        sockets = [number for number in range(3, 60) if os.path.exists(f"/proc/self/fd/{number}")]
        sockets = [number for number in sockets if os.readlink(f"/proc/self/fd/{number}").startswith("socket")]
        for number in sockets:
            os.set_blocking(number, False)
        _thread._count = lambda: 0  # as for a thread of native code
        _thread.start_new_thread(read, ())
        time.sleep(0.02)
    if how in ("scribble", "pry"):
        for number in range(3, 60):
            try:
                os.set_blocking(number, False)
                os.write(number, b"garbage\\n") if how == "scribble" else os.read(number, 1 << 16)
            except OSError:
                pass
    return name
'''


JOBS = 500
"""What a job process may run before it is thrown away."""


def job_process() -> psutil.Process:
    """Return the one job process of the one executor."""
    (forkserver,) = [one for one in psutil.Process().children() if "forkserver" in " ".join(one.cmdline())]
    (child,) = forkserver.children()
    return child


class Bench:
    """An executor with one job process, and jobs for it."""

    def __init__(self, folder: Path, executor: LocalExecutor) -> None:
        self.executor = executor
        self.told = Told()
        self.marks_file = folder / "marks"
        self._ref = ProcessRef(target=str(folder / "work.py"), id="work")

    @property
    def marks(self) -> list[str]:
        return self.marks_file.read_text().split() if self.marks_file.exists() else []

    def assignment(self, name: str, **inputs: Any) -> Assignment:
        request = json.dumps({"inputs": {"name": name, "marks": str(self.marks_file), **inputs}})
        return Assignment(job=job(name, request=request.encode()), ref=self._ref)

    def start(self, name: str, **inputs: Any) -> None:
        self.executor.start(self.assignment(name, **inputs), self.told)

    def start_ahead(self, name: str, **inputs: Any) -> bool:
        return self.executor.start_ahead(self.assignment(name, **inputs), self.told)

    async def warm_up(self) -> None:
        """Have jobs of this kind known to be short: the first ones are not, nor is any while the machine is busy."""
        for number in range(JOBS - 1):
            self.start(f"warm-{number}")
            known = self.start_ahead(f"probe-{number}")
            await self.told.hears_the_end_of(f"warm-{number}")
            if known:
                await self.told.hears_either_way(f"probe-{number}")
                break
        self.marks_file.unlink()
        self.told.said.clear()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "work.py").write_text(PROCESS)
    limits = LocalLimits(workers=1, recycle_jobs=JOBS, short_s=0.012, tiny_s=0.012)  # for busy machines
    executor = LocalExecutor(tmp_path / "scratch", limits)
    bench = Bench(tmp_path, executor)
    await bench.warm_up()
    yield bench
    await executor.close()


async def test_jobs_handed_ahead_run_once_each_and_in_turn(bench: Bench):
    bench.start("first", seconds=0.02)
    assert all(bench.start_ahead(f"next-{number}") for number in range(5))

    await bench.told.hears_the_end_of("next-4")

    names = [f"next-{number}" for number in range(5)]
    assert bench.marks == ["first", *names]
    assert [name for what, name in bench.told.said if what == "began"] == names
    assert all(bench.told.endings[name].failure is None for name in names)
    assert bench.executor.free == 1


async def test_nothing_is_handed_ahead_of_a_kind_that_is_not_known_to_be_short(tmp_path: Path):
    (tmp_path / "work.py").write_text(PROCESS)
    executor = LocalExecutor(tmp_path / "scratch", LocalLimits(workers=1))
    bench = Bench(tmp_path, executor)
    bench.start("first", seconds=0.2)

    assert bench.executor.room_ahead == 0
    assert not bench.start_ahead("second")

    await bench.told.hears_the_end_of("first")
    await executor.close()


async def test_room_ahead_is_told_while_jobs_are_short(bench: Bench):
    room = bench.executor.room_ahead
    assert room > 0
    bench.start("long", seconds=3)
    assert bench.start_ahead("short")
    assert bench.executor.room_ahead == room - 1

    await until(lambda: ("returned", "short") in bench.told.said, seconds=2)

    assert bench.executor.room_ahead == 0
    await bench.told.hears_the_end_of("long")


async def test_a_job_handed_ahead_of_a_long_one_is_given_back(bench: Bench):
    bench.start("long", seconds=3)
    assert bench.start_ahead("short")

    await until(lambda: ("returned", "short") in bench.told.said, seconds=2)

    assert not bench.start_ahead("another"), "jobs of this kind are not short any more"
    await bench.told.hears_the_end_of("long")
    assert bench.marks == ["long"]


async def test_a_job_that_is_taken_back_never_begins(bench: Bench):
    bench.start("first", seconds=0.03)
    assert bench.start_ahead("unwanted")
    assert bench.start_ahead("wanted")

    assert bench.executor.recall("unwanted")

    await bench.told.hears_the_end_of("first", "wanted")
    given_back = ("returned", "wanted") in bench.told.said  # where the machine is busy, for it had waited too long
    assert bench.marks == (["first"] if given_back else ["first", "wanted"])
    assert not bench.executor.recall("unwanted")


async def test_a_job_that_has_begun_cannot_be_taken_back_but_stopped(bench: Bench):
    bench.start("first")
    assert bench.start_ahead("second", seconds=20)
    time.sleep(0.3)  # noqa: ASYNC251 - the agent hears nothing of what its job process does

    assert not bench.executor.recall("second")
    bench.executor.stop("second", Failure(cause="cancelled", detail="as asked"))

    await bench.told.hears_the_end_of("first", "second")
    failure = bench.told.endings["second"].failure
    assert bench.told.endings["first"].failure is None
    assert failure is not None
    assert failure.cause == "cancelled"


async def test_stopping_a_job_gives_back_what_was_handed_ahead_of_its_end(bench: Bench):
    bench.start("stopped", seconds=20)
    assert bench.start_ahead("next")
    await until(lambda: bench.marks == ["stopped"])

    bench.executor.stop("stopped", Failure(cause="cancelled", detail="as asked"))

    await bench.told.hears_the_end_of("stopped")
    assert ("returned", "next") in bench.told.said
    assert bench.marks == ["stopped"]


async def test_a_job_that_is_stopped_before_its_process_took_it_up_never_begins(bench: Bench):
    process = job_process()
    process.suspend()
    bench.start("stopped")

    bench.executor.stop("stopped", Failure(cause="cancelled", detail="as asked"))
    await asyncio.sleep(0.1)
    process.resume()

    await bench.told.hears_the_end_of("stopped")
    failure = bench.told.endings["stopped"].failure
    assert failure is not None
    assert failure.cause == "cancelled"
    assert bench.marks == []


async def test_stopping_a_job_that_has_just_ended_stops_no_other(bench: Bench):
    bench.start("first")
    assert bench.start_ahead("second", seconds=0.3)
    time.sleep(0.1)  # noqa: ASYNC251 - the agent hears nothing of what its job process does

    bench.executor.stop("first", Failure(cause="cancelled", detail="as asked"))

    await bench.told.hears_the_end_of("first", "second")
    assert bench.told.endings["first"].failure is None
    assert bench.told.endings["second"].failure is None
    assert bench.marks == ["first", "second"]


async def test_a_job_that_ends_its_process_by_sigterm_was_not_dismissed(bench: Bench):
    bench.start("ending itself", how="term")
    assert bench.start_ahead("next")

    await bench.told.hears_the_end_of("ending itself")
    await bench.told.hears(("returned", "next"))

    failure = bench.told.endings["ending itself"].failure
    assert failure is not None
    assert failure.cause == "process error"
    assert "ended by SIGTERM" in failure.detail


@pytest.mark.parametrize("how", ["fork", "exit in a fork", "report in a fork"])
async def test_a_fork_speaks_for_no_job_and_runs_none(bench: Bench, how: str):
    for number in range(10):
        bench.told.said.clear()
        bench.start(f"forking-{number}", how=how)
        ahead = [name for name in (f"a-{number}", f"b-{number}") if bench.start_ahead(name)]
        names = [f"forking-{number}", *ahead]
        for name in names:
            await bench.told.hears_either_way(name)
            if name not in bench.told.endings:
                bench.start(name)
                await bench.told.hears_the_end_of(name)
            ending = bench.told.endings[name]
            assert ending.failure is None
            assert json.loads(ending.manifest["result"].values[0].content or b"") == name
        assert "progressed" not in {what for what, _ in bench.told.said}
    assert len(bench.marks) == len(set(bench.marks))


@pytest.mark.parametrize(("how", "cause"), [("fail", "process error"), ("crash", "lost worker")])
async def test_a_job_that_spoils_its_process_spoils_no_other_job(bench: Bench, how: str, cause: str):
    bench.start("spoilt", how=how, seconds=0.02)
    assert bench.start_ahead("next")

    await bench.told.hears_the_end_of("spoilt")
    await bench.told.hears(("returned", "next"))

    failure = bench.told.endings["spoilt"].failure
    assert failure is not None
    assert failure.cause == cause
    assert bench.marks == ["spoilt"]
    bench.start("next")
    await bench.told.hears_the_end_of("next")
    assert bench.told.endings["next"].failure is None


async def test_a_job_that_its_process_did_not_take_up_before_it_died_is_given_back(bench: Bench):
    process = job_process()
    process.suspend()
    bench.start("unbegun")
    assert bench.start_ahead("another")

    process.kill()

    await bench.told.hears(("returned", "unbegun"))
    await bench.told.hears(("returned", "another"))
    assert "unbegun" not in bench.told.endings
    bench.start("unbegun")
    await bench.told.hears_the_end_of("unbegun")
    assert bench.marks == ["unbegun"]


async def test_a_job_process_that_dies_over_its_first_job_is_not_tried_again(tmp_path: Path):
    (tmp_path / "work.py").write_text(PROCESS)
    executor = LocalExecutor(tmp_path / "scratch", LocalLimits(workers=1))
    bench = Bench(tmp_path, executor)

    bench.start("deadly", how="crash")

    await bench.told.hears_the_end_of("deadly")
    assert bench.told.said == []
    await executor.close()


async def test_a_job_process_that_is_gone_before_its_fork_is_told_has_ended_as_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "work.py").write_text(PROCESS)
    executor = LocalExecutor(tmp_path / "scratch", LocalLimits(workers=1))
    bench, gone = Bench(tmp_path, executor), asyncio.Event()
    told_of_loss = executor.lost
    monkeypatch.setattr(executor, "lost", lambda child: (told_of_loss(child), gone.set()))

    executor._loop.remove_reader(executor._control)  # as if its packets were late
    bench.start("deadly", how="exit")
    await gone.wait()
    executor._loop.add_reader(executor._control, executor._hear_forkserver)

    ending = await bench.told.hears_the_end_of("deadly")
    assert ending.failure is not None
    assert ending.failure.cause == "process error"
    await executor.close()


async def test_a_job_for_which_there_is_no_process_is_given_back_with_the_reason(tmp_path: Path):
    (tmp_path / "work.py").write_text(PROCESS)
    executor = LocalExecutor(tmp_path / "scratch", LocalLimits(workers=1))
    bench = Bench(tmp_path, executor)
    (forkserver,) = [one for one in psutil.Process().children() if "forkserver" in " ".join(one.cmdline())]

    real, heard = executor._control, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    executor._control = heard[0]  # no system lets us take its last process away, so its answer is given here
    bench.start("unbegun")
    number = json.loads(heard[1].recv(1 << 16))["fork"]
    heard[1].send(json.dumps({"unforked": number, "errno": errno.EAGAIN}).encode())
    executor._hear_forkserver()
    executor._control = real

    assert bench.told.said == [("returned", "unbegun")]
    assert "TasksMax" in bench.told.lacking
    assert executor.free == 1
    assert forkserver.is_running()
    bench.start("begun")
    await bench.told.hears_the_end_of("begun")
    await executor.close()
    for end in heard:
        end.close()


async def test_a_start_that_fails_for_want_of_descriptors_keeps_none(tmp_path: Path):
    (tmp_path / "work.py").write_text(PROCESS)
    executor = LocalExecutor(tmp_path / "scratch", LocalLimits(workers=1))
    bench, before = Bench(tmp_path, executor), psutil.Process().num_fds()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    try:
        for more in range(6):  # two pairs of sockets, a byte of memory, and its own descriptor
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, hard))
            with pytest.raises(OSError, match="Too many open files"):
                bench.start(f"job-{more}")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert psutil.Process().num_fds() == before
    assert executor.free == 1
    bench.start("begun")
    await bench.told.hears_the_end_of("begun")
    await executor.close()


async def test_a_fork_server_that_hangs_is_in_trouble_until_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local, "_FORK_S", 0.3)
    (tmp_path / "work.py").write_text(PROCESS)
    executor = LocalExecutor(tmp_path / "scratch", LocalLimits(workers=1))
    bench = Bench(tmp_path, executor)
    (forkserver,) = [one for one in psutil.Process().children() if "forkserver" in " ".join(one.cmdline())]
    bench.start("first")
    await bench.told.hears_the_end_of("first")
    assert executor.trouble == ""

    forkserver.suspend()
    executor.start(replace(bench.assignment("second"), fresh=True), bench.told)
    await until(lambda: executor.trouble)
    assert "has not forked a job process" in executor.trouble
    forkserver.resume()

    await bench.told.hears_the_end_of("second")
    assert executor.trouble == ""
    await executor.close()


@pytest.mark.parametrize("busy", [False, True])
async def test_a_fork_server_that_hangs_for_long_is_replaced_and_its_jobs_are_to_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, busy: bool
):
    (tmp_path / "work.py").write_text(PROCESS)
    executor = LocalExecutor(tmp_path / "scratch", LocalLimits(workers=2))
    bench = Bench(tmp_path, executor)
    (forkserver,) = [one for one in psutil.Process().children() if "forkserver" in " ".join(one.cmdline())]
    bench.start("first", seconds=60 if busy else 0)
    await (until(lambda: bench.marks == ["first"]) if busy else bench.told.hears_the_end_of("first"))

    forkserver.suspend()
    monkeypatch.setattr(local, "_HUNG_S", (60, 0.6) if busy else (0.3, 60))
    executor.start(replace(bench.assignment("second"), fresh=True), bench.told)
    await until(lambda: not forkserver.is_running())
    monkeypatch.undo()  # the new one has to load its modules
    ending = await bench.told.hears_the_end_of("second")

    assert ending.failure is not None
    assert ending.failure.transient
    assert bench.marks == ["first"]
    if busy:
        ending = await bench.told.hears_the_end_of("first")
        assert ending.failure is not None
        assert ending.failure.transient
    executor.start(replace(bench.assignment("third"), fresh=True), bench.told)
    assert (await bench.told.hears_the_end_of("third")).failure is None
    assert executor.trouble == ""
    await executor.close()


async def test_a_thread_that_outlives_its_job_meets_no_other_job(bench: Bench):
    first = job_process().pid
    bench.start("lingering", how="linger")
    assert bench.start_ahead("next", seconds=0.3)

    await bench.told.hears(("returned", "next"))
    bench.start("next", seconds=0.3)
    await bench.told.hears_the_end_of("lingering", "next")

    assert job_process().pid != first
    assert bench.told.endings["next"].log_bytes == 0
    assert ("progressed", "next") not in bench.told.said


async def test_a_process_that_writes_to_what_it_has_not_opened_is_ended(bench: Bench):
    bench.start("scribbling", how="scribble", seconds=0.02)
    assert bench.start_ahead("next")

    await bench.told.hears_the_end_of("scribbling")
    await bench.told.hears_either_way("next")

    failure = bench.told.endings["scribbling"].failure
    assert failure is not None
    assert "file descriptors" in failure.detail
    if "next" in bench.told.endings:  # it may have begun before the process was ended
        failure = bench.told.endings["next"].failure
        assert failure is not None
        assert failure.cause == "lost worker"
    else:
        assert "next" not in bench.marks
    bench.start("after")
    await bench.told.hears_the_end_of("after")
    assert bench.told.endings["after"].failure is None


async def test_a_job_whose_message_was_read_by_the_one_before_it_is_given_back(bench: Bench):
    bench.start("prying", how="pry", seconds=0.03)
    assert bench.start_ahead("next")
    await bench.told.hears_the_end_of("prying")

    await bench.told.hears(("returned", "next"))

    bench.start("next")
    await bench.told.hears_the_end_of("next")
    assert bench.told.endings["next"].failure is None
    assert bench.marks == ["prying", "next"]


async def test_a_job_is_given_back_even_if_the_question_whether_it_was_received_is_read_too(bench: Bench):
    bench.start("prying", how="pry on", seconds=0.03)
    assert bench.start_ahead("next")
    await bench.told.hears_the_end_of("prying")

    await bench.told.hears(("returned", "next"))

    bench.start("next")
    await bench.told.hears_the_end_of("next")
    assert bench.marks == ["prying", "next"]


async def test_a_job_process_is_handed_no_more_jobs_than_it_may_run(bench: Bench):
    for number in range(len(bench.told.endings), JOBS - 1):
        bench.start(f"more-{number}")
        await bench.told.hears_the_end_of(f"more-{number}")
    bench.start("last")

    assert not bench.start_ahead("one too many")

    await bench.told.hears_the_end_of("last")


async def test_a_large_request_is_run_too_but_not_ahead(bench: Bench):
    bench.start("first", seconds=0.02)
    assert not bench.start_ahead("large", how="x" * 300_000)
    await bench.told.hears_the_end_of("first")

    bench.start("large", how="x" * 300_000)

    await bench.told.hears_the_end_of("large")
    assert bench.marks == ["first", "large"]


async def test_a_job_that_the_kernel_ended_in_its_control_group_says_which_limit_it_was(tmp_path: Path):
    place = tmp_path / "groups"
    (place / "app").mkdir(parents=True)
    for name, text in (("procs", f"{os.getpid()}"), ("controllers", "memory"), ("subtree_control", "memory")):
        (place / "app" / f"cgroup.{name}").write_text(text)
    os.setxattr(place / "app", "user.delegate", b"1")
    (tmp_path / "own").write_text("0::/app\n")
    groups = find_groups(place, tmp_path / "own")
    executor, told = LocalExecutor(tmp_path / "scratch", LocalLimits(workers=1), groups), Told()
    limits = Limits(memory_limit_mib=10_000)

    executor.start(assignment("j1", "advance", limits, steps=1, seconds=1), told)
    await told.hears(("progressed", "j1"))
    (group,) = (place / "app").glob("graticule-jobs-*")
    (group / "memory.events").write_text("oom 1\noom_kill 1\n")  # what the kernel writes
    job_process().kill()

    ending = await told.hears_the_end_of("j1")
    assert (group / "cgroup.procs").read_text() == "0", "the job process has entered its group"
    assert ending.failure is not None
    assert (ending.failure.cause, ending.failure.step) == ("out of memory", "run")
    assert "10000 MiB" in ending.failure.detail
    await executor.close()
