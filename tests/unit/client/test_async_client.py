"""The async driver does what the blocking one does."""

import pytest

from graticule.client import AsyncClient, RemoteProblem
from tests.unit.client.conftest import PICTURE


@pytest.fixture
async def client(service):
    async with AsyncClient(app=service.app) as client:
        yield client


async def test_a_job_is_submitted_waited_for_and_read(client):
    job = await client.submit("draw")

    ended = await client.wait(job)

    assert ended.status == "successful"
    assert (await client.results(ended))["small"] == b"hello"


async def test_an_execution_returns_its_results(client):
    assert (await client.execute("greet", {"name": "Ada"}))["greeting"] == "Hello Ada!"


async def test_all_pages_are_followed(client):
    assert [process.id async for process in client.processes()] == ["p0", "p1", "p2"]
    assert [job.id async for job in client.jobs(status="running")] == ["j1"]


async def test_results_are_written_to_files(client, service, tmp_path):
    service.dispositions = {"picture": 'inline; filename="shade.png"'}
    saved = await client.save_results(await client.results("j1"), tmp_path)

    assert saved["picture"].read_bytes() == PICTURE
    assert saved["picture"].name == "shade.png"
    assert (await client.save_result("j1", "picture", tmp_path / "p.png")).read_bytes() == PICTURE


async def test_a_file_is_uploaded(client, service, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x")

    assert await client.upload(path) == "http://localhost/files/f1/a.txt"
    assert service.files == {"a.txt": b"x"}


async def test_a_problem_is_raised(client):
    with pytest.raises(RemoteProblem):
        await client.job("x")


async def test_the_application_runs_while_the_client_is_open(service):
    async with AsyncClient(app=service.app):
        assert service.started

    assert not service.started
