"""The list of jobs, their status, results and logs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import (
    AccessDenied,
    ContentLost,
    Fault,
    InvalidBody,
    InvalidParameter,
    JobChanged,
    JobFailed,
    JobGone,
    NoSuchJob,
    NoSuchOutput,
    NotAcceptable,
    NotWaiting,
    OutputNotProduced,
    ResultNotAvailable,
    ResultNotReady,
    ResultsExpired,
    StorageUnavailable,
    TooLarge,
    UnsupportedMediaType,
)  # fmt: skip
from graticule.jobs.job import Job
from graticule.jobs.ledger import JobQuery
from graticule.jobs.log import PROCESS
from graticule.ogc.common import HTML, JSON, Link
from graticule.ogc.jobs import JobList, JobStatus, StatusInfo
from graticule.ogc.operations import HIGHEST_PRIORITY, Priority
from graticule.ogc.processes import LABEL, Execute
from graticule.processes.secrets import shown_inputs
from graticule.web import pages
from graticule.web.documents import Results, moment, results_response, single_output, status_info
from graticule.web.exhibits import exhibits
from graticule.web.negotiation import media_type_of, parse_accept, quality_of, wanted_media_type
from graticule.web.parameters import DATETIME, F_JSON, IF_MATCH, JOB_ID, LIMIT, MOMENT, OUTPUT_ID, PREFER, PROFILE, F
from graticule.web.requests import (
    CURSOR_FORM,
    PROFILES,
    accept_of,
    base_of,
    check_parameters,
    cursor_of,
    encode_cursor,
    header,
    limit_of,
    list_parameter,
    prefer_of,
    profiles_of,
    read_body,
    require_json,
    require_operator,
    visit_of,
    whole_number,
    workspace_of,
)  # fmt: skip
from graticule.web.responses import VARY, allows, answer, etag, matches, self_links
from graticule.web.routes.notifications import notifications
from graticule.web.routing import RANGE, Answer, Parameter, Routes

routes = Routes("Jobs")

_TYPES = ("process",)
_STATUSES = ("created", "accepted", "running", "successful", "failed", "dismissed")
_FILLED = r"[^\s,]"
_execute = msgspec.json.Decoder(Execute)
_TAIL = 4096
"""Bytes of a log that the page of a job shows at first."""
_PERIODS = {
    "the last hour": timedelta(hours=1),
    "the last 24 hours": timedelta(days=1),
    "the last 7 days": timedelta(days=7),
}
"""What the form of the list offers to filter by, besides any interval that the address says."""
_OFFERED = 200
"""Processes that the form of the list proposes."""


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
    _filter("label", "Only jobs of these labels.", {"type": "string", "pattern": LABEL}),
    _filter("maxDuration", "Only jobs that lasted at most so many seconds.", {"type": "integer", "minimum": 0}),
)
_DRY_RUN = Parameter(
    name="dryRun", description="`true`: only count the jobs.", schema={"type": "boolean", "default": False}
)
_NOT_ENDED: tuple[JobStatus, ...] = ("created", "accepted", "running")
_REPEATED = tuple(parameter.name for parameter in _FILTERS if parameter.schema["type"] == "array")
_NARROWING = tuple(parameter.name for parameter in _FILTERS)
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
_NO_RESULT = (*_GONE, ResultsExpired, ResultNotReady, ResultNotAvailable, JobFailed, ContentLost)


@routes.get(
    "/jobs",
    parameters=(*_FILTERS, LIMIT, _CURSOR, PROFILE, F),
    answers=(
        Answer(
            status=200,
            description="A page of jobs, newest first; as a page for people it has an ETag.",
            content=((JSON, "jobList"), (HTML, "")),
            headers=("ETag",),
        ),
    ),
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
    if wanted_media_type(query.get("f"), header(request, "accept"), (JSON, HTML)) == HTML:
        return _list_page(request, document)
    return answer(request, document, profile="jobs-list", page="jobs")


def _list_page(request: Request, document: JobList) -> Response:
    """Return the list as a page; a script that looks again and again learns at little cost that it is the same."""
    # Of the document alone: what a page says besides is how long ago all this was.
    headers = {"etag": etag(msgspec.json.encode(document)), "cache-control": "no-store", "vary": VARY}
    if matches(header(request, "if-none-match"), headers["etag"]):
        return Response(status_code=304, headers=headers)
    now = datetime.now(UTC)
    return answer(
        request, document, page="jobs", profile="jobs-list", headers=headers,
        periods={f"{now - period:%Y-%m-%dT%H:%M:%SZ}/..": name for name, period in _PERIODS.items()},
        filtered=any(value for name in _NARROWING for value in request.query_params.getlist(name) if value != "../.."),
        processes=[offer.description.id for offer in workspace_of(request).processes.offers()[:_OFFERED]],
    )  # fmt: skip


@routes.delete(
    "/jobs",
    parameters=(*_FILTERS, _DRY_RUN, F_JSON),
    answers=(Answer(status=200, description="What became of them.", content=((JSON, "dismissal"),)),),
    problems=(InvalidParameter, NotAcceptable),
)
async def dismiss_jobs(request: Request) -> Response:
    """Dismiss all jobs that filters select, at least one; those that have ended only if `status` names theirs."""
    query = request.query_params
    check_parameters(query, "datetime", "dryRun", "f", several=_REPEATED)
    require_json(request)
    dry_run = query.get("dryRun", "false")
    if dry_run not in ("true", "false"):
        raise InvalidParameter("dryRun", dry_run, "use true or false")
    wanted = _job_query(query, 0)
    if not any(query.get(one.name, "").strip(" ,") for one in _FILTERS if one.name != "type"):
        raise InvalidParameter(
            "status", "", "name at least one filter; status=accepted,running are all that wait or run"
        )
    if not wanted.statuses:
        wanted = replace(wanted, statuses=_NOT_ENDED)
    dismissal = await workspace_of(request).jobs.dismiss_all(wanted, dry_run=dry_run == "true")
    return Response(msgspec.json.encode(dismissal), headers={"vary": VARY}, media_type=JSON)


@routes.put(
    "/jobs/{jobID}/priority",
    parameters=(JOB_ID, F),
    body=((JSON, "priority"),),
    answers=(Answer(status=200, description="It stands elsewhere.", content=((JSON, "statusInfo"), (HTML, ""))),),
    problems=(
        *_GONE, AccessDenied, NotWaiting, InvalidBody, InvalidParameter, TooLarge, UnsupportedMediaType, NotAcceptable,

    ),
)  # fmt: skip
async def put_priority(request: Request) -> Response:
    """Change the priority of a job that waits; only operators may, for it is at the cost of others."""
    check_parameters(request.query_params, "f")
    accept_of(request)
    require_operator(request, "change the priority of a job")
    asked, _ = await read_body(request, Priority)
    if not -HIGHEST_PRIORITY <= asked.priority <= HIGHEST_PRIORITY or asked.priority != int(asked.priority):
        message = f"{asked.priority} is no priority; send a whole number from -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}"
        raise InvalidBody(message, [Fault("/priority", message)])
    job = await workspace_of(request).jobs.prioritize(request.path_params["jobID"], int(asked.priority))
    return answer(request, await status_of(request, job), page="job", job=job)


@routes.get(
    "/jobs/{jobID}",
    parameters=(JOB_ID, PROFILE, F),
    answers=(
        Answer(
            status=200,
            description="Its status; as JSON it has an ETag, another one whenever anything of the job is.",
            content=((JSON, "statusInfo"), (HTML, "")),
            headers=("ETag",),
        ),
    ),
    problems=(*_GONE, InvalidParameter, NotAcceptable),
)
async def get_job(request: Request) -> Response:
    """Tell how a job is."""
    check_parameters(request.query_params, "f", several=PROFILES)
    job = await workspace_of(request).jobs.get(request.path_params["jobID"])
    wanted = wanted_media_type(request.query_params.get("f"), header(request, "accept"), (JSON, HTML))
    document = await status_of(request, job)
    if wanted == HTML:  # it shows more than the document says
        return answer(request, document, page="job", profile="job-description", **await _shown(request, job))
    headers = {"etag": tag_of(job, document), "cache-control": "no-cache"}
    if matches(header(request, "if-none-match"), headers["etag"]):
        return Response(status_code=304, headers={"vary": VARY, **headers})
    return answer(request, document, page="job", profile="job-description", headers=headers)


@routes.get("/jobs/{jobID}/row", hidden=True)
async def get_row(request: Request) -> Response:
    """Return the row of one job in the list, which a page shows but its list no longer has; nothing if it is gone."""
    headers = {"vary": VARY, "cache-control": "no-store", **pages.HEADERS}
    try:
        job = await workspace_of(request).jobs.get(request.path_params["jobID"])
    except _GONE:
        return Response(status_code=204, headers=headers)
    body = pages.render(request, "row", status_info(job, base_of(request)))
    return Response(body, headers=headers, media_type="text/html; charset=utf-8")


@routes.delete(
    "/jobs/{jobID}",
    parameters=(JOB_ID, IF_MATCH, F),
    answers=(
        Answer(status=200, description="It is dismissed, or was removed.", content=((JSON, "statusInfo"), (HTML, ""))),
    ),
    problems=(*_GONE, JobChanged, InvalidParameter, NotAcceptable),
)
async def dismiss_job(request: Request) -> Response:
    """Stop a job that waits or runs; remove one that has ended, with its results."""
    check_parameters(request.query_params, "f")
    accept_of(request)  # nothing is dismissed that cannot be answered then
    jobs, job_id = workspace_of(request).jobs, request.path_params["jobID"]
    read: Job | None = None
    if header(request, "if-match"):
        read = await jobs.get(job_id)
        await check_unchanged(request, read)
    job = await jobs.dismiss(job_id, read=read)
    return answer(request, status_info(job, base_of(request)), page="job", job=job)


@routes.put(
    "/jobs/{jobID}/pin",
    parameters=(JOB_ID,),
    answers=(Answer(status=204, description="Its results are kept until it is removed."),),
    problems=(*_GONE, ResultsExpired, InvalidParameter),
)
async def pin_job(request: Request) -> Response:
    """Keep the results of a job beyond the time for which results are kept."""
    check_parameters(request.query_params)
    await workspace_of(request).jobs.pin(request.path_params["jobID"])
    return Response(status_code=204)


@routes.delete(
    "/jobs/{jobID}/pin",
    parameters=(JOB_ID,),
    answers=(Answer(status=204, description="Its results are kept as long as those of others."),),
    problems=(*_GONE, InvalidParameter),
)
async def unpin_job(request: Request) -> Response:
    """Keep the results of a job no longer than others."""
    check_parameters(request.query_params)
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
            headers=("Link", "ETag", "Preference-Applied"),
        ),
        RANGE,
        Answer(status=204, description="The outputs are linked in headers.", headers=("Link",)),
        Answer(status=303, description="The one output is stored elsewhere.", headers=("Location",)),
    ),
    problems=(*_NO_RESULT, NoSuchOutput, InvalidParameter, NotAcceptable),
)
async def get_results(request: Request) -> Response:
    """Return what a job has produced."""
    check_parameters(request.query_params, "f", several=("outputs", *PROFILES))
    results = await _results(request)
    asked = list_parameter(request.query_params, "outputs")
    if asked:
        for name in asked:
            _check_output(results, name)
        results = results.only(asked)
    if _wants_page(request):
        shown = await exhibits(results)
        return answer(
            request, await status_of(request, results.job), page="results", exhibits=lambda: shown,
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
        RANGE,
        Answer(status=303, description="It lies elsewhere, or is to be had from the storage.", headers=("Location",)),
    ),
    problems=(*_NO_RESULT, NoSuchOutput, OutputNotProduced, InvalidParameter, NotAcceptable),
)
async def get_output(request: Request) -> Response:
    """Return one output of a job in its own media type."""
    check_parameters(request.query_params, "f", several=PROFILES)
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
        RANGE,
        Answer(status=303, description="It lies elsewhere, or is to be had from the storage.", headers=("Location",)),
    ),
    problems=(*_NO_RESULT, NoSuchOutput, OutputNotProduced, InvalidParameter, NotAcceptable),
)
async def get_output_value(request: Request) -> Response:
    """Return one value of an output."""
    check_parameters(request.query_params, "f", several=PROFILES)
    results, name, index = await _results(request), request.path_params["outputID"], request.path_params["index"]
    _check_output(results, name)
    if not re.fullmatch(r"[0-9]+", index):
        raise InvalidParameter("index", index, "use a whole number of at least 0")
    return await single_output(request, results, name, whole_number(index))


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
    offer = workspace_of(request).processes.find(job.process)
    description = offer.description if offer is not None else None
    return {
        "exhibits": lambda: shown,
        "inputs": lambda: shown_inputs(_execute.decode(job.request).inputs, description) if job.request else {},
        "log": await _tail(request, job),
        "keeping": job.keeping,
        "notifications": lambda: msgspec.to_builtins(notifications(notices, base_of(request))),
    }


def _expires(request: Request, job: Job) -> str | None:
    """Return until when the results of a job are kept; None: for ever, or they are gone."""
    hours = visit_of(request).parts.retention.rules.hours_of(job.workspace, job.process)
    if not hours or job.keeping or job.status != "successful":
        return None
    return moment(job.finished + hours * 3_600_000_000)


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


async def status_of(request: Request, job: Job) -> StatusInfo:
    """Return the status document of a job, with what the ledger alone does not know."""
    place = await workspace_of(request).jobs.place(job)
    logs = visit_of(request).parts.logs
    return status_info(
        job, base_of(request), steps=await logs.steps(job), earlier=await logs.earlier_steps(job), place=place,
        expires=_expires(request, job),
    )  # fmt: skip


def tag_of(job: Job, document: StatusInfo) -> str:
    """Return the entity tag of a job: of what it is, which not all of the document may show, and of what it tells."""
    return etag(f"{job.revision} ".encode() + msgspec.json.encode(document))


async def check_unchanged(request: Request, job: Job) -> None:
    """Raise JobChanged if the request is for a job as it is no more (If-Match; RFC 9110, section 13.1.1)."""
    if_match = header(request, "if-match")
    if if_match and not allows(if_match, tag_of(job, await status_of(request, job))):
        raise JobChanged(job.id)


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
    labels = _selected(query, "label")
    for label in labels:
        if not re.fullmatch(LABEL, label):
            raise InvalidParameter("label", label, "use 1 to 63 letters, digits and . _ : / -")
    created_from, created_to = _interval(query.get("datetime"))
    return JobQuery(
        workspace="",
        types=types or _TYPES,
        processes=_selected(query, "processID"),
        statuses=statuses,  # type: ignore[arg-type]
        labels=labels,
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
