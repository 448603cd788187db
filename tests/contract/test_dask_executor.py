"""Jobs on a Dask cluster keep the promises that all jobs keep; the scheduler and the workers are real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from graticule.jobs.executors.dask import DaskExecutor, DaskRules
from graticule.jobs.executors.local import LocalLimits
from graticule.testing.executor import IsolatingExecutorContract
from tests.dask_cluster import DaskCluster

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler and one worker, for all tests that leave them running."""
    with DaskCluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster


@pytest.fixture
async def executor(cluster: DaskCluster, tmp_path: Path) -> AsyncIterator[DaskExecutor]:
    """An executor on that cluster."""
    rules = DaskRules(scheduler=cluster.address, keeping=LocalLimits(idle_s=1))
    executor = await DaskExecutor.open(tmp_path / "scratch", rules)
    yield executor
    await executor.close()


class TestDaskExecutor(IsolatingExecutorContract):
    """The contract, on a worker that is another process."""
