"""Statistics of a raster inside polygons."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from graticule import FeatureCollection, Raster, RunContext, process
from graticule.errors import Fault, InvalidInputs

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from shapely.geometry.base import BaseGeometry

WINDOW_CELLS = 1 << 20
"""Pixels that are read at a time inside one zone; a larger zone is cut."""

EDGE_DEGREES = 0.1
"""Longest piece of an edge that is kept straight when it goes into a projected CRS: a few metres off at most."""

MARGIN_DEGREES = 0.5
"""How far zones reach beyond a projected raster before they are cut."""

MARGIN_SHARE = 0.02
"""How much farther, as a share of the raster's width or height: its bounds are computed from points on its edges."""

OPERATIONS: Mapping[str, str] = {
    "count": "count",
    "sum": "sum",
    "mean": "mean",
    "min": "min",
    "max": "max",
    "std": "stdev",
    "variance": "variance",
    "median": "median",
    "majority": "mode",
    "minority": "minority",
    "variety": "variety",
}
"""Our names of the statistics and those of exactextract."""


Statistic = Literal[
    "count", "sum", "mean", "min", "max", "std", "variance", "median", "majority", "minority", "variety"
]


@process(
    keywords=["raster", "vector", "zonal statistics", "polygons"],
    outputs={"zones": "The features with the statistics as further properties."},
    examples=[
        {
            "title": "Heights of the sample fields",
            "inputs": {"raster": {"href": "sample:elevation.tif"}, "zones": {"href": "sample:fields.geojson"}},
        },
        {
            "title": "Mean reflectance of the sample fields, red and near infrared",
            "inputs": {
                "raster": {"href": "sample:landscape.tif"},
                "zones": {"href": "sample:fields.geojson"},
                "bands": [3, 4],
                "statistics": ["mean", "std"],
            },
        },
    ],
)
def zonal_statistics(
    raster: Raster,
    zones: FeatureCollection,
    statistics: list[Statistic] | None = None,
    bands: list[Annotated[int, Field(ge=1)]] | None = None,
    prefix: Annotated[str, Field(max_length=50)] = "",
    scaled: bool = True,  # noqa: FBT001, FBT002 - inputs have names on the wire
    *,
    context: RunContext,
) -> FeatureCollection:
    """Compute zonal statistics.

    Sums up the pixels of a raster inside polygons. Each pixel counts with the share of it that lies inside the polygon,
    computed exactly; pixels without data do not count. Polygons are brought into the raster's CRS; long edges are bent
    there as they have to be. Large polygons are read window by window; median, majority, minority and variety keep the
    different values of one polygon in memory. The boxes around all polygons hold 5000 million pixels at most.

    Parameters
    ----------
    raster : Raster
        The raster, by address or upload; it has a coordinate reference system and is not rotated against it.
    zones : FeatureCollection
        Features with Polygon or MultiPolygon geometries, longitude and latitude (CRS84). One without geometry is kept.
    statistics : list of str
        What to compute. Count is the number of pixels, fractions included; std and variance are those of the
        population; majority is the value that covers most, variety the number of different values. Default: count,
        mean, min, max, std.
    bands : list of int
        Numbers of the bands, from 1. Default: all. With several, the band's name stands before the statistic's.
    prefix : str
        Stands before the names of all properties that are added, which otherwise replace those of the same name.
    scaled : bool
        Whether a band with scale and offset counts as value * scale + offset, or as stored.
    """
    question = Question(
        statistics=tuple(dict.fromkeys(statistics or Question().statistics)),
        bands=bands or (),
        prefix=prefix,
        scaled=scaled,
    )
    with raster.open() as dataset:
        faults = [*_raster_faults(dataset, raster.pointer), *_zone_faults(zones["features"], "/inputs/zones")]
        if faults:
            raise InvalidInputs(faults)
        features = zone_statistics(dataset, zones["features"], question, pointer="/inputs/zones", report=context.report)
    return FeatureCollection({**zones, "features": features})


def _raster_faults(dataset: DatasetReader, pointer: str) -> Iterator[Fault]:
    from graticule.data.rasters import check_bands, check_crs

    for check in (check_bands, check_crs, check_axes):
        try:
            check(dataset, pointer=pointer)
        except InvalidInputs as error:
            yield from error.faults


def _zone_faults(features: Sequence[Mapping[str, Any]], pointer: str) -> Iterator[Fault]:
    import shapely
    from shapely.geometry import shape

    if not features:
        yield Fault(pointer, "holds no features; send one polygon or more")
    for place, feature in enumerate(features):
        if feature.get("geometry") is None:
            continue
        zone = shape(feature["geometry"])
        if zone.geom_type not in {"Polygon", "MultiPolygon"}:
            yield Fault(pointer, f"features/{place} is a {zone.geom_type}; zones are Polygon or MultiPolygon")
        elif not zone.is_valid:
            reason = shapely.is_valid_reason(zone)
            yield Fault(pointer, f"features/{place} is no valid polygon ({reason}); repair it, e.g. with make_valid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is wanted of each zone."""

    statistics: Sequence[str] = ("count", "mean", "min", "max", "std")
    bands: Sequence[int] = ()
    prefix: str = ""
    scaled: bool = True


def zone_statistics(
    dataset: DatasetReader,
    features: Sequence[Mapping[str, Any]],
    question: Question,
    *,
    pointer: str,
    report: Callable[[int, str], None],
) -> list[dict[str, Any]]:
    """
    Return the features with statistics of the pixels inside them as further properties.

    A pixel counts with the share of it that lies inside the zone; pixels without data do not count. Zones are read
    and computed one after another, in windows of at most `WINDOW_CELLS` pixels.

    Parameters
    ----------
    dataset : DatasetReader
        An open raster with a CRS; its rows and columns run along the axes of the CRS.
    features : Sequence[Mapping[str, Any]]
        GeoJSON features with valid polygons in CRS84.
    question : Question
        Which bands and statistics, and how the properties are called.
    pointer : str
        Where the feature collection stands in the request.
    report : Callable[[int, str], None]
        Told of progress.

    Returns
    -------
    list[dict[str, Any]]
        The features in their order. A statistic that a zone does not have (no valid pixel) is null.

    Raises
    ------
    InvalidInputs
        If a zone cannot be projected, if none touches the raster, or if they cover more of it than `MOST_VALUES`.
    """
    from exactextract import exact_extract

    zones = _zones(dataset, features, pointer)
    bands = _bands(dataset, question.bands)
    _check_amount(dataset, zones, len(bands), pointer)
    operations = [f"{OPERATIONS[name]}(coverage_weight=fraction)" for name in question.statistics]
    sources = {_label(dataset, band, question.bands): _source(dataset, band, scaled=question.scaled) for band in bands}
    results = []
    for number, (feature, zone) in enumerate(zip(features, zones, strict=True)):
        report(100 * number // len(features), f"zone {number + 1} of {len(features)}")
        properties = dict(feature.get("properties") or {})
        for label, source in sources.items():
            names = [f"{question.prefix}{label}{name}" for name in question.statistics]
            values: Mapping[str, Any] = {}
            if zone is not None:
                asked = {"type": "Feature", "properties": {}, "geometry": zone.__geo_interface__}
                found = exact_extract(source, asked, operations, max_cells_in_memory=WINDOW_CELLS, output="geojson")
                values = found[0]["properties"]
            keys = [OPERATIONS[name] for name in question.statistics]
            properties |= {name: _plain(values.get(key)) for name, key in zip(names, keys, strict=True)}
        results.append({**feature, "properties": properties})
    return results


def _plain(value: Any) -> Any:
    """Return a statistic as JSON has it: not-a-number is null."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def _bands(dataset: DatasetReader, wanted: Sequence[int]) -> list[int]:
    if wrong := [
        Fault(f"/inputs/bands/{place}", f"there is no band {band}; the raster has {dataset.count}")
        for place, band in enumerate(wanted)
        if not 1 <= band <= dataset.count
    ]:
        raise InvalidInputs(wrong)
    return list(dict.fromkeys(wanted)) or list(range(1, dataset.count + 1))


def _label(dataset: DatasetReader, band: int, wanted: Sequence[int]) -> str:
    """Return what stands before the statistics of a band: nothing where only one band is looked at."""
    if (len(wanted) or dataset.count) == 1:
        return ""
    described = [description for description in dataset.descriptions if description]
    name = dataset.descriptions[band - 1]
    return f"{name}_" if name and described.count(name) == 1 else f"b{band}_"


def _zones(dataset: DatasetReader, features: Sequence[Mapping[str, Any]], pointer: str) -> list[BaseGeometry | None]:
    """Return the polygons of features in the CRS of the raster; None for a feature without geometry."""
    from shapely.geometry import box

    faults: list[Fault] = []
    around = _surroundings(dataset)
    zones = [
        _zone(feature, f"features/{place}", dataset, around, pointer, faults) for place, feature in enumerate(features)
    ]
    if faults:
        raise InvalidInputs(faults)
    if not any(zone is not None and zone.intersects(box(*_extent(dataset))) for zone in zones):
        where = ", ".join(f"{value:.6g}" for value in _bounds84(dataset))
        message = f"no zone touches the raster, which covers {where} (west, south, east, north in degrees); move them"
        raise InvalidInputs([Fault(pointer, message)])
    return zones


def _extent(dataset: DatasetReader) -> tuple[float, float, float, float]:
    """Return the smallest and largest coordinates of a raster, however its rows and columns run."""
    left, bottom, right, top = dataset.bounds
    return min(left, right), min(bottom, top), max(left, right), max(bottom, top)


def _check_amount(dataset: DatasetReader, zones: Sequence[BaseGeometry | None], bands: int, pointer: str) -> None:
    """Raise InvalidInputs if more pixels lie around zones than are read at most."""
    from graticule.data.rasters import MOST_VALUES

    west, south, east, north = _extent(dataset)
    pixels = 0.0
    for zone in zones:
        if zone is None or zone.is_empty:
            continue
        left, bottom, right, top = zone.bounds
        width = max(0.0, min(right, east) - max(left, west)) / abs(dataset.transform.a)
        height = max(0.0, min(top, north) - max(bottom, south)) / abs(dataset.transform.e)
        pixels += width * height
    if pixels * bands > MOST_VALUES:
        message = (
            f"the boxes around the zones hold {round(pixels) * bands} pixels, all bands counted, more than "
            f"{MOST_VALUES}; send fewer or smaller ones, or the parts of a MultiPolygon one by one, or bring the "
            "raster to a coarser resolution with the process reproject"
        )
        raise InvalidInputs([Fault(pointer, message)])


def _bounds84(dataset: DatasetReader) -> tuple[float, float, float, float]:
    from rasterio.warp import transform_bounds

    bounds: tuple[float, float, float, float] = transform_bounds(dataset.crs, "OGC:CRS84", *_extent(dataset))
    return bounds


def _surroundings(dataset: DatasetReader) -> BaseGeometry | None:
    """Return what lies in and around a raster in CRS84, to cut zones to; None where they must not be cut."""
    import numpy as np
    import shapely
    from rasterio._err import CPLE_BaseError
    from rasterio.warp import transform
    from shapely.geometry import box

    if dataset.crs.is_geographic:
        return None
    left, bottom, right, top = _extent(dataset)
    corners = np.array([(left, bottom), (right, bottom), (right, top), (left, top)])
    try:
        there = np.column_stack(transform(dataset.crs, "OGC:CRS84", corners[:, 0], corners[:, 1]))
        west, south, east, north = _bounds84(dataset)
    except CPLE_BaseError:
        return None
    # A raster that reaches beyond the globe (a full disk, say) has bounds that leave out a part of it.
    pixel = max(abs(dataset.transform.a), abs(dataset.transform.e))
    if not math.isfinite(west + south + east + north) or not np.allclose(
        _projected(there, dataset), corners, rtol=1e-6, atol=pixel
    ):
        return None
    if west > east:
        east += 360
    margin_x = MARGIN_DEGREES + MARGIN_SHARE * (east - west)
    margin_y = MARGIN_DEGREES + MARGIN_SHARE * (north - south)
    # Zones may go on past 180 degrees, and rasters may lie over it.
    return shapely.union_all(
        [
            box(west - margin_x + turn, south - margin_y, east + margin_x + turn, north + margin_y)
            for turn in (-360, 0, 360)
        ]
    )


def _zone(
    feature: Mapping[str, Any],
    place: str,
    dataset: DatasetReader,
    around: BaseGeometry | None,
    pointer: str,
    faults: list[Fault],
) -> BaseGeometry | None:
    import shapely
    from shapely.geometry import box, shape

    if feature.get("geometry") is None:
        return None
    zone = shapely.force_2d(shape(feature["geometry"]))
    cut = around is not None and not around.covers(zone)
    if cut:
        # Far away from a raster, its CRS folds or has no coordinates at all.
        zone = _polygons(zone.intersection(around))
        if zone.is_empty:
            # exactextract takes no empty zone; one beside the raster counts as nothing.
            left, bottom, right, top = _extent(dataset)
            return box(2 * right - left, bottom, 3 * right - 2 * left, top)
    if not dataset.crs.is_geographic:
        zone = shapely.segmentize(zone, EDGE_DEGREES)
    zone = shapely.transform(zone, lambda points: _projected(points, dataset))
    if not math.isfinite(sum(zone.bounds)):
        faults.append(Fault(pointer, f"{place} lies outside what the raster's CRS can show; cut it there"))
        return None
    if cut and not zone.is_valid:
        # Around a pole, the two edges at 180 degrees come to lie on each other.
        zone = _polygons(shapely.make_valid(zone, method="structure", keep_collapsed=False))
    return zone


def _polygons(geometry: BaseGeometry) -> BaseGeometry:
    """Return the polygons of what an intersection gave, without the lines and points where it only touches."""
    import shapely
    from shapely.geometry import MultiPolygon

    return MultiPolygon([part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"])


def _projected(points: Any, dataset: DatasetReader) -> Any:
    """Return points of CRS84 in the CRS of a raster; infinite if it has no place for one of them."""
    import numpy as np
    from rasterio._err import CPLE_BaseError
    from rasterio.warp import transform

    try:
        return np.column_stack(transform("OGC:CRS84", dataset.crs, points[:, 0], points[:, 1]))
    except CPLE_BaseError:
        return np.full_like(points, np.inf)


def check_axes(dataset: DatasetReader, *, pointer: str) -> None:
    """Raise InvalidInputs if a raster is rotated or sheared against the axes of its CRS."""
    if dataset.transform.b or dataset.transform.d:
        raise InvalidInputs(
            [Fault(pointer, "is rotated against the axes of its CRS; run the process reproject on it first")]
        )


def _source(dataset: DatasetReader, band: int, *, scaled: bool) -> Any:
    """Return a band as exactextract reads it: by window, masked, the northern row first."""
    import numpy as np
    from exactextract.raster import RasterSource
    from rasterio.windows import Window

    from graticule.data.rasters import read_pixels

    upside_down = dataset.transform.e > 0

    class BandSource(RasterSource):  # type: ignore[misc]  # exactextract is not typed
        def res(self) -> tuple[float, float]:
            return abs(dataset.transform.a), abs(dataset.transform.e)

        def extent(self) -> tuple[float, float, float, float]:
            return _extent(dataset)

        def srs_wkt(self) -> str | None:
            return None

        def nodata_value(self) -> None:
            return None

        def read_window(self, x0: int, y0: int, nx: int, ny: int) -> Any:
            row = dataset.height - y0 - ny if upside_down else y0
            pixels = read_pixels(dataset, band, Window(x0, row, nx, ny), scaled=scaled)
            # Not a masked array: exactextract loses the mask of some windows of a zone that it cuts.
            values = np.where(pixels.valid, pixels.values, np.nan)
            return values[::-1].copy() if upside_down else values

    source = BandSource()
    source.set_name("band")
    return source
