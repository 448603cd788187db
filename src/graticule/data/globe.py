"""Geometries in longitude and latitude, as all processes read them. shapely loads when one is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

MOST_DEGREES = 1080.0
"""Longitudes from minus to plus this are understood: three times around the globe."""


def shape_of(geometry: Mapping[str, Any]) -> BaseGeometry:
    """Return a GeoJSON geometry without heights and what else may follow them (RFC 7946, section 3.1.1).

    Not every position needs to have them, or as many of them.
    """
    from shapely.geometry import GeometryCollection, shape

    if geometry["type"] == "GeometryCollection":
        return GeometryCollection([shape_of(part) for part in geometry["geometries"]])
    return shape({"type": geometry["type"], "coordinates": _flat(geometry["coordinates"])})


def longitude_fault(geometry: BaseGeometry) -> str | None:
    """Return what is wrong with the longitudes of a geometry, or None."""
    if geometry.is_empty:
        return None
    west, _, east, _ = geometry.bounds
    if -MOST_DEGREES <= west <= east <= MOST_DEGREES:
        return None
    return f"has longitudes from {west:.6g} to {east:.6g}; send such between -{MOST_DEGREES:g} and {MOST_DEGREES:g}"


def _flat(coordinates: Sequence[Any]) -> list[Any]:
    if coordinates and not isinstance(coordinates[0], Sequence):
        return list(coordinates[:2])
    return [_flat(part) for part in coordinates]
