"""What operators look at and change: the queue of the whole service, and what is held back."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import (
    AccessDenied,
    Fault,
    InvalidBody,
    InvalidParameter,
    NoSuchProcess,
    NoSuchWorker,
    NoSuchWorkspace,
    NotAcceptable,
    TooLarge,
    UnsupportedMediaType,
)
from graticule.jobs.holds import MOST_REASON, SCOPE, Hold, is_scope, parse_scope
from graticule.jobs.ledger import AgentRecord
from graticule.ogc.common import JSON, Link
from graticule.ogc.operations import HoldInfo, HoldList, HoldRequest, LaneInfo, LoadInfo, QueueInfo, WorkerInfo
from graticule.runtime.parts import Parts
from graticule.web.documents import moment
from graticule.web.parameters import F_JSON
from graticule.web.requests import (
    base_of,
    check_parameters,
    read_body,
    require_json,
    require_operator,
    visit_of,
    workspace_of,
)
from graticule.web.responses import VARY
from graticule.web.routing import Answer, Parameter, Routes

routes = Routes("Operations")

_SCOPE = Parameter(
    name="scope",
    place="path",
    description="What is held back: `queue`, or `workspace:NAME`, `process:ID`, `worker:ID`.",
    schema={"type": "string", "pattern": SCOPE},
    example="queue",
)
_ASKING = (AccessDenied, InvalidParameter, NotAcceptable)
_STATES: tuple[Literal["working", "paused", "draining"], ...] = ("working", "paused", "draining")


@routes.get(
    "/admin/queue",
    parameters=(F_JSON,),
    answers=(Answer(status=200, description="How it stands.", content=((JSON, "queue"),)),),
    problems=_ASKING,
)
async def get_queue(request: Request) -> Response:
    """Tell how the queue of the whole service stands: what waits, runs and is held back, and who runs jobs."""
    _check(request, "see the queue")
    parts, base = visit_of(request).parts, base_of(request)
    lanes, load = await parts.ledger.lanes(), await parts.ledger.running()
    waiting = [
        LaneInfo(
            workspace=lane.workspace,
            actor=lane.actor,
            process_id=lane.process,
            version=lane.version,
            requires=lane.requires,
            priority=lane.priority,
            waiting=count,
        )
        for lane, count in sorted(lanes.items(), key=lambda pair: (-pair[0].priority, pair[0]))
    ]
    running = [
        LoadInfo(workspace=workspace, actor=actor, process_id=process, running=count)
        for workspace, actor, process, count in sorted(load)
    ]
    document = QueueInfo(
        waiting=sum(one.waiting for one in waiting),
        running=sum(one.running for one in running),
        holds=_holds(request),
        lanes=waiting,
        load=running,
        workers=[_worker(one) for one in await _workers(parts)],
        links=[
            Link(href=f"{base}/admin/queue", rel="self", type=JSON, title="This document"),
            Link(href=f"{base}/admin/holds", rel="related", type=JSON, title="What is held back"),
        ],
    )
    return _answer(document)


@routes.get(
    "/admin/holds",
    parameters=(F_JSON,),
    answers=(Answer(status=200, description="All of them.", content=((JSON, "holdList"),)),),
    problems=_ASKING,
)
async def list_holds(request: Request) -> Response:
    """List what is paused or drained, by whom and why."""
    _check(request, "see what is held back")
    base = base_of(request)
    links = [
        Link(href=f"{base}/admin/holds", rel="self", type=JSON, title="This document"),
        Link(href=f"{base}/admin/queue", rel="related", type=JSON, title="The queue"),
    ]
    return _answer(HoldList(holds=_holds(request), links=links))


@routes.put(
    "/admin/holds/{scope}",
    parameters=(_SCOPE, F_JSON),
    body=((JSON, "holdRequest"),),
    answers=(Answer(status=200, description="It is held back.", content=((JSON, "hold"),)),),
    problems=(
        *_ASKING, InvalidBody, TooLarge, UnsupportedMediaType, NoSuchWorkspace, NoSuchProcess, NoSuchWorker,
    ),
)  # fmt: skip
async def put_hold(request: Request) -> Response:
    """Pause or drain the queue, a workspace, a process or a worker, until that is taken back."""
    _check(request, "hold jobs back")
    parts, scope = visit_of(request).parts, _scope(request)
    asked, _ = await read_body(request, HoldRequest)
    if len(asked.reason) > MOST_REASON:
        message = f"the reason has {len(asked.reason)} characters; send {MOST_REASON} at most"
        raise InvalidBody(message, [Fault("/reason", message)])
    await _check_exists(parts, scope)
    actor = workspace_of(request).actor
    hold = Hold(scope=scope, action=asked.action, reason=asked.reason.strip(), actor=actor, since=parts.ledger.clock())
    await parts.hold(hold)
    return _answer(_hold(hold, base_of(request)))


@routes.delete(
    "/admin/holds/{scope}",
    parameters=(_SCOPE,),
    answers=(Answer(status=204, description="It is held back no longer, if it was."),),
    problems=(AccessDenied, InvalidParameter),
)
async def delete_hold(request: Request) -> Response:
    """Hold something back no longer: what was paused goes on, what was drained is open again."""
    check_parameters(request.query_params)
    require_operator(request, "let jobs go on", everywhere=True)
    await visit_of(request).parts.release(_scope(request))
    return Response(status_code=204)


def _check(request: Request, action: str) -> None:
    check_parameters(request.query_params, "f")
    require_json(request)
    require_operator(request, action, everywhere=True)


def _scope(request: Request) -> str:
    scope: str = request.path_params["scope"]
    if not is_scope(scope):
        raise InvalidParameter("scope", scope, "use queue, workspace:NAME, process:ID or worker:ID")
    return scope


async def _check_exists(parts: Parts, scope: str) -> None:
    """Raise what says so if there is no such thing to hold back."""
    kind, name = parse_scope(scope)
    if kind == "workspace" and name not in parts.settings.workspaces.names:
        raise NoSuchWorkspace(name)
    if kind == "process":
        parts.catalog.get(name)
    if kind == "worker" and all(one.id != name for one in await _workers(parts)):
        raise NoSuchWorker(name)


async def _workers(parts: Parts) -> list[AgentRecord]:
    """Return those who run jobs now."""
    agent, ledger = parts.engine.agent, parts.ledger
    if not ledger.shared:
        return [agent.record()]
    return await ledger.agents(since=ledger.clock() - int(agent.rules.lease_s * 1e6))


def _worker(record: AgentRecord) -> WorkerInfo:
    return WorkerInfo(
        id=record.id,
        kind=record.kind,
        host=record.host,
        pid=record.pid,
        state=_STATES[record.paused],
        places=record.slots,
        busy=record.busy,
        labels=record.labels.split(",") if record.labels else [],
        started=moment(record.started),
        seen=moment(record.seen),
    )


def _holds(request: Request) -> list[HoldInfo]:
    base = base_of(request)
    return [_hold(hold, base) for hold in visit_of(request).parts.engine.holds]


def _hold(hold: Hold, base: str) -> HoldInfo:
    return HoldInfo(
        scope=hold.scope,
        action=hold.action,
        reason=hold.reason,
        actor=hold.actor,
        since=moment(hold.since),
        links=[Link(href=f"{base}/admin/holds", rel="collection", type=JSON, title="What is held back")],
    )


def _answer(document: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(document), headers={"vary": VARY}, media_type=JSON)
