"""What every executor promises; subclass a contract and give an `executor` fixture.

``ExecutorContract`` is for all; ``IsolatingExecutorContract`` adds what only an executor can promise that runs each job
in a process of its own, wherever that is. Jobs run the processes of ``graticule.testing.working``, which must be
installed there; the tests share ``tmp_path`` with them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graticule.jobs.executor import Assignment, Ending, Executor
from graticule.jobs.job import Failure, Job
from graticule.jobs.messages import ProcessRef
from graticule.ogc.processes import NO_LIMITS, Limits
from graticule.testing.ledger import job

WORKING = "graticule.testing.working"
DISMISSED = Failure(cause="cancelled", detail="as asked")
SILENT_S = 3.0
"""Within this a job that is stopped is silent, whatever it does."""
LOOK_S = 3.0
"""Within this a job that takes more than it may is stopped."""


class Told:
    """A listener that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.progress: list[tuple[int, str]] = []
        self.endings: dict[str, Ending] = {}
        self.lacking = ""

    def began(self, job: Job) -> None:
        self.said.append(("began", job.id))

    def returned(self, job: Job, lacking: str = "") -> None:
        self.said.append(("returned", job.id))
        self.lacking = lacking

    def progressed(self, job: Job, percent: int, message: str) -> None:
        self.said.append(("progressed", job.id))
        self.progress.append((percent, message))

    def ended(self, job: Job, ending: Ending) -> None:
        assert job.id not in self.endings, "an end is told once"
        self.endings[job.id] = ending

    async def hears(self, sentence: tuple[str, str]) -> None:
        """Wait until something was told."""
        await until(lambda: sentence in self.said)

    async def hears_either_way(self, name: str) -> None:
        """Wait until a job that was handed ahead has ended, or is given back."""
        await until(lambda: name in self.endings or ("returned", name) in self.said)

    async def hears_the_end_of(self, *names: str, seconds: float = 20) -> Ending:
        """Wait until some jobs have ended, and return how the last of them did."""
        await until(lambda: set(names) <= set(self.endings), seconds)
        return self.endings[names[-1]]


async def until(holds: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def assignment(job_id: str, process: str, limits: Limits = NO_LIMITS, /, **inputs: Any) -> Assignment:
    """Return a job of one of the contract's processes."""
    request = json.dumps({"inputs": inputs}).encode()
    ref = ProcessRef(target=WORKING, id=process)
    return Assignment(job=job(job_id, process=process, request=request), ref=ref, limits=limits, most=limits)


def printed(ending: Ending) -> str:
    """Return what a job printed."""
    assert ending.folder is not None
    return (ending.folder / "process.log").read_text()


def value(ending: Ending) -> Any:
    """Return the value of the one output, a small one."""
    assert ending.failure is None, ending.failure
    (output,) = ending.manifest.values()
    return json.loads(output.values[0].content or b"null")


class ExecutorContract:
    """Tests of an executor."""

    async def test_a_job_gives_its_outputs_and_what_it_printed(self, executor: Executor) -> None:
        told, free = Told(), executor.free
        assert free >= 1

        executor.start(assignment("j1", "greet", name="Ada"), told)

        assert executor.free == free - 1
        ending = await told.hears_the_end_of("j1")
        assert value(ending) == "Hello Ada"
        assert printed(ending) == "greeting Ada\n"
        assert ending.log_bytes == len("greeting Ada\n")
        await until(lambda: executor.free == free)

    async def test_one_job_comes_after_the_other(self, executor: Executor) -> None:
        told = Told()
        for name in ("a", "b", "c"):
            executor.start(assignment(name, "greet", name=name), told)
            assert value(await told.hears_the_end_of(name)) == f"Hello {name}"
            await until(lambda: executor.free)

    async def test_a_large_output_is_a_file_in_the_folder(self, executor: Executor) -> None:
        told = Told()

        executor.start(assignment("j1", "write", kibibytes=100), told)

        ending = await told.hears_the_end_of("j1")
        (stored,) = ending.manifest["result"].values
        assert stored.size == 100 << 10
        assert ending.folder is not None
        assert (ending.folder / "outputs" / str(stored.file)).stat().st_size == 100 << 10

    async def test_progress_is_told_while_the_job_runs(self, executor: Executor) -> None:
        told = Told()

        executor.start(assignment("j1", "advance", steps=4, seconds=0.3), told)

        await until(lambda: told.progress, seconds=10)
        assert "j1" not in told.endings
        await told.hears_the_end_of("j1")
        assert told.progress == [(0, "step 0"), (25, "step 1"), (50, "step 2"), (75, "step 3")]

    async def test_a_failure_says_cause_and_step_and_keeps_the_log(self, executor: Executor) -> None:
        told = Told()

        executor.start(assignment("j1", "break-down", how="raise"), told)

        ending = await told.hears_the_end_of("j1")
        assert ending.failure is not None
        assert (ending.failure.cause, ending.failure.step) == ("process error", "run")
        assert "bad luck" in ending.failure.detail
        assert printed(ending).startswith("about to raise\n")

    async def test_a_process_that_is_not_there_is_a_plug_in_that_cannot_be_loaded(self, executor: Executor) -> None:
        told = Told()

        executor.start(assignment("j1", "no-such-process"), told)

        ending = await told.hears_the_end_of("j1")
        assert ending.failure is not None
        assert ending.failure.cause == "plug-in"

    async def test_a_job_that_is_stopped_ends_with_the_reason(self, executor: Executor) -> None:
        told, free = Told(), executor.free
        executor.start(assignment("j1", "advance", steps=100, seconds=0.1), told)
        await until(lambda: told.progress)

        executor.stop("j1", DISMISSED)

        ending = await told.hears_the_end_of("j1", seconds=SILENT_S)
        assert ending.failure is not None
        assert (ending.failure.cause, ending.failure.detail) == (DISMISSED.cause, DISMISSED.detail)
        steps = len(told.progress)
        await asyncio.sleep(0.3)
        assert len(told.progress) == steps
        await until(lambda: executor.free == free)

    async def test_to_stop_what_has_ended_or_never_was_changes_nothing(self, executor: Executor) -> None:
        told = Told()
        executor.start(assignment("j1", "greet", name="Ada"), told)
        await told.hears_the_end_of("j1")

        executor.stop("j1", DISMISSED)
        executor.stop("j2", DISMISSED)

        executor.start(assignment("j3", "greet", name="Bob"), told)
        assert value(await told.hears_the_end_of("j3")) == "Hello Bob"

    async def test_a_job_that_was_not_started_ahead_cannot_be_taken_back(self, executor: Executor) -> None:
        told = Told()
        executor.start(assignment("j1", "greet", name="Ada"), told)

        assert not executor.recall("j1")

        assert value(await told.hears_the_end_of("j1")) == "Hello Ada"

    async def test_a_job_above_its_time_limit_is_stopped(self, executor: Executor) -> None:
        told = Told()

        executor.start(assignment("j1", "advance", Limits(time_limit_s=1), steps=100, seconds=0.1), told)

        ending = await told.hears_the_end_of("j1", seconds=1 + LOOK_S)
        assert ending.failure is not None
        assert ending.failure.cause == "time limit"
        assert "1 s" in ending.failure.detail
        assert "time_limit_s" in ending.failure.remedy

    async def test_processes_are_described(self, executor: Executor) -> None:
        found, missing = await executor.describe([ProcessRef(target=WORKING), ProcessRef(target="no.such.module")])

        assert "greet" in [json.loads(document)["id"] for document in found.documents]
        assert len(found.documents) == len(found.fresh) == len(found.limits)
        assert (missing.documents, bool(missing.error)) == ([], True)

    async def test_closing_stops_what_runs_and_tells_its_end(self, executor: Executor) -> None:
        told = Told()
        executor.start(assignment("j1", "advance", steps=100, seconds=0.1), told)
        await until(lambda: told.progress)

        await executor.close()

        failure = told.endings["j1"].failure
        assert failure is not None
        assert (failure.cause, failure.transient) == ("lost worker", True)


class IsolatingExecutorContract(ExecutorContract):
    """Tests of an executor that runs each job in a process of its own."""

    @pytest.mark.parametrize(
        ("how", "cause", "says"),
        [
            ("exit", "process error", "exit code 7"),
            ("crash", "process error", "SIGSEGV"),
            ("be killed", "lost worker", "SIGKILL"),
        ],
    )
    async def test_a_crash_costs_only_its_own_job(self, executor: Executor, how: str, cause: str, says: str) -> None:
        told = Told()

        executor.start(assignment("j1", "break-down", how=how), told)

        ending = await told.hears_the_end_of("j1")
        assert ending.failure is not None
        assert (ending.failure.cause, ending.failure.step) == (cause, "run")
        assert says in ending.failure.detail
        assert printed(ending) == f"about to {how}\n"
        executor.start(assignment("j2", "break-down", how="not at all"), told)
        assert value(await told.hears_the_end_of("j2")) == "not at all"

    @pytest.mark.parametrize("what", ["child", "thread", "child and failure"])
    async def test_what_leaves_something_running_runs_once_all_the_same(self, executor: Executor, what: str) -> None:
        told = Told()

        for number in range(4):
            executor.start(assignment(f"j{number}", "leave", what=what, seconds=0.6), told)
            ending = await told.hears_the_end_of(f"j{number}")
            assert (ending.failure is not None) == (what == "child and failure")
            assert printed(ending) == "once\n" if ending.failure is None else printed(ending).startswith("once\n")

        assert not [sentence for sentence in told.said if sentence[0] == "returned"]

    async def test_what_resists_is_killed_with_all_below_it(self, executor: Executor, tmp_path: Path) -> None:
        told, heartbeat = Told(), tmp_path / "heartbeat"
        executor.start(assignment("j1", "resist", heartbeat=str(heartbeat)), told)
        await until(heartbeat.exists)

        executor.stop("j1", DISMISSED)

        ending = await told.hears_the_end_of("j1", seconds=SILENT_S)
        assert ending.failure is not None
        assert ending.failure.cause == "cancelled"
        assert not await beats(heartbeat)

    async def test_closing_leaves_nothing_running(self, executor: Executor, tmp_path: Path) -> None:
        told, heartbeat = Told(), tmp_path / "heartbeat"
        executor.start(assignment("j1", "resist", heartbeat=str(heartbeat)), told)
        await until(heartbeat.exists)

        await executor.close()

        assert "j1" in told.endings
        assert not await beats(heartbeat)

    async def test_a_job_above_its_time_limit_is_killed_if_it_resists(self, executor: Executor, tmp_path: Path) -> None:
        told, heartbeat = Told(), tmp_path / "heartbeat"

        executor.start(assignment("j1", "resist", Limits(time_limit_s=1), heartbeat=str(heartbeat)), told)

        ending = await told.hears_the_end_of("j1", seconds=1 + LOOK_S + SILENT_S)
        assert ending.failure is not None
        assert ending.failure.cause == "time limit"
        assert not await beats(heartbeat)

    @pytest.mark.parametrize(
        ("what", "limits", "cause"),
        [
            ("memory", Limits(memory_limit_mib=200), "out of memory"),
            ("disk", Limits(disk_limit_mib=20), "disk limit"),
            ("temporary files", Limits(disk_limit_mib=20), "disk limit"),
            ("print", Limits(log_limit_mib=20), "disk limit"),
        ],
    )
    async def test_a_job_that_takes_more_than_it_may_is_killed(
        self, executor: Executor, what: str, limits: Limits, cause: str
    ) -> None:
        told = Told()

        executor.start(assignment("j1", "take", limits, what=what, mebibytes=400 if what == "memory" else 30), told)

        ending = await told.hears_the_end_of("j1", seconds=10 + LOOK_S)
        assert ending.failure is not None
        assert ending.failure.cause == cause
        assert ("200 MiB" if what == "memory" else "20 MiB") in ending.failure.detail
        assert "take" in ending.failure.remedy
        await until(lambda: executor.free)
        executor.start(assignment("j2", "greet", limits, name="Ada"), told)
        assert value(await told.hears_the_end_of("j2")) == "Hello Ada"

    async def test_no_job_meets_temporary_files_of_another_one(self, executor: Executor) -> None:
        told = Told()
        pids = []

        for number, how in enumerate(("leave", "change", "tidy up", "tidy up")):
            executor.start(assignment(f"j{number}", "put-away", how=how), told)
            place, found, pid, named = value(await told.hears_the_end_of(f"j{number}"))
            assert (found, contents(place), named) == ([], [], True)
            pids.append(pid)
            await until(lambda: executor.free == executor.places)

        assert pids[2] == pids[3] not in pids[:2]

    @pytest.mark.parametrize("how", ["raise", "be killed", "be dismissed"])
    async def test_temporary_files_go_with_a_job_that_fails(self, executor: Executor, how: str) -> None:
        told = Told()

        executor.start(assignment("j1", "put-away", how=how), told)
        await until(lambda: told.progress or told.endings)
        executor.stop("j1", DISMISSED)

        place = printed(await told.hears_the_end_of("j1")).splitlines()[0]
        await until(lambda: not contents(place))

    async def test_a_job_that_takes_less_than_it_may_is_left_alone(self, executor: Executor) -> None:
        told = Told()
        limits = Limits(memory_limit_mib=400, disk_limit_mib=20, log_limit_mib=20, time_limit_s=20)

        executor.start(assignment("j1", "advance", limits, steps=4, seconds=0.3), told)

        assert value(await told.hears_the_end_of("j1")) == 4


async def beats(heartbeat: Path) -> bool:
    """Return whether something goes on writing a heartbeat."""
    read = heartbeat.read_text
    before = read()
    await asyncio.sleep(0.3)
    return read() != before


def contents(place: str) -> list[Path]:
    """Return what lies in a folder; nothing if there is none."""
    return list(Path(place).glob("*"))
