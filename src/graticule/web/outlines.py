"""Draw GeoJSON as outlines on a small map that needs no script and no other host: an SVG with a graticule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 760, 460
"""Size of the picture, in its own units."""

MARGIN = 28
MOST_VERTICES = 40_000
"""Vertices that are drawn; of more, each n-th."""

MOST_SHAPES = 5_000
_STEPS = (1, 2, 5)

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """One feature as it is drawn."""

    path: str
    """SVG path data of its lines and areas."""
    area: bool
    points: tuple[Point, ...]
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the graticule."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A drawn map."""

    shapes: tuple[Shape, ...]
    meridians: tuple[Line, ...]
    parallels: tuple[Line, ...]
    total: int
    """Features in all; more than are drawn where there are very many."""
    bounds: tuple[float, float, float, float]
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class _Frame:
    """How coordinates become places in the picture."""

    west: float
    north: float
    x_scale: float
    y_scale: float
    left: float
    top: float

    def place(self, point: Point) -> Point:
        x = self.left + (point[0] - self.west) * self.x_scale
        return x, self.top + (self.north - point[1]) * self.y_scale


def features_of(document: Any) -> list[Mapping[str, Any]] | None:
    """Return the features of a GeoJSON document, a bare geometry as one; None if it is none."""
    if not isinstance(document, Mapping):
        return None
    kind = document.get("type")
    if kind == "FeatureCollection" and isinstance(document.get("features"), list):
        return [one for one in document["features"] if isinstance(one, Mapping)]
    if kind == "Feature":
        return [document]
    if kind == "GeometryCollection" or (kind in _PARTS and "coordinates" in document):
        return [{"type": "Feature", "properties": {}, "geometry": document}]
    return None


def outline(document: Any) -> Outline | None:
    """Return a GeoJSON document as a map; None if it has no coordinates that could be drawn.

    References
    ----------
    RFC 7946.
    """
    features = features_of(document)
    if features is None:
        return None
    drawn = [(feature, list(_parts(feature.get("geometry")))) for feature in features[:MOST_SHAPES]]
    points = [point for _, parts in drawn for _, line in parts for point in line]
    if not points:
        return None
    bounds = (
        min(x for x, _ in points),
        min(y for _, y in points),
        max(x for x, _ in points),
        max(y for _, y in points),
    )
    frame = _frame(bounds)
    every = max(1, math.ceil(len(points) / MOST_VERTICES))
    shapes = tuple(_shape(feature, parts, frame, every) for feature, parts in drawn if parts)
    left, top = _from_frame(frame, 0, 0)
    right, bottom = _from_frame(frame, WIDTH, HEIGHT)
    geographic = _is_geographic(bounds)
    return Outline(
        shapes=shapes,
        meridians=tuple(_lines(left, right, 6, lambda x: frame.place((x, 0))[0], signs="EW", geographic=geographic)),
        parallels=tuple(_lines(bottom, top, 4, lambda y: frame.place((0, y))[1], signs="NS", geographic=geographic)),
        total=len(features),
        bounds=bounds,
    )


_PARTS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
"""Geometries, and how deep their coordinates nest."""


def _parts(geometry: Any, depth: int = 0) -> Iterator[tuple[str, list[Point]]]:
    """Yield the points, lines and rings of a geometry; what is malformed is passed over."""
    if not isinstance(geometry, Mapping) or depth > 8:
        return
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        for part in geometry["geometries"]:
            yield from _parts(part, depth + 1)
        return
    if kind not in _PARTS:
        return
    form = "point" if "Point" in kind else "ring" if "Polygon" in kind else "line"
    lines = [[coordinates]] if kind == "Point" else [coordinates]
    for _ in range(max(0, _PARTS[kind] - 1)):
        lines = [inner for outer in lines if isinstance(outer, list) for inner in outer]
    for line in lines:
        if isinstance(line, list):
            points = [(float(at[0]), float(at[1])) for at in line if _is_position(at)]
            if points:
                yield form, points


def _is_position(at: Any) -> bool:
    return (
        isinstance(at, list)
        and len(at) > 1
        and all(isinstance(part, int | float) and math.isfinite(part) for part in at[:2])
    )


def _is_geographic(bounds: tuple[float, float, float, float]) -> bool:
    return bounds[0] >= -360 and bounds[2] <= 360 and bounds[1] >= -90 and bounds[3] <= 90


def _frame(bounds: tuple[float, float, float, float]) -> _Frame:
    """Return a frame that holds the bounds; a degree of longitude is as long as it is in the middle."""
    west, south, east, north = bounds
    shrink = max(0.05, math.cos(math.radians((south + north) / 2))) if _is_geographic(bounds) else 1.0
    width, height = max((east - west) * shrink, 1e-9), max(north - south, 1e-9)
    if east == west and north == south:
        width = height = 0.02
    scale = min((WIDTH - 2 * MARGIN) / width, (HEIGHT - 2 * MARGIN) / height)
    left = (WIDTH - (east - west) * shrink * scale) / 2
    return _Frame(west, north, shrink * scale, scale, left, (HEIGHT - (north - south) * scale) / 2)


def _from_frame(frame: _Frame, x: float, y: float) -> Point:
    return frame.west + (x - frame.left) / frame.x_scale, frame.north - (y - frame.top) / frame.y_scale


def _shape(feature: Mapping[str, Any], parts: list[tuple[str, list[Point]]], frame: _Frame, every: int) -> Shape:
    path: list[str] = []
    points: list[Point] = []
    for form, line in parts:
        places = [frame.place(point) for point in (line if len(line) < 8 * every else [*line[::every], line[-1]])]
        if form == "point":
            points += places
        else:
            path.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) + ("Z" if form == "ring" else ""))
    area = any(form == "ring" for form, _ in parts)
    rounded = tuple((round(x, 1), round(y, 1)) for x, y in points)
    return Shape("".join(path), area, rounded, _title(feature))


def _title(feature: Mapping[str, Any]) -> str:
    """Return what a feature is called, for whoever points at it."""
    properties = feature.get("properties")
    named = dict(properties) if isinstance(properties, Mapping) else {}
    shown = [f"{name}: {value}" for name, value in named.items() if isinstance(value, str | int | float)]
    head = [str(feature["id"])] if isinstance(feature.get("id"), str | int) else []
    return "\n".join([*head, *shown[:8]])


def _lines(
    low: float, high: float, most: int, place: Callable[[float], float], *, signs: str, geographic: bool
) -> Iterator[Line]:
    """Yield the lines of a graticule between two coordinates, at round numbers."""
    step = _step((high - low) / most)
    digits = max(0, -math.floor(math.log10(step)))
    first = math.ceil(low / step)
    for count in range(first, math.floor(high / step) + 1):
        at = count * step
        label = _degrees(at, digits, signs) if geographic else f"{at:.{digits}f}"
        yield Line(round(place(at), 1), label)


def _degrees(at: float, digits: int, signs: str) -> str:
    sign = signs[0] if at > 0 else signs[1] if at < 0 else ""
    return f"{abs(at):.{digits}f}° {sign}".strip()


def _step(wanted: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is not below `wanted`."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return next((factor * power for factor in _STEPS if factor * power >= wanted), 10 * power)
