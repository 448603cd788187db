"""Requests in the shapes of pygeoapi before OGC API - Processes 1.0 are answered in those shapes."""

import time

import httpx2
import pytest

PATH = "/processes/hello-world/jobs"
HELLO = {"inputs": [{"id": "name", "type": "text/plain", "value": "hi there2"}]}
OUTPUTS = [{"id": "echo", "value": "Hello hi there2!"}]
SLOW = {"mode": "async", "inputs": [{"id": "message", "value": "a"}, {"id": "pause", "value": 30}]}


def ended(http, place):
    for _ in range(100):
        job = http.get(place).json()
        if job["status"] not in ("accepted", "running"):
            return job
        time.sleep(0.05)
    return pytest.fail(f"the job did not end: {job}")


# --- executing ---------------------------------------------------------------------------------------------------


def test_a_process_is_run_at_once(http, server):
    response = http.post(PATH, json=HELLO)

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["location"].startswith(f"{server.url}{PATH}/")
    assert response.json() == {"outputs": OUTPUTS}


@pytest.mark.parametrize(
    ("query", "body"), [("?response=raw", {}), ("", {"response": "raw"})], ids=["in the address", "in the body"]
)
def test_raw_outputs_come_without_their_wrapper(http, query, body):
    response = http.post(PATH + query, json={**HELLO, **body})

    assert response.status_code == 200
    assert response.json() == OUTPUTS


def test_a_raw_output_that_is_no_json_comes_as_itself(http):
    body = {"inputs": [{"id": "formats", "value": {"value": "<a/>", "mediaType": "application/xml"}}]}

    response = http.post("/processes/echo-all/jobs?response=raw", json=body)

    assert response.headers["content-type"].startswith("application/xml")
    assert response.text == "<a/>"


def test_the_mode_async_makes_a_job(http, server):
    response = http.post(PATH, json={**HELLO, "mode": "async"})

    assert response.status_code == 201
    assert response.json() == {}
    assert response.headers["location"].startswith(f"{server.url}{PATH}/")
    assert ended(http, response.headers["location"])["status"] == "successful"


@pytest.mark.parametrize("mode", ["auto", "sync", "later"])
def test_every_other_mode_waits(http, mode):
    assert http.post(PATH, json={**HELLO, "mode": mode}).json() == {"outputs": OUTPUTS}


def test_repeated_identifiers_are_gathered_in_their_order(http):
    inputs = [{"id": "words", "value": "one"}, {"id": "integer", "value": 3}, {"id": "words", "value": "two"}]

    response = http.post("/processes/echo-all/jobs", json={"inputs": inputs})

    assert {"id": "words", "value": ["one", "two"]} in response.json()["outputs"]


def test_objects_are_sent_as_they_are(http):
    response = http.post("/processes/echo-all/jobs", json={"inputs": [{"id": "object", "value": {"name": "box"}}]})

    assert response.json() == {"outputs": [{"id": "object", "value": {"name": "box"}}]}


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (PATH, b"", 400, "MissingParameterValue"),
        (PATH, b"{", 400, "InvalidParameterValue"),
        (PATH, b"[]", 400, "InvalidParameterValue"),
        (PATH, b"\xff", 400, "InvalidParameterValue"),
        (PATH, b"[" * 100_000, 400, "InvalidParameterValue"),
        (PATH, b'{"inputs": [{"value": "x"}]}', 400, "InvalidParameterValue"),
        (PATH, b'{"inputs": [{"id": "name"}]}', 400, "InvalidParameterValue"),
        (PATH, b'{"inputs": "name"}', 400, "InvalidParameterValue"),
        (PATH, b'{"inputs": []}', 400, "InvalidParameterValue"),
        (PATH, b'{"inputs": [{"id": "name", "value": 3}]}', 400, "InvalidParameterValue"),
        ("/processes/nothing/jobs", b'{"inputs": []}', 404, "NoSuchProcess"),
    ],
    ids=["none", "cut", "array", "no text", "deep", "no id", "no value", "text", "missing", "wrong type", "no process"],
)  # fmt: skip
def test_faults_are_told_in_the_old_shape(http, path, body, status, code):
    before = len(http.get(PATH).json())

    response = http.post(path, content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == status
    assert response.json().keys() == {"code", "description"}
    assert response.json()["code"] == code
    assert len(http.get(PATH).json()) == before


def test_a_process_that_fails_has_no_applicable_code(serve, tmp_path):
    plugin = tmp_path / "failing.py"
    plugin.write_text(
        'from graticule import process\n@process\ndef failing() -> str:\n    """Fail."""\n    raise ValueError("no")\n'
    )
    server = serve(str(plugin))

    with httpx2.Client(base_url=server.url, trust_env=False, timeout=30) as http:
        response = http.post("/processes/failing/jobs", json={"inputs": []})
        (job,) = http.get("/processes/failing/jobs").json()
        results = http.get(f"/processes/failing/jobs/{job['jobID']}/results")

    assert (response.status_code, response.json()["code"]) == (500, "NoApplicableCode")
    assert job["status"] == "failed"
    assert "links" not in job
    assert (results.status_code, results.json()["code"]) == (400, "InvalidParameterValue")


# --- jobs --------------------------------------------------------------------------------------------------------


def test_the_jobs_of_a_process_are_an_array_newest_first(http):
    places = [http.post(PATH, json=HELLO).headers["location"] for _ in range(2)]

    jobs = http.get(PATH).json()

    assert [job["jobID"] for job in jobs[:2]] == [place.rpartition("/")[2] for place in reversed(places)]


def test_jobs_of_other_processes_are_not_among_them(http):
    other = http.post("/processes/echo-all/jobs", json={"inputs": []}).headers["location"].rpartition("/")[2]

    assert other not in [job["jobID"] for job in http.get(PATH).json()]
    assert http.get(f"{PATH}/{other}").status_code == 404


def test_a_job_has_the_old_members(http):
    place = http.post(PATH, json=HELLO).headers["location"]

    job = http.get(place).json()

    assert list(job) == [
        "jobID", "status", "message", "progress", "parameters", "job_start_datetime", "job_end_datetime", "links",
    ]  # fmt: skip
    assert (job["status"], job["progress"], job["parameters"]) == ("successful", 100, None)
    assert job["job_start_datetime"] <= job["job_end_datetime"]
    assert [(link["rel"], link["href"], link["type"]) for link in job["links"]] == [
        ("about", f"{place}/results?f=html", "text/html"),
        ("about", f"{place}/results?f=json", "application/json"),
    ]


def test_results_are_the_array_of_outputs(http):
    place = http.post(PATH, json=HELLO).headers["location"]

    response = http.get(f"{place}/results?f=json")

    assert response.headers["content-type"] == "application/json"
    assert response.json() == OUTPUTS


def test_people_are_led_to_the_page_of_the_job(http, server):
    place = http.post(PATH, json=HELLO).headers["location"]

    response = http.get(f"{place}/results?f=html")

    assert response.status_code == 303
    assert response.headers["location"] == f"{server.url}/jobs/{place.rpartition('/')[2]}?f=html"


def test_results_of_a_job_that_runs_are_not_ready(http):
    place = http.post("/processes/echo/jobs", json=SLOW).headers["location"]

    response = http.get(f"{place}/results")
    http.delete(place)

    assert response.status_code == 404
    assert response.json()["code"] == "ResultNotReady"


def test_a_job_is_dismissed(http, server):
    place = http.post("/processes/echo/jobs", json=SLOW).headers["location"]

    response = http.delete(place)

    assert response.status_code == 200
    assert response.json() == {
        "jobID": place.rpartition("/")[2],
        "status": "dismissed",
        "message": "Job dismissed",
        "progress": 100,
        "links": [
            {
                "href": f"{server.url}/processes/echo/jobs",
                "rel": "up",
                "type": "application/json",
                "title": "The job list for the current process",
            }
        ],
    }


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_job_that_never_was_is_not_found(http, method):
    response = http.request(method, f"{PATH}/nothing")

    assert response.status_code == 404
    assert response.json()["code"] == "NoSuchJob"


def test_the_same_job_is_seen_in_todays_shape(http):
    place = http.post(PATH, json=HELLO).headers["location"]

    job = http.get(f"/jobs/{place.rpartition('/')[2]}").json()

    assert (job["processID"], job["status"]) == ("hello-world", "successful")


def test_the_definition_does_not_speak_of_it(http):
    assert "/processes/{processID}/jobs" not in http.get("/api").json()["paths"]
