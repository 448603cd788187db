"""Subscribers of a running server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.receiver import Receiver, receiver
from tests.serving import Server

PROCESSES = Path(__file__).with_name("job_processes.py")
TRUSTING = {"GRATICULE_SECURITY__ALLOW_PRIVATE_ADDRESSES": "true"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may tell private addresses."""
    with Server(tmp_path_factory.mktemp("callbacks") / "home", [str(PROCESSES)], environment=TRUSTING) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with client_of(server) as found:
        yield found


@pytest.fixture
def subscriber() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def client_of(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, timeout=30, trust_env=False, headers={"Accept": "application/json"})


def addresses(where: Receiver) -> dict[str, str]:
    return {
        "successUri": where.address("/success"),
        "inProgressUri": where.address("/progress"),
        "failedUri": where.address("/failed"),
    }


def execute(http: httpx2.Client, process: str, body: dict[str, Any], prefer: str = "") -> httpx2.Response:
    headers = {"Prefer": prefer} if prefer else {}
    return http.post(f"/processes/{process}/execution", json=body, headers=headers)


def send(http: httpx2.Client, process: str, where: dict[str, str], **inputs: Any) -> str:
    answer = execute(http, process, {"inputs": inputs, "subscriber": where}, "respond-async")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobID"])


@pytest.mark.parametrize("prefer", ["", "respond-async"])
def test_the_results_are_told_whether_somebody_waits_for_them_or_not(
    http: httpx2.Client, subscriber: Receiver, prefer: str
) -> None:
    body = {"inputs": {"message": "hello"}, "subscriber": addresses(subscriber)}

    answer = execute(http, "echo", body, prefer)

    (told,) = subscriber.wait("/success")
    assert answer.status_code in {200, 201}
    assert told.document == {"message": "hello", "count": 1}
    assert subscriber.at("/failed") == []


def test_what_is_told_leads_to_the_job(http: httpx2.Client, server: Server, subscriber: Receiver) -> None:
    job = send(http, "echo", addresses(subscriber), message="hello")

    (told,) = subscriber.wait("/success")
    assert told.headers["link"] == f'<{server.url}/jobs/{job}>; rel="monitor"'


def test_a_file_is_told_of_by_its_address(http: httpx2.Client, subscriber: Receiver) -> None:
    job = send(http, "big", addresses(subscriber), megabytes=1, kind="application/octet-stream")

    (told,) = subscriber.wait("/success")
    ((_, link),) = told.document.items()
    assert (link["type"], link["rel"]) == ("application/octet-stream", "item")
    assert f"/jobs/{job}/" in link["href"]
    assert len(http.get(link["href"], headers={"Accept": "*/*"}).content) == 1 << 20


def test_an_output_that_is_wanted_by_reference_is_told_by_its_address(
    http: httpx2.Client, subscriber: Receiver
) -> None:
    body = {
        "inputs": {"message": "hello"},
        "outputs": {"message": {"transmissionMode": "reference"}},
        "subscriber": addresses(subscriber),
    }

    execute(http, "echo", body, "respond-async")

    (told,) = subscriber.wait("/success")
    assert http.get(told.document["message"]["href"]).text.strip('"') == "hello"


def test_progress_is_told_while_a_job_runs_and_before_its_end(http: httpx2.Client, subscriber: Receiver) -> None:
    job = send(http, "nap", addresses(subscriber), seconds=2.5)

    subscriber.wait("/success")
    reports = [told.document for told in subscriber.at("/progress")]
    assert len(reports) >= 2
    assert {(report["jobID"], report["status"]) for report in reports} == {(job, "running")}
    assert [report["progress"] for report in reports] == sorted({report["progress"] for report in reports})
    assert [told.path for told in subscriber.told][-1] == "/success"


def test_a_failure_is_told_with_its_exception(http: httpx2.Client, subscriber: Receiver) -> None:
    job = send(http, "crash", addresses(subscriber), how="raise")

    (told,) = subscriber.wait("/failed")
    assert told.document == http.get(f"/jobs/{job}").json() | {"links": told.document["links"]}
    assert "bad luck" in told.document["exception"]["detail"]
    assert subscriber.at("/success") == []


def test_a_dismissal_is_told_where_failures_are(http: httpx2.Client, subscriber: Receiver) -> None:
    job = send(http, "nap", addresses(subscriber), seconds=30)
    subscriber.wait("/progress")

    http.delete(f"/jobs/{job}")

    (told,) = subscriber.wait("/failed")
    assert (told.document["jobID"], told.document["status"]) == (job, "dismissed")


def test_a_job_that_is_only_created_is_told_of_when_it_was_started(http: httpx2.Client, subscriber: Receiver) -> None:
    body = {"process": "echo", "inputs": {"message": "hello"}, "subscriber": addresses(subscriber)}
    created = http.post("/jobs", json=body, headers={"Prefer": 'status="created"'})
    before = list(subscriber.told)

    http.post(f"/jobs/{created.json()['jobID']}/results").raise_for_status()

    assert before == []
    (told,) = subscriber.wait("/success")
    assert told.document["message"] == "hello"


def test_a_wrong_input_that_is_answered_at_once_is_told_to_nobody_else(
    http: httpx2.Client, subscriber: Receiver
) -> None:
    body = {"inputs": {"message": 5}, "subscriber": addresses(subscriber)}

    answer = execute(http, "echo", body)

    assert answer.status_code == 400
    assert subscriber.told == []


def test_a_receiver_in_trouble_is_told_again_and_the_job_stays_successful(
    http: httpx2.Client, subscriber: Receiver
) -> None:
    subscriber.statuses["/success"] = [500]

    job = send(http, "echo", {"successUri": subscriber.address("/success")}, message="hello")

    assert [told.status for told in subscriber.wait("/success", 2)] == [500, 200]
    assert http.get(f"/jobs/{job}").json()["status"] == "successful"


def test_a_dead_receiver_does_not_change_the_job(http: httpx2.Client) -> None:
    job = send(http, "echo", {"successUri": "http://127.0.0.1:1/told"}, message="hello")

    deadline = time.monotonic() + 10
    while (status := http.get(f"/jobs/{job}").json()["status"]) != "successful" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert status == "successful"


def test_what_a_killed_server_owed_is_told_by_the_next(tmp_path: Path, subscriber: Receiver) -> None:
    subscriber.statuses["/success"] = [503]
    first = Server(tmp_path / "home", environment=TRUSTING).start()
    with client_of(first) as http:
        send(http, "echo", {"successUri": subscriber.address("/success")}, message="hello")
    subscriber.wait("/success")
    first.kill()

    with Server(tmp_path / "home", environment=TRUSTING):
        told = subscriber.wait("/success", 2)

    assert [(one.status, one.document["message"]) for one in told] == [(503, "hello"), (200, "hello")]
    assert told[0].headers["webhook-id"] == told[1].headers["webhook-id"]


@pytest.mark.parametrize("member", ["successUri", "successUrl", "inProgressUri", "failedUri"])
def test_an_address_that_cannot_be_told_is_refused_at_its_place(http: httpx2.Client, member: str) -> None:
    answer = execute(http, "echo", {"inputs": {"message": "hello"}, "subscriber": {member: "ftp://told.example/x"}})

    assert answer.status_code == 400
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [f"/subscriber/{member}"]


def test_faults_of_inputs_and_subscriber_are_told_together(http: httpx2.Client) -> None:
    body = {"inputs": {"seconds": "much"}, "subscriber": {"successUri": "told.example"}}

    answer = execute(http, "nap", body)

    assert {fault["pointer"] for fault in answer.json()["errors"]} == {"/inputs/seconds", "/subscriber/successUri"}
