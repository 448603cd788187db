"""Results of jobs are inputs of other jobs by their own addresses, without a download."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import httpx2
import pytest

from tests.serving import Server

TOKENS = "".join(
    f'[[security.tokens]]\nactor = "{actor}"\nsha256 = "{hashlib.sha256(actor.encode()).hexdigest()}"\n'
    for actor in ("ada", "bob")
)


def run(http: httpx2.Client, process: str, inputs: Any, *, base: str = "", prefer: str = "respond-async") -> str:
    """Run a process to its end and return the address of its job."""
    answer = http.post(f"{base}/processes/{process}/execution", json={"inputs": inputs}, headers={"Prefer": prefer})
    assert answer.status_code == 201, answer.text
    return ended(http, answer.headers["location"])


def ended(http: httpx2.Client, job: str) -> str:
    deadline = time.monotonic() + 30
    while http.get(job).json()["status"] in ("accepted", "running") and time.monotonic() < deadline:
        time.sleep(0.05)
    return job


def octets_of(http: httpx2.Client, href: str) -> httpx2.Response:
    """Have echo-all return what a reference leads to."""
    body = {"inputs": {"octets": {"href": href}}, "outputs": {"octets": {}}}
    return http.post("/processes/echo-all/execution", json=body, headers={"Accept": "*/*"})


def fault_of(answer: httpx2.Response) -> str:
    [fault] = answer.json()["errors"]
    assert (answer.status_code, fault["pointer"]) == (400, "/inputs/octets/href"), answer.text
    return str(fault["detail"])


@pytest.fixture(scope="module")
def bundle(http: httpx2.Client) -> str:
    """A job with outputs of several kinds, one of them large."""
    inputs = {"string": "Grüße", "octets": {"value": "QUJD" * 20_000, "encoding": "base64"}}
    return run(http, "echo-all", inputs)


@pytest.fixture(scope="module")
def samples(http: httpx2.Client, server: Server) -> str:
    """Where the samples are, once they are made."""
    deadline = time.monotonic() + 60
    while http.get("/files/samples/fields.geojson").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.2)
    return f"{server.url}/files/samples"


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_large_result_is_read_from_its_file_and_a_small_one_too(
    http: httpx2.Client, server: Server, bundle: str, relative: bool
) -> None:
    prefix = bundle.removeprefix(server.url) if relative else bundle

    large, small = octets_of(http, f"{prefix}/results/octets"), octets_of(http, f"{prefix}/results/string")

    assert (large.status_code, large.content) == (200, b"ABC" * 20_000)
    assert (small.status_code, small.json()) == (200, "Grüße")


def test_a_chain_of_built_in_processes(http: httpx2.Client, samples: str) -> None:
    raster = {"href": f"{samples}/elevation.tif"}
    fields = {"href": f"{samples}/fields.geojson"}
    coarse = run(http, "reproject", {"raster": raster, "crs": "EPSG:4326"})
    zones = run(http, "buffer", {"geojson": fields, "distance": 100})

    chained = run(
        http,
        "zonal-statistics",
        {
            "raster": {"href": f"{coarse}/results/{output_of(http, coarse)}"},
            "zones": {"href": f"{zones}/results/{output_of(http, zones)}"},
        },
    )

    found = http.get(f"{chained}/results/zones").json()["features"]
    assert len(found) > 1
    assert all(feature["properties"]["count"] > 0 for feature in found)


def output_of(http: httpx2.Client, job: str) -> str:
    [output] = http.get(f"/processes/{http.get(job).json()['processID']}").json()["outputs"]
    return str(output)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("/results", "name one output of job"),
        ("/results/nothing", "it has:"),
        ("/results/string/1", "has 1 values; they are counted from 0"),
    ],
)
def test_what_is_no_result_is_refused_with_its_place(http: httpx2.Client, bundle: str, place: str, said: str) -> None:
    assert said in fault_of(octets_of(http, bundle + place))


def test_a_job_that_never_was_has_no_result(http: httpx2.Client, bundle: str) -> None:
    unknown = bundle[:-12] + "0" * 12

    assert "no job with the result" in fault_of(octets_of(http, f"{unknown}/results/string"))


def test_a_job_that_failed_has_no_result(http: httpx2.Client, samples: str) -> None:
    failed = run(http, "raster-statistics", {"raster": {"href": f"{samples}/fields.geojson"}})

    assert "is failed; refer to its results when it is successful" in fault_of(
        octets_of(http, f"{failed}/results/statistics")
    )


def test_a_result_that_is_removed_before_the_job_runs_is_named(serve: Any) -> None:
    server = serve("tests/e2e/job_processes.py", env={"GRATICULE_JOBS__WORKERS": "1"})
    with httpx2.Client(base_url=server.url, timeout=30, trust_env=False) as http:
        first = run(http, "echo-all", {"octets": {"value": "QUJD" * 20_000, "encoding": "base64"}})
        asynchronous = {"Prefer": "respond-async"}
        naps = [
            http.post("/processes/nap/execution", json={"inputs": {"seconds": 2}}, headers=asynchronous)
            for _ in range(2)
        ]
        body = {"inputs": {"octets": {"href": f"{first}/results/octets"}}}
        later = http.post("/processes/echo-all/execution", json=body, headers=asynchronous)
        assert http.delete(first).status_code == 200
        assert [nap.status_code for nap in naps] == [201, 201]

        job = ended(http, later.headers["location"])
        refused = http.get(f"{job}/results")

    assert "its job was removed" in fault_of(refused)


def test_the_result_of_another_actor_or_workspace_is_as_unknown_as_one_that_never_was(serve: Any) -> None:
    server = serve(config=f'[workspaces]\nnames = ["default", "east"]\n{TOKENS}')
    clients = {
        actor: httpx2.Client(
            base_url=server.url, timeout=30, trust_env=False, headers={"Authorization": f"Bearer {actor}"}
        )
        for actor in ("ada", "bob")
    }
    with clients["ada"] as ada, clients["bob"] as bob:
        job = run(ada, "echo-all", {"string": "of Ada"})
        east = run(ada, "echo-all", {"string": "of Ada"}, base="/east/ogc-api")
        own = octets_of(ada, f"{job}/results/string")
        others = octets_of(bob, f"{job}/results/string")
        unknown = octets_of(bob, f"{job[:-12]}{'0' * 12}/results/string")
        elsewhere = octets_of(ada, f"/jobs/{east.rpartition('/')[2]}/results/string")

    assert (own.status_code, own.json()) == (200, "of Ada")
    assert fault_of(others) == fault_of(unknown).replace("0" * 12, job[-12:])
    assert "no job with the result" in fault_of(elsewhere)
