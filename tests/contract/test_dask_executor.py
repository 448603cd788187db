"""Jobs on a Dask cluster keep the promises that all jobs keep; the scheduler and the workers are real processes."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from graticule.jobs.executors.dask import DaskExecutor, DaskRules
from graticule.jobs.executors.local import LocalLimits
from graticule.testing.executor import (
    DISMISSED,
    IsolatingExecutorContract,
    Told,
    assignment,
    beats,
    until,
    value,
)
from tests.dask_cluster import DaskCluster, only_in_test_all

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler and one worker, for all tests that leave them running."""
    with DaskCluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster


@asynccontextmanager
async def on(cluster: DaskCluster, scratch: Path, lease_s: float = 10) -> AsyncIterator[DaskExecutor]:
    """An executor on a cluster."""
    rules = DaskRules(scheduler=cluster.address, lease_s=lease_s, keeping=LocalLimits(idle_s=1))
    executor = await DaskExecutor.open(scratch, rules)
    try:
        yield executor
    finally:
        await executor.close()


@pytest.fixture
async def executor(cluster: DaskCluster, tmp_path: Path) -> AsyncIterator[DaskExecutor]:
    """An executor on that cluster."""
    async with on(cluster, tmp_path / "scratch") as executor:
        yield executor


class TestDaskExecutor(IsolatingExecutorContract):
    """The contract, on a worker that is another process."""


async def resisting(executor: DaskExecutor, told: Told, heartbeat: Path) -> None:
    """Have a job run that only SIGKILL ends, with a grandchild that writes a heartbeat."""
    executor.start(assignment("j1", "resist", heartbeat=str(heartbeat)), told)
    await until(heartbeat.exists)
    assert await beats(heartbeat)


async def lost(told: Told) -> bool:
    """Wait for the end of a job, and return whether its worker was lost."""
    failure = (await told.hears_the_end_of("j1")).failure
    return failure is not None and failure.cause == "lost worker" and failure.transient


async def test_a_keeper_that_does_not_hear_its_agent_kills_the_job(cluster: DaskCluster, tmp_path: Path) -> None:
    told, heartbeat = Told(), tmp_path / "heartbeat"
    async with on(cluster, tmp_path / "scratch", lease_s=3) as executor:
        await resisting(executor, told, heartbeat)

        time.sleep(3)  # noqa: ASYNC251 - the agent hangs, and its connections stay open

        assert not await beats(heartbeat)
        assert await lost(told)


@only_in_test_all
async def test_a_keeper_that_is_not_heard_has_lost_the_job_and_kills_it_when_it_comes_back(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    told, heartbeat = Told(), tmp_path / "heartbeat"
    async with on(cluster, tmp_path / "scratch", lease_s=2) as executor:
        await resisting(executor, told, heartbeat)
        (worker,) = cluster.workers
        worker.send_signal(signal.SIGSTOP)
        try:
            assert await lost(told)
        finally:
            worker.send_signal(signal.SIGCONT)

        await asyncio.sleep(1)
        assert not await beats(heartbeat)


@only_in_test_all
async def test_a_job_that_no_dask_worker_takes_is_given_back(cluster: DaskCluster, tmp_path: Path) -> None:
    first, second = Told(), Told()
    async with on(cluster, tmp_path / "first") as one, on(cluster, tmp_path / "second", lease_s=1) as other:
        for name in ("a", "b"):
            one.start(assignment(name, "advance", steps=100, seconds=0.1), first)
        await until(lambda: len(first.progress) > 2)

        other.start(assignment("j1", "greet", name="Ada"), second)
        await second.hears(("returned", "j1"))

        assert other.free == 2
        for name in ("a", "b"):
            one.stop(name, DISMISSED)
        await first.hears_the_end_of("a", "b")
        other.start(assignment("j1", "greet", name="Ada"), second)
        assert value(await second.hears_the_end_of("j1")) == "Hello Ada"


async def test_a_job_that_waits_for_a_dask_worker_is_stopped_at_once_and_never_begins(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    told, heartbeat = Told(), tmp_path / "heartbeat"
    async with on(cluster, tmp_path / "one") as one, on(cluster, tmp_path / "other") as other:
        for name in ("a", "b"):
            one.start(assignment(name, "advance", steps=100, seconds=0.1), told)
        await until(lambda: len(told.progress) > 2)
        other.start(assignment("j1", "resist", heartbeat=str(heartbeat)), told)
        await asyncio.sleep(0.2)

        other.stop("j1", DISMISSED)

        assert (await told.hears_the_end_of("j1", seconds=0.5)).failure == DISMISSED
        for name in ("a", "b"):
            one.stop(name, DISMISSED)
        await told.hears_the_end_of("a", "b")
        assert not heartbeat.exists()


async def test_nothing_is_left_on_a_dask_worker_that_is_not_used(cluster: DaskCluster, executor: DaskExecutor) -> None:
    told = Told()
    executor.start(assignment("j1", "write", kibibytes=100), told)
    await told.hears_the_end_of("j1")

    await until(lambda: not list(cluster.folder.glob("dask-scratch-space/*/graticule-*")), seconds=10)
    await until(lambda: not psutil.Process(cluster.workers[0].pid).children(recursive=True), seconds=5)
