"""Polygons of longitude and latitude on the pixels of a raster, wherever on the globe both of them lie.

Only job processes import this file: it loads rasterio and shapely.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.io import DatasetReader
from rasterio.warp import transform, transform_bounds
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, box
from shapely.geometry.base import BaseGeometry

from graticule.data.globe import MOST_DEGREES, longitude_fault

EDGE_DEGREES = 0.1
"""Longest piece of an edge that is kept straight when it goes into a projected CRS: a few metres off at most."""

MARGIN_DEGREES = 0.5
"""How far polygons reach beyond a projected raster before they are cut."""

MARGIN_SHARE = 0.02
"""How much farther, as a share of the raster's width or height: its bounds are computed from points on its edges."""

GRID = 2.0**-24
"""Corners are put on multiples of this share of a pixel: what runs within rounding errors of a pixel's corner makes
exactextract lose or invent whole pixels."""

NUDGE_DEGREES = 1e-9
"""A tenth of a millimetre: beside the meridian where a CRS is torn, there is no doubt about the side."""

STRAIGHTNESS = 0.35
"""How far the middle of a short edge may come to lie off the middle between its ends, as a share of its length. Where
the CRS is torn between them it is half."""

TWIST = 1e-3
"""Pixels, and share of its area, that a bent polygon may lose when it is made valid."""

_TURN_LEFT = np.array([(0.0, 0.0), (1e-5, 0.0), (0.0, 1e-5)])
_PROBES = np.arange(-180.0, 181.0, 30.0)
_PROBE_LATITUDES = (-50.0, 10.0, 40.0)
_NO_PLACE = "lies outside what the raster's CRS can show; cut it there"
_TORN = "goes over a place where the raster's CRS is torn or folded; cut it there, or reproject the raster"


class Unplaceable(Exception):
    """A polygon has no right place on a raster; the message says why."""


class PixelPlane:
    """
    The plane of a raster's pixels: columns to the right, rows upwards, the last row between 0 and 1.

    Parameters
    ----------
    dataset : DatasetReader
        An open raster with a CRS; its rows and columns run along the axes of the CRS.
    """

    def __init__(self, dataset: DatasetReader) -> None:
        self._crs = dataset.crs
        self._transform = dataset.transform
        self._height = dataset.height
        self._bounds = bounds_of(dataset)
        self.box = box(0, 0, dataset.width, dataset.height)
        """The raster itself."""
        self._start = 0.0
        self._turn = self._find_turn()
        self._around = self._find_surroundings()
        self._middle = _central_meridian(self._crs.to_dict(projjson=True)) or 0.0

    def place(self, area: BaseGeometry) -> BaseGeometry:
        """
        Return an area on the pixels; of what lies beside the raster, only a part.

        Parameters
        ----------
        area : BaseGeometry
            A valid polygon or several, longitude and latitude. Longitudes may go on past 180 degrees either way.

        Returns
        -------
        BaseGeometry
            Polygons; none where all of it lies far from the raster.

        Raises
        ------
        Unplaceable
            If the CRS of the raster has no place, or more than one, for some of it.
        """
        if area.is_empty:
            return area
        if (fault := longitude_fault(area)) is not None:
            raise Unplaceable(fault)
        area = shapely.force_2d(area)
        try:
            parts = list(self._split(area)) if self._turn is None else list(self._repeated(area, self._turn))
            return _polygons(shapely.union_all(parts, grid_size=GRID))
        except shapely.GEOSException as error:
            raise Unplaceable(f"cannot be brought onto the pixels ({error}); simplify it") from error

    # --- where the plane repeats itself after 360 degrees ---

    def _find_turn(self) -> float | None:
        """Return how many pixels 360 degrees of longitude are, where that is the same everywhere; otherwise None."""
        rows = []
        for latitude in _PROBE_LATITUDES:
            there = self._placed(np.column_stack([_PROBES, np.full_like(_PROBES, latitude)]))
            if not np.isfinite(there).all():
                return None
            rows.append(there)
        step = float(np.median([np.diff(row[:, 0]) for row in rows]))
        turn = step * 360.0 / 30.0
        if not turn:
            return None
        self._start = float(rows[0][_PROBES == 0.0, 0][0])
        for row in rows:
            off = (row[:, 0] - self._start) / turn - _PROBES / 360.0
            if np.abs(off - np.round(off)).max() > 1e-4 or np.ptp(row[:, 1]) > 1e-4 * abs(turn):
                return None
        return turn

    def _repeated(self, area: BaseGeometry, turn: float) -> Iterator[BaseGeometry]:
        """Yield an area as often as it, or the same place one turn on, lies on the raster."""
        if self._around is not None and not self._around.covers(area):
            area = _polygons(area.intersection(self._around))
        if not self._crs.is_geographic:
            area = shapely.segmentize(area, EDGE_DEGREES)
        area = shapely.transform(area, self._unwrapped)
        if area.is_empty:
            return
        if math.isfinite(sum(area.bounds)) and not area.is_valid:
            area = _made_valid(area)  # rounding has brought corners to lie on each other
        west, _, east, _ = area.bounds
        if not math.isfinite(sum(area.bounds)):
            raise Unplaceable(_NO_PLACE)
        width = self.box.bounds[2]
        near = box(-1, area.bounds[1] - 1, width + 1, area.bounds[3] + 1)
        step = abs(turn)
        for number in range(math.ceil(-east / step), math.floor((width - west) / step) + 1):
            copy = translate(area, number * step) if number else area
            yield copy if near.covers(copy) else _polygons(copy.intersection(near))

    def _unwrapped(self, points: NDArray[Any]) -> NDArray[Any]:
        """Return points on the plane as if it went on without end to the east and the west."""
        assert self._turn is not None
        turns = np.round(points[:, 0] / 360.0)
        turns[np.abs(points[:, 0]) <= 360.0] = 0.0  # PROJ takes no longitude of several turns
        there = self._placed(points - np.column_stack([360.0 * turns, np.zeros_like(turns)]))
        if np.isfinite(there).all():
            expected = self._start + points[:, 0] / 360.0 * self._turn
            there[:, 0] -= self._turn * np.round((there[:, 0] - expected) / self._turn)
        return there

    # --- where it does not ---

    def _split(self, area: BaseGeometry) -> Iterator[BaseGeometry]:
        """Yield an area in pieces none of which lies over the meridian where the CRS is torn, or around a pole."""
        west, _, east, _ = area.bounds
        first, last = self._middle - 180.0, self._middle + 180.0
        if first <= west and east <= last and east - west < 180.0:
            pieces = {(first, last): area}
        else:
            pieces = {
                (start, start + 90.0): _between(area, start, start + 90.0)
                for start in first + np.arange(0, 360.0, 90.0)
            }
        for (start, end), piece in pieces.items():
            if self._around is not None and not self._around.covers(piece):
                # Far away from a raster, its CRS folds or has no coordinates at all.
                piece = piece.intersection(self._around)  # noqa: PLW2901 - the same piece, cut
            for polygon in _polygons(piece).geoms:
                yield self._bent(shapely.segmentize(polygon, EDGE_DEGREES), start, end)

    def _bent(self, polygon: BaseGeometry, west: float, east: float) -> BaseGeometry:
        """Return a polygon between two meridians on the plane."""
        here = shapely.get_coordinates(polygon)
        middles = (here[1:] + here[:-1]) / 2
        inside = shapely.get_coordinates(polygon.representative_point()) + _TURN_LEFT
        # All at once: each call costs as much as a thousand points.
        placed = self._between_seams(np.concatenate([here, middles, inside]), west, east)
        there, middles, inside = np.split(placed, [len(here), len(here) + len(middles)])
        if not np.isfinite(there).all():
            raise Unplaceable(_NO_PLACE)
        if not _is_whole(there, middles, _edges(polygon)):
            raise Unplaceable(_TORN)
        bent = shapely.set_coordinates(shapely.from_wkb(polygon.wkb), there)
        size = shapely.Polygon(bent.exterior).area - sum(shapely.Polygon(ring).area for ring in bent.interiors)
        keeps_side = shapely.is_ccw(bent.exterior) == shapely.is_ccw(polygon.exterior)
        if size > TWIST and keeps_side != _turns_left(inside):
            raise Unplaceable(_TORN)  # what was outside has become inside: it holds the point that the CRS cannot show
        if not bent.is_valid:
            bent = _made_valid(bent)
            if abs(bent.area - size) > TWIST * (1 + size):
                raise Unplaceable(_TORN)
        return bent

    def _between_seams(self, points: NDArray[Any], west: float, east: float) -> NDArray[Any]:
        """Return points on the plane, those on the outer meridians on the side of the others."""
        there = self._placed(points)
        for meridian, inwards in ((west, NUDGE_DEGREES), (east, -NUDGE_DEGREES)):
            on = np.flatnonzero(np.abs(points[:, 0] - meridian) < NUDGE_DEGREES)
            beside = self._placed(points[on] + (inwards, 0.0)) if len(on) else there[on]
            with np.errstate(invalid="ignore"):  # where neither has a place
                torn = ~(np.hypot(*(beside - there[on]).T) < TWIST)
            there[on[torn]] = beside[torn]
        return there

    # --- both ---

    def _find_surroundings(self) -> BaseGeometry | None:
        """Return what lies in and around the raster, to cut polygons to; None where they must not be cut."""
        if self._turn is not None:
            return self._find_band()
        left, bottom, right, top = self._bounds
        corners = np.array([(left, bottom), (right, bottom), (right, top), (left, top)])
        try:
            there = np.column_stack(transform(self._crs, "OGC:CRS84", corners[:, 0], corners[:, 1]))
            west, south, east, north = transform_bounds(self._crs, "OGC:CRS84", *self._bounds)
        except CPLE_BaseError:
            return None
        # A raster that reaches beyond the globe (a full disk, say) has bounds that leave out a part of it.
        pixel = max(abs(self._transform.a), abs(self._transform.e))
        if not math.isfinite(west + south + east + north) or not np.allclose(
            self._projected(there), corners, rtol=1e-6, atol=pixel
        ):
            return None
        if west > east:
            east += 360
        margin_x = MARGIN_DEGREES + MARGIN_SHARE * (east - west)
        margin_y = MARGIN_DEGREES + MARGIN_SHARE * (north - south)
        south, north = max(-90.0, south - margin_y), min(90.0, north + margin_y)
        # Rasters may lie over 180 degrees.
        turns = (-360, 0, 360)
        return shapely.union_all([box(west - margin_x + turn, south, east + margin_x + turn, north) for turn in turns])

    def _find_band(self) -> BaseGeometry | None:
        """Return the band of latitudes around the raster: a Mercator projection cannot show the poles."""
        if self._crs.is_geographic:
            return None
        middle = self._projected(np.array([(0.0, 0.0)]))[0, 0]
        latitudes = []
        for y, pole in ((self._bounds[1], -90.0), (self._bounds[3], 90.0)):
            try:
                latitude = transform(self._crs, "OGC:CRS84", [middle], [y])[1][0]
            except CPLE_BaseError:
                latitude = pole
            latitudes.append(latitude if abs(latitude) <= 90.0 else pole)
        south, north = sorted(latitudes)
        margin = MARGIN_DEGREES + MARGIN_SHARE * (north - south)
        return box(-MOST_DEGREES, max(-90.0, south - margin), MOST_DEGREES, min(90.0, north + margin))

    def _placed(self, points: NDArray[Any]) -> NDArray[Any]:
        """Return points of CRS84 on the plane; infinite where the CRS has no place for them."""
        x, y = self._projected(points).T
        columns = (x - self._transform.c) / self._transform.a
        rows = (y - self._transform.f) / self._transform.e
        there = np.column_stack([columns, self._height - rows])
        there[~np.isfinite(there).all(axis=1)] = np.inf
        return there

    def _projected(self, points: NDArray[Any]) -> NDArray[Any]:
        try:
            return np.column_stack(transform("OGC:CRS84", self._crs, points[:, 0], points[:, 1]))
        except CPLE_BaseError:
            return np.full_like(points, np.inf)


def bounds_of(dataset: DatasetReader) -> tuple[float, float, float, float]:
    """Return the smallest and largest coordinates of a raster, however its rows and columns run."""
    left, bottom, right, top = dataset.bounds
    return min(left, right), min(bottom, top), max(left, right), max(bottom, top)


def _between(area: BaseGeometry, west: float, east: float) -> BaseGeometry:
    """Return what of an area lies between two meridians, however many times around the globe it goes."""
    left, _, right, _ = area.bounds
    frame = box(west, -90.0, east, 90.0)
    turns = range(math.ceil((west - right) / 360.0), math.floor((east - left) / 360.0) + 1)
    parts = [translate(area, 360.0 * turn) if turn else area for turn in turns]
    return _polygons(shapely.union_all([_polygons(part.intersection(frame)) for part in parts]))


def _polygons(geometry: BaseGeometry) -> BaseGeometry:
    """Return the polygons of what an intersection gave, without the lines and points where it only touches."""
    if geometry.geom_type == "MultiPolygon":
        return geometry
    return MultiPolygon([part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"])


def _made_valid(geometry: BaseGeometry) -> BaseGeometry:
    return _polygons(shapely.make_valid(geometry, method="structure", keep_collapsed=False))


def _edges(polygon: BaseGeometry) -> NDArray[np.bool_]:
    """Return which two neighbours among the corners of a polygon are the ends of an edge, not of two rings."""
    ends = np.cumsum([len(ring.coords) for ring in (polygon.exterior, *polygon.interiors)])
    edges = np.ones(ends[-1] - 1, bool)
    edges[ends[:-1] - 1] = False
    return edges


def _is_whole(corners: NDArray[Any], middles: NDArray[Any], edges: NDArray[np.bool_]) -> bool:
    """Whether the edges between corners are in one piece: the middle of each lies between its ends."""
    with np.errstate(invalid="ignore"):
        off = np.hypot(*(middles - (corners[1:] + corners[:-1]) / 2).T)
    lengths = np.hypot(*(corners[1:] - corners[:-1]).T)
    return bool((off <= STRAIGHTNESS * lengths + TWIST)[edges].all())


def _turns_left(points: NDArray[Any]) -> bool:
    """Whether the way from the first of three points to the second and the third turns to the left."""
    (a, b), (c, d) = points[1] - points[0], points[2] - points[0]
    return bool(a * d - b * c > 0)


def _central_meridian(definition: Any) -> float | None:
    """Return the longitude that lies opposite the place where a projection is torn; None if none is named.

    Parameters
    ----------
    definition : Any
        The CRS, or a part of it, as PROJJSON.
    """
    if isinstance(definition, Mapping):
        name, value = definition.get("name"), definition.get("value")
        if isinstance(name, str) and name.startswith("Longitude of") and isinstance(value, int | float):
            return float(value)
        definition = list(definition.values())
    if not isinstance(definition, list):
        return None
    return next((found for part in definition if (found := _central_meridian(part)) is not None), None)
