"""Component schemas of the API definition: the documents of OGC API - Processes Part 1, in words of our own.

They keep to the words that OpenAPI 3.0 and JSON Schema 2020-12 share, with ``nullable`` where null is taken; the
writer of the definition turns that into the words of each version. They describe what this service sends and takes:
the union of 1.0 and the 2.0 draft.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

from graticule.jobs.holds import MOST_REASON, SCOPE
from graticule.jobs.job import STEPS, Cause
from graticule.ogc.common import CRS84, CRS84H
from graticule.ogc.notifications import MOST_SECRETS, PASSWORD, PROFILE_NAME, SECRET, TOKEN, USERNAME
from graticule.ogc.operations import HIGHEST_PRIORITY
from graticule.ogc.processes import LABEL, MOST_LABELS
from graticule.processes.limits import HIGHEST_LIMIT

Schema = dict[str, Any]

_UNUSABLE = re.compile(r"[^A-Za-z0-9._-]+")


def ref(name: str) -> Schema:
    """Return a reference to a component schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def component_name(text: str) -> str:
    """Return a text as the name of a component, which has letters, digits, points, hyphens and underscores only."""
    return _UNUSABLE.sub("-", text)


ABSENT: Schema = {"not": {}}
"""Of a member that must not be there."""


def _object(properties: dict[str, Schema], required: Sequence[str] = (), **words: Any) -> Schema:
    schema: Schema = {"type": "object", **words, "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema


def _list(items: Schema, **words: Any) -> Schema:
    return {"type": "array", "items": items, **words}


def _text(description: str = "", **words: Any) -> Schema:
    return {"type": "string", **({"description": description} if description else {}), **words}


def _address(description: str) -> Schema:
    return _text(description, pattern="^https?://[!-~]+$", nullable=True)


def _limit(kind: str, description: str) -> Schema:
    return {"type": kind, "description": description, "minimum": 1, "maximum": HIGHEST_LIMIT, "nullable": True}


_MOMENT: Schema = {"type": "string", "format": "date-time"}
_LINKS = _list(ref("link"))

_DESCRIBED: dict[str, Schema] = {
    "title": _text(),
    "description": _text(),
    "keywords": _list(_text()),
    "metadata": _list(ref("metadata")),
}
_COUNTED: dict[str, Schema] = {
    "minOccurs": {"type": "integer", "minimum": 0, "default": 1},
    "maxOccurs": {
        "description": "A number, or `unbounded`. Above 1, values come as an array.",
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "enum": ["unbounded"]}],
    },
}
_SUMMARY: dict[str, Schema] = {
    "id": _text("Identifier, unique in this workspace."),
    "version": _text(),
    **_DESCRIBED,
    "jobControlOptions": _list(_text(enum=["sync-execute", "async-execute", "dismiss"])),
    "outputTransmission": _list(_text(enum=["value", "reference"])),
    "links": _LINKS,
}

_SENT: dict[str, Schema] = {
    "inputs": {"type": "object", "description": "By identifier, as they were sent."},
    "outputs": {
        "type": "object",
        "description": "What is wanted; all outputs where nothing was said.",
        "additionalProperties": {"type": "object"},
    },
    "headers": {
        "type": "object",
        "description": "Of a created job: the headers that count when it is started.",
        "additionalProperties": _text(),
    },
    "links": _LINKS,
}

_PLAIN: list[Schema] = [
    {"type": "string"},
    {"type": "number"},
    {"type": "boolean"},
]
_NUMBERS = {"type": "number"}

_DEPTHS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_LEAST = {"LineString": 2, "MultiLineString": 2, "Polygon": 4, "MultiPolygon": 4}


def _positions(depth: int, least: int) -> Schema:
    """Return the schema of GeoJSON coordinates; the innermost array has at least so many positions."""
    if depth == 0:
        return _list(_NUMBERS, minItems=2)
    inner = _positions(depth - 1, least)
    return _list(inner, minItems=least) if depth == 1 and least else _list(inner)


def _geometry(kind: str) -> Schema:
    return _object(
        {"type": _text(enum=[kind]), "coordinates": _positions(_DEPTHS[kind], _LEAST.get(kind, 0))},
        ["type", "coordinates"],
    )


def _exactly(properties: dict[str, Schema]) -> Schema:
    """Return an object with these members and no others."""
    return _object(properties, list(properties), additionalProperties=False)


_SECRET = _text("24 to 64 bytes as base64.", pattern=SECRET)
_CREDENTIALS = [
    _exactly(
        {
            "type": _text("Signatures by the headers of Standard Webhooks.", enum=["hmac"]),
            "secret": {
                "description": "Several while they are exchanged: each signs.",
                "anyOf": [_SECRET, _list(_SECRET, minItems=1, maxItems=MOST_SECRETS)],
            },
        }
    ),
    _exactly(
        {
            "type": _text(enum=["basic"]),
            "username": _text(pattern=USERNAME),
            "password": _text(pattern=PASSWORD),
        }
    ),
    _exactly({"type": _text(enum=["bearer"]), "token": _text(pattern=TOKEN)}),
]

_COUNT: Schema = {"type": "integer", "minimum": 0}
_OF_JOBS: dict[str, Schema] = {"workspace": _text(), "actor": _text(), "processID": _text()}
_HOLD: dict[str, Schema] = {
    "scope": _text("`queue`, or `workspace:NAME`, `process:ID`, `worker:ID`.", pattern=SCOPE),
    "action": _text(enum=["pause", "drain"]),
    "reason": _text(),
    "actor": _text("Who did it."),
    "since": _MOMENT,
    "links": _LINKS,
}

COMPONENTS: dict[str, Schema] = {
    # --- every resource ---
    "link": _object(
        {
            "href": _text("Address of the target."),
            "rel": _text("What the target is to this resource."),
            "type": _text("Media type of the target."),
            "hreflang": _text(),
            "title": _text(),
            "length": {"type": "integer", "minimum": 0, "description": "Size of the target, bytes."},
        },
        ["href"],
    ),
    "exception": _object(
        {
            "type": _text("URI of the kind of problem.", format="uri"),
            "title": _text("The kind of problem in words."),
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": _text("What went wrong this time, and what helps."),
            "instance": _text("Address of this occurrence."),
            "errors": _list(
                _object(
                    {
                        "pointer": _text("JSON pointer into the request body."),
                        "parameter": _text("Name of a parameter."),
                        "detail": _text(),
                    },
                    ["detail"],
                ),
                description="One member for each fault.",
            ),
            "cause": _text("Of a failed job: the class of what went wrong.", enum=list(get_args(Cause))),
            "step": _text("Of a failed job: how far it had come.", enum=list(STEPS[1:])),
            "remedy": _text("Of a failed job: what to change."),
            "log": _list(_text(), description="Of a failed job: the last lines that it printed, without stack traces."),
        },
        ["type"],
        description="Problem details (RFC 9457).",
    ),
    "landingPage": _object(
        {"title": _text(), "description": _text(), "attribution": _text(), "links": _LINKS}, ["links"]
    ),
    "confClasses": _object({"conformsTo": _list(_text(format="uri"))}, ["conformsTo"]),
    # --- processes ---
    "metadata": _object({"title": _text(), "role": _text(), "href": _text()}),
    "schema": {
        "type": "object",
        "description": "A JSON Schema fragment for one value, in words OpenAPI 3.0 knows.",
    },
    "inputDescription": _object(
        {
            **_DESCRIBED,
            "schema": ref("schema"),
            **_COUNTED,
            "valuePassing": _list(_text(enum=["byValue", "byReference"])),
        },
        ["schema"],
    ),
    "outputDescription": _object({**_DESCRIBED, "schema": ref("schema"), **_COUNTED}, ["schema"]),
    "processSummary": _object(_SUMMARY, ["id", "version"]),
    "process": _object(
        {
            **_SUMMARY,
            "inputs": {"type": "object", "additionalProperties": ref("inputDescription")},
            "outputs": {"type": "object", "additionalProperties": ref("outputDescription")},
            "examples": _list(
                _object(
                    {"title": _text(), "inputs": {"type": "object"}, "outputs": {"type": "object"}}, ["title", "inputs"]
                ),
                description="Requests that can be sent as they are.",
            ),
        },
        ["id", "version"],
    ),
    "processList": _object({"processes": _list(ref("processSummary")), "links": _LINKS}, ["processes", "links"]),
    # --- execution ---
    "format": _object(
        {
            "mediaType": _text(nullable=True),
            "encoding": _text(nullable=True),
            "schema": {"description": "A URI or a schema.", "nullable": True, "anyOf": [_text(), {"type": "object"}]},
        }
    ),
    "bbox": _object(
        {
            "bbox": {
                "description": "Minima, then maxima: 4 numbers, or 6 with heights. No minimum lies above its maximum.",
                "anyOf": [_list(_NUMBERS, minItems=4, maxItems=4), _list(_NUMBERS, minItems=6, maxItems=6)],
            },
            "crs": _text(
                f"URI, URN or code; without it {CRS84}, or {CRS84H} for 6 numbers.",
                pattern=r"^(https?://[!-~]+|urn:ogc:def:crs:[!-~]+|[A-Za-z][A-Za-z0-9_-]*:[A-Za-z0-9]+)$",
                default=CRS84,
            ),
        },
        ["bbox"],
    ),
    "reference": _object(
        {
            "href": _text("Where the value lies; this service fetches it.", pattern="^https?://[!-~]+$"),
            "type": _text("Media type of the value.", nullable=True),
            "rel": _text(),
            "hreflang": _text(),
            "title": _text(),
            "value": ABSENT,
        },
        ["href"],
    ),
    "qualifiedValue": _object(
        {
            "value": {"description": "Any JSON value; binary content as base64."},
            "mediaType": _text(nullable=True),
            "encoding": _text(nullable=True, description="`base64` for binary content."),
            "schema": {"description": "A URI or a schema."},
        },
        ["value"],
    ),
    "outputSelection": _object(
        {
            "format": {"allOf": [ref("format")], "nullable": True},
            "transmissionMode": _text(enum=["value", "reference"], nullable=True),
        },
        description="How an output is wanted.",
    ),
    "response": _text(
        "1.0 only: `raw` gives values as they are, `document` a results document.",
        enum=["raw", "document"],
        nullable=True,
    ),
    "subscriber": _object(
        {
            "successUri": _address("Gets the results by POST."),
            "inProgressUri": _address("Gets the status by POST whenever it changes."),
            "failedUri": _address("Gets the status with its problem by POST."),
            "authorization": ref("authorization"),
        },
        nullable=True,
        description="Whom to tell about the job.",
    ),
    "authorization": {
        "description": "How the receiver knows that it is told by this service. Secrets are never shown again.",
        "nullable": True,
        "anyOf": [*_CREDENTIALS, _exactly({"profile": _text("Name of a notification profile.", pattern=PROFILE_NAME)})],
    },
    "credentials": {"description": "What a notification profile holds.", "anyOf": _CREDENTIALS},
    "limits": _object(
        {
            "timeLimitS": _limit("number", "Seconds from the beginning of the job."),
            "memoryLimitMib": _limit("integer", "MiB that the job and all that it starts may hold."),
            "diskLimitMib": _limit("integer", "MiB of files in its folder, outputs included."),
            "logLimitMib": _limit("integer", "MiB that it may print."),
        },
        nullable=True,
        additionalProperties=False,
        description="Not of the standard: what this job may use, at most what jobs of the process may. The job is "
        "stopped and fails when it takes more.",
    ),
    "labels": _list(
        _text(pattern=LABEL),
        maxItems=MOST_LABELS,
        nullable=True,
        description="Not of the standard: what you call the job, to find it again by `label`.",
    ),
    "execute": _object(
        {
            "inputs": {
                "type": "object",
                "description": "By identifier: literals, arrays, qualified values, boxes or links; an object is always "
                "wrapped as a qualified value. The path of each process says what it takes.",
                "additionalProperties": {"anyOf": [*_PLAIN, {"type": "array", "items": {}}, {"type": "object"}]},
            },
            "outputs": {
                "type": "object",
                "additionalProperties": ref("outputSelection"),
                "nullable": True,
                "description": "By identifier. None given: all. An empty object: run, and return nothing.",
            },
            "response": ref("response"),
            "subscriber": ref("subscriber"),
            "limits": ref("limits"),
            "labels": ref("labels"),
        },
        description="What to run a process with.",
    ),
    "executeJob": {
        "description": "What to run, and what to run it with.",
        "allOf": [
            ref("execute"),
            _object(
                {
                    "process": _text("Address of a process of this service, or its identifier.", minLength=1),
                    "status": _text(
                        '`create` keeps the job for a later start, as `Prefer: status="created"` does.',
                        enum=["create"],
                        nullable=True,
                    ),
                },
                ["process"],
            ),
        ],
    },
    "jobPatch": {
        "type": "object",
        "description": "Members to change in what a created job was sent with (RFC 7396); null removes one.",
    },
    "jobInputs": _object(_SENT, ["inputs", "outputs"], description="What a job was sent with; secrets are masked."),
    "jobDefinition": {
        "description": "What a job was sent with: as it was sent, or a document of its own (profile `job-definition`).",
        "anyOf": [
            _object(
                {"process": _text("Address of the process, or its identifier.")},
                ["process"],
                description="As it was sent, but for secrets: those of its inputs are masked.",
            ),
            _object({"entity": _text("Address of the process."), **_SENT}, ["entity", "inputs", "outputs"]),
        ],
    },
    "results": {
        "type": "object",
        "description": "Outputs by identifier: bare literals, qualified values, boxes or links; an array where an "
        "output has several values.",
        "additionalProperties": {
            "anyOf": [*_PLAIN, {"type": "array", "items": {}}, ref("qualifiedValue"), ref("bbox"), ref("link")]
        },
    },
    "result": {
        "description": "A results document, or the value of the one output that was asked for.",
        "anyOf": [ref("results"), {}],
    },
    "logPage": _object(
        {
            "jobID": _text(),
            "step": _text("`process`, or the name of a step."),
            "offset": {"type": "integer", "minimum": 0, "description": "Where the page begins, bytes."},
            "size": {"type": "integer", "minimum": 0, "description": "Bytes of the whole log so far."},
            "complete": {"type": "boolean", "description": "Whether nothing more will be printed."},
            "lines": _list(
                _object(
                    {
                        "step": _text(),
                        "offset": {"type": "integer", "minimum": 0, "description": "Where it begins, bytes."},
                        "text": _text("The line, without its end."),
                        "time": {**_MOMENT, "description": "When it was printed, if the line itself says so."},
                        "stream": _text("Where output and errors are kept apart.", enum=["stdout", "stderr"]),
                    },
                    ["step", "offset", "text"],
                )
            ),
            "links": _LINKS,
        },
        ["jobID", "step", "offset", "size", "complete", "lines", "links"],
    ),
    # --- operations ---
    "health": _object(
        {
            "status": _text(enum=["ok", "unavailable"]),
            "live": {"type": "boolean", "description": "Whether it runs."},
            "ready": {"type": "boolean", "description": "Whether it can take requests."},
            "parts": {
                "type": "object",
                "description": "Each part by name: `ledger`, `storage`, `executor`, `disk`.",
                "additionalProperties": _object({"ok": {"type": "boolean"}, "reason": _text("Why not.")}, ["ok"]),
            },
            "held": _list(
                _text(enum=["queue", "workspace", "process", "worker"]),
                description="What kinds of things an operator has paused or drains; GET /admin/queue says which.",
            ),
        },
        ["status", "live"],
    ),
    "holdRequest": _object(
        {
            "action": _text(
                "`pause`: what waits does not begin. `drain`: nothing new is taken, what is there is done; a worker "
                "begins nothing more.",
                enum=["pause", "drain"],
            ),
            "reason": _text("For those whose jobs it concerns.", maxLength=MOST_REASON),
        },
        ["action"],
        additionalProperties=False,
    ),
    "hold": _object(_HOLD, ["scope", "action", "reason", "actor"]),
    "holdList": _object({"holds": _list(ref("hold")), "links": _LINKS}, ["holds", "links"]),
    "queue": _object(
        {
            "waiting": _COUNT,
            "running": _COUNT,
            "holds": _list(ref("hold")),
            "lanes": _list(
                _object(
                    {
                        **_OF_JOBS,
                        "version": _text(),
                        "requires": _text("What a worker must have to run them."),
                        "priority": {"type": "integer"},
                        "waiting": _COUNT,
                    }
                ),
                description="Jobs that wait.",
            ),
            "load": _list(_object({**_OF_JOBS, "running": _COUNT}), description="Jobs that run."),
            "workers": _list(
                _object(
                    {
                        "id": _text(),
                        "kind": _text(enum=["serve", "worker"]),
                        "host": _text(),
                        "pid": {"type": "integer"},
                        "state": _text(enum=["working", "paused", "draining"]),
                        "places": {**_COUNT, "description": "Jobs that it runs at once."},
                        "busy": _COUNT,
                        "labels": _list(_text()),
                        "started": _MOMENT,
                        "seen": _MOMENT,
                    },
                    ["id", "state"],
                )
            ),
            "links": _LINKS,
        },
        ["waiting", "running", "holds", "lanes", "load", "workers"],
    ),
    "priority": _object(
        {"priority": {"type": "integer", "minimum": -HIGHEST_PRIORITY, "maximum": HIGHEST_PRIORITY}},
        ["priority"],
        additionalProperties=False,
    ),
    "dismissal": _object(
        {
            "matched": {**_COUNT, "description": "Jobs that the filters select."},
            "dismissed": {**_COUNT, "description": "Those that waited or ran, and were stopped."},
            "removed": {**_COUNT, "description": "Those that had ended, and were removed with their results."},
            "dryRun": {"type": "boolean", "description": "Whether nothing was done."},
        },
        ["matched", "dismissed", "removed", "dryRun"],
    ),
    # --- jobs ---
    "statusInfo": _object(
        {
            "id": _text("Identifier of the job (2.0)."),
            "jobID": _text("The same (1.0)."),
            "type": _text("`process` for an execution."),
            "processingEntityType": _text(),
            "processID": _text("The process that it runs."),
            "status": _text(enum=["created", "accepted", "running", "successful", "failed", "dismissed"]),
            "message": _text(),
            "progress": {"type": "integer", "minimum": 0, "maximum": 100, "description": "Percent."},
            "created": _MOMENT,
            "started": _MOMENT,
            "finished": _MOMENT,
            "updated": _MOMENT,
            "queuePosition": {"type": "integer", "minimum": 1, "description": "Ours: 1 for the job that begins next."},
            "estimatedStart": _MOMENT,
            "priority": {"type": "integer", "description": "Ours: of a job that was moved in the queue; larger first."},
            "labels": _list(_text(), description="Ours: what its sender calls it."),
            "pinned": {"type": "boolean", "description": "Ours: true when its results are kept beyond their time."},
            "expires": {**_MOMENT, "description": "Ours: until when its results are kept, if not for ever."},
            "attempts": _list(
                _object(
                    {
                        "number": {"type": "integer", "minimum": 1},
                        "started": _MOMENT,
                        "ended": _MOMENT,
                        "reason": _text(),
                        "links": _LINKS,
                    },
                    ["number", "reason"],
                ),
            ),
            "exception": ref("exception"),
            "links": _LINKS,
        },
        ["id", "jobID", "type", "status"],
    ),
    "jobList": _object({"jobs": _list(ref("statusInfo")), "links": _LINKS}, ["jobs", "links"]),
    # --- notifications ---
    "notification": _object(
        {
            "number": {"type": "integer", "minimum": 1},
            "kind": _text(enum=["success", "inProgress", "failed"]),
            "host": _text("Host and port of the address that is told."),
            "status": _text(enum=["waiting", "delivered", "undelivered"]),
            "attempts": {"type": "integer", "minimum": 0},
            "lastError": _text("Why the last attempt failed.", nullable=True),
            "nextAttempt": {**_MOMENT, "nullable": True},
            "created": _MOMENT,
            "updated": _MOMENT,
            "links": _LINKS,
        },
        ["number", "kind", "host", "status", "attempts"],
    ),
    "notificationList": _object(
        {"notifications": _list(ref("notification")), "links": _LINKS}, ["notifications", "links"]
    ),
    "notificationProfile": _object(
        {
            "name": _text(),
            "type": _text(enum=["hmac", "basic", "bearer"]),
            "created": _MOMENT,
            "updated": _MOMENT,
            "links": _LINKS,
        },
        ["name", "type"],
    ),
    "notificationProfileList": _object(
        {"profiles": _list(ref("notificationProfile")), "links": _LINKS}, ["profiles", "links"]
    ),
    # --- files ---
    "content": _text("The bytes themselves.", format="binary", minLength=1),
    "fileForm": _object({"file": _text("The file.", format="binary", minLength=1)}, ["file"]),
    "file": _object(
        {
            "id": _text(),
            "name": _text(),
            "href": _text('Any input takes it: `{"href": …}`.'),
            "size": {"type": "integer", "minimum": 0, "description": "Bytes."},
            "mediaType": _text(),
            "sha256": _text(),
            "created": _MOMENT,
            "expires": _MOMENT,
            "sample": {"type": "boolean", "description": "True for data that the service itself offers."},
            "links": _LINKS,
        },
        ["id", "name", "href", "size", "mediaType"],
    ),
    "fileList": _object({"files": _list(ref("file")), "links": _LINKS}, ["files", "links"]),
    # --- GeoJSON (RFC 7946) ---
    "geojson-geometry": {
        "description": "A GeoJSON geometry; the rings of polygons are closed.",
        "anyOf": [
            *map(_geometry, _DEPTHS),
            _object(
                {"type": _text(enum=["GeometryCollection"]), "geometries": _list(ref("geojson-geometry"))},
                ["type", "geometries"],
            ),
        ],
    },
    "geojson-feature": _object(
        {
            "type": _text(enum=["Feature"]),
            "geometry": {"anyOf": [ref("geojson-geometry")], "nullable": True},
            "properties": {"type": "object", "nullable": True},
        },
        ["type", "geometry"],
    ),
    "geojson-feature-collection": _object(
        {"type": _text(enum=["FeatureCollection"]), "features": _list(ref("geojson-feature"))}, ["type", "features"]
    ),
}
