"""GeoJSON as values: mappings whose structure was checked (RFC 7946)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from graticule.errors import Fault
from graticule.ogc.common import GEOJSON
from graticule.processes.markers import instances_of

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema


class Malformed(ValueError):
    """A value is no GeoJSON or bounding box of the kind that is needed."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(f"at {one.pointer}: {one.message}".removeprefix("at : ") for one in faults))
        self.faults = faults
        """Their pointers lead into the value."""


_DEPTHS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}


class GeoJSON(Mapping[str, Any]):
    """A GeoJSON object whose structure was checked; read it like a dictionary, or through ``__geo_interface__``."""

    __slots__ = ("_members",)

    json_format: ClassVar[str]
    """The token of the standard for this kind of object."""

    def __init__(self, members: Any) -> None:
        """Take a GeoJSON mapping, or any object with ``__geo_interface__`` (shapely's do)."""
        members = getattr(members, "__geo_interface__", members)
        if not isinstance(members, Mapping):
            raise Malformed(Fault("", f"a GeoJSON object is needed, not {type(members).__name__}"))
        self.check(members, "")
        self._members = dict(members)

    @staticmethod
    def check(members: Mapping[str, Any], place: str) -> None:
        """Raise Malformed unless the members have the structure of this kind of object."""
        raise NotImplementedError

    @property
    def type(self) -> str:
        """The GeoJSON type, e.g. ``Polygon``."""
        return str(self._members["type"])

    @property
    def __geo_interface__(self) -> dict[str, Any]:
        return self._members

    def __getitem__(self, name: str) -> Any:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __eq__(self, other: object) -> bool:
        return self._members == getattr(other, "_members", other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._members!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return instances_of(cls, cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "object", "format": cls.json_format, "contentMediaType": GEOJSON, **cls.members_schema()}

    @classmethod
    def members_schema(cls) -> dict[str, Any]:
        """Return the part of the JSON schema that names members."""
        raise NotImplementedError


class Geometry(GeoJSON):
    """A GeoJSON geometry (RFC 7946, section 3.1), in longitude and latitude unless the process says otherwise."""

    __slots__ = ()
    json_format = "geojson-geometry"

    @property
    def coordinates(self) -> Any:
        """The coordinates; None for a GeometryCollection."""
        return self._members.get("coordinates")

    @staticmethod
    def check(members: Mapping[str, Any], place: str) -> None:
        check_geometry(members, place)

    @classmethod
    def members_schema(cls) -> dict[str, Any]:
        return {
            "required": ["type"],
            "properties": {
                "type": {"type": "string", "enum": [*_DEPTHS, "GeometryCollection"]},
                "coordinates": {"type": "array"},
                "geometries": {"type": "array", "items": {"type": "object"}},
            },
        }


class Feature(GeoJSON):
    """A GeoJSON feature (RFC 7946, section 3.2)."""

    __slots__ = ()
    json_format = "geojson-feature"

    @property
    def id(self) -> str | int | float | None:
        """The identifier, if it has one."""
        identifier: str | int | float | None = self._members.get("id")
        return identifier

    @property
    def geometry(self) -> Geometry | None:
        """The geometry, if it has one."""
        geometry = self._members.get("geometry")
        return None if geometry is None else Geometry(geometry)

    @property
    def properties(self) -> Mapping[str, Any]:
        """The properties; empty when there are none."""
        return self._members.get("properties") or {}

    @staticmethod
    def check(members: Mapping[str, Any], place: str) -> None:
        check_feature(members, place)

    @classmethod
    def members_schema(cls) -> dict[str, Any]:
        return {
            "required": ["type", "geometry"],
            "properties": {
                "type": {"type": "string", "enum": ["Feature"]},
                "geometry": {"type": "object", "nullable": True},
                "properties": {"type": "object", "nullable": True},
            },
        }


class FeatureCollection(GeoJSON):
    """A GeoJSON feature collection (RFC 7946, section 3.3)."""

    __slots__ = ()
    json_format = "geojson-feature-collection"

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features."""
        return tuple(Feature(feature) for feature in self._members["features"])

    @staticmethod
    def check(members: Mapping[str, Any], place: str) -> None:
        if members.get("type") != "FeatureCollection":
            raise Malformed(Fault(f"{place}/type", f"this must be 'FeatureCollection', not {members.get('type')!r}"))
        for number, feature in enumerate(_array(members.get("features"), f"{place}/features")):
            check_feature(feature, f"{place}/features/{number}")

    @classmethod
    def members_schema(cls) -> dict[str, Any]:
        return {
            "required": ["type", "features"],
            "properties": {
                "type": {"type": "string", "enum": ["FeatureCollection"]},
                "features": {"type": "array", "items": {"type": "object"}},
            },
        }


def check_feature(members: Any, place: str) -> None:
    """Raise Malformed unless `members` is a GeoJSON feature; `place` is where it stands."""
    if not isinstance(members, Mapping):
        raise Malformed(Fault(place, "a feature object is needed"))
    if members.get("type") != "Feature":
        raise Malformed(Fault(f"{place}/type", f"this must be 'Feature', not {members.get('type')!r}"))
    if "geometry" not in members:
        raise Malformed(Fault(f"{place}/geometry", "this is missing; null says that there is none"))
    if members["geometry"] is not None:
        check_geometry(members["geometry"], f"{place}/geometry")
    properties = members.get("properties")
    if properties is not None and not isinstance(properties, Mapping):
        raise Malformed(Fault(f"{place}/properties", "this must be an object or null"))


def check_geometry(members: Any, place: str) -> None:
    """Raise Malformed unless `members` is a GeoJSON geometry; `place` is where it stands."""
    if not isinstance(members, Mapping):
        raise Malformed(Fault(place, "a geometry object is needed"))
    kind = members.get("type")
    if kind == "GeometryCollection":
        for number, part in enumerate(_array(members.get("geometries"), f"{place}/geometries")):
            check_geometry(part, f"{place}/geometries/{number}")
    elif isinstance(kind, str) and kind in _DEPTHS:
        _check_coordinates(members.get("coordinates"), kind, _DEPTHS[kind], f"{place}/coordinates")
    else:
        allowed = ", ".join(_DEPTHS)
        raise Malformed(Fault(f"{place}/type", f"this must be one of {allowed} or GeometryCollection, not {kind!r}"))


def _array(value: Any, place: str) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Malformed(Fault(place, "this must be an array"))
    return value


def _check_coordinates(coordinates: Any, kind: str, depth: int, place: str) -> None:
    parts = _array(coordinates, place)
    if depth == 0:
        _check_position(parts, place)
        return
    for number, part in enumerate(parts):
        _check_coordinates(part, kind, depth - 1, f"{place}/{number}")
    if depth != 1 or kind == "MultiPoint":
        return
    if "Polygon" in kind:
        _check_ring(parts, place)
    elif len(parts) < 2:
        raise Malformed(Fault(place, "a line must have two positions or more"))


def _check_ring(positions: Sequence[Any], place: str) -> None:
    number = place.rpartition("/")[2]
    ring = "the outer ring" if number == "0" else f"inner ring {number}"
    if len(positions) < 4:
        count = f"{len(positions)} position{'s' if len(positions) != 1 else ''}"
        message = f"{ring} has {count}; at least 4 are needed, the last the same as the first"
        raise Malformed(Fault(place, message))
    if list(positions[0]) != list(positions[-1]):
        raise Malformed(Fault(place, f"{ring} is not closed; repeat its first position at its end"))


def _check_position(position: Sequence[Any], place: str) -> None:
    if len(position) < 2:
        raise Malformed(Fault(place, "a position must hold two numbers or more"))
    for number in position:
        if not isinstance(number, (int, float)) or isinstance(number, bool) or not _is_finite(number):
            raise Malformed(Fault(place, "a position must hold finite numbers only"))


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number that no float holds
        return False


# --- the same structure as a JSON schema -----------------------------------------------------------------------------
# Descriptions show little of it, so that they stay readable; the checker adds the rest before a job exists.


def _arrays(depth: int, least: int) -> dict[str, Any]:
    """Return the schema of positions nested `depth` deep, the innermost array of at least `least` positions."""
    if depth == 0:
        return {"type": "array", "minItems": 2, "items": {"type": "number"}}
    items = _arrays(depth - 1, least)
    return {"type": "array", "items": items, "minItems": least if depth == 1 else 0}


def _when(kind: str, members: dict[str, Any]) -> dict[str, Any]:
    of_kind = {"required": ["type"], "properties": {"type": {"enum": [kind]}}}
    return {"if": of_kind, "then": {"required": list(members), "properties": members}}


_LEAST = {"LineString": 2, "MultiLineString": 2}
_DEFINITIONS: dict[str, Any] = {
    "geometry": {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": [*_DEPTHS, "GeometryCollection"]}},
        "allOf": [
            *(_when(kind, {"coordinates": _arrays(depth, _LEAST.get(kind, 0))}) for kind, depth in _DEPTHS.items()),
            _when("GeometryCollection", {"geometries": {"type": "array", "items": {"$ref": "#/$defs/geometry"}}}),
        ],
    },
    "feature": {
        "type": "object",
        "required": ["type", "geometry"],
        "properties": {
            "type": {"enum": ["Feature"]},
            "geometry": {
                "if": {"type": "object"},
                "then": {"$ref": "#/$defs/geometry"},
                "else": {"type": "null"},
            },
            "properties": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        },
    },
    "feature-collection": {
        "type": "object",
        "required": ["type", "features"],
        "properties": {
            "type": {"enum": ["FeatureCollection"]},
            "features": {"type": "array", "items": {"$ref": "#/$defs/feature"}},
        },
    },
}

STRUCTURES: dict[str, dict[str, Any]] = {
    f"geojson-{kind}": {"$ref": f"#/$defs/{kind}", "$defs": _DEFINITIONS} for kind in _DEFINITIONS
}
"""
JSON Schema 2020-12 of what each ``format`` of the standard stands for. Rings are left to `check_geometry`: whether they
are closed is beyond a schema, and how long they are is better told by their names.
"""
