"""Two clients that other people publish, used as their users do, against a running server.

`ogc-api-processes-client` is generated from the 1.0 description of the API, whose overlapping alternatives it takes
literally: a JSON string is a string and binary at once, and its classes refuse it. So it sends strings through
unchecked wrappers, and results that hold strings are read from its raw answers; all else goes through its classes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import owslib.ogcapi
import pytest
from ogc_api_processes_client import (
    Configuration,
    Execute,
    ExecuteInputsValue,
    InlineOrRefData,
    InputValueNoObject,
    JobControlOptions,
    StatusCode,
    StatusInfo,
)
from ogc_api_processes_client.api.result_api import ResultApi
from ogc_api_processes_client.api_client_wrapper import ApiClientWrapper
from ogc_api_processes_client.exceptions import ApiException, NotFoundException
from owslib.ogcapi.processes import Processes

from tests.serving import Server

SECONDS = 30
ENDED = {"successful", "failed", "dismissed"}

sends_unchecked = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
"""The generated client warns of each string that it is made to send."""


# --- OWSLib ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def owslib_client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Processes:
    """OWSLib's client; what it remembers of headers is shared by all its instances, so each test gets a copy."""
    monkeypatch.setattr(owslib.ogcapi, "REQUEST_HEADERS", dict(owslib.ogcapi.REQUEST_HEADERS))
    return Processes(server.url)


def owslib_job(client: Processes, job_id: str) -> Any:
    """Wait for a job by the status documents that OWSLib reads."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        status = client._request(path=f"jobs/{job_id}")
        if status["status"] in ENDED:
            return status
        time.sleep(0.05)
    pytest.fail(f"job {job_id} did not end")


def test_owslib_reads_the_landing_page_and_the_conformance_classes(owslib_client: Processes) -> None:
    assert {"self", "service-desc"} <= {link["rel"] for link in owslib_client.links}
    assert "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/core" in owslib_client.conformance()["conformsTo"]


def test_owslib_reads_the_api_definition(owslib_client: Processes) -> None:
    assert owslib_client.api()["openapi"].startswith("3.0.")


def test_owslib_lists_processes(owslib_client: Processes) -> None:
    assert {"echo", "hello-world"} <= {process["id"] for process in owslib_client.processes()}


def test_owslib_describes_a_process(owslib_client: Processes) -> None:
    description = owslib_client.process("hello-world")

    assert description["id"] == "hello-world"
    assert "name" in description["inputs"]


def test_owslib_runs_hello_world_and_gets_the_greeting(owslib_client: Processes) -> None:
    results = owslib_client.execute("hello-world", inputs={"name": "Ada"})

    assert "Ada" in json.dumps(results)


def test_owslib_runs_echo_synchronously(owslib_client: Processes) -> None:
    results = owslib_client.execute("echo", inputs={"message": "hello", "numbers": [1, 2]})

    assert results == {"message": "hello", "numbers": [1, 2], "count": 2}


def test_owslib_asks_for_one_output(owslib_client: Processes) -> None:
    results = owslib_client.execute(
        "echo", inputs={"message": "hello"}, outputs={"count": {"transmissionMode": "value"}}
    )

    assert results == {"count": 1}


def test_owslib_runs_a_job_and_reads_its_status_and_results(owslib_client: Processes) -> None:
    created = owslib_client.execute("echo", inputs={"message": "hello"}, async_=True)
    location = owslib_client.response_headers["Location"]

    status = owslib_job(owslib_client, created["jobID"])

    assert location.endswith(f"/jobs/{created['jobID']}")
    assert status["status"] == "successful"
    assert owslib_client._request(path=f"jobs/{created['jobID']}/results") == {"message": "hello", "count": 1}


def test_owslib_finds_its_job_in_the_list(owslib_client: Processes) -> None:
    created = owslib_client.execute("hello-world", inputs={"name": "Ada"}, async_=True)

    jobs = owslib_client._request(path="jobs", kwargs={"limit": 100})["jobs"]

    assert created["jobID"] in {job["jobID"] for job in jobs}


def test_owslib_dismisses_a_job(owslib_client: Processes) -> None:
    created = owslib_client.execute("echo", inputs={"message": "hello", "pause": 30}, async_=True)

    dismissed = owslib_client._request(method="DELETE", path=f"jobs/{created['jobID']}")

    assert dismissed["status"] == "dismissed"
    assert owslib_job(owslib_client, created["jobID"])["status"] == "dismissed"


def test_owslib_is_told_what_is_wrong(owslib_client: Processes) -> None:
    with pytest.raises(RuntimeError, match="message"):
        owslib_client.execute("echo", inputs={"numbers": [1]})


# --- ogc-api-processes-client ----------------------------------------------------------------------------------------


@pytest.fixture
def generated(server: Server) -> Iterator[ApiClientWrapper]:
    """The generated client."""
    wrapper = ApiClientWrapper(Configuration(host=server.url))
    yield wrapper
    wrapper.api_client.rest_client.pool_manager.clear()


def unchecked(value: Any) -> ExecuteInputsValue:
    """Wrap a value that the client's own checks would refuse."""
    return ExecuteInputsValue.model_construct(actual_instance=value)


def checked(value: Any) -> ExecuteInputsValue:
    """Wrap a value as the client wants it."""
    return ExecuteInputsValue(InlineOrRefData(InputValueNoObject(value)))


def submit(client: ApiClientWrapper, process: str, document: dict[str, Any]) -> StatusInfo:
    """Submit a job by the client's own short cut."""
    headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
    return client.execute_simple(process, document, _headers=headers)


def generated_job(client: ApiClientWrapper, job_id: str) -> StatusInfo:
    """Wait for a job by the status documents that the client reads."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        status = client.get_status(job_id)
        if status.status.value in ENDED:
            return status
        time.sleep(0.05)
    pytest.fail(f"job {job_id} did not end")


def test_the_generated_client_reads_the_landing_page_and_the_conformance_classes(generated: ApiClientWrapper) -> None:
    assert {"self", "service-desc"} <= {link.rel for link in generated.get_landing_page().links}
    classes = generated.get_conformance_classes().conforms_to
    assert "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/core" in classes


def test_the_generated_client_lists_processes(generated: ApiClientWrapper) -> None:
    assert {"echo", "hello-world"} <= {process.id for process in generated.get_processes().processes}


@pytest.mark.parametrize("process", ["hello-world", "echo"])
def test_the_generated_client_describes_a_process(generated: ApiClientWrapper, process: str) -> None:
    description = generated.get_process_description(process)

    assert description.id == process
    assert description.inputs
    assert description.outputs
    assert JobControlOptions.ASYNC_MINUS_EXECUTE in description.job_control_options


@sends_unchecked
def test_the_generated_client_runs_hello_world(generated: ApiClientWrapper) -> None:
    results = generated.execute("hello-world", Execute(inputs={"name": unchecked("Ada")}, response="document"))

    assert "Ada" in json.dumps(results.actual_instance)


@sends_unchecked
def test_the_generated_client_runs_echo_synchronously(generated: ApiClientWrapper) -> None:
    results = generated.execute("echo", Execute(inputs={"message": unchecked("hello")}, response="document"))

    assert results.actual_instance == {"message": "hello", "count": 1}


def test_the_generated_client_runs_a_job_and_reads_its_results(generated: ApiClientWrapper) -> None:
    created = submit(generated, "echo", {"inputs": {"message": "hello"}})

    status = generated_job(generated, created.job_id)
    answer = ResultApi(generated.api_client).get_result_without_preload_content(created.job_id)

    assert status.status is StatusCode.SUCCESSFUL
    assert status.process_id == "echo"
    assert json.loads(answer.data) == {"message": "hello", "count": 1}


def test_the_generated_client_reads_results_through_its_own_classes(generated: ApiClientWrapper) -> None:
    request = Execute(inputs={"boolean": checked(True)}, response="document")
    created = submit(generated, "echo-all", request.to_dict())

    generated_job(generated, created.job_id)
    results = generated.get_result(created.job_id)

    assert results["boolean"].actual_instance.actual_instance is True


def test_the_generated_client_finds_its_job_in_the_list(generated: ApiClientWrapper) -> None:
    created = submit(generated, "hello-world", {"inputs": {"name": "Ada"}})

    assert created.job_id in {job.job_id for job in generated.get_jobs().jobs}


def test_the_generated_client_dismisses_a_job(generated: ApiClientWrapper) -> None:
    created = submit(generated, "echo", {"inputs": {"message": "hello", "pause": 30}})

    dismissed = generated.dismiss(created.job_id)

    assert dismissed.status is StatusCode.DISMISSED
    assert generated.get_status(created.job_id).status is StatusCode.DISMISSED


def test_the_generated_client_is_told_that_there_is_no_such_process(generated: ApiClientWrapper) -> None:
    with pytest.raises(NotFoundException) as caught:
        generated.get_process_description("nothing-here")

    assert json.loads(caught.value.body)["type"].endswith("/no-such-process")


@sends_unchecked
def test_the_generated_client_is_told_what_is_wrong(generated: ApiClientWrapper) -> None:
    with pytest.raises(ApiException) as caught:
        generated.execute("echo", Execute(inputs={"pause": unchecked(-5)}))

    assert caught.value.status == 400
    assert "pause" in caught.value.body
