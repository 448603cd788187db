"""Parameters that several routes take, declared once."""

from __future__ import annotations

from graticule.ogc.common import HTML, JSON
from graticule.web.routing import Parameter

F = Parameter(
    name="f",
    description="Representation: `json`, `html` or a media type; it goes before the Accept header.",
    schema={"type": "string", "enum": ["json", "html", JSON, HTML]},
    example="json",
)
F_JSON = Parameter(
    name="f", description="Representation: `json`, the only one.", schema={"type": "string", "enum": ["json", JSON]}
)
PROFILE = Parameter(
    name="profile",
    description="Profiles that are wanted: URIs, `[ogc-profile:id]` or bare identifiers; unknown ones are passed over.",
    schema={"type": "array", "items": {"type": "string"}},
    style="form",
    explode=False,
)
LIMIT = Parameter(
    name="limit",
    description="Entries of one page at most; more than the service allows (1000 by default) counts as that many.",
    schema={"type": "integer", "minimum": 1, "default": 10},
)
PREFER = Parameter(
    name="Prefer",
    place="header",
    description="`respond-async`, `wait=SECONDS`, `return=minimal|representation`, `profile=ID`, joined by commas.",
    schema={"type": "string"},
)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    description="Sent again with the same key, a request is the same job, not a second one.",
    schema={"type": "string", "pattern": "^[!-~]{1,255}$"},
)
IF_MATCH = Parameter(
    name="If-Match",
    place="header",
    description="The `ETag` of the job as it was read: it is only changed if it is still that one.",
    schema={"type": "string"},
)
PROCESS_ID = Parameter(
    name="processID", place="path", description="Identifier of a process.", schema={"type": "string"}
)
JOB_ID = Parameter(name="jobID", place="path", description="Identifier of a job.", schema={"type": "string"})
OUTPUT_ID = Parameter(name="outputID", place="path", description="Identifier of an output.", schema={"type": "string"})

_LEAP = "([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
_DAY = (
    "([1-9][0-9]{3}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
    f"|{_LEAP}-02-29)"
)
MOMENT = (
    rf"{_DAY}T([01][0-9]|2[0-3]):([0-5][0-9]:[0-5][0-9]|59:60)(\.[0-9]{{1,9}})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
"""An RFC 3339 instant from the year 1000 on, as a regular expression that knows days of months and leap seconds."""
_END = rf"({MOMENT}|\.\.|)"
DATETIME = Parameter(
    name="datetime",
    description="When it was: an RFC 3339 instant or an interval `a/b`, `../b`, `a/..`, ends included.",
    schema={"type": "string", "pattern": f"^({MOMENT}|{_END}/{_END})$"},
    example="2026-01-01T00:00:00Z/..",
)
