"""References that make trouble, and data that does not fit."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.beyond_the_suite.asking import (
    all_jobs,
    assert_problem,
    ended,
    execute,
    pointers,
    submit,
)
from tests.e2e.beyond_the_suite.conftest import client_of
from tests.serving import Server


def raster_request(http: httpx2.Client, process: str, address: str) -> tuple[str, dict[str, Any]]:
    """Return the first raster input of a process, and a request that gives it an address."""
    inputs = http.get(f"/processes/{process}").json()["inputs"]
    name = next(name for name, given in inputs.items() if "tiff" in json.dumps(given["schema"]))
    link = {"href": address}
    return name, {"inputs": {name: [link] if inputs[name].get("maxOccurs", 1) != 1 else link}}


def test_a_raster_by_reference_is_read(trusting: httpx2.Client, elsewhere: str) -> None:
    _, document = raster_request(trusting, "raster-statistics", f"{elsewhere}/good.tif")

    assert execute(trusting, "raster-statistics", document).status_code == 200


BAD_RASTERS = {
    "nowhere": "http://nowhere.invalid/x.tif",
    "a refused connection": "http://127.0.0.1:1/x.tif",
    "an address where nothing is": "{}/nothing-here.tif",
    "a page": "{}/page.html",
    "a page that says it is a raster": "{}/page.tif",
    "a truncated raster": "{}/truncated.tif",
    "ten gigabytes": "{}/endless-and-says-so",
    "ten gigabytes unannounced": "{}/endless",
}


@pytest.mark.parametrize("case", BAD_RASTERS)
def test_a_bad_raster_is_a_400_for_a_sync_caller_and_leaves_no_job(
    trusting: httpx2.Client, elsewhere: str, case: str
) -> None:
    name, document = raster_request(trusting, "raster-statistics", BAD_RASTERS[case].format(elsewhere))
    before = all_jobs(trusting)

    answer = execute(trusting, "raster-statistics", document)

    assert_problem(answer, 400)
    assert any(pointer.startswith(f"/inputs/{name}") for pointer in pointers(answer)), answer.text
    assert all_jobs(trusting) == before


@pytest.mark.parametrize("case", BAD_RASTERS)
def test_a_bad_raster_fails_the_job_of_an_async_caller(trusting: httpx2.Client, elsewhere: str, case: str) -> None:
    name, document = raster_request(trusting, "raster-statistics", BAD_RASTERS[case].format(elsewhere))

    job = submit(trusting, "raster-statistics", document)

    assert name in json.dumps(ended(trusting, job, status="failed")["exception"])
    assert_problem(trusting.get(f"{job}/results"), 400)


def test_a_raster_without_crs_is_refused_where_the_place_matters(trusting: httpx2.Client, elsewhere: str) -> None:
    name, document = raster_request(trusting, "reproject", f"{elsewhere}/without-crs.tif")
    for other, given in trusting.get("/processes/reproject").json()["inputs"].items():
        if given.get("minOccurs", 1) > 0 and other != name:
            document["inputs"][other] = "EPSG:3857" if given["schema"].get("type") == "string" else 100

    answer = execute(trusting, "reproject", document)

    assert_problem(answer, 400)
    assert any(pointer.startswith(f"/inputs/{name}") for pointer in pointers(answer)), answer.text


def test_a_polygon_that_crosses_itself_is_refused(trusting: httpx2.Client, elsewhere: str) -> None:
    bow_tie = {"type": "Polygon", "coordinates": [[[7.1, 47.9], [7.5, 47.5], [7.5, 47.9], [7.1, 47.5], [7.1, 47.9]]]}
    feature = {"type": "Feature", "properties": {}, "geometry": bow_tie}
    name, document = raster_request(trusting, "zonal-statistics", f"{elsewhere}/good.tif")
    inputs = trusting.get("/processes/zonal-statistics").json()["inputs"]
    zones = next(key for key, given in inputs.items() if "geojson" in json.dumps(given["schema"]) and key != name)
    document["inputs"][zones] = {"value": {"type": "FeatureCollection", "features": [feature]}}

    answer = execute(trusting, "zonal-statistics", document)

    assert_problem(answer, 400)
    assert any(pointer.startswith(f"/inputs/{zones}") for pointer in pointers(answer)), answer.text


def test_what_drips_is_given_up_in_the_end(tmp_path: Path, elsewhere: str) -> None:
    settings = {
        "GRATICULE_SECURITY__ALLOW_PRIVATE_ADDRESSES": "true",
        "GRATICULE_SECURITY__REFERENCE_TIMEOUT_S": "10",
        "GRATICULE_SECURITY__REFERENCE_TOTAL_S": "1",
    }
    with Server(tmp_path / "home", environment=settings) as server, client_of(server) as http:
        _, document = raster_request(http, "raster-statistics", f"{elsewhere}/drip")
        begun = time.monotonic()

        answer = execute(http, "raster-statistics", document)

    assert "did not arrive within 1 s" in answer.text
    assert time.monotonic() - begun < 15
