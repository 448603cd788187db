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
        They may lie over a pole or over 180 degrees, cut there or going on past it, whatever the raster's CRS is.
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

    from graticule.data.globe import shape_of

    if not features:
        yield Fault(pointer, "holds no features; send one polygon or more")
    for place, feature in enumerate(features):
        if feature.get("geometry") is None:
            continue
        zone = shape_of(feature["geometry"])
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
    from shapely.geometry import box

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
                # exactextract takes no empty zone; one beside the raster counts as nothing.
                place = box(-2, -2, -1, -1) if zone.is_empty else zone
                asked = {"type": "Feature", "properties": {}, "geometry": place.__geo_interface__}
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
    """Return the polygons of features on the pixels of the raster; None for a feature without geometry."""
    from graticule.data.globe import shape_of
    from graticule.data.overlay import PixelPlane, Unplaceable

    faults: list[Fault] = []
    zones: list[BaseGeometry | None] = []
    plane = PixelPlane(dataset)
    for place, feature in enumerate(features):
        zone = None
        if feature.get("geometry") is not None:
            try:
                zone = plane.place(shape_of(feature["geometry"]))
            except Unplaceable as error:
                faults.append(Fault(pointer, f"features/{place} {error}"))
        zones.append(zone)
    if faults:
        raise InvalidInputs(faults)
    if not any(zone is not None and zone.intersects(plane.box) for zone in zones):
        where = ", ".join(f"{value:.6g}" for value in _bounds84(dataset))
        message = f"no zone touches the raster, which covers {where} (west, south, east, north in degrees); move them"
        raise InvalidInputs([Fault(pointer, message)])
    return zones


def _check_amount(dataset: DatasetReader, zones: Sequence[BaseGeometry | None], bands: int, pointer: str) -> None:
    """Raise InvalidInputs if more pixels lie around zones than are read at most."""
    from graticule.data.rasters import MOST_VALUES

    pixels = 0.0
    for zone in zones:
        if zone is None or zone.is_empty:
            continue
        left, bottom, right, top = zone.bounds
        width = max(0.0, min(right, dataset.width) - max(left, 0.0))
        height = max(0.0, min(top, dataset.height) - max(bottom, 0.0))
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

    from graticule.data.overlay import bounds_of

    bounds: tuple[float, float, float, float] = transform_bounds(dataset.crs, "OGC:CRS84", *bounds_of(dataset))
    return bounds


def check_axes(dataset: DatasetReader, *, pointer: str) -> None:
    """Raise InvalidInputs if a raster is rotated or sheared against the axes of its CRS."""
    if dataset.transform.b or dataset.transform.d:
        raise InvalidInputs(
            [Fault(pointer, "is rotated against the axes of its CRS; run the process reproject on it first")]
        )


def _source(dataset: DatasetReader, band: int, *, scaled: bool) -> Any:
    """Return a band as exactextract reads it: by window, masked, on the plane of its pixels."""
    import numpy as np
    from exactextract.raster import RasterSource
    from rasterio.windows import Window

    from graticule.data.rasters import read_pixels

    class BandSource(RasterSource):  # type: ignore[misc]  # exactextract is not typed
        def res(self) -> tuple[float, float]:
            return 1.0, 1.0

        def extent(self) -> tuple[float, float, float, float]:
            return 0.0, 0.0, float(dataset.width), float(dataset.height)

        def srs_wkt(self) -> str | None:
            return None

        def nodata_value(self) -> None:
            return None

        def read_window(self, x0: int, y0: int, nx: int, ny: int) -> Any:
            pixels = read_pixels(dataset, band, Window(x0, y0, nx, ny), scaled=scaled)
            # Not a masked array: exactextract loses the mask of some windows of a zone that it cuts.
            return np.where(pixels.valid, pixels.values, np.nan)

    source = BandSource()
    source.set_name("band")
    return source
