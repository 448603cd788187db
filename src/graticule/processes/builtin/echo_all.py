"""Give back inputs and outputs of every kind that a description can name."""

from __future__ import annotations

from typing import Any

from graticule.ogc.common import GEOJSON
from graticule.ogc.processes import Example, Input, Output, ProcessDescription, Schema
from graticule.processes.builtin.echo import echo_inputs, pause
from graticule.processes.process import Inputs, InputValue, Outputs, OutputValue, RunContext

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel, base64."""


def _content(media_type: str) -> Schema:
    return {"type": "string", "contentEncoding": "binary", "contentMediaType": media_type}


def _geojson(kind: str, types: list[str], *required: str) -> Schema:
    return {
        "type": "object",
        "format": kind,
        "contentMediaType": GEOJSON,
        "required": ["type", *required],
        "properties": {"type": {"type": "string", "enum": types}},
    }


_GEOMETRIES = ["Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection"]
_KINDS: dict[str, tuple[str, str, Schema]] = {
    "string": ("Text", "A JSON string.", {"type": "string", "maxLength": 10000}),
    "integer": ("Integer", "A whole number.", {"type": "integer", "minimum": -1000, "maximum": 1000}),
    "number": ("Number", "A number.", {"type": "number"}),
    "boolean": ("Boolean", "True or false.", {"type": "boolean"}),
    "array": ("Array", "ONE value that is an array of one to three numbers.", {
        "type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3,
    }),
    "object": ("Object", "An object with a name and perhaps a size.", {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "size": {"type": "number", "minimum": 0}},
    }),
    "choice": ("Choice", "One of three words.", {"type": "string", "enum": ["low", "middle", "high"]}),
    "moment": ("Moment", "A date and time with its zone (RFC 3339).", {"type": "string", "format": "date-time"}),
    "bbox": ("Bounding box", "A box of four or six numbers, in CRS84 by default.", {"allOf": [{"format": "ogc-bbox"}]}),
    "image": ("Image", "A PNG picture, base64 or by reference.", _content("image/png")),
    "octets": ("Octets", "Any bytes, base64 or by reference; described in the older way of the standard.", {
        "type": "string", "format": "byte", "contentMediaType": "application/octet-stream",
    }),
    "geometry": ("Geometry", "A GeoJSON geometry.", _geojson("geojson-geometry", _GEOMETRIES)),
    "features": (
        "Features",
        "A GeoJSON feature collection.",
        _geojson("geojson-feature-collection", ["FeatureCollection"], "features"),
    ),
    "formats": ("Several formats", "One thing in one of four media types; the first is the default.", {
        "oneOf": [
            {"type": "string", "contentMediaType": "text/plain"},
            {"type": "string", "contentMediaType": "application/xml"},
            {"type": "object", "contentMediaType": "application/json"},
            _content("image/png"),
        ],
    }),
}  # fmt: skip
"""Title, description and schema of the kinds that are given back as they came, at most one value each."""

_WORDS: Schema = {"type": "string", "minLength": 1}
_LINKED = _content("application/octet-stream")


def _inputs() -> dict[str, Input]:
    single = {
        name: Input(title=title, description=description, min_occurs=0, schema=schema)
        for name, (title, description, schema) in _KINDS.items()
    }
    return single | {
        "words": Input(
            title="Words",
            description="Up to five texts: several VALUES of one input, always sent as an array.",
            min_occurs=0,
            max_occurs=5,
            schema=_WORDS,
        ),
        "reference": Input(
            title="Reference",
            description="Anything, by its address only; the output is a link to the same address.",
            min_occurs=0,
            schema=_LINKED,
            value_passing=["byReference"],
        ),
        "pause": Input(
            title="Pause",
            description="How long to wait before the answer, seconds.",
            min_occurs=0,
            schema={"type": "number", "minimum": 0, "maximum": 600},
        ),
    }


def _outputs() -> dict[str, Output]:
    single = {
        name: Output(title=title, description=description, min_occurs=0, schema=schema)
        for name, (title, description, schema) in _KINDS.items()
    }
    return single | {
        "words": Output(title="Words", description="The texts.", min_occurs=0, max_occurs=5, schema=_WORDS),
        "reference": Output(title="Reference", description="A link to the address.", min_occurs=0, schema=_LINKED),
    }


_EXAMPLE: dict[str, Any] = {
    "string": "Grüße",
    "integer": 42,
    "number": 0.5,
    "boolean": False,
    "array": [1, 2.5],
    "object": {"value": {"name": "box", "size": 3}},
    "choice": "middle",
    "moment": "2026-01-01T12:00:00Z",
    "bbox": {"bbox": [5.9, 45.8, 10.5, 47.8]},
    "image": {"value": _PIXEL, "encoding": "base64", "mediaType": "image/png"},
    "octets": "AAECAw==",
    "geometry": {"value": {"type": "Point", "coordinates": [8.5, 47.4]}},
    "features": {"value": {"type": "FeatureCollection", "features": []}},
    "formats": {"value": "<greeting>hello</greeting>", "mediaType": "application/xml"},
    "words": ["one", "two"],
}


class EchoAll:
    """Return each input as the output of the same name; every kind of value that the standard knows is there once."""

    description = ProcessDescription(
        id="echo-all",
        version="1.0.0",
        title="Echo of every kind",
        description=(
            "Takes one input of every kind and gives each back as the output of the same name. All are optional; "
            "outputs without an input are left out. For trying clients."
        ),
        keywords=["echo", "test", "formats"],
        inputs=_inputs(),
        outputs=_outputs(),
        examples=[
            Example(title="One of every kind", inputs=_EXAMPLE),
            Example(title="A link to a sample file", inputs={"reference": {"href": "sample:fields.geojson"}}),
        ],
    )

    def run(self, inputs: Inputs, context: RunContext) -> Outputs:
        """Wait as long as `pause` says, then give back the inputs."""
        waiting = inputs.get("pause")
        if isinstance(waiting, InputValue) and waiting.value:
            pause(waiting.value, context)
        outputs = echo_inputs(inputs, self.description.outputs, context)
        linked = inputs.get("reference")
        if "reference" in outputs and isinstance(linked, InputValue) and linked.href:
            outputs["reference"] = OutputValue(href=linked.href, media_type=linked.media_type)
        return outputs
