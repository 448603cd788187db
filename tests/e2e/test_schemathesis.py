"""schemathesis takes the served definition at its word: whatever it promises is tried, and nothing else may happen."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.fuzzing import PIXEL, VALUES
from tests.serving import Server

ROOT = Path(__file__).parents[2]
ALL = bool(os.environ.get("GRATICULE_TEST_ALL"))
"""Whether to take more time: more examples, longer chains of requests, and OpenAPI 3.1 in full too."""

EXAMPLES = 100 if ALL else 10
"""Generated requests for each operation, besides those of the examples and of the covering phase."""

LESS = """
# Of these two the covering phase makes nine thousand queries; those of the other processes show the same.
[[operations]]
include-name = ["GET /processes/buffer/execution", "GET /processes/zonal-statistics/execution"]
[operations.phases.coverage]
enabled = false
"""
"""What the short run does not take the time for."""

SEED = os.environ.get("GRATICULE_TEST_SEED", "7")
SECONDS = 1500

FREE = {"hello-world", "echo", "echo-all"}
"""Processes that take whatever their schemas allow, links aside; for the others some values depend on others."""

COARSE = {"resolution": 400}
"""In place of what the examples say: hundreds of requests need no fine result."""

RASTER = "image/tiff; application=geotiff"

SETTINGS = """
# What fits its schema may still be gone (410), unavailable in the only form that is asked for (406), larger than this
# service takes (413; 431 of a query), or meant for a job that has begun (423).
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "406", "409", "410", "413", "423", "429", "431", "5xx"]

# A job that was removed is gone, whatever else is wrong with a request; other versions of tus are refused by 412.
[checks.negative_data_rejection]
expected-statuses = [
  "400", "401", "403", "404", "405", "406", "409", "410", "412", "413", "415", "422", "423", "431", "5xx"
]

[phases.stateful.generation]
max-examples = {chains}
"""

pytestmark = [pytest.mark.fuzz, pytest.mark.slow, pytest.mark.timeout(SECONDS + 60)]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own: tens of thousands of jobs are left behind."""
    with Server(tmp_path_factory.mktemp("fuzzed") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def values(fuzzed: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By process and input: a link that can be followed, and for some a value that holds."""
    known: dict[str, dict[str, Any]] = {}
    with httpx2.Client(base_url=fuzzed.url, timeout=60, trust_env=False) as client:
        _wait_for_samples(client)
        for summary in client.get("/processes", params={"limit": 1000}).json()["processes"]:
            process = client.get(f"/processes/{summary['id']}").json()
            known[process["id"]] = {name: _known(client, process, name) for name in process["inputs"]}
    path = tmp_path_factory.mktemp("values") / "values.json"
    path.write_text(json.dumps(known))
    return path


def _known(client: httpx2.Client, process: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what the hooks may put in place of a generated value of an input."""
    described = process["inputs"][name]
    first = (described["schema"].get("oneOf") or [described["schema"]])[0]
    example = max((one["inputs"] for one in process.get("examples", [{"inputs": {}}])), key=len) | COARSE
    known = {"href": _link(client, described, example.get(name)), "box": _is_box(first)}
    if first.get("contentMediaType") == "image/png":
        known["content"] = PIXEL
    if (
        process["id"] in FREE
        or "enum" in first
        or first.get("type") == "boolean"
        or {"minimum", "maximum"} <= set(first)
    ):
        return known
    return {**known, "value": example[name]} if name in example else {**known, "drop": True}


def _link(client: httpx2.Client, described: dict[str, Any], example: Any) -> str:
    """Upload a value that fits an input and return its address."""
    schemas = described["schema"].get("oneOf") or [described["schema"]]
    first = schemas[0]
    value = example[0] if isinstance(example, list) and "maxOccurs" in described else example
    if isinstance(value, dict) and "href" in value:
        return str(value["href"])
    if isinstance(value, dict) and "value" in value:
        value = value["value"]
    media_type = first.get("contentMediaType", "application/json")
    if media_type == RASTER:
        return f"{str(client.base_url).rstrip('/')}/files/samples/elevation.tif"
    if media_type == "image/png":
        content = base64.b64decode(PIXEL)
    elif media_type.startswith(("text/", "application/octet-stream")):
        content = b"any bytes are taken"
    else:
        content = json.dumps(_fitting(first) if value is None else value).encode()
    answer = client.post("/files", content=content, headers={"Content-Type": media_type})
    return str(answer.raise_for_status().json()["href"])


def _fitting(schema: dict[str, Any]) -> Any:
    """Return a plain value that fits a plain schema."""
    if _is_box(schema):
        return {"bbox": [5, 45, 10, 47]}
    if "enum" in schema:
        return schema["enum"][0]
    plain = {"string": "text", "integer": 0, "number": 0.5, "boolean": True, "array": [], "object": {}}
    return schema.get("minimum", schema.get("default", plain[schema["type"]]))


def _is_box(schema: dict[str, Any]) -> bool:
    return any(part.get("format") == "ogc-bbox" for part in [schema, *schema.get("allOf", [])])


def _wait_for_samples(client: httpx2.Client) -> None:
    for _ in range(150):
        if client.get("/files/samples/fields.geojson").status_code == 200:
            return
        time.sleep(0.2)
    raise AssertionError("the sample data was not made within 30 seconds")


def _run(server: Server, values: Path, folder: Path, version: str, *arguments: str) -> dict[str, Any]:
    """Run schemathesis with all its checks; return its own report.

    In one thread: in chains of requests several would remove each other's jobs and files, and Python 3.11 may raise
    ``SystemError: AST constructor recursion depth mismatch`` when two threads parse source, as hypothesis does
    (CPython issue 106905).
    """
    settings, report = folder / "schemathesis.toml", folder / "report.json"
    settings.write_text(SETTINGS.format(chains=EXAMPLES if ALL else 10) + ("" if ALL else LESS))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run"]
    command += [f"{server.url}/api?f=json&version={version}", "--checks", "all", "--continue-on-failure", "--no-color"]
    command += ["--seed", SEED, "--report", "json", "--report-json-path", str(report), *arguments]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.e2e.fuzzing",
        "PYTHONPATH": str(ROOT),
        VALUES: str(values),
    }
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stdout[-30_000:] + ended.stderr[-5_000:]
    document: dict[str, Any] = json.loads(report.read_text())
    return document


def _nothing_found(report: dict[str, Any], *phases: str) -> bool:
    operations = report["operations"]
    assert operations["tested"] == operations["selected"] > 0 or "stateful" in phases
    assert all(report["phases"][phase]["status"] == "success" for phase in phases)
    return report["complete"] and not report["failures"] and not report["errors"]


def test_nothing_is_found_in_any_operation(fuzzed: Server, values: Path, tmp_path: Path):
    phases = ("examples", "coverage", "fuzzing")
    arguments = ("--phases", ",".join(phases), "--max-examples", str(EXAMPLES))

    def run(part: str) -> dict[str, Any]:
        folder = tmp_path / part
        folder.mkdir()
        return _run(fuzzed, values, folder, "3.0", *arguments, f"--{part}-path-regex", "^/processes/e")

    with ThreadPoolExecutor() as pool:  # two processes: one for each core
        reports = list(pool.map(run, ("include", "exclude")))

    assert all(_nothing_found(report, *phases) for report in reports)
    total = reports[0]["operations"]["total"]
    assert sum(report["operations"]["selected"] for report in reports) == total > 30


def test_nothing_is_found_in_chains_of_requests(fuzzed: Server, values: Path, tmp_path: Path):
    report = _run(fuzzed, values, tmp_path, "3.0", "--phases", "stateful")

    assert _nothing_found(report, "stateful")


def test_nothing_is_found_by_the_other_edition_of_openapi(fuzzed: Server, values: Path, tmp_path: Path):
    examples = EXAMPLES if ALL else 4

    report = _run(
        fuzzed,
        values,
        tmp_path,
        "3.1",
        "--phases",
        "examples,fuzzing",
        "--max-examples",
        str(examples),
    )

    assert _nothing_found(report, "examples", "fuzzing")
    assert report["operations"]["selected"] == report["operations"]["total"]
