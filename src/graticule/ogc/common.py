"""What all OGC APIs share: links, conformance, relations, media types, time stamps (OGC API - Common, RFC 8288)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

REL = "http://www.opengis.net/def/rel/ogc/1.0/"
REL_CONFORMANCE = f"{REL}conformance"
REL_PROCESSES = f"{REL}processes"
REL_JOB_LIST = f"{REL}job-list"
REL_EXECUTE = f"{REL}execute"
REL_RESULTS = f"{REL}results"
REL_EXCEPTIONS = f"{REL}exceptions"
REL_LOG = f"{REL}log"
REL_JOB_DEFINITION = f"{REL}job-definition"
REL_JOB_INPUTS = f"{REL}job-inputs"

PROFILE = "https://www.opengis.net/def/profile/OGC/0/"

JSON = "application/json"
HTML = "text/html"
PROBLEM_JSON = "application/problem+json"
GEOJSON = "application/geo+json"
GEOTIFF = "image/tiff; application=geotiff"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
CRS84H = "http://www.opengis.net/def/crs/OGC/0/CRS84h"


def _wire_name(name: str) -> str:
    """Return the standard's spelling of a member: ``min_occurs`` is ``minOccurs``, ``job_id`` is ``jobID``."""
    head, *rest = name.split("_")
    return head + "".join("ID" if part == "id" else part.capitalize() for part in rest)


class Document(msgspec.Struct, frozen=True, rename=_wire_name, omit_defaults=True):
    """A JSON document of a standard: snake_case inside, camelCase on the wire, members at their default left out."""


class Link(Document, frozen=True, kw_only=True):
    """A link (RFC 8288; common-core/link.yaml). `rel` is always given, as the 2.0 draft asks."""

    href: str
    rel: str = ""
    type: str | None = None
    hreflang: str | None = None
    title: str | None = None
    length: int | None = None


class Conformance(Document, frozen=True, kw_only=True):
    """The list of conformance classes that a service meets (confClasses.yaml)."""

    conforms_to: list[str]


class LandingPage(Document, frozen=True, kw_only=True):
    """The entry document of a service (landingPage.yaml)."""

    title: str
    description: str = ""
    attribution: str | None = None
    links: list[Link]


class Problem(Document, frozen=True, kw_only=True):
    """Problem details (RFC 9457; exception.yaml of Processes)."""

    type: str
    title: str = ""
    status: int = 0
    detail: str = ""
    instance: str | None = None
    errors: list[dict[str, Any]] | None = None
    """One member per fault: `pointer` (JSON pointer into the request body) or `parameter`, and `detail`."""
    cause: str | None = None
    """Of a failed job: the class of what went wrong."""
    step: str | None = None
    """Of a failed job: how far it had come."""
    remedy: str | None = None
    """Of a failed job: what to change."""
    log: list[str] | None = None
    """Of a failed job: the last lines that it printed."""


def format_time(moment: datetime) -> str:
    """Return `moment` as RFC 3339 in UTC, e.g. ``2026-01-01T00:00:00.250000Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
