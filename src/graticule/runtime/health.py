"""Whether this service can do its work, and if not, which part keeps it from it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from graticule.data.storage import Storage
from graticule.errors import GraticuleError, NotFound, StorageUnavailable
from graticule.jobs.job import JobKey
from graticule.jobs.ledger import Ledger

Probe = Callable[[], Awaitable[str]]
"""Looks at a part; returns one sentence why it does not work, empty if it does."""

_FRESH_S = 1.0
"""Seconds that a finding is good for: whoever asks more often costs nothing."""
_FREE = "free some, as by removing jobs that have ended (graticule dismiss --status failed)"
_PATIENCE_S = 2.0
"""Seconds that a part has to answer."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one part is."""

    ok: bool
    reason: str = ""
    """Why not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How the service is."""

    parts: Mapping[str, Part]

    @property
    def ready(self) -> bool:
        """Whether it can take requests."""
        return all(part.ok for part in self.parts.values())


class Health:
    """Looks at the parts of a service when somebody asks, but not more often than once a second.

    Parameters
    ----------
    probes : mapping of str to Probe
        What looks at each part.
    """

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = probes
        self._found: asyncio.Task[Finding] | None = None
        self._since = 0.0
        self.stopping = False
        """Set when the service takes nothing on any more."""

    async def find(self) -> Finding:
        """Return how the service is."""
        if self.stopping:
            return Finding({"server": Part(ok=False, reason="it is being stopped")})
        if self._found is None or (self._found.done() and time.monotonic() - self._since > _FRESH_S):
            self._since = time.monotonic()
            self._found = asyncio.get_running_loop().create_task(self._look())
        return await asyncio.shield(self._found)  # whoever hangs up does not take it from the others

    async def _look(self) -> Finding:
        reasons = await asyncio.gather(*map(_reason, self._probes.values()))
        parts = {name: Part(ok=not reason, reason=reason) for name, reason in zip(self._probes, reasons, strict=True)}
        return Finding(parts)


async def _reason(probe: Probe) -> str:
    asked = asyncio.ensure_future(probe())
    done, _ = await asyncio.wait({asked}, timeout=_PATIENCE_S)
    if not done:
        # Nobody waits for its end: a driver that is cancelled may ask the other side to stop, and wait for that.
        asked.add_done_callback(_drop)
        asked.cancel()
        return f"no answer within {_PATIENCE_S:g} s"
    try:
        return asked.result()
    except OSError as error:
        return error.strerror or type(error).__name__  # not the whole text, which names paths
    except StorageUnavailable as error:
        return error.reason
    except GraticuleError as error:
        return str(error)


def _drop(asked: asyncio.Future[str]) -> None:
    if not asked.cancelled():
        asked.exception()  # so that it is not said to have been overlooked


def ledger_probe(ledger: Ledger) -> Probe:
    """Return what looks whether jobs can be read and, as far as somebody has tried, kept."""

    async def probe() -> str:
        with contextlib.suppress(NotFound):
            await ledger.get(JobKey("", ""))
        return f"jobs cannot be kept ({ledger.trouble})" if ledger.trouble else ""

    return probe


def storage_probe(storage: Storage) -> Probe:
    """Return what looks whether files can be kept."""

    async def probe() -> str:
        await storage.check()
        return ""

    return probe


def blocking_probe(look: Callable[[], str | None]) -> Probe:
    """Return what looks by a function that blocks; it returns a reason, or raises OSError."""

    async def probe() -> str:
        return await asyncio.to_thread(look) or ""

    return probe


def disk_probe(folders: Mapping[str, Path], least_mib: int) -> Probe:
    """Return what looks whether disks have room; `folders` by what they are for."""
    return blocking_probe(lambda: lack_of_room(folders, least_mib))


def lack_of_room(folders: Mapping[str, Path], least_mib: int) -> str:
    """Return which disk has too little room, and what to do; empty: none. Raises OSError."""
    for purpose, folder in folders.items():
        usage = shutil.disk_usage(folder)
        if usage.free >> 20 < least_mib or not usage.free:
            least = f", at least {least_mib} MiB are needed" if least_mib else ""
            return f"the disk of the {purpose} has {usage.free >> 20} MiB left; {_FREE}{least}"
    return ""
