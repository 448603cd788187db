"""The client library: ``Client`` and ``AsyncClient`` talk to any OGC API - Processes service, best to Graticule.

The public names load when they are first used (PEP 562): the HTTP library is slow to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graticule.client.calls import Results
    from graticule.client.client import AsyncClient, Client
    from graticule.client.transport import (
        ClientFault,
        NotAsynchronous,
        RemoteProblem,
        ServerUnreachable,
        UnexpectedAnswer,
        WaitExpired,
    )

_HOMES = {
    "AsyncClient": "graticule.client.client",
    "Client": "graticule.client.client",
    "ClientFault": "graticule.client.transport",
    "NotAsynchronous": "graticule.client.transport",
    "RemoteProblem": "graticule.client.transport",
    "Results": "graticule.client.calls",
    "ServerUnreachable": "graticule.client.transport",
    "UnexpectedAnswer": "graticule.client.transport",
    "WaitExpired": "graticule.client.transport",
}

__all__ = [
    "AsyncClient",
    "Client",
    "ClientFault",
    "NotAsynchronous",
    "RemoteProblem",
    "Results",
    "ServerUnreachable",
    "UnexpectedAnswer",
    "WaitExpired",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'graticule.client' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value
