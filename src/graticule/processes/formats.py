"""What a schema fragment of a description says about the form of a value: its alternatives and their media types.

Loaded by the web process; plain Python only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from graticule.ogc.common import GEOJSON, JSON

Form = Literal["json", "text", "binary", "bbox"]

FORMAT_BASE = "http://www.opengis.net/def/format/ogcapi-processes/0/"
OCTETS = "application/octet-stream"
TEXT = "text/plain"

_BINARY_FORMATS = frozenset({"byte", "binary", "base64"})
_SAME = {
    "image/geotiff": "image/tiff",
    "image/x-geotiff": "image/tiff",
    "application/geotiff": "image/tiff",
    "image/jpg": "image/jpeg",
    "application/vnd.geo+json": GEOJSON,
    "application/x-geojson": GEOJSON,
    "text/json": JSON,
    "text/xml": "application/xml",
}


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of the forms that a value may have."""

    schema: Mapping[str, Any]
    """The JSON Schema fragment."""

    form: Form
    """``text`` is a string with a media type of its own; a plain JSON string is ``json``."""

    media_type: str | None
    """As declared; None where the schema declares none."""

    @property
    def format(self) -> str:
        """The `format` as short code, e.g. ``geojson-feature``; empty when there is none."""
        return _format_of(self.schema)

    @property
    def default_media_type(self) -> str:
        """The declared media type, or the one that goes without saying."""
        if self.media_type is not None:
            return self.media_type
        if self.format.startswith("geojson-"):
            return GEOJSON
        return OCTETS if self.form == "binary" else JSON

    def admits(self, media_type: str) -> bool:
        """Whether a value said to be of `media_type` may be meant for this alternative; parameters are not compared."""
        sent, declared = essence(media_type), essence(self.default_media_type)
        if sent in (declared, "*/*"):
            return True
        if self.form == "binary":
            return OCTETS in (sent, declared)
        if self.form == "json" and self.media_type is None and self.schema.get("type") == "string" and sent == TEXT:
            return True
        # JSON of every kind is JSON: a server may say application/json of GeoJSON, and a process may take any JSON.
        return is_json(declared) and is_json(sent) and JSON in (sent, declared)


def alternatives_of(schema: Mapping[str, Any]) -> tuple[Alternative, ...]:
    """Return the alternatives of a schema, the default first; one that offers none is its own only alternative."""
    return tuple(_alternatives(schema))


def _alternatives(schema: Mapping[str, Any]) -> Iterator[Alternative]:
    branches = schema.get("oneOf") or schema.get("anyOf")
    if isinstance(branches, Sequence) and "type" not in schema and all(isinstance(one, Mapping) for one in branches):
        for branch in branches:
            yield from _alternatives(branch)
        return
    media_type = schema.get("contentMediaType")
    yield Alternative(schema, _form_of(schema, media_type), media_type)


def _form_of(schema: Mapping[str, Any], media_type: str | None) -> Form:
    if is_bbox(schema):
        return "bbox"
    if schema.get("type", "string") != "string":
        return "json"
    if schema.get("contentEncoding") is not None or _format_of(schema) in _BINARY_FORMATS:
        return "binary"
    return "json" if media_type is None or is_json(media_type) else "text"


def is_bbox(schema: Mapping[str, Any]) -> bool:
    """Whether a schema stands for a bounding box of the standard."""
    parts = schema.get("allOf", ())
    return "ogc-bbox" in (_format_of(schema), *(_format_of(part) for part in parts if isinstance(part, Mapping)))


def _format_of(schema: Mapping[str, Any]) -> str:
    return str(schema.get("format", "")).removeprefix(FORMAT_BASE)


def media_types_of(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the media types that values of a schema may have, the default first, each once."""
    return tuple(dict.fromkeys(alternative.default_media_type for alternative in alternatives_of(schema)))


def essence(media_type: str) -> str:
    """Return ``type/subtype`` in lower case, in its usual spelling."""
    plain = media_type.partition(";")[0].strip().lower()
    return _SAME.get(plain, plain)


def is_json(media_type: str) -> bool:
    """Whether content of a media type is a JSON text."""
    plain = essence(media_type)
    return plain == JSON or plain.endswith("+json")
