"""Processors that ship with pygeoapi run unchanged: the same requests, sent to pygeoapi and to us, are answered alike.

Both servers are started from one pygeoapi configuration. The Python that has pygeoapi is this one if it has it, else
``.venv-pygeoapi`` of the checkout; ``GRATICULE_PYGEOAPI_PYTHON`` names another. It must have Graticule too, since our
job processes run in it.
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.serving import Server

CHECKOUT = Path(__file__).parents[2]
PROCESSES = ("hello-world", "shapely-functions", "echo")
SQUARE = "POLYGON ((0 0, 0 2, 2 2, 2 0, 0 0))"
POINT = {"type": "Point", "coordinates": [1, 1]}

CONFIGURATION = """
server:
  bind: {{host: 127.0.0.1, port: {port}}}
  url: http://127.0.0.1:{port}
  mimetype: application/json; charset=UTF-8
  encoding: utf-8
  language: en-US
  limits: {{default_items: 20, max_items: 50}}
  map: {{url: "https://tile.example.org/{{z}}/{{x}}/{{y}}.png", attribution: none}}
  manager: {{name: TinyDB, connection: {folder}/manager.db, output_dir: {folder}/outputs}}
logging: {{level: ERROR}}
metadata:
  identification: {{title: Both, description: One configuration for two servers, keywords: [test], url: https://example.org}}
  license: {{name: none, url: https://example.org}}
  provider: {{name: nobody, url: https://example.org}}
  contact: {{name: nobody, email: nobody@example.org}}
resources:
  hello-world: {{type: process, processor: {{name: HelloWorld}}}}
  shapely-functions: {{type: process, processor: {{name: ShapelyFunctions}}}}
  echo: {{type: process, processor: {{name: pygeoapi.process.echo.EchoProcessor}}}}
"""
PEER = "import sys; from pygeoapi.flask_app import APP; APP.run(port=int(sys.argv[1]), threaded=True)"

REQUESTS = [
    pytest.param("hello-world", {"name": "World"}, id="greeting"),
    pytest.param("hello-world", {"name": "Grüße", "message": "An optional message."}, id="greeting and message"),
    pytest.param("shapely-functions", {"operation": "measurement:area", "geoms": [SQUARE]}, id="number"),
    pytest.param("shapely-functions", {"operation": "measurement:bounds", "geoms": [SQUARE]}, id="tuple"),
    pytest.param("shapely-functions", {"operation": "predicates:covers", "geoms": [SQUARE, POINT]}, id="truth"),
    pytest.param(
        "shapely-functions",
        {
            "operation": "set:union",
            "geoms": [SQUARE, "POLYGON ((2 0, 2 2, 4 2, 4 0, 2 0))"],
            "output_format": "geojson",
        },
        id="geojson",
    ),
    pytest.param(
        "shapely-functions",
        {"operation": "constructive:centroid", "geoms": [SQUARE], "output_format": "wkt"},
        id="wkt",
    ),
    pytest.param("echo", {"echoInput": "Test", "pause": 42}, id="echo"),
]
RESPONSES = [
    pytest.param({}, id="default"),
    pytest.param({"response": "raw"}, id="raw"),
    pytest.param({"response": "document"}, id="document"),
]


@pytest.fixture(scope="module")
def interpreter():
    """The Python that has pygeoapi."""
    named = os.environ.get("GRATICULE_PYGEOAPI_PYTHON")
    if named:
        return named
    if importlib.util.find_spec("pygeoapi"):
        return sys.executable
    other = CHECKOUT / ".venv-pygeoapi" / "bin" / "python"
    if not other.exists():
        pytest.fail("no Python with pygeoapi was found; run `make test`, or name one in GRATICULE_PYGEOAPI_PYTHON")
    return str(other)


@pytest.fixture(scope="module")
def configuration(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pygeoapi")
    (folder / "outputs").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    path = folder / "pygeoapi.yml"
    path.write_text(CONFIGURATION.format(port=port, folder=folder), encoding="utf-8")
    return path, port


@pytest.fixture(scope="module")
def theirs(interpreter, configuration):
    """A client of pygeoapi itself."""
    path, port = configuration
    definition = path.with_name("openapi.yml")
    definition.write_text("openapi: 3.0.2\ninfo: {title: none, version: '1'}\npaths: {}\n")
    environment = {**os.environ, "PYGEOAPI_CONFIG": str(path), "PYGEOAPI_OPENAPI": str(definition)}
    log = path.with_name("pygeoapi.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [interpreter, "-c", PEER, str(port)], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        with client_of(f"http://127.0.0.1:{port}") as client:
            wait_until_it_answers(client, process, log)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@pytest.fixture(scope="module")
def ours(interpreter, configuration, tmp_path_factory):
    """A client of our server, started from the same configuration."""
    path, _ = configuration
    foreign = {} if interpreter == sys.executable else {variable_of(name): interpreter for name in PROCESSES}
    home = tmp_path_factory.mktemp("ours") / "home"
    with Server(home, ["--config", str(path)], environment=foreign) as server, client_of(server.url) as client:
        yield client


def variable_of(process):
    return f"GRATICULE_PROCESSES__{process.upper().replace('-', '_')}__PYTHON"


@contextmanager
def client_of(url):
    with httpx2.Client(base_url=url, timeout=60, trust_env=False, headers={"Accept": "application/json"}) as client:
        yield client


def wait_until_it_answers(client, process, log):
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            if client.get("/processes").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    pytest.fail(f"pygeoapi did not start\n{log.read_text()[-3000:]}")


def run(client, process, body, **headers):
    return client.post(f"/processes/{process}/execution", json=body, headers=headers)


def finished(client, response):
    """Return the results of a job that was made."""
    assert response.status_code == 201
    place = f"/jobs/{response.headers['location'].rpartition('/')[2]}"
    for _ in range(200):
        if client.get(place).json()["status"] not in ("accepted", "running"):
            return client.get(f"{place}/results?f=json")
        time.sleep(0.05)
    return pytest.fail(f"the job did not end: {client.get(place).text}")


def media_type(response):
    return response.headers["content-type"].partition(";")[0]


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize(("process", "inputs"), REQUESTS)
def test_a_synchronous_answer_is_the_same(ours, theirs, process, inputs, response):
    body = {"inputs": inputs, **response}

    there, here = run(theirs, process, body), run(ours, process, body)

    assert (here.status_code, there.status_code) == (200, 200), here.text
    assert media_type(here) == media_type(there) == "application/json"
    assert here.json() == there.json()


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize(("process", "inputs"), [REQUESTS[0], REQUESTS[5], REQUESTS[7]])
def test_results_of_a_job_are_the_same(ours, theirs, process, inputs, response):
    body = {"inputs": inputs, **response}

    there, here = (finished(client, run(client, process, body, Prefer="respond-async")) for client in (theirs, ours))

    assert (here.status_code, there.status_code) == (200, 200), here.text
    assert media_type(here) == media_type(there) == "application/json"
    assert here.json() == there.json()


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_is_described_alike(ours, theirs, process):
    there, here = theirs.get(f"/processes/{process}").json(), ours.get(f"/processes/{process}").json()

    for member in ("id", "version", "title", "description", "keywords"):
        assert here.get(member) == there.get(member)
    for member in ("inputs", "outputs"):
        assert here[member].keys() == there[member].keys()
        for name, declared in there[member].items():
            assert here[member][name].get("title") == declared.get("title")
            assert here[member][name].get("minOccurs", 1) == declared.get("minOccurs", 1)
            assert here[member][name]["schema"].get("type") == declared["schema"].get("type")


@pytest.mark.parametrize(
    ("process", "inputs"),
    [
        pytest.param("hello-world", {}, id="missing"),
        pytest.param("hello-world", {"message": "nobody"}, id="another missing"),
        pytest.param("shapely-functions", {"operation": "measurement:area", "geoms": SQUARE}, id="no array"),
    ],
)
def test_bad_inputs_are_refused_by_both(ours, theirs, process, inputs):
    there, here = run(theirs, process, {"inputs": inputs}), run(ours, process, {"inputs": inputs})

    assert (here.status_code, there.status_code) == (400, 400)
    assert here.json()["errors"][0]["pointer"].startswith("/inputs/")


REFUSED = [
    pytest.param({"operation": "measure:distance", "geoms": [SQUARE, POINT]}, id="no output format"),
    pytest.param({"operation": "measure:bounds", "geoms": [SQUARE, SQUARE], "output_format": "wkt"}, id="unknown"),
    pytest.param({"operation": "measurement:bounds", "geoms": [SQUARE, SQUARE]}, id="too many"),
    pytest.param({"operation": "measurement:distance", "geoms": [SQUARE]}, id="too few"),
    pytest.param({"operation": "measurement:area", "geoms": [POINT]}, id="wrong type"),
    pytest.param({"operation": "set:union", "geoms": [SQUARE, SQUARE], "output_format": "kml"}, id="wrong format"),
    pytest.param({"operation": "measurement:area", "geoms": ["POLYGON ((0 0"]}, id="broken text"),
]


@pytest.mark.parametrize("inputs", REFUSED)
def test_what_a_processor_says_to_its_user_is_told_as_pygeoapi_tells_it(ours, theirs, inputs):
    there, here = (run(client, "shapely-functions", {"inputs": inputs}) for client in (theirs, ours))

    assert (here.status_code, there.status_code) == (400, 400), here.text
    assert here.json()["type"].rpartition("/")[2] == there.json()["code"] == "InvalidParameterValue"
    [error] = here.json()["errors"]
    said = " ".join(there.json()["description"].removeprefix("Error executing process: ").split())
    assert error["pointer"] == "/inputs"
    assert said in error["detail"]


@pytest.mark.parametrize("inputs", [REFUSED[0], REFUSED[2], REFUSED[6]])
def test_a_job_whose_processor_refuses_fails_as_it_does_in_pygeoapi(ours, theirs, inputs):
    answers = []
    for client in (theirs, ours):
        results = finished(client, run(client, "shapely-functions", {"inputs": inputs}, Prefer="respond-async"))
        job = str(results.url).rpartition("/results")[0]
        answers.append((results.status_code, client.get(job).json()["status"]))

    assert answers == [(400, "failed")] * 2
    assert results.json()["type"].endswith("/InvalidParameterValue")


def test_a_refusal_without_a_job_leaves_none(ours):
    before = ours.get("/jobs").json()["jobs"]

    run(ours, "shapely-functions", {"inputs": REFUSED[2].values[0]})

    assert ours.get("/jobs").json()["jobs"] == before


def test_the_profile_asks_for_the_document_of_the_standard(ours):
    address = "/processes/hello-world/execution?profile=ogc-results"

    response = ours.post(address, json={"inputs": {"name": "World"}, "response": "document"})

    value = {"id": "echo", "value": "Hello World!"}
    assert response.json() == {"echo": {"value": value, "mediaType": "application/json"}}


def test_an_example_that_is_offered_runs(ours):
    offered = {name: ours.get(f"/processes/{name}").json().get("examples", []) for name in PROCESSES}

    answers = [
        run(ours, name, {"inputs": one["inputs"]}).status_code for name, found in offered.items() for one in found
    ]

    assert answers == [200, 200]
    assert offered["echo"] == []


def test_the_old_dialect_speaks_of_a_processor_as_it_did(ours):
    body = {"inputs": [{"id": "name", "type": "text/plain", "value": "hi there2"}]}

    response = ours.post("/processes/hello-world/jobs", json=body)

    assert response.json() == {"outputs": [{"id": "echo", "value": "Hello hi there2!"}]}
