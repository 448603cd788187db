"""Work on large requests, off the event loop: others are answered meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

LARGE_BYTES = 256 << 10
"""Size of a body from which what is done with the whole of it is done aside: some milliseconds of work."""

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

# One: threads share the interpreter, so a second would end no work sooner, and take memory of its own.
_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-request")


async def aside(size: int, function: Callable[[*_Ts], _T], *arguments: *_Ts) -> _T:
    """Return what a function returns: called here for a small body, in a thread and in its turn for a large one."""
    if size <= LARGE_BYTES:
        return function(*arguments)
    return await asyncio.get_running_loop().run_in_executor(_thread, function, *arguments)
