"""How the service is, for those who keep it running: health and metrics."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import AccessDenied, Unauthenticated
from graticule.jobs.holds import parse_scope
from graticule.ogc.common import JSON
from graticule.web.requests import client_of, header, is_within, visit_of
from graticule.web.routing import Answer, Routes

routes = Routes("Operations")

_NOT_KEPT = {"cache-control": "no-store"}
_READY = (
    Answer(status=200, description="All parts work.", content=((JSON, "health"),)),
    Answer(status=503, description="At least one part does not work.", content=((JSON, "health"),)),
)


@routes.get("/health", answers=_READY, reads=False)
async def get_health(request: Request) -> Response:
    """Tell whether the service can do its work, and which part keeps it from it; needs no token."""
    parts = visit_of(request).parts
    found = await parts.health.find()
    document: dict[str, Any] = {"status": "ok" if found.ready else "unavailable", "live": True, "ready": found.ready}
    held = dict.fromkeys(parse_scope(hold.scope)[0] for hold in parts.engine.holds)
    if held:  # names and reasons are for operators
        document["held"] = list(held)
    body = msgspec.json.encode({**document, "parts": found.parts})
    return Response(body, 200 if found.ready else 503, _NOT_KEPT, media_type=JSON)


@routes.get("/health/ready", answers=_READY, reads=False)
async def get_readiness(request: Request) -> Response:
    """Tell whether the service can take requests now: what a load balancer asks."""
    return await get_health(request)


@routes.get(
    "/health/live",
    answers=(Answer(status=200, description="The service answers.", content=((JSON, "health"),)),),
    reads=False,
)
async def get_liveness(_request: Request) -> Response:
    """Tell that the service runs, whatever its parts do: who gets no answer may start it again."""
    return Response(msgspec.json.encode({"status": "ok", "live": True}), headers=_NOT_KEPT, media_type=JSON)


@routes.get(
    "/metrics",
    answers=(Answer(status=200, description="Numbers as Prometheus reads them.", content=(("text/plain", ""),)),),
    problems=(AccessDenied, Unauthenticated),
    reads=False,
)
async def get_metrics(request: Request) -> Response:
    """Return what was counted, to those whom `telemetry.metrics_readers` names."""
    _check_reader(request)
    body, media_type = await visit_of(request).parts.metrics.exposition()
    return Response(body, headers={**_NOT_KEPT, "content-type": media_type})


def _check_reader(request: Request) -> None:
    """Refuse whoever is not to read the metrics: by address, else by token."""
    parts = visit_of(request).parts
    readers = parts.settings.telemetry.metrics_readers
    if is_within(client_of(request), [reader for reader in readers if not reader.startswith("actor:")]):
        return
    actors = [reader.removeprefix("actor:") for reader in readers if reader.startswith("actor:")]
    actor = "anonymous"
    if actors:
        actor = parts.visitor(visit_of(request).workspace.id, header(request, "authorization")).actor
    if actor not in actors:
        raise AccessDenied(actor, "read the metrics; telemetry.metrics_readers says who may")
