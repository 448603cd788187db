"""Run a process."""

from __future__ import annotations

import asyncio
import re

from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import (
    ContentLost,
    InvalidBody,
    InvalidInputs,
    InvalidParameter,
    JobFailed,
    KeyReused,
    NoSuchProcess,
    NotAcceptable,
    QueueHeld,
    ShuttingDown,
    SyncTimeout,
    TooLarge,
    TooManyJobs,
    UnsupportedEncoding,
    UnsupportedMediaType,
)  # fmt: skip
from graticule.jobs.job import Job
from graticule.jobs.manager import JobManager, Submission, require_success
from graticule.ogc.common import HTML, JSON
from graticule.ogc.processes import Execute, ProcessDescription
from graticule.web.documents import Results, result_types, results_response, speaks_1_0, status_info
from graticule.web.negotiation import admits, choose
from graticule.web.parameters import IDEMPOTENCY_KEY, PREFER, PROCESS_ID
from graticule.web.preferences import RESPOND_ASYNC, Mode, decide_mode
from graticule.web.requests import (
    PROFILES,
    about_job,
    accept_of,
    base_of,
    check_parameters,
    header,
    prefer_of,
    profiles_of,
    read_body,
    trace_of,
    visit_of,
    workspace_of,
)
from graticule.web.responses import answer
from graticule.web.routing import Answer, Routes

routes = Routes("Execution")

_KEY = re.compile(r"[!-~]{1,255}")
_SOON = 0.25
"""Seconds after which a waiting request is watched for a client that hangs up; most executions are done before."""

EXECUTION_ANSWERS = (
    Answer(
        status=200,
        description="The result: of one output its value, of several a results document.",
        content=((JSON, "result"), ("multipart/related", ""), ("*/*", "")),
        headers=("Preference-Applied", "Link", "OGC-Output-Values-Count", "ETag"),
    ),
    Answer(
        status=201,
        description="The job was taken on; its address is in Location.",
        content=((JSON, "statusInfo"), (HTML, "")),
        headers=("Location", "Preference-Applied"),
    ),
    Answer(status=204, description="It ran; nothing is returned, or outputs are linked.", headers=("Link",)),
    Answer(status=303, description="The one output is stored elsewhere.", headers=("Location",)),
)
EXECUTION_PROBLEMS = (
    NoSuchProcess, InvalidBody, InvalidInputs, InvalidParameter, TooLarge, UnsupportedEncoding, UnsupportedMediaType,
    NotAcceptable, JobFailed, SyncTimeout, ContentLost, KeyReused, TooManyJobs, QueueHeld, ShuttingDown,
)  # fmt: skip


@routes.post(
    "/processes/{processID}/execution",
    parameters=(PROCESS_ID, PREFER, IDEMPOTENCY_KEY),
    body=((JSON, "execute"),),
    answers=EXECUTION_ANSWERS,
    problems=EXECUTION_PROBLEMS,
)
async def execute(request: Request) -> Response:
    """Run a process; answer at once with `respond-async`, otherwise when it ends or the wait is up."""
    process_id = request.path_params["processID"]
    workspace_of(request).jobs.catalog.get(process_id)  # without it, no body is right
    check_parameters(request.query_params, "f", several=PROFILES)
    body, received = await read_body(request, Execute)
    return await run(request, process_id, body, received)


async def run(request: Request, process_id: str, body: Execute, received: bytes) -> Response:
    """Run a process as a request asks: shared by every way in which an execute request can come."""
    jobs, prefer = workspace_of(request).jobs, prefer_of(request)
    offer = jobs.catalog.get(process_id)
    mode = decide_mode(offer.description, prefer, visit_of(request).parts.settings.server.sync_limit_s)
    check_accept(request, body, offer.description, mode)
    # Its answer may carry no Link header: the official suite reads any as the old form of one.
    listed = not (mode.waits and speaks_1_0(body))
    asked = await jobs.request(
        body,
        received,
        base=base_of(request),
        sync=mode.waits,
        prompt=mode.waits and RESPOND_ASYNC not in mode.applied,
        listed=listed,
        trace=trace_of(request),
        idempotency_key=idempotency_key_of(request),
    )
    submission = await jobs.submit_once(process_id, asked)
    about_job(submission.job.id)
    if not mode.waits:
        await submission.kept
        return created(request, submission.job, mode)
    job = await _wait(request, jobs, submission, mode)
    if not job.ended:
        job = await jobs.let_go(submission, seconds=mode.timeout)
    if not job.ended:
        return created(request, job, mode)
    return await finished(request, job, body, offer.description, mode)


async def finished(
    request: Request, job: Job, execute: Execute, description: ProcessDescription, mode: Mode
) -> Response:  # fmt: skip
    """Return the answer to an execution whose job has ended: its results, or why there are none."""
    require_success(job)
    results = Results(
        job=job,
        manifest=job.outputs(),
        execute=execute,
        description=description,
        store=workspace_of(request).jobs.engine.results,
        base=base_of(request),
    )
    response = await results_response(request, results, prefer_of(request), profiles_of(request), executing=True)
    # The result came in time: whoever preferred a job did not get one.
    applied = [one for one in mode.applied if one != RESPOND_ASYNC]
    if applied:
        applied += filter(None, [response.headers.get("preference-applied")])
        response.headers["preference-applied"] = ", ".join(applied)
    return response


def check_accept(request: Request, execute: Execute, description: ProcessDescription, mode: Mode) -> None:
    """Refuse an Accept header that nothing can serve before there is a job."""
    accept = accept_of(request)
    if accept in ("", "*/*"):
        return
    offered: list[str] | None = []
    if mode.waits:
        offered = result_types(execute, description, profiles_of(request))
    if offered is not None:
        # Who prefers a job may get its status, which there is as a page too.
        choose(accept, offered if mode.waits and RESPOND_ASYNC not in mode.applied else [JSON, HTML, *offered])


def created(request: Request, job: Job, mode: Mode, *, status: int = 201) -> Response:
    """Return the answer to a job that was taken on: its address and its status."""
    base = base_of(request)
    headers = {"location": f"{base}/jobs/{job.id}"}
    if mode.applied:
        headers["preference-applied"] = ", ".join(mode.applied)
    accept = accept_of(request)
    if not (admits(accept, JSON) or admits(accept, HTML)):
        # The job exists: a status document that was not asked for is better than an error without its address.
        request = _asking_for_json(request)
    return answer(request, status_info(job, base), page="job", status=status, headers=headers)


def _asking_for_json(request: Request) -> Request:
    others = [pair for pair in request.scope["headers"] if pair[0] != b"accept"]
    return Request({**request.scope, "headers": others, "query_string": b"f=json"}, request.receive)


async def _wait(request: Request, jobs: JobManager, submission: Submission, mode: Mode) -> Job:
    """Wait for the end of a job; a client that hangs up meanwhile dismisses it."""
    quick = min(_SOON, mode.timeout)
    job = await jobs.wait(submission, seconds=quick)
    if job.ended or mode.timeout <= quick:
        return job
    waiting = asyncio.ensure_future(jobs.wait(submission, seconds=mode.timeout - quick))
    hung_up = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({waiting, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done() and not submission.job.idempotency_key:  # with a key it is asked for once more
            await jobs.dismiss(submission.job.id)
        return await waiting
    finally:
        hung_up.cancel()


def idempotency_key_of(request: Request) -> str:
    """Return the key by which a request is known if it is sent again; empty: it has none."""
    key = header(request, "idempotency-key")
    if not key and "idempotency-key" not in request.headers:
        return ""
    if not _KEY.fullmatch(key):
        raise InvalidParameter("Idempotency-Key", key, "use 1 to 255 visible ASCII characters, such as a UUID")
    return key


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
