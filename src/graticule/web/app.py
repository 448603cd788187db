"""The application: finds workspace and route of a request, and answers errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from graticule.errors import GraticuleError, RequestFailed, ShuttingDown
from graticule.ogc.common import HTML, JSON, PROBLEM_JSON
from graticule.runtime.logs import get_log
from graticule.runtime.parts import Parts, Visitor
from graticule.web import pages
from graticule.web.negotiation import parse_accept, quality_of
from graticule.web.observing import Observed
from graticule.web.problems import headers_of, problem_of
from graticule.web.requests import Visit, about_job, check_host, check_query, forwarded_base, is_within
from graticule.web.responses import VARY, ContentResponse, matches
from graticule.web.routes import ROUTES
from graticule.web.routing import RouteTable

log = get_log("graticule.web")

_WORKSPACE_MARK = "ogc-api"
_KEY_HEADERS = frozenset(
    {b"accept", b"accept-profile", b"authorization", b"host", b"prefer", b"origin", b"link"}
)  # fmt: skip
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix"})
_KEPT_BYTES = 64 << 20
_EXPOSED = (
    "Location, Link, ETag, Repr-Digest, Preference-Applied, Content-Profile, OGC-Output-Values-Count, Retry-After, "
    "Content-Range, Upload-Offset, Upload-Length, Upload-Expires, Tus-Resumable, Tus-Version, X-Request-Id"
)
_OPEN = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
"""What is asked for by machines that watch the service: they have no token, and what they may see is settled there."""


class Application:
    """The ASGI application of a running service.

    Parameters
    ----------
    parts : Parts
        The service; None while it is being built, then every request is answered 503.
    """

    def __init__(self, parts: Parts, routes: Iterable[Any] = ROUTES) -> None:
        self.parts = parts
        self.table = RouteTable(routes)
        self._kept = _KeptAnswers()
        self._observed = Observed(self._serve, parts)
        server = parts.settings.server
        self._public = server.public_url.rstrip("/")
        self._proxies = server.trusted_proxies
        self._origins = frozenset(server.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] == "http":
            await self._observed(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        key = self._kept.key(scope) if method in ("GET", "HEAD") else None
        if key is not None and (kept := self._kept.get(key, self.parts.catalog.revision)) is not None:
            await kept.send(scope, send)
            return
        if method == "HEAD":
            send = _without_body(send)
        response = await self._respond(scope, receive)
        self._cross_origin(scope, response)
        visit: Visit | None = scope.get("graticule")
        if key is not None and visit is not None and visit.cacheable and response.status_code == 200:
            self._kept.put(key, self.parts.catalog.revision, response, scope["route"])
        await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        """Find and call the handler; whatever it raises becomes a problem document."""
        request = Request(scope, receive)
        scope["app"] = self
        try:
            check_host(request.headers, scope["http_version"])
            visit, path = self._visit(scope, request.headers)
            scope["graticule"], scope["resource"] = visit, path
            check_query(scope["query_string"])
            if scope["method"] == "OPTIONS":
                return self._options(path, request.headers)
            route, values = self.table.find(scope["method"], path)
            scope["route"], scope["path_params"] = route.path, values
            if "jobID" in values:
                about_job(values["jobID"])
            return await _prepared(await route.handler(request), scope["method"])
        except GraticuleError as error:
            return self._problem(request, error)
        except asyncio.CancelledError:  # the service stops, and cannot wait any longer for what this waits for
            return self._problem(request, ShuttingDown())
        except Exception:
            log.exception("request.failed", method=scope["method"], path=scope["path"])
            return self._problem(request, RequestFailed())

    def _visit(self, scope: Scope, headers: Headers) -> tuple[Visit, str]:
        """Return what is known of a request, and its path below the workspace."""
        path = scope.get("raw_path", b"").decode("latin-1").partition("?")[0] or scope["path"]
        settings = self.parts.settings
        workspace, prefix = settings.workspaces.default, ""
        first, _, rest = path.strip("/").partition("/")
        if rest == _WORKSPACE_MARK or rest.startswith(f"{_WORKSPACE_MARK}/"):
            workspace, prefix = first, f"/{first}/{_WORKSPACE_MARK}"
            path = path[len(prefix) :] or "/"
        elif (rest == "files" or rest.startswith("files/")) and first in settings.workspaces.names:
            # The short address of a workspace's files; links lead to the long one.
            workspace, prefix, path = first, f"/{first}/{_WORKSPACE_MARK}", f"/{rest}"
        base = self._base(scope, headers) + prefix
        if path.startswith("/static/") or path in _OPEN:  # the same for all, strangers included
            visitor = Visitor(workspace=settings.workspaces.default, actor="anonymous")
        else:
            visitor = self.parts.visitor(workspace, headers.get("authorization", ""))
        visit = Visit(parts=self.parts, workspace=self.parts.workspace(visitor), base=base)
        return visit, path.rstrip("/") or "/"

    def _base(self, scope: Scope, headers: Headers) -> str:
        """Return scheme, host and prefix as the client sees them."""
        if self._public:
            return self._public
        client = scope.get("client")
        if self._proxies and client and is_within(client[0], self._proxies):
            forwarded = forwarded_base(headers, scope["scheme"], self._proxies)
            if forwarded:
                return forwarded
        host = headers.get("host")
        if not host:
            host = ":".join(map(str, scope["server"]))
        return f"{scope['scheme']}://{host}"

    def _options(self, path: str, headers: Headers) -> Response:
        allowed = ", ".join(self.table.allowed(path))
        answered = {"allow": allowed, "vary": "Origin"}
        if headers.get("origin"):
            answered |= {
                "access-control-allow-methods": allowed,
                "access-control-allow-headers": headers.get("access-control-request-headers", "*"),
                "access-control-max-age": "600",
            }
        return Response(status_code=204, headers=answered)

    def _cross_origin(self, scope: Scope, response: Response) -> None:
        """Let pages of other origins read the answer, where the settings allow it."""
        origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        if origin is not None and ("*" in self._origins or origin.decode("latin-1") in self._origins):
            allowed = "*" if "*" in self._origins else origin.decode("latin-1")
            response.headers["access-control-allow-origin"] = allowed
            response.headers["access-control-expose-headers"] = _EXPOSED

    def _problem(self, request: Request, error: GraticuleError) -> Response:
        row, document = problem_of(error, request.url.path)
        headers = {"vary": VARY, **headers_of(error, row)}
        accept = request.headers.get("accept", "")
        ranges = parse_accept(accept)
        json_quality = max(quality_of(JSON, ranges), quality_of(PROBLEM_JSON, ranges))
        if quality_of(HTML, ranges) > json_quality and "graticule" in request.scope:
            body = pages.render(request, "problem", document)
            return Response(body, row.status, {**headers, **pages.HEADERS}, media_type="text/html; charset=utf-8")
        # The official suite takes errors as application/json only, where it asked for that alone.
        named = {media_range.type for media_range in ranges}
        media_type = JSON if JSON in named and PROBLEM_JSON not in named else PROBLEM_JSON
        return Response(msgspec.json.encode(document), row.status, headers, media_type=media_type)


class _KeptAnswer:
    """An answer as bytes, for requests that would get the same one."""

    __slots__ = ("body", "headers", "route", "start", "tag")

    def __init__(self, response: Response, route: str) -> None:
        self.route = route
        self.body = bytes(response.body)
        self.headers = list(response.raw_headers)
        self.tag = response.headers.get("etag", "")
        self.start = {"type": "http.response.start", "status": 200, "headers": self.headers}

    async def send(self, scope: Scope, send: Send) -> None:
        scope["route"] = self.route
        for name, value in scope["headers"]:
            if name == b"if-none-match" and matches(value.decode("latin-1"), self.tag):
                headers = [
                    (name, value) for name, value in self.headers if name in (b"etag", b"vary", b"cache-control")
                ]
                await send({"type": "http.response.start", "status": 304, "headers": headers})
                await send({"type": "http.response.body", "body": b""})
                return
        await send(self.start)
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})


class _KeptAnswers:
    """Answers that change only when the catalogue does, in front of routing; a new revision ends them all."""

    def __init__(self) -> None:
        self._answers: dict[Any, _KeptAnswer] = {}
        self._revision = -1
        self._bytes = 0

    @staticmethod
    def key(scope: Scope) -> Any:
        """Return what an answer depends on; None for a request that comes through a proxy, or names no host."""
        chosen = [pair for pair in scope["headers"] if pair[0] in _KEY_HEADERS]
        if not any(name == b"host" for name, _ in chosen):
            return None
        if any(name in _FORWARDED for name, _ in scope["headers"]):
            return None
        return (scope["path"], scope["query_string"], scope["scheme"], *chosen)

    def get(self, key: Any, revision: int) -> _KeptAnswer | None:
        return self._answers.get(key) if revision == self._revision else None

    def put(self, key: Any, revision: int, response: Response, route: str) -> None:
        if revision != self._revision or self._bytes > _KEPT_BYTES or len(self._answers) > 10_000:
            self._answers.clear()
            self._revision, self._bytes = revision, 0
        self._answers[key] = _KeptAnswer(response, route)
        self._bytes += len(response.body)


async def _prepared(response: Response, method: str) -> Response:
    """Return an answer whose content has begun to come, so that a storage that fails is told by its status."""
    if isinstance(response, ContentResponse):
        await (response.look() if method == "HEAD" or response.status_code == 304 else response.prepare())
    return response


def _without_body(send: Send) -> Send:
    """Answer HEAD: the same headers, no content."""

    async def head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return head


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
