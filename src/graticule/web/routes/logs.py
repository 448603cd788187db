"""The logs of jobs: whole, by range, page by page, as text or line by line."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from urllib.parse import quote

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from graticule.errors import (
    ContentLost,
    InvalidParameter,
    InvalidRange,
    JobGone,
    NoSuchJob,
    NoSuchResource,
    StorageUnavailable,
)  # fmt: skip
from graticule.jobs.job import Job
from graticule.jobs.log import PROCESS, Line, OpenLog, cut, iter_lines
from graticule.ogc.common import JSON, Link
from graticule.ogc.jobs import LogLine, LogPage
from graticule.web.negotiation import wanted_media_type
from graticule.web.parameters import JOB_ID
from graticule.web.requests import base_of, check_parameters, header, limit_of, offset_of, visit_of, workspace_of
from graticule.web.responses import CONTENT_HEADERS, VARY, disposition, link_header, link_value, matches, span_of
from graticule.web.routing import Answer, Parameter, Routes

routes = Routes("Jobs")
log = logging.getLogger("graticule.web")

TEXT = "text/plain; charset=utf-8"
PAGE_BYTES = 64 << 10
"""Bytes of a page if the request does not say."""
PAGE_MAX = 1 << 20
"""Bytes of a page at most: it is made in memory."""
_CHUNK = 256 << 10

STEP = Parameter(name="step", place="path", description="`process`, or the name of a step.", schema={"type": "string"})
_OFFSET = Parameter(
    name="offset",
    description="Where the page begins, bytes from the beginning of the log; links with rel `next` carry it.",
    schema={"type": "integer", "minimum": 0},
)
_LIMIT = Parameter(
    name="limit",
    description=f"Bytes of the page at most; it ends with a line where it can. Above {PAGE_MAX} counts as that many.",
    schema={"type": "integer", "minimum": 1, "default": PAGE_BYTES},
)
_ATTEMPT = Parameter(
    name="attempt",
    description="Number of an earlier attempt to run the job, as `attempts` of its status has them. Default: the last.",
    schema={"type": "integer", "minimum": 1},
)
_F = Parameter(
    name="f",
    description="Representation: `text/plain` is what was printed, `json` its lines. The Accept header is not asked.",
    schema={"type": "string", "enum": ["text/plain", "json", JSON]},
    example="json",
)


@routes.get(
    "/jobs/{jobID}/logs/{step}",
    parameters=(JOB_ID, STEP, _ATTEMPT, _OFFSET, _LIMIT, _F),
    answers=(
        Answer(
            status=200,
            description="The log, or a page of it: as text what was printed, as JSON its lines. It is readable while "
            "the job runs; text without `offset` and `limit` is the whole log so far.",
            content=(("text/plain", ""), (JSON, "logPage")),
            headers=("ETag", "Link"),
        ),
        Answer(
            status=206, description="A range of its bytes.", content=(("text/plain", ""),), headers=("Content-Range",)
        ),
    ),
    problems=(NoSuchJob, JobGone, NoSuchResource, InvalidParameter, InvalidRange, ContentLost),
)
async def get_log(request: Request) -> Response:
    """Return what a job has printed, also while it runs; nothing if it has printed nothing."""
    query, step = request.query_params, request.path_params["step"]
    check_parameters(query, "attempt", "offset", "limit", "f")
    # Not by the Accept header: clients that take JSON of everything follow a link that says text, and want that.
    wanted = wanted_media_type(query.get("f"), "", (TEXT, JSON))
    offset, limit = offset_of(query), limit_of(query, PAGE_BYTES, PAGE_MAX)
    job = await workspace_of(request).jobs.get(request.path_params["jobID"])
    asked = _asked(request, job)
    opened = await visit_of(request).parts.logs.open(job, step, asked.token)
    if opened is None and not (step == PROCESS and job.started):
        raise NoSuchResource(request.url.path)
    try:
        if wanted == JSON or "offset" in query or "limit" in query:
            return await _page(request, asked, opened, (offset, limit), wanted)
        response = await _whole(request, asked, opened)
        opened = None  # the response closes it
        return response
    finally:
        if opened is not None:
            opened.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The log that is asked for."""

    job: Job
    step: str
    attempt: str = ""
    """Number of an earlier attempt; empty: the last one."""
    token: int
    """Of the job when it printed this."""
    here: str
    """Address of the log."""

    @property
    def complete(self) -> bool:
        """Whether nothing more will be printed."""
        return self.job.ended or bool(self.attempt)

    def address(self, **query: str) -> str:
        """Return the address of the log with more parameters than it has."""
        query = {**({"attempt": self.attempt} if self.attempt else {}), **query}
        return f"{self.here}?{QueryParams(query)}" if query else self.here


def _asked(request: Request, job: Job) -> _Asked:
    """Return which log is asked for; raises NoSuchResource if there was no such attempt."""
    step, number = request.path_params["step"], request.query_params.get("attempt")
    here = f"{base_of(request)}/jobs/{job.id}/logs/{quote(step)}"
    if number is None:
        return _Asked(job=job, step=step, token=job.token, here=here)
    earlier = {str(number): attempt for number, attempt in enumerate(job.attempts_before(), 1)}
    attempt = earlier.get(number.lstrip("0"))
    if not number.isdecimal() or not number.strip("0"):
        raise InvalidParameter("attempt", number, "use a whole number from 1 on")
    if attempt is None:
        raise NoSuchResource(request.url.path)
    return _Asked(job=job, step=step, attempt=number, token=attempt.token, here=here)


async def _whole(request: Request, asked: _Asked, opened: OpenLog | None) -> Response:
    """Return the log so far, streamed; of a range what it names."""
    name = "-".join(filter(None, (asked.job.id, asked.step, asked.attempt)))
    size = opened.size if opened is not None else 0
    tag = f'"{asked.job.id}-{asked.token}-{quote(asked.step)}-{size}"'
    named = {"content-disposition": disposition("inline", f"{name}.log")}
    lines = Link(href=asked.address(f="json"), rel="alternate", type=JSON)
    named["link"] = link_value(lines)
    headers = {"etag": tag, "accept-ranges": "bytes", "vary": VARY, **CONTENT_HEADERS, **named}
    unchanged = matches(header(request, "if-none-match"), tag)
    if opened is not None and size and (unchanged or request.method == "HEAD"):
        await opened.read(0, 1)  # it may be lost, which a GET would tell
    if unchanged:
        return _LogResponse(opened, 304, headers, (0, 0))
    span = span_of(header(request, "range"), header(request, "if-range"), tag, size)
    headers["content-type"] = TEXT
    start, stop = span or (0, size)
    headers["content-length"] = str(stop - start)
    # Before the head, so that what is wrong with the storage is told by the status.
    begun = b"" if opened is None or request.method == "HEAD" else await opened.read(start, min(_CHUNK, stop - start))
    if span is None:
        return _LogResponse(opened, 200, headers, (0, size), begun)
    headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    return _LogResponse(opened, 206, headers, span, begun)


class _LogResponse(Response):
    """A part of an open log, sent piece by piece."""

    def __init__(
        self, opened: OpenLog | None, status: int, headers: dict[str, str], span: tuple[int, int], begun: bytes = b""
    ) -> None:  # fmt: skip
        self._opened = opened
        self._start, self._stop = span
        self._begun = begun
        self.status_code = status
        self.background = None
        self.body = b""
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            at, chunk = self._start, self._begun
            while chunk and self._opened is not None and scope["method"] != "HEAD":
                at += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await self._opened.read(at, min(_CHUNK, self._stop - at)) if at < self._stop else b""
            await send({"type": "http.response.body", "body": b""})
        except (ContentLost, StorageUnavailable) as error:
            # An answer that ends too early is all that can be said now; the server closes the connection.
            log.warning("a log was broken off: %s", error)
        finally:
            if self._opened is not None:
                self._opened.close()


async def _page(
    request: Request, asked: _Asked, opened: OpenLog | None, place: tuple[int, int], wanted: str
) -> Response:  # fmt: skip
    """Return a page of the log, with a link to the next one as long as there is or may be one."""
    (offset, limit), step = place, asked.step
    size = opened.size if opened is not None else 0
    data = b""
    if opened is not None and offset < size:
        data = await opened.read(offset, min(limit, size - offset))
    follows = offset + len(data) < size
    shown = cut(data, more=follows or not asked.complete, lines=wanted == JSON and not follows)
    if follows and not shown:
        shown = data  # less than a character
    end = offset + len(shown)
    kept = {name: value for name, value in request.query_params.items() if name != "offset"}
    links = [Link(href=asked.address(**{**kept, "offset": str(offset)}), rel="self", type=wanted)]
    if end < size or not asked.complete:
        links.append(Link(href=asked.address(**{**kept, "offset": str(end)}), rel="next", type=wanted))
    links.append(Link(href=asked.address(), rel="alternate", type="text/plain", title="The whole log"))
    document = LogPage(
        job_id=asked.job.id,
        step=step,
        offset=offset,
        size=size,
        complete=asked.complete,
        lines=[_line(step, line) for line in iter_lines(shown, offset)] if wanted == JSON else [],
        links=links,
    )
    headers = {"vary": VARY, "cache-control": "no-cache", "link": link_header(document), **CONTENT_HEADERS}
    content = msgspec.json.encode(document) if wanted == JSON else shown
    return Response(content, headers={**headers, "content-type": wanted})


def _line(step: str, line: Line) -> LogLine:
    return LogLine(step=step, offset=line.offset, text=line.text, time=line.time)
