"""Inputs of every kind, good and bad."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import (
    CRS84,
    JSON,
    PIXEL,
    SECONDS,
    assert_problem,
    execute,
    pointers,
)
from tests.serving import Server

KINDS: dict[str, tuple[Any, Any]] = {
    "string": ("Grüße", "Grüße"),
    "integer": (42, 42),
    "number": (0.5, 0.5),
    "boolean": (False, False),
    "array": ([1, 2.5], [1, 2.5]),
    "object": ({"value": {"name": "box"}}, {"value": {"name": "box"}}),
    "choice": ("middle", "middle"),
    "moment": ("2026-01-01T12:00:00Z", "2026-01-01T12:00:00Z"),
}


def document_of(http: httpx2.Client, inputs: Any, process: str = "echo-all") -> Any:
    """Run a process and return its results document."""
    answer = execute(http, process, {"inputs": inputs, "response": "document"})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("kind", KINDS)
def test_t1_0__req_core_process_execute_inputs_inline(http: httpx2.Client, kind: str) -> None:
    sent, expected = KINDS[kind]

    result = document_of(http, {kind: sent})[kind]

    assert (result if kind != "object" else {"value": result["value"]}) == expected


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "object"])
def test_t1_0__a_literal_may_be_qualified(http: httpx2.Client, kind: str) -> None:
    sent, expected = KINDS[kind]

    assert document_of(http, {kind: {"value": sent}})[kind] == expected


def test_t1_0__req_core_process_execute_input_inline_object_comes_back_qualified(http: httpx2.Client) -> None:
    result = document_of(http, {"object": {"value": {"name": "box", "size": 3}}})["object"]

    assert result["value"] == {"name": "box", "size": 3}


def test_t1_0__req_core_process_execute_input_array_takes_an_array_of_one(http: httpx2.Client) -> None:
    assert document_of(http, {"words": ["one"]})["words"] == ["one"]


def test_t1_0__req_core_process_execute_input_array_takes_several(http: httpx2.Client) -> None:
    assert document_of(http, {"words": ["one", {"value": "two"}]})["words"] == ["one", "two"]


@pytest.mark.parametrize(
    "image",
    [
        PIXEL,
        {"value": PIXEL, "encoding": "base64", "mediaType": "image/png"},
        {"value": PIXEL, "format": {"mediaType": "image/png", "encoding": "base64"}},
        f"{PIXEL[:40]}\r\n{PIXEL[40:]}",
    ],
    ids=["bare", "qualified", "nested format", "MIME line breaks"],
)
def test_t1_0__req_core_process_execute_input_inline_binary(http: httpx2.Client, image: Any) -> None:
    result = document_of(http, {"image": image})["image"]

    assert result == {"value": PIXEL, "encoding": "base64", "mediaType": "image/png"}


def test_t1_0__req_ogc_process_description_input_binary_of_format_byte(http: httpx2.Client) -> None:
    result = document_of(http, {"octets": "AAECAw=="})["octets"]

    assert result["value"] == "AAECAw=="
    assert result["encoding"] == "base64"


@pytest.mark.parametrize(
    "bbox",
    [
        {"bbox": [5.9, 45.8, 10.5, 47.8]},
        {"bbox": [5.9, 45.8, 10.5, 47.8], "crs": CRS84},
        {"bbox": [5.9, 45.8, 0, 10.5, 47.8, 4000], "crs": "http://www.opengis.net/def/crs/OGC/0/CRS84h"},
    ],
    ids=["default crs", "four", "six"],
)
def test_t1_0__req_core_process_execute_input_inline_bbox(http: httpx2.Client, bbox: Any) -> None:
    result = document_of(http, {"bbox": bbox})["bbox"]

    assert result["bbox"] == bbox["bbox"]
    assert result.get("crs", CRS84) == bbox.get("crs", CRS84)


@pytest.mark.parametrize(
    ("sent", "media_type"),
    [
        ({"value": "<a/>", "mediaType": "application/xml"}, "application/xml"),
        ({"value": {"a": 1}, "mediaType": "application/json"}, "application/json"),
        ({"value": PIXEL, "mediaType": "image/png", "encoding": "base64"}, "image/png"),
    ],
)
def test_t2_0__req_core_process_execute_input_multiple_types(http: httpx2.Client, sent: Any, media_type: str) -> None:
    result = document_of(http, {"formats": sent})["formats"]

    assert result["value"] == sent["value"]
    assert result.get("mediaType", JSON) == media_type


def test_t2_0__req_core_process_execute_input_multiple_types_first_alternative_is_the_default(
    http: httpx2.Client,
) -> None:
    result = document_of(http, {"formats": "plain words"})["formats"]

    assert result in ("plain words", {"value": "plain words", "mediaType": "text/plain"})


def test_t1_0__req_core_process_execute_default_outputs(http: httpx2.Client) -> None:
    assert document_of(http, {"message": "hello", "numbers": [1]}, "echo") == {
        "message": "hello", "numbers": [1], "count": 2,
    }  # fmt: skip


FAULTS: dict[str, tuple[str, Any, str]] = {
    "a required input is missing": ("echo", {"inputs": {}}, "/inputs/message"),
    "no inputs at all": ("echo", {}, "/inputs/message"),
    "inputs is a string": ("echo", {"inputs": "hello"}, "/inputs"),
    "inputs is an array": ("echo", {"inputs": ["hello"]}, "/inputs"),
    "an unknown input": ("echo", {"inputs": {"message": "hello", "nope": 1}}, "/inputs/nope"),
    "below the minimum": ("echo", {"inputs": {"message": "hello", "pause": -5}}, "/inputs/pause"),
    "above the maximum": ("echo", {"inputs": {"message": "hello", "pause": 61}}, "/inputs/pause"),
    "a number for a string": ("echo", {"inputs": {"message": 5}}, "/inputs/message"),
    "a string for an integer": ("echo", {"inputs": {"message": "hello", "pause": "5"}}, "/inputs/pause"),
    "null for a string": ("echo", {"inputs": {"message": None}}, "/inputs/message"),
    "a wrong item of an array": ("echo", {"inputs": {"message": "hello", "numbers": [1, "two"]}}, "/inputs/numbers/1"),
    "an object without a wrapper": ("echo-all", {"inputs": {"object": {"name": "box"}}}, "/inputs/object"),
    "a wrong member of an object": (
        "echo-all", {"inputs": {"object": {"value": {"name": "box", "size": -1}}}}, "/inputs/object/value/size",
    ),
    "a word that is no choice": ("echo-all", {"inputs": {"choice": "lowest"}}, "/inputs/choice"),
    "a moment without zone": ("echo-all", {"inputs": {"moment": "2026-01-01T12:00:00"}}, "/inputs/moment"),
    "too many items": ("echo-all", {"inputs": {"array": [1, 2, 3, 4]}}, "/inputs/array"),
    "too many values": ("echo-all", {"inputs": {"words": ["a", "b", "c", "d", "e", "f"]}}, "/inputs/words"),
    "one value where an array is due": ("echo-all", {"inputs": {"words": "one"}}, "/inputs/words"),
    "an array where one value is due": ("echo-all", {"inputs": {"string": ["one"]}}, "/inputs/string"),
    "what is no base64": ("echo-all", {"inputs": {"image": "!!!"}}, "/inputs/image"),
    "a media type that is not offered": (
        "echo-all", {"inputs": {"image": {"value": PIXEL, "mediaType": "image/webp"}}}, "/inputs/image",
    ),
    "a reference of a media type that is not offered": (
        "echo-all", {"inputs": {"image": {"href": "https://example.org/a", "type": "image/webp"}}}, "/inputs/image",
    ),
    "a box of three numbers": ("echo", {"inputs": {"message": "hello", "bbox": {"bbox": [1, 2, 3]}}}, "/inputs/bbox"),
    "a box with min above max": (
        "echo", {"inputs": {"message": "hello", "bbox": {"bbox": [0, 10, 5, 1]}}}, "/inputs/bbox",
    ),
    "a box in a CRS that is none": (
        "echo", {"inputs": {"message": "hello", "bbox": {"bbox": [0, 1, 2, 3], "crs": 4326}}}, "/inputs/bbox",
    ),
    "a value where a reference is due": ("echo-all", {"inputs": {"reference": "AAECAw=="}}, "/inputs/reference"),
    "a value and a reference": (
        "echo-all",
        {"inputs": {"image": {"value": PIXEL, "href": "https://example.org/x.png"}}},
        "/inputs/image/href",
    ),
    "a reference to a file": ("echo-all", {"inputs": {"image": {"href": "file:///etc/passwd"}}}, "/inputs/image"),
    "a strange scheme": ("echo-all", {"inputs": {"image": {"href": "gopher://nowhere/x"}}}, "/inputs/image"),
    "a relative reference": ("echo-all", {"inputs": {"image": {"href": "x.png"}}}, "/inputs/image"),
    "a private address": ("echo-all", {"inputs": {"image": {"href": "http://10.0.0.1/x.png"}}}, "/inputs/image"),
    "a loopback address": ("echo-all", {"inputs": {"image": {"href": "http://127.0.0.1:1/x.png"}}}, "/inputs/image"),
    "a link-local address": ("echo-all", {"inputs": {"image": {"href": "http://169.254.169.254/"}}}, "/inputs/image"),
    "a loopback address of six": ("echo-all", {"inputs": {"image": {"href": "http://[::1]/x.png"}}}, "/inputs/image"),
    "an unknown output": ("echo", {"inputs": {"message": "hello"}, "outputs": {"nope": {}}}, "/outputs/nope"),
    "an output in a media type that is not offered": (
        "echo-all", {"inputs": {}, "outputs": {"image": {"format": {"mediaType": "image/webp"}}}}, "/outputs/image",
    ),
    "an unknown transmission mode": (
        "echo", {"inputs": {"message": "x"}, "outputs": {"count": {"transmissionMode": "dove"}}}, "/outputs/count",
    ),
    "an unknown response": ("echo", {"inputs": {"message": "hello"}, "response": "song"}, "/response"),
    "outputs is an array": ("echo", {"inputs": {"message": "hello"}, "outputs": ["count"]}, "/outputs"),
}  # fmt: skip


@pytest.mark.usefixtures("nothing_created")
@pytest.mark.parametrize("prefer", ["handling=lenient", "respond-async"], ids=["sync", "async"])
@pytest.mark.parametrize("case", FAULTS)
def test_t1_0__req_core_process_execute_input_validation(http: httpx2.Client, case: str, prefer: str) -> None:
    process, document, pointer = FAULTS[case]

    answer = execute(http, process, document, Prefer=prefer)

    assert_problem(answer, 400)
    assert any(found == pointer or found.startswith(f"{pointer}/") for found in pointers(answer)), answer.text


@pytest.mark.usefixtures("nothing_created")
def test_t1_0__req_core_process_execute_input_validation_names_every_fault(http: httpx2.Client) -> None:
    answer = execute(http, "echo", {"inputs": {"pause": -5, "numbers": ["one"], "nope": 1}})

    assert {"/inputs/message", "/inputs/pause", "/inputs/numbers/0", "/inputs/nope"} <= set(pointers(answer))


BODIES: dict[str, tuple[bytes, str, set[int]]] = {
    "no body": (b"", JSON, {400}),
    "broken JSON": (b'{"inputs": {"message": ', JSON, {400}),
    "JSON that is no object": (b"[1, 2]", JSON, {400}),
    "text that is no UTF-8": (b'{"inputs": {"message": "\xff"}}', JSON, {400}),
    "deeply nested JSON": (b'{"inputs": {"message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", JSON, {400}),
    "deeply nested objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, JSON, {400}),
    "not a number": (b'{"inputs": {"message": "hello", "pause": NaN}}', JSON, {400}),
    "wrong media type": (b'{"inputs": {"message": "hello"}}', "text/plain", {415}),
    "XML": (b"<wps:Execute/>", "application/xml", {415}),
}


@pytest.mark.usefixtures("nothing_created")
@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_cannot_be_read(http: httpx2.Client, case: str) -> None:
    content, content_type, statuses = BODIES[case]

    answer = http.post("/processes/echo/execution", content=content, headers={"Content-Type": content_type})

    assert answer.status_code in statuses, answer.text
    assert_problem(answer, answer.status_code)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"inputs": {"message": "\xff"}}', "it is not UTF-8 (byte 0xFF at offset 24)"),
        ('{"inputs": {"message": "Gr\u00fc\u00dfe"}}'.encode("latin-1"), "it is not UTF-8 (byte 0xFC at offset 26)"),
        ('{"inputs": {"message": "hello"}}'.encode("utf-16"), "it is not UTF-8 (byte 0xFF at offset 0)"),
        ('{"inputs": {"message": "hello"}}'.encode("utf-8-sig"), "it begins with a byte order mark; remove it"),
    ],
    ids=["one byte", "Latin-1", "UTF-16", "byte order mark"],
)
@pytest.mark.parametrize("path", ["/processes/echo/execution", "/processes/echo/jobs"])
def test_a_body_in_another_encoding_is_told_so(http: httpx2.Client, path: str, content: bytes, words: str) -> None:
    answer = http.post(path, content=content, headers={"Content-Type": JSON})

    assert answer.status_code == 400
    told = answer.json()
    assert words in (told.get("detail") or told["description"])


@pytest.mark.usefixtures("nothing_created")
@pytest.mark.parametrize("announced", [True, False], ids=["Content-Length", "chunked"])
def test_a_body_of_100_mb_is_refused(server: Server, announced: bool) -> None:
    address = urlsplit(server.url)
    length = b"Content-Length: 104857600" if announced else b"Transfer-Encoding: chunked"
    head = b"POST /processes/echo/execution HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n"
    head += b"Content-Type: application/json\r\n" + length + b"\r\n\r\n"

    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as connection:
        connection.sendall(head)
        block = b" " * (1 << 20)
        for _ in range(100):
            if select.select([connection], [], [], 0)[0]:
                break
            with contextlib.suppress(ConnectionError):
                connection.sendall(block if announced else b"100000\r\n" + block + b"\r\n")
        first_line = connection.recv(65536).split(b"\r\n")[0]

    assert first_line.startswith(b"HTTP/1.1 413"), first_line


@pytest.mark.usefixtures("nothing_created")
def test_a_reference_to_nowhere_is_a_400_for_a_sync_caller_and_leaves_no_job(http: httpx2.Client) -> None:
    answer = execute(http, "echo-all", {"inputs": {"image": {"href": "http://nowhere.invalid/x.png"}}})

    assert_problem(answer, 400)
    assert any(pointer.startswith("/inputs/image") for pointer in pointers(answer)), answer.text
