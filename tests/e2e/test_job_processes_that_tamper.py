"""Whatever a process does to what it runs in, no other job has its result, runs twice or fails for it."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.test_jobs import client, run, send, wait_for
from tests.serving import Server

PROCESSES = Path(__file__).with_name("tampering_processes.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one job process at a time."""
    environment = {"GRATICULE_JOBS__WORKERS": "1"}
    with Server(tmp_path_factory.mktemp("jobs") / "home", [str(PROCESSES)], environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with client(server) as found:
        yield found


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    return tmp_path / "marks"


def burst(http: httpx2.Client, marks: Path, ways: list[str], count: int = 80) -> dict[str, tuple[str, dict[str, Any]]]:
    """Send many jobs at once, every fourth of which tampers; return for each how it tampers and how it ended."""
    for number in range(40):  # until such jobs are known to be short
        run(http, "tamper", name=f"before-{number}", marks=str(marks))
    turns = itertools.cycle(ways)
    asked = {f"job-{number}": next(turns) if number % 4 == 3 else "" for number in range(count)}
    with ThreadPoolExecutor(8) as pool:
        sent = list(
            pool.map(lambda item: send(http, "tamper", name=item[0], marks=str(marks), how=item[1]), asked.items())
        )
    ended = [wait_for(http, job, seconds=60) for job in sent]
    return {name: (how, end) for (name, how), end in zip(asked.items(), ended, strict=True)}


@pytest.mark.parametrize(
    "ways",
    [
        ["fork and return", "fork and exit", "fork and raise", "fork and report"],
        ["fork and return", "end"],
        ["steal", "steal in a thread", "fork and steal"],
        ["steal in a thread", "fork and steal", "end", "leave timer"],
    ],
    ids=["forks", "forks and crashes", "thieves", "thieves and crashes"],
)
def test_each_job_runs_once_and_has_its_own_result(http: httpx2.Client, marks: Path, ways: list[str]) -> None:
    ends = burst(http, marks, ways)

    for name, (how, end) in ends.items():
        assert end["status"] == ("failed" if how == "end" else "successful"), (name, how, end)
        if end["status"] == "successful":
            assert http.get(f"/jobs/{end['jobID']}/results").json() == name
    ran = Counter(line for line in marks.read_text().split() if line.startswith("job"))
    assert ran == dict.fromkeys(ends, 1)


@pytest.mark.parametrize(
    "what",
    [
        "timer", "alarm handler", "handler", "mask", "nice", "umask", "folder", "environment", "trace", "locale",
        "limit", "file", "stream", "import", "recursion", "collector", "patience", "path", "modules", "processor",
        "zone",
    ],
)  # fmt: skip
def test_nothing_that_a_job_changes_of_its_process_reaches_the_next(
    http: httpx2.Client, marks: Path, what: str
) -> None:  # fmt: skip
    def look() -> Any:
        return json.loads(run(http, "tamper", name="look", marks=str(marks), how="look").json())

    before = look()
    changed = run(http, "tamper", name="change", marks=str(marks), how=f"leave {what}")

    assert changed.status_code == 200, changed.text
    assert look() == before


@pytest.mark.parametrize("target", ["/dev/null", "/dev/full", "a pipe"])
def test_each_job_has_its_own_log_wherever_the_one_before_has_printed(
    http: httpx2.Client, marks: Path, target: str
) -> None:
    def log_of(how: str) -> str:
        end = wait_for(http, send(http, "tamper", name="one", marks=str(marks), how=how))
        assert end["status"] == "successful", end
        return http.get(f"/jobs/{end['jobID']}/logs/process").text

    assert log_of(f"print to {target}") == "before\n"
    assert [log_of("print to the log") for _ in range(3)] == ["before\n"] * 3


def test_a_job_that_ends_by_a_signal_of_its_own_has_failed(http: httpx2.Client, marks: Path) -> None:
    end = wait_for(http, send(http, "tamper", name="end", marks=str(marks), how="end by a signal"))

    assert end["status"] == "failed"
    assert "ended by SIGTERM" in end["exception"]["detail"]


def test_garbage_from_a_thread_that_outlives_its_job_hurts_nobody(
    http: httpx2.Client, server: Server, marks: Path
) -> None:  # fmt: skip
    ends = burst(http, marks, ["end by garbage"])

    assert {end["status"] for how, end in ends.values() if not how} == {"successful"}
    assert "Traceback" not in server.log


def test_a_plugin_that_forks_when_it_is_loaded_is_loaded_once(serve: Any, tmp_path: Path) -> None:
    plugin = tmp_path / "forking.py"
    plugin.write_text(
        "import os, sys\nfrom graticule import process\n\n"
        "if os.fork() == 0:\n    sys.exit(0)\nos.fork()\n\n"
        '@process\ndef forked(name: str) -> str:\n    """Say it."""\n    return name\n'
    )
    running = serve(str(plugin))
    with client(running) as http:
        assert [run(http, "forked", name=str(number)).json() for number in range(3)] == ["0", "1", "2"]
