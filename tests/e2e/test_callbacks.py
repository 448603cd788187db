"""Subscribers of a running server."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook

from tests.postgres import Postgres
from tests.receiver import SECONDS, Receiver, Told, receiver
from tests.serving import Server, ServerDidNotStart, Worker

PROCESSES = Path(__file__).with_name("job_processes.py")
OURS, OLD, THEIRS = (f"whsec_{base64.b64encode(bytes([number] * 24)).decode()}" for number in (1, 2, 3))
TRUSTING = {
    "GRATICULE_SECURITY__ALLOW_PRIVATE_ADDRESSES": "true",
    "GRATICULE_NOTIFICATIONS__RETRIES_S": "0.3, 0.3",
    "GRATICULE_NOTIFICATIONS__SECRETS": json.dumps([{"secret": OURS}, {"secret": OLD}]),
}
PAGE = {"Accept": "text/html"}


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


def settled(http: httpx2.Client, job: str, status: str) -> dict[str, Any]:
    """Wait until the one notification of a job has a status."""
    deadline = time.monotonic() + SECONDS
    while True:
        found = http.get(f"/jobs/{job}/notifications").json()["notifications"]
        if [one["status"] for one in found] == [status]:
            return dict(found[0])
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def execute(http: httpx2.Client, process: str, body: dict[str, Any], prefer: str = "") -> httpx2.Response:
    headers = {"Prefer": prefer} if prefer else {}
    return http.post(f"/processes/{process}/execution", json=body, headers=headers)


def send(http: httpx2.Client, process: str, where: dict[str, Any], **inputs: Any) -> str:
    answer = execute(http, process, {"inputs": inputs, "subscriber": where}, "respond-async")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobID"])


def verified(told: Told, secret: str) -> Any:
    """Return what was told, verified as receivers do it."""
    return Webhook(secret).verify(told.body, dict(told.headers))


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
    where = {"successUri": subscriber.address("/success"), "authorization": {"type": "hmac", "secret": THEIRS}}
    # Time enough to kill it before the second attempt, by which it has left the first one's failure in the outbox.
    patient = TRUSTING | {"GRATICULE_NOTIFICATIONS__RETRIES_S": "2"}
    first = Server(tmp_path / "home", environment=patient).start()
    with client_of(first) as http:
        send(http, "echo", where, message="hello")
    subscriber.wait("/success")
    first.kill()

    with Server(tmp_path / "home", environment=patient):
        told = subscriber.wait("/success", 2)

    assert [(one.status, one.document["message"]) for one in told] == [(503, "hello"), (200, "hello")]
    assert told[0].headers["webhook-id"] == told[1].headers["webhook-id"]
    assert [verified(one, THEIRS)["message"] for one in told] == ["hello", "hello"]


def test_a_kill_while_messages_are_on_their_way_loses_none(tmp_path: Path, subscriber: Receiver) -> None:
    jobs, home = 20, tmp_path / "home"
    subscriber.delays["/success"] = 0.2
    where = {**addresses(subscriber), "authorization": {"profile": "station"}}
    first = Server(home, environment=TRUSTING).start()
    with client_of(first) as http:
        http.put("/notification-profiles/station", json={"type": "hmac", "secret": THEIRS})
        names = [send(http, "echo", where, message=f"{number}") for number in range(jobs)]
        subscriber.wait("/success", 5)
    first.kill()
    before = len(subscriber.at("/success"))
    assert before < jobs

    with Server(home, environment=TRUSTING) as second, client_of(second) as http:
        for name in names:
            assert settled(http, name, "delivered")["lastError"] is None

    told = subscriber.at("/success")
    assert {verified(one, THEIRS)["message"] for one in told} == {str(number) for number in range(jobs)}
    assert len({one.headers["webhook-id"] for one in told}) == jobs
    # Only what was under way at the kill came twice.
    assert len(told) <= jobs + 4
    assert all(one.moment > subscriber.at("/progress")[0].moment for one in told)


@pytest.mark.parametrize("member", ["successUri", "successUrl", "inProgressUri", "failedUri"])
def test_an_address_that_cannot_be_told_is_refused_at_its_place(http: httpx2.Client, member: str) -> None:
    answer = execute(http, "echo", {"inputs": {"message": "hello"}, "subscriber": {member: "ftp://told.example/x"}})

    assert answer.status_code == 400
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [f"/subscriber/{member}"]


@pytest.mark.parametrize("address", ["https://①②⑦.⓪.⓪.①/", "https://…/", "http://127.0.0.1:0/"])
def test_an_address_that_can_never_work_makes_no_job(http: httpx2.Client, address: str) -> None:
    before = http.get("/jobs").json()["jobs"][:1]

    answer = execute(http, "echo", {"inputs": {"message": "hello"}, "subscriber": {"successUri": address}})

    assert answer.status_code == 400
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/subscriber/successUri"]
    assert http.get("/jobs").json()["jobs"][:1] == before


def test_faults_of_inputs_and_subscriber_are_told_together(http: httpx2.Client) -> None:
    body = {"inputs": {"seconds": "much"}, "subscriber": {"successUri": "told.example"}}

    answer = execute(http, "nap", body)

    assert {fault["pointer"] for fault in answer.json()["errors"]} == {"/inputs/seconds", "/subscriber/successUri"}


@pytest.mark.parametrize(
    "places", [{"first": 0, "second": 0, "worker": 2}, {"first": 2, "second": 0}, {"first": 0, "second": 2}]
)
def test_progress_is_told_once_and_in_order_wherever_a_job_runs(
    postgres: Postgres, tmp_path: Path, subscriber: Receiver, places: dict[str, int]
) -> None:
    shared = TRUSTING | {
        "GRATICULE_DATABASE__URL": postgres.new_database(),
        "GRATICULE_STORAGE__FOLDER": str(tmp_path / "storage"),
        "GRATICULE_SECURITY__SECRET_KEY": "k" * 32,
    }
    with ExitStack() as running:
        started = [
            running.enter_context(
                (Worker if name == "worker" else Server)(
                    tmp_path / name, [str(PROCESSES)], environment=shared | {"GRATICULE_JOBS__WORKERS": str(number)}
                )
            )
            for name, number in places.items()
        ]
        with client_of(started[0]) as http:
            jobs = [send(http, "nap", addresses(subscriber), seconds=4) for _ in range(2)]
            subscriber.wait("/success", 2)
            time.sleep(1)

    for job in jobs:
        told = [one for one in subscriber.told if job in one.headers["link"]]
        reports = [one.document for one in told if one.path == "/progress"]
        reached = [report["progress"] for report in reports]
        assert [one.path for one in told] == ["/progress"] * len(reports) + ["/success"]
        assert len(reports) >= 4
        assert {report["status"] for report in reports} == {"running"}
        assert reached == sorted(set(reached))
        assert len({one.headers["webhook-id"] for one in told}) == len(told)


# --- authorization ---------------------------------------------------------------------------------------------------


def test_a_patch_of_an_address_alone_is_told_why_the_credentials_are_missing(
    http: httpx2.Client, subscriber: Receiver
) -> None:  # fmt: skip
    bearer = {"type": "bearer", "token": "a-token"}
    where = {"successUri": subscriber.address("/first"), "authorization": bearer}
    document = {"process": "echo", "inputs": {"message": "x"}, "subscriber": where, "status": "create"}
    job = http.post("/jobs", json=document).headers["Location"]
    there = {"successUri": subscriber.address("/second")}

    refused = http.patch(job, json={"subscriber": there})
    whole = http.patch(job, json={"subscriber": {**there, "authorization": bearer}})

    (fault,) = refused.json()["errors"]
    assert (refused.status_code, fault["pointer"]) == (400, "/subscriber/authorization/token")
    assert "never read back: send the whole subscriber" in fault["detail"]
    assert whole.status_code == 200, whole.text
    http.post(f"{job}/results")
    (told,) = subscriber.wait("/second")
    assert told.headers["authorization"] == "Bearer a-token"
    assert subscriber.at("/first") == []


def test_every_secret_of_the_service_signs(http: httpx2.Client, subscriber: Receiver) -> None:
    send(http, "echo", {"successUri": subscriber.address("/success")}, message="hellö")

    (told,) = subscriber.wait("/success")
    assert verified(told, OURS) == verified(told, OLD) == {"message": "hellö", "count": 1}


def test_progress_is_signed_too(http: httpx2.Client, subscriber: Receiver) -> None:
    where = {"inProgressUri": subscriber.address("/progress"), "authorization": {"type": "hmac", "secret": THEIRS}}

    send(http, "echo", where, message="hello")

    assert verified(subscriber.wait("/progress")[0], THEIRS)["status"] == "running"


def test_a_profile_authorizes_and_shows_nothing_of_its_secret(http: httpx2.Client, subscriber: Receiver) -> None:
    credentials = {"type": "basic", "username": "grace", "password": "hidden-password"}

    made = http.put("/notification-profiles/station", json=credentials)
    replaced = http.put("/notification-profiles/station", json=credentials)
    job = send(
        http,
        "echo",
        {"successUri": subscriber.address("/success"), "authorization": {"profile": "station"}},
        message="x",
    )

    (told,) = subscriber.wait("/success")
    assert told.headers["authorization"] == "Basic " + base64.b64encode(b"grace:hidden-password").decode()
    assert (made.status_code, replaced.status_code) == (201, 200)
    assert made.headers["location"].endswith("/notification-profiles/station")
    shown = [made, replaced, *(http.get(f"/notification-profiles{path}") for path in ("", "/station"))]
    shown += [http.get(f"/notification-profiles{path}", headers=PAGE) for path in ("", "/station")]
    assert not any("grace" in answer.text or "hidden" in answer.text for answer in shown)
    assert http.get("/notification-profiles").json()["profiles"][0]["type"] == "basic"
    assert http.delete("/notification-profiles/station").status_code == 204
    assert http.get("/notification-profiles/station").status_code == 404
    assert settled(http, job, "delivered")["attempts"] == 1


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("station", {"type": "bearer"}, 400),
        ("station", {"type": "bearer", "token": "hidden away"}, 400),
        ("station", {"type": "oauth", "token": "hidden"}, 400),
        ("station", {"type": "bearer", "token": "hidden", "more": 1}, 400),
        ("station", ["hidden"], 400),
        ("-station", {"type": "bearer", "token": "hidden"}, 400),
    ],
)
def test_a_profile_that_does_not_fit_is_refused_without_repeating_it(
    http: httpx2.Client, name: str, body: Any, status: int
) -> None:
    answer = http.put(f"/notification-profiles/{name}", json=body)

    assert answer.status_code == status
    assert "hidden" not in answer.text
    assert http.get("/notification-profiles").json()["profiles"] == []


def test_a_secret_of_a_request_is_shown_and_kept_nowhere(tmp_path: Path, subscriber: Receiver) -> None:
    home, token = tmp_path / "home", "hidden-token-of-ada"
    subscriber.statuses["/success"] = [500] * 9
    with Server(home, environment=TRUSTING) as server, client_of(server) as http:
        where = addresses(subscriber) | {"authorization": {"type": "bearer", "token": token}}
        body = {"inputs": {"message": "hello"}, "subscriber": where}
        answers = [execute(http, "echo", body, "respond-async"), execute(http, "echo", body)]
        answers.append(execute(http, "echo", body | {"subscriber": where | {"successUri": "ftp://x"}}))
        job = answers[0].json()["jobID"]
        settled(http, job, "undelivered")
        for path in ("", "/results", "/notifications", "/logs/process"):
            answers += [http.get(f"/jobs/{job}{path}", headers=headers) for headers in ({"Accept": "*/*"}, PAGE)]
        answers.append(http.get("/jobs"))

    assert subscriber.told[0].headers["authorization"] == f"Bearer {token}"
    assert not any(token in answer.text for answer in answers)
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert home / "graticule.db" in kept
    assert not any(token.encode() in path.read_bytes() for path in kept)
    assert token not in server.log + server.output
    assert stat.S_IMODE((home / "secret.key").stat().st_mode) == 0o600


def test_another_key_than_that_of_the_other_servers_is_refused(postgres: Postgres, tmp_path: Path) -> None:
    shared = {
        "GRATICULE_DATABASE__URL": postgres.new_database(), "GRATICULE_STORAGE__FOLDER": str(tmp_path / "storage"),
    }  # fmt: skip
    with Server(tmp_path / "one", environment={**shared, "GRATICULE_SECURITY__SECRET_KEY": "k" * 32}):
        other = Server(tmp_path / "two", environment={**shared, "GRATICULE_SECURITY__SECRET_KEY": "l" * 32})
        with pytest.raises(ServerDidNotStart, match=r"setting security\.secret_key: .*set the same on all") as refused:
            other.start()
        with Server(tmp_path / "three", environment={**shared, "GRATICULE_SECURITY__SECRET_KEY": "k" * 32}):
            pass

    assert "kkk" not in str(refused.value)
    assert "lll" not in str(refused.value)


def test_the_settings_hide_secrets() -> None:
    environment = TRUSTING | {"GRATICULE_SECURITY__SECRET_KEY": "k" * 32, "PATH": ""}
    for options in ([], ["--json"]):
        shown = subprocess.run(
            [sys.executable, "-m", "graticule", "settings", *options],
            env=environment | {"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "notifications.retries_s" in shown
        assert not any(secret in shown for secret in (OURS, OLD, OURS.removeprefix("whsec_"), "kkk"))


@pytest.mark.parametrize(
    ("authorization", "member"),
    [
        ({"type": "hmac", "secret": "hidden"}, "/secret"),
        ({"profile": "nobody"}, "/profile"),
        ({"type": "oauth"}, "/type"),
        ({"type": "bearer", "token": None}, "/token"),
        ({}, "/type"),
    ],
)
def test_an_authorization_that_does_not_fit_makes_no_job(
    http: httpx2.Client, authorization: dict[str, Any], member: str
) -> None:
    before = http.get("/jobs").json()["jobs"][:1]
    subscriber = {"successUri": "https://told.example/x", "authorization": authorization}

    answer = execute(http, "echo", {"inputs": {"message": "hello"}, "subscriber": subscriber}, "respond-async")

    assert answer.status_code == 400
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [f"/subscriber/authorization{member}"]
    assert "hidden" not in answer.text
    assert http.get("/jobs").json()["jobs"][:1] == before


def test_http_is_refused_where_private_addresses_are(tmp_path: Path, subscriber: Receiver) -> None:
    allowed = {"GRATICULE_NOTIFICATIONS__ALLOWED_HOSTS": f"127.0.0.1:{subscriber.port}"}
    with Server(tmp_path / "home", environment=allowed) as server, client_of(server) as http:
        where = {"successUri": subscriber.address("/success"), "failedUri": "http://told.example/x"}
        refused = execute(http, "echo", {"inputs": {"message": "hello"}, "subscriber": where})
        del where["failedUri"]
        send(http, "echo", where, message="hello")
        subscriber.wait("/success")

    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/subscriber/failedUri"]
    assert "webhook-signature" not in subscriber.told[0].headers


# --- what became of them ---------------------------------------------------------------------------------------------


def test_what_is_undelivered_is_seen_on_the_job_and_sent_again_on_demand(
    http: httpx2.Client, subscriber: Receiver
) -> None:
    subscriber.statuses["/success?key=s3cret"] = [500] * 3
    job = send(http, "echo", {"successUri": subscriber.address("/success?key=s3cret")}, message="hello")

    given_up = settled(http, job, "undelivered")
    status = http.get(f"/jobs/{job}").json()
    (link,) = [link for link in status["links"] if link.get("title") == "Notifications"]
    listed = http.get(link["href"]).json()["notifications"]
    page = http.get(f"/jobs/{job}", headers=PAGE).text
    again = http.post(f"/jobs/{job}/notifications/1")

    assert (given_up["kind"], given_up["attempts"], given_up["lastError"]) == ("success", 3, "it answered 500")
    assert (given_up["host"], given_up["nextAttempt"]) == (f"127.0.0.1:{subscriber.port}", None)
    assert (link["rel"], listed) == ("related", [given_up])
    assert status["status"] == "successful"
    assert "undelivered" in page
    assert "It answered 500." in page
    assert "s3cret" not in page + str(given_up)
    assert (again.status_code, again.json()["status"]) == (202, "waiting")
    assert settled(http, job, "delivered")["attempts"] == 1


def test_a_job_without_a_subscriber_has_no_notifications(http: httpx2.Client) -> None:
    job = execute(http, "echo", {"inputs": {"message": "hello"}}, "respond-async").json()["jobID"]

    assert http.get(f"/jobs/{job}/notifications").json()["notifications"] == []
    assert "Notifications" not in http.get(f"/jobs/{job}").text
    assert http.post(f"/jobs/{job}/notifications/1").status_code == 404


@pytest.mark.parametrize("number", ["0", "2", "-1", "01", "x", "9" * 30])
def test_a_notification_that_there_is_not_is_not_sent(http: httpx2.Client, subscriber: Receiver, number: str) -> None:
    job = send(http, "echo", {"successUri": subscriber.address("/success")}, message="hello")
    settled(http, job, "delivered")

    assert http.post(f"/jobs/{job}/notifications/{number}").status_code == 404
    assert http.post(f"/jobs/nobody/notifications/{number}").status_code == 404


def test_a_page_sends_again_by_its_button(http: httpx2.Client, subscriber: Receiver) -> None:
    job = send(http, "echo", {"successUri": subscriber.address("/success")}, message="hello")
    settled(http, job, "delivered")
    form = f"/jobs/{job}/notifications/1/form"

    foreign = http.post(form, headers={"Sec-Fetch-Site": "cross-site"})
    own = http.post(form, headers={"Sec-Fetch-Site": "same-origin"})

    subscriber.wait("/success", 2)
    assert f'action="{http.base_url!s}'.rstrip("/") + form in http.get(f"/jobs/{job}/notifications", headers=PAGE).text
    assert (foreign.status_code, own.status_code) == (403, 303)
    assert own.headers["location"].endswith(f"/jobs/{job}/notifications?f=html")


# --- how much --------------------------------------------------------------------------------------------------------


def test_what_is_sent_is_never_larger_than_64_kib(http: httpx2.Client, subscriber: Receiver) -> None:
    job = send(http, "echo", addresses(subscriber), message="\x01" * 30_000)  # six characters each as JSON

    (told,) = subscriber.wait("/success")
    assert len(told.body) <= 64 << 10
    assert told.document["message"]["href"].endswith(f"/jobs/{job}/results/message")
