"""Pieces of logs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from graticule.data.storage import StoredFile
from graticule.data.storages.local import LocalStorage
from graticule.errors import StorageUnavailable
from graticule.jobs.job import Job
from graticule.jobs.log import Logs, cut, iter_lines, whole_characters
from graticule.jobs.results import Log, ResultStore

KOELN = "Köln €5 🜨".encode()


@pytest.mark.parametrize("end", range(len(KOELN) + 1))
def test_a_piece_never_ends_within_a_character(end):
    whole = whole_characters(KOELN[:end])

    assert KOELN.startswith(whole)
    assert whole.decode() == KOELN[:end].decode(errors="ignore")


def test_bytes_that_are_no_text_are_shown_all_the_same():
    assert whole_characters(b"\x80\x80\x80\x80\x80") == b"\x80\x80\x80\x80\x80"


@pytest.mark.parametrize(
    ("data", "more", "lines", "shown"),
    [
        (b"one\ntwo", True, False, b"one\n"),
        (b"one\ntwo", False, False, b"one\ntwo"),
        (b"half", True, False, b"half"),
        (b"half", True, True, b""),
        (b"half", False, True, b"half"),
    ],
)
def test_a_page_ends_with_a_line_where_it_can(data, more, lines, shown):
    assert cut(data, more=more, lines=lines) == shown


def test_lines_have_their_offset_and_their_time_where_it_is_known():
    data = b'2026-01-02T03:04:05Z go\nplain\r\n{"level": "info", "time": "2026-01-02 03:04:06,5+01:00"}\n\nrest'

    lines = list(iter_lines(data, 100))

    assert [(line.offset, line.text, line.time) for line in lines] == [
        (100, "2026-01-02T03:04:05Z go", "2026-01-02T03:04:05.000000Z"),
        (124, "plain", None),
        (131, '{"level": "info", "time": "2026-01-02 03:04:06,5+01:00"}', "2026-01-02T02:04:06.500000Z"),
        (188, "", None),
        (189, "rest", None),
    ]


def test_a_moment_that_there_is_not_is_no_time():
    (line,) = iter_lines(b"2026-02-30T03:04:05Z", 0)

    assert line.time is None


async def test_a_log_that_goes_to_another_job_while_it_is_opened_is_not_read(tmp_path: Path):
    log = tmp_path / "1.log"
    log.write_text("of the next job")
    asked = []

    def live(job_id: str) -> dict[str, Path]:
        asked.append(job_id)
        return {"process": log} if len(asked) == 1 else {}  # its end is heard right after the file was opened

    logs = Logs(live, ResultStore(LocalStorage(tmp_path / "storage")).logs_of)

    assert await logs.open(Job(id="j1", process="p", status="running", started=1), "process") is None


async def test_a_log_is_read_on_while_it_moves_into_storage(tmp_path: Path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    log = folder / "process.log"
    log.write_text("first ")
    job = Job(id="j1", process="p", status="running", started=1, token=1)
    store = ResultStore(LocalStorage(tmp_path / "storage"))
    logs = Logs(lambda _: {"process": log} if log.exists() else {}, store.logs_of)

    opened = await logs.open(job, "process")
    assert opened is not None
    with log.open("a") as file:
        file.write("last")
    await store.commit(job, folder, None)

    assert await opened.read(0, 100) == b"first last"
    assert await logs.places(job) == {"process": tmp_path / "storage/default/jobs/j1/1/process.log"}
    opened.close()


class Remote(LocalStorage):
    """A storage whose files do not lie on this machine, and that says how often it was asked what it has."""

    asked = 0

    def path_of(self, key: str) -> Path | None:
        return None

    async def files(self, key: str) -> AsyncIterator[StoredFile]:
        self.asked += 1
        async for file in super().files(key):
            yield file


async def test_a_log_of_another_machine_is_read_by_ranges(tmp_path: Path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / "process.log").write_text("first last")
    job = Job(id="j1", process="p", status="running", started=1, token=1)
    store = ResultStore(Remote(tmp_path / "storage"))
    await store.commit(job, folder, None)

    opened = await Logs(lambda _: {}, store.logs_of).open(job, "process")

    assert opened is not None
    assert opened.size == 10
    assert await opened.read(6, 100) == b"last"
    assert await opened.read(0, 5) == b"first"


async def test_whoever_looks_again_and_again_does_not_ask_the_storage_before_the_end(tmp_path: Path):
    job = Job(id="j1", process="p", status="running", started=1, token=1)
    storage = Remote(tmp_path / "storage")
    logs = Logs(lambda _: {}, ResultStore(storage).logs_of)

    assert await logs.open(job, "process", ended_only=True) is None
    assert await logs.steps(job) == []
    assert storage.asked == 0


async def test_steps_are_told_without_a_storage_that_does_not_answer():
    job = Job(id="j1", process="p", status="failed", started=1, token=1)

    async def kept(_job: Job, _token: int | None = None, *, anew: bool = False) -> dict[str, Log]:
        raise StorageUnavailable("it is away", "storage.url")

    logs = Logs(lambda _: {}, kept)

    assert await logs.steps(job) == []
    with pytest.raises(StorageUnavailable):
        await logs.open(job, "process")
