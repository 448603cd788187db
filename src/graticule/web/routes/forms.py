"""What the forms of the pages post: they run a process, dismiss jobs, tell of one again, and lead on to a page."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from urllib.parse import quote, urlsplit

import msgspec
from starlette.datastructures import FormData, QueryParams, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive

from graticule.data.uploads import Upload
from graticule.errors import (
    AccessDenied,
    Fault,
    IllegalTransition,
    InvalidBody,
    InvalidInputs,
    InvalidParameter,
    JobGone,
    NoSuchJob,
    TooLarge,
)
from graticule.jobs.job import Job
from graticule.ogc.processes import Execute, ProcessDescription, WantedOutput
from graticule.processes.catalog import Offer
from graticule.processes.secrets import hides
from graticule.web import pages
from graticule.web.forms import Form, blank_form, filled_form, read_form, with_faults
from graticule.web.requests import about_job, base_of, header, trace_of, visit_of, whole_number, workspace_of
from graticule.web.responses import VARY
from graticule.web.routes.processes import describe
from graticule.web.routing import Routes

routes = Routes("Pages")

_PATIENCE = 0.8
"""Seconds that a submitted form waits for its job, so that a quick one is shown with its result at once."""

_COPIED = 1 << 20
_FORM_BYTES = 64 << 20
"""Bytes of a form besides its files."""

_FILES = 50
_FIELDS = 2000
_DISMISS, _REMOVE = "dismiss", "remove"
_PIN, _UNPIN = "pin", "unpin"
_execute = msgspec.json.Decoder(Execute)


@routes.get("/processes/{processID}/form", hidden=True)
async def show_form(request: Request) -> Response:
    """Show the page of a process with the inputs of an earlier job in its form."""
    offer = workspace_of(request).processes.get(request.path_params["processID"])
    description = describe(offer, base_of(request))
    job_id = request.query_params.get("job")
    if job_id is None:
        return _see(f"{base_of(request)}/processes/{quote(description.id, safe='')}")
    job = await workspace_of(request).jobs.get(job_id)
    if job.process != description.id:
        raise InvalidParameter("job", job_id, f"it is a job of {job.process}; open its own page")
    failure = job.failed_because()
    faults = [Fault(fault.pointer, fault.message) for fault in failure.faults] if failure is not None else []
    # Own files are found below the address that this visitor uses, which need not be that of whoever sent the job.
    here, there = (f"{base}/files/".encode() for base in (base_of(request), job.base))
    inputs = _execute.decode(job.request.replace(there, here)).inputs
    # A secret is not shown again, so whoever sends the job again by its form enters it again.
    open_inputs = {name: given for name, given in inputs.items() if not hides(description, name)}
    form = filled_form(description, open_inputs, faults)
    return _page(request, description, form, 200)


@routes.post("/processes/{processID}/form", hidden=True)
async def submit_form(request: Request) -> Response:
    """Run a process with what its form says, and lead to the job; a form with faults comes back with them."""
    _check_site(request)
    offer = workspace_of(request).processes.get(request.path_params["processID"])
    description = describe(offer, base_of(request))
    posted = await _posted(request, description)
    outputs = None
    if "example" in posted:
        form, outputs = _example(description, posted["example"][0])
    else:
        form = read_form(description, posted)
    if form.faulty:
        return _page(request, description, _all_faults(request, offer, form), 400)
    execute = Execute(inputs=dict(form.inputs), outputs=outputs)
    try:
        job_id = await _submit(request, description.id, execute)
    except InvalidInputs as error:
        return _page(request, description, with_faults(form, error.faults), 400)
    return _see(f"{base_of(request)}/jobs/{job_id}")


@routes.post("/jobs/{jobID}/start", hidden=True)
async def start(request: Request) -> Response:
    """Start a created job, and lead to it."""
    _check_site(request)
    jobs, started = workspace_of(request).jobs, None
    while started is None:
        job = await jobs.get_created(request.path_params["jobID"])
        started = await jobs.start(job, _execute.decode(job.request), waits=False)
    return _see(f"{base_of(request)}/jobs/{started.job.id}")


@routes.post("/jobs/{jobID}/dismissal", hidden=True)
async def dismiss(request: Request) -> Response:
    """Dismiss or remove a job, and lead to it, or to the list if nothing is left of it."""
    _check_site(request)
    job_id, action = request.path_params["jobID"], _choice(await _read(request), _DISMISS, _REMOVE)
    job = await workspace_of(request).jobs.get(job_id)
    removed = await _end(request, job, action)
    return _see(f"{base_of(request)}/jobs" if removed else f"{base_of(request)}/jobs/{job.id}")


@routes.get("/jobs/form", hidden=True)
async def filter_jobs(request: Request) -> Response:
    """Lead to the list of jobs with the filters that were filled in: a form sends the others too, which are refused."""
    wanted = QueryParams([(name, value) for name, value in request.query_params.multi_items() if value.strip(" ,")])
    return _see(f"{base_of(request)}/jobs?{wanted}".rstrip("?"))


@routes.post("/jobs/form", hidden=True)
async def end_jobs(request: Request) -> Response:
    """Dismiss those of the chosen jobs that wait or run, or remove those that have ended; lead back to the list."""
    _check_site(request)
    posted = await _read(request)
    action = _choice(posted, _DISMISS, _REMOVE)
    for job_id in dict.fromkeys(posted.getlist("job")):
        with suppress(NoSuchJob, JobGone):  # somebody else was quicker
            await _end(request, await workspace_of(request).jobs.get(str(job_id)), action)
    shown = QueryParams(str(posted.get("shown", "")))
    return _see(f"{base_of(request)}/jobs?{shown}".rstrip("?"))


@routes.post("/jobs/{jobID}/pinning", hidden=True)
async def pin(request: Request) -> Response:
    """Keep the results of a job for ever, or no longer than those of others, and lead back to it."""
    _check_site(request)
    job_id, jobs = request.path_params["jobID"], workspace_of(request).jobs
    change = jobs.pin if _choice(await _read(request), _PIN, _UNPIN) == _PIN else jobs.unpin
    await change(job_id)
    return _see(f"{base_of(request)}/jobs/{quote(job_id, safe='')}")


@routes.post("/jobs/{jobID}/notifications/{number}/form", hidden=True)
async def send_again(request: Request) -> Response:
    """Send a message to the subscriber of a job again, and lead back to the list of them."""
    _check_site(request)
    job_id = request.path_params["jobID"]
    await workspace_of(request).jobs.send_again(job_id, request.path_params["number"])
    return _see(f"{base_of(request)}/jobs/{quote(job_id, safe='')}/notifications?f=html")


@routes.post("/files/form", hidden=True)
async def upload(request: Request) -> Response:
    """Keep the files of a form, and lead to the list of files."""
    _check_site(request)
    await _gathered(request, await _read(request))
    return _see(f"{base_of(request)}/files?f=html")


def _choice(posted: FormData, *known: str) -> str:
    """Return which button of a form was pressed."""
    choice = str(posted.get("choice", ""))
    if choice not in known:
        raise InvalidParameter("choice", choice, f"use {' or '.join(known)}")
    return choice


async def _end(request: Request, job: Job, action: str) -> bool:
    """Dismiss or remove a job; return whether it is removed.

    Whoever saw a job run and dismisses it does not lose results that it has made meanwhile, as by a DELETE.
    """
    jobs = workspace_of(request).jobs
    if action == _REMOVE and job.ended:
        await jobs.remove(job)
        return True
    if action == _DISMISS and not job.ended:
        with suppress(IllegalTransition):
            await jobs.stop(job.key)
    return False


def _example(description: ProcessDescription, text: str) -> tuple[Form, dict[str, WantedOutput] | None]:
    examples = description.examples or []
    if not text.isdecimal() or whole_number(text) >= len(examples):
        raise InvalidParameter("example", text, f"use a whole number below {len(examples)}")
    outputs = examples[int(text)].outputs
    return blank_form(description, int(text)), msgspec.convert(outputs, dict[str, WantedOutput]) if outputs else None


def _all_faults(request: Request, offer: Offer, form: Form) -> Form:
    """Add what the other fields have wrong, so that everything is mended at once.

    References to own files are only known when a request is submitted, so those are not looked at here.
    """
    known = {one.name for one in form.faulty} | {one.name for one in form.fields if one.address}
    found = with_faults(form, offer.checker.check(form.inputs, None, workspace_of(request).jobs.policy))
    pairs = zip(form.fields, found.fields, strict=True)
    fields = tuple(before if before.name in known else after for before, after in pairs)
    return replace(found, fields=fields)


async def _submit(request: Request, process_id: str, execute: Execute) -> str:
    """Take the job on; give it a moment to end."""
    jobs = workspace_of(request).jobs
    body, base = msgspec.json.encode(execute), base_of(request)
    asked = await jobs.request(execute, body, base=base, trace=trace_of(request))
    submission = await jobs.submit(process_id, asked)
    about_job(submission.job.id)
    await submission.kept
    key, feed = submission.job.key, jobs.engine.feed
    end = feed.end_of(key)
    try:
        if not (await jobs.get(key.id)).ended:
            await asyncio.wait({end}, timeout=_PATIENCE)
    finally:
        feed.forget(key, end)
    return key.id


def _page(request: Request, description: ProcessDescription, form: Form, status: int) -> Response:
    request.scope["resource"] = f"/processes/{description.id}"  # the page's own address, for its links
    body = pages.render(request, "process", description, form=lambda: form, example=None)
    return Response(body, status, {"vary": VARY, **pages.HEADERS}, media_type="text/html; charset=utf-8")


def _see(address: str) -> Response:
    return Response(status_code=303, headers={"location": address, "cache-control": "no-store"})


def _check_site(request: Request) -> None:
    """Refuse a form that a page of another site has posted.

    There is no cookie to misuse, but a server on this machine or in this network trusts whoever reaches it.
    """
    site, origin = header(request, "sec-fetch-site"), header(request, "origin")
    if site:
        own = site in ("same-origin", "none")
    elif origin:
        base = urlsplit(base_of(request))
        own = origin == f"{base.scheme}://{base.netloc}"
    else:
        own = True  # no browser
    if not own:
        raise AccessDenied(workspace_of(request).actor, "send a form from another site; open the page of this service")


# --- reading --------------------------------------------------------------------------------------------------------


async def _posted(request: Request, description: ProcessDescription) -> dict[str, list[str]]:
    """Return the controls of a form; files are kept and stand as their addresses."""
    form = await _read(request)
    posted: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            posted.setdefault(name, []).append(value)
    for name, kept in await _gathered(request, form):
        if name.removeprefix("file:") in description.inputs:
            posted.setdefault(name, []).append(f"{base_of(request)}/files/{kept.address}")
    return posted


async def _read(request: Request) -> FormData:
    settings = visit_of(request).parts.settings.server
    limit = (settings.upload_limit_mib << 20) + _FORM_BYTES if settings.upload_limit_mib else 0
    counted = Request(request.scope, _limited(request, limit))
    try:
        return await counted.form(max_files=_FILES, max_fields=_FIELDS, max_part_size=settings.body_limit_mib << 20)
    except HTTPException as error:
        raise InvalidBody(f"the form cannot be read: {error.detail}") from error
    except UnicodeError as error:  # some charsets cannot even be tried
        raise InvalidBody("the form cannot be read: it is not in the charset that it names; send UTF-8") from error
    except ClientDisconnect as error:
        raise InvalidBody("the form ended before it was complete") from error


def _limited(request: Request, limit: int) -> Receive:
    """Return the request's receiver, which refuses more than `limit` bytes."""
    size = 0

    async def receive() -> Message:
        nonlocal size
        message = await request.receive()
        size += len(message.get("body", b""))
        if limit and size > limit:
            raise TooLarge("the form", limit, "offer large files on a web server and give their address")
        return message

    return receive


async def _gathered(request: Request, form: FormData) -> list[tuple[str, Upload]]:
    """Keep the files of a form among the uploads; a file control that was left empty counts for nothing."""
    kept = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and value.filename and value.size:
            kept.append((name, await _keep(request, value)))
    await form.close()
    return kept


async def _keep(request: Request, sent: UploadFile) -> Upload:
    workspace, settings = workspace_of(request), visit_of(request).parts.settings.storage
    expiry = timedelta(hours=settings.upload_expiry_hours) if settings.upload_expiry_hours else None
    begin = partial(workspace.files.begin, media_type=sent.content_type or "", actor=workspace.actor, expiry=expiry)
    begun = await asyncio.to_thread(begin, sent.filename or "file")
    writer = await asyncio.to_thread(workspace.files.append, begun.id, 0)
    try:
        while content := await sent.read(_COPIED):
            await asyncio.to_thread(writer.write, content)
    finally:
        await asyncio.to_thread(writer.close)
    return await workspace.files.finish(begun.id, writer.sha256)
