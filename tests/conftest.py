"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.object_storage import ObjectStorage
from tests.postgres import Postgres
from tests.serving import Server

SHARED = Path(os.environ.get("GRATICULE_TEST_SHARED", Path(__file__).parents[2] / "shared"))


@dataclass
class Serve:
    """Start servers of a test's own, each on a fresh home; they end with the test."""

    factory: pytest.TempPathFactory
    stack: ExitStack
    servers: list[Server] = field(default_factory=list)

    def __call__(
        self, *arguments: str, env: Mapping[str, str] | None = None, config: str | None = None, home: Path | None = None
    ) -> Server:
        """Start one: its arguments, its ``GRATICULE_…`` variables, the text of its TOML file, a home to use again."""
        folder = self.factory.mktemp("serve")
        if config is not None:
            (folder / "graticule.toml").write_text(config, encoding="utf-8")
            arguments = (*arguments, "--config", str(folder / "graticule.toml"))
        server = Server(home or folder / "home", arguments, environment=env)
        self.servers.append(server)
        return self.stack.enter_context(server)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The loop that the server itself runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Sample rasters, polygons and the OGC's schemas, beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.fail(f"the sample data is missing: {SHARED / 'data'}; GRATICULE_TEST_SHARED names another folder")
    return SHARED / "data"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with the built-in processes, for all tests that leave it as they found it."""
    with Server(tmp_path_factory.mktemp("server") / "home") as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; each test takes a database of its own."""
    with Postgres() as running:
        yield running


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start servers that this test alone uses: ``serve("my_processes.py", env={"GRATICULE_JOBS__WORKERS": "1"})``."""
    with ExitStack() as stack:
        yield Serve(tmp_path_factory, stack)


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx2.Client]:
    """A client of `server`; it does not follow redirects and asks for JSON unless a test says otherwise."""
    with httpx2.Client(
        base_url=server.url, timeout=60, trust_env=False, headers={"Accept": "application/json"}
    ) as client:
        yield client


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStorage]:
    """An object storage that speaks S3 and checks signatures, for all tests that leave it running."""
    with ObjectStorage(tmp_path_factory.mktemp("object-storage")) as running:
        yield running


@pytest.fixture
def bucket(object_storage: ObjectStorage) -> str:
    """The name of a new, empty bucket."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    object_storage.bucket(name)
    return name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("fuzz") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show of a failed test what its servers wrote."""
    report: Any = yield
    if report.failed:
        for server in servers_of(item):
            report.sections.append((f"log of the server at {server.url or server.home}", server.tail()))
    return report


def servers_of(item: pytest.Item) -> list[Server]:
    """Return the servers among the fixtures that a test has."""
    found: list[Server] = []
    for value in getattr(item, "funcargs", {}).values():
        if isinstance(value, Server):
            found.append(value)
        elif isinstance(value, Serve):
            found.extend(value.servers)
    return found
