"""Every kind of storage keeps the same promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from graticule.data.storages.local import LocalStorage
from graticule.data.storages.s3 import S3Storage
from graticule.errors import StorageUnavailable
from graticule.testing.storage import StorageContract, content_of, file_of, folder_of, keys_of
from tests.object_storage import ObjectStorage

pytestmark = pytest.mark.anyio


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> LocalStorage:
        return LocalStorage(tmp_path / "storage")

    @pytest.mark.parametrize("key", ["default/../../etc", "/etc/passwd"])
    async def test_no_key_leads_out(self, storage: LocalStorage, key: str) -> None:
        with pytest.raises(ValueError, match="out of the storage"):
            await storage.find(key)

    async def test_a_folder_on_another_disk_is_copied(
        self, storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        renamed = Path.rename

        def rename(self: Path, target: Path) -> Path:
            if self.name == "job":
                raise OSError(18, "Invalid cross-device link")
            return renamed(self, target)

        monkeypatch.setattr(Path, "rename", rename)
        source = folder_of(tmp_path / "job", outputs__a_txt=b"abc")

        await storage.store_folder(source, "default/jobs/j1/1")

        assert await content_of(storage, "default/jobs/j1/1/outputs/a.txt") == b"abc"
        assert not source.exists()

    async def test_what_cannot_be_stored_is_still_where_it_was(self, storage: LocalStorage, tmp_path: Path) -> None:
        source = folder_of(tmp_path / "job", a_txt=b"abc")
        file_of(tmp_path / "storage", b"a file is no folder")

        with pytest.raises(StorageUnavailable) as error:
            await storage.store_folder(source, "default/jobs/j1/1")

        assert error.value.setting == "storage.folder"
        assert (source / "a.txt").read_bytes() == b"abc"

    @pytest.mark.parametrize("instead", [False, True], ids=["nothing there", "an empty folder there"])
    async def test_what_lay_on_a_disk_that_is_not_mounted_is_out_of_reach_but_not_lost(
        self, storage: LocalStorage, tmp_path: Path, *, instead: bool
    ) -> None:
        await storage.store_content(b"abc", "default/a.txt")
        (tmp_path / "storage").rename(tmp_path / "unmounted")
        if instead:
            (tmp_path / "storage").mkdir()

        for asked in (storage.find("default/a.txt"), content_of(storage, "default/a.txt"), keys_of(storage, "default")):
            with pytest.raises(StorageUnavailable, match="mounted"):
                await asked
        with pytest.raises(StorageUnavailable, match="mounted"):
            await storage.store_content(b"abc", "default/b.txt")
        assert not instead or list((tmp_path / "storage").iterdir()) == []

        if instead:
            (tmp_path / "storage").rmdir()
        (tmp_path / "unmounted").rename(tmp_path / "storage")
        assert await content_of(storage, "default/a.txt") == b"abc"
        assert await storage.find("default/b.txt") is None


class TestS3Storage(StorageContract):
    @pytest.fixture
    def storage(self, object_storage: ObjectStorage, bucket: str) -> S3Storage:
        return S3Storage(object_storage.place(bucket, "some/prefix"))

    async def test_keys_lie_below_the_prefix(
        self, storage: S3Storage, object_storage: ObjectStorage, bucket: str, tmp_path: Path
    ) -> None:
        await storage.store_file(file_of(tmp_path / "a", b"abc"), "default/a.txt")

        assert (object_storage.bucket(bucket) / "some/prefix/default/a.txt").read_bytes() == b"abc"

    async def test_a_signed_address_gives_the_file_to_whoever_has_it(self, storage: S3Storage, tmp_path: Path) -> None:
        await storage.store_file(file_of(tmp_path / "a", b"abcdef"), "default/a ü.tif", media_type="image/tiff")

        url = storage.signed_url("default/a ü.tif", seconds=60)

        assert url is not None
        answer = httpx2.get(url, headers={"range": "bytes=1-2"}, trust_env=False)
        assert (answer.status_code, answer.content) == (206, b"bc")
        assert answer.headers["content-type"] == "image/tiff"
        assert httpx2.get(url.replace("Expires=60", "Expires=600"), trust_env=False).status_code == 403

    async def test_a_folder_that_fails_half_way_leaves_nothing(self, storage: S3Storage, tmp_path: Path) -> None:
        # In this object storage no key can lie below that of another file, so the second file is refused.
        source = folder_of(tmp_path / "job", a_txt=b"a", b__c=b"bc")
        await storage.store_file(source / "a.txt", "default/jobs/j1/1/b")

        with pytest.raises(StorageUnavailable):
            await storage.store_folder(source, "default/jobs/j1/1")

        assert await keys_of(storage, "default") == []
        assert (source / "a.txt").read_bytes() == b"a"

    async def test_a_wrong_key_is_refused(self, object_storage: ObjectStorage, bucket: str, tmp_path: Path) -> None:
        wrong = S3Storage(replace(object_storage.place(bucket), secret_access_key="guessed"))

        with pytest.raises(StorageUnavailable) as error:
            await wrong.store_file(file_of(tmp_path / "a", b"abc"), "default/a.txt")

        assert "refuses the key" in error.value.reason
        assert "storage.secret_access_key" in error.value.setting
        assert list(object_storage.bucket(bucket).iterdir()) == []

    async def test_a_bucket_that_is_not_there_is_named(self, object_storage: ObjectStorage, tmp_path: Path) -> None:
        storage = S3Storage(object_storage.place("no-such-bucket"))

        with pytest.raises(StorageUnavailable) as error:
            await storage.store_file(file_of(tmp_path / "a", b"abc"), "default/a.txt")

        assert error.value.setting == "storage.url"
        assert "no-such-bucket" in error.value.reason
        with pytest.raises(StorageUnavailable, match="no-such-bucket"):
            await storage.check()

    async def test_a_storage_that_is_gone_is_not_an_empty_one(self, tmp_path: Path) -> None:
        nowhere = ObjectStorage(tmp_path, port=1)
        storage = S3Storage(nowhere.place("bucket"))

        for asked in (
            storage.check(),
            storage.find("a"),
            storage.open("a"),
            storage.remove("a"),
            keys_of(storage, "a"),
        ):
            with pytest.raises(StorageUnavailable) as error:
                await asked
            assert error.value.setting == "storage.endpoint"
