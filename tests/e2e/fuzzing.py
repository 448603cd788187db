"""Hooks for schemathesis: they keep generated requests short, and valid where a schema cannot say what is.

A request that is meant to be accepted fits its schema; still, its box may be inside out, its address lead nowhere, its
polygon cross itself, its formula name a band that is not there. Such values are replaced by ones that hold. Requests
that are meant to be refused are left as they are. No operation is left out.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import requests
import schemathesis
from schemathesis.core import NotSet

VALUES = "GRATICULE_FUZZ_VALUES"
"""Names the file that holds, by process and input, a link that can be followed (``href``) and for some what is sent
instead of any generated value (``value``) or generated content (``content``), or that nothing is (``drop``)."""

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel, base64: content is looked at, so random bytes will not do for a picture."""

PICTURES = ("image/png", "application/octet-stream")
TRIANGLE = [[[0, 0], [1, 0], [1, 1], [0, 0]]]

LONG = "pause"
"""The input that makes the echo processes wait."""


@schemathesis.serializer("application/offset+octet-stream")
def part(context: Any, value: Any) -> bytes:
    """Send a part of an upload as it is."""
    return value if isinstance(value, bytes) else json.dumps(value, default=str).encode()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Shorten every request; make those hold that are meant to be accepted."""
    if case.method.upper() == "DELETE" and case.path == "/jobs/{jobID}":
        _let_it_end(case)
    inputs = case.body.get("inputs") if isinstance(case.body, dict) else None
    for holder in (inputs, case.query):
        if isinstance(holder, dict) and LONG in holder:
            holder[LONG] = _shortened(holder[LONG], 60 if case.path == "/processes/echo/execution" else 600)
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    _use_key_once(case)
    (case.headers or {}).pop("If-Match", None)  # no schema can say which tag a job has
    if case.path == "/jobs" and case.method.upper() in ("GET", "DELETE"):
        _order_ends(case)
        _spare_others(case)
    elif case.path in ("/jobs", "/jobs/{jobID}") and isinstance(case.body, dict):
        _greet_by_job(case)
    elif case.path.startswith("/jobs/{jobID}/results"):
        _name_an_output(case)
    elif case.path == "/files" and case.method.upper() == "POST" and isinstance(case.body, NotSet):
        # Without content, a request announces a file that comes in parts.
        case.headers = {**(case.headers or {}), "Upload-Length": "5"}
    elif case.path.endswith("/execution"):
        _repair(case)


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out uploads as a form whose file is no string: in a form all is text, and any text is a file."""
    del context
    wrong = case.meta is not None and not case.meta.generation.mode.is_positive
    return not (wrong and case.path == "/files" and "multipart/form-data" in str(case.media_type))


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Let go at once of what was held back: all other requests want it."""
    if case.method.upper() == "PUT" and case.path == "/admin/holds/{scope}" and response.status_code == 200:
        requests.delete(response.request.url.partition("?")[0], timeout=10)


def _use_key_once(case: Any) -> None:
    """Give each request an idempotency key of its own: with another body it would be refused, rightly."""
    key = (case.headers or {}).get("Idempotency-Key")
    if key is not None:
        case.headers["Idempotency-Key"] = f"{uuid.uuid4().hex}-{key}"[:255]


def _repair(case: Any) -> None:
    """Put values that hold into a request for an execution."""
    if isinstance(case.body, dict) and isinstance(case.body.get("subscriber"), dict):
        # No address is both reachable from here and public.
        case.body["subscriber"] |= {"successUri": None, "inProgressUri": None, "failedUri": None}
        if "profile" in (case.body["subscriber"].get("authorization") or {}):
            case.body["subscriber"]["authorization"] = None  # there is none of that name
    if isinstance(case.body, dict) and isinstance(case.body.get("limits"), dict):
        # A job that takes more than it may fails, and a service may allow less than a schema can say.
        case.body["limits"] = {"timeLimitS": 600}
    if case.path == "/processes/{processID}/execution":
        _greet(case)
    known = _values().get(_process_of(case.path), {})
    if isinstance(case.body, dict) and isinstance(case.body.get("inputs"), dict):
        _repair_inputs(case.body["inputs"], known)
    if known and case.method.upper() == "GET" and isinstance(case.query, dict):
        _repair_query(case.query, known)


def _repair_inputs(inputs: dict[str, Any], known: dict[str, Any]) -> None:
    for name, one in known.items():
        if "value" in one:
            inputs[name] = one["value"]
        elif "drop" in one:
            inputs.pop(name, None)
        elif name in inputs:
            inputs[name] = _repaired(inputs[name], one)


def _shortened(value: Any, most: int) -> Any:
    """Return a pause of no time for one that is allowed; anything else stays wrong."""
    if isinstance(value, dict) and "value" in value:
        return {**value, "value": _shortened(value["value"], most)}
    if isinstance(value, str):
        number = _read_json(value)
        return "0" if isinstance(number, (int, float)) and _shortened(number, most) != number else value
    allowed = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= most
    return 0 if allowed and (most > 60 or value == int(value)) else value


def _read_json(text: str) -> Any:
    """Return what a JSON text says; None if it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _let_it_end(case: Any) -> None:
    """Wait for the end of a job: one that is dismissed stays visible, as the standard has it, one that ended goes."""
    address = f"{case.operation.base_url}/jobs/{case.path_parameters.get('jobID', '')}"
    for _ in range(100):
        answer = requests.get(address, headers={"Accept": "application/json"}, timeout=10)
        if answer.status_code != 200 or answer.json()["status"] not in ("accepted", "running"):
            return
        time.sleep(0.05)


def _greet(case: Any) -> None:
    """Run a process that there is with what it takes: the path of all processes cannot say what that is."""
    if case.path_parameters.get("processID") not in _values():
        return
    case.path_parameters["processID"] = "hello-world"
    if isinstance(case.body, dict):
        outputs = {"outputs": {}} if case.body.get("outputs") == {} else {}
        rest = {name: value for name, value in case.body.items() if name != "outputs"}
        case.body = {**rest, "inputs": {"name": "Ada"}, **outputs}
    elif isinstance(case.query, dict):
        case.query["name"] = "Ada"


def _greet_by_job(case: Any) -> None:
    """Have a job greet; the body may say anything else, and a patch need not name the process."""
    rest = {name: value for name, value in case.body.items() if name in ("status", "response")}
    case.body = {**rest, "process": "hello-world", "inputs": {"name": "Ada"}}


def _name_an_output(case: Any) -> None:
    """Ask for an output that the process has: another is refused by 400, as the draft wants it."""
    base = case.operation.base_url
    answer = requests.get(f"{base}/jobs/{case.path_parameters.get('jobID', '')}", timeout=10)
    if answer.status_code != 200:
        return
    process = requests.get(f"{base}/processes/{answer.json()['processID']}", timeout=10).json()
    output = next(iter(process["outputs"]))
    if "outputID" in case.path_parameters:
        case.path_parameters["outputID"] = output
    elif case.query and "outputs" in case.query:
        case.query["outputs"] = output


def _spare_others(case: Any) -> None:
    """Dismiss no jobs of other requests; no schema can say that one filter is needed."""
    if case.method.upper() == "DELETE":
        case.query = {**(case.query or {}), "label": "of-no-job"}


def _order_ends(case: Any) -> None:
    """Put the earlier end of an interval first."""
    text = case.query.get("datetime") if isinstance(case.query, dict) else None
    if isinstance(text, str) and text.count("/") == 1:
        start, end = text.split("/")
        if start[:1].isdigit() and end[:1].isdigit() and start[:8] >= end[:8]:
            case.query["datetime"] = f"{start}/.."


def _process_of(path: str) -> str:
    parts = path.strip("/").split("/")
    return parts[1] if len(parts) == 3 and parts[0] == "processes" and parts[2] == "execution" else ""


@cache
def _values() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(Path(os.environ[VALUES]).read_text())
    return found


def _repaired(value: Any, known: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_repaired_one(one, known) for one in value]
    return _repaired_one(value, known)


def _repaired_one(value: Any, known: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return known.get("content", value)
    if not isinstance(value, dict):
        return value
    binary = value.get("mediaType") in PICTURES or value.get("encoding") == "base64"
    if isinstance(value.get("value"), str) and (binary or "content" in known):
        return {**value, "value": PIXEL}
    if "value" in value:
        return {**value, "value": _ordered(value["value"])}
    if "href" in value:
        return {"href": known["href"]}
    return _ordered(value)


def _ordered(value: Any) -> Any:
    """Return a box with its minima below its maxima, in a CRS that exists, and polygons that do not cross."""
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("bbox"), list):
        return {"bbox": _box(value["bbox"])}
    return _simple(value)


def _simple(value: dict[str, Any]) -> dict[str, Any]:
    for name in ("features", "geometries"):
        if isinstance(value.get(name), list):
            return {**value, name: [_simple(one) for one in value[name]]}
    if isinstance(value.get("geometry"), dict):
        return {**value, "geometry": _simple(value["geometry"])}
    if value.get("type") == "Polygon":
        return {**value, "coordinates": TRIANGLE}
    if value.get("type") == "MultiPolygon":
        return {**value, "coordinates": [TRIANGLE]}
    return value


def _box(numbers: list[Any]) -> list[Any]:
    half = len(numbers) // 2
    pairs = [sorted(pair) for pair in zip(numbers[:half], numbers[half:], strict=True)]
    return [low for low, _ in pairs] + [high for _, high in pairs]


def _repair_query(query: dict[str, Any], known: dict[str, Any]) -> None:
    for name, value in known.items():
        if f"{name}[href]" in query:
            query[f"{name}[href]"] = value["href"]
            query.pop(name, None)  # no schema of a query can say that one excludes the other
        if "value" in value or "drop" in value:
            query.pop(name, None)
            query.pop(f"{name}[href]", None)
            query |= dict(_as_query(name, value["value"])) if "value" in value else {}
        elif "content" in value and name in query:
            query[name] = value["content"]
        elif isinstance(query.get(name), dict):
            query[name] = _ordered(query[name])
        elif isinstance(query.get(name), str) and isinstance(written := _read_json(query[name]), dict):
            query[name] = json.dumps(_ordered(written))
        elif value.get("box") and name in query:
            numbers = query[name] if isinstance(query[name], list) else [float(one) for one in query[name].split(",")]
            query[name] = ",".join(map(str, _box(numbers)))


def _as_query(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the query parameters that stand for a value."""
    first = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(first, dict) and "href" in first:
        yield f"{name}[href]", first["href"]
    elif isinstance(first, dict):
        yield name, json.dumps(first.get("value", first))
    else:
        yield name, first
