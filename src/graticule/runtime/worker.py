"""Run jobs without serving anything: ``graticule worker``."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import uvloop

from graticule.runtime import prctl
from graticule.runtime.logs import LogFormat, configure_logs
from graticule.runtime.parts import Parts

Watched = Callable[[Parts], AbstractAsyncContextManager[str]]
"""Tells how a worker is to those who ask, as long as the context lasts; gives the address where, empty if nowhere."""


@asynccontextmanager
async def unwatched(_parts: Parts) -> AsyncIterator[str]:
    """Tell nobody how a worker is."""
    yield ""


def work(build: Callable[[], Awaitable[Parts]], watched: Watched, log_format: LogFormat) -> int:
    """Run jobs until SIGTERM or Ctrl-C.

    Parameters
    ----------
    build : callable
        Builds the parts of the worker, on the loop that they will live on.
    watched : callable
        Who may ask how it is.
    log_format : str
        How logs are written.

    Returns
    -------
    int
        Exit code: 0 after a clean end.
    """
    configure_logs(log_format)
    prctl.become_subreaper()
    return uvloop.run(_work(build, watched))


async def _work(build: Callable[[], Awaitable[Parts]], watched: Watched) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    parts = await build()
    places = parts.settings.jobs.workers
    try:
        async with watched(parts) as address:
            told = f"; ask {address} how it is" if address else ""
            print(f"Graticule works on {socket.gethostname()}, {places} jobs at a time{told}", flush=True)  # noqa: T201 - as serve does
            parts.begin_work()
            # It ends when it is told to, or when an operator has it drained and it is empty.
            ends = [asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(parts.engine.agent.drained())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
    finally:
        await parts.close()
    return 0
