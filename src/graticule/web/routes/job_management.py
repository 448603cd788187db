"""Jobs that are sent to the list of jobs, kept until they are started, changed meanwhile, and read back (Part 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import (
    ContentLost,
    Fault,
    InvalidBody,
    InvalidInputs,
    InvalidParameter,
    JobChanged,
    JobFailed,
    JobGone,
    JobLocked,
    KeyReused,
    NoSuchJob,
    NoSuchProcess,
    NotAcceptable,
    NotEnded,
    QueueHeld,
    ShuttingDown,
    SyncTimeout,
    TooLarge,
    TooManyJobs,
    UnsupportedEncoding,
    UnsupportedMediaType,
    UnsupportedSchema,
)
from graticule.jobs.job import Job, Preparation
from graticule.jobs.manager import ExecutionRequest
from graticule.jobs.subscriptions import Subscription
from graticule.ogc.common import HTML, JSON, Link
from graticule.ogc.jobs import JobDefinition, JobInputs
from graticule.ogc.processes import Execute, JobRequest
from graticule.processes.secrets import hides, shown_inputs
from graticule.web.documents import result_types
from graticule.web.merge_patch import merge_patch
from graticule.web.negotiation import choose, media_type_of, profile_uri, wanted_media_type, wanted_profiles
from graticule.web.parameters import IDEMPOTENCY_KEY, IF_MATCH, JOB_ID, PREFER, PROFILE, F
from graticule.web.preferences import Mode, decide_start_mode, parse_prefer, split_created
from graticule.web.requests import (
    PROFILES,
    accept_of,
    base_of,
    check_charset,
    check_parameters,
    header,
    parse_body,
    prefer_of,
    profiles_of,
    read_bytes,
    read_json,
    trace_of,
    visit_of,
    workspace_of,
)
from graticule.web.responses import CONTENT_HEADERS, VARY, answer, link_header, self_links
from graticule.web.routes.execution import (
    EXECUTION_ANSWERS,
    EXECUTION_PROBLEMS,
    check_accept,
    created,
    finished,
    idempotency_key_of,
    run,
)
from graticule.web.routes.jobs import check_unchanged, status_of, tag_of
from graticule.web.routing import Answer, Parameter, Routes

routes = Routes("Jobs")

_OWN_JSON = "application/ogcapi-processes+json"
_MERGE_PATCH = "application/merge-patch+json"
_WHOLE = (JSON, _OWN_JSON)
_PATCHES = (_MERGE_PATCH, JSON, _OWN_JSON)
_STATUS_CREATED = 'status="created"'
_DEFINITION = "job-definition"

_REPOSITORY = "opengeospatial/ogcapi-processes"
_SCHEMAS = (
    f"https://raw.githubusercontent.com/{_REPOSITORY}/master/openapi/schemas/processes-workflows/execute-workflows.yaml",
    f"https://github.com/{_REPOSITORY}/blob/master/openapi/schemas/processes-workflows/execute-workflows.yaml",
    "https://schemas.opengis.net/ogcapi/processes/part1/1.0/openapi/schemas/execute.yaml",
)
"""Schemas that a body may say it follows; any of the draft and of 1.0, the first with a process."""
_EXECUTE_PROFILE = "ogc-execute-request"

_KEPT = ("accept", "accept-profile", "content-profile", "content-schema", "content-type", "prefer")
"""Headers that count when a created job is started, or that say what its body is."""
_CHANGED = ("accept", "accept-profile", "prefer")
"""Those that a patch changes: its ``Content-…`` are its own."""

_CONTENT_SCHEMA = Parameter(
    name="Content-Schema",
    place="header",
    description="Address of the schema that the body follows.",
    schema={"type": "string", "enum": list(_SCHEMAS)},
)
_PREFER_CREATED = Parameter(
    name="Prefer",
    place="header",
    description=f"As for an execution; `{_STATUS_CREATED}` keeps the job until it is started.",
    schema={"type": "string"},
)
_GONE = (NoSuchJob, JobGone)
_READ = (InvalidBody, TooLarge, UnsupportedEncoding, UnsupportedMediaType, UnsupportedSchema)
_CHANGE_PROBLEMS = (
    *_GONE, *_READ, InvalidInputs, InvalidParameter, NoSuchProcess, NotAcceptable, JobLocked, JobChanged,
)  # fmt: skip
_CHANGED_ANSWER = Answer(
    status=200, description="The job as it is now.", content=((JSON, "statusInfo"), (HTML, "")), headers=("Location",)
)
_decode_request = msgspec.json.Decoder(JobRequest)
_NOTHING = msgspec.Raw(b"{}")
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


# --- creating, changing, starting --------------------------------------------------------------------------------


@routes.post(
    "/jobs",
    parameters=(_PREFER_CREATED, _CONTENT_SCHEMA, IDEMPOTENCY_KEY, PROFILE, F),
    body=tuple((name, "executeJob") for name in _WHOLE),
    answers=EXECUTION_ANSWERS,
    problems=(*EXECUTION_PROBLEMS, UnsupportedSchema),
)
async def create_job(request: Request) -> Response:
    """Run a process that the body names; with `Prefer: status="created"` keep the job until it is started."""
    sent = await _read(request)
    process_id = _process_id(sent.execute.process, base_of(request))
    asked, _ = split_created(header(request, "prefer"))
    default = visit_of(request).parts.settings.jobs.create_default
    if not asked and sent.execute.status is None and default == "execute":
        return await run(request, process_id, sent.execute, sent.body)
    jobs, preparation = workspace_of(request).jobs, _preparation(request)
    _check_preparation(preparation, request, process_id, sent.execute)
    execution = replace(await _execution_of(request, sent), idempotency_key=idempotency_key_of(request))
    job = await jobs.create(process_id, execution, preparation)
    return created(request, job, Mode(waits=False, timeout=0, applied=(_STATUS_CREATED,) if asked else ()))


@routes.put(
    "/jobs/{jobID}",
    parameters=(JOB_ID, IF_MATCH, _PREFER_CREATED, _CONTENT_SCHEMA, PROFILE, F),
    body=tuple((name, "executeJob") for name in _WHOLE),
    answers=(_CHANGED_ANSWER,),
    problems=_CHANGE_PROBLEMS,
)
async def replace_job(request: Request) -> Response:
    """Put another request in place of that of a created job."""
    jobs, job_id = workspace_of(request).jobs, request.path_params["jobID"]
    await jobs.get_created(job_id)
    sent, preparation = await _read(request), _preparation(request)
    process_id = _process_id(sent.execute.process, base_of(request))
    _check_preparation(preparation, request, process_id, sent.execute)
    changed: Job | None = None
    while changed is None:
        job = await jobs.get_created(job_id)
        await check_unchanged(request, job)
        changed = await jobs.change(job, process_id, await _execution_of(request, sent), preparation)
    return created(request, changed, _NO_MODE, status=200)


@routes.patch(
    "/jobs/{jobID}",
    parameters=(JOB_ID, IF_MATCH, _PREFER_CREATED, _CONTENT_SCHEMA, PROFILE, F),
    body=tuple((name, "jobPatch") for name in _PATCHES),
    answers=(replace(_CHANGED_ANSWER, headers=("Location", "ETag")),),
    problems=_CHANGE_PROBLEMS,
)
async def change_job(request: Request) -> Response:
    """Change some members of the request of a created job (RFC 7396), and headers that it was sent with."""
    jobs, job_id = workspace_of(request).jobs, request.path_params["jobID"]
    await jobs.get_created(job_id)
    patch = await _read_object(request, _PATCHES)
    changed: Job | None = None
    while changed is None:
        job = await jobs.get_created(job_id)
        await check_unchanged(request, job)
        body = merge_patch(job.request, patch)
        sent = _Sent(await _checked_request(body), body)
        # An address that the patch does not change means what it meant when it was sent, wherever this one is sent to.
        same = sent.execute.process == _decode_request.decode(job.request).process
        process_id = job.process if same else _process_id(sent.execute.process, base_of(request))
        preparation = _changed_preparation(job.prepared(), request)
        _check_preparation(preparation, request, process_id, sent.execute)
        execution = await _execution_of(request, sent, before=job)
        changed = await jobs.change(job, process_id, execution, preparation)
    response = created(request, changed, _NO_MODE, status=200)
    if response.media_type == JSON:  # not after a PUT: RFC 9110, section 9.3.4
        response.headers["etag"] = tag_of(changed, await status_of(request, changed))
    return response


@routes.post(
    "/jobs/{jobID}/results",
    parameters=(JOB_ID, IF_MATCH, PREFER, PROFILE, F),
    answers=(
        Answer(
            status=200,
            description="The job was started: its status. If waiting was preferred and it has ended: its results.",
            content=((JSON, ""), (HTML, ""), ("multipart/related", ""), ("*/*", "")),
            headers=("Location", "Preference-Applied", "Link"),
        ),
        *EXECUTION_ANSWERS[2:],
    ),
    problems=(
        *_GONE, JobLocked, JobChanged, InvalidBody, InvalidInputs, InvalidParameter, NoSuchProcess, NotAcceptable,
        TooLarge, UnsupportedEncoding, JobFailed, SyncTimeout, ContentLost, QueueHeld, ShuttingDown, TooManyJobs,
    ),
)  # fmt: skip
async def start_job(request: Request) -> Response:
    """Start a created job; answer with its status, or with its results if `wait` is preferred."""
    check_parameters(request.query_params, "f", several=PROFILES)
    jobs, job_id = workspace_of(request).jobs, request.path_params["jobID"]
    await _read_nothing(request)
    submission = None
    while submission is None:
        job = await jobs.get_created(job_id)
        await check_unchanged(request, job)
        execute = _decode_request.decode(job.request)
        asking = _as_prepared(request, job.prepared())
        description = jobs.catalog.get(job.process).description
        limit = visit_of(request).parts.settings.server.sync_limit_s
        mode = decide_start_mode(description, prefer_of(asking), limit)
        check_accept(asking, execute, description, mode)
        submission = await jobs.start(job, execute, waits=mode.waits)
    if not mode.waits:
        return created(asking, submission.job, mode, status=200)
    # It had an address before, so whoever hangs up meanwhile does not dismiss it.
    ended = await jobs.wait(submission, seconds=mode.timeout)
    if not ended.ended:
        return created(asking, await jobs.let_go(submission, seconds=mode.timeout), mode, status=200)
    return await finished(asking, ended, execute, description, mode)


@routes.post(
    "/jobs/{jobID}/again",
    parameters=(JOB_ID, IDEMPOTENCY_KEY, F),
    answers=(
        Answer(
            status=201,
            description="The new job; its address is in Location.",
            content=((JSON, "statusInfo"), (HTML, "")),
            headers=("Location",),
        ),
    ),
    problems=(
        *_GONE, NotEnded, InvalidInputs, InvalidParameter, NoSuchProcess, NotAcceptable,
        QueueHeld, TooManyJobs, KeyReused,
    ),
)  # fmt: skip
async def repeat_job(request: Request) -> Response:
    """Send an ended job again: a new job with the same inputs, which links the one before."""
    check_parameters(request.query_params, "f")
    accept_of(request)
    job_id = request.path_params["jobID"]
    job = await workspace_of(request).jobs.again(
        job_id, base=base_of(request), trace=trace_of(request), idempotency_key=idempotency_key_of(request)
    )
    return created(request, job, _NO_MODE)


_NO_MODE = Mode(waits=False, timeout=0, applied=())


# --- reading back ------------------------------------------------------------------------------------------------


@routes.get(
    "/jobs/{jobID}/definition",
    parameters=(JOB_ID, PROFILE, F),
    answers=(Answer(status=200, description="What it was sent with.", content=((JSON, "jobDefinition"), (HTML, ""))),),
    problems=(*_GONE, InvalidParameter, NotAcceptable),
)
async def get_definition(request: Request) -> Response:
    """Return the request that a job was made by, as it was sent but for secrets, which are masked."""
    check_parameters(request.query_params, "f", several=PROFILES)
    job = await workspace_of(request).jobs.get(request.path_params["jobID"])
    wanted = wanted_media_type(request.query_params.get("f"), header(request, "accept"), (JSON, HTML))
    process = f"{base_of(request)}/processes/{quote(job.process, safe='')}"
    if wanted != HTML and _DEFINITION in profiles_of(request):
        document = JobDefinition(entity=process, **_sent(request, job))
        return answer(request, document, page="sent", profile=_DEFINITION)
    body = _with_process(_as_shown(request, job), process)
    if wanted == HTML:
        lede = "What the job was sent with."
        return answer(request, msgspec.json.decode(body), page="sent", job=job.id, title="Definition", lede=lede)
    links = link_header(JobInputs(inputs={}, outputs={}, links=self_links(request)))
    return Response(body, headers={"vary": VARY, "link": links, **CONTENT_HEADERS}, media_type=JSON)


@routes.get(
    "/jobs/{jobID}/inputs",
    parameters=(JOB_ID, PROFILE, F),
    answers=(Answer(status=200, description="Its inputs.", content=((JSON, "jobInputs"), (HTML, ""))),),
    problems=(*_GONE, InvalidParameter, NotAcceptable),
)
async def get_inputs(request: Request) -> Response:
    """Return the inputs of a job as they were sent, secrets masked, and which outputs are wanted of it."""
    check_parameters(request.query_params, "f", several=PROFILES)
    job = await workspace_of(request).jobs.get(request.path_params["jobID"])
    document = JobInputs(**_sent(request, job))
    wanted = wanted_media_type(request.query_params.get("f"), header(request, "accept"), (JSON, HTML))
    if wanted == HTML:
        shown = msgspec.json.decode(msgspec.json.encode(document))
        return answer(
            request, {"inputs": shown["inputs"], "outputs": shown["outputs"]}, page="sent", job=job.id, title="Inputs",
            lede="What the job was sent with, and which outputs are wanted of it.",
        )  # fmt: skip
    return answer(request, document, page="sent")


def _sent(request: Request, job: Job) -> dict[str, Any]:
    """Return what a job was sent with, not a digit of it changed but for secrets."""
    members = _decode_members.decode(_as_shown(request, job))
    return {
        "inputs": members.get("inputs", {}),
        "outputs": _wanted_outputs(request, job, members.get("outputs")),
        "headers": job.prepared().headers or None,
        "links": [
            *self_links(request),
            Link(href=f"{base_of(request)}/jobs/{job.id}", rel="up", type=JSON, title="The job"),
        ],
    }


def _as_shown(request: Request, job: Job) -> bytes:
    """Return the request of a job with its secrets masked; without any, byte for byte as it came."""
    offer = workspace_of(request).processes.find(job.process)
    description = offer.description if offer is not None else None
    members = _decode_members.decode(job.request or b"{}")
    inputs = _decode_members.decode(members.get("inputs", _NOTHING))
    if not any(hides(description, name) for name in inputs):
        return job.request or b"{}"
    return msgspec.json.encode({**members, "inputs": shown_inputs(inputs, description)})


def _wanted_outputs(request: Request, job: Job, named: msgspec.Raw | None) -> Any:
    """Return the outputs that a request names, or all that the process has."""
    if named is not None and bytes(named) != b"null":
        return named
    offer = workspace_of(request).processes.find(job.process)
    return {name: {} for name in (job.outputs() if offer is None else offer.description.outputs)}


def _with_process(body: bytes, process: str) -> bytes:
    """Return a request that names its process; one that was sent to the path of a process did not."""
    members = _decode_members.decode(body)
    return body if "process" in members else msgspec.json.encode({"process": process, **members})


# --- what was sent -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request for a job, read and as it came."""

    execute: JobRequest
    body: bytes


def _stored(job: Job) -> JobRequest:
    return _decode_request.decode(job.request)


async def _execution_of(request: Request, sent: _Sent, *, before: Job | None = None) -> ExecutionRequest:
    """Return what was sent as an execution; a subscriber that a patch leaves as it was keeps its credentials."""
    jobs, execute = workspace_of(request).jobs, sent.execute
    known: dict[str, Subscription] = {}
    stored = _stored(before).subscriber if before is not None and before.subscriber else None
    if before is not None and stored is not None and execute.subscriber == stored:
        known = {"subscription": Subscription(kept=before.subscriber, body=sent.body)}
    asked = await jobs.request(execute, sent.body, base=base_of(request), **known)
    subscriber, subscription = execute.subscriber, asked.subscription
    if stored is None or subscriber is None or subscription is None or subscriber.authorization != stored.authorization:
        return asked
    faults = [_explained(fault) for fault in subscription.faults]
    return replace(asked, subscription=replace(subscription, faults=faults))


def _explained(fault: Fault) -> Fault:
    """Say of what a patched authorization lacks why it does: whoever patches the rest may think it is there."""
    if not fault.pointer.startswith("/subscriber/authorization/"):
        return fault
    why = "; the secrets that were sent before are sealed and never read back: send the whole subscriber, with them"
    return Fault(fault.pointer, fault.message + why)


async def _read(request: Request) -> _Sent:
    body = await _read_object(request, _WHOLE)
    return _Sent(await _checked_request(body), body)


async def _read_object(request: Request, media_types: tuple[str, ...]) -> bytes:
    """Return a body that is a JSON object in an encoding that is served.

    Raises
    ------
    InvalidParameter
        If a query parameter is not known.
    UnsupportedEncoding, UnsupportedMediaType, UnsupportedSchema
        If it is something else, by its headers or by its shape.
    InvalidBody
        If it is no JSON object.
    """
    check_parameters(request.query_params, "f", several=PROFILES)
    accept_of(request)  # nothing is changed that cannot be answered then
    media_type = header(request, "content-type").partition(";")[0].strip().lower()
    if media_type not in media_types:
        raise UnsupportedMediaType(media_type, media_types)
    check_charset(request)
    body = await read_json(request)
    named = _check_schema(request)
    members = await parse_body(body, dict[str, msgspec.Raw])
    if not named:
        _check_shape(members)
    return body


def _check_schema(request: Request) -> bool:
    """Return whether headers say that the body is an execute request; refuse those that say something else."""
    schema, profile = header(request, "content-schema").strip().strip('<>"'), header(request, "content-profile")
    if schema and schema not in _SCHEMAS:
        raise UnsupportedSchema(f"the schema {schema[:200]!r} is not served; send an execute request ({_SCHEMAS[0]})")
    profiles = wanted_profiles("", profile, "", "", "")
    if profiles and _EXECUTE_PROFILE not in profiles:
        served = profile_uri(_EXECUTE_PROFILE)
        raise UnsupportedSchema(f"the profile {profiles[0][:200]!r} is not served; send an execute request ({served})")
    return bool(schema or profiles)


class _Node(msgspec.Struct):
    """What tells a node of an openEO process graph."""

    process_id: str


class _Wrapped(msgspec.Struct):
    """What tells openEO's own request for a batch job."""

    process_graph: msgspec.Raw


def _check_shape(members: Mapping[str, msgspec.Raw]) -> None:
    """Refuse process graphs of openEO."""
    nodes = bool(members) and members.keys().isdisjoint(JobRequest.__struct_encode_fields__)
    graph = "process_graph" in members or (nodes and all(_is(value, _Node) for value in members.values()))
    if graph or ("process" in members and _is(members["process"], _Wrapped)):
        raise UnsupportedSchema(
            "this is an openEO process graph, an encoding that is not served yet; send an execute request with "
            '"process" and "inputs"'
        )


def _is(value: msgspec.Raw, kind: type[msgspec.Struct]) -> bool:
    try:
        msgspec.json.decode(value, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return False
    return True


async def _checked_request(body: bytes) -> JobRequest:
    execute = await parse_body(body, JobRequest)
    if not execute.process:
        message = 'this member is required; send the address of a process, as in {"process": "…/processes/echo"}'
        raise InvalidBody("the body names no process", [Fault("/process", message)])
    return execute


def _process_id(address: str, base: str) -> str:
    """Return the identifier of the process at an address of this service, or that is named in short.

    Raises
    ------
    NoSuchProcess
        If the address is another service's.
    """
    for prefix in (f"{base}/processes/", f"{urlsplit(base).path}/processes/", "processes/", ""):
        rest = address.removeprefix(prefix)
        if address.startswith(prefix) and rest and "/" not in rest:
            return unquote(rest)
    raise NoSuchProcess(address)


async def _read_nothing(request: Request) -> None:
    """Refuse a body where none is wanted; an empty document is none."""
    body = await read_bytes(request, visit_of(request).parts.settings.server.body_limit_mib << 20)
    if body.strip() not in (b"", b"{}", b"null"):
        raise InvalidBody("a job is started without a body; change it by PATCH before")


# --- how it was asked for ----------------------------------------------------------------------------------------


def _preparation(request: Request) -> Preparation:
    """Return what counts later beside the body."""
    headers = {name: value for name in _KEPT if not _says_nothing(name, value := header(request, name))}
    return Preparation(headers=headers, query=request.url.query)


def _changed_preparation(before: Preparation, request: Request) -> Preparation:
    """Return what counts later after a patch: its headers and parameters go before; an empty one removes."""
    sent = {name.decode("latin-1") for name, _ in request.scope["headers"]}
    headers = dict(before.headers)
    for name in _CHANGED:
        value = header(request, name).strip()
        if name in sent and not value:
            headers.pop(name, None)
        elif name in sent and not _says_nothing(name, value):
            headers[name] = value
    query = _merged_query(before.query, request.url.query)
    return Preparation(headers=headers, query=urlencode([pair for pair in query if pair[1]]))


def _as_prepared(request: Request, preparation: Preparation) -> Request:
    """Return the request that starts a job as if it had been sent with what the job was created with."""
    own = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    headers = [*request.scope["headers"]]
    for name, value in preparation.headers.items():
        kept = split_created(value)[1] if name == "prefer" else value
        if kept and not name.startswith("content-") and _says_nothing(name, own.get(name, "")):
            headers = [pair for pair in headers if pair[0] != name.encode()] + [(name.encode(), kept.encode("latin-1"))]
    query = _merged_query(preparation.query, request.url.query)
    if not _says_nothing("accept", own.get("accept", "")) and "f" not in request.query_params:
        query = [pair for pair in query if pair[0] != "f"]
    scope = {**request.scope, "headers": headers, "query_string": urlencode(query).encode()}
    scope.pop("graticule.headers", None)
    return Request(scope, request.receive)


def _check_preparation(preparation: Preparation, request: Request, process_id: str, execute: Execute) -> None:
    """Refuse now what could not be honoured when the job is started."""
    parse_prefer(split_created(preparation.headers.get("prefer", ""))[1])
    description = workspace_of(request).jobs.catalog.get(process_id).description
    f = dict(parse_qsl(preparation.query)).get("f")
    accept = preparation.headers.get("accept", "")
    offered = result_types(execute, description, ())
    if offered is not None:
        choose(accept if f is None else media_type_of(f), [JSON, HTML, *offered])


def _says_nothing(name: str, value: str) -> bool:
    """Return whether a header is as good as none: every client accepts anything unless it is told otherwise."""
    return not value or (name == "accept" and value == "*/*")


def _merged_query(before: str, after: str) -> list[tuple[str, str]]:
    """Return the parameters of two queries; those of the second go before."""
    new = parse_qsl(after, keep_blank_values=True)
    names = {name for name, _ in new}
    return [*(pair for pair in parse_qsl(before) if pair[0] not in names), *new]
