"""A zone around GeoJSON geometries, as wide as a geodesic distance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from graticule import Feature, FeatureCollection, Geometry, RunContext, process
from graticule.errors import Fault, InvalidInputs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

LONGEST_M = 5_000_000.0
"""Largest distance, metres. Twice this is half the globe's girth: beyond, a zone may reach both poles."""

SHORTEST_M = 0.001
"""Smallest distance, metres. Below, floating point has too few digits for coordinates in degrees."""

PIECE_M = 50_000.0
"""Lines are cut into pieces of about this length, each buffered in a projection of its own, metres."""

STEP_M = 10_000.0
"""Longest straight step along an edge, metres: an edge is straight in longitude and latitude, not on the globe."""

MOST_STEPS = 500_000
"""How many steps long edges may add to what was sent: under a minute of work."""

FAR_M = 500_000.0
"""With every such distance a step costs as much again, since its zone is so much longer, metres."""

BEND = 1e-3
"""How far a step may leave such an edge, as a share of the distance."""

RADIUS_M = 6_371_008.0

DEGREE_M = 111_320.0
"""Length of one degree at the equator, metres: an upper bound for lengths of edges."""

DECIMALS = 9
"""Of longitude and latitude in the result; 0.1 mm. Distances below 11 cm take more, so that they stay right, too."""


@process(
    keywords=["vector", "buffer", "geodesic", "GeoJSON"],
    outputs={"buffer": "Polygons of the same kind of object as was sent, or one geometry if all are merged."},
    examples=[
        {
            "title": "200 m around the sample places",
            "inputs": {"geojson": {"href": "sample:places.geojson"}, "distance": 200},
        },
        {
            "title": "The sample fields and 50 m around them, merged",
            "inputs": {"geojson": {"href": "sample:fields.geojson"}, "distance": 50, "merge": True},
        },
        {
            "title": "500 km around a place near the North Pole",
            "inputs": {"geojson": {"value": {"type": "Point", "coordinates": [15.6, 88.0]}}, "distance": 500000},
        },
    ],
)
def buffer(
    geojson: Annotated[Geometry | Feature | FeatureCollection, Field(title="GeoJSON")],
    distance: Annotated[float, Field(ge=SHORTEST_M, le=LONGEST_M)],
    segments: Annotated[int, Field(ge=1, le=128)] = 16,
    merge: bool = False,  # noqa: FBT001, FBT002 - inputs have names on the wire
    *,
    context: RunContext,
) -> Geometry | Feature | FeatureCollection:
    """Buffer geometries.

    Encloses all places within a distance of points, lines and polygons. Distances are geodesic, on the ellipsoid WGS
    84, anywhere on the globe: a zone that crosses the antimeridian is cut there into two polygons, one that holds a
    pole runs along it. Besides the rounding of corners (see segments), outlines are right to 0.1 % of the distance.

    Heights are left out. Edges are straight in longitude and latitude, as RFC 7946 has it; what crosses the
    antimeridian is sent cut there, or with longitudes beyond 180 degrees. A shrinking, negative distance is not
    offered.

    Parameters
    ----------
    geojson : Geometry, Feature or FeatureCollection
        Any geometries, longitude and latitude (CRS84).
    distance : float
        How far the zone reaches, metres; a millimetre at least.
    segments : int
        Straight pieces in a quarter of a circle. 16 cut off up to 0.12 % of the distance, 8 up to 0.5 %, 64 0.01 %.
    merge : bool
        Whether all zones become one geometry, overlaps dissolved.
    """
    zone = Zone(distance=distance, segments=segments)
    parts = _geometries(geojson)
    _check_geometries(parts)
    _check_amount(parts, zone)
    found = []
    for number, part in enumerate(parts.values()):
        context.report(100 * number // len(parts), f"geometry {number + 1} of {len(parts)}")
        found.append(buffered(part, zone))
    if merge:
        return Geometry(_geojson_of(_merged(found)))
    results = {place: _geojson_of(one) for place, one in zip(parts, found, strict=True)}
    if isinstance(geojson, Geometry):
        return Geometry(results[""])
    if isinstance(geojson, Feature):
        return Feature({**geojson, "geometry": results.get("/geometry")})
    features = [
        {**feature, "geometry": results.get(f"/features/{number}/geometry")}
        for number, feature in enumerate(geojson["features"])
    ]
    return FeatureCollection({**geojson, "features": features})


def _geometries(geojson: Geometry | Feature | FeatureCollection) -> dict[str, BaseGeometry]:
    """Return the geometries of a GeoJSON object by their places in it; features without one have none."""
    from graticule.data.globe import shape_of

    if isinstance(geojson, Geometry):
        found: dict[str, Any] = {"": geojson}
    elif isinstance(geojson, Feature):
        found = {"/geometry": geojson["geometry"]}
    else:
        found = {
            f"/features/{number}/geometry": feature["geometry"] for number, feature in enumerate(geojson["features"])
        }
    return {place: shape_of(members) for place, members in found.items() if members is not None}


def _check_geometries(parts: Mapping[str, BaseGeometry], *, pointer: str = "/inputs/geojson") -> None:
    """Raise InvalidInputs if there is nothing to buffer, or something that has no clear inside or place."""
    import shapely

    from graticule.data.globe import longitude_fault

    if all(part.is_empty for part in parts.values()):
        raise InvalidInputs([Fault(pointer, "holds no geometry with coordinates; send one at least")])
    faults = []
    for place, part in parts.items():
        where = f"{place} " if place else ""
        _, south, _, north = part.bounds if not part.is_empty else (0, 0, 0, 0)
        if (fault := longitude_fault(part)) is not None:
            faults.append(Fault(pointer, where + fault))
        elif south < -90 or north > 90:
            message = f"{where}has a latitude beyond 90 degrees; send longitude, then latitude (CRS84)"
            faults.append(Fault(pointer, message))
        elif not part.is_valid:
            reason = shapely.is_valid_reason(part)
            faults.append(
                Fault(pointer, f"{where}is no valid {part.geom_type} ({reason}); repair it, e.g. with make_valid")
            )
    if faults:
        raise InvalidInputs(faults)


def _check_amount(parts: Mapping[str, BaseGeometry], zone: Zone, *, pointer: str = "/inputs/geojson") -> None:
    """Raise InvalidInputs if edges are so long that to follow them would take minutes."""
    import shapely

    lines = (line for part in parts.values() for one in _simple_parts(part) for line in _lines(one))
    steps = sum(int((_steps(shapely.get_coordinates(line), zone) - 1).sum()) for line in lines)
    most = int(MOST_STEPS / (1 + zone.distance / FAR_M))
    if steps > most:
        message = (
            f"has edges so long that they must be followed in {steps} more steps, where at most {most} are taken for "
            f"a distance of {zone.distance:g} m; send shorter edges, or in several requests"
        )
        raise InvalidInputs([Fault(pointer, message)])


def _geojson_of(area: BaseGeometry) -> dict[str, Any]:
    from shapely.geometry import mapping

    return dict(mapping(area))


def _merged(areas: list[BaseGeometry]) -> BaseGeometry:
    import shapely

    return shapely.orient_polygons(shapely.union_all(areas))


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """How wide and how round a buffer is."""

    distance: float
    """Metres on the ellipsoid WGS 84."""

    segments: int = 16
    """Straight pieces in a quarter of a circle; 16 keep the outline within 0.12 % of the distance."""


def buffered(geometry: BaseGeometry, zone: Zone) -> BaseGeometry:
    """
    Return all places that lie within a distance of a geometry.

    Points give geodesic circles. Lines and outlines are cut into pieces of about 50 km, which are buffered in an
    azimuthal equidistant projection about the middle of each; distances there are off by less than 2 in 100 000.
    What is straight in longitude and latitude stays so (RFC 7946). A zone that holds a pole reaches it along the
    antimeridian, one that crosses the antimeridian is cut there into two polygons.

    Parameters
    ----------
    geometry : BaseGeometry
        Longitudes and latitudes, degrees. Longitudes beyond 180 degrees count on eastward.
    zone : Zone
        How wide.

    Returns
    -------
    BaseGeometry
        A Polygon or MultiPolygon between -180 and 180 degrees.

    References
    ----------
    C. F. F. Karney: Algorithms for geodesics, Journal of Geodesy 87 (2013). RFC 7946, sections 3.1.1, 3.1.6 and 3.1.9.
    """
    import numpy as np
    import shapely

    areas: list[BaseGeometry] = []
    for part in _simple_parts(geometry):
        if part.geom_type == "Point":
            areas.append(_circle(part.x, part.y, zone))
            continue
        if part.geom_type == "Polygon":
            areas.append(_within_globe(part))
        areas += [
            _piece(piece, zone) for line in _lines(part) for piece in _pieces(shapely.get_coordinates(line), zone)
        ]
    decimals = max(DECIMALS, math.ceil(math.log10(DEGREE_M / (BEND * zone.distance))))
    # GEOS leaves the mark of a division that it has dealt with itself, which numpy would warn of.
    with np.errstate(divide="ignore", invalid="ignore"):
        return shapely.orient_polygons(shapely.set_precision(shapely.union_all(areas), 10**-decimals))


def _simple_parts(geometry: BaseGeometry) -> Iterator[BaseGeometry]:
    """Yield the points, lines and polygons of a geometry, without heights."""
    import shapely

    for part in shapely.get_parts([geometry]):
        if part.geom_type.startswith(("Multi", "GeometryCollection")):
            yield from _simple_parts(part)
        elif not part.is_empty:
            yield shapely.force_2d(part)


def _lines(part: BaseGeometry) -> list[BaseGeometry]:
    """Return the lines of a point (none), a line or a polygon."""
    if part.geom_type == "Polygon":
        return [part.exterior, *part.interiors]
    return [part] if part.geom_type == "LineString" else []


def _geod() -> Any:
    from pyproj import Geod

    return Geod(ellps="WGS84")


def _circle(longitude: float, latitude: float, zone: Zone) -> BaseGeometry:
    """Return the geodesic circle around a point."""
    import numpy as np

    corners = 4 * zone.segments
    azimuths = np.linspace(360, 0, corners, endpoint=False)
    ring = _from_polar(longitude, latitude, azimuths, np.full(corners, zone.distance))
    return _area(ring, longitude, _holds_pole(longitude, latitude, lambda _, away: away < zone.distance))


def _pieces(points: NDArray[Any], zone: Zone) -> Iterator[NDArray[Any]]:
    """Yield a line in pieces of about `PIECE_M`, with points close enough to bend; neighbours share a point."""
    import numpy as np

    piece: list[NDArray[Any]] = [points[:1]]
    held = 0.0
    for start, end, length, steps in zip(points[:-1], points[1:], _lengths(points), _steps(points, zone), strict=True):
        for share in np.arange(1, steps + 1) / steps:
            point = start + (end - start) * share
            piece.append(point[None, :])
            held += length / steps
            if held >= PIECE_M:
                yield np.concatenate(piece)
                piece, held = [point[None, :]], 0.0
    if len(piece) > 1:
        yield np.concatenate(piece)


def _lengths(points: NDArray[Any]) -> NDArray[Any]:
    """Return how long the edges between points are at most, metres."""
    import numpy as np

    ends, starts = points[1:], points[:-1]
    nearest_equator = np.minimum(np.abs(starts[:, 1]), np.abs(ends[:, 1]))
    across = (starts[:, 1] * ends[:, 1]) < 0
    shrink = np.cos(np.radians(np.where(across, 0, nearest_equator)))
    lengths: NDArray[Any] = DEGREE_M * np.hypot((ends[:, 0] - starts[:, 0]) * shrink, ends[:, 1] - starts[:, 1])
    return lengths


def _steps(points: NDArray[Any], zone: Zone) -> NDArray[Any]:
    """Return into how many steps each edge between points is cut."""
    import numpy as np

    step_m = _step(np.maximum(np.abs(points[1:, 1]), np.abs(points[:-1, 1])), zone)
    steps: NDArray[Any] = np.maximum(1, np.ceil(_lengths(points) / step_m)).astype(int)
    return steps


def _step(latitude: Any, zone: Zone) -> Any:
    """Return how long a straight step may be: a parallel bends by ``step² tan(latitude) / 8R`` away from it."""
    import numpy as np

    steepness = np.maximum(1.0, np.tan(np.radians(np.minimum(latitude, 89.9))))
    return np.minimum(STEP_M, np.sqrt(8 * RADIUS_M * BEND * zone.distance / steepness))


def _piece(points: NDArray[Any], zone: Zone) -> BaseGeometry:
    """Return the buffer of a short line, computed in an azimuthal equidistant projection about its middle."""
    import numpy as np
    import shapely

    longitude, latitude = points[len(points) // 2]
    azimuths, _, away = _geod().inv(
        np.full(len(points), longitude), np.full(len(points), latitude), points[:, 0], points[:, 1]
    )
    plane = np.column_stack([away * np.sin(np.radians(azimuths)), away * np.cos(np.radians(azimuths))])
    shape = shapely.buffer(shapely.linestrings(plane), zone.distance, quad_segs=zone.segments)
    shape = shapely.segmentize(shape, float(_step(np.abs(latitude), zone)))

    def area(ring: BaseGeometry) -> BaseGeometry:
        flat = shapely.get_coordinates(ring)[:-1]
        inside = shapely.Polygon(flat)
        polar = _from_polar(longitude, latitude, np.degrees(np.arctan2(flat[:, 0], flat[:, 1])), np.hypot(*flat.T))

        def holds(azimuth: float, far: float) -> bool:
            east, north = far * math.sin(math.radians(azimuth)), far * math.cos(math.radians(azimuth))
            return bool(shapely.contains_xy(inside, east, north))

        return _area(polar, longitude, _holds_pole(longitude, latitude, holds))

    result = area(shape.exterior)
    for hole in shape.interiors:
        result = result.difference(area(hole))
    return result


def _from_polar(longitude: float, latitude: float, azimuths: NDArray[Any], away: NDArray[Any]) -> NDArray[Any]:
    """Return longitudes and latitudes of places seen from one place, shape ``(n, 2)``."""
    import numpy as np

    many = np.full(len(azimuths), longitude), np.full(len(azimuths), latitude)
    east, north, _ = _geod().fwd(*many, azimuths, away)
    return np.column_stack([east, north])


def _holds_pole(longitude: float, latitude: float, holds: Callable[[float, float], bool]) -> float | None:
    """Return the latitude of the pole that a zone around a place holds: `holds` is asked with azimuth and distance."""
    for pole in (90.0, -90.0):
        azimuth, _, away = _geod().inv(longitude, latitude, longitude, pole)
        if holds(azimuth, away):
            return pole
    return None


def _area(ring: NDArray[Any], longitude: float, pole: float | None) -> BaseGeometry:
    """
    Return the area that a ring encloses on the globe, as polygons between -180 and 180 degrees.

    The longitudes are made continuous first. A ring around a pole then ends 360 degrees from its start, and the area
    is what lies between it and the pole.
    """
    import numpy as np
    import shapely

    closed = np.vstack([ring, ring[:1]])
    east = np.unwrap(closed[:, 0], period=360.0)
    north = closed[:, 1]
    if pole is not None:
        east = np.concatenate([east, [east[-1], east[0]]])
        north = np.concatenate([north, [pole, pole]])
    else:
        east += 360.0 * round((longitude - (east.min() + east.max()) / 2) / 360.0)
    return _within_globe(shapely.make_valid(shapely.Polygon(np.column_stack([east, north]))))


def _within_globe(area: BaseGeometry) -> BaseGeometry:
    """Return an area whose longitudes may run beyond 180 degrees, cut at the antimeridian and brought back."""
    import shapely
    from shapely.affinity import translate

    west, _, east, _ = area.bounds
    turns = range(math.floor((west + 180) / 360), math.ceil((east - 180) / 360) + 1)
    if turns in (range(1), range(0)):
        return area
    parts = [
        translate(area.intersection(shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)), xoff=-360 * turn)
        for turn in turns
    ]
    return shapely.union_all(parts)
