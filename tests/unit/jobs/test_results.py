"""The files of jobs, one place for each time a job was begun."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from graticule.data.storage import read_all
from graticule.data.storages.local import LocalStorage
from graticule.errors import ContentLost, StorageUnavailable
from graticule.jobs.job import Job, Manifest, StoredOutput, StoredValue
from graticule.jobs.results import ResultStore

pytestmark = pytest.mark.anyio

VALUE = StoredValue(file="dem.tif", media_type="image/tiff", size=3)
MANIFEST: Manifest = {"dem": StoredOutput(values=[VALUE])}
FIRST = Job(id="j1", process="echo", status="running", token=1)
SECOND = msgspec.structs.replace(FIRST, token=2)


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(LocalStorage(tmp_path / "storage"))


def left(tmp_path: Path, content: bytes = b"abc", log: str = "said\n") -> Path:
    """What a job leaves in its scratch folder."""
    folder = tmp_path / "scratch" / "j1"
    (folder / "outputs").mkdir(parents=True)
    (folder / "logs").mkdir()
    (folder / "outputs" / "dem.tif").write_bytes(content)
    (folder / "logs" / "tile.log").write_text("tiles\n")
    (folder / "process.log").write_text(log)
    (folder / "rubbish").write_text("of no use")
    return folder


async def test_outputs_and_logs_are_kept_and_the_rest_goes(store: ResultStore, tmp_path: Path) -> None:
    await store.commit(FIRST, left(tmp_path), MANIFEST)

    assert await read_all(store.value(FIRST, VALUE)) == b"abc"
    assert {step: log.size for step, log in (await store.logs_of(FIRST)).items()} == {"process": 5, "tile": 6}
    assert list((tmp_path / "scratch").iterdir()) == []
    assert [path.name for path in (tmp_path / "storage").rglob("rubbish")] == []


async def test_of_a_job_that_failed_only_logs_are_kept(store: ResultStore, tmp_path: Path) -> None:
    await store.commit(FIRST, left(tmp_path), None)

    assert list(await store.logs_of(FIRST)) == ["process", "tile"]
    with pytest.raises(ContentLost):
        await read_all(store.value(FIRST, VALUE))


async def test_a_late_agent_overwrites_nothing(store: ResultStore, tmp_path: Path) -> None:
    await store.commit(SECOND, left(tmp_path, b"newer", "second\n"), MANIFEST)

    await store.commit(FIRST, left(tmp_path, b"older", "first\n"), MANIFEST)

    assert await read_all(store.value(SECOND, VALUE)) == b"newer"
    assert await read_all((await store.logs_of(SECOND))["process"].file) == b"second\n"
    assert await read_all((await store.logs_of(SECOND, token=1))["process"].file) == b"first\n"


async def test_what_a_late_agent_stored_is_removed_alone(store: ResultStore, tmp_path: Path) -> None:
    await store.commit(SECOND, left(tmp_path, b"newer"), MANIFEST)
    await store.commit(FIRST, left(tmp_path, b"older"), MANIFEST)

    await store.remove_outputs(FIRST)

    assert await read_all(store.value(SECOND, VALUE)) == b"newer"
    with pytest.raises(ContentLost):
        await read_all(store.value(FIRST, VALUE))


async def test_all_of_a_job_is_removed_whenever_it_was_begun(store: ResultStore, tmp_path: Path) -> None:
    await store.commit(FIRST, left(tmp_path), MANIFEST)
    await store.commit(SECOND, left(tmp_path), MANIFEST)

    await store.remove(FIRST.key)

    assert await store.logs_of(FIRST) == {}
    assert await store.logs_of(SECOND) == {}


async def test_what_could_not_be_stored_is_stored_later(store: ResultStore, tmp_path: Path) -> None:
    folder = left(tmp_path)
    (tmp_path / "storage").write_text("in the way")
    with pytest.raises(StorageUnavailable):
        await store.commit(FIRST, folder, MANIFEST)
    (tmp_path / "storage").unlink()

    await store.commit(FIRST, folder, MANIFEST)

    assert await read_all(store.value(FIRST, VALUE)) == b"abc"
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_what_is_given_up_leaves_nothing(store: ResultStore, tmp_path: Path) -> None:
    folder = left(tmp_path)
    (tmp_path / "storage").write_text("in the way")
    with pytest.raises(StorageUnavailable):
        await store.commit(FIRST, folder, MANIFEST)

    await store.give_up(folder)

    assert list((tmp_path / "scratch").iterdir()) == []


async def test_logs_that_come_after_a_dismissal_are_seen(store: ResultStore, tmp_path: Path) -> None:
    dismissed = FIRST.moved_to("dismissed", at=1)
    assert await store.logs_of(dismissed) == {}

    await store.commit(FIRST, left(tmp_path), None)

    assert "process" in await store.logs_of(dismissed)
