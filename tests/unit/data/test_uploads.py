"""Uploaded files get their names when they are whole, and go when their time is up."""

import hashlib
import resource
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest

from graticule.data.storage import read_all
from graticule.data.storages.local import LocalStorage
from graticule.data.uploads import Uploads, guess_type, renew_uploads, safe_name
from graticule.errors import InvalidBody, NoSuchFile, StorageUnavailable, UploadConflict

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path / "storage")


@pytest.fixture
def uploads(tmp_path, storage):
    samples = tmp_path / "samples"
    samples.mkdir()
    (samples / "dem.tif").write_bytes(b"II*\0sample")
    return uploads_of(tmp_path, storage, "one")


def uploads_of(tmp_path, storage, server):
    """The uploads as one server has them."""
    return Uploads(storage, "default/uploads", staging=tmp_path / server, samples=tmp_path / "samples")


@pytest.fixture
def two_hours_later(monkeypatch):
    """Call it, and two hours have passed."""
    return lambda: monkeypatch.setattr("graticule.data.uploads._now", lambda: time.time_ns() // 1000 + 7200 * 10**6)


async def kept(uploads: Uploads, content: bytes = b"abc", name: str = "a.txt", **told):
    upload = uploads.begin(name, **told)
    with uploads.append(upload.id, 0) as writer:
        writer.write(content)
    return await uploads.finish(upload.id, writer.sha256)


async def test_a_finished_file_is_found_by_its_address(uploads):
    upload = await kept(uploads, b"abc")

    assert await uploads.has(upload.address)
    assert await read_all(uploads.content(upload)) == b"abc"
    assert upload.size == 3
    assert upload.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@contextmanager
def a_disk_that_takes(size: int):
    """Let no file of this process grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_takes_on_no_file_and_keeps_nothing_of_it(tmp_path, uploads):
    with a_disk_that_takes(0), pytest.raises(StorageUnavailable):
        uploads.begin("a.txt")

    assert list((tmp_path / "one").iterdir()) == []


async def test_what_a_full_disk_did_not_take_is_sent_again_when_it_has_room(uploads):
    upload = uploads.begin("a.txt", length=6)
    with a_disk_that_takes(4), pytest.raises(StorageUnavailable), uploads.append(upload.id, 0) as writer:
        writer.write(b"abcdef")
    with uploads.append(upload.id, 4) as rest:
        rest.write(b"ef")

    assert await read_all(uploads.content(await uploads.finish(upload.id))) == b"abcdef"


async def test_a_file_that_has_come_whole_is_kept_when_the_disk_has_room_for_its_document(uploads):
    upload = uploads.begin("a.txt", length=3)
    with uploads.append(upload.id, 0) as writer:
        writer.write(b"abc")
    with a_disk_that_takes(3), pytest.raises(StorageUnavailable):
        await uploads.finish(upload.id)

    assert (await uploads.get(upload.id)).complete


async def test_half_a_file_is_not_found(uploads):
    upload = uploads.begin("a.txt", length=6)
    with uploads.append(upload.id, 0) as writer:
        writer.write(b"abc")

    assert not await uploads.has(upload.address)
    assert (await uploads.get(upload.id)).size == 3
    assert await uploads.complete() == []


async def test_a_file_is_continued_where_it_ended(uploads):
    upload = uploads.begin("a.txt", length=6)
    for offset, part in ((0, b"abc"), (3, b"def")):
        with uploads.append(upload.id, offset) as writer:
            writer.write(part)

    done = await uploads.finish(upload.id, writer.sha256)

    assert done.sha256 == hashlib.sha256(b"abcdef").hexdigest()


@pytest.mark.parametrize("offset", [0, 2, 4], ids=["again", "before", "after"])
def test_a_file_is_continued_nowhere_else(uploads, offset):
    upload = uploads.begin("a.txt", length=6)
    with uploads.append(upload.id, 0) as writer:
        writer.write(b"abc")

    with pytest.raises(UploadConflict) as error:
        uploads.append(upload.id, offset)

    assert error.value.offset == 3


def test_two_cannot_send_one_file_at_a_time(uploads):
    upload = uploads.begin("a.txt", length=6)

    with uploads.append(upload.id, 0), pytest.raises(UploadConflict):
        uploads.append(upload.id, 0)


async def test_an_empty_file_is_refused_and_gone(uploads):
    upload = uploads.begin("a.txt")

    with pytest.raises(InvalidBody):
        await uploads.finish(upload.id)
    with pytest.raises(NoSuchFile):
        await uploads.get(upload.id)


async def test_what_has_expired_is_not_found_though_nobody_swept(uploads, two_hours_later):
    upload = await kept(uploads, expiry=HOUR)

    two_hours_later()

    assert not await uploads.has(upload.address)
    assert await uploads.complete() == []
    with pytest.raises(NoSuchFile):
        await uploads.get(upload.id)


async def test_sweeping_removes_what_has_expired_and_nothing_else(uploads, two_hours_later):
    await kept(uploads, expiry=HOUR)
    uploads.begin("begun.txt", length=6, expiry=HOUR)
    stays = await kept(uploads, expiry=3 * HOUR)
    for_ever = await kept(uploads)

    two_hours_later()

    assert await uploads.sweep() == 2
    assert {upload.id for upload in await uploads.complete()} == {stays.id, for_ever.id}


def test_a_job_reads_a_file_where_it_lies(uploads):
    place = uploads.place_of("0123456789abcdef0123456789abcdef/a.txt")

    assert place.parts[-5:] == ("default", "uploads", "0123456789abcdef0123456789abcdef", "file", "a.txt")


async def test_a_file_that_cannot_be_stored_is_stored_when_it_is_asked_for(uploads, tmp_path):
    upload = uploads.begin("a.txt", length=3)
    with uploads.append(upload.id, 0) as writer:
        writer.write(b"abc")
    (tmp_path / "storage").write_bytes(b"in the way")
    with pytest.raises(StorageUnavailable):
        await uploads.finish(upload.id)
    (tmp_path / "storage").unlink()

    assert await uploads.has(upload.address)
    assert await read_all(uploads.content(upload)) == b"abc"


async def test_a_server_that_died_before_storing_a_file_stores_it_later(uploads, tmp_path, storage):
    upload = uploads.begin("a.txt", length=3)
    with uploads.append(upload.id, 0) as writer:
        writer.write(b"abc")

    restarted = uploads_of(tmp_path, storage, "one")

    assert (await restarted.get(upload.id)).complete
    assert await read_all(restarted.content(upload)) == b"abc"


async def test_every_server_finds_a_complete_file(uploads, tmp_path, storage):
    upload = await kept(uploads, b"abc")

    other = uploads_of(tmp_path, storage, "two")

    assert await other.get(upload.id) == upload
    assert await other.complete() == [upload]
    assert await read_all(other.content(upload)) == b"abc"


async def test_what_another_server_removed_is_gone(uploads, tmp_path, storage):
    upload = await kept(uploads, b"abc")
    assert await uploads.complete() == [upload]

    await uploads_of(tmp_path, storage, "two").remove(upload.id)

    assert await uploads.complete() == []
    assert not await uploads.has(upload.address)


async def test_samples_are_the_same_for_everybody(uploads):
    assert await uploads.has("samples/dem.tif")
    assert uploads.place_of("samples/dem.tif").read_bytes() == b"II*\0sample"
    assert uploads.sample("dem.tif").read_bytes() == b"II*\0sample"
    assert [sample.name for sample in uploads.samples()] == ["dem.tif"]


@pytest.mark.parametrize(
    "address",
    [
        "samples/nothing.tif",
        "samples/../uploads",
        "samples/%2e%2e%2fsecret",
        "samples/",
        "samples",
        "../../etc/passwd",
        "0123456789abcdef0123456789abcdef/a.txt",
        "",
    ],
)
async def test_no_address_leads_elsewhere(uploads, address):
    assert not await uploads.has(address)


async def test_the_document_beside_a_file_is_not_served(uploads):
    upload = await kept(uploads)

    assert not await uploads.has(f"{upload.id}/upload.json")
    assert not await uploads.has(f"{upload.id}/other.txt")


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("dem.tif", "dem.tif"),
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\my dem.tif", "my_dem.tif"),
        ("Höhe über See.TIF", "Hohe_uber_See.TIF"),
        ('a"b\r\nc.json', "a_b_c.json"),
        (".hidden", "upload.hidden"),
        ("日本.tif", "upload.tif"),
        ("", "upload"),
        ("a" * 300 + ".tif", "a" * 96 + ".tif"),
    ],
    ids=["plain", "path", "windows", "accents", "header", "dot", "signs", "none", "long"],
)
def test_names_are_made_safe(sent, name):
    assert safe_name(sent) == name


def test_a_file_without_a_name_gets_the_ending_of_its_type():
    assert safe_name("", "application/json") == "upload.json"


def test_identifiers_cannot_be_guessed(uploads):
    ids = {uploads.begin("a.txt").id for _ in range(20)}

    assert len(ids) == 20
    assert all(len(one) == 32 for one in ids)


@pytest.mark.parametrize(
    ("said", "kept_type"),
    [
        ("", "image/tiff; application=geotiff"),
        ("application/octet-stream", "image/tiff; application=geotiff"),
        ("application/x-www-form-urlencoded", "image/tiff; application=geotiff"),
        ("image/tiff", "image/tiff"),
        ("text/html\r\nX: 1", "image/tiff; application=geotiff"),
    ],
    ids=["nothing", "octets", "curl", "told", "evil"],
)
def test_a_vague_media_type_is_replaced_by_what_the_ending_means(uploads, said, kept_type):
    assert uploads.begin("a.tif", media_type=said).media_type == kept_type


def test_spatial_files_have_types():
    assert guess_type("a.geojson") == "application/geo+json"
    assert guess_type("a.unknown-ending") == "application/octet-stream"


@pytest.mark.parametrize("kept_as", ["file", ".part"], ids=["whole", "not renamed yet"])
async def test_uploads_of_an_earlier_version_are_found_at_their_places_of_today(tmp_path, uploads, kept_as):
    identifier = "0123456789abcdef" * 2
    place = tmp_path / "storage" / "default" / "uploads" / identifier
    place.mkdir(parents=True)
    (place / kept_as).write_bytes(b"abc")
    (place / ".upload.json").write_text(f'{{"id": "{identifier}", "name": "file", "size": 3, "sha256": "00"}}')

    renew_uploads(place.parent)
    renew_uploads(place.parent)

    assert await uploads.has(f"{identifier}/file")
    assert await read_all(uploads.content(await uploads.get(identifier))) == b"abc"
    assert sorted(path.name for path in place.iterdir()) == ["file", "upload.json"]


async def test_an_upload_of_another_actor_is_as_one_that_is_not_there(uploads):
    upload = await kept(uploads, b"abc", actor="ada")

    assert await uploads.has(upload.address, actor="ada")
    assert await uploads.has(upload.address)
    assert not await uploads.has(upload.address, actor="bob")
    assert await uploads.has("samples/dem.tif", actor="bob")
