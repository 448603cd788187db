"""Whatever goes wrong: the cause, the step, a sentence and a remedy; nothing is left, and the next job is well."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.faults.asking import ended, execute, has_status, leftovers, send, wait_until
from tests.faults.conftest import client_of, full, small_disk
from tests.faults.kills import read_marks
from tests.postgres import Postgres
from tests.serving import Server


class Fault(NamedTuple):
    """What is sent, and what is said of it."""

    process: str
    inputs: dict[str, Any]
    cause: str
    step: str
    says: str
    """Words of the sentence."""
    remedy: str
    """Words of the remedy."""
    limits: dict[str, float] | None = None


def raster(name: str) -> dict[str, Any]:
    return {"raster": {"href": f"SOURCE/{name}"}}


REPROJECTED = {**raster("bare.tif"), "crs": "EPSG:3857"}
FAULTS = {
    "a bad href": Fault("raster-statistics", raster("nothing.tif"), "bad input", "stage-in", "404", "correct"),
    "a truncated raster": Fault(
        "raster-statistics", raster("truncated.tif"), "bad input", "stage-in", "cut short", "correct"
    ),
    "a raster without CRS": Fault("reproject", REPROJECTED, "bad input", "stage-in", "coordinate reference", "correct"),
    "a fetch over size": Fault("raster-statistics", raster("large.tif"), "bad input", "stage-in", "bytes", "correct"),
    "a name that is not resolved": Fault(
        "reading", {"file": {"href": "http://nowhere.invalid/x"}}, "stage-in", "stage-in", "resolved", "try again later"
    ),
    "a fetch that takes too long": Fault(
        "raster-statistics", raster("silent.tif"), "stage-in", "stage-in", "in time", "try again later"
    ),
    "a source that is busy": Fault(
        "raster-statistics", raster("busy.tif"), "stage-in", "stage-in", "503", "try again later"
    ),
    "an exception": Fault("faulty", {"how": "raise"}, "process error", "run", "ValueError: bad luck", "log"),
    "exit(7)": Fault("faulty", {"how": "exit"}, "process error", "run", "exit(7)", "log"),
    "a segmentation fault": Fault("faulty", {"how": "crash"}, "process error", "run", "SIGSEGV", "log"),
    "a job process that is killed": Fault("faulty", {"how": "be killed"}, "lost worker", "run", "SIGKILL", "again"),
    "the memory limit of the process": Fault(
        "hungry", {"mebibytes": 600}, "out of memory", "run", "limit is 300 MiB", "processes.hungry.memory_limit_mib"
    ),
    "the memory limit of the request": Fault(
        "hungry", {"mebibytes": 250}, "out of memory", "run", "limit is 200 MiB",
        "limits.memoryLimitMib (at most 300)", {"memoryLimitMib": 200},
    ),
    "the time limit": Fault(
        "faulty", {"how": "wait"}, "time limit", "run", "time limit of 1 s", "limits.timeLimitS", {"timeLimitS": 1}
    ),
    "the time limit while fetching": Fault(
        "raster-statistics", raster("silent.tif"), "time limit", "stage-in", "time limit of 1 s", "limits.timeLimitS",
        {"timeLimitS": 1},
    ),
    "the disk limit": Fault(
        "hoarding", {"mebibytes": 12}, "disk limit", "run", "limit is 8 MiB", "processes.hoarding.disk_limit_mib"
    ),
    "a full disk": Fault("faulty", {"how": "fill the disk"}, "disk limit", "run", "no space", "graticule dismiss"),
    "the log limit": Fault("chatty", {}, "disk limit", "run", "log is 2 MiB", "processes.chatty.log_limit_mib"),
    "a log that fills the disk": Fault("chatty", {"pause": 0}, "disk limit", "run", "", ""),
    "an undeclared output": Fault("undeclared", {}, "process error", "run", "result", "log"),
    "an output file that is missing": Fault("unwritten", {}, "process error", "stage-out", "never.tif", "log"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_says_what_it_was_and_harms_nothing(
    http: httpx2.Client, faulty: Server, source: str, name: str
) -> None:
    fault = FAULTS[name]
    inputs = json.loads(json.dumps(fault.inputs).replace("SOURCE", source))

    job = send(http, fault.process, fault.limits, **inputs)

    status = ended(http, job)
    problem = status["exception"]
    assert status["status"] == "failed"
    assert (problem["cause"], problem["step"]) == (fault.cause, fault.step), problem
    assert fault.says in json.dumps([problem["detail"], problem.get("errors")])
    assert fault.remedy in problem["remedy"]
    assert "Traceback" not in json.dumps(problem)
    results = http.get(f"/jobs/{job}/results")
    assert (results.status_code, results.json()["cause"]) == (problem["status"], fault.cause)
    wait_until(lambda: not leftovers(faulty.home))
    assert execute(http, "faulty", how="not at all").json() == "nothing went wrong"
    assert execute(http, "well").json() == "well"


def test_the_last_lines_of_the_log_are_in_the_problem(http: httpx2.Client) -> None:
    problem = ended(http, send(http, "faulty", how="raise"))["exception"]

    assert problem["log"] == ["about to raise"]


def test_the_page_of_a_job_says_the_cause_and_what_to_change(http: httpx2.Client) -> None:
    job = send(http, "faulty", {"timeLimitS": 1}, how="wait")
    ended(http, job)

    page = http.get(f"/jobs/{job}", params={"f": "html"}).text

    assert "Job failed: time limit" in page
    assert "ask for a larger limits.timeLimitS" in page


def test_no_secret_is_in_the_problem(http: httpx2.Client) -> None:
    status = ended(http, send(http, "faulty", how="tell secrets"))

    told = json.dumps(status)
    assert not [secret for secret in ("hunter2", "abcdefghij", "0123abcd") if secret in told]
    assert "example.org/x.tif" in told


def test_a_stack_trace_is_in_the_log(http: httpx2.Client) -> None:
    job = send(http, "faulty", how="raise")
    ended(http, job)

    log = http.get(f"/jobs/{job}/logs/process").text

    assert "Traceback (most recent call last)" in log
    assert "bad luck" in log


def test_a_private_address_is_refused_before_there_is_a_job(server: Server) -> None:
    with client_of(server) as http:
        answer = execute(http, "raster-statistics", raster={"href": "http://127.0.0.1/x.tif"})

    assert answer.status_code == 400
    assert "private address" in answer.json()["errors"][0]["detail"]


def test_more_than_the_process_may_have_is_refused_before_there_is_a_job(http: httpx2.Client) -> None:
    body = {"inputs": {"mebibytes": 1}, "limits": {"memoryLimitMib": 301, "timeLimitS": 0}}

    answer = http.post("/processes/hungry/execution", json=body)

    assert answer.status_code == 400
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/limits/timeLimitS", "/limits/memoryLimitMib"]


def test_a_job_that_asks_for_what_it_needs_is_well(http: httpx2.Client) -> None:
    body = {"inputs": {}, "limits": {"memoryLimitMib": 200, "timeLimitS": 10, "diskLimitMib": 5, "logLimitMib": 1}}

    assert http.post("/processes/well/execution", json=body).json() == "well"


def test_a_dismissed_job_leaves_nothing(http: httpx2.Client, faulty: Server) -> None:
    job = send(http, "faulty", how="wait")
    wait_until(lambda: leftovers(faulty.home))

    http.delete(f"/jobs/{job}")

    wait_until(lambda: not leftovers(faulty.home), seconds=10)
    assert http.get(f"/jobs/{job}").json()["status"] == "dismissed"
    results = http.get(f"/jobs/{job}/results")
    assert (results.status_code, results.json()["type"].rpartition("/")[2]) == (404, "result-not-available")
    assert execute(http, "faulty", how="not at all").json() == "nothing went wrong"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A server of this test alone, with a plug-in that can be spoilt."""
    shutil.copy(Path(__file__).with_name("faulty.py"), tmp_path / "plugin.py")
    with Server(tmp_path / "home", [str(tmp_path / "plugin.py")], environment={"GRATICULE_JOBS__WORKERS": "1"}) as one:
        yield one


def test_a_plugin_that_cannot_be_imported_any_more_says_so(own: Server, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    whole = plugin.read_text()
    with client_of(own) as http:
        plugin.write_text("import nothing_of_that_name\n")
        problem = ended(http, send(http, "well"))["exception"]
        plugin.write_text(whole)

        assert problem["cause"] == "plug-in"
        assert "nothing_of_that_name" in problem["detail"]
        assert "whoever runs this service" in problem["remedy"]
        assert not leftovers(own.home)
        assert execute(http, "well").json() == "well"


def test_outputs_that_storage_refuses_fail_the_job_and_leave_nothing(own: Server) -> None:
    jobs = own.home / "storage" / "default" / "jobs"
    jobs.parent.mkdir(parents=True, exist_ok=True)
    with client_of(own) as http:
        jobs.write_text("in the way")
        job = send(http, "filed")
        problem = ended(http, job, seconds=60)["exception"]  # it is tried again for half a minute
        jobs.unlink()

        assert (problem["cause"], problem["step"]) == ("stage-out", "stage-out")
        assert "cannot be stored" in problem["detail"]
        assert "whoever runs this service" in problem["remedy"]
        assert not leftovers(own.home)
        assert ended(http, send(http, "filed"))["status"] == "successful"


def test_no_job_is_taken_or_begun_on_a_full_disk_and_none_is_lost(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    arguments = [str(Path(__file__).with_name("faulty.py"))]
    environment = {"GRATICULE_STORAGE__MIN_FREE_MIB": "2", "GRATICULE_JOBS__WORKERS": "1"}
    with (
        small_disk(disk),
        Server(disk / "home", arguments, environment=environment) as server,
        client_of(server) as http,
    ):
        assert execute(http, "well").json() == "well"
        runs = send(http, "echo", message="still there", pause=4)
        waits = [send(http, "filed") for _ in range(3)]
        with full(disk, server):
            if os.geteuid() == 0:  # else only files of jobs cannot grow
                wait_until(lambda: not http.get("/health").json()["parts"]["disk"]["ok"])
                time.sleep(1)
                assert execute(http, "well").status_code == 503
                refused = http.post("/processes/filed/execution", json={}, headers={"Prefer": "respond-async"})
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) > 0
                assert "the disk of the home has" in refused.json()["detail"]
                assert "the disk of the home has" in http.get("/health").json()["parts"]["disk"]["reason"]
                upload = http.post("/files", params={"name": "a.bin"}, content=b"abc")
                assert upload.status_code == 503
                assert int(upload.headers["retry-after"]) > 0
                assert upload.json()["detail"] == refused.json()["detail"]
                ended(http, runs)
                time.sleep(1)
                status = http.get(f"/jobs/{waits[0]}").json()
                assert status["status"] == "accepted"
                assert "the disk of the home has" in status["message"]

        assert [ended(http, job)["status"] for job in waits] == ["successful"] * 3
        assert execute(http, "well").json() == "well"
        assert not leftovers(server.home)


def test_a_job_whose_log_has_filled_the_disk_says_how_to_free_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    arguments = [str(Path(__file__).with_name("faulty.py"))]
    environment = {"GRATICULE_STORAGE__MIN_FREE_MIB": "2", "GRATICULE_JOBS__LOG_LIMIT_MIB": "40"}
    with (
        small_disk(disk),
        Server(disk / "home", arguments, environment=environment) as server,
        client_of(server) as http,
    ):
        job = send(http, "chatty", pause=0)

        problem = ended(http, job, seconds=60)["exception"]
        if os.geteuid() == 0:  # else it is its own limit that the log meets
            wait_until(lambda: execute(http, "well").status_code == 503)
            refused = execute(http, "well")
            assert "graticule dismiss" in problem["remedy"]
            assert "graticule dismiss" in refused.json()["detail"]
        http.delete(f"/jobs/{job}")

        assert problem["cause"] == "disk limit"
        wait_until(lambda: execute(http, "well").status_code == 200)


def _lacking(parts: dict[str, Any]) -> bool:
    """Whether health tells that the disk is full: what writes met it, or it was seen to have no room."""
    ledger, disk = parts["ledger"], parts["disk"]
    return "jobs cannot be kept" in ledger.get("reason", "") or "has 0 MiB left" in disk.get("reason", "")


def test_a_ledger_on_a_full_disk_takes_no_job_and_loses_none(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    environment = {"GRATICULE_STORAGE__MIN_FREE_MIB": "0"}
    with small_disk(disk), Server(disk / "home", environment=environment) as server, client_of(server) as http:
        taken, refused = [], None
        with full(disk, server, whole=True):
            for _ in range(2000):
                answer = http.post(
                    "/processes/hello-world/execution",
                    json={"inputs": {"name": "x" * 900}},
                    headers={"Prefer": "respond-async"},
                )
                if answer.status_code != 201:
                    refused = answer
                    break
                taken.append(answer.headers["location"].rsplit("/", 1)[1])
            assert refused is not None
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert re.search("cannot be written|has 0 MiB left", refused.json()["detail"])  # whichever is seen first
            wait_until(lambda: _lacking(http.get("/health").json()["parts"]))
            assert http.get(f"/jobs/{taken[0]}").status_code == 200

        assert execute(http, "hello-world", name="again").status_code == 200
        assert {ended(http, job)["status"] for job in taken} == {"successful"}
        assert len(http.get("/jobs", params={"limit": 1000}).json()["jobs"]) == len(taken) + 1
        wait_until(lambda: not _lacking(http.get("/health").json()["parts"]), seconds=20)


def test_an_upload_to_a_full_disk_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    environment = {"GRATICULE_STORAGE__MIN_FREE_MIB": "0"}
    tus = {"Tus-Resumable": "1.0.0"}
    part = {**tus, "Content-Type": "application/offset+octet-stream"}
    with small_disk(disk), Server(disk / "home", environment=environment) as server, client_of(server) as http:
        announced = {**tus, "Upload-Length": "300000"}
        begun = http.post("/files", headers=announced).headers["location"]
        first = http.patch(begun, content=b"a" * 4096, headers={**part, "Upload-Offset": "0"})
        assert first.status_code == 204
        before = staged(server.home)
        with full(disk, server, whole=True):
            whole = http.post("/files", params={"name": "a.bin"}, content=b"x" * 300_000)
            form = http.post("/files", files={"file": ("a.bin", b"x" * 300_000)})
            with_first = http.post("/files", content=b"x" * 3000, headers={**announced, **part})
            next_part = http.patch(begun, content=b"b" * 295_904, headers={**part, "Upload-Offset": "4096"})
            for answer in (whole, form, with_first, next_part):
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["retry-after"]) > 0
                assert "disk" in answer.json()["detail"]
            assert staged(server.home) == before
            at = int(http.head(begun, headers=tus).headers["upload-offset"])
        rest = {**part, "Upload-Offset": str(at)}
        wait_until(lambda: http.patch(begun, content=b"b" * (300_000 - at), headers=rest).status_code == 204)

        assert http.get(begun).content == b"a" * 4096 + b"b" * 295_904
        assert [one["name"] for one in http.get("/files").json()["files"] if not one.get("sample")] == ["upload"]
        assert "Traceback" not in server.log


def staged(home: Path) -> list[str]:
    """Return the names of what is being uploaded to the default workspace of a server."""
    return sorted(path.name for path in (home / "storage" / ".staging" / "default").iterdir())


def test_a_server_that_is_killed_runs_its_job_again(tmp_path: Path) -> None:
    arguments = [str(Path(__file__).with_name("faulty.py"))]
    first = Server(tmp_path / "home", arguments).start()
    try:
        with client_of(first) as http:
            job = send(http, "faulty", {"timeLimitS": 2}, how="wait")
            has_status(http, job, "running")
            wait_until(lambda: leftovers(first.home))
    finally:
        first.process.kill()
        first.process.wait()

    with Server(tmp_path / "home", arguments) as second, client_of(second) as http:
        problem = ended(http, job)["exception"]

        assert problem["cause"] == "time limit"
        wait_until(lambda: not leftovers(second.home))
        assert execute(http, "well").json() == "well"


def test_a_job_whose_server_is_killed_too_often_is_a_lost_one(tmp_path: Path) -> None:
    arguments, once = [str(Path(__file__).with_name("faulty.py"))], {"GRATICULE_JOBS__MAX_ATTEMPTS": "1"}
    first = Server(tmp_path / "home", arguments, environment=once).start()
    try:
        with client_of(first) as http:
            job = send(http, "faulty", how="wait")
            wait_until(lambda: leftovers(first.home))
    finally:
        first.process.kill()
        first.process.wait()

    with Server(tmp_path / "home", arguments, environment=once) as second, client_of(second) as http:
        problem = ended(http, job)["exception"]

        assert (problem["cause"], problem["step"]) == ("lost worker", "run")
        assert "server was stopped" in problem["detail"]
        assert "send the job again" in problem["remedy"]
        wait_until(lambda: not leftovers(second.home))
        assert execute(http, "well").json() == "well"


def test_whoever_waits_for_a_job_while_the_database_goes_is_told_where_it_is(tmp_path: Path) -> None:
    marks, marking = tmp_path / "marks", Path(__file__).with_name("marking.py")
    with Postgres() as postgres, ThreadPoolExecutor(1) as pool:
        settings = {"GRATICULE_DATABASE__URL": postgres.new_database(), "GRATICULE_SERVER__SYNC_LIMIT_S": "2"}
        with Server(tmp_path / "home", [str(marking)], environment=settings) as server, client_of(server) as http:
            waiting = pool.submit(execute, http, "marking", name="one", seconds=3, marks=str(marks))
            wait_until(marks.exists)

            postgres.kill()
            answer = waiting.result()
            postgres.start()

            assert answer.status_code == 201, answer.text
            assert ended(http, answer.json()["jobID"])["status"] == "successful"
            assert [entry.what for entry in read_marks(marks)["one"] if entry.what != "beat"] == ["begin", "end"]
            assert [job["type"] for job in http.get("/jobs").json()["jobs"]] == ["process"]


def test_what_ends_while_the_database_is_gone_for_longer_than_a_lease_is_not_begun_again(tmp_path: Path) -> None:
    marks, marking = tmp_path / "marks", Path(__file__).with_name("marking.py")
    with Postgres() as postgres, ExitStack() as stack:
        settings = {
            "GRATICULE_DATABASE__URL": postgres.new_database(),
            "GRATICULE_STORAGE__FOLDER": str(tmp_path / "storage"),
            "GRATICULE_JOBS__LEASE_S": "6",
            "GRATICULE_JOBS__WORKERS": "3",
        }
        several = [
            stack.enter_context(Server(tmp_path / name, [str(marking)], environment=settings)) for name in ("a", "b")
        ]
        http = stack.enter_context(client_of(several[0]))
        jobs = [send(http, "marking", name=f"job-{number}", seconds=1.5, marks=str(marks)) for number in range(6)]
        wait_until(lambda: marks.exists() and len(read_marks(marks)) == len(jobs))

        postgres.kill()
        time.sleep(8)
        postgres.start()

        assert [ended(http, job)["status"] for job in jobs] == ["successful"] * len(jobs)
        begun = {name: [entry.what for entry in entries].count("begin") for name, entries in read_marks(marks).items()}
        assert begun == {f"job-{number}": 1 for number in range(6)}


def test_a_database_that_is_gone_for_a_while_loses_no_job(tmp_path: Path) -> None:
    marks, marking = tmp_path / "marks", Path(__file__).with_name("marking.py")
    with Postgres() as postgres:
        settings = {"GRATICULE_DATABASE__URL": postgres.new_database(), "GRATICULE_JOBS__WORKERS": "1"}
        with Server(tmp_path / "home", [str(marking)], environment=settings) as server, client_of(server) as http:
            jobs = [send(http, "marking", name=name, seconds=0.5, marks=str(marks)) for name in ("runs", "waits")]
            wait_until(marks.exists)

            postgres.kill()
            time.sleep(1)  # the first one ends meanwhile
            refused = execute(http, "marking", "respond-async", name="refused", seconds=0, marks=str(marks))
            asked = time.monotonic()
            reading = http.get(f"/jobs/{jobs[0]}")
            waited, ready = time.monotonic() - asked, http.get("/health/ready")
            postgres.start()

            for answer in (refused, reading):
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) > 0
            assert "cannot be written" in refused.json()["detail"]
            assert "cannot be read" in reading.json()["detail"]
            assert waited < 3, "it is known that nobody answers"
            for answer in (refused, reading, ready):
                assert not re.search(rf"\b{postgres.port}\b|127\.0\.0\.1", answer.text)
            assert f"port {postgres.port}" in server.log, "whoever runs the service is told where"
            assert not ready.json()["parts"]["ledger"]["ok"]
            assert ready.json()["parts"]["ledger"]["reason"]
            assert [ended(http, job)["status"] for job in jobs] == ["successful"] * 2
            assert {name for name, entries in read_marks(marks).items() if entries[-1].what == "end"} == {
                "runs", "waits"
            }  # fmt: skip
            assert not leftovers(server.home)
            job = send(http, "marking", name="next", seconds=0, marks=str(marks))
            assert ended(http, job)["status"] == "successful"
            wait_until(lambda: http.get("/health/ready").status_code == 200, seconds=10)
