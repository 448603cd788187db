"""An ASGI application in this process, asked without a network: for tests, examples and notebooks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, MutableMapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal

Message = MutableMapping[str, Any]
Receive = Callable[[], Coroutine[Any, Any, Message]]
Send = Callable[[Message], Coroutine[Any, Any, None]]
App = Callable[[Message, Receive, Send], Coroutine[Any, Any, None]]
"""An ASGI application."""

ADDRESS = "http://localhost"
"""What such an application is told to be called."""


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """Start the application and stop it again, as a server does (ASGI lifespan); one without a lifespan just runs."""
    to_app, app_receives = anyio.create_memory_object_stream[Message](1)
    app_sends, from_app = anyio.create_memory_object_stream[Message](1)

    async def run() -> None:
        scope: Message = {"type": "lifespan", "asgi": {"version": "3.0"}}
        async with app_sends:
            await app(scope, app_receives.receive, app_sends.send)

    async def step(name: str) -> Message:
        await to_app.send({"type": f"lifespan.{name}"})
        try:
            return await from_app.receive()
        except anyio.EndOfStream:
            return {"type": "lifespan.unknown"}

    async with to_app, app_receives, from_app, anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        answer = await step("startup")
        if answer["type"] != "lifespan.startup.failed":
            try:
                yield
            finally:
                if answer["type"] == "lifespan.startup.complete":
                    answer = await step("shutdown")
    # Raised here, outside the task group, so that it comes as itself.
    if answer["type"].endswith(".failed"):
        raise RuntimeError(answer.get("message") or "the application could not start or stop")


def transport_of(app: App) -> httpx2.ASGITransport:
    """Return what carries requests to an application within one event loop."""
    return httpx2.ASGITransport(app=app)  # type: ignore[arg-type] # it says Awaitable where servers need coroutines


class InProcess(httpx2.BaseTransport):
    """Send requests to an application that runs in a thread beside the caller, from the first request to `close`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._inside = transport_of(app)
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._started().call(self._answer, request, request.read())

    def close(self) -> None:
        self._stack.close()
        self._portal = None

    def _started(self) -> BlockingPortal:
        if self._portal is None:
            portal = self._stack.enter_context(start_blocking_portal())
            self._stack.enter_context(portal.wrap_async_context_manager(lifespan(self._app)))
            self._portal = portal
        return self._portal

    async def _answer(self, request: httpx2.Request, body: bytes) -> httpx2.Response:
        inside = httpx2.Request(request.method, request.url, headers=request.headers, content=body)
        response = await self._inside.handle_async_request(inside)
        content = await response.aread()
        return httpx2.Response(response.status_code, headers=response.headers, content=content)
