"""What is noted of every request: its identifier, a count, and where it is wanted a line in the log and a span."""

from __future__ import annotations

import itertools
import os
import re
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graticule.runtime.logs import ASKED, Asked, get_log
from graticule.runtime.parts import Parts

log = get_log("graticule.access")

_IDENTIFIER = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}")
"""What a client may call its request; anything else might be meant to look like a line of the log."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNFINISHED = 499
"""The status that is counted of a request whose client went away before there was an answer."""


class Observed:
    """An application of which every request is noted.

    Parameters
    ----------
    app : callable
        The application; it leaves the template of the address in the scope, as ``route``.
    parts : Parts
        Count, trace and settings.
    """

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._metrics = parts.metrics
        self._tracing = parts.tracing
        self._access_log = parts.settings.server.access_log
        # Unlike other services' and, after a new start, our own; the rest need only be counted.
        self._prefix = os.urandom(5).hex()
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        asked = Asked(self._identifier(scope))
        # Not taken back: each request is answered by a task of its own.
        ASKED.set(asked)
        echo = (b"x-request-id", asked.id.encode("ascii"))
        status = _UNFINISHED

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], echo]}
            await send(message)

        method = scope["method"] if scope["method"] in _METHODS else "other"
        tracing, span = self._tracing, None
        if tracing is not None:
            span = tracing.begin(method, scope["path"], scope["headers"])
            asked.trace = f"{span.get_span_context().trace_id:032x}"
            scope["traceparent"] = tracing.traceparent(span)
        try:
            await self._app(scope, receive, noting)
        finally:
            asked.over = True
            route, seconds = scope.get("route", ""), time.perf_counter() - began
            self._metrics.answered(method, route, status, seconds)
            if tracing is not None and span is not None:
                tracing.end(span, method, route, status)
            if self._access_log:
                self._write(scope, asked, status, seconds)

    def _identifier(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _IDENTIFIER.fullmatch(value):
                return str(value, "ascii")
        return f"{self._prefix}-{next(self._numbers)}"

    def _write(self, scope: Scope, asked: Asked, status: int, seconds: float) -> None:
        """Write a line; without the query, in which inputs and signatures may stand."""
        client = scope.get("client")
        fields = {"job": asked.job, "trace": asked.trace}
        log.info(
            "request",
            request=asked.id,
            method=scope["method"],
            path=quote(scope["path"]),
            status=status,
            seconds=round(seconds, 4),
            client=client[0] if client else "",
            **{name: value for name, value in fields.items() if value},
        )
