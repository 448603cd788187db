"""Jobs from sending to their end, whatever their process does."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.serving import Server

PROCESSES = Path(__file__).with_name("job_processes.py")
RESULTS = "http://www.opengis.net/def/rel/ogc/1.0/results"
LOG = "http://www.opengis.net/def/rel/ogc/1.0/log"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the processes of ``job_processes.py``, on each kind of ledger."""
    environment = {}
    if request.param == "postgresql":
        environment["GRATICULE_DATABASE__URL"] = request.getfixturevalue("postgres").new_database()
    with Server(tmp_path_factory.mktemp("jobs") / "home", [str(PROCESSES)], environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with client(server) as found:
        yield found


def client(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, timeout=30, trust_env=False, headers={"Accept": "application/json"})


def run(http: httpx2.Client, process: str, prefer: str = "", **inputs: Any) -> httpx2.Response:
    headers = {"Prefer": prefer} if prefer else {}
    return http.post(f"/processes/{process}/execution", json={"inputs": inputs}, headers=headers)


def send(http: httpx2.Client, process: str, **inputs: Any) -> str:
    answer = run(http, process, "respond-async", **inputs)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobID"])


def wait_for(http: httpx2.Client, job: str, *statuses: str, seconds: float = 30) -> dict[str, Any]:
    """Ask until a job has one of some statuses (default: until it has ended)."""
    wanted = statuses or ("successful", "failed", "dismissed")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status: dict[str, Any] = http.get(f"/jobs/{job}").json()
        if status["status"] in wanted:
            return status
        time.sleep(0.02)
    raise AssertionError(f"job {job} did not become {wanted}: {status}")


def log_of(http: httpx2.Client, job: str) -> str:
    links = http.get(f"/jobs/{job}").json()["links"]
    (href,) = {link["href"] for link in links if link.get("title", "").startswith("Tool log")}
    return http.get(href).text


def test_a_job_reports_progress_while_it_runs(http: httpx2.Client) -> None:
    job = send(http, "nap", seconds=1.5)

    seen = set()
    while (status := http.get(f"/jobs/{job}").json())["status"] == "running":
        seen.add((status["progress"], status.get("message")))
        time.sleep(0.05)

    assert {(30, "step 3"), (60, "step 6")} <= seen
    assert status["progress"] == 100


def test_a_successful_job_links_its_results(http: httpx2.Client) -> None:
    job = send(http, "nap", seconds=0.1)

    status = wait_for(http, job)
    (href,) = [link["href"] for link in status["links"] if link["rel"] == RESULTS]

    assert http.get(href).json() == "rested"


def test_a_sync_request_that_takes_too_long_becomes_a_job(http: httpx2.Client) -> None:
    answer = run(http, "nap", "wait=1", seconds=3)

    assert answer.status_code == 201
    assert wait_for(http, answer.headers["location"].rsplit("/", 1)[-1])["status"] == "successful"


def test_a_process_that_runs_only_synchronously_is_dismissed_when_it_takes_too_long(http: httpx2.Client) -> None:
    answer = run(http, "only-now", "wait=1", seconds=60)

    assert answer.status_code == 504
    assert http.get("/jobs", params={"processID": "only-now", "limit": 1}).json()["jobs"][0]["status"] == "dismissed"


def test_a_process_that_runs_only_asynchronously_answers_201(http: httpx2.Client) -> None:
    answer = run(http, "only-later", word="x")

    assert answer.status_code == 201


def test_a_client_that_hangs_up_dismisses_its_job(http: httpx2.Client, server: Server) -> None:
    with pytest.raises(httpx2.TimeoutException), client(server) as impatient:
        impatient.post("/processes/nap/execution", json={"inputs": {"seconds": 30}}, timeout=0.8)

    (job,) = http.get("/jobs", params={"processID": "nap", "limit": 1}).json()["jobs"]
    assert wait_for(http, job["jobID"], seconds=4)["status"] == "dismissed"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("raise", "ValueError: bad luck"),
        ("exit", "exit(7)"),
        ("_exit", "exit code 7"),
        ("segfault", "segmentation fault"),
        ("undeclared", "result"),
    ],
)
def test_a_failure_says_why_and_keeps_the_log(http: httpx2.Client, how: str, words: str) -> None:
    job = send(http, "crash", how=how)

    status = wait_for(http, job)
    results = http.get(f"/jobs/{job}/results")

    assert status["status"] == "failed"
    assert words in status["exception"]["detail"]
    assert results.status_code == 500
    assert words in results.json()["detail"]
    assert log_of(http, job).startswith(f"about to {how}\n")
    assert run(http, "crash", how="not at all").json() == "not at all"


def test_dismissing_kills_the_process_and_all_below_it(http: httpx2.Client, tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    job = send(http, "stubborn", heartbeat=str(heartbeat))
    while not heartbeat.exists():
        time.sleep(0.05)

    dismissed = http.delete(f"/jobs/{job}")
    time.sleep(3)
    beat = heartbeat.read_text()
    time.sleep(0.3)

    assert (dismissed.status_code, dismissed.json()["status"]) == (200, "dismissed")
    assert heartbeat.read_text() == beat
    assert http.get(f"/jobs/{job}").json()["status"] == "dismissed"


def test_a_waiting_job_that_is_dismissed_never_starts(serve: Any, tmp_path: Path) -> None:
    running = serve(str(PROCESSES), env={"GRATICULE_JOBS__WORKERS": "1"})
    with client(running) as http:
        first = send(http, "nap", seconds=1)
        second = send(http, "stubborn", heartbeat=str(tmp_path / "heartbeat"))

        http.delete(f"/jobs/{second}")
        wait_for(http, first)
        time.sleep(0.5)

        assert not (tmp_path / "heartbeat").exists()
        assert "started" not in http.get(f"/jobs/{second}").json()


def test_of_a_burst_each_job_runs_once_unless_it_is_dismissed_before(http: httpx2.Client, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    for number in range(60):  # until such jobs are known to be short
        run(http, "mark", name=f"before-{number}", marks=str(marks))
    marks.write_text("")

    def burst(part: int) -> list[tuple[str, str, bool]]:
        sent = []
        for number in range(30):
            name = f"{part}-{number}"
            seconds = 0.2 if number == 15 else 0.0
            job = send(http, "mark", name=name, marks=str(marks), seconds=seconds)
            dismissed = number % 5 == 4
            if dismissed:
                http.delete(f"/jobs/{job}")
            sent.append((name, job, dismissed))
        return sent

    with ThreadPoolExecutor(4) as pool:
        sent = [entry for part in pool.map(burst, range(4)) for entry in part]

    ran = Counter(marks.read_text().split())
    for name, job, dismissed in sent:
        answer = http.get(f"/jobs/{job}")
        status = answer.json()["status"] if answer.status_code == 200 else "removed"
        if not dismissed:
            assert wait_for(http, job)["status"] == "successful"
        elif status == "dismissed" and "started" not in answer.json():
            assert ran[name] == 0
    ran = Counter(marks.read_text().split())
    assert all(ran[name] == 1 for name, _, dismissed in sent if not dismissed)
    assert max(ran.values()) == 1
    assert run(http, "mark", name="after", marks=str(marks)).json() == "after"


def test_a_second_delete_removes_the_job_and_its_results(http: httpx2.Client) -> None:
    job = send(http, "nap", seconds=0.1)
    wait_for(http, job)

    removed = http.delete(f"/jobs/{job}")

    assert (removed.status_code, removed.json()["status"]) == (200, "dismissed")
    assert http.get(f"/jobs/{job}").status_code == 410
    assert http.get(f"/jobs/{job}/results").status_code == 410


def test_what_is_printed_is_in_the_log_of_its_own_job(http: httpx2.Client) -> None:
    first, second = send(http, "chatter", lines=3), send(http, "chatter", lines=1)
    for job in (first, second):
        wait_for(http, job)

    assert log_of(http, first) == "line 0\nline 1\nline 2\na child's line\n"
    assert log_of(http, second) == "line 0\na child's line\n"


def test_a_job_that_prints_nothing_has_an_empty_log(http: httpx2.Client) -> None:
    job = send(http, "only-later", word="hush")
    wait_for(http, job)

    links = [link for link in http.get(f"/jobs/{job}").json()["links"] if link.get("title") == "Tool log process.log"]
    log = http.get(links[0]["href"])

    assert {link["rel"] for link in links} == {LOG, "related"}
    assert (log.status_code, log.content) == (200, b"")
    assert log.headers["content-type"] == "text/plain; charset=utf-8"
    assert log.headers["content-length"] == "0"


def test_a_running_job_has_a_log_before_it_prints(http: httpx2.Client) -> None:
    job = send(http, "nap", seconds=2)
    wait_for(http, job, "running")

    assert log_of(http, job) == ""


def test_a_job_that_has_not_started_has_no_log(serve: Any) -> None:
    running = serve(str(PROCESSES), env={"GRATICULE_JOBS__WORKERS": "1"})
    with client(running) as http:
        send(http, "nap", seconds=30)
        waiting = send(http, "nap", seconds=30)

        titles = [link.get("title", "") for link in http.get(f"/jobs/{waiting}").json()["links"]]

        assert not [title for title in titles if title.startswith("Tool log")]
        assert http.get(f"/jobs/{waiting}/logs/process").status_code == 404


def test_a_process_may_close_its_standard_output(http: httpx2.Client) -> None:
    job = send(http, "tight-lipped")

    assert wait_for(http, job)["status"] == "successful"
    assert log_of(http, job) == "the last word\n"
    assert run(http, "tight-lipped").json() == "closed"


def test_a_job_process_has_a_clean_environment(serve: Any) -> None:
    running = serve(str(PROCESSES), env={"GRATICULE_JOBS__WORKERS": "1", "GRATICULE_SERVER__TITLE": "not for jobs"})
    with client(running) as http:
        environment = run(http, "who-am-i").json()["environment"]

    assert not [name for name in environment if name.startswith("GRATICULE")]


def test_a_job_process_is_used_again_but_a_fresh_one_is_not(serve: Any) -> None:
    running = serve(str(PROCESSES), env={"GRATICULE_JOBS__WORKERS": "1"})
    with client(running) as http:
        again = {run(http, "who-am-i").json()["pid"] for _ in range(3)}
        new = {run(http, "always-new").json() for _ in range(3)}

    assert (len(again), len(new)) == (1, 3)


def test_nothing_that_a_job_leaves_meets_the_next_one(serve: Any) -> None:
    running = serve(str(PROCESSES), env={"GRATICULE_JOBS__WORKERS": "1"})
    with client(running) as http:
        found = [run(http, "litter", name=name).json() for name in ("a", "b")]

    assert found == [["tmp", ""], ["tmp", ""]]  # the folder for temporary files, which is empty each time


def test_a_job_above_its_memory_limit_is_stopped_and_says_so(serve: Any) -> None:
    running = serve(str(PROCESSES), env={"GRATICULE_JOBS__MEMORY_LIMIT_MIB": "300"})
    with client(running) as http:
        status = wait_for(http, send(http, "hungry", megabytes=600), seconds=15)

    assert status["status"] == "failed"
    assert "its limit is 300 MiB" in status["exception"]["detail"]


def test_a_job_above_its_disk_limit_is_stopped_and_says_so(serve: Any) -> None:
    running = serve(str(PROCESSES), env={"GRATICULE_JOBS__DISK_LIMIT_MIB": "10"})
    with client(running) as http:
        status = wait_for(http, send(http, "hoard", megabytes=20), seconds=8)

    assert status["status"] == "failed"
    assert "their limit is 10 MiB" in status["exception"]["detail"]
    assert not list((running.home / "scratch" / "jobs").iterdir())


def test_nothing_that_a_finished_job_started_goes_on(http: httpx2.Client, tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"

    assert run(http, "orphan", heartbeat=str(heartbeat)).json() == "gone"
    time.sleep(1)
    beat = heartbeat.read_text()
    time.sleep(0.3)

    assert heartbeat.read_text() == beat


def test_a_job_above_its_time_limit_is_stopped_and_says_so(serve: Any) -> None:
    running = serve(str(PROCESSES), env={"GRATICULE_JOBS__TIME_LIMIT_S": "1"})
    with client(running) as http:
        status = wait_for(http, send(http, "nap", seconds=30), seconds=8)

    assert status["status"] == "failed"
    assert "time limit of 1 s" in status["exception"]["detail"]


def test_jobs_survive_a_server_that_is_killed(tmp_path: Path) -> None:
    environment = {"GRATICULE_JOBS__WORKERS": "1"}
    first = Server(tmp_path / "home", [str(PROCESSES)], environment=environment)
    first.start()
    with client(first) as http:
        running, waiting = send(http, "nap", seconds=2), send(http, "nap", seconds=0.1)
        wait_for(http, running, "running")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()

    with Server(tmp_path / "home", [str(PROCESSES)], environment=environment) as second, client(second) as http:
        assert wait_for(http, running)["status"] == "successful"
        assert wait_for(http, waiting)["status"] == "successful"


def test_a_second_server_on_the_same_home_is_refused_with_the_first_ones_pid(server: Server, tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "graticule", "serve", "--home", str(server.home), "--port", "0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    assert refused.returncode != 0
    assert str(server.process.pid) in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_large_result_is_a_file_with_ranges_and_a_checksum(http: httpx2.Client) -> None:
    body = {"inputs": {"megabytes": 3, "kind": "application/x-test"}}
    answer = http.post("/processes/big/execution", json=body, headers={"Accept": "*/*"})
    (job,) = http.get("/jobs", params={"processID": "big", "limit": 1}).json()["jobs"]
    output = f"/jobs/{job['jobID']}/results/result"

    part = http.get(output, headers={"Range": "bytes=256-511", "Accept": "*/*"})
    same = http.get(output, headers={"If-None-Match": part.headers["etag"], "Accept": "*/*"})

    assert len(answer.content) == 3 << 20
    assert (part.status_code, part.content) == (206, bytes(range(256)))
    assert part.headers["content-range"] == f"bytes 256-511/{3 << 20}"
    assert same.status_code == 304


def test_a_result_file_keeps_its_name_in_any_script(http: httpx2.Client) -> None:
    job = send(http, "named", name='高 "1".bin')
    wait_for(http, job)

    answer = http.get(f"/jobs/{job}/results/result", headers={"Accept": "*/*"})

    assert (answer.status_code, answer.content) == (200, b"content")
    assert "filename*=UTF-8''%E9%AB%98%20%221%22.bin" in answer.headers["content-disposition"]


def test_a_large_value_in_a_results_document_is_linked_unless_it_is_asked_for_inline(http: httpx2.Client) -> None:
    job = send(http, "big", megabytes=3, kind="application/x-test")
    wait_for(http, job)
    profile = {"Accept-Profile": "<https://www.opengis.net/def/profile/OGC/0/ogc-results>"}

    linked = http.get(f"/jobs/{job}/results", headers=profile).json()["result"]
    inline = http.get(f"/jobs/{job}/results", headers={**profile, "Prefer": "return=representation"}).json()["result"]

    assert linked["href"].endswith(f"/jobs/{job}/results/result")
    assert (inline["encoding"], inline["mediaType"]) == ("base64", "application/x-test")
    assert len(inline["value"]) == (3 << 20) // 3 * 4


def test_no_job_exists_for_a_request_that_was_refused(http: httpx2.Client) -> None:
    before = [job["jobID"] for job in http.get("/jobs").json()["jobs"]]

    refused = run(http, "nap", "respond-async", seconds="long", other=1)

    assert refused.status_code == 400
    assert {fault["pointer"] for fault in refused.json()["errors"]} == {"/inputs/seconds", "/inputs/other"}
    assert [job["jobID"] for job in http.get("/jobs").json()["jobs"]] == before


def test_a_python_that_does_not_exist_costs_only_its_own_process(serve: Any) -> None:
    running = serve(str(PROCESSES), config='[processes.nap]\npython = "/nope/python"\n')
    with client(running) as http:
        refused, other = run(http, "nap", seconds=1), run(http, "only-now", seconds=0)

    assert (refused.status_code, other.status_code) == (404, 200)


def test_a_number_that_no_float_holds_is_refused(http: httpx2.Client) -> None:
    body = b'{"inputs": {"seconds": 1e400}}'
    answer = http.post("/processes/nap/execution", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 400


def test_nothing_of_a_refused_execution_stays(http: httpx2.Client, server: Server) -> None:
    http.get("/files/samples/fields.geojson")
    body = {"inputs": {"raster": {"value": "SUkqAA==", "mediaType": "image/tiff; application=geotiff"}}}

    refused = http.post("/processes/raster-statistics/execution", json=body)
    kept = {path.name for path in (server.home / "storage" / "default" / "jobs").glob("*")}
    listed = {job["jobID"] for job in http.get("/jobs", params={"limit": 1000}).json()["jobs"]}

    assert refused.status_code == 400
    assert kept <= listed
    assert not list((server.home / "scratch" / "jobs").glob("*.kept"))


def test_every_process_of_a_server_ends_with_it(tmp_path: Path) -> None:
    running = Server(tmp_path / "home", [str(PROCESSES)])
    running.start()
    with client(running) as http:
        pid = run(http, "who-am-i").json()["pid"]
        send(http, "nap", seconds=30)

    running.stop()

    assert not Path(f"/proc/{pid}").exists()
    assert running.process.returncode == 0
