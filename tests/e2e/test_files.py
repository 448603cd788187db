"""Files are sent, listed, used, fetched and removed; large ones in parts that can be continued."""

import base64
import hashlib
import http.client
import time
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

CONTENT = b"one,two\n1,2\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TUS = {"Tus-Resumable": "1.0.0"}
PART = {**TUS, "Content-Type": "application/offset+octet-stream"}
FIELD = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a"\r\n\r\n'
TWO_WORKSPACES = '[workspaces]\nnames = ["default", "acme"]\n'


@pytest.fixture
def upload(http):
    """Sends a file, and removes it at the end."""
    kept = []

    def send(content=CONTENT, name="table.csv", **headers):
        response = http.post("/files", content=content, params={"name": name}, headers=headers)
        assert response.status_code == 201, response.text
        kept.append(response.json()["href"])
        return response.json()

    yield send
    for href in kept:
        http.delete(href)


def begin(http, length, name="big.bin", **headers):
    encoded = base64.b64encode(name.encode()).decode()
    metadata = {"Upload-Metadata": f"filename {encoded}", "Upload-Length": str(length)}
    return http.post("/files", headers={**TUS, **metadata, **headers})


# --- sending -----------------------------------------------------------------------------------------------------


def test_a_body_is_kept_as_a_file(http, server):
    response = http.post("/files?name=table.csv", content=CONTENT, headers={"Content-Type": "text/csv"})

    document = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == document["href"] == f"{server.url}/files/{document['id']}/table.csv"
    assert (document["name"], document["size"], document["mediaType"]) == ("table.csv", 12, "text/csv")
    assert document["sha256"] == DIGEST
    assert document["created"] < document["expires"]


def test_a_file_comes_back_as_it_was_sent(http, upload):
    response = http.get(upload()["href"])

    assert response.content == CONTENT
    assert response.headers["content-type"].startswith("text/csv")
    assert response.headers["content-disposition"] == 'attachment; filename="table.csv"'
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="a b.tif"', "a_b.tif"),
        ("attachment; filename*=UTF-8''H%C3%B6he.tif", "Hohe.tif"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
    ],
    ids=["plain", "extended", "path"],
)
def test_a_header_can_name_the_file(http, disposition, name):
    response = http.post("/files", content=CONTENT, headers={"Content-Disposition": disposition})

    assert response.json()["name"] == name


def test_a_form_is_kept_as_a_file(http):
    response = http.post("/files", files={"note": (None, "hello"), "file": ("dem.tif", CONTENT, "image/tiff")})

    document = response.json()
    assert response.status_code == 201
    assert (document["name"], document["mediaType"], document["sha256"]) == ("dem.tif", "image/tiff", DIGEST)
    assert http.get(document["href"]).content == CONTENT


def test_content_of_a_form_may_look_like_its_boundary(http):
    content = b'\r\n--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n--xy' * 50_000

    response = http.post("/files", files={"file": ("a.bin", content)})

    assert http.get(response.json()["href"]).content == content


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "text/csv"),
        (b"", "multipart/form-data; boundary=x"),
        (FIELD % b"file" + b"abc", "multipart/form-data; boundary=x"),
        (FIELD % b"other" + b"abc\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (FIELD % b"file" + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"nonsense", "multipart/form-data; boundary=x"),
        (b"abc", "multipart/form-data"),
    ],
    ids=["nothing", "empty form", "cut form", "other field", "empty file", "no form", "no boundary"],
)  # fmt: skip
def test_what_holds_no_file_is_refused(http, body, content_type):
    before = uploads_of(http)

    response = http.post("/files", content=body, headers={"Content-Type": content_type})

    assert response.status_code == 400
    assert response.json()["type"] == "urn:graticule:problem:invalid-body"
    assert uploads_of(http) == before


@pytest.mark.parametrize("size", [3, 1 << 21])
def test_a_form_of_two_files_is_refused(http, size):
    before = uploads_of(http)

    response = http.post("/files", files=[("file", ("a.bin", b"x" * size)), ("file", ("b.bin", b"y" * size))])

    assert response.status_code == 400
    assert "second field named 'file'" in response.json()["detail"]
    assert uploads_of(http) == before


def test_a_file_that_is_cut_off_leaves_nothing(server, http):
    before = uploads_of(http)
    with connected(server) as connection:
        connection.putrequest("POST", "/files?name=a.bin")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders(b"x" * 1000)
    time.sleep(0.3)

    assert uploads_of(http) == before
    assert list((server.home / "storage" / "default" / "uploads").glob("*/.part")) == []


def test_a_file_above_the_limit_is_refused(serve):
    server = serve(env={"GRATICULE_SERVER__UPLOAD_LIMIT_MIB": "1"})
    large = (1 << 20) + 1
    with client_of(server) as http:
        told = http.post("/files?name=a.bin", content=b"x" * large)
        untold = http.post("/files?name=a.bin", content=(piece for piece in [b"x" * large]))
        form = http.post("/files", files={"file": ("a.bin", b"x" * large)})
        parts = begin(http, large)
        left = uploads_of(http)

    assert [response.status_code for response in (told, untold, form, parts)] == [413] * 4
    assert untold.json()["type"] == "urn:graticule:problem:too-large"
    assert left == []


def test_the_server_does_not_grow_with_the_file(server, http):
    piece = b"x" * (1 << 20)
    http.post("/files?name=warm.bin", content=piece)
    before = psutil.Process(server.pid).memory_info().rss

    response = http.post("/files?name=large.bin", content=(piece for _ in range(200)))

    assert response.json()["size"] == 200 << 20
    assert psutil.Process(server.pid).memory_info().rss - before < 16 << 20
    http.delete(response.json()["href"])


# --- in parts ----------------------------------------------------------------------------------------------------


def test_a_file_comes_in_parts(http):
    created = begin(http, 12, "table.csv")
    place = created.headers["location"]

    first = http.patch(place, content=CONTENT[:5], headers={**PART, "Upload-Offset": "0"})
    asked = http.head(place, headers=TUS)
    second = http.patch(place, content=CONTENT[5:], headers={**PART, "Upload-Offset": "5"})

    assert created.status_code == 201
    assert created.headers["tus-resumable"] == "1.0.0"
    assert (first.status_code, first.headers["upload-offset"]) == (204, "5")
    assert (asked.status_code, asked.headers["upload-offset"], asked.headers["upload-length"]) == (200, "5", "12")
    assert asked.headers["cache-control"] == "no-store"
    assert "upload-expires" in asked.headers
    assert (second.status_code, second.headers["upload-offset"]) == (204, "12")
    assert http.get(place).content == CONTENT
    assert http.get(place.rpartition("/")[0]).json()["sha256"] == DIGEST


def test_a_reference_to_a_file_that_is_not_complete_says_so(http):
    place = begin(http, 12).headers["location"]
    http.patch(place, content=CONTENT[:5], headers={**PART, "Upload-Offset": "0"})
    body = {"inputs": {"octets": {"href": place}}}

    begun = http.post("/processes/echo-all/execution", json=body)
    http.patch(place, content=CONTENT[5:], headers={**PART, "Upload-Offset": "5"})
    complete = http.post("/processes/echo-all/execution", json=body)

    [fault] = begun.json()["errors"]
    assert (begun.status_code, fault["pointer"]) == (400, "/inputs/octets/href")
    assert "is not complete yet" in fault["detail"]
    assert complete.status_code == 200


def test_the_first_part_may_come_at_once(http):
    headers = {**PART, "Upload-Length": "12"}

    response = http.post("/files?name=table.csv", content=CONTENT, headers=headers)

    assert (response.status_code, response.headers["upload-offset"]) == (201, "12")
    assert http.get(response.headers["location"]).content == CONTENT


def test_a_part_that_was_cut_off_is_continued(server, http):
    place = begin(http, 12).headers["location"]
    with connected(server) as connection:
        connection.putrequest("PATCH", urlsplit(place).path)
        for name, value in {**PART, "Upload-Offset": "0", "Content-Length": "12"}.items():
            connection.putheader(name, value)
        connection.endheaders(CONTENT[:7])
        time.sleep(0.2)
    time.sleep(0.3)

    offset = int(http.head(place, headers=TUS).headers["upload-offset"])
    http.patch(place, content=CONTENT[offset:], headers={**PART, "Upload-Offset": str(offset)})

    assert offset == 7
    assert http.get(place).content == CONTENT


def test_half_a_file_is_no_file(http):
    place = begin(http, 12).headers["location"]
    http.patch(place, content=CONTENT[:5], headers={**PART, "Upload-Offset": "0"})

    assert http.get(place).status_code == 409
    assert place not in [one["href"] for one in http.get("/files?limit=1000").json()["files"]]


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Upload-Offset": "3"}, b"abc", 409),
        ({}, b"abc", 400),
        ({"Upload-Offset": "-1"}, b"abc", 400),
        ({"Upload-Offset": "0", "Content-Type": "text/plain"}, b"abc", 415),
        ({"Upload-Offset": "0", "Tus-Resumable": "0.2.2"}, b"abc", 412),
        ({"Upload-Offset": "0", "Tus-Resumable": None}, b"abc", 400),
        ({"Upload-Offset": "0"}, b"x" * 13, 413),
    ],
    ids=["elsewhere", "no offset", "negative", "media type", "version", "no version", "too much"],
)
def test_a_part_that_does_not_fit_is_refused(http, headers, content, status):
    place = begin(http, 12).headers["location"]

    sent = {name: value for name, value in {**PART, **headers}.items() if value is not None}
    response = http.patch(place, content=content, headers=sent)

    assert response.status_code == status
    assert response.headers.get("tus-version") == ("1.0.0" if status == 412 else None)
    assert http.head(place, headers=TUS).headers["upload-offset"] == "0"


def test_a_file_without_bytes_is_whole_at_once(http):
    begun = begin(http, 0, "empty.txt")
    place = begun.headers["location"]

    assert (begun.status_code, begun.headers["upload-offset"]) == (201, "0")
    assert http.get(place).content == b""
    assert http.head(place, headers=TUS).headers["upload-length"] == "0"
    assert http.patch(place, content=b"a", headers={**PART, "Upload-Offset": "0"}).status_code == 409
    assert begin(http, 0, **{"Content-Type": PART["Content-Type"]}).status_code == 201


@pytest.mark.parametrize("length", ["-1", "many", ""])
def test_parts_of_no_known_length_are_refused(http, length):
    response = http.post("/files", headers={**TUS, "Upload-Length": length})

    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == "Upload-Length"


def test_a_file_that_is_begun_can_be_given_up(http):
    place = begin(http, 12).headers["location"]

    assert http.delete(place, headers=TUS).status_code == 204
    assert http.head(place, headers=TUS).status_code == 404


# --- looking -----------------------------------------------------------------------------------------------------


def test_the_list_has_the_newest_first_and_samples_last(http, upload):
    older, newer = upload(name="older.csv"), upload(name="newer.csv")

    files = http.get("/files?limit=1000").json()["files"]

    hrefs = [one["href"] for one in files]
    assert hrefs.index(newer["href"]) < hrefs.index(older["href"])
    assert [one.get("sample", False) for one in files] == sorted(one.get("sample", False) for one in files)


def test_pages_of_the_list_join_to_the_whole(http, upload):
    wait_for_sample(http)
    for number in range(3):
        upload(name=f"{number}.csv")
    whole = [one["href"] for one in http.get("/files?limit=1000").json()["files"]]

    found, following = [], "/files?limit=2"
    while following:
        page = http.get(following).json()
        found += [one["href"] for one in page["files"]]
        following = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)

    assert found == whole


@pytest.mark.parametrize("one", [False, True], ids=["all", "one"])
def test_people_see_a_page(http, upload, one):
    file = upload()

    page = http.get(f"/files/{file['id']}" if one else "/files?limit=1000", headers={"Accept": "text/html"})

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert file["href"] in page.text


@pytest.mark.parametrize("query", ["limit=0", "limit=abc", "offset=-1", "offset=x", "colour=red"])
def test_a_bad_parameter_of_the_list_is_named(http, query):
    response = http.get(f"/files?{query}")

    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == query.partition("=")[0]


def test_ranges_and_tags_work(http, upload):
    href = upload()["href"]

    part = http.get(href, headers={"Range": "bytes=4-6"})
    same = http.get(href, headers={"If-None-Match": part.headers["etag"]})
    outside = http.get(href, headers={"Range": "bytes=12-"})

    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"two", "bytes 4-6/12")
    assert same.status_code == 304
    assert outside.status_code == 416


def test_samples_cannot_be_removed(http):
    sample = wait_for_sample(http)

    response = http.delete(sample["href"])

    assert response.status_code == 403
    assert http.get(sample["href"]).status_code == 200


def test_a_removed_file_is_gone(http, upload):
    href = upload()["href"]

    assert http.delete(href).status_code == 204
    assert http.get(href).status_code == 404
    assert http.delete(href).status_code == 404


@pytest.mark.parametrize(
    "path", ["/files/0123/a.csv", "/files/samples/nothing.tif", "/files/samples/..%2f..%2fdb", "/files/samples"]
)
def test_there_is_nothing_at_other_addresses(http, path):
    assert http.get(path).status_code == 404


def test_another_name_of_a_file_is_not_found(http, upload):
    assert http.get(upload()["href"].replace("table.csv", "other.csv")).status_code == 404


# --- whose they are ----------------------------------------------------------------------------------------------


def test_another_workspace_does_not_see_a_file_but_the_samples(serve):
    with client_of(serve(config=TWO_WORKSPACES)) as http:
        ours = http.post("/files?name=a.csv", content=CONTENT).json()
        place = f"/files/{ours['id']}/a.csv"

        seen = [http.get(f"/{workspace}/ogc-api{place}").status_code for workspace in ("default", "acme")]
        removed = http.delete(f"/acme/ogc-api{place}")
        theirs = http.get("/acme/ogc-api/files?limit=1000").json()["files"]

        assert seen == [200, 404]
        assert removed.status_code == 404
        assert ours["id"] not in [one["id"] for one in theirs]
        sample = wait_for_sample(http)
        assert http.get(f"/acme/ogc-api/files/samples/{sample['name']}").status_code == 200


def test_actors_do_not_see_each_others_files(serve):
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("ada", "bob")}
    tokens = "".join(
        f'[[security.tokens]]\nactor = "{name}"\nsha256 = "{digest}"\n' for name, digest in digests.items()
    )
    server = serve(config=tokens)
    with client_of(server, Authorization="Bearer ada") as ada, client_of(server, Authorization="Bearer bob") as bob:
        place = ada.post("/files?name=a.csv", content=CONTENT).headers["location"]

        assert ada.get(place).status_code == 200
        assert bob.get(place).status_code == 404
        assert bob.delete(place).status_code == 404
        assert place not in [one["href"] for one in bob.get("/files?limit=1000").json()["files"]]


# --- using -------------------------------------------------------------------------------------------------------


def test_an_uploaded_raster_is_an_input(http, upload, shared_data):
    raster = next(shared_data.glob("geoengine/**/*.tif"))
    href = upload(raster.read_bytes(), raster.name)["href"]

    for address in (href, "/files/" + href.partition("/files/")[2]):
        response = http.post("/processes/raster-statistics/execution", json={"inputs": {"raster": {"href": address}}})
        assert response.status_code == 200, response.text


def test_a_file_that_is_gone_is_named_before_a_job_exists(http, upload):
    href = upload()["href"]
    http.delete(href)

    response = http.post("/processes/raster-statistics/execution", json={"inputs": {"raster": {"href": href}}})

    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/inputs/raster/href"


@contextmanager
def connected(server):
    """A bare connection, for requests that end before they are complete."""
    with closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)) as connection:
        yield connection


def client_of(server, **headers):
    return httpx2.Client(base_url=server.url, timeout=60, trust_env=False, headers=headers)


def uploads_of(http):
    return [one for one in http.get("/files?limit=1000").json()["files"] if not one.get("sample")]


def wait_for_sample(http):
    for _ in range(100):
        found = [one for one in http.get("/files?limit=1000").json()["files"] if one.get("sample")]
        if found:
            return found[0]
        time.sleep(0.1)
    pytest.fail("the sample data did not appear")


# --- one file, several addresses ---------------------------------------------------------------------------------


def test_a_file_is_an_input_by_every_address_of_its_workspace(serve):
    point = b'{"type": "Point", "coordinates": [1, 2]}'
    server = serve(config=TWO_WORKSPACES)
    with client_of(server) as http:
        short = http.post("/files?name=a.geojson", content=point).json()["href"]
        port = urlsplit(short).port
        path = urlsplit(short).path
        hosts = [f"http://{host}:{port}" for host in ("localhost", "127.0.0.1", "[::1]")]
        hrefs = [f"{host}{prefix}{path}" for host in [*hosts, ""] for prefix in ("", "/default/ogc-api")]

        def buffered(href, prefix=""):
            body = {"inputs": {"geojson": {"href": href}, "distance": 10}}
            return http.post(f"{prefix}/processes/buffer/execution", json=body)

        for prefix in ("", "/default/ogc-api"):
            assert [buffered(href, prefix).status_code for href in hrefs] == [200] * len(hrefs)
        for foreign in (short, f"{server.url}/default/ogc-api{path}", f"{server.url}/acme/ogc-api{path}"):
            assert buffered(foreign, "/acme/ogc-api").status_code == 400
        assert buffered(f"http://127.0.0.1:{port + 1}{path}").status_code == 400


def test_a_result_is_an_input_by_every_address_of_its_workspace(serve):
    with client_of(serve()) as http:
        body = {"inputs": {"geojson": {"value": {"type": "Point", "coordinates": [1, 2]}}, "distance": 10}}
        http.post("/processes/buffer/execution", json=body)
        job = http.get("/jobs?limit=1").json()["jobs"][0]["jobID"]

        for prefix, other in (("", "/default/ogc-api"), ("/default/ogc-api", "")):
            href = f"{str(http.base_url).rstrip('/')}{other}/jobs/{job}/results/buffer"
            again = {"inputs": {"geojson": {"href": href}, "distance": 10}}
            assert http.post(f"{prefix}/processes/buffer/execution", json=again).status_code == 200
