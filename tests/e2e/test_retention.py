"""Results that expire, and jobs that are pinned."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from tests.serving import Server

PROCESSES = Path(__file__).with_name("job_processes.py")
DAY = 24 * 3_600_000_000


def client(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, timeout=30, trust_env=False, headers={"Accept": "application/json"})


def made(http: httpx2.Client, megabytes: float) -> str:
    """Make a result and return the address of its job."""
    request = {"inputs": {"megabytes": megabytes, "kind": "x/y"}}
    answer = http.post("/processes/big/execution", json=request, headers={"Accept": "*/*"})
    assert answer.status_code == 200, answer.text
    return httpx2.URL(answer.headers["link"].partition(">")[0].strip("<")).path


def octets(href: str) -> dict[str, Any]:
    """A request that refers to a result."""
    return {"inputs": {"octets": {"href": href}}, "outputs": {"octets": {}}}


def test_results_expire_unless_their_job_is_pinned(serve: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Server(home, [str(PROCESSES)]) as first, client(first) as http:
        large, small, pinned = made(http, 1), made(http, 0.001), made(http, 1)
        assert http.put(f"{pinned}/pin").status_code == 204
    with closing(sqlite3.connect(home / "graticule.db")) as database, database:
        database.execute("UPDATE jobs SET finished = finished - ?", (DAY,))

    second = serve(str(PROCESSES), env={"GRATICULE_STORAGE__RESULT_EXPIRY_HOURS": "23"}, home=home)

    with client(second) as http:
        for job in (large, small):
            answer = http.get(f"{job}/results")
            assert answer.status_code == 410
            assert answer.json()["type"] == "urn:graticule:problem:results-expired"
            assert "pin" in answer.json()["detail"]
            assert http.put(f"{job}/pin").status_code == 410
            assert http.get(job).json()["status"] == "successful"
            assert "Their time was up" in http.get(job, headers={"Accept": "text/html"}).text
            chained = http.post("/processes/echo-all/execution", json=octets(f"{job}/results/result"))
            assert chained.status_code == 400
            assert "the time of the results" in chained.json()["errors"][0]["detail"]
        chained = http.post(
            "/processes/echo-all/execution", json=octets(f"{pinned}/results/result"), headers={"Accept": "*/*"}
        )
        assert len(chained.content) == 1 << 20
        assert "until somebody removes or unpins" in http.get(pinned, headers={"Accept": "text/html"}).text
        assert len(http.get(f"{pinned}/results/result", headers={"Accept": "*/*"}).content) == 1 << 20
        assert [path.name for path in (home / "storage" / "default" / "jobs").rglob("big.bin")] == ["big.bin"]
        assert "results of 2 jobs have expired" in second.log


def test_the_status_tells_how_long_results_are_kept(serve: Any) -> None:
    with client(serve(str(PROCESSES), env={"GRATICULE_STORAGE__RESULT_EXPIRY_HOURS": "24"})) as http:
        job = made(http, 0.001)
        status = http.get(job).json()
        kept = datetime.fromisoformat(status["expires"]) - datetime.fromisoformat(status["finished"])
        assert kept == timedelta(hours=24)
        assert "pinned" not in status

        http.put(f"{job}/pin")
        status = http.get(job).json()
        assert status["pinned"] is True
        assert "expires" not in status
        assert [one["pinned"] for one in http.get("/jobs").json()["jobs"]] == [True]
        http.delete(f"{job}/pin")
        assert "pinned" not in http.get(job).json()
        assert "unless it is pinned" in http.get(job, headers={"Accept": "text/html"}).text


def test_a_job_without_results_can_be_pinned_and_removed(serve: Any) -> None:
    server = serve(str(PROCESSES), env={"GRATICULE_STORAGE__RESULT_EXPIRY_HOURS": "24"})
    with client(server) as http:
        created = http.post(
            "/jobs",
            json={"process": f"{server.url}/processes/big", "inputs": {"megabytes": 1, "kind": "x/y"}},
            headers={"Prefer": 'status="created"'},
        )
        job = httpx2.URL(created.headers["location"]).path
        assert http.delete(job).json()["status"] == "dismissed"

        assert http.put(f"{job}/pin").status_code == 204

        status = http.get(job).json()
        assert (status["status"], status["pinned"]) == ("dismissed", True)
        assert "expires" not in status
        assert http.get(f"{job}/results").status_code == 404
        assert http.delete(job).status_code == 200
        assert http.get(job).status_code == 410


def test_a_pin_can_be_taken_away(serve: Any) -> None:
    with client(serve(str(PROCESSES))) as http:
        job = made(http, 0.001)

        assert [http.put(f"{job}/pin").status_code for _ in range(2)] == [204, 204]
        assert [http.delete(f"{job}/pin").status_code for _ in range(2)] == [204, 204]
        assert http.get(f"{job}/results", headers={"Accept": "*/*"}).status_code == 200
        assert http.put("/jobs/none/pin").status_code == 404
