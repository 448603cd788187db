"""Run jobs without serving anything: ``graticule worker``."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable

import uvloop

from graticule.runtime import prctl
from graticule.runtime.parts import Parts


def work(build: Callable[[], Awaitable[Parts]]) -> int:
    """Run jobs until SIGTERM or Ctrl-C.

    Parameters
    ----------
    build : callable
        Builds the parts of the worker, on the loop that they will live on.

    Returns
    -------
    int
        Exit code: 0 after a clean end.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    prctl.become_subreaper()
    return uvloop.run(_work(build))


async def _work(build: Callable[[], Awaitable[Parts]]) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    parts = await build()
    places = parts.settings.jobs.workers
    print(f"Graticule works on {socket.gethostname()}, {places} jobs at a time", flush=True)  # noqa: T201 - as serve does
    try:
        parts.begin_work()
        # It ends when it is told to, or when an operator has it drained and it is empty.
        ends = [asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(parts.engine.agent.drained())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
    finally:
        await parts.close()
    return 0
