"""How the service speaks HTTP."""

from __future__ import annotations

import base64
import re
from urllib.parse import urlsplit

import httpx2
import pytest

from graticule.web.routes import ROUTES
from graticule.web.routing import Route
from tests.e2e.beyond_the_suite.asking import (
    HTML,
    JSON,
    PIXEL,
    PROBLEM,
    PROFILE,
    RESOURCES,
    assert_problem,
    done,
    header_links,
    hrefs,
    media_type,
    nulls_in,
)
from tests.e2e.ogc_suite import wire
from tests.e2e.ogc_suite.schemas import Schemas
from tests.serving import Server


@pytest.mark.parametrize("path", RESOURCES)
def test_t2_0__rec_core_http_head_gives_the_headers_of_get_without_a_body(http: httpx2.Client, path: str) -> None:
    got, head = http.get(path), http.head(path)

    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["Content-Type"] == got.headers["Content-Type"]
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize("path", [*RESOURCES, "/processes/nothing-here"])
def test_t2_0__rec_core_content_length_is_that_of_the_body(server: Server, path: str) -> None:
    answer = wire.get(server.url + path)

    assert int(answer.first("Content-Length")) == len(answer.body)


def test_t2_0__rec_core_content_length_holds_for_results(http: httpx2.Client) -> None:
    job = done(http, "echo-all", {"inputs": {"image": PIXEL}})

    head = http.head(f"{job}/results/image", headers={"Accept": "image/png"})

    assert int(head.headers["Content-Length"]) == len(base64.b64decode(PIXEL))


@pytest.mark.parametrize("path", RESOURCES)
def test_t1_0__rec_core_cross_origin_lets_every_page_read_each_time(http: httpx2.Client, path: str) -> None:
    answers = [http.get(path, headers={"Origin": "https://maps.example"}) for _ in range(2)]

    allowed = [answer.headers.get("Access-Control-Allow-Origin") for answer in answers]
    assert set(allowed) <= {"*", "https://maps.example"}, allowed


def test_t1_0__rec_core_cross_origin_answers_the_question_before_a_post(http: httpx2.Client) -> None:
    asked = {
        "Origin": "https://maps.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, prefer",
    }

    answer = http.options("/processes/echo/execution", headers=asked)

    assert answer.status_code in {200, 204}
    assert answer.headers["Access-Control-Allow-Origin"] in {"*", "https://maps.example"}
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert allowed == "*" or {"content-type", "prefer"} <= {name.strip() for name in allowed.split(",")}


def test_t1_0__rec_core_cross_origin_holds_for_errors(http: httpx2.Client) -> None:
    answer = http.get("/jobs/nothing-here", headers={"Origin": "https://maps.example"})

    assert answer.headers["Access-Control-Allow-Origin"] in {"*", "https://maps.example"}


@pytest.mark.parametrize(
    "name", ["location", "link", "preference-applied", "content-profile", "ogc-output-values-count"]
)
def test_t1_0__rec_core_access_control_expose_headers(http: httpx2.Client, name: str) -> None:
    answer = http.get("/processes", headers={"Origin": "https://maps.example"})

    assert name in {header.strip().lower() for header in answer.headers["Access-Control-Expose-Headers"].split(",")}


@pytest.mark.parametrize("path", ["/", "/processes", "/processes/echo"])
def test_t1_0__rec_core_link_header_mirrors_the_links_of_the_body(http: httpx2.Client, path: str) -> None:
    answer = http.get(path)

    in_body = {(link["href"], link["rel"]) for link in answer.json()["links"]}
    assert in_body <= set(header_links(answer))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", JSON),
        ("application/json, application/problem+json", PROBLEM),
        ("application/problem+json", PROBLEM),
        ("*/*", PROBLEM),
        ("text/html,application/xhtml+xml,*/*;q=0.8", HTML),
    ],
)
def test_x_errct_media_types_of_errors(http: httpx2.Client, accept: str, expected: str) -> None:
    answer = http.get("/processes/nothing-here", headers={"Accept": accept})

    assert answer.status_code == 404
    assert media_type(answer) == expected
    assert expected != PROBLEM or answer.headers["Content-Type"] == PROBLEM


def test_x_errct_errors_are_problem_json_when_nobody_says_what_to_accept(server: Server) -> None:
    answer = wire.get(f"{server.url}/processes/nothing-here", accept=None)

    assert answer.first("Content-Type") == PROBLEM


def test_t1_0__rec_core_problem_details_are_valid(http: httpx2.Client, schemas: Schemas) -> None:
    document = http.get("/processes/nothing-here").json()

    assert schemas.remote_faults("exception.yaml", document) == []
    assert {"type", "title", "status", "detail"} <= set(document)
    assert list(nulls_in(document)) == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/processes", "GET"),
        ("PUT", "/processes/echo/execution", "POST"),
        ("POST", "/conformance", "GET"),
    ],
)
def test_t1_0__rec_core_problem_details_of_a_wrong_method_say_what_is_allowed(
    http: httpx2.Client, method: str, path: str, allowed: str
) -> None:
    answer = http.request(method, path)

    assert_problem(answer, 405)
    assert allowed in {name.strip() for name in answer.headers["Allow"].split(",")}


def test_an_address_where_nothing_is_gives_404(http: httpx2.Client) -> None:
    assert_problem(http.get("/nothing/here"), 404)


@pytest.mark.parametrize("path", ["/", "/conformance", "/processes", "/processes/echo"])
def test_what_rarely_changes_is_not_sent_twice(http: httpx2.Client, path: str) -> None:
    tag = http.get(path).headers["ETag"]

    answer = http.get(path, headers={"If-None-Match": tag})

    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["ETag"] == tag


def test_what_rarely_changes_is_sent_to_who_has_another_version(http: httpx2.Client) -> None:
    assert http.get("/processes", headers={"If-None-Match": '"another"'}).status_code == 200


def test_tags_differ_between_representations(http: httpx2.Client) -> None:
    assert http.get("/processes?f=json").headers["ETag"] != http.get("/processes?f=html").headers["ETag"]


@pytest.mark.parametrize("path", RESOURCES)
@pytest.mark.parametrize(
    ("parameter", "accept", "expected"),
    [("json", HTML, JSON), ("html", JSON, HTML), ("application/json", HTML, JSON), ("text/html", JSON, HTML)],
)
def test_x_f_beats_accept(http: httpx2.Client, path: str, parameter: str, accept: str, expected: str) -> None:
    answer = http.get(path, params={"f": parameter}, headers={"Accept": accept})

    assert answer.status_code == 200
    assert media_type(answer) == expected


@pytest.mark.parametrize("path", RESOURCES)
def test_x_f_that_is_unknown_gives_400(http: httpx2.Client, path: str) -> None:
    answer = http.get(path, params={"f": "shapefile"})

    assert_problem(answer, 400, "invalid-query-parameter-value")
    assert "shapefile" in answer.json()["detail"]


@pytest.mark.parametrize("path", RESOURCES)
def test_a_parameter_of_one_value_that_is_repeated_gives_400(http: httpx2.Client, path: str) -> None:
    answer = http.get(f"{path}?f=json&f=html")

    assert_problem(answer, 400, "invalid-query-parameter-value")
    assert answer.json()["errors"] == [{"parameter": "f", "detail": "it is given more than once; send one value"}]


@pytest.mark.parametrize("path", RESOURCES)
def test_an_accept_header_that_nobody_can_serve_gives_406(http: httpx2.Client, path: str) -> None:
    answer = http.get(path, headers={"Accept": "image/x-icon"})

    assert_problem(answer, 406)
    assert JSON in answer.json()["detail"]


def test_a_problem_does_not_repeat_all_of_a_long_header(http: httpx2.Client) -> None:
    answer = http.get("/processes", headers={"Accept": ", ".join(f"image/x-{number}" for number in range(1000))})

    assert_problem(answer, 406)
    assert "image/x-0" in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 400


def test_a_problem_does_not_repeat_all_of_a_long_parameter(http: httpx2.Client) -> None:
    answer = http.get("/jobs", params={"cursor": "x" * 10_000})

    assert_problem(answer, 400)
    assert len(answer.json()["detail"]) < 400


@pytest.mark.parametrize("path", RESOURCES)
def test_a_query_that_is_not_utf_8_is_refused(http: httpx2.Client, path: str) -> None:
    answer = http.get(f"{path}?nope=%C3%28")

    assert_problem(answer, 400, "invalid-query-parameter-value")
    assert answer.json()["errors"][0]["parameter"] == "nope"
    assert "UTF-8" in answer.json()["detail"]


def test_the_quality_of_a_media_range_counts(http: httpx2.Client) -> None:
    answer = http.get("/processes", headers={"Accept": "text/html;q=0.5, application/json;q=0.9"})

    assert media_type(answer) == JSON


@pytest.mark.parametrize("path", RESOURCES)
@pytest.mark.parametrize("accept", ["application/json;q=0, */*;q=0.1", "*/*, application/json; Q=0.0"])
def test_a_media_range_of_quality_zero_is_not_served(http: httpx2.Client, path: str, accept: str) -> None:
    answer = http.get(path, headers={"Accept": accept})

    assert answer.status_code == 200
    assert media_type(answer) == HTML


@pytest.mark.parametrize("accept", ["application/json;q=0", "application/json;q=0, text/html;q=0", "*/*;q=0"])
def test_where_nothing_has_more_than_quality_zero_the_answer_is_406(http: httpx2.Client, accept: str) -> None:
    assert_problem(http.get("/processes", headers={"Accept": accept}), 406)


@pytest.mark.parametrize("path", RESOURCES)
def test_t1_0__req_json_definition_json_is_what_comes_unasked(server: Server, path: str) -> None:
    answer = wire.get(server.url + path, accept=None)

    assert answer.status == 200
    assert answer.first("Content-Type").startswith(JSON)


@pytest.mark.parametrize("path", RESOURCES)
def test_answers_vary_by_what_was_asked(http: httpx2.Client, path: str) -> None:
    varies = {name.strip().lower() for name in http.get(path).headers["Vary"].split(",")}

    assert {"accept", "prefer", "accept-profile"} <= varies


@pytest.mark.parametrize(
    ("path", "profile"),
    [("/processes", "ogc-process-list"), ("/processes/echo", "ogc-process-description"), ("/jobs", "jobs-list")],
)
@pytest.mark.parametrize(
    "spelling",
    [
        "{}",
        "[ogc-profile:{}]",
        "https://www.opengis.net/def/profile/OGC/0/{}",
        "http://www.opengis.net/def/profile/OGC/0/{}",
    ],
)
def test_t2_0__req_query_param_profile_definition(http: httpx2.Client, path: str, profile: str, spelling: str) -> None:
    answer = http.get(path, params={"profile": spelling.format(profile)})

    assert answer.status_code == 200
    assert (PROFILE + profile, "profile") in header_links(answer)


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept-Profile": f"<{PROFILE}ogc-process-description>"},
        {"Prefer": f'profile="{PROFILE}ogc-process-description"'},
        {"Link": f'<{PROFILE}ogc-process-description>; rel="profile"'},
    ],
    ids=["Accept-Profile", "Prefer", "Link"],
)
def test_t2_0__rec_query_param_profile_negotiation_by_header(http: httpx2.Client, headers: dict[str, str]) -> None:
    answer = http.get("/processes/echo", headers=headers)

    assert answer.status_code == 200
    assert (f"{PROFILE}ogc-process-description", "profile") in header_links(answer)
    assert f"{PROFILE}ogc-process-description" in answer.headers["Content-Profile"]


def test_t2_0__a_preferred_profile_is_acknowledged(http: httpx2.Client) -> None:
    answer = http.get("/processes/echo", headers={"Prefer": "profile=ogc-process-description"})

    assert "profile=" in answer.headers["Preference-Applied"]


def test_t2_0__req_query_param_profile_response_an_unknown_profile_is_no_error(http: httpx2.Client) -> None:
    assert http.get("/processes/echo", params={"profile": "nobody-knows-this"}).status_code == 200


def test_t2_0__req_query_param_profile_response_puts_links_into_the_document(http: httpx2.Client) -> None:
    document = http.get("/processes/echo", params={"profile": "ogc-process-description"}).json()

    assert f"{PROFILE}ogc-process-description" in hrefs(document, "profile")


def test_t2_0__rec_core_http_head_is_answered_wherever_get_is_but_where_it_runs_or_follows(http: httpx2.Client) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}})
    uploaded = http.post("/files?name=a.txt", content=b"a").json()["href"]
    known = {
        "{jobID}": job.rpartition("/")[2], "{outputID}": "echo", "{index}": "0", "{step}": "process",
        "{fileID}": uploaded.split("/")[-2], "{name}": "a.txt", "{processID}": "echo",
    }  # fmt: skip
    paths = [path for path, item in http.get("/api").json()["paths"].items() if "get" in item]
    for mark, value in known.items():
        paths = [path.replace(mark, value) for path in paths]

    but = ("/execution", "/events")

    answers = {path: (http.head(path), http.get(path)) for path in paths if not path.endswith(but)}

    assert len(answers) > 12
    assert {path: head.status_code for path, (head, _) in answers.items()} == {
        path: get.status_code for path, (_, get) in answers.items()
    }
    assert not any(head.content for head, _ in answers.values())
    assert http.head("/processes/echo/execution?message=hello").status_code == 405


TOLERANT = {"/health", "/health/live", "/health/ready", "/metrics"}
"""What machines ask for that may add a parameter of their own."""


@pytest.mark.parametrize(
    "route",
    [one for one in ROUTES if not one.hidden],
    ids=lambda one: f"{one.method} {one.path}",
)
def test_no_resource_takes_a_parameter_that_it_does_not_know(http: httpx2.Client, route: Route) -> None:
    document = {"process": "echo", "inputs": {"message": "hello"}, "outputs": {"message": {}}}
    job = done(http, "echo", document)
    if route.path == "/jobs/{jobID}" and route.method in {"PATCH", "PUT"}:  # a created one
        job = urlsplit(http.post("/jobs", json={**document, "status": "create"}).headers["Location"]).path
    sent = http.post("/files?name=some.bin", content=b"123456", headers={"Content-Type": "application/octet-stream"})
    _, fileid, name = urlsplit(sent.headers["Location"]).path.strip("/").split("/")
    values = {
        "jobID": job.rpartition("/")[2], "outputID": "message", "index": "0", "step": "process", "processID": "echo",
        "fileID": fileid, "name": name, "scope": "queue", "number": "1",
    }  # fmt: skip
    path = re.sub(r"\{(\w+)(:path)?\}", lambda found: values[found[1]], route.path)
    tus = {"Tus-Resumable": "1.0.0"} if route.method == "PATCH" and "/files/" in path else {}

    answer = http.request(route.method, f"{path}?misspelt=1", headers={"Content-Type": JSON, **tus}, content=b"{}")

    if route.path in TOLERANT:
        assert answer.status_code in {200, 403}, answer.text
    else:
        assert_problem(answer, 400)
        assert "misspelt" in answer.json()["detail"]
    assert http.get(job).status_code == 200
    assert http.get(sent.headers["Location"]).content == b"123456"
    assert http.delete(job).status_code == 200


def test_what_results_are_asked_by_is_known(http: httpx2.Client) -> None:
    job = done(http, "echo", {"inputs": {"message": "hello"}})
    asked = [
        "", "/results", "/results?f=json", "/results?outputs=message&profile=ogc-results", "/results?f=html",
        "/results?outputs=message&outputs=message", "/results/message?f=text/plain", "/results/message?profiles=any",
        "?f=html", "?profile=job-description", "?profiles=x&profile=y",
    ]  # fmt: skip

    answers = [http.get(job + one) for one in asked]

    assert {answer.status_code for answer in answers} == {200}
    for repeated in ("?f=json&f=html", "/results/message?f=json&f=json"):
        assert_problem(http.get(job + repeated), 400)


MANY = "9" * 5000
"""More digits than Python reads as a number."""


@pytest.fixture(scope="module")
def ranged(http: httpx2.Client) -> dict[str, str]:
    """Addresses of what answers ranges; each has six bytes."""
    job = done(http, "echo", {"inputs": {"message": "123456"}, "outputs": {"message": {}}})
    kept = http.post("/files?name=some.bin", content=b"123456", headers={"Content-Type": "application/octet-stream"})
    return {"result": f"{job}/results/message?f=text/plain", "file": kept.headers["Location"]}


@pytest.mark.parametrize("what", ["result", "file"])
@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        (f"bytes={MANY}-", 416, None),
        (f"bytes={MANY}-{MANY}", 416, None),
        (f"bytes=2-{MANY}", 206, b"3456"),
        (f"bytes=-{MANY}", 206, b"123456"),
        (f"bytes={'0' * 5000}1-2", 206, b"23"),
        (f"bytes=-{'0' * 5000}", 416, None),
    ],
    ids=["first", "both", "last", "suffix", "zeros", "none"],
)
def test_a_range_of_many_digits_is_as_any_that_is_too_large(
    http: httpx2.Client, ranged: dict[str, str], what: str, asked: str, status: int, content: bytes | None
) -> None:
    answer = http.get(ranged[what], headers={"Range": asked, "Accept": "*/*"})

    assert answer.status_code == status, answer.text
    assert content is None or answer.content == content


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"/jobs?limit={MANY}", {}, 200),
        (f"/processes?offset={MANY}", {}, 200),
        (f"/jobs?minDuration={MANY}&maxDuration={MANY}", {}, 200),
        (f"{{job}}/results/message/{MANY}", {}, 404),
        (f"{{job}}/results/message/{MANY}/preview.png", {}, 404),
        (f"{{job}}/logs/process?attempt={MANY}", {}, 404),
        ("{job}/events", {"Last-Event-ID": f"{MANY}/{MANY}/{MANY}"}, 200),
        ("/processes/echo/execution?message=x", {"Prefer": f"wait={MANY}"}, 200),
    ],
)
def test_a_number_of_many_digits_is_read_everywhere(
    http: httpx2.Client, ranged: dict[str, str], path: str, headers: dict[str, str], status: int
) -> None:
    answer = http.get(path.format(job=ranged["result"].partition("/results")[0]), headers=headers)

    assert answer.status_code == status, answer.text


def test_an_example_of_many_digits_is_none(http: httpx2.Client) -> None:
    assert_problem(http.post("/processes/echo/form", data={"example": MANY}), 400)
