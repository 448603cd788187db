"""Results go when their time is up; their jobs stay and say so."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from graticule.data.storage import read_all
from graticule.data.storages.local import LocalStorage
from graticule.errors import ContentLost, ResultsExpired, StorageUnavailable
from graticule.jobs.job import Job, StoredOutput, StoredValue
from graticule.jobs.ledgers.sqlite import SqliteLedger
from graticule.jobs.manager import require_success
from graticule.jobs.results import ResultStore
from graticule.jobs.retention import Retention, RetentionRules

pytestmark = pytest.mark.anyio

HOUR = 3_600_000_000
NOON = 1_700_000_000_000_000
VALUE = StoredValue(file="dem.tif", media_type="image/tiff", size=3)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "graticule.db")
    yield ledger
    await ledger.close()


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(LocalStorage(tmp_path / "storage"))


async def kept(ledger: SqliteLedger, store: ResultStore, folder: Path, name: str, process: str = "echo") -> Job:
    """A job that ended at noon and left a result and a log."""
    place = folder / "scratch" / name
    (place / "outputs").mkdir(parents=True)
    (place / "outputs" / "dem.tif").write_bytes(b"abc")
    (place / "process.log").write_text("said")
    job = Job(id=name, process=process, created=NOON, updated=NOON).moved_to("running", at=NOON)
    manifest = {"dem": StoredOutput(values=[VALUE])}
    await store.commit(job, place, manifest)
    await ledger.add(job)
    end = job.moved_to("successful", at=NOON, manifest=msgspec.msgpack.encode(manifest))
    await ledger.finish(end)
    return end


async def test_results_go_when_their_time_is_up(
    ledger: SqliteLedger, store: ResultStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = await kept(ledger, store, tmp_path, "j1")
    retention = Retention(ledger, store, RetentionRules(hours=2))

    assert await retention.sweep(["default"], at=NOON + 2 * HOUR) == 0
    assert await read_all(store.value(job, VALUE)) == b"abc"
    with caplog.at_level(logging.INFO):
        assert await retention.sweep(["default"], at=NOON + 2 * HOUR + 1) == 1

    found = await ledger.get(job.key)
    assert "results of 1 jobs have expired" in caplog.text
    assert (found.status, found.outputs()) == ("successful", {})
    assert "process" in await store.logs_of(found)
    with pytest.raises(ContentLost):
        await read_all(store.value(job, VALUE))
    with pytest.raises(ResultsExpired):
        require_success(found)


async def test_a_pinned_job_keeps_its_results(ledger: SqliteLedger, store: ResultStore, tmp_path: Path) -> None:
    job = await kept(ledger, store, tmp_path, "j1")
    await ledger.move(job.key, Job.pinned)

    assert await Retention(ledger, store, RetentionRules(hours=1)).sweep(["default"], at=NOON + 99 * HOUR) == 0
    assert await read_all(store.value(job, VALUE)) == b"abc"


@pytest.mark.parametrize(
    ("rules", "expired"),
    [
        (RetentionRules(), []),
        (RetentionRules(hours=1), ["j1", "j2"]),
        (RetentionRules(workspaces={"default": 1}), ["j1", "j2"]),
        (RetentionRules(hours=1, workspaces={"default": 9}), []),
        (RetentionRules(hours=9, processes={"buffer": 1}), ["j2"]),
        (RetentionRules(hours=1, processes={"buffer": 0}), ["j1"]),
    ],
    ids=["for ever", "all", "a workspace", "a workspace longer", "a process", "a process for ever"],
)
async def test_a_process_goes_before_its_workspace_and_that_before_all(
    ledger: SqliteLedger, store: ResultStore, tmp_path: Path, rules: RetentionRules, expired: list[str]
) -> None:
    jobs = [await kept(ledger, store, tmp_path, "j1"), await kept(ledger, store, tmp_path, "j2", "buffer")]

    await Retention(ledger, store, rules).sweep(["default"], at=NOON + 2 * HOUR)

    assert [job.id for job in jobs if (await ledger.get(job.key)).keeping == "expired"] == expired


async def test_what_cannot_be_removed_is_removed_later(
    ledger: SqliteLedger, store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await kept(ledger, store, tmp_path, "j1")
    retention = Retention(ledger, store, RetentionRules(hours=1))

    async def fail(_: Job) -> None:
        raise StorageUnavailable("it is away", "storage.url")

    with monkeypatch.context() as patched:
        patched.setattr(store, "remove_outputs", fail)
        with pytest.raises(StorageUnavailable):
            await retention.sweep(["default"], at=NOON + 2 * HOUR)
    with pytest.raises(ResultsExpired):
        require_success(await ledger.get(job.key))

    assert await retention.sweep(["default"], at=NOON + 2 * HOUR) == 1
    with pytest.raises(ContentLost):
        await read_all(store.value(job, VALUE))


async def test_what_has_expired_cannot_be_pinned(ledger: SqliteLedger, store: ResultStore, tmp_path: Path) -> None:
    job = await kept(ledger, store, tmp_path, "j1")
    await Retention(ledger, store, RetentionRules(hours=1)).sweep(["default"], at=NOON + 2 * HOUR)

    with pytest.raises(ResultsExpired):
        await ledger.move(job.key, Job.pinned)
