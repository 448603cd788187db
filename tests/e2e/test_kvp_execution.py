"""Processes run by GET requests: every kind of input and output as query parameters."""

import base64
import json
from urllib.parse import quote

import pytest

ECHO = "/processes/echo-all/execution"
ONE_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


def enc(value):
    return quote(value if isinstance(value, str) else json.dumps(value), safe="")


def test_a_process_runs_by_its_address_alone(http):
    response = http.get("/processes/hello-world/execution?name=World")

    assert response.status_code == 200
    assert response.json() == "Hello World!"


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("string=Gr%C3%BC%C3%9Fe+an%20Anna", "string", "Grüße an Anna"),
        ("string=42", "string", "42"),
        ("string=a,b%2Cc", "string", "a,b,c"),
        ("STRING=case", "string", "case"),
        ("integer=-5", "integer", -5),
        ("number=1.5e2", "number", 150.0),
        ("boolean=true", "boolean", True),
        ("boolean=False", "boolean", False),
        (f"array={enc([1, 2.5])}", "array", [1, 2.5]),
        ("array=1,2.5", "array", [1, 2.5]),
        (f"object={enc({'name': 'box', 'size': 3})}", "object", {"name": "box", "size": 3}),
        (f"object={enc({'value': {'name': 'box'}})}", "object", {"name": "box"}),
        ("bbox=5.9,45.8,10.5,47.8", "bbox", [5.9, 45.8, 10.5, 47.8]),
        ("bbox=5.9%2C45.8%2C10.5%2C47.8", "bbox", [5.9, 45.8, 10.5, 47.8]),
        (f"bbox={enc({'bbox': [1, 2, 3, 4]})}", "bbox", [1, 2, 3, 4]),
        (f"geometry={enc({'type': 'Point', 'coordinates': [8.5, 47.4], 'bbox': [8, 47, 9, 48]})}", "geometry",
         {"type": "Point", "coordinates": [8.5, 47.4], "bbox": [8, 47, 9, 48]}),
        ("words=one", "words", ["one"]),
        ("words=one,two%2Cthree", "words", ["one", "two,three"]),
        ("words=one&words=two", "words", ["one", "two"]),
        (f"words={enc(['one', 'two'])}", "words", ["one", "two"]),
    ],
)  # fmt: skip
def test_every_kind_of_value_is_read(http, query, name, value):
    response = http.get(f"{ECHO}?{query}&{name}[include]=true&response[f]=application/json")

    assert response.status_code == 200, response.text
    found = response.json()
    assert (found["bbox"] if name == "bbox" else found) == value


def test_the_crs_of_a_box_goes_beside_it(http):
    crs = "http://www.opengis.net/def/crs/OGC/0/CRS84h"

    response = http.get(f"{ECHO}?bbox=1,2,3,4,5,6&bbox[crs]={enc(crs)}&bbox[include]=true")

    assert response.json() == {"bbox": [1, 2, 3, 4, 5, 6], "crs": crs}


@pytest.mark.parametrize(
    "encoded",
    [enc(base64.b64encode(ONE_PIXEL).decode()), base64.b64encode(ONE_PIXEL).decode()],
    ids=["encoded", "as it is"],
)
def test_binary_content_is_base64(http, encoded):
    response = http.get(f"{ECHO}?image={encoded}&image[include]=true", headers={"Accept": "*/*"})

    assert response.headers["content-type"] == "image/png"
    assert response.content == ONE_PIXEL


def test_a_qualified_value_says_what_it_is(http):
    xml = "<greeting>a, b</greeting>"

    query = f"formats[value]={enc(xml)}&formats[mediaType]=application/xml&formats[include]=true"
    response = http.get(f"{ECHO}?{query}", headers={"Accept": "*/*"})

    assert response.headers["content-type"].startswith("application/xml")
    assert response.text == xml


@pytest.mark.parametrize("text", ["plain words", '{"a": 1}'], ids=["text", "object"])
def test_of_several_formats_the_fitting_one_is_taken(http, text):
    response = http.get(f"{ECHO}?formats={enc(text)}&formats[include]=true", headers={"Accept": "*/*"})

    kind = "application/json" if text.startswith("{") else "text/plain"
    assert response.headers["content-type"].partition(";")[0] == kind


def test_an_input_may_be_a_reference(http):
    href = http.post(
        "/files?name=a.json", content=b'{"name": "box"}', headers={"Content-Type": "application/json"}
    ).json()["href"]

    query = f"object[href]={enc(href)}&object[type]=application/json&object[rel]=item&object[include]=true"
    response = http.get(f"{ECHO}?{query}")

    assert response.json() == {"name": "box"}


# --- what is wanted ----------------------------------------------------------------------------------------------


def test_without_any_wish_all_outputs_come(http):
    response = http.get(f"{ECHO}?string=a&integer=1")

    assert response.json() == {"string": "a", "integer": 1}


def test_only_what_is_included_comes(http):
    response = http.get(f"{ECHO}?string=a&integer=1&integer[include]=true")

    assert response.json() == 1


def test_what_is_left_out_does_not_come(http):
    response = http.get(f"{ECHO}?string=a&integer=1&number=2&integer[include]=false")

    assert response.json() == {"string": "a", "number": 2}


def test_the_media_type_of_an_output_must_be_offered(http):
    response = http.get("/processes/hello-world/execution?name=World&echo[mediaType]=image/png")

    assert response.status_code == 400
    assert "echo[mediaType]" in response.json()["detail"]


def test_a_preference_makes_a_job(http):
    response = http.get("/processes/hello-world/execution?name=World&response[prefer]=respond-async")

    assert response.status_code == 201
    assert response.headers["preference-applied"] == "respond-async"
    job = http.get(response.headers["location"]).json()
    assert job["processID"] == "hello-world"


def test_what_is_acceptable_may_be_said_in_the_address(http):
    text = http.get(f"/processes/hello-world/execution?name=World&response[f]={enc('text/plain, */*;q=0.1')}")
    nothing = http.get("/processes/hello-world/execution?name=World&response[f]=image/png")

    assert text.headers["content-type"].startswith("text/plain")
    assert text.text == "Hello World!"
    assert nothing.status_code == 406


# --- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("name=World&colour=red", "colour"),
        ("name=World&name[colour]=red", "name[colour]"),
        ("name=World&name=Sun", "name"),
        ("name=World&echo=true", "echo"),
        ("name=World&echo[include]=perhaps", "echo[include]"),
        ("name=World&name[href]=https://example.org/name.txt", "name[href]"),
        ("name[mediaType]=text/plain", "name[mediatype]"),
        ("name=World&response[colour]=red", "response[colour]"),
        ("name=World&name[a][b]=c", "name[a][b]"),
    ],
)
def test_a_parameter_that_means_nothing_is_named(http, query, parameter):
    response = http.get(f"/processes/hello-world/execution?{query}")

    assert response.status_code == 400
    assert response.json()["type"].endswith("/invalid-query-parameter-value")
    assert response.json()["errors"][0]["parameter"] == parameter


def test_all_faults_are_listed_with_their_parameters(http):
    response = http.get(
        f"{ECHO}?integer=many&number=x&choice=none&array={enc(['a'])}&bbox=3,4,1&object={enc({'size': 1})}"
    )

    faults = response.json()["errors"]
    assert response.status_code == 400
    named = {fault["detail"].split("'")[1] for fault in faults}
    assert named == {"integer", "number", "choice", "array", "bbox", "object"}
    assert {fault["pointer"].split("/")[2] for fault in faults} == named


def test_a_missing_input_is_named(http):
    response = http.get("/processes/hello-world/execution")

    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/inputs/name"


def test_a_private_address_is_refused(http):
    response = http.get(f"{ECHO}?reference[href]={enc('http://127.0.0.1:1/a')}")

    assert response.status_code == 400
    assert response.json()["errors"][0]["detail"].startswith("parameter 'reference[href]'")


def test_deep_nesting_is_refused(http):
    response = http.get(f"{ECHO}?object={enc('[' * 1000 + ']' * 1000)}")

    assert response.status_code == 400


def test_an_unknown_process_is_not_found(http):
    assert http.get("/processes/nothing/execution?a=1").status_code == 404


@pytest.mark.parametrize(
    ("query", "said"),
    [
        pytest.param("number=1e999", "infinite numbers", id="number"),
        pytest.param("number=-1e999", "infinite numbers", id="below"),
        pytest.param("number[value]=1e999", "infinite numbers", id="qualified"),
        pytest.param("number=" + "9" * 5000, "infinite numbers", id="more digits than are read"),
        pytest.param("array=1e999,2", "infinite numbers", id="list"),
        pytest.param("array=" + enc("[1, 1e999]"), "infinite numbers", id="array"),
        pytest.param("geometry=" + quote('{"type":"Point","coordinates":[1e999,1]}'), "infinite numbers", id="GeoJSON"),
        pytest.param("array=" + "[" * 800 + "]" * 800, "nests deeper", id="deep"),
        pytest.param("words=" + quote(r'["\ud800"]'), "lone surrogate", id="half of a character"),
    ],
)
def test_what_a_body_may_not_have_is_refused_in_an_address_too(http, query, said):
    answer = http.get(f"/processes/echo-all/execution?{query}")

    assert answer.status_code == 400
    assert f"parameter {query.partition('=')[0].partition('[')[0]!r}: " in answer.json()["detail"]
    assert said in answer.json()["detail"]
