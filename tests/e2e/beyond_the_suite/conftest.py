"""Schemas, and servers with other settings than usual."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.e2e.beyond_the_suite.asking import (
    HTML,
    JSON,
    Answer,
    all_jobs,
    done,
    execute,
)
from tests.e2e.beyond_the_suite.elsewhere import Elsewhere, write_raster
from tests.e2e.ogc_suite.schemas import Schemas
from tests.serving import Server

DRAFT = "https://schemas.example/"


@pytest.fixture(scope="session")
def schemas(shared_data: Path) -> Schemas:
    """The schemas of version 1.0."""
    return Schemas(shared_data / "ogc-schemas" / "part1-1.0")


@pytest.fixture(scope="session")
def draft(shared_data: Path) -> Callable[[str, Any], list[str]]:
    """Validate by a schema of the 2.0 draft; its `schema.yaml` is a copy of something else and counts for nothing."""
    folder = shared_data / "ogc-schemas" / "part1-2.0"

    def retrieve(uri: str) -> Resource[Any]:
        name = uri.removeprefix(DRAFT)
        content: Any = (
            {} if name == "processes-core/schema.yaml" else yaml.safe_load((folder / name).read_text("utf-8"))
        )
        return Resource.from_contents(content, DRAFT202012)

    registry: Registry[Any] = Registry(retrieve=retrieve)

    def faults(name: str, document: Any) -> list[str]:
        validator = Draft202012Validator({"$ref": DRAFT + name}, registry=registry)
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]

    return faults


Run = Callable[..., Answer]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, http: httpx2.Client) -> Run:
    """Run a process and answer with its results: at once, or from the job, which must be the same."""

    def sync(process: str, document: Any, accept: str = "*/*") -> Answer:
        return execute(http, process, document, Accept=accept)

    def asynchronous(process: str, document: Any, accept: str = "*/*") -> Answer:
        return http.get(f"{done(http, process, document)}/results", headers={"Accept": accept})

    return sync if request.param == "sync" else asynchronous


@pytest.fixture
def nothing_created(http: httpx2.Client) -> Iterator[None]:
    """Fail when the test leaves a job behind."""
    before = all_jobs(http)
    yield
    assert all_jobs(http) - before == set()


MODES = '''
"""Processes that run one way only."""

from graticule.ogc.processes import Input, Output, ProcessDescription
from graticule.processes.process import OutputValue


class Answering:
    def __init__(self, id, control):
        text = {"type": "string"}
        self.description = ProcessDescription(
            id=id, version="1.0.0", job_control_options=[control],
            inputs={"name": Input(schema=text, min_occurs=0)}, outputs={"answer": Output(schema=text)},
        )

    def run(self, inputs, context):
        print("working on it")
        return {"answer": OutputValue(value="done")}


only_sync = Answering("only-sync", "sync-execute")
only_async = Answering("only-async", "async-execute")
'''


@pytest.fixture(scope="module")
def modes_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with processes that run one way only."""
    folder = tmp_path_factory.mktemp("modes")
    (folder / "modes.py").write_text(MODES, encoding="utf-8")
    with Server(folder / "home", [str(folder / "modes.py")]) as server:
        yield server


@pytest.fixture(scope="module")
def modes(modes_server: Server) -> Iterator[httpx2.Client]:
    """A client of it."""
    with client_of(modes_server) as client:
        yield client


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of another server."""
    good, without_crs = tmp_path_factory.mktemp("rasters") / "good.tif", tmp_path_factory.mktemp("rasters") / "bare.tif"
    write_raster(good, "EPSG:4326")
    write_raster(without_crs, None)
    Elsewhere.pages = {
        "/page.html": (HTML, b"<!doctype html><title>Not a raster</title>"),
        "/page.tif": ("image/tiff", b"<!doctype html><title>Not a raster</title>"),
        "/good.tif": ("image/tiff", good.read_bytes()),
        "/truncated.tif": ("image/tiff", good.read_bytes()[:600]),
        "/without-crs.tif": ("image/tiff", without_crs.read_bytes()),
    }
    Elsewhere.posted = []
    other = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    other.daemon_threads = True
    thread = threading.Thread(target=other.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{other.server_address[1]}"
    other.shutdown()
    other.server_close()
    thread.join()


@pytest.fixture(scope="session")
def trusting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may fetch from private addresses, a megabyte at most, and has a second workspace."""
    settings = {
        "GRATICULE_SECURITY__ALLOW_PRIVATE_ADDRESSES": "true",
        "GRATICULE_SECURITY__REFERENCE_MAX_MIB": "1",
        "GRATICULE_WORKSPACES__NAMES": "default,other",
    }
    with Server(tmp_path_factory.mktemp("trusting") / "home", environment=settings) as server:
        yield server


@pytest.fixture(scope="session")
def trusting(trusting_server: Server) -> Iterator[httpx2.Client]:
    """A client of it."""
    with client_of(trusting_server) as client:
        yield client


def client_of(server: Server) -> httpx2.Client:
    """Return a client that asks for JSON unless a test says otherwise."""
    return httpx2.Client(base_url=server.url, timeout=60, trust_env=False, headers={"Accept": JSON})
