"""Bodies that are nearly JSON, or say two things at once: the answer names the place."""

from __future__ import annotations

import gzip
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import assert_problem, pointers
from tests.serving import Server


def send(http: httpx2.Client, body: bytes, path: str = "/processes/echo-all/execution") -> httpx2.Response:
    return http.post(path, content=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        pytest.param(b'{"inputs": {"number": 1e400}}', "/inputs/number", id="an input"),
        pytest.param(b'{"inputs": {"number": -1e400}}', "/inputs/number", id="below"),
        pytest.param(b'{"inputs": {"array": [1, 1e999]}}', "/inputs/array/1", id="in an array"),
        pytest.param(b'{"inputs": {"object": {"value": {"a~/b": 1e999}}}}', "/inputs/object/value/a~0~1b", id="deep"),
        pytest.param(
            b'{"inputs": {"array": [1, %b]}}' % (b"9" * 5000), "/inputs/array/1", id="more digits than are read"
        ),
    ],
)
def test_a_number_that_is_too_large_is_named(http: httpx2.Client, body: bytes, pointer: str) -> None:
    answer = send(http, body)

    assert_problem(answer, 400)
    assert pointers(answer) == [pointer]
    assert "larger than any" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "pointer", "place"),
    [
        pytest.param(rb'{"inputs": {"string": "\ud800"}}', "/inputs/string", r"\ud800 at offset 23", id="first half"),
        pytest.param(
            rb'{"inputs": {"string": "a\uDC00b"}}', "/inputs/string", r"\uDC00 at offset 24", id="second half"
        ),
        pytest.param(
            rb'{"inputs": {"string": "\ud800\u0041"}}', "/inputs/string", "at offset 23", id="another follows"
        ),
        pytest.param(
            rb'{"inputs": {"string": "\ud83d\ude00\\ud800\udc00"}}', "/inputs/string", "offset 42", id="later"
        ),
        pytest.param(rb'{"inputs": {"\ud800": 1}}', "/inputs", "at offset 13", id="a name"),
    ],
)
def test_a_lone_surrogate_is_named(http: httpx2.Client, body: bytes, pointer: str, place: str) -> None:
    answer = send(http, body)

    assert_problem(answer, 400)
    assert "a lone surrogate" in answer.json()["detail"]
    assert place in answer.json()["detail"]
    assert pointers(answer) == [pointer]


def test_a_whole_character_of_two_halves_is_taken(http: httpx2.Client) -> None:
    body = rb'{"inputs": {"string": "\ud83d\ude00"}, "outputs": {"string": {}}}'

    assert send(http, body).json() == "\U0001f600"


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/processes/echo-all/execution", b'{"inputs": {"number": 1, "number": 2}}', "number"),
        ("/processes/echo-all/execution", rb'{"inputs": {"number": 1, "n\u0075mber": 2}}', "number"),
        ("/processes/echo-all/execution", b'{"inputs": {}, "outputs": {}, "inputs": {}}', "inputs"),
        ("/processes/echo-all/execution", b'{"inputs": {"object": {"value": {"a": [{"b": 1, "b": 1}]}}}}', "b"),
        ("/processes/echo/jobs", b'{"inputs": [{"id": "message", "value": "x", "id": "y"}]}', "id"),
    ],
    ids=["input", "escaped", "member", "deep", "old dialect"],
)
def test_a_member_that_is_there_twice_is_named(http: httpx2.Client, path: str, body: bytes, name: str) -> None:
    answer = send(http, body, path)

    assert answer.status_code == 400
    assert f'the body has the member "{name}" twice in one object' in answer.text.replace('\\"', '"')


def test_numbers_of_many_digits_are_no_matter_of_members(http: httpx2.Client) -> None:
    body = b'{"inputs": {"number": 0.' + b"1" * 5000 + b'}, "outputs": {"number": {}}}'

    assert send(http, body).status_code == 200


def test_the_types_that_are_offered_are_named_once(http: httpx2.Client) -> None:
    body: dict[str, Any] = {"inputs": {"string": "a"}}
    answer = http.post("/processes/echo-all/execution", json=body, headers={"Accept": "video/mp4"})

    offered = answer.json()["detail"].partition("offered: ")[2].split(", ")
    assert answer.status_code == 406
    assert "application/json" in offered
    assert len(offered) == len(set(offered))


@pytest.mark.parametrize("path", ["/processes/echo-all/execution", "/jobs", "/processes/echo/jobs"])
def test_a_number_of_too_many_digits_is_refused_wherever_it_stands(http: httpx2.Client, path: str) -> None:
    body = b'{"outputs": {"string": 1}, "inputs": {"number": 1}, "more": [%b]}' % (b"9" * 5000)

    assert send(http, body, path).status_code == 400


def test_a_process_that_is_not_there_is_missing_whatever_is_sent(http: httpx2.Client) -> None:
    assert_problem(send(http, b'{"inputs": {"number": %b}}' % (b"9" * 5000), "/processes/nope/execution"), 404)


@pytest.mark.parametrize("path", ["/processes/echo-all/execution", "/jobs", "/files?name=a.json"])
def test_a_compressed_body_is_refused_with_the_encoding_that_is_read(http: httpx2.Client, path: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    answer = http.post(path, content=gzip.compress(b'{"inputs": {}}'), headers=headers)

    assert_problem(answer, 415)
    assert "Content-Encoding 'gzip'" in answer.json()["detail"]
    assert answer.headers["accept-encoding"] == "identity"


NOT_UTF_8 = {
    "a member that is kept": b'{"process": "echo", "inputs": {"message": "x"}, "unknown": "\xff"}',
    "beside a fault": b'{"process": "echo", "inputs": {"message": "x"}, "outputs": 5, "unknown": "\xff"}',
    "an input": b'{"process": "echo", "inputs": {"message": "\xff"}}',
    "the process": b'{"process": "\xff", "inputs": {"message": "x"}}',
    "a large one": b'{"process": "echo", "inputs": {"message": "x"}, "unknown": "%b\xff"}' % (b"x" * 300_000),
}


@pytest.mark.parametrize("path", ["/processes/echo/execution", "/jobs", "/processes/echo/jobs"])
@pytest.mark.parametrize("body", NOT_UTF_8.values(), ids=NOT_UTF_8)
def test_a_byte_that_is_not_utf_8_is_named_wherever_it_stands(http: httpx2.Client, path: str, body: bytes) -> None:
    answer = send(http, body, path)

    assert answer.status_code == 400, answer.text
    assert f"it is not UTF-8 (byte 0xFF at offset {body.index(0xFF)})" in answer.text


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_created_job_is_not_changed_by_what_is_not_utf_8(http: httpx2.Client, method: str) -> None:
    document = {"process": "echo", "inputs": {"message": "x"}, "status": "create"}
    job = urlsplit(http.post("/jobs", json=document).headers["Location"]).path
    before = http.get(f"{job}/definition").content
    headers = {"Content-Type": "application/json"}

    answers = [http.request(method, job, content=body, headers=headers) for body in NOT_UTF_8.values()]

    assert {answer.status_code for answer in answers} == {400}
    assert all("it is not UTF-8" in answer.json()["detail"] for answer in answers)
    assert http.get(f"{job}/definition").content == before
    assert http.delete(job).status_code == 200


def test_a_form_in_a_charset_that_is_none_is_refused(http: httpx2.Client) -> None:
    form = b'--a\r\nContent-Disposition: form-data; name="message"\r\n\r\nx\r\n--a--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=a; charset=undefined"}

    assert_problem(http.post("/processes/echo/form", content=form, headers=headers), 400)


@pytest.mark.parametrize("path", ["/processes/echo-all/execution", "/jobs"])
def test_json_in_another_encoding_than_utf_8_is_refused(http: httpx2.Client, path: str) -> None:
    body = b'{"inputs": {"string": "\xe4"}}'

    answer = http.post(path, content=body, headers={"Content-Type": "application/json; charset=latin-1"})

    assert_problem(answer, 415)
    assert "UTF-8" in answer.json()["detail"]


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8"])
def test_utf_8_may_be_named(http: httpx2.Client, charset: str) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}", "Content-Encoding": "identity"}
    body = '{"inputs": {"string": "ä"}, "outputs": {"string": {}}}'.encode()

    assert http.post("/processes/echo-all/execution", content=body, headers=headers).json() == "ä"


WRONG_POINT = {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": ["a"] * 1000}}
WRONG_POINTS = {"type": "FeatureCollection", "features": [WRONG_POINT] * 1000}
PLACES = {"type": "MultiPoint", "coordinates": [[8.123456, 49.123456]] * 800_000}


@pytest.mark.parametrize(
    ("process", "inputs"),
    [
        pytest.param("buffer", {"distance": 1, "geojson": {"value": WRONG_POINTS}}, id="a million faults"),
        pytest.param("echo", {"message": "a", "numbers": ["a"] * 500_000}, id="an array of text"),
        pytest.param("buffer", {"distance": -1, "geojson": {"value": PLACES}}, id="17 MB with one fault"),
    ],
)
def test_others_are_answered_while_a_large_body_is_checked(
    server: Server, http: httpx2.Client, process: str, inputs: dict[str, Any]
) -> None:
    body = json.dumps({"inputs": inputs}).encode()
    before = high_water_mib(server.pid)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send, http, body, f"/processes/{process}/execution")
        waits = []
        while not answer.done():
            begun = time.perf_counter()
            assert http.get("/conformance").status_code == 200
            waits.append(time.perf_counter() - begun)

    assert_problem(answer.result(), 400)
    assert max(waits) < 2
    assert high_water_mib(server.pid) - before < 16 + 16 * len(body) / 2**20


def high_water_mib(pid: int) -> float:
    """Return the most memory that a process has held."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
