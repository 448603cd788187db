"""What operators do: hold the queue, move jobs in it, send jobs again, dismiss many; who may; and labels of jobs."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_jobs import client, run, send, wait_for
from tests.postgres import Postgres
from tests.serving import Server, Worker

PROCESSES = str(Path(__file__).with_name("operated_processes.py"))
ONE_AT_A_TIME = {"GRATICULE_JOBS__WORKERS": "1"}
HELD = "urn:graticule:problem:queue-held"


def settings_of(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the settings of a kind of ledger, of a server that runs one job at a time."""
    if request.param == "sqlite":
        return ONE_AT_A_TIME
    return {**ONE_AT_A_TIME, "GRATICULE_DATABASE__URL": request.getfixturevalue("postgres").new_database()}


@pytest.fixture(params=["sqlite", "postgresql"])
def new_ledger(request: pytest.FixtureRequest) -> dict[str, str]:
    return settings_of(request)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with each kind of ledger."""
    with Server(tmp_path_factory.mktemp("ops") / "home", [PROCESSES], environment=settings_of(request)) as running:
        yield running


@pytest.fixture
def http(server: Server) -> Iterator[httpx2.Client]:
    """A client of the server, which it leaves with nothing held back and nothing to do."""
    with client(server) as found:
        yield found
        for hold in found.get("/admin/holds").json()["holds"]:
            found.delete(f"/admin/holds/{hold['scope']}")
        found.delete("/jobs?status=accepted,running")


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    return tmp_path / "marks"


def hold(http: httpx2.Client, scope: str, action: str = "pause", reason: str = "") -> dict[str, Any]:
    answer = http.put(f"/admin/holds/{scope}", json={"action": action, "reason": reason})
    assert answer.status_code == 200, answer.text
    held: dict[str, Any] = answer.json()
    return held


def release(http: httpx2.Client, scope: str) -> None:
    assert http.delete(f"/admin/holds/{scope}").status_code == 204


def worker_of(http: httpx2.Client) -> dict[str, Any]:
    (worker,) = http.get("/admin/queue").json()["workers"]
    return dict(worker)


def send_marked(http: httpx2.Client, marks: Path, name: str, **inputs: Any) -> str:
    return send(http, "mark", name=name, marks=str(marks), **inputs)


# --- holding back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["queue", "workspace:default", "process:nap", "worker"])
def test_what_is_paused_waits_and_goes_on_when_it_is_let_go(http: httpx2.Client, scope: str) -> None:
    running = send(http, "nap", seconds=1)
    wait_for(http, running, "running")
    scope = f"worker:{worker_of(http)['id']}" if scope == "worker" else scope
    hold(http, scope, reason="a new disk")

    waits = send(http, "nap", seconds=0)

    assert wait_for(http, running)["status"] == "successful"
    time.sleep(0.5)
    status = http.get(f"/jobs/{waits}").json()
    assert status["status"] == "accepted"
    assert "estimatedStart" not in status
    if not scope.startswith("worker"):
        assert status["message"].endswith("is paused: a new disk")
    release(http, scope)
    assert wait_for(http, waits, seconds=5)["status"] == "successful"


def test_only_the_paused_process_waits(http: httpx2.Client) -> None:
    hold(http, "process:nap")
    waits = send(http, "nap", seconds=0)

    assert run(http, "mark", name="goes", marks=os.devnull).json() == "goes"
    assert http.get(f"/jobs/{waits}").json()["status"] == "accepted"


def test_a_client_that_waits_is_told_of_a_pause_at_once(http: httpx2.Client) -> None:
    hold(http, "queue", reason="a new disk")

    refused = run(http, "nap", seconds=0)
    taken = run(http, "nap", "respond-async, wait=0.2", seconds=0)

    assert (refused.status_code, refused.headers["retry-after"], refused.json()["type"]) == (503, "30", HELD)
    assert "the queue is paused: a new disk" in refused.json()["detail"]
    assert "respond-async" in refused.json()["detail"]
    assert taken.status_code == 201
    assert [job["jobID"] for job in http.get("/jobs?status=accepted").json()["jobs"]] == [taken.json()["jobID"]]


@pytest.mark.parametrize("scope", ["queue", "workspace:default", "process:nap"])
def test_what_is_drained_takes_nothing_new_and_ends_what_it_has(http: httpx2.Client, scope: str) -> None:
    jobs = [send(http, "nap", seconds=0.5), send(http, "nap", seconds=0)]
    hold(http, scope, "drain", "a new version")

    refused = run(http, "nap", "respond-async", seconds=0)

    assert (refused.status_code, refused.json()["type"]) == (503, HELD)
    assert "is drained: a new version" in refused.json()["detail"]
    assert [wait_for(http, job)["status"] for job in jobs] == ["successful"] * 2
    release(http, scope)
    assert run(http, "nap", seconds=0).status_code == 200


def test_a_created_job_is_not_started_while_its_process_is_drained(http: httpx2.Client) -> None:
    body = {"process": "nap", "inputs": {"seconds": 0}}
    created = http.post("/jobs", json=body, headers={"Prefer": 'status="created"'}).json()["jobID"]
    hold(http, "process:nap", "drain")

    assert http.post(f"/jobs/{created}/results").status_code == 503
    release(http, "process:nap")
    assert http.post(f"/jobs/{created}/results").status_code == 200
    assert wait_for(http, created)["status"] == "successful"


def test_whoever_watches_the_service_sees_that_something_is_held_back(http: httpx2.Client) -> None:
    before = http.get("/health").json()
    hold(http, "process:nap", reason="secret plans")

    health = http.get("/health")

    assert "held" not in before
    assert (health.status_code, health.json()["status"], health.json()["held"]) == (200, "ok", ["process"])
    assert "secret" not in health.text
    families = {family.name: family for family in text_string_to_metric_families(http.get("/metrics").text)}
    assert families["graticule_holds"].samples[0].value == 1


def test_the_queue_shows_what_waits_runs_and_is_held_back(http: httpx2.Client) -> None:
    running = send(http, "nap", seconds=20)
    wait_for(http, running, "running")
    for _ in range(2):
        send(http, "mark", name="x", marks=os.devnull)
    hold(http, "process:mark", reason="why not")

    queue = http.get("/admin/queue").json()

    assert (queue["waiting"], queue["running"]) == (2, 1)
    assert [(lane["processID"], lane["waiting"]) for lane in queue["lanes"]] == [("mark", 2)]
    assert [(load["processID"], load["actor"], load["running"]) for load in queue["load"]] == [("nap", "anonymous", 1)]
    (held,) = queue["holds"]
    assert (held["scope"], held["action"], held["reason"], held["actor"]) == (
        "process:mark", "pause", "why not", "anonymous",
    )  # fmt: skip
    assert (queue["workers"][0]["state"], queue["workers"][0]["places"]) == ("working", 1)


@pytest.mark.parametrize(
    ("scope", "body", "status"),
    [
        ("nonsense", {"action": "pause"}, 400),
        ("process:nobody", {"action": "pause"}, 404),
        ("workspace:nobody", {"action": "pause"}, 404),
        ("worker:nobody", {"action": "pause"}, 404),
        ("queue", {"action": "stop"}, 400),
        ("queue", {}, 400),
        ("queue", {"action": "pause", "reason": "x" * 501}, 400),
        ("queue", {"action": "pause", "why": "x"}, 400),
    ],
)
def test_a_wrong_hold_changes_nothing(http: httpx2.Client, scope: str, body: dict[str, str], status: int) -> None:
    answer = http.put(f"/admin/holds/{scope}", json=body)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert http.get("/admin/holds").json()["holds"] == []


def test_a_pause_outlives_a_server_that_is_killed(new_ledger: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ExitStack() as stack:
        first = Server(home, [PROCESSES], environment=new_ledger).start()
        stack.callback(first.kill)
        http = stack.enter_context(client(first))
        hold(http, "process:nap", reason="for long")
        waits = send(http, "nap", seconds=0)

    with Server(home, [PROCESSES], environment=new_ledger) as second, client(second) as http:
        assert [one["scope"] for one in http.get("/admin/holds").json()["holds"]] == ["process:nap"]
        time.sleep(0.5)
        assert http.get(f"/jobs/{waits}").json()["message"] == "process 'nap' is paused: for long"
        release(http, "process:nap")
        assert wait_for(http, waits)["status"] == "successful"


def test_servers_and_workers_of_one_database_obey_within_a_second(postgres: Postgres, tmp_path: Path) -> None:
    shared = {
        "GRATICULE_DATABASE__URL": postgres.new_database(),
        "GRATICULE_STORAGE__FOLDER": str(tmp_path / "storage"),
    }
    none = {**shared, "GRATICULE_JOBS__WORKERS": "0"}
    with (
        Server(tmp_path / "web", [PROCESSES], environment=none) as web,
        Server(tmp_path / "other", [PROCESSES], environment=none) as other,
        client(web) as http,
        client(other) as there,
        ExitStack() as stack,
    ):
        worker = Worker(tmp_path / "worker", [PROCESSES], environment=shared).start()
        stack.callback(worker.kill)
        hold(http, "queue", reason="everywhere")
        began = time.monotonic()
        while there.get("/admin/holds").json()["holds"] == [] and time.monotonic() - began < 5:
            time.sleep(0.02)
        heard = time.monotonic() - began
        assert run(there, "nap", seconds=0).status_code == 503
        waits = send(there, "nap", seconds=0)
        time.sleep(0.7)
        assert there.get(f"/jobs/{waits}").json()["message"] == "the queue is paused: everywhere"
        release(there, "queue")
        assert wait_for(http, waits, seconds=10)["status"] == "successful"
        assert heard < 3

        running = send(http, "nap", seconds=3)
        wait_for(http, running, "running")
        name = next(one["id"] for one in http.get("/admin/queue").json()["workers"] if one["kind"] == "worker")
        hold(http, f"worker:{name}", "drain")
        time.sleep(1)  # until it has heard
        late = send(http, "nap", seconds=0)
        assert worker.process.wait(15) == 0
        assert http.get(f"/jobs/{running}").json()["status"] == "successful"
        assert len(http.get(f"/jobs/{running}").json().get("attempts", [])) == 0
        assert http.get(f"/jobs/{late}").json()["status"] == "accepted"
        assert there.get("/admin/queue").json()["holds"] == []
        with Worker(tmp_path / "worker", [PROCESSES], environment=shared):
            assert wait_for(there, late)["status"] == "successful"


# --- moving, sending again ------------------------------------------------------------------------------------------


def test_a_job_that_is_moved_ahead_begins_next(http: httpx2.Client, marks: Path) -> None:
    jobs = [send_marked(http, marks, "first", seconds=1.5)]
    jobs += [send_marked(http, marks, name) for name in ("a", "b", "c", "d")]
    wait_for(http, jobs[0], "running")

    moved = http.put(f"/jobs/{jobs[3]}/priority", json={"priority": 5})
    http.put(f"/jobs/{jobs[1]}/priority", json={"priority": -5})

    assert (moved.status_code, moved.json()["priority"], moved.json()["queuePosition"]) == (200, 5, 1)
    for job in jobs:
        wait_for(http, job)
    assert marks.read_text().split() == ["first", "c", "b", "d", "a"]


def test_a_job_that_has_begun_is_not_moved(http: httpx2.Client) -> None:
    job = send(http, "nap", seconds=20)
    wait_for(http, job, "running")

    answer = http.put(f"/jobs/{job}/priority", json={"priority": 1})

    assert (answer.status_code, answer.json()["type"]) == (409, "urn:graticule:problem:not-waiting")
    assert http.put(f"/jobs/{job}/priority", json={"priority": 1001}).status_code == 400
    assert http.put(f"/jobs/{job}/priority", json={"priority": 1.5}).status_code == 400
    assert http.put("/jobs/nobody/priority", json={"priority": 1}).status_code == 404


def test_a_failed_job_is_sent_again_with_the_same_inputs(server: Server, http: httpx2.Client, tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    body = {"inputs": {"switch": str(switch)}, "labels": ["kept"]}
    sent = http.post("/processes/doubtful/execution", json=body, headers={"Prefer": "respond-async"})
    first = sent.json()["jobID"]
    assert wait_for(http, first)["status"] == "failed"
    switch.touch()

    again = http.post(f"/jobs/{first}/again")

    second = again.json()["jobID"]
    assert (again.status_code, again.headers["location"]) == (201, f"{server.url}/jobs/{second}")
    done = wait_for(http, second)
    assert (done["status"], done["labels"]) == ("successful", ["kept"])
    assert links(done, "predecessor-version") == [f"{server.url}/jobs/{first}"]
    before = http.get(f"/jobs/{first}").json()
    assert (before["status"], links(before, "successor-version")) == ("failed", [f"{server.url}/jobs/{second}"])
    assert http.get(f"/jobs/{second}/inputs").json()["inputs"] == {"switch": str(switch)}
    provenance = http.get(f"/jobs/{second}/prov").text
    assert second in provenance
    assert first not in provenance


def links(status: dict[str, Any], rel: str) -> list[str]:
    return [link["href"] for link in status["links"] if link["rel"] == rel]


def test_a_job_that_has_not_ended_is_not_sent_again(http: httpx2.Client) -> None:
    job = send(http, "nap", seconds=20)

    answer = http.post(f"/jobs/{job}/again")

    assert (answer.status_code, answer.json()["type"]) == (409, "urn:graticule:problem:not-ended")
    http.delete(f"/jobs/{job}")
    assert http.post(f"/jobs/{job}/again").status_code == 201


def test_a_job_whose_upload_is_gone_is_not_sent_again(http: httpx2.Client) -> None:
    href = http.post("/files?name=a.bin", content=b"abc", headers={"Content-Type": "x/y"}).json()["href"]
    body = {"inputs": {"octets": {"href": href}}}
    sent = http.post("/processes/echo-all/execution", json=body, headers={"Prefer": "respond-async"})
    job = sent.json()["jobID"]
    wait_for(http, job)
    assert http.delete(href).is_success

    answer = http.post(f"/jobs/{job}/again")

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/inputs/octets/href"]


# --- labels, and dismissing many -------------------------------------------------------------------------------------


def send_labelled(http: httpx2.Client, *labels: str, **inputs: Any) -> str:
    body = {"inputs": {"seconds": 0, **inputs}, "labels": list(labels)}
    answer = http.post("/processes/nap/execution", json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobID"])


def ids(answer: httpx2.Response) -> set[str]:
    return {job["jobID"] for job in answer.json()["jobs"]}


def test_jobs_are_found_by_their_labels(http: httpx2.Client) -> None:
    flood, both, other = (
        send_labelled(http, "flood"), send_labelled(http, "flood", "area/1_0"), send_labelled(http, "area/100")
    )  # fmt: skip

    assert ids(http.get("/jobs?label=flood")) == {flood, both}
    assert ids(http.get("/jobs?label=area/1_0")) == {both}
    assert ids(http.get("/jobs?label=area/1_0,area/100")) == {both, other}
    assert ids(http.get("/jobs?label=Flood")) == set()
    assert http.get(f"/jobs/{both}").json()["labels"] == ["flood", "area/1_0"]


@pytest.mark.parametrize(
    "labels", [[""], ["a,b"], ["x" * 64], ["-a"], ["a b"], ["ä"], [1], "a", [f"l{n}" for n in range(17)]]
)
def test_what_is_no_label_is_refused(http: httpx2.Client, labels: Any) -> None:
    answer = http.post("/processes/nap/execution", json={"inputs": {"seconds": 0}, "labels": labels})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"].startswith("/labels")


def test_a_filter_that_is_no_label_is_refused(http: httpx2.Client) -> None:
    assert http.get("/jobs?label=a%20b").status_code == 400


def test_a_created_job_gets_other_labels(http: httpx2.Client) -> None:
    body = {"process": "nap", "inputs": {"seconds": 0}, "labels": ["old-one"]}
    job = http.post("/jobs", json=body, headers={"Prefer": 'status="created"'}).json()["jobID"]

    http.patch(f"/jobs/{job}", json={"labels": ["new-one"]})

    assert ids(http.get("/jobs?label=new-one")) == {job}
    assert ids(http.get("/jobs?label=old-one")) == set()


def test_many_jobs_are_dismissed_at_once(http: httpx2.Client) -> None:
    ended = send_labelled(http, "many")
    wait_for(http, ended)
    jobs = [send_labelled(http, "many", seconds=20) for _ in range(120)]
    other = send_labelled(http, "other", seconds=20)
    wait_for(http, jobs[0], "running")

    tried = http.delete("/jobs?label=many&dryRun=true").json()
    done = http.delete("/jobs?label=many").json()

    assert tried == {"matched": 120, "dismissed": 0, "removed": 0, "dryRun": True}
    assert done == {"matched": 120, "dismissed": 120, "removed": 0, "dryRun": False}
    assert {http.get(f"/jobs/{job}").json()["status"] for job in jobs} == {"dismissed"}
    assert http.get(f"/jobs/{ended}").json()["status"] == "successful"
    assert wait_for(http, other, "running")["status"] == "running"
    assert http.delete("/jobs?label=many&status=successful,dismissed").json()["removed"] == 121
    assert http.get(f"/jobs/{ended}").status_code == 410


@pytest.mark.parametrize("query", ["", "?type=process", "?dryRun=true", "?status=", "?nonsense=1", "?limit=5"])
def test_without_a_filter_nothing_is_dismissed(http: httpx2.Client, query: str) -> None:
    job = send(http, "nap", seconds=20)

    assert http.delete(f"/jobs{query}").status_code == 400
    assert http.get(f"/jobs/{job}").json()["status"] in ("accepted", "running")


def test_a_job_that_needs_what_no_machine_has_waits_and_says_so(http: httpx2.Client) -> None:
    job = send(http, "train", name="x")

    assert run(http, "nap", seconds=0).status_code == 200
    status = http.get(f"/jobs/{job}").json()
    assert status["status"] == "accepted"
    assert "process train in version 1.0.0 and gpu; none is there now" in status["message"]


def test_a_machine_that_has_it_runs_it(serve: Any) -> None:
    with client(serve(PROCESSES, env={"GRATICULE_JOBS__LABELS": "big,gpu"})) as http:
        assert run(http, "train", name="x").json() == "trained x"
        assert worker_of(http)["labels"] == ["big", "gpu"]


def test_whoever_runs_the_service_has_the_last_word_on_what_a_process_needs(serve: Any) -> None:
    config = '[processes.train]\nrequires = ""\n[processes.nap]\nrequires = "bed"\n'
    with client(serve(PROCESSES, config=config)) as http:
        job = send(http, "nap", seconds=0)
        assert run(http, "train", name="x").json() == "trained x"
        assert "process nap in version 1.0.0 and bed; none is there now" in http.get(f"/jobs/{job}").json()["message"]


# --- who may ---------------------------------------------------------------------------------------------------------

TOKENS = "\n".join(
    f"""
[[security.tokens]]
actor = "{actor}"
sha256 = "{hashlib.sha256(actor.encode()).hexdigest()}"
{more}
"""
    for actor, more in (
        ("ada", ""),
        ("ben", ""),
        ("olga", 'role = "operator"'),
        ("wim", 'role = "operator"\nworkspaces = ["default"]'),
    )
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "graticule.toml").write_text(TOKENS)
    arguments = [PROCESSES, "--config", str(folder / "graticule.toml")]
    with Server(folder / "home", arguments, environment=ONE_AT_A_TIME) as running:
        yield running


def as_actor(server: Server, name: str) -> httpx2.Client:
    headers = {"Accept": "application/json", "Authorization": f"Bearer {name}"}
    return httpx2.Client(base_url=server.url, timeout=30, trust_env=False, headers=headers)


@pytest.mark.parametrize("actor", ["ada", "wim"])
def test_only_operators_of_the_whole_service_hold_it(guarded: Server, actor: str) -> None:
    with as_actor(guarded, actor) as http:
        answers = [
            http.get("/admin/queue"),
            http.get("/admin/holds"),
            http.put("/admin/holds/queue", json={"action": "pause"}),
            http.delete("/admin/holds/queue"),
        ]

    assert {answer.status_code for answer in answers} == {403}
    assert 'role = "operator"' in answers[0].json()["detail"]
    assert "security.tokens" in answers[0].json()["detail"]


def test_an_operator_acts_on_the_jobs_of_others(guarded: Server) -> None:
    with as_actor(guarded, "ada") as ada, as_actor(guarded, "olga") as olga, as_actor(guarded, "wim") as wim:
        first, second, third = (send(ada, "nap", seconds=20) for _ in range(3))

        assert ada.put(f"/jobs/{third}/priority", json={"priority": 1}).status_code == 403
        assert olga.put(f"/jobs/{third}/priority", json={"priority": 1}).json()["queuePosition"] == 1
        assert wim.delete(f"/jobs/{second}").json()["status"] == "dismissed"
        again = olga.post(f"/jobs/{second}/again").json()["jobID"]
        assert ada.get(f"/jobs/{again}").json()["status"] == "accepted"
        assert olga.delete("/jobs?status=accepted,running").json()["dismissed"] == 3
        assert ada.get(f"/jobs/{first}").json()["status"] == "dismissed"


def test_others_dismiss_only_their_own(guarded: Server) -> None:
    with as_actor(guarded, "ada") as ada, as_actor(guarded, "ben") as ben:
        hers, his = send(ada, "nap", seconds=20), send(ben, "nap", seconds=20)

        done = ben.delete("/jobs?processID=nap").json()

        assert (done["matched"], done["dismissed"]) == (1, 1)
        assert ben.get(f"/jobs/{his}").json()["status"] == "dismissed"
        assert ada.get(f"/jobs/{hers}").json()["status"] in ("accepted", "running")
        assert ben.post(f"/jobs/{hers}/again").status_code == 404
        ada.delete(f"/jobs/{hers}")
