"""Execution by GET."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import (
    CRS84,
    PIXEL,
    PROFILE,
    assert_problem,
    ended,
    media_type,
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("message=hello", {"message": "hello", "count": 1}),
        ("MESSAGE=hello", {"message": "hello", "count": 1}),
        ("message=5", {"message": "5", "count": 1}),
        (f"message=hello&numbers={quote('[1,2,3]')}", {"message": "hello", "numbers": [1, 2, 3], "count": 2}),
        ("message=hello&pause=0", {"message": "hello", "count": 2}),
    ],
)
def test_t2_0__req_kvp_execute_process_execute_op(http: httpx2.Client, query: str, expected: Any) -> None:
    answer = http.get(f"/processes/echo/execution?{query}")

    assert answer.status_code == 200, answer.text
    assert answer.json() == expected


KVP: dict[str, tuple[str, str, Any]] = {
    "string": ("string=a%20word", "string", "a word"),
    "integer": ("integer=7", "integer", 7),
    "number": ("number=0.5", "number", 0.5),
    "boolean": ("boolean=true", "boolean", True),
    "array": (f"array={quote('[1,2.5]')}", "array", [1, 2.5]),
    "object": (f"object={quote(json.dumps({'name': 'box'}))}", "object", {"name": "box"}),
    "bbox": ("bbox=5.9,45.8,10.5,47.8", "bbox", [5.9, 45.8, 10.5, 47.8]),
    "bbox with crs": (f"bbox=5.9,45.8,10.5,47.8&bbox[crs]={quote(CRS84)}", "bbox", [5.9, 45.8, 10.5, 47.8]),
    "binary": (f"image={quote(PIXEL, safe='')}", "image", PIXEL),
    "qualified": (
        f"image[value]={quote(PIXEL, safe='')}&image[mediaType]=image%2Fpng&image[encoding]=base64", "image", PIXEL,
    ),
    "several": ("words=one,two", "words", ["one", "two"]),
}  # fmt: skip


@pytest.mark.parametrize("case", KVP)
def test_t2_0__req_kvp_execute_input_values(http: httpx2.Client, case: str) -> None:
    query, output, expected = KVP[case]

    answer = http.get(f"/processes/echo-all/execution?{query}", headers={"Accept-Profile": f"<{PROFILE}ogc-results>"})

    assert answer.status_code == 200, answer.text
    result = answer.json()[output]
    inner = result.get("value", result.get("bbox")) if isinstance(result, dict) else result
    assert inner == expected


def test_t2_0__req_kvp_execute_output(http: httpx2.Client) -> None:
    answer = http.get("/processes/echo/execution?message=hello&count[include]=true")

    assert answer.json() == 1


def test_t2_0__req_kvp_execute_f_response(http: httpx2.Client) -> None:
    query = f"message=hello&message[include]=true&response[f]={quote('text/plain', safe='')}"

    answer = http.get(f"/processes/echo/execution?{query}")

    assert media_type(answer) == "text/plain"
    assert answer.text == "hello"


def test_t2_0__req_kvp_execute_prefer_response(http: httpx2.Client) -> None:
    answer = http.get("/processes/echo/execution?message=hello&response[prefer]=respond-async")

    assert answer.status_code == 201
    assert ended(http, urlsplit(answer.headers["Location"]).path)["status"] == "successful"


@pytest.mark.usefixtures("nothing_created")
def test_x_kvp_what_is_not_utf_8_is_refused(http: httpx2.Client) -> None:
    answer = http.get("/processes/echo-all/execution?integer=1&string=a%ff%fe")

    assert_problem(answer, 400, "invalid-query-parameter-value")
    [fault] = answer.json()["errors"]
    assert fault["parameter"] == "string"
    assert "UTF-8" in fault["detail"]


@pytest.mark.usefixtures("nothing_created")
@pytest.mark.parametrize("query", ["", "message=hello&pause=-5", "message=hello&pause=soon", "message=hello&nope=1"])
def test_t2_0__kvp_requests_are_checked_too(http: httpx2.Client, query: str) -> None:
    assert_problem(http.get(f"/processes/echo/execution?{query}"), 400)
