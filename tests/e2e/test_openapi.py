"""The API definition says what there is: valid in both editions, complete, for one address and from bytes."""

from __future__ import annotations

import hashlib
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

from graticule.ogc.processes import Input, Output, ProcessDescription
from graticule.web.openapi import BASE, Service, definition
from graticule.web.problems import PROBLEMS
from graticule.web.routes import ROUTES
from graticule.web.vocabulary import schema_3_0, schema_3_1
from tests.conftest import Serve
from tests.e2e.test_jobs import client, send, wait_for
from tests.postgres import Postgres
from tests.serving import Server

OPENAPI = "application/vnd.oai.openapi+json;version="
VALIDATORS = {"3.0": OpenAPIV30SpecValidator, "3.1": OpenAPIV31SpecValidator}
Answers = dict[str, Any]
"""What the definition says of an operation's answers, by status."""
OPEN = Service(title="T", description="D", version="1", secured=False)

ODD = ProcessDescription(
    id="odd",
    version="1",
    inputs={
        "newer": Input(schema={"type": ["string", "null"], "const": "x", "$schema": "https://json-schema.org/x"}),
        "shared": Input(schema={"$ref": "#/$defs/one", "$defs": {"one": {"type": "integer", "exclusiveMinimum": 3}}}),
        "loop": Input(schema={"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}),
        "pair": Input(
            schema={"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}], "items": False}
        ),
        "older": Input(schema={"type": "number", "minimum": 0, "exclusiveMinimum": True, "nullable": True}),
        "bytes": Input(schema={"type": "string", "format": "byte"}),
        "anything": Input(schema={}),
        "mapping": Input(schema={"type": "object", "patternProperties": {"^a": {"type": "string"}}}),
        "many": Input(schema={"type": "string", "minLength": 1}, min_occurs=2, max_occurs=5),
        "endless": Input(schema={"allOf": [{"format": "ogc-bbox"}]}, min_occurs=0, max_occurs="unbounded"),
        "linked": Input(schema={"type": "string", "contentEncoding": "binary"}, value_passing=["byReference"]),
        "inline": Input(schema={"type": "object", "examples": [{"a": 1}]}, value_passing=["byValue"]),
        "a/b~c[d] e": Input(schema={"type": "boolean"}, min_occurs=0),
    },
    outputs={
        "several": Output(schema={"type": "integer"}, max_occurs="unbounded"),
        "picture": Output(schema={"type": "string", "contentMediaType": "image/png", "contentEncoding": "binary"}),
        "text": Output(schema={"oneOf": [{"type": "string", "contentMediaType": "text/csv"}, {"type": "object"}]}),
    },
)

ANNOTATED = '''
import datetime, enum
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from graticule import BoundingBox, File, Raster, process


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    name: str
    height: Annotated[float, Field(gt=0, lt=150)]
    below: "list[Tree]" = []


@process
def everything(
    number: Annotated[float, Field(ge=0, lt=360)],
    tree: Tree,
    colour: Colour,
    day: datetime.date,
    pair: tuple[int, str],
    table: dict[str, float],
    level: Literal["low", "high"] = "low",
    either: int | str = 1,
    names: list[str] | None = None,
    box: BoundingBox | None = None,
    dem: Raster | None = None,
    file: File | None = None,
) -> dict[str, int]:
    """Take one of everything."""
    return {"n": 1}
'''


def _paths_of_routes() -> set[tuple[str, str]]:
    return {(route.path.replace(":path}", "}"), route.method.lower()) for route in ROUTES if not route.hidden}


def _faults(document: dict[str, Any]) -> list[str]:
    return [error.message for error in VALIDATORS[document["openapi"][:3]](document).iter_errors()]


@pytest.mark.parametrize("version", ["3.0", "3.1"])
def test_the_definition_is_valid(http: httpx2.Client, version: str):
    document = http.get("/api", params={"f": "json", "version": version}).json()

    assert document["openapi"].startswith(version)
    assert _faults(document) == []


@pytest.mark.parametrize("version", ["3.0", "3.1"])
def test_the_definition_is_valid_with_every_kind_of_annotation(serve: Serve, tmp_path: Path, version: str):
    plugin = tmp_path / "odd_processes.py"
    plugin.write_text(ANNOTATED)

    server = serve(str(plugin))

    document = httpx2.get(f"{server.url}/api?f=json&version={version}", trust_env=False).json()
    assert "/processes/everything/execution" in document["paths"]
    assert _faults(document) == []


@pytest.mark.parametrize("version", ["3.0", "3.1"])
def test_the_definition_is_valid_with_schemas_that_use_other_words(version: str):
    document = definition(ROUTES, [ODD], OPEN, version)

    assert _faults(document) == []


def test_every_route_that_is_not_hidden_is_in_it(http: httpx2.Client):
    paths = http.get("/api?f=json").json()["paths"]

    assert _paths_of_routes() <= {(path, method) for path, methods in paths.items() for method in methods}


def test_every_process_has_a_typed_path(http: httpx2.Client):
    paths = http.get("/api?f=json").json()["paths"]

    for process in http.get("/processes?limit=1000").json()["processes"]:
        described = http.get(f"/processes/{process['id']}").json()
        typed = paths[f"/processes/{process['id']}/execution"]["post"]
        inputs = typed["requestBody"]["content"]["application/json"]["schema"]["properties"]["inputs"]
        assert set(inputs["properties"]) == set(described["inputs"])
        assert inputs["additionalProperties"] is False


def test_every_problem_of_a_route_is_documented_with_its_status(http: httpx2.Client):
    paths = http.get("/api?f=json").json()["paths"]

    for route in ROUTES:
        if route.hidden:
            continue
        answers = paths[route.path.replace(":path}", "}")][route.method.lower()]["responses"]
        assert {str(PROBLEMS[error].status) for error in route.problems} <= set(answers)
        assert "500" in answers


_WITHOUT_LEDGER = {
    "/", "/api", "/api.html", "/api.json", "/conformance", "/health", "/health/live", "/health/ready", "/metrics",
    "/processes", "/processes/{processID}",
}  # fmt: skip
_VALUES = {
    "processID": "echo", "outputID": "message", "index": "0", "number": "1", "step": "process", "scope": "process:none",
}  # fmt: skip


def _ask_all(http: httpx2.Client, job: str, file: str, **headers: str) -> list[tuple[Answers, httpx2.Response]]:
    """Send one request to every operation; return what each may answer, and what it does."""
    paths = http.get("/api?f=json").json()["paths"]

    def ask(path: str, method: str) -> tuple[Answers, httpx2.Response]:
        name = "a.txt" if path.startswith("/files") else "hook"
        values = {**_VALUES, "jobID": job, "fileID": file, "name": name}
        address = re.sub(r"{(\w+)}", lambda found: values[found[1]], path)
        query = "?message=hello" if (path, method) == ("/processes/{processID}/execution", "get") else ""
        body = {"inputs": {"message": "hello"}, "process": "echo", "priority": 1, "action": "pause"}
        content = {"json": body} if method in ("put", "post") else {}
        # A connection that waits for its next request may be closed while that is on its way.
        sent = http.build_request(method, address + query, **content, headers={**headers, "Connection": "close"})
        return paths[path][method]["responses"], http.send(sent)

    last = {one for one in _paths_of_routes() if one[1] == "delete"}
    with ThreadPoolExecutor(16) as pool:  # many wait for a database that is gone
        return [
            answer
            for some in (_paths_of_routes() - last, last)
            for answer in pool.map(lambda one: ask(*one), sorted(some))
        ]


def test_whatever_the_database_is_needed_for_is_documented_to_fail_with_it(tmp_path: Path):
    with Postgres() as postgres:
        settings = {"GRATICULE_DATABASE__URL": postgres.new_database()}
        with Server(tmp_path / "home", environment=settings) as server, client(server) as http:
            job = send(http, "echo", message="hello")
            file = http.post("/files?name=a.txt", content=b"abc").json()["id"]
            wait_for(http, job)
            http.get("/api?f=json")
            postgres.kill()

            asked = _ask_all(http, job, file)

            failed = [answer.request.url.path for _, answer in asked if answer.status_code == 503]
            postgres.start()
    assert [str(answer.request.url) for documented, answer in asked if str(answer.status_code) not in documented] == []
    assert {"/jobs", f"/jobs/{job}", f"/jobs/{job}/prov", "/notification-profiles"} <= set(failed)


def test_only_what_needs_neither_ledger_nor_storage_is_always_answered(http: httpx2.Client):
    paths = http.get("/api?f=json").json()["paths"]

    always = {path for path, methods in paths.items() for one in methods.values() if "503" not in one["responses"]}

    assert always == _WITHOUT_LEDGER - {"/health", "/health/ready"}


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        (304, {"If-None-Match": "*"}),
        (206, {"Range": "bytes=0-0"}),
        (416, {"Range": "bytes=99999999-"}),
    ],
)
def test_conditions_and_ranges_are_documented_where_they_are_honoured(
    http: httpx2.Client, status: int, asked: dict[str, str]
):  # fmt: skip
    job = send(http, "echo", message="hello")
    file = http.post("/files?name=a.txt", content=b"abc").json()["id"]
    wait_for(http, job)

    answers = [
        (documented, answer)
        for documented, answer in _ask_all(http, job, file, **asked)
        if answer.status_code == status
    ]

    assert {answer.request.method for _, answer in answers} == {"GET"}
    assert len(answers) >= 3
    assert [str(answer.request.url) for documented, answer in answers if str(status) not in documented] == []


@pytest.mark.parametrize("asked", [{"If-None-Match": "*"}, {"Range": "bytes=0-0"}, {"Range": "bytes=99999999-"}])
def test_an_execution_that_is_sent_answers_its_whole_result(http: httpx2.Client, asked: dict[str, str]):
    body = {"inputs": {"name": "Ada"}}

    answer = http.post("/processes/hello-world/execution", json=body, headers={"Accept": "*/*", **asked})

    assert (answer.status_code, answer.text) == (200, http.post("/processes/hello-world/execution", json=body).text)


def test_every_schema_that_a_route_names_is_there(http: httpx2.Client):
    schemas = http.get("/api?f=json").json()["components"]["schemas"]
    named = {name for route in ROUTES for answer in route.answers for _, name in answer.content if name}
    named |= {name for route in ROUTES for _, name in route.body if name}

    assert named <= set(schemas)


def test_every_operation_has_an_identifier_of_its_own(http: httpx2.Client):
    paths = http.get("/api?f=json").json()["paths"]

    identifiers = [operation["operationId"] for methods in paths.values() for operation in methods.values()]

    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize(
    ("query", "accept", "content_type"),
    [
        ("", "*/*", f"{OPENAPI}3.0"),
        ("?f=json", "text/html", f"{OPENAPI}3.0"),
        ("?f=json&version=3.1", "", f"{OPENAPI}3.1"),
        ("", f"{OPENAPI}3.1", f"{OPENAPI}3.1"),
        ("", 'application/vnd.oai.openapi+json; version="3.1.0"', f"{OPENAPI}3.1"),
        ("", f"{OPENAPI}3.0;q=0.5, {OPENAPI}3.1", f"{OPENAPI}3.1"),
        ("", "application/json", "application/json"),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("?f=html", "", "text/html; charset=utf-8"),
        ("?f=yaml", "", "application/yaml"),
        ("", "application/vnd.oai.openapi;version=3.1", "application/vnd.oai.openapi;version=3.1"),
    ],
)
def test_the_definition_comes_as_it_is_wanted(http: httpx2.Client, query: str, accept: str, content_type: str):
    answer = http.get(f"/api{query}", headers={"Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/api?f=xml", "*/*", 400),
        ("/api?version=2.0", "*/*", 400),
        ("/api?edition=3.0", "*/*", 400),
        ("/api", f"{OPENAPI}2.0", 406),
        ("/api", "image/png", 406),
        ("/api/docs", "*/*", 404),
    ],
)
def test_what_is_not_offered_is_refused(http: httpx2.Client, path: str, accept: str, status: int):
    assert http.get(path, headers={"Accept": accept}).status_code == status


def test_the_suffixes_stand_for_json_and_the_page(http: httpx2.Client):
    assert http.get("/api.json").json() == http.get("/api?f=json").json()
    assert http.get("/api.json?version=3.1").json()["openapi"] == "3.1.0"
    assert http.get("/api.html").headers["content-type"].startswith("text/html")


def test_yaml_says_the_same_as_json(http: httpx2.Client):
    assert yaml.safe_load(http.get("/api?f=yaml").text) == http.get("/api?f=json").json()


def test_the_landing_page_links_the_definition_by_its_type(http: httpx2.Client):
    links = [link for link in http.get("/").json()["links"] if link["rel"] in ("service-desc", "service-doc")]

    assert len(links) == 3
    for link in links:
        assert httpx2.get(link["href"], trust_env=False).headers["content-type"].startswith(link["type"])


def test_addresses_are_those_of_the_workspace_that_was_asked(serve: Serve):
    server = serve(env={"GRATICULE_WORKSPACES__NAMES": '["default", "north"]'})

    text = httpx2.get(f"{server.url}/north/ogc-api/api?f=json", trust_env=False).text

    assert f'"servers":[{{"url":"{server.url}/north/ogc-api"}}]' in text
    assert f"{server.url}/north/ogc-api/files/samples/" in text
    assert BASE not in text


def test_tokens_are_a_security_scheme(serve: Serve):
    digest = hashlib.sha256(b"secret").hexdigest()
    server = serve(config=f'[[security.tokens]]\nactor = "ada"\nsha256 = "{digest}"\n')
    headers = {"Authorization": "Bearer secret"}

    document = httpx2.get(f"{server.url}/api?f=json", headers=headers, trust_env=False).json()

    assert document["security"] == [{"token": []}]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert all(
        {"401", "404"} <= set(operation["responses"])
        for path in document["paths"].values()
        for operation in path.values()
    )
    assert _faults(document) == []


def test_an_execution_documents_what_a_subscriber_is_told(http: httpx2.Client):
    document = http.get("/api?f=json").json()

    callbacks = document["paths"]["/processes/echo/execution"]["post"]["callbacks"]

    assert set(callbacks) == {"successUri", "inProgressUri", "failedUri"}
    assert "{$request.body#/subscriber/successUri}" in document["components"]["callbacks"]["successUri"]


def test_inputs_are_documented_as_query_parameters(http: httpx2.Client):
    parameters = http.get("/api?f=json").json()["paths"]["/processes/echo/execution"]["get"]["parameters"]

    named = {parameter["name"]: parameter for parameter in parameters if "name" in parameter}
    assert named["message"]["required"]
    assert named["pause"]["schema"] == {"type": "integer", "minimum": 0, "maximum": 60}
    assert not named["bbox"]["explode"]
    assert "count[include]" in named


def test_an_unchanged_definition_is_not_sent_again(http: httpx2.Client):
    tag = http.get("/api?f=json").headers["etag"]

    assert http.get("/api?f=json", headers={"If-None-Match": tag}).status_code == 304


def test_a_definition_of_a_thousand_processes_is_written_in_two_seconds():
    many = [
        ProcessDescription(id=f"p{number}", version="1", inputs=_PLAIN, outputs=_PLAIN_OUT) for number in range(1000)
    ]
    start = time.process_time()

    document = definition(ROUTES, many, OPEN, "3.0")

    assert time.process_time() - start < 2
    assert "/processes/p999/execution" in document["paths"]


_PLAIN = {
    "a": Input(schema={"type": "number"}),
    "b": Input(schema={"type": "number", "minimum": 0}, min_occurs=0),
    "raster": Input(schema={"type": "string", "contentEncoding": "binary", "contentMediaType": "image/tiff"}),
}
_PLAIN_OUT = {"result": Output(schema={"type": "number"})}


@pytest.mark.parametrize(
    ("schema", "older", "newer"),
    [
        ({"const": 1}, {"enum": [1]}, {"const": 1}),
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "string", "nullable": True}, {"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"exclusiveMinimum": 2}, {"minimum": 2, "exclusiveMinimum": True}, {"exclusiveMinimum": 2}),
        ({"minimum": 2, "exclusiveMinimum": True}, {"minimum": 2, "exclusiveMinimum": True}, {"exclusiveMinimum": 2}),
        (
            {"type": "string", "contentEncoding": "binary"},
            {"type": "string", "format": "byte"},
            {"type": "string", "contentEncoding": "base64"},
        ),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]},)
        + ({"anyOf": [{"type": "number"}, {"type": "integer"}]},) * 2,
        ({"examples": [1, 2]}, {"example": 1}, {"examples": [1, 2]}),
        (
            {"type": ["string", "array"]},
            {"allOf": [{"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]}]},
            None,
        ),
    ],
)
def test_a_schema_is_said_in_the_words_of_either_edition(schema: Any, older: Any, newer: Any):
    assert schema_3_0(schema) == older
    assert schema_3_1(schema) == (newer or schema)


def test_swagger_ui_is_the_one_that_was_published():
    folder = Path(__file__).parents[2] / "src/graticule/web/static/swagger-ui"
    listed = [line.split() for line in (folder / "CHECKSUMS").read_text().splitlines() if not line.startswith("#")]

    assert {name for _, name in listed} | {"CHECKSUMS"} == {path.name for path in folder.iterdir()}
    for digest, name in listed:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("accept", [";", ",", ";;q=1", "; ,", '"', "<"])
def test_an_accept_header_that_says_nothing_admits_everything(http: httpx2.Client, accept: str):
    assert http.get("/", headers={"Accept": accept}).status_code == 200
