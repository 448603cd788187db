"""Inputs that are declared as secrets are shown to nobody, and reach the process as they were sent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.serving import Server

PROCESSES = Path(__file__).with_name("secret_processes.py")
SECRETS = ("hunter2", "first-key", "second-key", "48151623")
SENT: dict[str, Any] = {
    "user": "ada", "password": {"value": "hunter2"}, "keys": ["first-key", {"value": "second-key"}], "pin": 48151623,
}  # fmt: skip
SHOWN: dict[str, Any] = {
    "user": "ada", "password": {"value": "********"}, "keys": ["********", {"value": "********"}], "pin": "********",
}  # fmt: skip
RESULT = 3 + 7 + 9 + 10 + 48151623
FORMS = ("json", "jsonld", "xml", "provn", "nt", "turtle", "html")


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with (
        Server(tmp_path_factory.mktemp("secrets") / "home", [str(PROCESSES)]) as server,
        httpx2.Client(
            base_url=server.url, timeout=30, trust_env=False, headers={"Accept": "application/json"}
        ) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def job(http: httpx2.Client) -> str:
    """A job that has ended well."""
    answer = http.post("/processes/login/execution", json={"inputs": SENT}, headers={"Prefer": "respond-async"})
    return ended(http, answer)


def ended(http: httpx2.Client, answer: httpx2.Response) -> str:
    assert answer.status_code == 201, answer.text
    job, deadline = str(answer.json()["jobID"]), time.monotonic() + 10
    while (status := http.get(f"/jobs/{job}").json())["status"] != "successful":
        assert time.monotonic() < deadline, status
        time.sleep(0.02)
    return job


def result(http: httpx2.Client, job: str) -> Any:
    return http.get(f"/jobs/{job}/results").json()


def test_the_process_gets_what_was_sent_also_when_it_is_sent_again(http: httpx2.Client, job: str) -> None:
    again = ended(http, http.post(f"/jobs/{job}/again"))

    assert result(http, job) == result(http, again) == RESULT


def test_the_inputs_that_are_read_back_are_masked(http: httpx2.Client, job: str) -> None:
    assert http.get(f"/jobs/{job}/inputs").json()["inputs"] == SHOWN
    assert http.get(f"/jobs/{job}/definition").json()["inputs"] == SHOWN
    named = http.get(f"/jobs/{job}/definition", params={"profile": "job-definition"})
    assert named.json()["inputs"] == SHOWN


@pytest.mark.parametrize("form", FORMS)
def test_provenance_tells_nothing_of_a_secret(http: httpx2.Client, job: str, form: str) -> None:
    told = http.get(f"/jobs/{job}/prov", params={"f": form}).text

    assert not any(secret in told for secret in SECRETS)
    assert "********" in told
    assert "ada" in told


def test_no_checksum_of_a_secret_is_told(http: httpx2.Client, job: str) -> None:
    entities = http.get(f"/jobs/{job}/prov").json()["entity"]

    told = [one for name, one in entities.items() if name.startswith("job:input-") and one["prov:label"] != "user"]
    assert len(told) == 3
    assert all("graticule:sha256" not in one and "graticule:size" not in one for one in told)


@pytest.mark.parametrize("page", ["", "/inputs", "/definition", "/prov"])
def test_pages_show_no_secret(http: httpx2.Client, job: str, page: str) -> None:
    shown = http.get(f"/jobs/{job}{page}", headers={"Accept": "text/html"}).text

    assert not any(secret in shown for secret in SECRETS)
    assert "ada" in shown


def test_the_form_of_an_earlier_job_is_filled_but_for_its_secrets(http: httpx2.Client, job: str) -> None:
    shown = http.get("/processes/login/form", params={"job": job}, headers={"Accept": "text/html"}).text

    assert not any(secret in shown for secret in (*SECRETS, "********"))
    assert "ada" in shown


@pytest.mark.parametrize("name", ["password", "keys", "pin"])
def test_what_is_read_back_is_not_taken_for_the_secret(http: httpx2.Client, name: str) -> None:
    made = http.post("/jobs", json={"process": "login", "inputs": SENT}, headers={"Prefer": 'status="created"'})
    address = f"/jobs/{made.json()['jobID']}"
    shown = http.get(f"{address}/definition").json()["inputs"]

    patched = http.patch(address, json={"inputs": {name: shown[name]}})
    executed = http.post("/processes/login/execution", json={"inputs": SENT | {name: SHOWN[name]}})
    http.patch(address, json={"inputs": {"user": "grace"}}).raise_for_status()
    http.post(f"{address}/results", headers={"Prefer": "wait=10"}).raise_for_status()

    assert shown == SHOWN
    for refused in (patched, executed):
        assert refused.status_code == 400
        assert f"/inputs/{name}" in [fault["pointer"] for fault in refused.json()["errors"]]
        assert "send the secret itself" in refused.text
    assert result(http, address.removeprefix("/jobs/")) == RESULT + 2


def test_a_process_that_is_not_published_any_more_hides_all_that_was_sent(tmp_path: Path) -> None:
    def client(server: Server) -> httpx2.Client:
        return httpx2.Client(base_url=server.url, timeout=30, trust_env=False, headers={"Accept": "application/json"})

    with Server(tmp_path / "home", [str(PROCESSES)]) as server, client(server) as http:
        answer = http.post("/processes/login/execution", json={"inputs": SENT}, headers={"Prefer": "respond-async"})
        job = ended(http, answer)
    with Server(tmp_path / "home") as server, client(server) as http:
        inputs = http.get(f"/jobs/{job}/inputs").json()["inputs"]
        shown = [http.get(f"/jobs/{job}{path}").text for path in ("/definition", "/prov", "/prov?f=html", "?f=html")]

    assert inputs == SHOWN | {"user": "********"}
    assert not any(secret in text for text in shown for secret in SECRETS)


def test_what_looks_like_a_secret_in_a_stack_trace_is_not_logged(http: httpx2.Client) -> None:
    job = http.post("/processes/leak/execution", headers={"Prefer": "respond-async"}, json={}).json()["jobID"]
    deadline = time.monotonic() + 10
    while (status := http.get(f"/jobs/{job}").json())["status"] != "failed":
        assert time.monotonic() < deadline, status
        time.sleep(0.02)

    log = http.get(f"/jobs/{job}/logs/process").text

    assert "hunter2" not in log + str(status)
    assert log.count("Traceback (most recent call last):") == 2
    assert "OSError: GET https://***@example.org/x?X-Amz-Signature=*** failed" in log
    assert log.startswith("password=printed-by-itself\n")
    assert log.endswith("ValueError: cannot log in with password=***\n")
