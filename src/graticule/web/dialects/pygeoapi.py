"""The shapes that pygeoapi had before OGC API - Processes 1.0: jobs below their process, inputs and outputs as arrays.

It translates to today's requests and back; what a request means is decided elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import (
    GraticuleError,
    InvalidBody,
    JobGone,
    NoSuchJob,
    NoSuchProcess,
    ResultNotAvailable,
    ResultNotReady,
)  # fmt: skip
from graticule.jobs.aside import aside
from graticule.jobs.job import Job, StoredValue
from graticule.jobs.ledger import JobQuery
from graticule.jobs.manager import require_success
from graticule.ogc.common import HTML, JSON
from graticule.ogc.processes import Execute, Input, ProcessDescription
from graticule.processes.formats import is_json
from graticule.web.documents import LARGE, Results
from graticule.web.negotiation import wanted_media_type
from graticule.web.problems import headers_of, problem_of
from graticule.web.requests import (
    about_job,
    base_of,
    brackets_of,
    check_members,
    cursor_of,
    decode,
    encode_cursor,
    header,
    limit_of,
    no_json,
    read_bytes,
    trace_of,
    visit_of,
    workspace_of,
)
from graticule.web.responses import VARY, ContentResponse, FilePart, Part
from graticule.web.routing import Handler, Routes

routes = Routes("Older dialects")

_CODES: dict[type[GraticuleError], str] = {
    NoSuchProcess: "NoSuchProcess",
    NoSuchJob: "NoSuchJob",
    JobGone: "NoSuchJob",
    ResultNotReady: "ResultNotReady",
    ResultNotAvailable: "NoSuchJob",
}
_INVALID = "InvalidParameterValue"
_WITH_RESULTS = ("successful", "running", "accepted")


def _speaks_old(handler: Callable[[Request], Awaitable[Response]]) -> Handler:
    """Answer errors in the old shape: ``{"code", "description"}``."""

    @wraps(handler)
    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except GraticuleError as error:
            return _exception(error)

    return answered


def _exception(error: GraticuleError) -> Response:
    row, _ = problem_of(error)
    status = 404 if row.status == 410 else row.status
    code = _CODES.get(type(error)) or (_INVALID if status < 500 else "NoApplicableCode")
    return _json({"code": code, "description": str(error)}, status, headers_of(error, row))


# --- executing ---------------------------------------------------------------------------------------------------


@routes.post("/processes/{processID}/jobs", hidden=True)
@_speaks_old
async def execute(request: Request) -> Response:
    """Run a process and wait for it, unless the mode is `async`."""
    process_id, jobs, base = request.path_params["processID"], workspace_of(request).jobs, base_of(request)
    offer = jobs.catalog.get(process_id)
    body = await read_bytes(request, visit_of(request).parts.settings.server.body_limit_mib << 20)
    if not body.strip():
        return _json({"code": "MissingParameterValue", "description": "missing request data"}, 400)
    asked = await aside(len(body), _decoded, body, visit_of(request).parts.settings.limits.json_depth)
    execution = Execute(inputs=_inputs(asked.get("inputs", []), offer.description))
    waits = asked.get("mode", "auto") != "async"
    received = msgspec.json.encode(execution)
    asked_for = await jobs.request(execution, received, base=base, sync=waits, prompt=waits, trace=trace_of(request))
    submission = await jobs.submit(process_id, asked_for)
    about_job(submission.job.id)
    job = submission.job
    headers = {"location": f"{base}/processes/{process_id}/jobs/{job.id}"}
    if not waits:
        await submission.kept
        return _json({}, 201, headers)
    limit = visit_of(request).parts.settings.server.sync_limit_s
    job = await jobs.wait(submission, seconds=limit)
    if not job.ended:
        await jobs.let_go(submission, seconds=limit)
        return _json({}, 201, headers)
    results = await _results(request, job, offer.description)
    if request.query_params.get("response", asked.get("response", "document")) == "raw":
        return _raw(results, headers)
    return ContentResponse([b'{"outputs":', *_outputs(results), b"}"], media_type=JSON, headers=headers)


_decoder = msgspec.json.Decoder()


def _decoded(body: bytes, depth: int) -> dict[str, Any]:
    """Return the body; its media type was never looked at in this dialect."""
    if _nests_deeper(body, depth):
        raise InvalidBody("invalid request data: it is nested too deeply")
    try:
        asked = decode(body, _decoder)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise no_json(body, error, "invalid request data") from error
    check_members(body)
    if not isinstance(asked, dict):
        raise InvalidBody('invalid request data: send an object such as {"inputs": []}')
    return asked


def _nests_deeper(body: bytes, limit: int) -> bool:
    depth = deepest = 0
    for byte in brackets_of(body):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest > limit


def _inputs(given: Any, description: ProcessDescription) -> dict[str, Any]:
    """Return an array of inputs as today's object: values of a repeated identifier are gathered in their order."""
    if isinstance(given, dict):
        pairs = list(given.items())
    elif isinstance(given, list) and all(isinstance(one, dict) and "id" in one and "value" in one for one in given):
        pairs = [(str(one["id"]), one["value"]) for one in given]
    else:
        raise InvalidBody("invalid request data: each input needs 'id' and 'value'")
    gathered: dict[str, list[Any]] = {}
    for name, value in pairs:
        gathered.setdefault(name, []).append(value)
    inputs: dict[str, Any] = {}
    for name, values in gathered.items():
        plain = values if len(values) > 1 else values[0]
        inputs[name] = _today(plain, description.inputs.get(name))
    return inputs


def _today(value: Any, declared: Input | None) -> Any:
    """Return a value as an execute request of today has it: objects are wrapped, unless they are links or boxes."""
    if declared is not None and declared.is_list and isinstance(value, list):
        return [_today(one, None) for one in value]
    if not isinstance(value, dict) or "value" in value or "href" in value or ("bbox" in value and "type" not in value):
        return value
    return {"value": value}


# --- jobs --------------------------------------------------------------------------------------------------------


@routes.get("/processes/{processID}/jobs", hidden=True)
@_speaks_old
async def list_jobs(request: Request) -> Response:
    """List the jobs of a process, newest first."""
    process_id, base, query = request.path_params["processID"], base_of(request), request.query_params
    workspace_of(request).jobs.catalog.get(process_id)
    if _wants_page(request):
        return _see(f"{base}/jobs?processID={process_id}&f=html")
    limits = visit_of(request).parts.settings.limits
    page = await workspace_of(request).jobs.page(
        JobQuery(
            workspace="",
            types=("process",),
            processes=(process_id,),
            limit=limit_of(query, limits.page_max, limits.page_max),
            before=cursor_of(query),
        )
    )
    headers = None
    if page.next is not None:
        headers = {"link": f'<{base}/processes/{process_id}/jobs?cursor={encode_cursor(page.next)}>; rel="next"'}
    return _json([_status(job, base) for job in page.jobs], 200, headers)


@routes.get("/processes/{processID}/jobs/{jobID}", hidden=True)
@_speaks_old
async def get_job(request: Request) -> Response:
    """Tell how a job is."""
    job, base = await _job(request), base_of(request)
    return _see(f"{base}/jobs/{job.id}?f=html") if _wants_page(request) else _json(_status(job, base), 200)


@routes.delete("/processes/{processID}/jobs/{jobID}", hidden=True)
@_speaks_old
async def dismiss_job(request: Request) -> Response:
    """Stop a job, or remove one that has ended."""
    job, base = await _job(request), base_of(request)
    await workspace_of(request).jobs.dismiss(job.id)
    up = {
        "href": f"{base}/processes/{job.process}/jobs",
        "rel": "up",
        "type": JSON,
        "title": "The job list for the current process",
    }
    return _json(
        {"jobID": job.id, "status": "dismissed", "message": "Job dismissed", "progress": 100, "links": [up]}, 200
    )


@routes.get("/processes/{processID}/jobs/{jobID}/results", hidden=True)
@_speaks_old
async def get_results(request: Request) -> Response:
    """Return what a job has produced: an array of outputs, or the one output that is no JSON as itself."""
    job = await _job(request)
    if _wants_page(request):
        return _see(f"{base_of(request)}/jobs/{job.id}?f=html")
    if job.status == "failed":
        return _json({"code": _INVALID, "description": f"job failed: {job.message or 'see its log'}"}, 400)
    catalog = workspace_of(request).jobs.catalog
    return _raw(await _results(request, job, catalog.get(job.process).description), {})


async def _job(request: Request) -> Job:
    """Return the job that the address names, if it is one of that process."""
    process_id, job_id = request.path_params["processID"], request.path_params["jobID"]
    workspace = workspace_of(request)
    workspace.jobs.catalog.get(process_id)
    job = await workspace.jobs.get(job_id)
    if job.process != process_id:
        raise NoSuchJob(job_id)
    return job


def _status(job: Job, base: str) -> dict[str, Any]:
    status: dict[str, Any] = {
        "jobID": job.id,
        "status": job.status,
        "message": job.message or _MESSAGES[job.status],
        "progress": job.progress,
        "parameters": None,
        "job_start_datetime": _moment(job.started or job.created),
        "job_end_datetime": _moment(job.finished),
    }
    if job.status in _WITH_RESULTS:
        results = f"{base}/processes/{job.process}/jobs/{job.id}/results"
        links = [(f"{results}?f=html", HTML, "HTML"), (f"{results}?f=json", JSON, "JSON")]
        other = next((value.media_type for value in _values(job) if not is_json(value.media_type)), None)
        if other is not None:
            links.append((results, other, other))
        status["links"] = [
            {"href": href, "rel": "about", "type": media_type, "title": f"results of job {job.id} as {shown}"}
            for href, media_type, shown in links
        ]
    return status


_MESSAGES = {
    "created": "Job created",
    "accepted": "Job accepted and ready for execution",
    "running": "Job running",
    "successful": "Job complete",
    "failed": "Job failed",
    "dismissed": "Job dismissed",
}


def _values(job: Job) -> list[StoredValue]:
    return [value for output in job.outputs().values() for value in output.values]


def _moment(microseconds: int) -> str | None:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if microseconds else None


# --- outputs -----------------------------------------------------------------------------------------------------


async def _results(request: Request, job: Job, description: ProcessDescription) -> Results:
    require_success(job)
    results = Results(
        job=job,
        manifest=job.outputs(),
        execute=Execute(),
        description=description,
        store=workspace_of(request).jobs.engine.results,
        base=base_of(request),
    )
    return await results.loaded()


def _raw(results: Results, headers: dict[str, str]) -> Response:
    """Return the outputs alone: one that is no JSON as itself, all others as an array."""
    values = [value for output in results.manifest.values() for value in output.values]
    if len(values) == 1 and values[0].href is None and not is_json(values[0].media_type):
        return ContentResponse(
            [results.part(values[0])], media_type=values[0].media_type, headers={"vary": VARY, **headers}
        )
    return ContentResponse(_outputs(results), media_type=JSON, headers={"vary": VARY, **headers})


def _outputs(results: Results) -> list[Part]:
    """Return the array of outputs in pieces, each ``{"id", "value"}``; no file is held in memory."""
    parts: list[Part] = [b"["]
    for name, output in results.manifest.items():
        content = results.part(output.values[0]) if output.values else b"null"
        if not output.many and isinstance(content, bytes) and _is_output(content, name):
            # A processor of pygeoapi's own shape has written it already.
            pieces: list[Part] = [content]
        else:
            values = [_inline(results, value) for value in output.values]
            joined = _joined(values) if output.many else (values[0] if values else [b"null"])
            pieces = [b'{"id":' + msgspec.json.encode(name) + b',"value":', *joined, b"}"]
        parts += [b"," if len(parts) > 1 else b"", *pieces]
    return [*parts, b"]"]


def _joined(values: Sequence[list[Part]]) -> list[Part]:
    parts: list[Part] = [b"["]
    for index, pieces in enumerate(values):
        parts += [b"," if index else b"", *pieces]
    return [*parts, b"]"]


def _is_output(content: bytes, name: str) -> bool:
    if not content.startswith(b"{"):
        return False
    value = msgspec.json.decode(content)
    return bool(value.keys() == {"id", "value"} and value["id"] == name)


def _inline(results: Results, value: StoredValue) -> list[Part]:
    """Return a value as JSON: text as a string, binary content in base64."""
    if value.href is not None:
        return [msgspec.json.encode({"href": value.href, "type": value.media_type})]
    content = results.part(value)
    if is_json(value.media_type):
        return [content]
    if value.media_type.startswith("text/") and value.size <= LARGE:
        return [msgspec.json.encode(results.text(value).decode(errors="replace"))]
    encoded: Part = (
        FilePart(content.file, content.size, base64=True)
        if isinstance(content, FilePart)
        else base64.b64encode(content)
    )
    return [b'"', encoded, b'"']


# --- answers -----------------------------------------------------------------------------------------------------


def _wants_page(request: Request) -> bool:
    return wanted_media_type(request.query_params.get("f"), header(request, "accept"), (JSON, HTML)) == HTML


def _see(address: str) -> Response:
    return Response(status_code=303, headers={"location": address, "vary": VARY})


def _json(document: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(document), status, {"vary": VARY, **(headers or {})}, media_type=JSON)
