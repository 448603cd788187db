"""Which representation and profile somebody wants (RFC 9110 section 12; the 2.0 draft's profiles)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from graticule.errors import InvalidParameter, NotAcceptable
from graticule.ogc.common import HTML, JSON, PROFILE

SHORT = {"json": JSON, "html": HTML, "yaml": "application/yaml"}
"""Short values of the query parameter ``f``; it takes full media types too."""


@dataclass(frozen=True, slots=True)
class Range:
    """One member of an Accept header."""

    type: str
    """``type/subtype``, lower case; ``*`` where anything goes."""
    quality: float
    parameters: tuple[tuple[str, str], ...] = ()

    def admits(self, media_type: str) -> bool:
        """Return whether a media type (its parameters aside) falls into this range."""
        essence = media_type.partition(";")[0].strip().lower()
        if self.type in ("*/*", essence):
            return True
        return self.type.endswith("/*") and essence.startswith(self.type[:-1])

    @property
    def specificity(self) -> int:
        return 0 if self.type == "*/*" else 1 if self.type.endswith("/*") else 2


@lru_cache(maxsize=512)
def parse_accept(header: str) -> tuple[Range, ...]:
    """Return the ranges of an Accept header; without one, everything is accepted."""
    ranges = []
    for member in _split(header, ","):
        essence, *parameters = [part.strip() for part in _split(member, ";")] or [""]
        if "/" not in essence and essence != "*":
            continue
        quality, others = 1.0, []
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            value = value.strip().strip('"')
            if name.strip().lower() == "q":
                quality = _quality(value)
            else:
                others.append((name.strip().lower(), value))
        ranges.append(Range("*/*" if essence == "*" else essence.lower(), quality, tuple(others)))
    return tuple(ranges) or (Range("*/*", 1.0),)


def quality_of(media_type: str, ranges: Sequence[Range]) -> float:
    """Return how much a media type is wanted; the most specific range that admits it decides."""
    best, quality = -1, 0.0
    for candidate in ranges:
        if candidate.specificity > best and candidate.admits(media_type):
            best, quality = candidate.specificity, candidate.quality
    return quality


def choose(accept: str, offered: Sequence[str]) -> str:
    """Return the offered media type that an Accept header wants most; of equals, the first.

    Raises
    ------
    NotAcceptable
        If none is wanted.
    """
    if not accept or accept == "*/*":
        return offered[0]
    ranges = parse_accept(accept)
    best = max(offered, key=lambda media_type: quality_of(media_type, ranges))
    if quality_of(best, ranges) <= 0:
        raise NotAcceptable(accept, offered)
    return best


def media_type_of(f: str) -> str:
    """Return the media type that a value of the query parameter ``f`` means.

    Raises
    ------
    InvalidParameter
        If it is neither a short name nor a media type.
    """
    wanted = unquote(f).strip()
    if wanted in SHORT:
        return SHORT[wanted]
    if re.fullmatch(r"[\w.+-]+/[\w.+-]+(\s*;.*)?", wanted):
        return wanted
    raise InvalidParameter("f", f, f"use {', '.join(SHORT)} or a media type")


def wanted_media_type(f: str | None, accept: str, offered: Sequence[str]) -> str:
    """Return the offered media type that ``f`` names, or else the one that the Accept header wants.

    Raises
    ------
    InvalidParameter
        If ``f`` names one that is not offered here.
    NotAcceptable
        If the Accept header wants none of them.
    """
    if f is None:
        return choose(accept, offered)
    wanted = media_type_of(f).partition(";")[0].strip().lower()
    for media_type in offered:
        if media_type.partition(";")[0].strip().lower() == wanted:
            return media_type
    raise InvalidParameter("f", f, f"this resource is offered as {', '.join(offered)}")


def admits(accept: str, media_type: str) -> bool:
    """Return whether an Accept header admits a media type."""
    return not accept or quality_of(media_type, parse_accept(accept)) > 0


# --- profiles ----------------------------------------------------------------------------------------------------


_PREFERRED_PROFILE = re.compile(r"(?:^|[,;\s])profile\s*=\s*\"?([^\",;\s]+)", re.IGNORECASE)


@lru_cache(maxsize=512)
def wanted_profiles(accept: str, accept_profile: str, prefer: str, link: str, query: str) -> tuple[str, ...]:
    """Return the identifiers of the OGC profiles that are asked for, in any of the five ways of the draft.

    Parameters
    ----------
    accept, accept_profile, prefer, link : str
        The headers of these names; empty when absent.
    query : str
        Value of the query parameter ``profile`` (comma list of URIs, safe CURIEs or bare identifiers).
    """
    found: list[str] = []
    for media_range in parse_accept(accept) if "profile" in accept else ():
        found += [value for name, value in media_range.parameters if name == "profile"]
    found += [member.partition(";")[0] for member in _split(accept_profile, ",")]
    found += _PREFERRED_PROFILE.findall(prefer)
    found += re.findall(r"<([^>]+)>\s*;[^,]*rel\s*=\s*\"?profile", link, re.IGNORECASE)
    found += query.split(",")
    return tuple(dict.fromkeys(name for name in map(_profile_id, found) if name))


def preferred_profile(prefer: str) -> str:
    """Return the identifier of the profile that a ``Prefer`` header asks for; empty if it asks for none."""
    found = _PREFERRED_PROFILE.search(prefer) if prefer else None
    return _profile_id(found.group(1)) if found else ""


def _profile_id(text: str) -> str:
    """Return the bare identifier: accept ``<URI>``, ``[ogc-profile:id]`` and both URI schemes."""
    text = text.strip().strip("<>\"'").strip("[]")
    text = re.sub(r"^https?://www\.opengis\.net/def/profile/OGC/0/", "", text)
    return text.removeprefix("ogc-profile:").strip()


def profile_uri(identifier: str) -> str:
    """Return the URI of an OGC profile."""
    return PROFILE + identifier


def _split(header: str, separator: str) -> list[str]:
    """Split a header at a separator that is outside quotes and angle brackets."""
    if '"' not in header and "<" not in header:
        return [part.strip() for part in header.split(separator) if part.strip()]
    parts = re.findall(rf'((?:[^{separator}"<]|"(?:[^"\\]|\\.)*"|<[^>]*>|["<])+)', header)
    return [part.strip() for part in parts if part.strip()]


def _quality(value: str) -> float:
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 1.0
