"""Follow a job: Server-Sent Events of its status, its progress and its log.

A stream holds one open file and the newest state of its job, nothing else. The next event is made when the one before
has been taken: who reads slowly misses steps of progress in between, but no status that lasts, and nothing of the log.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from graticule.errors import (
    ContentLost,
    GraticuleError,
    InvalidParameter,
    JobGone,
    NoSuchJob,
    NoSuchResource,
    NotFound,
    StorageUnavailable,
    TooManyFollowers,
)
from graticule.jobs.job import Job
from graticule.jobs.log import PROCESS, Logs, OpenLog, whole_characters
from graticule.jobs.manager import JobManager
from graticule.jobs.watching import Watch, Watchers
from graticule.web.documents import status_info
from graticule.web.parameters import JOB_ID
from graticule.web.requests import base_of, check_parameters, header, offset_of, visit_of, whole_number, workspace_of
from graticule.web.routing import Answer, Parameter, Routes

routes = Routes("Jobs")

EVENT_STREAM = "text/event-stream"

_RETRY_MS = 2000
"""Milliseconds after which a client is to come again when its connection is lost."""
_HEARTBEAT_S = 15.0
"""Seconds without an event after which a comment is sent: proxies end what is silent, and who has left is found out."""
_LOOK_S = 0.4
"""Seconds between two looks at the log of a running job."""
_PACE_S = 0.2
"""Seconds between two rounds of events, so that a hundred watchers of a talkative process cost little."""
_PIECE = 32 << 10
"""Bytes of the log in one event."""
_LAST_ID = "[0-9]+(/[0-9]+){0,2}"


@routes.get(
    "/jobs/{jobID}/events",
    parameters=(
        JOB_ID,
        Parameter(
            name="step",
            description="Whose log is followed: `process`, or the name of a step; while the job runs, it may yet come.",
            schema={"type": "string", "default": PROCESS},
        ),
        Parameter(
            name="offset",
            description="Where in the log to begin, bytes.",
            schema={"type": "integer", "minimum": 0, "default": 0},
        ),
        Parameter(
            name="Last-Event-ID",
            place="header",
            description="Identifier of the last event that was taken: the stream goes on after it. Empty: as none.",
            schema={"type": "string", "pattern": f"^({_LAST_ID})?$"},
            example="17/2048",
        ),
    ),
    answers=(
        Answer(
            status=200,
            description="Events `status` (the status document), `progress` (`progress`, `message`, `updated`) and "
            "`log` (`step`, `offset`, `text`). The stream ends after the last status of the job.",
            content=((EVENT_STREAM, ""),),
        ),
        Answer(status=204, description="The job has ended and all was told; do not come again."),
    ),
    problems=(NoSuchJob, JobGone, NoSuchResource, InvalidParameter, TooManyFollowers),
    head=False,
)
async def get_events(request: Request) -> Response:
    """Follow a job until it ends: its status, its progress and its log as they come."""
    query = request.query_params
    check_parameters(query, "step", "offset")
    revision, offset, token = -1, offset_of(query), 0
    if last := header(request, "last-event-id"):
        if re.fullmatch(_LAST_ID, last) is None:
            raise InvalidParameter("Last-Event-ID", last, "send the id of an event, or nothing")
        known, told, begun, *_ = f"{last}//".split("/")
        revision, offset = whole_number(known), whole_number(told) if told else offset
        token = whole_number(begun or "1")
    parts, jobs = visit_of(request).parts, workspace_of(request).jobs
    job = await jobs.get(request.path_params["jobID"])
    step = query.get("step", PROCESS)
    # Who has followed it before learns of the end, whether or not the step ever came.
    if job.ended and not last and step != PROCESS and step not in await parts.logs.steps(job):
        raise NoSuchResource(f"{request.url.path}?step={quote(step)}")
    follower = _Follower(
        jobs=jobs, logs=parts.logs, base=base_of(request), step=step, offset=offset,
        revision=revision, token=token or job.token,
    )  # fmt: skip
    if job.ended and job.revision == revision and await follower.has_all(job):
        return Response(status_code=204)
    parts.watchers.check_room()
    return _EventStream(parts.watchers, job, follower)


@dataclass(kw_only=True)
class _Follower:
    """What one client was told of a job, and what comes next."""

    jobs: JobManager
    logs: Logs
    base: str
    step: str
    offset: int
    """Bytes of the log that were told."""
    revision: int
    """Of the state that was told; -1: none was."""
    token: int
    """Of the job when it was begun whose log is told; 0: it was not yet. Begun anew, it prints another log."""
    told: Job | None = None
    opened: OpenLog | None = None
    heard: float = field(default_factory=time.monotonic)
    """When something was last sent."""

    async def events(self, watch: Watch) -> AsyncGenerator[bytes]:
        """Yield events until the job has ended and all is told."""
        yield f"retry: {_RETRY_MS}\n\n".encode()
        try:
            while not watch.over:
                job = watch.job
                assert job is not None
                if not job.ended:
                    for event in await self._state(job):
                        yield event
                async for event in self._log(job, watch):
                    yield event
                if job.ended:
                    for event in await self._state(job):
                        yield event
                    return
                if not await self._rest(job, watch):
                    return
                if self._silent_s() >= _HEARTBEAT_S:
                    yield b": still here\n\n"
                    self.heard = time.monotonic()
        finally:
            self._close()

    async def _rest(self, job: Job, watch: Watch) -> bool:
        """Wait for what is next; False if the job is not there any more."""
        await watch.pause(_PACE_S)
        if watch.job is job:
            await watch.news(min(_LOOK_S if job.started else _HEARTBEAT_S, max(0.0, _HEARTBEAT_S - self._silent_s())))
        if watch.job is not job or self._silent_s() < _HEARTBEAT_S:
            return True
        try:  # whatever kept news from coming here: the ledger knows
            newest = await self.jobs.get(job.id)
        except NotFound:
            return False
        except GraticuleError:
            return True  # it cannot say now
        if newest.status != job.status:
            watch.tell(newest)
        return True

    def _silent_s(self) -> float:
        return time.monotonic() - self.heard

    async def _state(self, job: Job) -> list[bytes]:
        """Return the event that tells the state of a job, if it is news."""
        before, self.told = self.told, job
        if before is None and job.revision == self.revision and not job.ended:
            return []
        self.revision = job.revision
        if before is None or (before.status, before.token) != (job.status, job.token):
            steps, earlier = await self.logs.steps(job), await self.logs.earlier_steps(job)
            document = status_info(job, self.base, steps=steps, earlier=earlier)
            return [self._event("status", document)]
        if (before.progress, before.message) == (job.progress, job.message):
            return []
        document = status_info(job, self.base)
        news = {"progress": job.progress, "message": job.message, "updated": document.updated}
        return [self._event("progress", news)]

    async def _log(self, job: Job, watch: Watch) -> AsyncGenerator[bytes]:
        """Yield what the log has gained."""
        self._turn_to(job)
        if self.opened is None:
            with suppress(ContentLost):  # the rest is told
                self.opened = await self.logs.open(job, self.step, ended_only=True)
        while self.opened is not None and not watch.over and self.offset < self.opened.size:
            try:
                data = await self.opened.read(self.offset, _PIECE)
            except ContentLost:
                return
            more = not job.ended or self.offset + len(data) < self.opened.size
            data = (whole_characters(data) if more else data) or (data if len(data) == _PIECE else b"")
            if not data:
                return
            at, self.offset = self.offset, self.offset + len(data)
            yield self._event("log", {"step": self.step, "offset": at, "text": data.decode(errors="replace")})
        if self.opened is not None and not self.opened.grows:
            self._close()

    def _turn_to(self, job: Job) -> None:
        """Begin with the log of another attempt, if there is one."""
        if self.token and self.token != job.token:
            self._close()
            self.offset = 0
        self.token = job.token

    def _close(self) -> None:
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    async def has_all(self, job: Job) -> bool:
        """Return whether the log was told to its end."""
        self._turn_to(job)
        try:
            opened = await self.logs.open(job, self.step)
        except ContentLost:
            return True
        if opened is None:
            return True
        try:
            return self.offset >= opened.size
        finally:
            opened.close()

    def _event(self, name: str, data: Any) -> bytes:
        self.heard = time.monotonic()
        begun = f"/{self.token}" if self.token > 1 else ""
        head = f"id: {max(self.revision, 0)}/{self.offset}{begun}\nevent: {name}\ndata: "
        return head.encode() + msgspec.json.encode(data) + b"\n\n"


class _EventStream(Response):
    """The answer that follows a job."""

    def __init__(self, watchers: Watchers, job: Job, follower: _Follower) -> None:
        self._watchers = watchers
        self._job = job
        self._follower = follower
        self.status_code = 200
        self.background = None
        self.init_headers(  # there is no body yet, so nobody says how long it is
            # nginx would hold events back until its buffer is full.
            {"content-type": EVENT_STREAM, "cache-control": "no-store", "x-accel-buffering": "no"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._watchers.watch(self._job.key) as watch:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            # Once more: it may have gone on before it was watched.
            watch.tell(await self._newest())
            leaving = asyncio.get_running_loop().create_task(_left(receive))
            leaving.add_done_callback(lambda _: watch.end())
            try:
                # The end is not told before the log; whoever follows comes again when the storage does not answer.
                with suppress(StorageUnavailable):
                    async with aclosing(self._follower.events(watch)) as events:
                        async for event in events:
                            await send({"type": "http.response.body", "body": event, "more_body": True})
            finally:
                leaving.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _newest(self) -> Job:
        try:
            return await self._follower.jobs.get(self._job.id)
        except GraticuleError:
            return self._job


async def _left(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
