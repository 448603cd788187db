"""Logs of running jobs that come to the storage piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from graticule.data.storages.local import LocalStorage
from graticule.errors import StorageUnavailable
from graticule.jobs import sealing
from graticule.jobs.job import Job
from graticule.jobs.log import Logs
from graticule.jobs.results import ResultStore
from graticule.jobs.sealing import Sealer

pytestmark = pytest.mark.anyio

JOB = Job(id="j1", process="p", status="running", started=1, token=1)
LINE = "0123456789abcde\n"


class Printing:
    """A job that prints on this machine, and somebody who reads elsewhere."""

    def __init__(self, place: Path) -> None:
        self.log = place / "process.log"
        self.log.touch()
        self.files = {"process": self.log}
        self.storage = place / "storage"
        self.store = ResultStore(LocalStorage(self.storage), shared=True)
        self.sealer = Sealer(Logs(lambda _: self.files, self.store.logs_of, shared=True), self.store)
        self.elsewhere = Logs(lambda _: {}, ResultStore(LocalStorage(self.storage), shared=True).logs_of, shared=True)

    def print(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text)

    def pieces(self) -> list[Path]:
        found = [path for path in self.storage.rglob("*") if path.is_file()]
        return [path for path in found if not path.name.startswith(".draft-")]

    async def sealed(self, size: int) -> None:
        """Wait until so many bytes were sealed."""
        await until(lambda: max((int(path.name) + path.stat().st_size for path in self.pieces()), default=0) >= size)


async def until(what: Callable[[], bool]) -> None:
    for _ in range(1000):
        with contextlib.suppress(FileNotFoundError):  # it was joined with another one in this moment
            if what():
                return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within ten seconds")


@pytest.fixture
async def printing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sealing, "_EVERY_S", 0.01)
    found = Printing(tmp_path)
    yield found
    found.sealer.close()


async def test_what_is_printed_is_read_elsewhere_before_the_end(printing: Printing):
    printing.sealer.follow(JOB)
    printing.print("first\n")
    await printing.sealed(6)

    opened = await printing.elsewhere.open(JOB, "process")

    assert opened is not None
    assert (opened.size, opened.grows) == (6, False)
    assert await opened.read(0, 100) == b"first\n"
    assert await printing.sealer.release(JOB) is True


async def test_what_comes_slowly_makes_few_pieces(printing: Printing):
    printing.sealer.follow(JOB)
    for number in range(1, 101):
        printing.print(LINE)
        await printing.sealed(number * len(LINE))
    await printing.sealer.release(JOB)

    opened = await printing.elsewhere.open(JOB, "process")

    assert opened is not None
    assert await opened.read(0, 10_000) == LINE.encode() * 100
    assert len(printing.pieces()) <= 7


async def test_what_comes_fast_makes_pieces_that_are_not_joined_again(
    printing: Printing, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sealing, "_LARGEST", 64)
    printing.print(LINE * 64)
    printing.sealer.follow(JOB)
    await printing.sealed(64 * len(LINE))
    await printing.sealer.release(JOB)

    opened = await printing.elsewhere.open(JOB, "process")

    assert opened is not None
    assert await opened.read(8, 5000) == (LINE.encode() * 64)[8:]
    assert {path.stat().st_size for path in printing.pieces()} == {64}


async def test_a_reader_goes_on_when_its_pieces_were_joined_or_the_whole_log_has_come(printing: Printing):
    printing.sealer.follow(JOB)
    for number in range(1, 4):
        printing.print(LINE * (5 - number))
        await printing.sealed(len(LINE) * (4, 7, 9)[number - 1])
    opened, late = [await printing.elsewhere.open(JOB, "process") for _ in range(2)]
    assert opened is not None
    assert late is not None
    printing.print(LINE * 40)
    await printing.sealed(49 * len(LINE))
    await until(lambda: len(printing.pieces()) == 1)
    joined = await opened.read(0, 9 * len(LINE))
    sealed = await printing.sealer.release(JOB)
    folder = printing.log.parent / "scratch"
    folder.mkdir()
    printing.log.rename(folder / "process.log")
    await printing.store.commit(JOB, folder, None, sealed=sealed)

    assert joined == await late.read(0, 9 * len(LINE)) == LINE.encode() * 9


async def test_a_silent_job_leaves_nothing(printing: Printing):
    printing.sealer.follow(JOB)
    await asyncio.sleep(0.1)

    assert await printing.sealer.release(JOB) is False
    assert printing.pieces() == []


async def test_a_storage_that_comes_back_gets_all(printing: Printing, monkeypatch: pytest.MonkeyPatch):
    kept, tries = printing.store.keep_segment, []

    async def keep_segment(job: Job, step: str, start: int, content: bytes) -> None:
        tries.append(start)
        if len(tries) < 3:
            raise StorageUnavailable("it is away", "storage.url")
        await kept(job, step, start, content)

    monkeypatch.setattr(printing.store, "keep_segment", keep_segment)
    printing.sealer.follow(JOB)
    printing.print("first\n")

    await printing.sealed(6)

    assert tries == [0, 0, 0]
