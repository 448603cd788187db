"""The client asks what the standard says and reads what services answer."""

import socket

import pytest

from graticule.client import (
    Client,
    NotAsynchronous,
    RemoteProblem,
    Results,
    ServerUnreachable,
    UnexpectedAnswer,
    WaitExpired,
)
from graticule.ogc.common import Link
from tests.unit.client.conftest import NO_SUCH_JOB, PICTURE


@pytest.fixture
def client(service):
    with Client(app=service.app, token="s3cret") as client:
        yield client


def test_a_synchronous_execution_returns_its_results(client):
    results = client.execute("greet", {"name": "Ada"})

    assert dict(results) == {"greeting": "Hello Ada!"}


def test_results_are_asked_for_as_one_document_with_large_ones_as_links(client, service):
    client.execute("greet", {"name": "Ada"})

    headers = service.seen[0].headers
    assert headers["prefer"] == "return=minimal"
    assert headers["accept-profile"] == "<https://www.opengis.net/def/profile/OGC/0/ogc-results>"


def test_an_execution_that_becomes_a_job_is_waited_for(client, service):
    results = client.execute("draw")

    assert results["count"] == 3
    assert service.polls == 3


def test_processes_are_followed_over_all_pages(client):
    assert [process.id for process in client.processes()] == ["p0", "p1", "p2"]


def test_a_description_is_read_as_a_value(client):
    assert client.process("draw").version == "1.2.0"


def test_submitting_asks_for_a_job_and_returns_its_status(client, service):
    job = client.submit("draw", {"size": 3})

    assert (job.id, job.status) == ("j1", "accepted")
    assert service.seen[0].headers["prefer"] == "respond-async"
    assert service.bodies == [{"inputs": {"size": 3}}]


def test_submitting_a_process_that_runs_at_once_says_so(client):
    with pytest.raises(NotAsynchronous):
        client.submit("greet", {"name": "Ada"})


def test_waiting_reports_the_progress_until_the_job_has_ended(client):
    seen = []

    job = client.wait("j1", on_progress=lambda job: seen.append((job.status, job.progress)))

    assert job.status == "successful"
    assert seen == [("running", 40), ("running", 80), ("successful", None)]


def test_waiting_ends_when_its_time_is_over(client, service):
    service.polls = -1000

    with pytest.raises(WaitExpired) as caught:
        client.wait("j1", timeout=0)

    assert caught.value.job_id == "j1"


def test_jobs_are_filtered_by_the_words_of_the_standard(client, service):
    assert [job.id for job in client.jobs(status=["running", "failed"], processID="draw")] == ["j1"]
    assert service.seen[0].url.query == "status=running&status=failed&processID=draw"


def test_binary_results_come_as_bytes_and_references_as_links(client):
    results = client.results("j1")

    assert results["small"] == b"hello"
    assert results["picture"] == Link(href="http://localhost/jobs/j1/results/picture", type="image/png")


def test_saving_results_writes_files_and_returns_other_values(client, tmp_path):
    saved = client.save_results(client.results("j1"), tmp_path)

    assert saved["count"] == 3
    assert saved["picture"] == tmp_path / "picture.png"
    assert saved["picture"].read_bytes() == PICTURE
    assert saved["small"].read_bytes() == b"hello"


def test_saving_results_overwrites_nothing(client, tmp_path):
    (tmp_path / "picture.png").write_text("mine")

    saved = client.save_results(client.results("j1"), tmp_path)

    assert saved["picture"] == tmp_path / "picture-1.png"
    assert (tmp_path / "picture.png").read_text() == "mine"


def test_a_saved_file_has_the_name_that_the_service_gives_it(client, service, tmp_path):
    service.dispositions = {"picture": 'inline; filename="shade.tif"', "small": "inline; filename*=UTF-8''a%20b.txt"}

    saved = client.save_results(client.results("j1"), tmp_path)

    assert saved["picture"] == tmp_path / "shade.tif"
    assert saved["small"] == tmp_path / "a_b.txt"
    assert saved["small"].read_bytes() == b"hello"
    assert [request.method for request in service.seen] == ["GET", "GET", "HEAD"]


def test_two_outputs_of_one_name_are_two_files(client, service, tmp_path):
    service.dispositions = dict.fromkeys(("picture", "small"), 'inline; filename="shade.tif"')

    saved = client.save_results(client.results("j1"), tmp_path)

    assert (saved["picture"].name, saved["small"].name) == ("shade.tif", "shade-1.tif")


def test_no_name_leads_out_of_the_folder(client, service, tmp_path):
    service.dispositions = {"picture": 'inline; filename="../../up.tif"', "small": 'inline; filename="..\\\\.up"'}

    client.save_results(client.results("j1"), tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["up", "up.tif"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_service_that_tells_no_name_of_an_output_does_not_keep_it_from_being_saved(client, tmp_path):
    results = Results(client.results("j1").document, href="http://localhost/nothing/here")

    assert client.save_results(results, tmp_path)["small"].read_bytes() == b"hello"


def test_a_download_that_fails_leaves_nothing_behind(client, tmp_path):
    with pytest.raises(RemoteProblem):
        client.save_results(Results({"gone": {"href": "http://localhost/nothing/here.tif"}}), tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_one_result_is_written_to_a_file(client, tmp_path):
    path = client.save_result("j1", "picture", tmp_path / "p.png")

    assert path.read_bytes() == client.result("j1", "picture") == PICTURE
    assert [file.name for file in tmp_path.iterdir()] == ["p.png"]


def test_a_file_among_the_inputs_is_uploaded_first(client, service, tmp_path):
    path = tmp_path / "dem.tif"
    path.write_bytes(b"II*\0")

    client.submit("draw", {"dem": path, "area": {"type": "Point", "coordinates": [1, 2]}, "key": b"k"})

    assert service.files == {"dem.tif": b"II*\0"}
    assert service.bodies[0]["inputs"] == {
        "dem": {"href": "http://localhost/files/f1/dem.tif", "type": "image/tiff; application=geotiff"},
        "area": {"value": {"type": "Point", "coordinates": [1, 2]}},
        "key": {"value": "aw==", "encoding": "base64"},
    }


def test_the_log_is_read_from_its_link(client):
    assert client.log("j1") == "drawing\n"


def test_dismissing_returns_the_last_status(client):
    assert client.dismiss("j1").status == "dismissed"


def test_a_problem_carries_its_type_and_status(client):
    with pytest.raises(RemoteProblem) as caught:
        client.job("x")

    assert (caught.value.status, caught.value.type) == (404, NO_SUCH_JOB)


def test_a_problem_names_every_fault_with_its_place(client):
    with pytest.raises(RemoteProblem) as caught:
        client.execute("greet", {"name": 5})

    assert [(fault.pointer, fault.message) for fault in caught.value.faults] == [("/inputs/name", "must be a text")]


def test_a_problem_without_a_document_names_its_status(client):
    with pytest.raises(RemoteProblem) as caught:
        client.job("x/y")  # the small service has no such route: plain text

    assert caught.value.status == 404


def test_an_answer_that_is_no_document_is_named(client):
    with pytest.raises(UnexpectedAnswer):
        client.process("text")


def test_the_token_goes_to_the_service(client, service):
    client.process("draw")

    assert service.seen[0].headers["authorization"] == "Bearer s3cret"


def test_a_workspace_has_its_own_addresses(service, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x")

    with Client(app=service.app, workspace="east") as client:
        assert client.process("draw").id == "draw"
        assert client.upload(path) == "http://localhost/east/files/f1/a.txt"


def test_an_application_is_started_and_stopped_with_the_client(service):
    with Client(app=service.app) as client:
        assert not service.started  # no work in the constructor
        client.process("draw")
        assert service.started

    assert not service.started


def test_an_application_without_a_lifespan_is_asked_all_the_same():
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b'{"id": "p", "version": "1"}'})

    with Client(app=app) as client:
        assert client.process("p").version == "1"


def test_an_application_that_cannot_start_says_why():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no disk"})

    with Client(app=app) as client, pytest.raises(RuntimeError, match="no disk"):
        client.process("p")


def test_a_service_that_is_not_there_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        with Client(url) as client, pytest.raises(ServerUnreachable) as caught:
            client.job("j1")

    assert caught.value.url == f"{url}/jobs/j1"


def test_a_client_needs_to_know_whom_to_ask():
    with pytest.raises(ValueError, match="address"):
        Client()
