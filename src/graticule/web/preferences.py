"""The ``Prefer`` header (RFC 7240) as OGC API - Processes uses it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from graticule.errors import InvalidParameter
from graticule.ogc.processes import ProcessDescription

RESPOND_ASYNC = "respond-async"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What a client prefers. Unknown preferences are ignored, as the RFC says."""

    respond_async: bool = False
    wait: float | None = None
    """Seconds."""
    returns: Literal["minimal", "representation"] | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How an execution is answered."""

    waits: bool
    """True: the answer is the result, if it comes in time."""
    timeout: float
    """Seconds to wait."""
    applied: tuple[str, ...]
    """Preferences that are honoured, for ``Preference-Applied``; `RESPOND_ASYNC` only if the answer is a job."""


_CREATED = re.compile(r"\s*status\s*=\s*\"?created\"?\s*", re.IGNORECASE)


def split_created(header: str) -> tuple[bool, str]:
    """Return whether a header prefers that a job is only created (Part 4), and what else it prefers."""
    members = re.split(r"[,;]", header)
    others = [member for member in members if not _CREATED.fullmatch(member)]
    return len(others) < len(members), ",".join(others)


@lru_cache(maxsize=256)
def parse_prefer(header: str) -> Preferences:
    """Return the preferences of a header; several headers are joined by commas.

    Raises
    ------
    InvalidParameter
        If ``handling=strict`` is asked and a preference cannot be honoured.
    """
    respond_async = strict = False
    wait: float | None = None
    returns: Literal["minimal", "representation"] | None = None
    unknown: list[str] = []
    seen: set[str] = set()
    # Commas separate preferences; a semicolon is a parameter's by the RFC, but clients use it as a comma.
    for member in re.split(r"[,;]", header):
        name, _, value = member.partition("=")
        name, value = name.strip().lower(), value.strip().strip('"').lower()
        if name in seen:  # the first one counts (section 2 of the RFC)
            continue
        seen.add(name)
        if name == RESPOND_ASYNC:
            respond_async = True
        elif name == "wait" and re.fullmatch(r"\d+(\.\d+)?", value):
            wait = float(value)
        elif name == "return" and value in ("minimal", "representation"):
            returns = "minimal" if value == "minimal" else "representation"
        elif name == "handling":
            strict = value == "strict"
        elif name and name != "profile":
            unknown.append(member.strip())
    if strict and unknown:
        raise InvalidParameter(
            "Prefer", unknown[0], "known: respond-async, wait=SECONDS, return=minimal|representation, profile"
        )
    return Preferences(respond_async=respond_async, wait=wait, returns=returns, strict=strict)


def decide_mode(description: ProcessDescription, prefer: Preferences, sync_limit: float) -> Mode:
    """Return whether to wait for the result and how long (the table of execution modes, both editions).

    Parameters
    ----------
    description : ProcessDescription
        Says whether the process runs synchronously, asynchronously or both.
    prefer : Preferences
        What the client prefers.
    sync_limit : float
        Seconds that a synchronous request may last at most.
    """
    applied: list[str] = []
    limit = sync_limit
    if prefer.wait is not None and description.allows_sync:
        limit = min(prefer.wait, sync_limit)
        applied.append(f"wait={limit:g}")
    if not description.allows_sync:
        return Mode(waits=False, timeout=0, applied=(RESPOND_ASYNC,) if prefer.respond_async else ())
    if prefer.respond_async and description.allows_async:
        applied.insert(0, RESPOND_ASYNC)
        return Mode(waits=prefer.wait is not None and limit > 0, timeout=limit, applied=tuple(applied))
    return Mode(waits=True, timeout=limit, applied=tuple(applied))


def decide_start_mode(description: ProcessDescription, prefer: Preferences, sync_limit: float) -> Mode:
    """Return whether to wait for the result of a job that was created and is now started.

    It has an address already, so that nobody waits unless ``wait`` is preferred or the process runs synchronously only.
    """
    if prefer.wait is None and description.allows_async:
        return Mode(waits=False, timeout=0, applied=(RESPOND_ASYNC,) if prefer.respond_async else ())
    return decide_mode(description, prefer, sync_limit)
