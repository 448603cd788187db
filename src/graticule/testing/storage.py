"""What every storage promises; subclass ``StorageContract`` and give a ``storage`` fixture."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

from graticule.data.storage import Kept, Storage, read_all
from graticule.errors import ContentLost

PATTERN = bytes(range(256)) * 4096
"""One MiB in which every byte tells its place within 256."""


def folder_of(place: Path, **files: bytes) -> Path:
    """Make a folder of files; ``__`` in a name is a folder, ``_`` a dot."""
    for name, content in files.items():
        path = place / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place


def file_of(place: Path, content: bytes) -> Path:
    """Make a file."""
    place.write_bytes(content)
    return place


async def content_of(storage: Storage, key: str) -> bytes:
    """Return what is kept under a key."""
    return await read_all(Kept(storage=storage, key=key))


async def keys_of(storage: Storage, key: str) -> list[str]:
    """Return the keys of all files below a key."""
    return sorted([file.key async for file in storage.files(key)])


class StorageContract:
    """Promises of a storage. ``storage`` is a fixture that gives an empty one."""

    async def test_a_stored_file_is_read(self, storage: Storage, tmp_path: Path) -> None:
        await storage.store_file(file_of(tmp_path / "a", b"abc"), "default/a.txt")

        assert await content_of(storage, "default/a.txt") == b"abc"

    async def test_a_stored_file_stays_where_it_was(self, storage: Storage, tmp_path: Path) -> None:
        source = file_of(tmp_path / "a", b"abc")

        await storage.store_file(source, "default/a.txt")

        assert source.read_bytes() == b"abc"

    async def test_a_few_bytes_are_kept_and_replaced(self, storage: Storage) -> None:
        await storage.store_content(b"before", "default/a.txt")

        await storage.store_content(b"after!!", "default/a.txt")

        assert await content_of(storage, "default/a.txt") == b"after!!"
        assert await keys_of(storage, "default") == ["default/a.txt"]

    async def test_an_empty_file_is_kept(self, storage: Storage, tmp_path: Path) -> None:
        await storage.store_file(file_of(tmp_path / "a", b""), "default/a.txt")

        assert await content_of(storage, "default/a.txt") == b""

    async def test_a_file_of_many_parts_is_kept_whole(self, storage: Storage, tmp_path: Path) -> None:
        await storage.store_file(file_of(tmp_path / "a", PATTERN * 12 + b"end"), "default/a.bin")

        assert await content_of(storage, "default/a.bin") == PATTERN * 12 + b"end"

    async def test_a_file_is_replaced(self, storage: Storage, tmp_path: Path) -> None:
        await storage.store_file(file_of(tmp_path / "a", b"before"), "default/a.txt")
        before = await storage.find("default/a.txt")

        await storage.store_file(file_of(tmp_path / "a", b"after!!"), "default/a.txt")

        after = await storage.find("default/a.txt")
        assert await content_of(storage, "default/a.txt") == b"after!!"
        assert before is not None
        assert after is not None
        assert before.etag != after.etag

    async def test_a_folder_is_kept_under_its_key(self, storage: Storage, tmp_path: Path) -> None:
        source = folder_of(tmp_path / "job", outputs__a_txt=b"a", outputs__b_tif=b"bb", process_log=b"said")

        await storage.store_folder(source, "default/jobs/j1/1", media_types={"outputs/b.tif": "image/tiff"})

        assert await content_of(storage, "default/jobs/j1/1/outputs/b.tif") == b"bb"
        assert await keys_of(storage, "default/jobs/j1") == [
            "default/jobs/j1/1/outputs/a.txt",
            "default/jobs/j1/1/outputs/b.tif",
            "default/jobs/j1/1/process.log",
        ]
        assert not source.exists()

    async def test_a_folder_can_be_stored_again(self, storage: Storage, tmp_path: Path) -> None:
        await storage.store_folder(folder_of(tmp_path / "job", a_txt=b"first"), "default/jobs/j1/1")

        await storage.store_folder(folder_of(tmp_path / "job", a_txt=b"second"), "default/jobs/j1/1")

        assert await content_of(storage, "default/jobs/j1/1/a.txt") == b"second"

    @pytest.mark.parametrize(
        ("start", "stop", "expected"),
        [(0, 3, b"abc"), (2, 4, b"cd"), (4, None, b"ef"), (0, None, b"abcdef"), (5, 6, b"f"), (3, 3, b"")],
        ids=["start", "middle", "from", "all", "last", "nothing"],
    )
    async def test_a_range_is_read(
        self, storage: Storage, tmp_path: Path, start: int, stop: int | None, expected: bytes
    ) -> None:
        await storage.store_file(file_of(tmp_path / "a", b"abcdef"), "default/a.txt")

        content = await storage.open("default/a.txt", start=start, stop=stop)

        assert b"".join([piece async for piece in content.pieces]) == expected
        assert content.file == await storage.find("default/a.txt")
        assert content.file.size == 6

    async def test_a_large_file_comes_in_pieces(self, storage: Storage, tmp_path: Path) -> None:
        await storage.store_file(file_of(tmp_path / "a", PATTERN * 8), "default/a.bin")

        content = await storage.open("default/a.bin", start=1, stop=(7 << 20) + 3)
        sizes, beginning = [], b""
        async for piece in content.pieces:
            beginning = beginning or piece[:3]
            sizes.append(len(piece))

        assert sum(sizes) == (7 << 20) + 2
        assert max(sizes) <= 1 << 20
        assert beginning == b"\1\2\3"

    async def test_who_stops_reading_leaves_nothing_open(self, storage: Storage, tmp_path: Path) -> None:
        await storage.store_file(file_of(tmp_path / "a", PATTERN * 8), "default/a.bin")

        content = await storage.open("default/a.bin")
        async with aclosing(content.pieces):
            assert await anext(content.pieces)

        await storage.remove("default/a.bin")
        assert await storage.find("default/a.bin") is None

    async def test_what_is_not_there_cannot_be_read(self, storage: Storage) -> None:
        with pytest.raises(ContentLost) as error:
            await storage.open("default/nothing.txt")

        assert error.value.key == "default/nothing.txt"
        assert await storage.find("default/nothing.txt") is None
        assert await keys_of(storage, "default") == []

    async def test_a_file_is_removed_alone(self, storage: Storage, tmp_path: Path) -> None:
        await storage.store_file(file_of(tmp_path / "a", b"a"), "default/a.txt")
        await storage.store_file(file_of(tmp_path / "a", b"b"), "default/a.txt.more")

        await storage.remove("default/a.txt")

        assert await keys_of(storage, "default") == ["default/a.txt.more"]

    async def test_everything_below_a_key_is_removed_and_nothing_else(self, storage: Storage, tmp_path: Path) -> None:
        for key in ("default/jobs/j1/1", "default/jobs/j1/2", "default/jobs/j10/1", "other/jobs/j1/1"):
            await storage.store_folder(folder_of(tmp_path / "job", outputs__a=b"a", process_log=b"b"), key)

        await storage.remove("default/jobs/j1")

        assert await keys_of(storage, "default") == ["default/jobs/j10/1/outputs/a", "default/jobs/j10/1/process.log"]
        assert len(await keys_of(storage, "other")) == 2

    async def test_what_is_not_there_can_be_removed(self, storage: Storage) -> None:
        await storage.remove("default/nothing")

    async def test_names_are_kept_as_they_are(self, storage: Storage, tmp_path: Path) -> None:
        key = "default/jobs/j1/1/outputs/a b+c%20ü&d.txt"
        await storage.store_file(file_of(tmp_path / "a", b"abc"), key)

        assert await content_of(storage, key) == b"abc"
        assert await keys_of(storage, "default") == [key]

    async def test_a_storage_that_can_be_written_is_called_well(self, storage: Storage, tmp_path: Path) -> None:
        await storage.store_file(file_of(tmp_path / "a", b"abc"), "default/a.txt")

        await storage.check()

        assert await keys_of(storage, "default") == ["default/a.txt"]
