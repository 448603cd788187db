"""Results as 1.0 asks for them, sync and async, which must agree."""

from __future__ import annotations

import base64
import email
import email.message
import email.policy
import json

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import (
    JSON,
    PIXEL,
    echo,
    execute,
    header_links,
    media_type,
    parts_of,
)
from tests.e2e.beyond_the_suite.conftest import Run
from tests.e2e.ogc_suite.schemas import Schemas

VALUE, REFERENCE = {"transmissionMode": "value"}, {"transmissionMode": "reference"}


def test_t1_0__raw_value_one_comes_in_its_own_media_type(run: Run) -> None:
    document = {"inputs": {"image": PIXEL}, "outputs": {"image": VALUE}, "response": "raw"}

    answer = run("echo-all", document)

    assert answer.status_code == 200
    assert media_type(answer) == "image/png"
    assert answer.content == base64.b64decode(PIXEL)


def test_t1_0__raw_value_one_literal(run: Run) -> None:
    answer = run("echo", {"inputs": {"message": "hello"}, "outputs": {"message": VALUE}, "response": "raw"})

    assert answer.status_code == 200
    assert answer.text in {"hello", '"hello"'}


def test_t1_0__raw_value_one_object_is_not_wrapped(run: Run) -> None:
    document = {"inputs": {"object": {"value": {"name": "box"}}}, "outputs": {"object": VALUE}, "response": "raw"}

    answer = run("echo-all", document)

    assert media_type(answer) == JSON
    assert answer.json() == {"name": "box"}


def test_t1_0__raw_value_multi_is_multipart_related(run: Run) -> None:
    document = {
        "inputs": {"message": "hello", "numbers": [1, 2]},
        "outputs": {"message": VALUE, "numbers": VALUE, "count": VALUE},
        "response": "raw",
    }

    answer = run("echo", document)

    assert answer.status_code == 200
    assert media_type(answer) == "multipart/related"
    parts = {part["Content-ID"]: part for part in parts_of(answer)}
    assert set(parts) == {"<message>", "<numbers>", "<count>"}
    assert json.loads(parts["<numbers>"].get_payload()) == [1, 2]
    assert json.loads(parts["<count>"].get_payload()) == 2
    assert "hello" in parts["<message>"].get_payload()


def test_t1_0__raw_value_multi_of_which_one_is_produced(run: Run) -> None:
    answer = run("echo-all", {"inputs": {"integer": 7}, "outputs": {"integer": VALUE, "string": VALUE}})

    assert answer.json() == {"integer": 7}
    answer = run("echo-all", {"inputs": {"integer": 7}, "response": "raw"})
    assert {part["Content-ID"]: part.get_payload() for part in parts_of(answer)} == {"<integer>": "7"}


def test_t1_0__raw_mixed_multi_of_which_only_the_referenced_one_is_produced(run: Run) -> None:
    document = {"inputs": {"integer": 7}, "outputs": {"integer": REFERENCE, "string": VALUE}, "response": "raw"}

    answer = run("echo-all", document)

    assert [part["Content-ID"] for part in parts_of(answer)] == ["<integer>"]
    assert parts_of(answer)[0]["Content-Location"]


def test_t1_0__raw_value_multi_names_its_first_part_and_that_part_s_type(run: Run) -> None:
    document = {"inputs": {"message": "hello"}, "outputs": {"message": VALUE, "count": VALUE}, "response": "raw"}

    answer = run("echo", document)

    first = parts_of(answer)[0]
    head = email.message_from_string(f"Content-Type: {answer.headers['Content-Type']}\n\n", policy=email.policy.HTTP)
    parameters = head["Content-Type"].params
    assert parameters["start"] == first["Content-ID"]
    assert parameters["type"].split(";")[0] == first.get_content_type()


def test_t1_0__raw_value_multi_carries_binary_as_it_is(run: Run) -> None:
    document = {"inputs": {"image": PIXEL, "integer": 1}, "response": "raw"}

    answer = run("echo-all", document)

    image = next(part for part in parts_of(answer) if part["Content-ID"] == "<image>")
    assert image.get_content_type() == "image/png"
    assert image.get_payload(decode=True) == base64.b64decode(PIXEL)


def test_t1_0__raw_ref_is_204_with_a_link_for_each_output(run: Run, http: httpx2.Client) -> None:
    document = {
        "inputs": {"message": "hello"},
        "outputs": {"message": REFERENCE, "count": REFERENCE},
        "response": "raw",
    }

    answer = run("echo", document)

    assert answer.status_code == 204
    assert answer.content == b""
    targets = [target for target, rel in header_links(answer) if rel != "monitor"]
    assert len(targets) == 2
    assert sorted(http.get(target, headers={"Accept": "*/*"}).text.strip('"') for target in targets) == ["1", "hello"]


def test_t1_0__raw_mixed_multi_has_an_empty_part_for_what_is_referenced(run: Run, http: httpx2.Client) -> None:
    document = {"inputs": {"message": "hello"}, "outputs": {"message": VALUE, "count": REFERENCE}, "response": "raw"}

    answer = run("echo", document)

    assert media_type(answer) == "multipart/related"
    parts = {part["Content-ID"]: part for part in parts_of(answer)}
    assert "hello" in parts["<message>"].get_payload()
    assert parts["<count>"].get_payload().strip() == ""
    assert http.get(parts["<count>"]["Content-Location"], headers={"Accept": "*/*"}).text == "1"


def test_x_serve_multipart_gives_way_to_a_document_where_it_is_not_accepted(run: Run) -> None:
    document = {"inputs": {"message": "hello"}, "outputs": {"message": VALUE, "count": VALUE}, "response": "raw"}

    answer = run("echo", document, JSON)

    assert media_type(answer) == JSON
    assert answer.json() == {"message": "hello", "count": 1}


def test_x_serve_multipart_gives_way_to_406_where_nothing_fits(run: Run) -> None:
    document = {"inputs": {"message": "hello"}, "outputs": {"message": VALUE, "count": VALUE}, "response": "raw"}

    assert run("echo", document, "image/png").status_code == 406


def test_t1_0__document_holds_values(run: Run, schemas: Schemas) -> None:
    document = {"inputs": {"message": "a word or two", "numbers": [1, 2]}, "response": "document"}

    answer = run("echo", document)

    assert media_type(answer) == JSON
    assert answer.json() == {"message": "a word or two", "numbers": [1, 2], "count": 2}


def test_t1_0__document_holds_links_for_what_is_referenced(run: Run, http: httpx2.Client) -> None:
    document = {
        "inputs": {"message": "hello", "numbers": [1, 2]},
        "outputs": {"message": VALUE, "numbers": REFERENCE},
        "response": "document",
    }

    results = run("echo", document).json()

    assert results["message"] == "hello"
    assert results["numbers"]["rel"]
    assert http.get(results["numbers"]["href"]).json() == [1, 2]


def test_t1_0__rec_core_process_execute_sync_document_ref_a_scalar_is_plain_text_by_reference(
    run: Run, http: httpx2.Client
) -> None:
    document = {"inputs": {"message": "hello"}, "outputs": {"count": REFERENCE}, "response": "document"}

    link = run("echo", document).json()["count"]

    answer = http.get(link["href"], headers={"Accept": "text/plain"})
    assert media_type(answer) == "text/plain"
    assert answer.text == "1"


def test_t1_0__document_with_one_output_is_a_document_all_the_same(run: Run) -> None:
    answer = run("echo", {"inputs": {"message": "hello"}, "outputs": {"count": VALUE}, "response": "document"})

    assert answer.json() == {"count": 1}


def test_x_serve_empty_outputs_with_a_response_are_all_outputs(run: Run) -> None:
    answer = run("echo", {"inputs": {"message": "hello"}, "outputs": {}, "response": "document"})

    assert answer.json() == {"message": "hello", "count": 1}


@pytest.mark.parametrize("response", [None, "raw", "document"])
def test_x_etslink_no_links_on_sync_answers_to_1_0(http: httpx2.Client, response: str | None) -> None:
    members = {} if response is None else {"response": response}

    answer = echo(http, {"message": VALUE, "count": VALUE}, **members)

    assert answer.status_code == 200
    assert "Link" not in answer.headers


def test_x_etslink_no_links_on_a_sync_answer_of_several_values_to_1_0(http: httpx2.Client) -> None:
    document = {"inputs": {"words": ["a", "b"]}, "outputs": {"words": {}}, "response": "raw"}

    answer = execute(http, "echo-all", document)

    assert answer.json() == ["a", "b"]
    assert "Link" not in answer.headers


@pytest.mark.usefixtures("nothing_created")
@pytest.mark.parametrize("response", [None, "raw", "document"])
def test_x_etslink_exposes_no_job_of_sync_answers_to_1_0(http: httpx2.Client, response: str | None) -> None:
    members = {} if response is None else {"response": response}

    assert echo(http, {"message": VALUE}, **members).status_code == 200
