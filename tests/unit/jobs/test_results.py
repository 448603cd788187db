"""The files of jobs, one place for each time a job was begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from graticule.data.storage import StoredFile, read_all
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


async def test_segments_are_a_log_as_far_as_none_is_missing(tmp_path: Path) -> None:
    store = ResultStore(LocalStorage(tmp_path / "storage"), shared=True)
    for start, piece in ((0, b"one "), (4, b"two "), (4, b"two three "), (8, b"three "), (20, b"five")):
        await store.keep_segment(FIRST, "process", start, piece)
    await store.keep_segment(FIRST, "tile", 3, b"its beginning is missing")

    logs = await store.logs_of(FIRST)

    assert list(logs) == ["process"]
    assert logs["process"].size == 14
    assert await logs["process"].read(2, 8) == b"e two th"
    assert await logs["process"].read(0, 100) == b"one two three "
    assert await logs["process"].read(14, 10) == b""


async def test_the_whole_log_takes_the_place_of_its_segments(store: ResultStore, tmp_path: Path) -> None:
    store = ResultStore(LocalStorage(tmp_path / "storage"), shared=True)
    await store.keep_segment(FIRST, "process", 0, b"sa")
    assert (await store.logs_of(FIRST))["process"].size == 2

    await store.commit(FIRST, left(tmp_path), None, sealed=True)

    assert {step: log.size for step, log in (await store.logs_of(FIRST)).items()} == {"process": 5, "tile": 6}
    assert [path for path in (tmp_path / "storage/default/jobs/j1/segments").rglob("*") if path.is_file()] == []


async def test_what_a_lost_agent_had_sealed_is_the_log_of_its_attempt(tmp_path: Path) -> None:
    store = ResultStore(LocalStorage(tmp_path / "storage"), shared=True)
    await store.keep_segment(FIRST, "process", 0, b"first")
    await store.commit(SECOND, left(tmp_path, log="second\n"), None)
    failed = SECOND.moved_to("failed", at=1)

    assert await (await store.logs_of(failed, 1))["process"].read(0, 10) == b"first"
    assert await (await store.logs_of(failed))["process"].read(0, 10) == b"second\n"


async def test_a_hundred_watchers_ask_the_storage_once(tmp_path: Path) -> None:
    asked = []

    class Counting(LocalStorage):
        async def files(self, key: str) -> AsyncIterator[StoredFile]:
            asked.append(key)
            async for file in super().files(key):
                yield file

    store = ResultStore(Counting(tmp_path / "storage"), shared=True)
    await store.keep_segment(FIRST, "process", 0, b"first")

    found = await asyncio.gather(*[store.logs_of(FIRST) for _ in range(100)])

    assert all(logs["process"].size == 5 for logs in found)
    assert len(asked) == 2  # its segments, and its whole log
    ended = await store.logs_of(FIRST.moved_to("failed", at=1))  # what was found before the end is not all
    assert ended["process"].size == 5
    assert len(asked) == 4


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
