"""Results as the 2.0 draft asks for them, and single outputs."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import (
    JSON,
    PIXEL,
    PROFILE,
    assert_problem,
    done,
    echo,
    execute,
    header_links,
    media_type,
    parts_of,
    preferences_applied,
)
from tests.e2e.beyond_the_suite.conftest import Run


@pytest.mark.parametrize(
    ("accept", "expected", "body"),
    [(JSON, JSON, '"hello"'), ("text/plain", "text/plain", "hello")],
)
def test_t2_0__req_core_process_execute_sync_one(run: Run, accept: str, expected: str, body: str) -> None:
    answer = run("echo", {"inputs": {"message": "hello"}, "outputs": {"message": {}}}, accept)

    assert answer.status_code == 200
    assert media_type(answer) == expected
    assert answer.text == body


def test_t2_0__req_core_process_execute_sync_one_default_content(run: Run) -> None:
    answer = run("echo-all", {"inputs": {"image": PIXEL}, "outputs": {"image": {}}})

    assert media_type(answer) == "image/png"
    assert answer.content == base64.b64decode(PIXEL)


def test_x_serve_binary_that_is_wanted_as_json_gives_406(run: Run) -> None:
    assert run("echo-all", {"inputs": {"image": PIXEL}, "outputs": {"image": {}}}, JSON).status_code == 406


def test_t2_0__per_core_process_execute_sync_one_result(http: httpx2.Client) -> None:
    document = {"inputs": {"image": PIXEL}, "outputs": {"image": {}}}

    answer = execute(http, "echo-all", document, Accept_Profile=f"<{PROFILE}ogc-results>")

    assert media_type(answer) == JSON
    assert answer.json() == {"image": {"value": PIXEL, "encoding": "base64", "mediaType": "image/png"}}
    assert (f"{PROFILE}ogc-results", "profile") in header_links(answer)


def test_t2_0__req_core_process_execute_sync_many_json(
    http: httpx2.Client, draft: Callable[[str, Any], list[str]]
) -> None:
    answer = echo(http)

    assert media_type(answer) == JSON
    assert answer.json() == {"message": "hello", "count": 1}
    assert draft("processes-core/results.yaml", answer.json()) == []
    assert (f"{PROFILE}ogc-results", "profile") in header_links(answer)


def test_t1_0__req_core_job_results_success_sync_links_the_job(http: httpx2.Client) -> None:
    answer = echo(http)

    monitor = next(target for target, rel in header_links(answer) if rel == "monitor")
    assert http.get(monitor).json()["status"] == "successful"
    assert http.get(f"{monitor}/results").json() == answer.json()


@pytest.mark.parametrize("accept", ["*/*", "application/*", "text/html;q=0.1, application/json"])
def test_t2_0__req_core_process_execute_sync_many_json_is_the_default(http: httpx2.Client, accept: str) -> None:
    assert echo(http, accept=accept).json() == {"message": "hello", "count": 1}


@pytest.mark.parametrize("preference", ["return=minimal", "return=representation"])
def test_t2_0__rec_core_process_execute_honor_prefer_return(http: httpx2.Client, preference: str) -> None:
    answer = execute(http, "echo", {"inputs": {"message": "hello"}}, Prefer=preference)

    assert answer.status_code == 200
    assert answer.json() == {"message": "hello", "count": 1}
    assert preference in preferences_applied(answer)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"string": "a"}, {"string": "a"}),
        ({"words": ["a", "b"]}, {"words": ["a", "b"]}),
        (
            {"octets": "AAEC"},
            {"octets": {"value": "AAEC", "encoding": "base64", "mediaType": "application/octet-stream"}},
        ),
        ({}, {}),
    ],
    ids=["a text", "several values", "binary", "none"],
)
@pytest.mark.parametrize("outputs", [None, {"octets": {}, "string": {}, "words": {}}], ids=["all", "some"])
@pytest.mark.parametrize("accept", ["*/*", JSON])
def test_t2_0__req_core_process_execute_sync_many_json_counts_what_is_requested(
    run: Run, accept: str, outputs: Any, inputs: Any, expected: Any
) -> None:
    document = {"inputs": inputs} if outputs is None else {"inputs": inputs, "outputs": outputs}

    answer = run("echo-all", document, accept)

    assert answer.status_code == 200, answer.text
    assert media_type(answer) == JSON
    assert answer.json() == expected
    assert (f"{PROFILE}ogc-results", "profile") in header_links(answer)


def test_t2_0__many_outputs_of_which_one_is_produced_as_multipart(run: Run) -> None:
    answer = run("echo-all", {"inputs": {"integer": 7}}, "multipart/related")

    assert {part["Content-ID"]: part.get_content() for part in parts_of(answer)} == {"<integer>": b"7"}


LARGE = base64.b64encode(bytes(range(256)) * 16384).decode()
"""Four mebibytes."""


def test_t2_0__rec_core_process_execute_sync_many_json_prefer_minimal_links_what_is_large(http: httpx2.Client) -> None:
    document = {"inputs": {"octets": LARGE, "integer": 7}}

    answer = execute(http, "echo-all", document, Prefer="return=minimal")

    results = answer.json()
    assert results["integer"] == 7
    fetched = http.get(results["octets"]["href"], headers={"Accept": "*/*"})
    assert fetched.content == base64.b64decode(LARGE)


def test_t2_0__rec_core_process_execute_sync_many_json_prefer_representation_has_all_inline(
    http: httpx2.Client,
) -> None:
    document = {"inputs": {"octets": LARGE, "integer": 7}}

    answer = execute(http, "echo-all", document, Prefer="return=representation")

    assert answer.json()["octets"]["value"] == LARGE


def test_t2_0__many_outputs_as_multipart_when_only_that_is_accepted(http: httpx2.Client) -> None:
    answer = echo(http, accept="multipart/related")

    assert {part["Content-ID"] for part in parts_of(answer)} == {"<message>", "<count>"}


@pytest.mark.parametrize(
    "accept",
    ["multipart/related", "multipart/*", "application/json;q=0.5, multipart/related", "image/png, multipart/related"],
)
def test_t2_0__a_multi_valued_output_as_multipart_when_that_is_wanted(run: Run, accept: str) -> None:
    answer = run("echo-all", {"inputs": {"words": ["one", "two"]}, "outputs": {"words": {}}}, accept)

    assert media_type(answer) == "multipart/related"
    assert answer.headers["OGC-Output-Values-Count"] == "2"
    parts = {part["Content-ID"]: part.get_content() for part in parts_of(answer)}
    assert parts == {"<words.0>": b'"one"', "<words.1>": b'"two"'}


ONE_PIXEL_OR_NONE = {"inputs": {"image": PIXEL}, "outputs": {"image": {}}}
WORDS = {"inputs": {"words": ["one"]}, "outputs": {"words": {}}}
BUFFER = {"inputs": {"geojson": {"value": {"type": "Point", "coordinates": [8.5, 47.4]}}, "distance": 1}}


@pytest.mark.usefixtures("nothing_created")
@pytest.mark.parametrize(
    ("process", "document", "accept"),
    [
        ("echo", {"inputs": {"message": "a"}}, "text/html"),
        ("echo", {"inputs": {"message": "a"}}, "image/png"),
        ("echo", {"inputs": {"message": "a"}}, "text/plain, application/xml;q=0.5"),
        ("echo", {"inputs": {"message": "a"}}, "application/json;q=0, text/*"),
        ("echo-all", {"inputs": {"image": PIXEL}}, "image/png"),
        ("echo-all", {"inputs": {"string": "a"}}, "text/html"),
        ("echo-all", {"inputs": {"image": PIXEL}, "outputs": {"image": {}, "string": {}}}, "image/png"),
        ("echo-all", {**ONE_PIXEL_OR_NONE, "response": "document"}, "image/png"),
        ("echo-all", {"inputs": {"image": PIXEL}, "response": "raw"}, "image/png"),
        ("echo-all", ONE_PIXEL_OR_NONE, "image/jpeg"),
        ("echo-all", ONE_PIXEL_OR_NONE, "text/html"),
        ("echo-all", WORDS, "text/plain"),
        ("echo-all", {"inputs": {"string": "a"}, "outputs": {"string": {}}}, "application/octet-stream"),
        ("hello-world", {"inputs": {"name": "a"}}, "text/html"),
        ("buffer", BUFFER, "text/plain"),
        ("buffer", BUFFER, "multipart/related"),
    ],
)
def test_what_nothing_can_serve_gives_406_and_runs_nothing(
    http: httpx2.Client, process: str, document: Any, accept: str
) -> None:
    assert execute(http, process, document, Accept=accept).status_code == 406


@pytest.mark.parametrize(
    ("document", "accept", "status"),
    [
        ({"inputs": {"string": "a"}, "outputs": {}}, "text/html", 204),
        ({"inputs": {"string": "a"}, "outputs": {"string": {"transmissionMode": "reference"}}}, "image/png", 204),
        ({"inputs": {"string": "a"}}, "multipart/related", 200),
        ({"inputs": {"string": "a"}, "outputs": {"string": {}}}, "text/*", 200),
        ({"inputs": {}, "outputs": {"image": {}}}, JSON, 200),
        (ONE_PIXEL_OR_NONE, "image/*", 200),
        (WORDS, "multipart/*", 200),
        ({"inputs": {"formats": {"value": "<a/>", "mediaType": "application/xml"}}, "outputs": {"formats": {}}},
         "application/xml", 200),
        ({"inputs": {"geometry": {"value": {"type": "Point", "coordinates": [8, 47]}}}, "outputs": {"geometry": {}}},
         "application/geo+json", 200),
    ],
)  # fmt: skip
def test_what_can_be_served_is_not_refused(http: httpx2.Client, document: Any, accept: str, status: int) -> None:
    answer = execute(http, "echo-all", document, Accept=accept)

    assert answer.status_code == status, answer.text


def test_a_link_is_an_answer_to_any_accept_header(http: httpx2.Client) -> None:
    href = http.post("/files?name=a.txt", content=b"hello", headers={"Content-Type": "text/plain"}).json()["href"]
    document = {"inputs": {"reference": {"href": href}}, "outputs": {"reference": {}}}

    assert execute(http, "echo-all", document, Accept="text/plain").headers["Location"] == href


def test_who_prefers_a_job_may_have_its_page(http: httpx2.Client) -> None:
    document = {"inputs": {"message": "hello", "pause": 20}}

    answer = execute(http, "echo", document, Accept="text/html", Prefer="respond-async, wait=1")

    assert answer.status_code == 201
    assert media_type(answer) == "text/html"
    http.delete(answer.headers["Location"])


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("profile=ogc-results", {"profile=ogc-results"}),
        (f'profile="{PROFILE}ogc-results"', {"profile=ogc-results"}),
        ("return=minimal, profile=ogc-results", {"return=minimal", "profile=ogc-results"}),
        ("profile=ogc-values", set()),
        ("return=representation", {"return=representation"}),
    ],
)
def test_t2_0__a_preferred_profile_of_results_is_acknowledged(
    http: httpx2.Client, prefer: str, applied: set[str]
) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}})

    sent = execute(http, "echo", {"inputs": {"message": "hello"}}, Prefer=f"wait=20, {prefer}")
    fetched = http.get(f"{job}/results", headers={"Prefer": prefer})

    assert preferences_applied(sent) == applied | {"wait=20"}
    assert preferences_applied(fetched) == applied


def test_t2_0__a_preferred_profile_of_several_values_is_acknowledged(http: httpx2.Client) -> None:
    document = {"inputs": {"words": ["one", "two"]}, "outputs": {"words": {}}}

    answer = execute(http, "echo-all", document, Prefer="profile=ogc-values")

    assert preferences_applied(answer) == {"profile=ogc-values"}


def test_t2_0__req_core_process_execute_success_sync_empty_outputs(http: httpx2.Client) -> None:
    answer = echo(http, {})

    assert answer.status_code == 204
    assert answer.content == b""


def test_t2_0__req_core_process_execute_success_async_outputs_empty(http: httpx2.Client) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}, "outputs": {}})

    assert_problem(http.get(f"{job}/results"), 404, "result-not-available")
    assert http.get(f"{job}/results/message").status_code == 404


def test_t2_0__a_multi_valued_output_is_an_array_and_says_how_many(run: Run) -> None:
    answer = run("echo-all", {"inputs": {"words": ["one", "two"]}, "outputs": {"words": {}}})

    assert media_type(answer) == JSON
    assert answer.json() == ["one", "two"]
    assert answer.headers["OGC-Output-Values-Count"] == "2"


def test_t2_0__req_core_job_results_async_many(http: httpx2.Client, draft: Callable[[str, Any], list[str]]) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}})

    answer = http.get(f"{job}/results")

    assert media_type(answer) == JSON
    assert answer.json() == {"message": "hello", "count": 1}
    assert draft("processes-core/results.yaml", answer.json()) == []


def test_t2_0__req_core_job_results_profile(http: httpx2.Client) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}, "outputs": {"count": {}}})

    answer = http.get(f"{job}/results", params={"profile": "ogc-results"})

    assert answer.json() == {"count": 1}
    assert (f"{PROFILE}ogc-results", "profile") in header_links(answer)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("outputs=message,count", {"message": "hello", "count": 2}),
        ("outputs=count&outputs=message", {"message": "hello", "count": 2}),
        ("outputs=numbers,count", {"numbers": [1, 2], "count": 2}),
    ],
)
def test_t2_0__req_core_job_results_param_outputs(http: httpx2.Client, query: str, expected: Any) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello", "numbers": [1, 2]}})

    assert http.get(f"{job}/results?{query}").json() == expected


def test_t2_0__req_core_job_results_param_outputs_of_one(http: httpx2.Client) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}})

    assert http.get(f"{job}/results?outputs=count").json() in (1, {"count": 1})


def test_t2_0__req_core_job_results_param_outputs_unknown_gives_400(http: httpx2.Client) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}})

    answer = http.get(f"{job}/results?outputs=nope")

    assert_problem(answer, 400)
    assert "nope" in answer.json()["detail"]


@pytest.fixture(scope="module")
def finished(http: httpx2.Client) -> str:
    """A finished job of echo-all: two words, a picture and a number; its boolean was not asked for."""
    inputs = {"words": ["one", "two"], "image": PIXEL, "integer": 7, "boolean": True}
    return done(
        http, "echo-all", {"inputs": inputs, "outputs": {"words": {}, "image": {}, "integer": {}, "string": {}}}
    )


@pytest.mark.parametrize(
    ("path", "accept", "expected", "body"),
    [
        ("integer", JSON, JSON, b"7"),
        ("integer", "text/plain", "text/plain", b"7"),
        ("integer/0", JSON, JSON, b"7"),
        ("image", "*/*", "image/png", base64.b64decode(PIXEL)),
        ("image/0", "image/png", "image/png", base64.b64decode(PIXEL)),
        ("words/0", JSON, JSON, b'"one"'),
        ("words/1", JSON, JSON, b'"two"'),
        ("words/1", "text/plain", "text/plain", b"two"),
    ],
)
def test_t2_0__req_core_job_result_op(
    http: httpx2.Client, finished: str, path: str, accept: str, expected: str, body: bytes
) -> None:
    answer = http.get(f"{finished}/results/{path}", headers={"Accept": accept})

    assert answer.status_code == 200
    assert media_type(answer) == expected
    assert answer.content == body


def test_t2_0__req_core_job_result_op_of_several_values(http: httpx2.Client, finished: str) -> None:
    answer = http.get(f"{finished}/results/words")

    assert answer.json() == ["one", "two"]
    assert answer.headers["OGC-Output-Values-Count"] == "2"


@pytest.mark.parametrize("path", ["words/2", "integer/1", "words/-1", "words/x"])
def test_t2_0__req_core_job_result_op_nth_beyond_the_last_is_not_there(
    http: httpx2.Client, finished: str, path: str
) -> None:
    answer = http.get(f"{finished}/results/{path}")

    assert answer.status_code in {400, 404}
    assert_problem(answer, answer.status_code)


def test_x_noout_an_output_that_the_process_does_not_have(http: httpx2.Client, finished: str) -> None:
    assert_problem(http.get(f"{finished}/results/nope"), 400, "no-such-output")


@pytest.mark.parametrize("output", ["boolean", "string"], ids=["not asked for", "not produced"])
def test_x_noout_an_output_that_the_job_does_not_have(http: httpx2.Client, finished: str, output: str) -> None:
    assert_problem(http.get(f"{finished}/results/{output}"), 404, "no-such-output")


def test_a_single_output_in_a_media_type_that_it_has_not_gives_406(http: httpx2.Client, finished: str) -> None:
    assert_problem(http.get(f"{finished}/results/image", headers={"Accept": JSON}), 406)


def test_a_part_of_a_result_can_be_asked_for(http: httpx2.Client, finished: str) -> None:
    answer = http.get(f"{finished}/results/image", headers={"Accept": "image/png", "Range": "bytes=1-3"})

    assert answer.status_code == 206
    assert answer.content == b"PNG"
    assert answer.headers["Content-Range"] == f"bytes 1-3/{len(base64.b64decode(PIXEL))}"
