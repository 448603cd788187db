"""A server whose results and uploads lie in an object storage, which checks signatures."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import psutil
import pytest
import rasterio
from affine import Affine

from graticule.client import Client
from tests.e2e.test_jobs import wait_for
from tests.object_storage import SECRET_KEY, ObjectStorage
from tests.postgres import Postgres
from tests.serving import Server, ServerDidNotStart, Worker

PROCESSES = Path(__file__).with_name("job_processes.py")
PATTERN = bytes(range(256)) * 256
MIB = 1 << 20
TOKEN = "a-token-for-this-service-alone"


def client(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, timeout=60, trust_env=False, headers={"Accept": "application/json"})


@pytest.fixture(scope="module")
def bucket_name(object_storage: ObjectStorage) -> str:
    object_storage.bucket("results-of-one")
    return "results-of-one"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, object_storage: ObjectStorage, bucket_name: str
) -> Iterator[Server]:
    """A server with the processes of ``job_processes.py`` on a bucket."""
    environment = object_storage.settings(bucket_name, "service/one")
    home = tmp_path_factory.mktemp("s3") / "home"
    with Server(home, [str(PROCESSES)], environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with client(server) as found:
        yield found


@pytest.fixture
def own_storage(tmp_path: Path) -> Iterator[ObjectStorage]:
    """An object storage that a test may stop."""
    with ObjectStorage(tmp_path / "own") as running:
        yield running


def send(http: httpx2.Client, process: str, inputs: dict[str, Any], **more: Any) -> str:
    answer = http.post(
        f"/processes/{process}/execution", json={"inputs": inputs, **more}, headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobID"])


def made(http: httpx2.Client, process: str, **inputs: Any) -> str:
    """Run a process and return the address of its job."""
    job = send(http, process, inputs)
    assert wait_for(http, job)["status"] == "successful"
    return f"/jobs/{job}"


def big(http: httpx2.Client, megabytes: float = 2, kind: str = "application/x-test") -> str:
    return made(http, "big", megabytes=megabytes, kind=kind)


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- results -----------------------------------------------------------------------------------------------------


def test_a_result_lies_in_the_bucket_below_the_token_of_its_job(
    http: httpx2.Client, object_storage: ObjectStorage, bucket_name: str, server: Server
) -> None:
    job = big(http)

    place = object_storage.bucket(bucket_name) / "service/one/default" / job.lstrip("/")
    assert names_in(place) == ["1/outputs/big.bin"]
    assert (place / "1/outputs/big.bin").stat().st_size == 2 * MIB
    assert names_in(server.home / "scratch" / "jobs") == []


@pytest.mark.parametrize(
    ("headers", "status", "content"),
    [
        ({}, 200, PATTERN * 32),
        ({"Range": "bytes=10-19"}, 206, bytes(range(10, 20))),
        ({"Range": "bytes=-3"}, 206, bytes([253, 254, 255])),
        ({"Range": "bytes=2097150-"}, 206, bytes([254, 255])),
        ({"Range": "bytes=9000000-"}, 416, None),
    ],
    ids=["all", "range", "end", "from", "beyond"],
)
def test_a_result_is_sent_in_ranges(
    http: httpx2.Client, headers: dict[str, str], status: int, content: bytes | None
) -> None:
    answer = http.get(f"{big(http)}/results/result", headers={"Accept": "*/*", **headers})

    assert answer.status_code == status
    if content is not None:
        assert answer.content == content
        assert answer.headers["content-length"] == str(len(content))
        digest = base64.b64encode(hashlib.sha256(PATTERN * 32).digest()).decode()
        assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    else:
        assert answer.headers["content-range"] == "bytes */2097152"


def test_what_a_client_has_is_not_sent_again(http: httpx2.Client) -> None:
    place = f"{big(http)}/results/result"
    head = http.head(place, headers={"Accept": "*/*"})

    again = http.get(place, headers={"Accept": "*/*", "If-None-Match": head.headers["etag"]})

    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(2 * MIB))
    assert (again.status_code, again.content) == (304, b"")


def test_a_document_holds_what_lies_in_the_bucket(http: httpx2.Client) -> None:
    job = big(http, 0.5)

    answer = http.get(f"{job}/results", headers={"Prefer": "return=representation", "Accept-Profile": "ogc-results"})

    value = answer.json()["result"]
    assert base64.b64decode(value["value"]) == PATTERN * 8
    assert (value["encoding"], value["mediaType"]) == ("base64", "application/x-test")


def test_a_text_stands_in_a_document_as_a_text(http: httpx2.Client) -> None:
    job = big(http, 0.0625, "text/csv; charset=iso-8859-1")

    answer = http.get(f"{job}/results/result")

    assert len(answer.json()) == 65536


def test_the_log_is_read_from_the_bucket(http: httpx2.Client) -> None:
    job = made(http, "chatter", lines=3)

    log = http.get(f"{job}/logs/process")

    assert log.text == "line 0\nline 1\nline 2\na child's line\n"
    assert f"{job}/logs/process" in {urlsplit(link["href"]).path for link in http.get(job).json()["links"]}


def test_a_log_in_the_bucket_is_read_by_pages_ranges_and_events(http: httpx2.Client) -> None:
    job = made(http, "chatter", lines=3)

    page = http.get(f"{job}/logs/process", params={"f": "json", "limit": 10}).json()
    following = http.get(next(link["href"] for link in page["links"] if link["rel"] == "next")).json()
    part = http.get(f"{job}/logs/process", headers={"Range": "bytes=7-12"})
    events = http.get(f"{job}/events", params={"offset": 14}).text
    last = events.rpartition("id: ")[2].partition("\n")[0]

    assert [line["text"] for line in page["lines"]] == ["line 0"]
    assert following["lines"][0]["offset"] == 7
    assert (part.status_code, part.text) == (206, "line 1")
    assert '"text":"line 2\\na child\'s line\\n"' in events
    assert http.get(f"{job}/events", headers={"Last-Event-ID": last}).status_code == 204


def test_a_log_that_somebody_removed_in_the_bucket_is_said_to_be_lost(
    http: httpx2.Client, object_storage: ObjectStorage, bucket_name: str
) -> None:
    job = made(http, "chatter", lines=3)
    assert http.get(f"{job}/logs/process").status_code == 200
    (object_storage.bucket(bucket_name) / "service/one/default" / job.lstrip("/") / "1/process.log").unlink()

    assert http.get(f"{job}/logs/process").status_code == 404
    assert http.head(f"{job}/logs/process").status_code == 404
    assert http.get(f"{job}/logs/process", headers={"If-None-Match": "*"}).status_code == 404
    assert http.get(job).json()["status"] == "successful"
    assert "event: status" in http.get(f"{job}/events").text


def test_the_page_of_a_failed_job_shows_the_end_of_its_log(http: httpx2.Client) -> None:
    job = send(http, "crash", {"how": "raise"})
    wait_for(http, job)

    assert "about to raise" in http.get(f"/jobs/{job}", headers={"Accept": "text/html"}).text


def test_a_second_delete_removes_all_of_a_job_in_the_bucket(
    http: httpx2.Client, object_storage: ObjectStorage, bucket_name: str
) -> None:
    job = big(http)

    assert http.delete(job).status_code == 200

    assert names_in(object_storage.bucket(bucket_name) / "service/one/default" / job.lstrip("/")) == []
    assert http.get(f"{job}/results/result").status_code == 410


def test_a_content_that_somebody_removed_in_the_bucket_is_said_to_be_lost(
    http: httpx2.Client, object_storage: ObjectStorage, bucket_name: str
) -> None:
    job = big(http)
    place = object_storage.bucket(bucket_name) / "service/one/default" / job.lstrip("/")
    (place / "1/outputs/big.bin").unlink()

    answer = http.get(f"{job}/results/result", headers={"Accept": "*/*"})

    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:graticule:problem:content-lost"
    assert "big.bin" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/results/result", "/results?outputs=result", "/results?profile=ogc-results"])
def test_a_head_tells_what_a_get_would_of_a_content_that_is_there_or_lost(
    http: httpx2.Client, object_storage: ObjectStorage, bucket_name: str, path: str
) -> None:
    job = big(http)
    address, inline = f"{job}{path}", {"Accept": "*/*", "Prefer": "return=representation"}
    got = http.get(address, headers=inline)
    head = http.head(address, headers=inline)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(got.content)))
    place = object_storage.bucket(bucket_name) / "service/one/default" / job.lstrip("/")
    (place / "1/outputs/big.bin").unlink()

    answers = [http.request(method, address, headers=inline) for method in ("GET", "HEAD")]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[1].headers["content-length"] == answers[0].headers["content-length"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_lost_content_is_not_said_to_be_unchanged(
    http: httpx2.Client, object_storage: ObjectStorage, bucket_name: str, method: str
) -> None:
    job = big(http)
    tag = http.head(f"{job}/results/result", headers={"Accept": "*/*"}).headers["ETag"]
    known = {"Accept": "*/*", "If-None-Match": tag}
    unchanged = http.request(method, f"{job}/results/result", headers=known)
    assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", tag)
    place = object_storage.bucket(bucket_name) / "service/one/default" / job.lstrip("/")
    (place / "1/outputs/big.bin").unlink()

    assert http.request(method, f"{job}/results/result", headers=known).status_code == 404


# --- results as inputs -------------------------------------------------------------------------------------------


def test_a_result_in_the_bucket_is_an_input_of_another_job(http: httpx2.Client) -> None:
    source = big(http)

    answer = http.post(
        "/processes/echo-all/execution",
        json={"inputs": {"octets": {"href": f"{source}/results/result"}}, "outputs": {"octets": {}}},
        headers={"Accept": "*/*"},
    )

    assert answer.status_code == 200, answer.text
    assert answer.content == PATTERN * 32


def test_a_raster_in_the_bucket_goes_from_job_to_job(http: httpx2.Client, tmp_path: Path) -> None:
    sent = upload(http, raster_of(tmp_path / "dem.tif", 600), "dem.tif")
    first = made(http, "reproject", raster={"href": sent["href"]}, crs="EPSG:3857")
    (output,) = http.get(f"{first}/results", headers={"Accept-Profile": "ogc-results"}).json()

    second = made(http, "raster-statistics", raster={"href": f"{first}/results/{output}"})

    assert http.get(f"{second}/results").status_code == 200


def test_a_result_that_somebody_removed_in_the_bucket_is_no_input(
    http: httpx2.Client, object_storage: ObjectStorage, bucket_name: str
) -> None:
    source = big(http)
    place = object_storage.bucket(bucket_name) / "service/one/default" / source.lstrip("/")
    (place / "1/outputs/big.bin").unlink()

    answer = http.post(
        "/processes/echo-all/execution", json={"inputs": {"octets": {"href": f"{source}/results/result"}}}
    )

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/inputs/octets/href"
    assert "run its job, again" in answer.text
    assert "X-Amz" not in answer.text


# --- uploads -----------------------------------------------------------------------------------------------------


def upload(http: httpx2.Client, content: bytes, name: str) -> dict[str, Any]:
    answer = http.post("/files", params={"name": name}, content=content)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def raster_of(path: Path, edge: int) -> bytes:
    """Return a raster whose pixels cannot be compressed, so that it does not fit into the ledger."""
    values = np.random.default_rng(1).integers(0, 255, (1, edge, edge), dtype="uint8")
    transform = Affine(0.001, 0, 8, 0, -0.001, 48)
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=edge, width=edge, dtype="uint8", crs="EPSG:4326", transform=transform
    ) as target:
        target.write(values)
    return path.read_bytes()


def test_an_upload_is_read_by_a_job_without_keys(http: httpx2.Client, tmp_path: Path) -> None:
    raster = raster_of(tmp_path / "dem.tif", 600)
    sent = upload(http, raster, "dem.tif")

    job = made(http, "reproject", raster={"href": sent["href"]}, crs="EPSG:3857")

    (output,) = http.get(f"{job}/results", headers={"Accept-Profile": "ogc-results"}).json()
    picture = http.get(f"{job}/results/{output}/0/preview.png")
    again = http.get(f"{job}/results/{output}/0/preview.png")
    assert picture.content[:4] == b"\x89PNG", picture.text
    assert again.content == picture.content
    assert http.get(sent["href"]).content == raster


def test_a_job_process_knows_no_key_of_the_storage(http: httpx2.Client) -> None:
    job = made(http, "who-am-i")

    seen = http.get(f"{job}/results").text

    assert SECRET_KEY not in seen
    assert "AWS" not in seen
    assert "STORAGE" not in seen


def test_a_removed_upload_is_missed_before_there_is_a_job(http: httpx2.Client) -> None:
    sent = upload(http, b"one,two\n", "table.csv")
    http.delete(sent["href"])

    answer = http.post("/processes/echo/execution", json={"inputs": {"message": {"href": sent["href"]}}})

    assert answer.status_code == 400
    assert "upload it again" in answer.text


def test_an_upload_that_goes_before_its_job_begins_is_named(
    http: httpx2.Client, object_storage: ObjectStorage, bucket_name: str
) -> None:
    sent = upload(http, b"hello", "message.txt")
    place = object_storage.bucket(bucket_name) / "service/one/default/uploads" / sent["id"]
    (place / "file/message.txt").unlink()

    answer = http.post("/processes/echo/execution", json={"inputs": {"message": {"href": sent["href"]}}})

    assert answer.status_code == 400
    assert "it may have expired: upload it, or run its job, again" in answer.text
    assert "X-Amz" not in answer.text


def test_an_upload_in_parts_is_found_by_another_server_when_it_is_complete(
    http: httpx2.Client, serve: Any, object_storage: ObjectStorage, bucket_name: str
) -> None:
    other = serve(env=object_storage.settings(bucket_name, "service/one"))
    tus = {"Tus-Resumable": "1.0.0"}
    begun = http.post("/files?name=a.bin", headers={**tus, "Upload-Length": "6"}).headers["location"]
    part = {**tus, "Content-Type": "application/offset+octet-stream"}
    path = urlsplit(begun).path

    http.patch(begun, content=b"abc", headers={**part, "Upload-Offset": "0"})
    before = httpx2.get(f"{other.url}{path}", trust_env=False).status_code
    http.patch(begun, content=b"def", headers={**part, "Upload-Offset": "3"})
    after = httpx2.get(f"{other.url}{path}", trust_env=False)

    assert before == 404
    assert (after.status_code, after.content) == (200, b"abcdef")
    assert len(httpx2.get(f"{other.url}/files?f=json&limit=100", trust_env=False).json()["files"]) >= 1


# --- several machines ---------------------------------------------------------------------------------------------


def test_servers_and_workers_of_one_database_share_a_bucket(
    postgres: Postgres, object_storage: ObjectStorage, bucket: str, tmp_path: Path
) -> None:
    database = {"GRATICULE_DATABASE__URL": postgres.new_database(), "GRATICULE_JOBS__WORKERS": "1"}
    environment = {**database, **object_storage.settings(bucket, "shared")}
    with (
        Server(tmp_path / "one", [str(PROCESSES)], environment=environment) as one,
        Server(tmp_path / "two", [str(PROCESSES)], environment=environment) as two,
        Worker(tmp_path / "three", [str(PROCESSES)], environment=environment),
        client(one) as first,
        client(two) as second,
    ):
        sent = upload(first, b"hello", "message.txt")
        jobs = [send(first, "who-am-i", {}) for _ in range(3)]
        jobs += [send(first, "big", {"megabytes": 1 + number, "kind": "x/y"}) for number in range(6)]
        statuses = {wait_for(second, job)["status"] for job in jobs}

        assert statuses == {"successful"}
        for number, job in enumerate(jobs[3:]):
            content = second.get(f"/jobs/{job}/results/result", headers={"Accept": "*/*"}).content
            assert len(content) == (1 + number) * MIB
        assert second.get(urlsplit(sent["href"]).path).content == b"hello"


def test_another_bucket_than_that_of_the_other_servers_is_refused(
    postgres: Postgres, object_storage: ObjectStorage, bucket: str, tmp_path: Path
) -> None:
    database = {"GRATICULE_DATABASE__URL": postgres.new_database()}
    with Server(tmp_path / "one", environment={**database, **object_storage.settings(bucket, "one")}):
        other = Server(tmp_path / "two", environment={**database, **object_storage.settings(bucket, "two")})

        with pytest.raises(ServerDidNotStart, match=r"setting storage\.url: .*not the storage that the other servers"):
            other.start()


# --- signed addresses --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory, object_storage: ObjectStorage) -> Iterator[Server]:
    """A server that sends clients to the storage, and wants a token."""
    token = [{"actor": "ada", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}]
    environment = {
        **object_storage.settings("signed-results", signed_urls=60),
        "GRATICULE_SECURITY__TOKENS": json.dumps(token),
    }
    home = tmp_path_factory.mktemp("signed") / "home"
    with Server(home, [str(PROCESSES)], environment=environment) as running:
        yield running


@pytest.fixture
def signed(signing: Server) -> Iterator[httpx2.Client]:
    with client(signing) as found:
        found.headers["authorization"] = f"Bearer {TOKEN}"
        yield found


def test_a_large_result_is_to_be_had_from_the_storage(signed: httpx2.Client, object_storage: ObjectStorage) -> None:
    job = big(signed)

    answer = signed.get(f"{job}/results/result", headers={"Accept": "*/*"})

    address = answer.headers["location"]
    assert (answer.status_code, answer.content) == (303, b"")
    assert address.startswith(f"{object_storage.endpoint}/signed-results/default{job}/1/outputs/big.bin?")
    content = httpx2.get(address, headers={"Range": "bytes=0-9"}, trust_env=False)
    assert (content.status_code, content.content) == (206, bytes(range(10)))
    assert content.headers["content-type"] == "application/x-test"


def test_a_small_result_and_all_heads_come_from_the_server(signed: httpx2.Client) -> None:
    small, large = big(signed, 0.5), big(signed)

    assert signed.get(f"{small}/results/result", headers={"Accept": "*/*"}).status_code == 200
    head = signed.head(f"{large}/results/result", headers={"Accept": "*/*"})
    assert (head.status_code, head.headers["content-length"]) == (200, str(2 * MIB))


def test_a_link_in_a_document_leads_to_the_storage(signed: httpx2.Client) -> None:
    job = big(signed)

    link = signed.get(f"{job}/results", headers={"Prefer": "return=minimal", "Accept-Profile": "ogc-results"}).json()

    content = httpx2.get(link["result"]["href"], trust_env=False)
    assert content.content == PATTERN * 32


def test_the_client_follows_to_the_storage_without_its_token(signing: Server, tmp_path: Path) -> None:
    with Client(signing.url, token=TOKEN) as graticule:
        job = graticule.submit("big", {"megabytes": 2, "kind": "application/x-test"})
        graticule.wait(job)
        saved = graticule.save_results(graticule.results(job), tmp_path)

    assert [path.read_bytes() for path in saved.values()] == [PATTERN * 32]


# --- a storage that fails ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"SECRET_ACCESS_KEY": "guessed"}, ["storage.secret_access_key", "refuses the key", "SignatureDoesNotMatch"]),
        ({"ACCESS_KEY_ID": "nobody"}, ["storage.access_key_id", "refuses the key", "XAdminUserNotFound"]),
        ({"URL": "s3://no-such-bucket"}, ["storage.url", "no-such-bucket", "NoSuchBucket"]),
        ({"URL": "s3://No_Bucket"}, ["storage.url", "No_Bucket", "InvalidBucketName"]),
        ({"REGION": "elsewhere-1"}, ["storage.region", "another region", "AuthorizationHeaderMalformed"]),
        ({"ENDPOINT": "http://127.0.0.1:1"}, ["storage.endpoint", "does not answer"]),
    ],
    ids=["wrong key", "unknown key", "no bucket", "no name of a bucket", "another region", "nobody there"],
)
def test_a_server_that_cannot_use_its_storage_does_not_start(
    object_storage: ObjectStorage, bucket: str, tmp_path: Path, changed: dict[str, str], words: list[str]
) -> None:
    settings = {**object_storage.settings(bucket), **{f"GRATICULE_STORAGE__{k}": v for k, v in changed.items()}}

    command = [sys.executable, "-m", "graticule", "serve", "--home", str(tmp_path / "home"), "--port", "0"]
    ended = subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode != 0
    last = ended.stderr.strip().splitlines()[-1]
    assert all(word in last for word in words), ended.stderr
    assert "StringToSign" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert SECRET_KEY not in ended.stderr


def test_a_job_waits_for_a_storage_that_comes_back(serve: Any, own_storage: ObjectStorage) -> None:
    server = serve(str(PROCESSES), env=own_storage.settings("results"))
    with client(server) as http:
        own_storage.stop()
        job = send(http, "big", {"megabytes": 2, "kind": "application/x-test"})
        time.sleep(2)
        during = http.get(f"/jobs/{job}").json()["status"]
        own_storage.start()

        assert during == "running"
        assert wait_for(http, job)["status"] == "successful"
        assert http.get(f"/jobs/{job}/results/result", headers={"Accept": "*/*"}).content == PATTERN * 32


@pytest.mark.slow
def test_a_storage_that_stays_away_fails_the_job_and_readers_are_told_to_come_again(
    serve: Any, own_storage: ObjectStorage
) -> None:
    server = serve(str(PROCESSES), env=own_storage.settings("results"))
    with client(server) as http:
        kept = big(http)
        own_storage.stop()
        job = send(http, "big", {"megabytes": 2, "kind": "application/x-test"})
        talks = send(http, "chatter", {"lines": 3})

        reading = http.get(f"{kept}/results/result", headers={"Accept": "*/*"})
        sending = http.post("/files?name=a.txt", content=b"abc")
        removing = http.delete(kept)
        assert [answer.status_code for answer in (reading, sending, removing)] == [503, 503, 503]
        assert reading.headers["retry-after"] == "5"
        assert http.get(kept).json()["status"] == "successful"

        ready = http.get("/health/ready")
        assert ready.status_code == 503
        assert {name for name, part in ready.json()["parts"].items() if not part["ok"]} == {"storage"}
        assert "results" not in ready.json()["parts"]["storage"]["reason"]

        failed = wait_for(http, job, seconds=60)
        assert failed["status"] == "failed"
        assert "results cannot be stored" in failed["message"]
        assert failed["exception"]["step"] == "stage-out"
        # What is kept in the ledger does not depend on the storage; what was printed does, and is not called empty.
        assert wait_for(http, talks, seconds=60)["status"] == "successful"
        assert http.get(f"/jobs/{talks}/logs/process").status_code == 503
        assert names_in(server.home / "scratch" / "jobs") == []

        own_storage.start()
        assert http.get("/health/ready").status_code == 200
        assert http.get(f"/jobs/{talks}/results").status_code == 200
        time.sleep(1)  # for half a second it is not asked again
        lost = http.get(f"/jobs/{talks}/logs/process")
        assert (lost.status_code, lost.json()["type"]) == (404, "urn:graticule:problem:content-lost")
        assert http.get(f"{kept}/results/result", headers={"Accept": "*/*"}).content == PATTERN * 32
        assert wait_for(http, send(http, "big", {"megabytes": 2, "kind": "x/y"}))["status"] == "successful"


def test_an_answer_whose_storage_ends_is_broken_off(serve: Any, own_storage: ObjectStorage) -> None:
    server = serve(str(PROCESSES), env=own_storage.settings("results"))
    with client(server) as http:
        job = big(http, 60)
        with http.stream("GET", f"{job}/results/result", headers={"Accept": "*/*"}) as answer:
            pieces = answer.iter_raw(MIB)
            next(pieces)
            own_storage.stop()

            with pytest.raises(httpx2.RemoteProtocolError):
                for _ in pieces:
                    pass
        assert "an answer was broken off" in server.log


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
@pytest.mark.parametrize("megabytes", [100, 2000] if os.environ.get("GRATICULE_TEST_ALL") else [100])
def test_a_large_result_costs_the_server_no_memory(http: httpx2.Client, server: Server, megabytes: int) -> None:
    own = psutil.Process(server.pid)
    http.get(f"{big(http, 6)}/results/result", headers={"Accept": "*/*"})
    before = most = own.memory_info().rss

    job = send(http, "big", {"megabytes": megabytes, "kind": "application/x-test"})
    while http.get(f"/jobs/{job}").json()["status"] in ("accepted", "running"):
        most = max(most, own.memory_info().rss)
        time.sleep(0.02)
    place, size = f"/jobs/{job}/results/result", 0
    with http.stream("GET", place, headers={"Accept": "*/*"}) as slow:
        pieces = slow.iter_raw(MIB)
        for _ in range(5):  # a reader at 1 MB/s, who is still there while the other one reads
            next(pieces)
            time.sleep(1)
            most = max(most, own.memory_info().rss)
        with http.stream("GET", place, headers={"Accept": "*/*"}) as fast:
            for piece in fast.iter_raw(MIB):
                size += len(piece)
                most = max(most, own.memory_info().rss)

    print(f"{megabytes} MiB: the server grew by {(most - before) / MIB:.1f} MiB")
    assert size == megabytes * MIB
    assert (most - before) / MIB <= 16
    http.delete(f"/jobs/{job}")
