"""Turn jobs and results into the documents that were asked for: 1.0 or draft 2.0, raw or document."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from graticule.compat import RESULTS_ROLE
from graticule.data.storage import read_all
from graticule.errors import GraticuleError, NotAcceptable, OutputNotProduced, ResultNotAvailable
from graticule.jobs.admission import Place
from graticule.jobs.job import Attempt, Job, Manifest, StoredValue
from graticule.jobs.manager import require_success
from graticule.jobs.results import ResultStore
from graticule.ogc.common import (
    HTML,
    JSON,
    REL_EXCEPTIONS,
    REL_JOB_DEFINITION,
    REL_JOB_INPUTS,
    REL_LOG,
    REL_RESULTS,
    Link,
    Problem,
)
from graticule.ogc.jobs import AttemptInfo, StatusInfo
from graticule.ogc.processes import Execute, Output, ProcessDescription
from graticule.ogc.prov import REL_PROV
from graticule.processes.formats import OCTETS, TEXT, alternatives_of, is_json
from graticule.web.negotiation import admits, choose, preferred_profile, profile_uri
from graticule.web.preferences import Preferences
from graticule.web.problems import problem_of
from graticule.web.provenance import PROV_JSON
from graticule.web.requests import accept_of, header
from graticule.web.responses import VARY, ContentResponse, FilePart, Part, disposition, file_response, matches

LARGE = 1 << 20
"""Bytes from which a value is a link in a results document, unless it was asked for inline."""

MULTIPART = "multipart/related"
RESULTS_PROFILE = "ogc-results"
VALUES_PROFILE = "ogc-values"


# --- status ----------------------------------------------------------------------------------------------------


def status_info(
    job: Job,
    base: str,
    *,
    steps: Sequence[str] = (),
    earlier: Mapping[int, Sequence[str]] = MappingProxyType({}),
    place: Place | None = None,
    expires: str | None = None,
) -> StatusInfo:
    """Return the status document of a job: the union of 1.0 and the draft, without members that are not known.

    Parameters
    ----------
    job : Job
        The job.
    base : str
        Address that links begin with.
    steps : sequence of str
        Names of the logs that it left; `process` needs no mention, for what has started has that one.
    earlier : mapping of int to sequence of str
        The same of earlier attempts by their number.
    place : Place, optional
        Where it stands in the queue.
    expires : str, optional
        Until when its results are kept.
    """
    here = f"{base}/jobs/{job.id}"
    links = [
        Link(href=here, rel="self", type=JSON, title="This document"),
        Link(href=here, rel="monitor", type=JSON, title="Status"),
        Link(href=f"{here}?f=html", rel="alternate", type=HTML, title="This document as a page"),
        Link(href=f"{base}/jobs", rel="up", type=JSON, title="All jobs"),
        Link(href=f"{here}/definition", rel=REL_JOB_DEFINITION, type=JSON, title="Request"),
        Link(href=f"{here}/inputs", rel=REL_JOB_INPUTS, type=JSON, title="Inputs"),
    ]
    if job.ended:
        links.append(Link(href=f"{here}/prov", rel=REL_PROV, type=PROV_JSON, title="Provenance"))
    exception: Problem | None = None
    if job.status == "successful":
        links.append(Link(href=f"{here}/results", rel=REL_RESULTS, type=JSON, title="Results"))
    elif job.status == "failed":
        exception = failure_problem(job, here)
        links.append(Link(href=f"{here}/results", rel=REL_EXCEPTIONS, type=JSON, title="Why it failed"))
    # A job that prints nothing leaves no file; its log is there all the same, and empty.
    for step in dict.fromkeys(("process", *steps)) if job.started else ():
        links += _log_links(here, step)
    if not job.ended:
        links.append(Link(href=f"{here}/events", rel="related", type="text/event-stream", title="Events"))
    if job.repeats:
        link = Link(
            href=f"{base}/jobs/{job.repeats}", rel="predecessor-version", type=JSON, title="Sent again from here"
        )
        links.append(link)
    if job.repeated_by:
        link = Link(
            href=f"{base}/jobs/{job.repeated_by}", rel="successor-version", type=JSON, title="Sent again as this"
        )
        links.append(link)
    if job.subscriber:
        links.append(Link(href=f"{here}/notifications", rel="related", type=JSON, title="Notifications"))
    return StatusInfo(
        id=job.id,
        job_id=job.id,
        type="process" if job.type == "sync" else job.type,
        processing_entity_type="ogc-api-processes",
        process_id=job.process,
        status=job.status,
        message=_message(job, place) or None,
        progress=job.progress,
        created=moment(job.created),
        started=moment(job.started),
        finished=moment(job.finished),
        updated=moment(job.updated),
        queue_position=place.position if place is not None else None,
        estimated_start=moment(place.start or 0) if place is not None else None,
        priority=job.priority or None,
        labels=job.label_list() or None,
        pinned=job.keeping == "pinned" or None,
        expires=expires,
        attempts=[
            _attempt(one, number, here, earlier.get(number, ())) for number, one in enumerate(job.attempts_before(), 1)
        ]
        or None,
        exception=exception,
        links=links,
    )


def _message(job: Job, place: Place | None) -> str:
    if place is not None and place.held:
        return place.held
    return job.message if place is None or place.offered else _nobody(job)


def _nobody(job: Job) -> str:
    asks = f" and {job.requires}" if job.requires else ""
    return f"it waits for a worker that has process {job.process} in version {job.version}{asks}; none is there now"


def _attempt(attempt: Attempt, number: int, here: str, steps: Sequence[str]) -> AttemptInfo:
    return AttemptInfo(
        number=number,
        started=moment(attempt.started),
        ended=moment(attempt.ended),
        reason=attempt.why,
        links=[link for step in dict.fromkeys(("process", *steps)) for link in _log_links(here, step, number)],
    )


def _log_links(here: str, step: str, attempt: int = 0) -> list[Link]:
    """Return the links to a log: Part 1 calls it one; clients of application packages look for what is related."""
    href, title = f"{here}/logs/{quote(step)}", f"Tool log {step}.log"
    if attempt:
        href, title = f"{href}?attempt={attempt}", f"{title} of attempt {attempt}"
    return [Link(href=href, rel=rel, type="text/plain", title=title) for rel in (REL_LOG, "related")]


def failure_problem(job: Job, instance: str) -> Problem:
    """Return the problem document of a failed job."""
    try:
        require_success(job)
    except GraticuleError as error:
        return problem_of(error, instance)[1]
    raise ValueError(f"job {job.id} did not fail")


def moment(microseconds: int) -> str | None:
    """Return a moment of the ledger as documents write it; None: not yet."""
    if not microseconds:
        return None
    seconds, fraction = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{fraction:06}Z"


@lru_cache(maxsize=256)  # jobs that are shown together were mostly sent together
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


# --- results ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The results of a job, and how they were asked for."""

    job: Job
    manifest: Manifest
    execute: Execute
    """As it was sent; ``response`` and transmission modes of 1.0 are read from it."""
    description: ProcessDescription | None
    """None when the process is no longer offered."""
    store: ResultStore
    base: str
    narrowed: Sequence[str] | None = None
    """The outputs that are wanted now; None: all that the job was to produce."""
    texts: Mapping[str, bytes] = field(default_factory=dict)
    """Texts that are kept as files and stand inline in documents, by file; `loaded` reads them."""

    @property
    def here(self) -> str:
        return f"{self.base}/jobs/{self.job.id}/results"

    @property
    def speaks_1_0(self) -> bool:
        """Whether the request is one of 1.0."""
        return speaks_1_0(self.execute)

    @property
    def are_pygeoapis(self) -> bool:
        """Whether a processor of pygeoapi made them; its document is an array of what it returned."""
        return len(self.manifest) == 1 and self.description is not None and _is_of_pygeoapi(self.description)

    @property
    def requested(self) -> list[str]:
        """Outputs that were asked for, produced or not: by their number clients know the shape before it comes."""
        if self.narrowed is not None:
            return list(self.narrowed)
        if self.description is None or _is_of_pygeoapi(self.description):  # that one returns what it likes
            return list(self.manifest)
        return requested_outputs(self.execute, self.description)

    def by_reference(self, name: str) -> bool:
        return _is_reference(self.execute, name)

    def only(self, names: Sequence[str]) -> Results:
        """Return the results of some outputs alone."""
        manifest = {name: output for name, output in self.manifest.items() if name in names}
        return replace(self, manifest=manifest, narrowed=tuple(dict.fromkeys(names)))

    def part(self, value: StoredValue) -> Part:
        """Return the content of a value."""
        if value.file is not None:
            return FilePart(self.store.value(self.job, value), value.size)
        return value.content or b""

    def text(self, value: StoredValue) -> bytes:
        """Return the bytes of a text of at most `LARGE` bytes."""
        return value.content or b"" if value.file is None else self.texts[value.file]

    async def loaded(self) -> Results:
        """Return the same, with the texts read that are sent as strings; all else is sent piece by piece."""
        texts = {
            value.file: await read_all(self.store.value(self.job, value))
            for output in self.manifest.values()
            for value in output.values
            if value.file is not None and _is_text(value.media_type) and value.size <= LARGE
        }
        return replace(self, texts=texts) if texts else self


def speaks_1_0(execute: Execute) -> bool:
    """Return whether a request uses what only 1.0 has: ``response`` or a transmission mode."""
    return execute.response is not None or any(
        wanted.transmission_mode is not None for wanted in (execute.outputs or {}).values()
    )


def requested_outputs(execute: Execute, description: ProcessDescription) -> list[str]:
    """Return the identifiers of the outputs that a request asks for: those that it names, or else all."""
    return list(execute.outputs or description.outputs)


def result_types(execute: Execute, description: ProcessDescription, profiles: Sequence[str]) -> list[str] | None:
    """Return the media types in which `results_response` may answer an execution; None: any may be right.

    It errs on the side of more: what it leaves out, nobody is ever given.
    """
    if execute.outputs == {} and execute.response is None:
        return None  # nothing is returned
    if RESULTS_PROFILE in profiles or execute.response == "document":
        return [JSON]
    requested = requested_outputs(execute, description)
    if all(_is_reference(execute, name) for name in requested):
        return None  # only links are returned
    if _is_of_pygeoapi(description):
        return None  # it returns what it likes
    if len(requested) > 1:
        return [JSON, MULTIPART]
    # Of one that there is not, the check of the request tells.
    output = description.outputs.get(requested[0])
    return None if output is None else _value_types(output)


def _value_types(output: Output) -> list[str] | None:
    """Return the media types in which one output may be sent as itself; None: any may be right."""
    if output.is_list:
        return [JSON, MULTIPART]
    # Whatever the value is, faults in the data, and a job that takes too long, are told in JSON.
    found = [JSON]
    if output.min_occurs == 0:
        found.append(MULTIPART)  # without a part, if it is missing
    for alternative in alternatives_of(output.schema):
        declared = alternative.default_media_type
        if declared == OCTETS:
            return None  # that can be anything, also a link to something else
        found.append(declared)
        if declared == JSON and alternative.schema.get("type") not in ("object", "array"):
            found.append(TEXT)
    return found


async def results_response(
    request: Request, results: Results, prefer: Preferences, profiles: Sequence[str], *, executing: bool
) -> Response:  # fmt: skip
    """Return the results of a job in the shape that its request and this one ask for (X-SERVE).

    Parameters
    ----------
    request : Request
        Its Accept header decides where the standard leaves a choice.
    results : Results
        What is to be returned.
    prefer : Preferences
        ``return=minimal`` or ``representation``.
    profiles : sequence of str
        Profiles that were asked for; ``ogc-results`` asks for a results document whatever else is said.
    executing : bool
        True for the answer to an execution, False for the results of a job.
    """
    results = await results.loaded()
    execute, accept = results.execute, accept_of(request)
    if execute.outputs == {} and execute.response is None:
        if executing:
            return Response(status_code=204, headers={"vary": VARY})
        raise ResultNotAvailable(results.job.id, "its request asked for no outputs")
    # An execution of 1.0 is answered without links, but those to outputs by reference (X-ETSLINK).
    links = not (results.speaks_1_0 and executing)
    headers = {"link": f'<{results.base}/jobs/{results.job.id}>; rel="monitor"'} if links else {}
    if RESULTS_PROFILE in profiles or execute.response == "document":
        return _document(request, results, prefer, headers, profile=RESULTS_PROFILE in profiles)
    names, requested = list(results.manifest), results.requested
    several = len(names) > 1 or len(requested) > 1
    referenced = [name for name in requested if results.by_reference(name)]
    raw = execute.response == "raw" or bool(referenced)
    if names and requested and referenced == requested:
        return Response(status_code=204, headers={**headers, "link": _reference_links(results)})
    if names and raw and several and admits(accept, MULTIPART):
        return _multipart(results, headers)
    if names and raw and several:
        return _document(request, results, prefer, headers, profile=False)
    if names and not several:
        return _single_output(request, results, names[0], headers, profile=links)
    if admits(accept, JSON):
        return _document(request, results, prefer, headers, profile=links)
    if admits(accept, MULTIPART):
        return _multipart(results, headers)
    raise NotAcceptable(accept, [JSON, MULTIPART])


async def single_output(request: Request, results: Results, name: str, index: int | None = None) -> Response:
    """Return one output as itself: its value in its own media type, or an array where several are allowed."""
    return _single_output(request, await results.only([name]).loaded(), name, {}, index, profile=True)


def _single_output(
    request: Request,
    results: Results,
    name: str,
    headers: Mapping[str, str],
    index: int | None = None,
    *,
    profile: bool,
) -> Response:
    output = results.manifest.get(name)
    if output is None:
        raise OutputNotProduced(results.job.id, name)
    headers = {"vary": VARY, **headers}
    if output.many and index is None:
        headers = {**headers, "OGC-Output-Values-Count": str(len(output.values))}
        return _values(request, results.only([name]), headers, profile=profile)
    if (index or 0) >= len(output.values):
        raise OutputNotProduced(results.job.id, f"{name}/{index}")
    value = output.values[index or 0]
    if value.href is not None:
        return Response(status_code=303, headers={**headers, "location": value.href})
    accept = accept_of(request)
    chosen = choose(accept, _alternatives(value))
    content, tag = results.part(value), f'"{value.sha256[:32]}"'
    if chosen == JSON and not is_json(value.media_type):
        content, tag = msgspec.json.encode(results.text(value).decode(errors="replace")), f'"{value.sha256[:28]}json"'
        return file_response(request, content, media_type=JSON, tag=tag, headers=dict(headers))
    if chosen == "text/plain" and value.media_type != "text/plain" and isinstance(content, bytes):
        literal = msgspec.json.decode(content)
        content, tag = (
            (literal if isinstance(literal, str) else content.decode()).encode(),
            f'"{value.sha256[:28]}text"',
        )
        return file_response(request, content, media_type="text/plain; charset=utf-8", tag=tag, headers=dict(headers))
    if value.size > LARGE and request.method != "HEAD" and not matches(header(request, "if-none-match"), tag):
        signed = results.store.signed_url(results.job, value)  # signed for GET alone
        if signed is not None:
            return Response(status_code=303, headers={**headers, "location": signed, "cache-control": "no-store"})
    media_type = f"{value.media_type}; charset=utf-8" if value.media_type == "text/plain" else value.media_type
    if value.file is not None and not is_json(value.media_type):
        headers = {**headers, "content-disposition": disposition("inline", value.file)}
    return file_response(request, content, media_type=media_type, tag=tag, sha256=value.sha256, headers=dict(headers))


def _alternatives(value: StoredValue) -> list[str]:
    """Return the media types that a value can be sent in; its own first."""
    offered = [value.media_type]
    if value.media_type == JSON:
        if value.content is not None and value.content[:1] not in b"{[":
            offered.append("text/plain")
    elif (_is_text(value.media_type) and value.size <= LARGE) or is_json(value.media_type):
        offered.append(JSON)
    return offered


def _values(request: Request, results: Results, headers: Mapping[str, str], *, profile: bool) -> Response:
    """Return all values of the one output as an array (profile ogc-values), or each as a part."""
    if choose(accept_of(request), [JSON, MULTIPART]) == MULTIPART:
        return _multipart(results, headers)
    parts: list[Part] = [b"["]
    for _, index, value in _flat(results.manifest):
        parts += [b"," if index else b"", *_inline(results, value, bare=True)]
    if profile:
        headers = {**headers, **_profiled(request, VALUES_PROFILE, headers.get("link", ""))}
    return ContentResponse([*parts, b"]"], media_type=JSON, headers={**headers})


def _profiled(request: Request, profile: str, links: str) -> dict[str, str]:
    """Return the headers that name the profile of an answer, and the preference for it if there was one."""
    uri = profile_uri(profile)
    headers = {"link": ", ".join(filter(None, (links, f'<{uri}>; rel="profile"'))), "content-profile": f"<{uri}>"}
    if preferred_profile(header(request, "prefer")) == profile:
        headers["preference-applied"] = f"profile={profile}"
    return headers


def _document(
    request: Request, results: Results, prefer: Preferences, headers: Mapping[str, str], *, profile: bool
) -> Response:  # fmt: skip
    """Return a results document, written from the kept pieces without building it in memory."""
    if not admits(accept_of(request), JSON):
        raise NotAcceptable(accept_of(request), [JSON])
    if results.are_pygeoapis and not profile:
        return _pygeoapi_document(results, headers)
    everything = prefer.returns == "representation" or (results.speaks_1_0 and prefer.returns is None)
    parts = results_parts(results, lambda value: value.size > LARGE and not everything)
    headers = {"vary": VARY, **headers}
    if profile:
        headers |= _profiled(request, RESULTS_PROFILE, headers.get("link", ""))
    if prefer.returns is not None:
        applied = (f"return={prefer.returns}", headers.get("preference-applied"))
        headers["preference-applied"] = ", ".join(filter(None, applied))
    if all(isinstance(part, bytes) for part in parts):
        return Response(b"".join(parts), headers=headers, media_type=JSON)  # type: ignore[arg-type]
    return ContentResponse(parts, media_type=JSON, headers=headers)


def results_parts(results: Results, by_link: Callable[[StoredValue], bool]) -> list[Part]:
    """Return the pieces of a results document.

    Parameters
    ----------
    results : Results
        What it tells of.
    by_link : callable
        Says which values are linked, besides those that lie elsewhere or were asked for by reference.
    """
    parts: list[Part] = [b"{"]
    for name, output in results.manifest.items():
        parts.append((b"" if len(parts) == 1 else b",") + msgspec.json.encode(name) + b":")
        linked = results.by_reference(name)
        bare = _is_bbox(results.description, name)
        values = [
            [_link(results, name, index, value, many=output.many)]
            if linked or value.href or by_link(value)
            else _inline(results, value, bare=bare)
            for index, value in enumerate(output.values)
        ]
        if output.many:
            parts.append(b"[")
            for index, pieces in enumerate(values):
                parts += [b"," if index else b"", *pieces]
            parts.append(b"]")
        elif values:
            parts += values[0]
        else:
            parts.append(b"null")
    parts.append(b"}")
    return parts


def _pygeoapi_document(results: Results, headers: Mapping[str, str]) -> Response:
    """Return what a processor of pygeoapi returned as pygeoapi's own document does."""
    values = [value for output in results.manifest.values() for value in output.values]
    pieces = [piece for value in values for piece in _inline(results, value, bare=True)]
    return ContentResponse([b'{"outputs":[', *pieces, b"]}"], media_type=JSON, headers={"vary": VARY, **headers})


def _inline(results: Results, value: StoredValue, *, bare: bool) -> list[Part]:
    """Return a value as it stands in a results document: literals bare, everything else qualified."""
    content = results.part(value)
    if is_json(value.media_type):
        is_object = content[:1] == b"{" if isinstance(content, bytes) else value.is_object
        if bare or (value.media_type == JSON and not is_object):
            return [content]
        tail = b',"mediaType":' + msgspec.json.encode(value.media_type) + b"}"
        return [b'{"value":', content, tail]
    media_type = msgspec.json.encode(value.media_type)
    if _is_text(value.media_type) and value.size <= LARGE and (text := _decoded(results, value)) is not None:
        return [b'{"value":' + msgspec.json.encode(text) + b',"mediaType":' + media_type + b"}"]
    encoded: Part = (
        FilePart(content.file, content.size, base64=True)
        if isinstance(content, FilePart)
        else base64.b64encode(content)
    )
    return [b'{"value":"', encoded, b'","encoding":"base64","mediaType":' + media_type + b"}"]


def _link(results: Results, name: str, index: int, value: StoredValue, *, many: bool) -> bytes:
    link = Link(
        href=_address(results, name, index if many else None, value),
        rel="item",
        type=value.media_type,
        title=value.title or name,
    )
    return msgspec.json.encode(link)


def _address(results: Results, name: str, index: int | None, value: StoredValue) -> str:
    """Return where a value is found that a document only refers to."""
    own = f"{results.here}/{name}" + ("" if index is None else f"/{index}")
    return value.href or results.store.signed_url(results.job, value) or own


def _reference_links(results: Results) -> str:
    """Return one ``Link`` header value per output."""
    return ", ".join(
        f'<{_address(results, name, None, value)}>; rel="item"; type="{value.media_type}"; title="{name}"'
        for name, output in results.manifest.items()
        for value in output.values
    )


def _multipart(results: Results, headers: Mapping[str, str]) -> Response:
    """Return all outputs as ``multipart/related`` (RFC 2387); referenced ones are empty parts."""
    boundary = secrets.token_hex(16)
    parts: list[Part] = []
    for name, index, value in _flat(results.manifest):
        identifier = name if index is None else f"{name}.{index}"
        head = f"--{boundary}\r\nContent-ID: <{identifier}>\r\nContent-Type: {value.media_type}\r\n"
        if results.by_reference(name) or value.href is not None:
            place = _address(results, name, index, value)
            parts.append(f"{head}Content-Location: {place}\r\nContent-Length: 0\r\n\r\n\r\n".encode())
        else:
            parts += [f"{head}Content-Length: {value.size}\r\n\r\n".encode(), results.part(value), b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    first = next(iter(_flat(results.manifest)), None)
    start = "" if first is None else f'; start="<{first[0] if first[1] is None else f"{first[0]}.{first[1]}"}>"'
    kind = "" if first is None else f'; type="{first[2].media_type.partition(";")[0]}"'
    media_type = f"{MULTIPART}; boundary={boundary}{kind}{start}"
    return ContentResponse(parts, media_type=media_type, headers={"vary": VARY, **headers})


def _flat(manifest: Manifest) -> Iterator[tuple[str, int | None, StoredValue]]:
    for name, output in manifest.items():
        for index, value in enumerate(output.values):
            yield name, index if output.many else None, value


def _is_text(media_type: str) -> bool:
    """Return whether content of this type is text, and so stands as a string in a document."""
    essence = media_type.partition(";")[0].strip().lower()
    return essence.startswith("text/") or essence.endswith(("/xml", "+xml", "/yaml", "+yaml", "/sql", "/wkt"))


def _decoded(results: Results, value: StoredValue) -> str | None:
    """Return text as such; None when its bytes are not UTF-8."""
    try:
        return results.text(value).decode()
    except UnicodeDecodeError:
        return None


def _is_reference(execute: Execute, name: str) -> bool:
    wanted = (execute.outputs or {}).get(name)
    return wanted is not None and wanted.transmission_mode == "reference"


def _is_of_pygeoapi(description: ProcessDescription) -> bool:
    return any(one.role == RESULTS_ROLE for one in description.metadata or ())


def _is_bbox(description: ProcessDescription | None, name: str) -> bool:
    schema: dict[str, Any] = description.outputs[name].schema if description and name in description.outputs else {}
    return any(part.get("format") == "ogc-bbox" for part in (schema, *schema.get("allOf", ())))
