"""A real server whose jobs run on a Dask cluster: its own, or one of real processes that a test may kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.conftest import Serve
from tests.dask_cluster import ALL, DaskCluster, kill, only_in_test_all
from tests.faults.asking import beats, ended, execute, has_status, leftovers, send, wait_until
from tests.faults.conftest import FAULTY, client_of
from tests.postgres import Postgres
from tests.serving import Server, Worker

PROCESSES = Path(__file__).with_name("job_processes.py")
LARGE_MIB = 2000 if ALL else 50
SILENT_S = 3.0
"""Within this a dismissed job is silent."""


@pytest.fixture(scope="module")
def lasting_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster


@pytest.fixture
def cluster(lasting_cluster: DaskCluster) -> DaskCluster:
    """A scheduler and one worker that a test may kill."""
    lasting_cluster.mend()
    return lasting_cluster


def on(cluster: DaskCluster, **more: str) -> dict[str, str]:
    """Return the settings of a server that uses a cluster."""
    return {
        "GRATICULE_JOBS__EXECUTOR": "dask",
        "GRATICULE_JOBS__DASK_SCHEDULER": cluster.address,
        "GRATICULE_JOBS__GRACE_S": "0",
        "GRATICULE_JOBS__LEASE_S": "6",
        **more,
    }


def executor_of(http: httpx2.Client) -> dict[str, Any]:
    """Return what the server says about its executor."""
    part: dict[str, Any] = http.get("/health").json()["parts"]["executor"]
    return part


def below(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return what runs below a Dask worker."""
    return psutil.Process(process.pid).children(recursive=True)


def lives(process: psutil.Process) -> bool:
    """Return whether a process goes on; one that has ended may wait for somebody to notice."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_jobs_run_on_a_cluster_of_the_servers_own(serve: Serve) -> None:
    with client_of(serve(str(FAULTY), env={"GRATICULE_JOBS__EXECUTOR": "dask"})) as http:
        assert executor_of(http) == {"ok": True}
        assert execute(http, "hello-world", name="Ada").json() == "Hello Ada!"
        job = send(http, "filed")
        assert ended(http, job)["status"] == "successful"
        assert len(http.get(f"/jobs/{job}/results/result", headers={"Accept": "*/*"}).content) == 1 << 20


def test_a_job_elsewhere_is_followed_stopped_and_silent_within_three_seconds(
    cluster: DaskCluster, serve: Serve, tmp_path: Path
) -> None:
    heartbeat = tmp_path / "heartbeat"
    server = serve(str(PROCESSES), str(FAULTY), env=on(cluster))
    with client_of(server) as http:
        napping = send(http, "nap", seconds=5)
        has_status(http, napping, "running")
        wait_until(lambda: http.get(f"/jobs/{napping}").json().get("message") == "step 1", seconds=10)
        wait_until(lambda: http.get(f"/jobs/{napping}").json().get("message") == "step 2", seconds=10)
        assert http.delete(f"/jobs/{napping}").json()["status"] == "dismissed"
        chatty = send(http, "chatty", pause=0.05)
        log = f"/jobs/{chatty}/logs/process"
        wait_until(lambda: "and another thing" in http.get(log).text)
        before = len(http.get(log).content)
        wait_until(lambda: len(http.get(log).content) > before, seconds=10)
        assert http.get(f"/jobs/{chatty}").json()["status"] == "running"
        assert http.delete(f"/jobs/{chatty}").json()["status"] == "dismissed"

        job = send(http, "stubborn", heartbeat=str(heartbeat))  # in native code it ignores SIGTERM
        wait_until(heartbeat.exists, seconds=10)
        assert beats(heartbeat)
        assert http.delete(f"/jobs/{job}").json()["status"] == "dismissed"
        time.sleep(SILENT_S)

        assert not beats(heartbeat)
        assert {http.get(f"/jobs/{one}").json()["status"] for one in (napping, chatty, job)} == {"dismissed"}
        assert not leftovers(server.home)
        assert not list(cluster.folder.glob("**/jobs/*"))
        assert execute(http, "well").json() == "well"


def test_a_job_whose_dask_worker_is_killed_is_tried_again_on_another(
    cluster: DaskCluster, serve: Serve, tmp_path: Path
) -> None:
    (first,), heartbeat = cluster.workers, tmp_path / "heartbeat"
    marks = tmp_path / "marks"
    with client_of(serve(str(PROCESSES), str(FAULTY), env=on(cluster))) as http:
        stubborn = send(http, "stubborn", {"timeLimitS": 20}, heartbeat=str(heartbeat))
        job = send(http, "mark", name="here", marks=str(marks), seconds=2)
        wait_until(lambda: heartbeat.exists() and marks.exists(), seconds=10)
        old = below(first)

        kill(first)

        wait_until(lambda: not any(map(lives, old)), seconds=SILENT_S)
        assert not beats(heartbeat)
        second = cluster.start_worker()
        status = ended(http, job)
        assert status["status"] == "successful"
        (attempt,) = status["attempts"]
        assert attempt["reason"].startswith("the connection to its Dask worker at tcp://127.0.0.1:")
        assert marks.read_text() == "here\n" * 2
        wait_until(lambda: beats(heartbeat))
        http.delete(f"/jobs/{stubborn}")
        wait_until(lambda: len(below(second)) <= 2, seconds=SILENT_S)


def test_the_jobs_of_a_frozen_dask_worker_end_before_others_begin_them(
    cluster: DaskCluster, serve: Serve, tmp_path: Path
) -> None:
    (first,), heartbeat, marks = cluster.workers, tmp_path / "heartbeat", tmp_path / "marks"
    with client_of(serve(str(PROCESSES), str(FAULTY), env=on(cluster, GRATICULE_JOBS__LEASE_S="4"))) as http:
        stubborn = send(http, "stubborn", {"timeLimitS": 60}, heartbeat=str(heartbeat))
        wait_until(heartbeat.exists, seconds=10)
        cluster.start_worker()

        first.send_signal(signal.SIGSTOP)

        wait_until(lambda: not beats(heartbeat, 0.3), seconds=4)
        job = send(http, "mark", name="here", marks=str(marks), seconds=0)
        assert ended(http, job)["status"] == "successful"
        kill(first)
        wait_until(lambda: beats(heartbeat), seconds=20)
        assert http.delete(f"/jobs/{stubborn}").json()["status"] == "dismissed"
        wait_until(lambda: not beats(heartbeat), seconds=SILENT_S)
        (attempt,) = http.get(f"/jobs/{stubborn}").json()["attempts"]
        assert attempt["reason"].endswith("is not heard of any more")


def test_nothing_goes_on_when_the_server_is_killed_and_the_next_one_takes_its_jobs_up(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    (worker,), heartbeat, marks = cluster.workers, tmp_path / "heartbeat", tmp_path / "marks"
    first = Server(tmp_path / "home", [str(PROCESSES), str(FAULTY)], environment=on(cluster)).start()
    with client_of(first) as http:
        stubborn = send(http, "stubborn", heartbeat=str(heartbeat))
        job = send(http, "mark", name="here", marks=str(marks), seconds=2)
        wait_until(lambda: heartbeat.exists() and marks.exists(), seconds=10)

    first.process.kill()
    first.process.wait()

    wait_until(lambda: not beats(heartbeat, 0.1), seconds=SILENT_S)
    assert not [one for one in below(worker) if str(heartbeat) in one.cmdline()]
    with (
        Server(tmp_path / "home", [str(PROCESSES), str(FAULTY)], environment=on(cluster)) as again,
        client_of(again) as http,
    ):
        status = ended(http, job)
        assert status["status"] == "successful"
        assert [attempt["reason"] for attempt in status["attempts"]] == ["its worker was lost"]
        assert marks.read_text() == "here\n" * 2
        wait_until(lambda: beats(heartbeat))
        http.delete(f"/jobs/{stubborn}")


@only_in_test_all
def test_a_cluster_that_is_away_loses_no_job(cluster: DaskCluster, serve: Serve, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with client_of(serve(str(PROCESSES), env=on(cluster))) as http:
        running = send(http, "mark", name="running", marks=str(marks), seconds=2)
        wait_until(marks.exists, seconds=10)

        for process in (cluster.scheduler, *cluster.workers):
            assert process is not None
            kill(process)

        wait_until(lambda: not executor_of(http)["ok"], seconds=10)
        assert "Dask scheduler" in executor_of(http)["reason"]
        waiting = send(http, "mark", name="waiting", marks=str(marks))
        wait_until(lambda: http.get(f"/jobs/{running}").json()["status"] == "accepted", seconds=5)
        assert http.get(f"/jobs/{waiting}").json()["status"] == "accepted"
        cluster.start_scheduler()
        wait_until(lambda: "graticule=2" in executor_of(http).get("reason", ""), seconds=10)
        cluster.start_worker()
        assert ended(http, waiting)["status"] == ended(http, running)["status"] == "successful"
        assert len(http.get(f"/jobs/{running}").json()["attempts"]) == 1
        assert executor_of(http) == {"ok": True}


@pytest.mark.timeout(300)
def test_a_large_result_comes_whole_and_passes_through_no_memory(cluster: DaskCluster, serve: Serve) -> None:
    server = serve(str(PROCESSES), env=on(cluster))
    with client_of(server) as http:
        assert ended(http, send(http, "big", megabytes=8, kind="application/x-test"))["status"] == "successful"
        assert cluster.scheduler is not None
        parts = [psutil.Process(one.pid) for one in (server, cluster.scheduler, *cluster.workers)]
        before = [part.memory_info().rss for part in parts]

        status = ended(http, job := send(http, "big", megabytes=LARGE_MIB, kind="application/x-test"), seconds=200)

        assert status["status"] == "successful"
        after = [part.memory_info().rss for part in parts]
        assert [late - early >> 20 for early, late in zip(before, after, strict=True) if late - early > 16 << 20] == []
        with http.stream("GET", f"/jobs/{job}/results/result", headers={"Accept": "*/*"}) as answer:
            assert sum(map(len, answer.iter_raw(1 << 20))) == LARGE_MIB << 20


@only_in_test_all
def test_workers_of_one_database_use_a_cluster_too(cluster: DaskCluster, postgres: Postgres, tmp_path: Path) -> None:
    shared = {
        "GRATICULE_DATABASE__URL": postgres.new_database(),
        "GRATICULE_STORAGE__FOLDER": str(tmp_path / "storage"),
    }
    with (
        Server(tmp_path / "front", [str(PROCESSES)], environment={**shared, "GRATICULE_JOBS__WORKERS": "0"}) as front,
        Worker(tmp_path / "back", [str(PROCESSES)], environment=on(cluster, **shared)),
        client_of(front) as http,
    ):
        assert ended(http, send(http, "nap", seconds=0.2))["status"] == "successful"


def refused(home: Path, **environment: str) -> str:
    """Return what a server says that does not start."""
    command = [sys.executable, "-m", "graticule", "serve", "--home", str(home), "--port", "0"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GRATICULE_")}
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 8, done.stderr
    return done.stderr


def test_a_scheduler_that_does_not_answer_is_told_at_the_start(tmp_path: Path) -> None:
    dask = {"GRATICULE_JOBS__EXECUTOR": "dask", "GRATICULE_JOBS__DASK_SCHEDULER": "tcp://127.0.0.1:1"}

    said = refused(tmp_path / "home", **dask)

    assert "jobs.dask_scheduler" in said
    assert "tcp://127.0.0.1:1" in said


def test_dask_that_is_not_installed_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("raise ModuleNotFoundError(\"No module named 'distributed'\")\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))

    assert "pip install graticule[dask]" in refused(tmp_path / "home", PYTHONPATH=path, GRATICULE_JOBS__EXECUTOR="dask")
