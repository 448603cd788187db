"""Part 4: jobs that are sent to the list of jobs, kept until they are started, changed meanwhile, and read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.conftest import Serve
from tests.e2e.beyond_the_suite.asking import (
    CRS84,
    HTML,
    JSON,
    PROFILE,
    REL,
    Answer,
    all_jobs,
    assert_problem,
    done,
    ended,
    header_links,
    href,
    media_type,
    pointers,
    preferences_applied,
    running,
)
from tests.e2e.ogc_suite.schemas import Schemas
from tests.serving import Server

PART4 = "http://www.opengis.net/def/exceptions/ogcapi-processes-4/1.0/"
PART2 = "http://www.opengis.net/def/exceptions/ogcapi-processes-2/1.0/"
MERGE_PATCH = "application/merge-patch+json"
OWN_JSON = "application/ogcapi-processes+json"
CREATED = 'status="created"'
SCHEMA = (
    "https://raw.githubusercontent.com/opengeospatial/ogcapi-processes/master/openapi/schemas/processes-workflows/"
    "execute-workflows.yaml"
)
HELLO = {"process": "echo", "inputs": {"message": "hello"}}
GRAPH = {"add1": {"process_id": "add", "arguments": {"x": 1, "y": 2}, "result": True}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own: the schemas that other tests judge lists by do not know the status of created jobs."""
    with Server(tmp_path_factory.mktemp("managed") / "home") as running_server:
        yield running_server


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    """A client of it."""
    with httpx2.Client(base_url=server.url, timeout=60, trust_env=False, headers={"Accept": JSON}) as client:
        yield client


def send(http: httpx2.Client, document: Any, **headers: str) -> Answer:
    """POST to the list of jobs; header names are written with underscores."""
    return http.post("/jobs", json=document, headers={name.replace("_", "-"): value for name, value in headers.items()})


def create(http: httpx2.Client, document: Any = HELLO, *, prefer: str = CREATED, **headers: str) -> str:
    """Create a job that is not started, and return its path."""
    answer = send(http, document, Prefer=prefer, **headers)
    assert answer.status_code == 201, answer.text
    return urlsplit(answer.headers["Location"]).path


def start(http: httpx2.Client, job: str, **headers: str) -> Answer:
    return http.post(f"{job}/results", headers={name.replace("_", "-"): value for name, value in headers.items()})


def status(http: httpx2.Client, job: str) -> str:
    return str(http.get(job).json()["status"])


def change(http: httpx2.Client, job: str, patch: Any, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.patch(job, json=patch, headers={"Content-Type": MERGE_PATCH, **named})


def assert_locked(answer: Answer) -> None:
    assert_problem(answer, 423)
    assert answer.json()["type"] == f"{PART4}locked"


# --- sent and executed --------------------------------------------------------------------------------------------


def test_t4__a_request_that_is_sent_to_the_list_of_jobs_is_executed_by_the_rules_of_part_1(http: httpx2.Client):
    answer = send(http, {**HELLO, "outputs": {"message": {}}})

    assert answer.status_code == 200
    assert answer.json() == "hello"


def test_t4__an_asynchronous_one_is_answered_201(http: httpx2.Client):
    answer = send(http, HELLO, Prefer="respond-async")

    assert answer.status_code == 201
    assert preferences_applied(answer) == {"respond-async"}
    assert answer.json()["jobID"] in answer.headers["Location"]
    ended(http, urlsplit(answer.headers["Location"]).path, status="successful")


@pytest.mark.parametrize("process", ["{base}/processes/echo", "processes/echo", "/processes/echo", "echo"])
def test_x_a_process_is_named_by_its_address_or_in_short(http: httpx2.Client, server: Server, process: str):
    answer = send(http, {**HELLO, "process": process.format(base=server.url)})

    assert answer.json()["message"] == "hello"


@pytest.mark.parametrize("process", ["nothing", "http://elsewhere.example/processes/echo", "/jobs/echo", "processes/"])
@pytest.mark.usefixtures("nothing_created")
def test_t4__an_unknown_process_is_404(http: httpx2.Client, process: str):
    assert_problem(send(http, {**HELLO, "process": process}, Prefer=CREATED), 404, "no-such-process")


@pytest.mark.parametrize("prefer", ["", CREATED])
@pytest.mark.usefixtures("nothing_created")
def test_x_a_request_without_a_process_is_refused(http: httpx2.Client, prefer: str):
    answer = send(http, {"inputs": {"message": "hello"}}, Prefer=prefer)

    assert_problem(answer, 400)
    assert pointers(answer) == ["/process"]


# --- created ------------------------------------------------------------------------------------------------------


def test_t4__req_job_management_create_response(http: httpx2.Client, draft: Callable[[str, Any], list[str]]):
    answer = send(http, HELLO, Prefer=f"{CREATED}, respond-async")

    document = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Preference-Applied"] == CREATED
    assert answer.headers["Location"].endswith(f"/jobs/{document['id']}")
    assert document["status"] == "created"
    assert document["processID"] == "echo"
    assert "started" not in document
    # Of the draft, only Part 4 knows the status that the other members are judged with here.
    assert draft("processes-core/statusInfo.yaml", {**document, "status": "accepted"}) == []


@pytest.mark.parametrize("prefer", [
    'status="created"', "status=created", 'respond-async, status="created"', 'status="created"; wait=3',
    'handling=strict, status="created"', 'STATUS="Created"',
])  # fmt: skip
def test_t4__req_create_execution_pending(http: httpx2.Client, prefer: str):
    job = create(http, prefer=prefer)

    assert status(http, job) == "created"


def test_x_a_member_of_the_body_stands_for_the_preference(http: httpx2.Client):
    answer = send(http, {**HELLO, "status": "create"})

    assert answer.status_code == 201
    assert answer.json()["status"] == "created"
    assert "Preference-Applied" not in answer.headers


def test_x_another_status_in_the_body_is_refused(http: httpx2.Client):
    answer = send(http, {**HELLO, "status": "running"})

    assert_problem(answer, 400)
    assert pointers(answer) == ["/status"]


def test_x_a_strict_preference_that_is_not_known_is_refused_at_once(http: httpx2.Client):
    assert_problem(send(http, HELLO, Prefer=f"{CREATED}, handling=strict, quickly"), 400)


def test_x_a_setting_creates_jobs_by_default(serve: Serve):
    server = serve(env={"GRATICULE_JOBS__CREATE_DEFAULT": "created"})
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=60) as http:
        answer = send(http, HELLO)

        job = urlsplit(answer.headers["Location"]).path
        assert (answer.status_code, answer.json()["status"]) == (201, "created")
        assert start(http, job, Prefer="wait=20").json()["message"] == "hello"


@pytest.mark.parametrize(("document", "expected"), [
    ({"process": "echo", "inputs": {"message": 5, "numbers": ["x"]}}, ["/inputs/message", "/inputs/numbers/0"]),
    ({"process": "echo", "inputs": {}}, ["/inputs/message"]),
    ({"process": "echo", "inputs": {"message": "m"}, "outputs": {"none": {}}}, ["/outputs/none"]),
    ({"process": "echo", "inputs": {"message": "m"}, "subscriber": {"successUri": "http://127.0.0.1/"}},
     ["/subscriber/successUri"]),
    ({"process": "buffer", "inputs": {"geojson": {"href": "/files/nothing/a.geojson"}, "distance": 1}},
     ["/inputs/geojson/href"]),
])  # fmt: skip
@pytest.mark.usefixtures("nothing_created")
def test_x_a_job_is_checked_when_it_is_created(http: httpx2.Client, document: Any, expected: list[str]):
    answer = send(http, document, Prefer=CREATED)

    assert_problem(answer, 400)
    assert pointers(answer) == expected


@pytest.mark.usefixtures("nothing_created")
def test_x_what_nothing_can_serve_is_refused_when_it_is_created(http: httpx2.Client):
    assert_problem(send(http, HELLO, Prefer=CREATED, Accept="image/png"), 406)


# --- how a body is encoded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [JSON, f"{JSON}; charset=utf-8", OWN_JSON])
def test_t4__req_create_content_type(http: httpx2.Client, content_type: str):
    answer = http.post("/jobs", content=json.dumps(HELLO), headers={"Content-Type": content_type})

    assert answer.status_code == 200


@pytest.mark.parametrize("content_type", ["application/cwl+json", "text/plain", "multipart/related", MERGE_PATCH, ""])
@pytest.mark.usefixtures("nothing_created")
def test_t4__req_create_unsupported_media_type(http: httpx2.Client, content_type: str):
    headers = {"Content-Type": content_type} if content_type else {}

    answer = http.post("/jobs", content=json.dumps(HELLO).encode(), headers=headers)

    assert_problem(answer, 415)
    assert answer.json()["type"] == f"{PART2}unsupported-media-type"


def test_t4__per_create_content_schema(http: httpx2.Client):
    assert send(http, HELLO, Content_Schema=SCHEMA).status_code == 200


def test_x_a_content_profile_names_the_encoding_too(http: httpx2.Client):
    assert send(http, HELLO, Content_Profile=f"<{PROFILE}ogc-execute-request>").status_code == 200


@pytest.mark.parametrize("header", ["Content_Schema", "Content_Profile"])
@pytest.mark.usefixtures("nothing_created")
def test_t4__req_create_unsupported_schema(http: httpx2.Client, header: str):
    answer = send(http, HELLO, **{header: "http://example.org/unknown", "Prefer": CREATED})

    assert_problem(answer, 422)
    assert answer.json()["type"] == f"{PART4}unsupported-schema"


@pytest.mark.parametrize("document", [
    GRAPH, {"process": {"process_graph": GRAPH}, "title": "a batch job"}, {"process_graph": GRAPH},
], ids=["graph", "batch job", "bare"])  # fmt: skip
@pytest.mark.usefixtures("nothing_created")
def test_x_an_openeo_process_graph_is_refused_with_a_reason(http: httpx2.Client, document: Any):
    answer = send(http, document)

    assert_problem(answer, 422)
    assert answer.json()["type"] == f"{PART4}unsupported-schema"
    assert "openEO" in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"{", b'{"process": 5}', b"\xff", b"[" * 100 + b"]" * 100])
@pytest.mark.usefixtures("nothing_created")
def test_x_what_is_no_request_is_refused(http: httpx2.Client, body: bytes):
    assert_problem(http.post("/jobs", content=body, headers={"Content-Type": JSON, "Prefer": CREATED}), 400)


def test_x_an_unknown_parameter_is_refused(http: httpx2.Client):
    answer = http.post("/jobs?mode=sync", json=HELLO)

    assert_problem(answer, 400, "invalid-query-parameter-value")


# --- in lists -----------------------------------------------------------------------------------------------------


def test_t4__created_jobs_are_listed_by_their_status(http: httpx2.Client):
    job, other = create(http), done(http, "echo", {"inputs": {"message": "hello"}})

    listed = {one["jobID"]: one["status"] for one in http.get("/jobs?status=created&limit=1000").json()["jobs"]}

    assert listed[job.rpartition("/")[2]] == "created"
    assert other.rpartition("/")[2] not in listed
    assert set(listed.values()) == {"created"}


def test_x_pages_show_a_created_job_and_start_it(http: httpx2.Client):
    job = create(http)

    page = http.get(job, headers={"Accept": HTML})
    answer = http.post(f"{job}/start", headers={"Origin": str(http.base_url).rstrip("/")})

    assert "It waits to be started." in page.text
    assert f'{job}/start"' in page.text
    assert answer.status_code == 303
    ended(http, job, status="successful")


# --- started ------------------------------------------------------------------------------------------------------


def test_t4__req_start_response(http: httpx2.Client, draft: Callable[[str, Any], list[str]]):
    job = create(http)

    answer = start(http, job)

    assert answer.status_code == 200
    assert answer.json()["status"] in {"accepted", "running", "successful"}
    assert draft("processes-core/statusInfo.yaml", answer.json()) == []
    assert ended(http, job, status="successful")["started"]
    assert http.get(f"{job}/results").json()["message"] == "hello"


@pytest.mark.parametrize(("created_with", "started_with"), [
    (f"{CREATED}, wait=20", None), (CREATED, "wait=20"), (f"{CREATED}, respond-async", "wait=20"),
    (f"{CREATED}, respond-async, wait=20", None),
])  # fmt: skip
def test_t4__waiting_that_was_preferred_gives_results(http: httpx2.Client, created_with: str, started_with: str | None):
    job = create(http, prefer=created_with)

    answer = start(http, job, **({"Prefer": started_with} if started_with else {}))

    assert answer.status_code == 200
    assert answer.json()["message"] == "hello"
    assert "wait=20" in preferences_applied(answer)
    assert status(http, job) == "successful"


def test_t4__a_preference_of_the_start_goes_before_that_of_the_creation(http: httpx2.Client):
    job = create(http, prefer=f"{CREATED}, wait=20")

    answer = start(http, job, Prefer="respond-async")

    assert answer.json()["jobID"] == job.rpartition("/")[2]
    assert preferences_applied(answer) == {"respond-async"}


def test_x_a_wait_that_is_not_long_enough_gives_the_status(http: httpx2.Client):
    job = create(http, {"process": "echo", "inputs": {"message": "hello", "pause": 2}})

    answer = start(http, job, Prefer="wait=0.2")

    assert answer.status_code == 200
    assert answer.json()["status"] in {"accepted", "running"}
    ended(http, job, status="successful")


def test_t4__what_was_accepted_and_the_profile_are_kept_for_the_start(http: httpx2.Client):
    one = {**HELLO, "outputs": {"message": {}}}
    text = create(http, one, prefer=f"{CREATED}, wait=20", Accept="text/plain")
    document = http.post("/jobs?profile=ogc-results", json=one, headers={"Prefer": f"{CREATED}, wait=20"})

    with httpx2.Client(base_url=http.base_url, trust_env=False, timeout=60) as plain:
        answer = start(plain, text)
        results = start(plain, urlsplit(document.headers["Location"]).path)

    assert (media_type(answer), answer.text) == ("text/plain", "hello")
    assert results.json() == {"message": "hello"}


def test_x_an_accept_header_of_the_start_goes_before_that_of_the_creation(http: httpx2.Client):
    job = create(http, {**HELLO, "outputs": {"message": {}}}, prefer=f"{CREATED}, wait=20", Accept="text/plain")

    assert start(http, job, Accept=JSON).json() == "hello"


@pytest.mark.parametrize("body", [b"", b"{}", b"null"])
def test_x_a_start_needs_no_body(http: httpx2.Client, body: bytes):
    job = create(http)

    assert http.post(f"{job}/results", content=body, headers={"Content-Type": JSON}).status_code == 200


def test_x_a_start_takes_no_body(http: httpx2.Client):
    job = create(http)

    answer = http.post(f"{job}/results", json={"inputs": {"message": "other"}})

    assert_problem(answer, 400)
    assert status(http, job) == "created"


def test_t4__a_job_is_started_once(http: httpx2.Client):
    job = create(http)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: start(http, job), range(8)))

    assert sorted(answer.status_code for answer in answers) == [200, *[423] * 7]
    ended(http, job, status="successful")
    assert_locked(start(http, job))


def test_x_a_job_is_checked_again_when_it_is_started(http: httpx2.Client):
    upload = http.post("/files", content=b'{"type": "Point", "coordinates": [8, 47]}', headers={"Content-Type": JSON})
    file = upload.json()["href"]
    job = create(http, {"process": "buffer", "inputs": {"geojson": {"href": file}, "distance": 1}})
    http.delete(urlsplit(file).path)

    answer = start(http, job)

    assert_problem(answer, 400)
    assert pointers(answer) == ["/inputs/geojson/href"]
    assert status(http, job) == "created"


def test_x_a_job_whose_inputs_turn_out_wrong_stays_as_a_failed_one(http: httpx2.Client):
    upload = http.post("/files", content=b'{"type": "Point"}', headers={"Content-Type": "application/geo+json"})
    inputs = {"geojson": {"href": upload.json()["href"]}, "distance": 1}
    job = create(http, {"process": "buffer", "inputs": inputs})

    answer = start(http, job, Prefer="wait=20")

    assert_problem(answer, 400)
    assert pointers(answer)[0].startswith("/inputs/geojson")
    assert status(http, job) == "failed"


def test_t4__a_job_that_is_not_there_cannot_be_started(http: httpx2.Client):
    assert_problem(start(http, "/jobs/nothing"), 404, "no-such-job")


def test_x_a_created_job_survives_a_restart(serve: Serve, tmp_path_factory: pytest.TempPathFactory):
    home = tmp_path_factory.mktemp("restart") / "home"
    first = Server(home).start()
    with httpx2.Client(base_url=first.url, trust_env=False, timeout=60) as http:
        job = create(http, prefer=f"{CREATED}, wait=20")
        http.patch(job, json={"inputs": {"message": "after"}})
    first.kill()

    again = serve(home=home)
    with httpx2.Client(base_url=again.url, trust_env=False, timeout=60) as http:
        assert status(http, job) == "created"
        assert http.get(f"{job}/inputs").json()["inputs"] == {"message": "after"}
        assert start(http, job).json()["message"] == "after"


# --- changed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [MERGE_PATCH, OWN_JSON, JSON])
def test_t4__req_update_patch_op(http: httpx2.Client, content_type: str):
    job = create(http)

    answer = change(http, job, {"inputs": {"message": "changed"}}, Content_Type=content_type)

    assert answer.status_code == 200
    assert answer.json()["status"] == "created"
    assert start(http, job, Prefer="wait=20").json()["message"] == "changed"


@pytest.mark.parametrize(("patch", "inputs"), [
    ({}, {"message": "hello", "numbers": [1, 2]}),
    ({"inputs": {"numbers": [3]}}, {"message": "hello", "numbers": [3]}),
    ({"inputs": {"numbers": None}}, {"message": "hello"}),
    ({"inputs": {"bbox": {"bbox": [1, 2, 3, 4]}}},
     {"message": "hello", "numbers": [1, 2], "bbox": {"bbox": [1, 2, 3, 4]}}),
    ({"outputs": {"count": {}}}, {"message": "hello", "numbers": [1, 2]}),
    ({"title": "Of no meaning here"}, {"message": "hello", "numbers": [1, 2]}),
])  # fmt: skip
def test_x_a_patch_is_merged(http: httpx2.Client, patch: Any, inputs: Any):
    job = create(http, {"process": "echo", "inputs": {"message": "hello", "numbers": [1, 2]}})

    answer = change(http, job, patch)

    assert answer.status_code == 200
    assert http.get(f"{job}/inputs").json()["inputs"] == inputs


def test_x_a_patch_may_name_another_process(http: httpx2.Client):
    job = create(http)

    change(http, job, {"process": "hello-world", "inputs": {"message": None, "name": "Ada"}})

    assert http.get(job).json()["processID"] == "hello-world"
    assert start(http, job, Prefer="wait=20").json() == "Hello Ada!"


def test_x_a_patch_changes_and_removes_preferences(http: httpx2.Client):
    job = create(http, prefer=f"{CREATED}, wait=20")

    change(http, job, {}, Prefer="respond-async")
    changed = http.get(f"{job}/inputs").json()["headers"]
    change(http, job, {}, Prefer="")

    assert changed["prefer"] == "respond-async"
    assert "prefer" not in http.get(f"{job}/inputs").json()["headers"]
    assert changed["content-type"] == JSON


@pytest.mark.parametrize(("patch", "expected"), [
    ({"inputs": {"message": 5}}, "/inputs/message"), ({"inputs": {"message": None}}, "/inputs/message"),
    ({"inputs": 5}, "/inputs"), ({"process": None}, "/process"), ({"outputs": {"x": {}}}, "/outputs/x"),
])  # fmt: skip
def test_x_a_patch_that_does_not_fit_changes_nothing(http: httpx2.Client, patch: Any, expected: str):
    job = create(http)
    before = http.get(f"{job}/definition").content

    answer = change(http, job, patch)

    assert_problem(answer, 400)
    assert pointers(answer) == [expected]
    assert http.get(f"{job}/definition").content == before


@pytest.mark.parametrize("body", [b"[]", b"5", b"{", b""])
def test_x_a_patch_is_an_object(http: httpx2.Client, body: bytes):
    assert_problem(http.patch(create(http), content=body, headers={"Content-Type": MERGE_PATCH}), 400)


def test_t4__an_update_has_the_media_types_and_schemas_of_a_creation(http: httpx2.Client):
    job = create(http)

    assert_problem(change(http, job, {}, Content_Type="text/plain"), 415)
    assert_problem(change(http, job, {}, Content_Schema="http://example.org/unknown"), 422)
    assert_problem(change(http, job, {"process": {"process_graph": GRAPH}}), 422)
    assert change(http, job, {}, Content_Schema=SCHEMA).status_code == 200


def test_x_a_put_replaces_everything(http: httpx2.Client):
    job = create(
        http, {"process": "echo", "inputs": {"message": "hello", "numbers": [1]}}, prefer=f"{CREATED}, wait=20"
    )
    new = {"process": "hello-world", "inputs": {"name": "Ada"}}

    answer = http.put(job, json=new)

    assert (answer.status_code, answer.json()["status"]) == (200, "created")
    assert http.get(f"{job}/definition").json() == new
    assert start(http, job).json()["jobID"] == job.rpartition("/")[2]
    assert ended(http, job, status="successful")["processID"] == "hello-world"


@pytest.mark.parametrize(
    "document", [{}, {"process": "echo"}, {"process": "nothing"}, {"process": "echo", "inputs": 5}]
)
def test_x_a_put_that_does_not_fit_changes_nothing(http: httpx2.Client, document: Any):
    job = create(http)

    answer = http.put(job, json=document)

    assert answer.status_code in {400, 404}
    assert http.get(f"{job}/definition").json() == HELLO


def test_x_changes_at_the_same_time_are_all_made(http: httpx2.Client):
    job = create(http, {"process": "echo-all", "inputs": {}})
    inputs: dict[str, Any] = {
        "text": "a", "integer": 5, "number": 0.5, "boolean": True, "bbox": {"bbox": [1, 2, 3, 4], "crs": CRS84}
    }  # fmt: skip
    known = http.get("/processes/echo-all").json()["inputs"]
    patches = [{"inputs": {name: value}} for name, value in inputs.items() if name in known]

    with ThreadPoolExecutor(len(patches)) as pool:
        answers = list(pool.map(lambda patch: change(http, job, patch), patches))

    assert {answer.status_code for answer in answers} == {200}
    assert len(http.get(f"{job}/inputs").json()["inputs"]) == len(patches) > 1


@pytest.fixture(scope="module")
def locked(http: httpx2.Client) -> Iterator[dict[str, str]]:
    """Jobs that cannot be changed any more."""
    jobs = {
        "running": running(http, 60),
        "successful": done(http, "echo", {"inputs": {"message": "hello"}}),
        "dismissed": create(http),
    }
    http.delete(jobs["dismissed"])
    yield jobs
    http.delete(jobs["running"])


@pytest.mark.parametrize("state", ["running", "successful", "dismissed"])
def test_t4__req_update_response_locked(http: httpx2.Client, locked: dict[str, str], state: str):
    job = locked[state]

    assert_locked(change(http, job, {"inputs": {"message": "changed"}}))
    assert_locked(http.put(job, json=HELLO))
    assert_locked(start(http, job))
    assert status(http, job) == state


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_t4__an_unknown_job_is_404(http: httpx2.Client, method: str):
    assert_problem(http.request(method, "/jobs/nothing", json=HELLO), 404, "no-such-job")


# --- dismissed ----------------------------------------------------------------------------------------------------


def test_t4__a_created_job_is_dismissed_then_removed(http: httpx2.Client):
    job = create(http)

    first, between, second = http.delete(job), status(http, job), http.delete(job)

    assert (first.status_code, first.json()["status"], between) == (200, "dismissed", "dismissed")
    assert second.status_code == 200
    assert_problem(http.get(job), 410, "no-such-job")
    assert job.rpartition("/")[2] not in all_jobs(http)


# --- read back ----------------------------------------------------------------------------------------------------

EXACT = (
    b'{ "process":"echo", "inputs" : {"message":"\\u00e9 \\ud83d\\ude00", "numbers":[1.0, 1E+2, -0],\n'
    b' "mixed": {"value": {"b": 1, "a": 123456789012345678901234567890}}}, "unknown": [ ] }'
)


def test_t4__req_definition_response_body(http: httpx2.Client):
    answer = http.post("/jobs", content=EXACT, headers={"Content-Type": JSON, "Prefer": CREATED})
    assert answer.status_code == 201, answer.text

    job = urlsplit(answer.headers["Location"]).path
    definition, inputs = http.get(f"{job}/definition"), http.get(f"{job}/inputs")

    assert definition.content == EXACT
    assert media_type(definition) == JSON
    assert EXACT[EXACT.index(b'{"message"') : EXACT.index(b', "unknown"')] in inputs.content


def test_t4__the_definition_of_an_execution_names_its_process(http: httpx2.Client, server: Server):
    job = done(http, "hello-world", {"inputs": {"name": "Ada"}, "outputs": {"echo": {}}})

    definition = http.get(f"{job}/definition").json()

    assert definition["process"] == f"{server.url}/processes/hello-world"
    assert definition["inputs"] == {"name": "Ada"}
    assert send(http, definition).json() == "Hello Ada!"


def test_x_a_definition_by_profile_is_a_document_of_its_own(http: httpx2.Client, server: Server):
    job = create(http, {**HELLO, "outputs": {"message": {}}})

    answer = http.get(f"{job}/definition", headers={"Accept-Profile": f"<{PROFILE}job-definition>"})

    document = answer.json()
    assert document["entity"] == f"{server.url}/processes/echo"
    assert document["inputs"] == {"message": "hello"}
    assert document["outputs"] == {"message": {}}
    assert document["headers"]["prefer"] == CREATED
    assert (f"{PROFILE}job-definition", "profile") in header_links(answer)


def test_t4__req_provenance_inputs_response(http: httpx2.Client):
    job = done(http, "echo", {"inputs": {"message": "hello"}})

    document = http.get(f"{job}/inputs").json()

    assert document["inputs"] == {"message": "hello"}
    assert set(document["outputs"]) == set(http.get("/processes/echo").json()["outputs"])
    assert "headers" not in document
    assert urlsplit(str(href(document, "up"))).path == job


def test_t4__a_status_document_links_what_the_job_was_sent_with(http: httpx2.Client, schemas: Schemas):
    document = http.get(create(http)).json()

    for relation, name in ((f"{REL}job-definition", "definition"), (f"{REL}job-inputs", "inputs")):
        target = str(href(document, relation, JSON))
        assert target.endswith(f"/jobs/{document['jobID']}/{name}")
        assert http.get(urlsplit(target).path).status_code == 200
    assert href(document, "https://www.w3.org/ns/prov") is None


@pytest.mark.parametrize("name", ["definition", "inputs"])
def test_x_what_a_job_was_sent_with_has_a_page(http: httpx2.Client, name: str):
    job = create(http, {"process": "echo", "inputs": {"message": "<script>hello"}})

    page = http.get(f"{job}/{name}", headers={"Accept": HTML})

    assert media_type(page) == HTML
    assert "&lt;script&gt;hello" in page.text


@pytest.mark.parametrize("name", ["definition", "inputs"])
def test_x_what_a_job_was_sent_with_is_read_as_other_documents_are(http: httpx2.Client, name: str):
    job = create(http)

    assert_problem(http.get(f"/jobs/nothing/{name}"), 404, "no-such-job")
    assert_problem(http.get(f"{job}/{name}?f=nothing"), 400)
    assert_problem(http.get(f"{job}/{name}?other=1"), 400)
    assert_problem(http.get(f"{job}/{name}", headers={"Accept": "image/png"}), 406)


def test_x_a_job_of_somebody_else_is_out_of_reach(serve: Serve):
    tokens = [{"actor": name, "sha256": _sha256(name)} for name in ("ada", "bob")]
    server = serve(env={"GRATICULE_SECURITY__TOKENS": json.dumps(tokens)})
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=60) as http:
        job = create(http, Authorization="Bearer ada")

        other = {"Authorization": "Bearer bob"}
        answers = [http.get(f"{job}/{name}", headers=other) for name in ("definition", "inputs", "prov")]
        answers += [start(http, job, **other), change(http, job, {}, **other), http.put(job, json=HELLO, headers=other)]

        assert {answer.status_code for answer in answers} == {404}
        assert "authorization" not in http.get(f"{job}/inputs", headers={"Authorization": "Bearer ada"}).text.lower()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- declared -----------------------------------------------------------------------------------------------------


def test_t4__the_classes_are_declared(http: httpx2.Client):
    classes = http.get("/conformance").json()["conformsTo"]

    part4 = "http://www.opengis.net/spec/ogcapi-processes-4/1.0/conf/"
    assert {f"{part4}job-management", f"{part4}ogcapi-processes", f"{part4}provenance"} <= set(classes)
    assert "https://www.opengis.net/spec/ogcapi-processes-5/1.0/conf/provenance" in classes
    assert f"{part4}openeo" not in classes


@pytest.mark.parametrize("version", ["3.0", "3.1"])
def test_t4__the_definition_of_the_service_names_the_operations(http: httpx2.Client, version: str):
    paths = http.get("/api", params={"f": "json", "version": version}).json()["paths"]

    assert set(paths["/jobs"]) >= {"get", "post"}
    assert set(paths["/jobs/{jobID}"]) == {"get", "delete", "patch", "put"}
    assert set(paths["/jobs/{jobID}/results"]) == {"get", "post"}
    assert {"422", "415", "400", "404"} <= set(paths["/jobs"]["post"]["responses"])
    assert {"422", "415", "423", "404"} <= set(paths["/jobs/{jobID}"]["patch"]["responses"])
    assert all(f"/jobs/{{jobID}}/{name}" in paths for name in ("definition", "inputs", "prov"))


# --- two who change one job ---------------------------------------------------------------------------------------


def tag(http: httpx2.Client, job: str) -> str:
    return str(http.get(job).headers["ETag"])


def test_the_status_of_a_job_has_a_tag_that_changes_with_it(http: httpx2.Client) -> None:
    job = create(http)
    first = tag(http, job)

    same = http.get(job, headers={"If-None-Match": first})
    patched = change(http, job, {"inputs": {"message": "second"}})

    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", first)
    assert http.head(job).headers["ETag"] == tag(http, job) == patched.headers["ETag"] != first
    assert http.get(job, headers={"If-None-Match": first}).status_code == 200
    assert start(http, job).status_code == 200
    ended(http, job)
    assert tag(http, job) not in {first, patched.headers["ETag"]}
    assert "ETag" not in http.get(job, headers={"Accept": "text/html"}).headers


def test_the_tag_of_a_running_job_changes_with_what_its_document_says(http: httpx2.Client) -> None:
    job = running(http, seconds=3)
    documents: dict[str, set[str]] = {}
    while True:
        answer = http.get(job)
        documents.setdefault(answer.headers["ETag"], set()).add(answer.text)
        if answer.json()["status"] != "running":
            break

    assert len(documents) > 1
    assert {len(texts) for texts in documents.values()} == {1}


def test_the_second_of_two_who_change_a_job_is_told_so(http: httpx2.Client) -> None:
    job = create(http)
    read = tag(http, job)
    first = change(http, job, {"inputs": {"message": "first"}}, If_Match=read)

    late = [
        change(http, job, {"inputs": {"message": "second"}}, If_Match=read),
        http.put(job, json={**HELLO, "inputs": {"message": "second"}}, headers={"If-Match": read}),
        start(http, job, If_Match=read),
        http.delete(job, headers={"If-Match": read}),
    ]

    assert first.status_code == 200
    for answer in late:
        assert_problem(answer, 412)
        assert answer.json()["type"] == "urn:graticule:problem:job-changed"
    assert status(http, job) == "created"
    assert http.get(f"{job}/inputs").json()["inputs"] == {"message": "first"}
    newest = first.headers["ETag"]
    assert change(http, job, {"inputs": {"message": "second"}}, If_Match=f'"else", {newest}').status_code == 200
    replaced = http.put(job, json={**HELLO, "inputs": {"message": "third"}}, headers={"If-Match": tag(http, job)})
    assert replaced.status_code == 200
    assert start(http, job, If_Match=tag(http, job)).status_code == 200
    assert ended(http, job)["status"] == "successful"
    assert http.delete(job, headers={"If-Match": tag(http, job)}).status_code == 200


@pytest.mark.parametrize(
    ("sent", "expected"), [("*", 200), ("", 200), ("W/{tag}", 412), ('"nope"', 412), ("nope", 412)]
)
def test_what_if_match_may_say(http: httpx2.Client, sent: str, expected: int) -> None:
    job = create(http)

    answer = change(http, job, {"inputs": {"message": "second"}}, If_Match=sent.format(tag=tag(http, job)))

    assert answer.status_code == expected, answer.text


def test_of_many_who_change_a_job_at_once_by_its_tag_one_succeeds(http: httpx2.Client) -> None:
    job = create(http)
    read = tag(http, job)

    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda number: change(http, job, {"inputs": {"message": str(number)}}, If_Match=read), range(8))
        )

    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    (number,) = (number for number, answer in enumerate(answers) if answer.status_code == 200)
    assert http.get(f"{job}/inputs").json()["inputs"] == {"message": str(number)}
