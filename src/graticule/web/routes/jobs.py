"""The list of jobs, their status, results and logs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import (
    ContentLost,
    InvalidParameter,
    JobFailed,
    JobGone,
    LedgerUnavailable,
    NoSuchJob,
    NoSuchOutput,
    NotAcceptable,
    OutputNotProduced,
    ResultNotAvailable,
    ResultNotReady,
    ResultsExpired,
    StorageUnavailable,
)  # fmt: skip
from graticule.jobs.job import Job
from graticule.jobs.ledger import JobQuery
from graticule.jobs.log import PROCESS
from graticule.ogc.common import HTML, JSON, Link
from graticule.ogc.jobs import JobList, StatusInfo
from graticule.ogc.processes import Execute
from graticule.web.documents import Results, results_response, single_output, status_info
from graticule.web.exhibits import exhibits
from graticule.web.negotiation import media_type_of, parse_accept, quality_of, wanted_media_type
from graticule.web.parameters import DATETIME, JOB_ID, LIMIT, MOMENT, OUTPUT_ID, PREFER, PROFILE, F
from graticule.web.requests import (
    CURSOR_FORM,
    PROFILES,
    base_of,
    check_parameters,
    cursor_of,
    encode_cursor,
    header,
    limit_of,
    list_parameter,
    prefer_of,
    profiles_of,
    visit_of,
    workspace_of,
)  # fmt: skip
from graticule.web.responses import answer, self_links
from graticule.web.routes.notifications import notifications
from graticule.web.routing import Answer, Parameter, Routes

routes = Routes("Jobs")

_TYPES = ("process",)
_STATUSES = ("created", "accepted", "running", "successful", "failed", "dismissed")
_FILLED = r"[^\s,]"
_execute = msgspec.json.Decoder(Execute)
_TAIL = 4096
"""Bytes of a log that the page of a job shows at first."""
_DIGITS = 9
"""An index of more digits is beyond every output."""


def _filter(name: str, description: str, item: dict[str, object], example: object = None) -> Parameter:
    return Parameter(
        name=name, description=f"{description} Repeated or as a comma list.", schema={"type": "array", "items": item},
        example=example,
    )  # fmt: skip


_FILTERS = (
    _filter("type", "Kind of job; `process` are executions.", {"type": "string", "enum": list(_TYPES)}),
    _filter("processID", "Only jobs of these processes.", {"type": "string", "pattern": _FILLED}),
    _filter("status", "Only jobs of these statuses.", {"type": "string", "enum": list(_STATUSES)}),
    DATETIME,
    _filter("minDuration", "Only jobs that lasted at least so many seconds.", {"type": "integer", "minimum": 0}),
    _filter("maxDuration", "Only jobs that lasted at most so many seconds.", {"type": "integer", "minimum": 0}),
)
_REPEATED = tuple(parameter.name for parameter in _FILTERS if parameter.schema["type"] == "array")
_CURSOR = Parameter(
    name="cursor",
    description="Where the page begins; links with rel `next` carry it.",
    schema={"type": "string", "pattern": f"^{CURSOR_FORM}$"},
)
_OUTPUTS = Parameter(
    name="outputs",
    description="Only these outputs.",
    schema={"type": "array", "items": {"type": "string"}},
    style="form",
    explode=False,
)
_GONE = (NoSuchJob, JobGone)
_NO_RESULT = (*_GONE, ResultsExpired, ResultNotReady, ResultNotAvailable, JobFailed, ContentLost, StorageUnavailable)


@routes.get(
    "/jobs",
    parameters=(*_FILTERS, LIMIT, _CURSOR, PROFILE, F),
    answers=(Answer(status=200, description="A page of jobs, newest first.", content=((JSON, "jobList"), (HTML, ""))),),
    problems=(InvalidParameter, NotAcceptable),
)
async def list_jobs(request: Request) -> Response:
    """List jobs, newest first."""
    query, limits, base = request.query_params, visit_of(request).parts.settings.limits, base_of(request)
    check_parameters(query, "datetime", "limit", "cursor", "f", several=(*_REPEATED, *PROFILES))
    page = await workspace_of(request).jobs.page(_job_query(query, limit_of(query, limits.page_size, limits.page_max)))
    links = self_links(request)
    if page.next is not None:
        kept = [(name, value) for name, value in query.multi_items() if name != "cursor"]
        following = QueryParams([*kept, ("cursor", encode_cursor(page.next))])
        links.append(Link(href=f"{base}/jobs?{following}", rel="next", type=JSON))
    document = JobList(jobs=[status_info(job, base) for job in page.jobs], links=links)
    return answer(request, document, page="jobs", profile="jobs-list")


@routes.get(
    "/jobs/{jobID}",
    parameters=(JOB_ID, PROFILE, F),
    answers=(Answer(status=200, description="Its status.", content=((JSON, "statusInfo"), (HTML, ""))),),
    problems=(*_GONE, InvalidParameter, NotAcceptable),
)
async def get_job(request: Request) -> Response:
    """Tell how a job is."""
    job = await workspace_of(request).jobs.get(request.path_params["jobID"])
    wanted = wanted_media_type(request.query_params.get("f"), header(request, "accept"), (JSON, HTML))
    shown = await _shown(request, job) if wanted == HTML else {}
    return answer(request, await _status(request, job), page="job", profile="job-description", **shown)


@routes.delete(
    "/jobs/{jobID}",
    parameters=(JOB_ID, F),
    answers=(
        Answer(status=200, description="It is dismissed, or was removed.", content=((JSON, "statusInfo"), (HTML, ""))),
    ),
    problems=(*_GONE, InvalidParameter, NotAcceptable, LedgerUnavailable, StorageUnavailable),
)
async def dismiss_job(request: Request) -> Response:
    """Stop a job that waits or runs; remove one that has ended, with its results."""
    job = await workspace_of(request).jobs.dismiss(request.path_params["jobID"])
    return answer(request, status_info(job, base_of(request)), page="job", job=job)


@routes.put(
    "/jobs/{jobID}/pin",
    parameters=(JOB_ID,),
    answers=(Answer(status=204, description="Its results are kept until it is removed."),),
    problems=(*_GONE, ResultsExpired, LedgerUnavailable),
)
async def pin_job(request: Request) -> Response:
    """Keep the results of a job beyond the time for which results are kept."""
    await workspace_of(request).jobs.pin(request.path_params["jobID"])
    return Response(status_code=204)


@routes.delete(
    "/jobs/{jobID}/pin",
    parameters=(JOB_ID,),
    answers=(Answer(status=204, description="Its results are kept as long as those of others."),),
    problems=(*_GONE, LedgerUnavailable),
)
async def unpin_job(request: Request) -> Response:
    """Keep the results of a job no longer than others."""
    await workspace_of(request).jobs.unpin(request.path_params["jobID"])
    return Response(status_code=204)


@routes.get(
    "/jobs/{jobID}/results",
    parameters=(JOB_ID, _OUTPUTS, PREFER, PROFILE),
    answers=(
        Answer(
            status=200,
            description="Of one output its value, of several a results document.",
            content=((JSON, "result"), ("multipart/related", ""), ("*/*", "")),
            headers=("Link",),
        ),
        Answer(status=204, description="The outputs are linked in headers.", headers=("Link",)),
        Answer(status=303, description="The one output is stored elsewhere.", headers=("Location",)),
    ),
    problems=(*_NO_RESULT, NoSuchOutput, InvalidParameter, NotAcceptable),
)
async def get_results(request: Request) -> Response:
    """Return what a job has produced."""
    results = await _results(request)
    asked = list_parameter(request.query_params, "outputs")
    if asked:
        for name in asked:
            _check_output(results, name)
        results = results.only(asked)
    if _wants_page(request):
        shown = await exhibits(results)
        return answer(
            request, await _status(request, results.job), page="results", exhibits=lambda: shown,
            headers={"link": f'<{results.base}/jobs/{results.job.id}>; rel="monitor"'},
        )  # fmt: skip
    return await results_response(request, results, prefer_of(request), profiles_of(request), executing=False)


@routes.get(
    "/jobs/{jobID}/results/{outputID}",
    parameters=(JOB_ID, OUTPUT_ID),
    answers=(
        Answer(
            status=200,
            description="The value.",
            content=(("*/*", ""),),
            headers=("OGC-Output-Values-Count", "ETag", "Repr-Digest"),
        ),
        Answer(status=206, description="A range of its bytes.", content=(("*/*", ""),), headers=("Content-Range",)),
        Answer(status=303, description="It lies elsewhere, or is to be had from the storage.", headers=("Location",)),
    ),
    problems=(*_NO_RESULT, NoSuchOutput, OutputNotProduced, InvalidParameter, NotAcceptable),
)
async def get_output(request: Request) -> Response:
    """Return one output of a job in its own media type."""
    results, name = await _results(request), request.path_params["outputID"]
    _check_output(results, name)
    return await single_output(request, results, name)


@routes.get(
    "/jobs/{jobID}/results/{outputID}/{index}",
    parameters=(
        JOB_ID,
        OUTPUT_ID,
        Parameter(
            name="index", place="path", description="Which value, from 0.", schema={"type": "integer", "minimum": 0}
        ),
    ),
    answers=(
        Answer(status=200, description="The value.", content=(("*/*", ""),), headers=("ETag", "Repr-Digest")),
        Answer(status=206, description="A range of its bytes.", content=(("*/*", ""),), headers=("Content-Range",)),
        Answer(status=303, description="It lies elsewhere, or is to be had from the storage.", headers=("Location",)),
    ),
    problems=(*_NO_RESULT, NoSuchOutput, OutputNotProduced, InvalidParameter, NotAcceptable),
)
async def get_output_value(request: Request) -> Response:
    """Return one value of an output."""
    results, name, index = await _results(request), request.path_params["outputID"], request.path_params["index"]
    _check_output(results, name)
    if not re.fullmatch(r"[0-9]+", index):
        raise InvalidParameter("index", index, "use a whole number of at least 0")
    if len(index) > _DIGITS:
        raise OutputNotProduced(results.job.id, f"{name}/{index}")
    return await single_output(request, results, name, int(index))


def _wants_page(request: Request) -> bool:
    """Whether a page is wanted more than any content; results are what they are unless somebody says so."""
    f, ranges = request.query_params.get("f"), parse_accept(request.headers.get("accept", ""))
    if f is not None:
        return media_type_of(f).partition(";")[0].strip() == HTML
    return quality_of(HTML, ranges) > max(quality_of(JSON, ranges), quality_of("application/octet-stream", ranges))


async def _shown(request: Request, job: Job) -> dict[str, Any]:
    """Return what the page of a job shows besides its status."""
    shown = await exhibits(_results_of(request, job)) if job.status == "successful" else []
    notices = await workspace_of(request).jobs.notices(job.id) if job.subscriber else []
    return {
        "exhibits": lambda: shown,
        "inputs": lambda: _execute.decode(job.request).inputs if job.request else {},
        "log": await _tail(request, job),
        "notifications": lambda: msgspec.to_builtins(notifications(notices, base_of(request))),
    }


@dataclass(frozen=True, slots=True)
class Tail:
    """The last lines of a log."""

    text: str
    end: int
    """Where they end, bytes from the beginning of the log."""


async def _tail(request: Request, job: Job) -> Tail:
    """Return the last lines of what a job has printed."""
    opened = None
    try:
        opened = await visit_of(request).parts.logs.open(job, PROCESS)
        if opened is None:
            return Tail("", 0)
        end = opened.size
        start = max(0, end - _TAIL)
        text = (await opened.read(start, end - start)).decode(errors="replace")
    except (ContentLost, StorageUnavailable):  # all else is shown
        return Tail("", 0)
    finally:
        if opened is not None:
            opened.close()
    return Tail((text.partition("\n")[2] or text) if start else text, end)


async def _status(request: Request, job: Job) -> StatusInfo:
    place = await workspace_of(request).jobs.place(job)
    return status_info(job, base_of(request), steps=await visit_of(request).parts.logs.steps(job), place=place)


async def _results(request: Request) -> Results:
    job = await workspace_of(request).jobs.results(request.path_params["jobID"])
    return _results_of(request, job)


def _results_of(request: Request, job: Job) -> Results:
    workspace = workspace_of(request)
    offer = workspace.processes.find(job.process)
    return Results(
        job=job,
        manifest=job.outputs(),
        execute=_execute.decode(job.request),
        description=offer.description if offer is not None else None,
        store=workspace.jobs.engine.results,
        base=base_of(request),
    )


def _check_output(results: Results, name: str) -> None:
    """Tell an output that the process does not have from one that this job did not produce (X-NOOUT)."""
    known = results.description.outputs if results.description is not None else results.manifest
    if name not in known:
        raise NoSuchOutput(name, list(known))
    if name not in results.manifest:
        raise OutputNotProduced(results.job.id, name)


def _job_query(query: QueryParams, limit: int) -> JobQuery:
    types, statuses = _selected(query, "type"), _selected(query, "status")
    for name, values, known in (("type", types, _TYPES), ("status", statuses, _STATUSES)):
        for value in values:
            if value not in known:
                raise InvalidParameter(name, value, f"use {', '.join(known)}")
    created_from, created_to = _interval(query.get("datetime"))
    return JobQuery(
        workspace="",
        types=types or _TYPES,
        processes=_selected(query, "processID"),
        statuses=statuses,  # type: ignore[arg-type]
        created_from=created_from,
        created_to=created_to,
        min_duration=_duration(query, "minDuration", largest=False),
        max_duration=_duration(query, "maxDuration", largest=True),
        limit=limit,
        before=cursor_of(query),
    )


def _selected(query: QueryParams, name: str) -> tuple[str, ...]:
    """Return the values of a filter; one that is empty would select everything, which nobody means."""
    if not all(re.search(_FILLED, part) for part in query.getlist(name)):
        raise InvalidParameter(name, "", "send a value, or leave the parameter out")
    return list_parameter(query, name)


def _duration(query: QueryParams, name: str, *, largest: bool) -> float | None:
    """Return a bound in seconds; of a list the one that lets most through."""
    values = _selected(query, name)
    for value in values:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
            raise InvalidParameter(name, value, "use seconds, a number of at least 0")
    numbers = [float(value) for value in values]
    return (max if largest else min)(numbers) if numbers else None


def _interval(text: str | None) -> tuple[int | None, int | None]:
    """Return the ends of a ``datetime`` parameter in microseconds; an instant is an interval of its own."""
    if text is None:
        return None, None
    start, slash, end = text.partition("/")
    if not slash:
        end = start
    ends = [_instant(part, text) if part not in ("", "..") else None for part in (start, end)]
    if ends == [None, None] and not slash:
        raise InvalidParameter(
            "datetime", text, "use an RFC 3339 instant or an interval such as 2026-01-01T00:00:00Z/.."
        )
    if ends[0] is not None and ends[1] is not None and ends[0] > ends[1]:
        raise InvalidParameter("datetime", text, "the interval ends before it starts")
    return ends[0], ends[1]


def _instant(part: str, text: str) -> int:
    if not re.fullmatch(MOMENT, part):
        raise InvalidParameter("datetime", text, "use RFC 3339 with a zone, e.g. 2026-01-01T00:00:00Z")
    # A leap second counts as the one that follows it.
    moment = datetime.fromisoformat(part.replace(":59:60", ":59:59")).timestamp() + (":59:60" in part)
    return int(moment * 1e6)
