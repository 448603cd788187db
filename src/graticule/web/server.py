"""Serve the application: bind, announce the address, run until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn
import uvloop

from graticule.errors import InvalidSetting
from graticule.runtime import prctl
from graticule.runtime.logs import LogFormat, configure_logs
from graticule.runtime.parts import Parts
from graticule.runtime.worker import Watched
from graticule.web.app import Application
from graticule.web.callbacks import callback_document
from graticule.web.protocol import Protocol
from graticule.web.routes import operations

log = logging.getLogger("graticule")

_ANSWER_S = 15
"""Seconds that answers may take to be written when the time is over that running jobs have to end: so long as it takes
to learn that a database does not answer, twice."""


class _Server(uvicorn.Server):
    """uvicorn that says when it answers, and leaves signals to us: it would end with the signal's exit status."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a service listens."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0: a free one."""
    guarded: bool = False
    """Whether an access rule keeps strangers out."""
    log_format: LogFormat = "console"
    """How logs are written."""


def serve(build: Callable[[], Awaitable[Parts]], place: Place) -> int:
    """Run the service until SIGTERM or Ctrl-C.

    Parameters
    ----------
    build : callable
        Builds the parts of the service, on the loop that they will live on.
    place : Place
        Where to listen.

    Returns
    -------
    int
        Exit code: 0 after a clean end.
    """
    configure_logs(place.log_format)
    prctl.become_subreaper()
    # Threads that write the ledger take turns with the event loop; the default of 5 ms would cost each commit as much.
    sys.setswitchinterval(0.0005)
    if not _is_loopback(place.host) and not place.guarded:
        log.warning(
            "listening on %s without any token: whoever reaches this address may run processes; set security.tokens",
            place.host,
        )
    return uvloop.run(_serve(build, place))


def watched_at(host: str, port: int) -> Watched:
    """Return what tells at an address how a worker is: its health and its metrics, nothing else."""

    @contextlib.asynccontextmanager
    async def watched(parts: Parts) -> AsyncIterator[str]:
        listener = _listen(host, port, "worker")
        server = _server(Application(parts, operations.routes.routes), parts)
        serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
        try:
            yield _address(listener)
        finally:
            _stop(server, parts)
            await serving

    return watched


def _server(application: Application, parts: Parts) -> _Server:
    protocol: Any = partial(Protocol, stall_limit_s=parts.settings.server.stall_limit_s)
    patience = math.ceil(parts.settings.jobs.grace_s) + _ANSWER_S
    config = uvicorn.Config(
        application, http=protocol, ws="none", lifespan="off", log_config=None, log_level="warning",
        access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=patience,
    )  # fmt: skip
    return _Server(config)


async def _serve(build: Callable[[], Awaitable[Parts]], place: Place) -> int:
    listener = _listen(place.host, place.port)
    parts = await build()
    server = _server(Application(parts), parts)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, server, parts)
    serving = loop.create_task(server.serve(sockets=[listener]))
    try:
        answers = loop.create_task(server.answers.wait())
        await asyncio.wait({answers, serving}, return_when=asyncio.FIRST_COMPLETED)
        print(f"Graticule answers at {_address(listener)}", flush=True)  # noqa: T201 - what scripts wait for
        parts.after_start(partial(callback_document, parts))
        await serving
    finally:
        await parts.close()
    return 0


def _stop(server: uvicorn.Server, parts: Parts) -> None:
    parts.health.stopping = True
    parts.watchers.close()
    parts.engine.agent.retire()
    # A second signal does not wait for requests that are still being answered.
    server.force_exit = server.should_exit
    server.should_exit = True


def _listen(host: str, port: int, section: str = "server") -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InvalidSetting(f"{section}.port", f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener


def _address(listener: socket.socket) -> str:
    """Return where this process itself answers, also when clients come by way of a proxy's address."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
