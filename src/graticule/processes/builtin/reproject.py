"""Bring a raster into another coordinate reference system or onto another grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from graticule import COG, Raster, RunContext, process
from graticule.errors import Fault, InvalidInputs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
    from rasterio.io import DatasetReader, DatasetWriter
    from rasterio.transform import Affine
    from rasterio.windows import Window

MERCATOR_LATITUDE = 85.0511287798066
"""Where Web Mercator ends, degrees: its map is a square. Nearer to the poles it has no sensible pixels."""

WEB_MERCATOR = 3857


Method = Literal[
    "nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode", "min", "max", "med", "q1", "q3"
]
"""Resampling methods, as GDAL's warper knows them."""


@process(
    keywords=["raster", "reprojection", "warp", "resampling", "CRS"],
    outputs={"result": "The raster on its new grid."},
    examples=[
        {
            "title": "Sample landscape to Web Mercator, 20 m",
            "inputs": {
                "raster": {"href": "sample:landscape.tif"},
                "crs": "EPSG:3857",
                "resolution": 20,
                "resampling": "bilinear",
            },
        },
        {
            "title": "Sample heights to longitude and latitude",
            "inputs": {"raster": {"href": "sample:elevation.tif"}, "crs": "EPSG:4326", "resampling": "cubic"},
        },
    ],
)
def reproject(
    raster: Raster,
    crs: Annotated[str, Field(min_length=1, max_length=200)] | None = None,
    resolution: Annotated[float, Field(gt=0)] | None = None,
    resampling: Method = "nearest",
    like: Raster | None = None,
    *,
    context: RunContext,
) -> COG:
    """Reproject a raster.

    Brings a raster into another coordinate reference system, to another resolution or onto the grid of another raster.
    Types, scales, offsets, names and no-data values of the bands stay as they are. Where the result has no source it
    has the no-data value; a raster without one gets a mask. Positions are right to an eighth of a pixel. Into Web
    Mercator, what lies beyond 85.05 degrees of latitude is left out.

    Parameters
    ----------
    raster : Raster
        The raster, by address or upload; it has a coordinate reference system.
    crs : str
        The coordinate reference system of the result: EPSG:32632, or as URN or URI. Default: as the raster.
    resolution : float
        Edge of a pixel in units of `crs` (metres or degrees, mostly). Default: about as many pixels as the raster has,
        or, if it crosses the antimeridian, pixels about as large as its own.
    resampling : str
        How new pixels come from old ones. Classes want nearest or mode, measurements bilinear or cubic, and average to
        a coarser resolution.
    like : Raster
        A raster whose CRS, pixel size, origin and extent the result takes over, instead of `crs` and `resolution`.
    """
    from graticule.data.rasters import check_bands

    path = context.folder / "result.tif"
    with raster.open_georeferenced() as dataset:
        check_bands(dataset, pointer=raster.pointer)
        grid = _wanted_grid(dataset, crs, resolution, like)
        warp(dataset, grid, path, method=resampling, report=context.report)
    return COG(path)


def _wanted_grid(dataset: DatasetReader, crs: str | None, resolution: float | None, like: Raster | None) -> Grid:
    from graticule.data.rasters import parse_crs

    if like is not None:
        if faults := [
            Fault(f"/inputs/{name}", "the raster like says this already; leave one of the two out")
            for name, value in (("crs", crs), ("resolution", resolution))
            if value is not None
        ]:
            raise InvalidInputs(faults)
        with like.open_georeferenced() as pattern:
            grid = grid_like(pattern)
        check_size(grid, pointer=like.pointer)
        return grid
    if crs is None and resolution is None:
        raise InvalidInputs([Fault("/inputs/crs", "give a CRS, a resolution, or the input like: one of them at least")])
    grid = plan_grid(dataset, parse_crs(crs, pointer="/inputs/crs") if crs else dataset.crs, resolution)
    check_size(grid)
    return grid


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Where the pixels of the result lie."""

    crs: CRS
    transform: Affine
    width: int
    height: int


def grid_like(like: DatasetReader) -> Grid:
    """Return the grid of another raster."""
    return Grid(crs=like.crs, transform=like.transform, width=like.width, height=like.height)


def plan_grid(dataset: DatasetReader, crs: CRS, resolution: float | None, *, pointer: str = "/inputs/crs") -> Grid:
    """
    Return the grid in another CRS that covers a raster.

    Parameters
    ----------
    dataset : DatasetReader
        An open raster with a CRS.
    crs : CRS
        The CRS of the result.
    resolution : float | None
        Edge of a pixel in units of `crs`. None: so that the pixels along the diagonal stay about as many.
    pointer : str
        Where the CRS stood in the request.

    Returns
    -------
    Grid
        The grid, north up.

    Raises
    ------
    InvalidInputs
        If the raster does not lie where the CRS is defined.

    Notes
    -----
    Into Web Mercator (EPSG:3857), what lies beyond 85.05 degrees of latitude is left out.
    """
    from rasterio.errors import CRSError, RasterioError
    from rasterio.transform import array_bounds, from_origin
    from rasterio.warp import calculate_default_transform

    left, bottom, right, top = dataset.bounds
    height = float(dataset.height)
    if dataset.crs.is_geographic and crs.to_epsg() == WEB_MERCATOR:
        whole, low, high = top - bottom, min(bottom, top), max(bottom, top)
        bottom, top = max(low, -MERCATOR_LATITUDE), min(high, MERCATOR_LATITUDE)
        height = max(1.0, height * (top - bottom) / abs(whole))
    parts = [(left, right)]
    if dataset.crs.is_geographic and (left < -180 or right > 180):
        # On most maps they lie at opposite edges. The pixels are as large as those of the widest, which comes first.
        parts = _parts(left, right)
    whole_width = right - left
    boxes = []
    try:
        for west, east in parts:
            columns = max(1, round(dataset.width * (east - west) / whole_width))
            transform, width, rows = calculate_default_transform(
                dataset.crs, crs, columns, round(height), west, bottom, east, top, resolution=resolution
            )
            resolution = transform.a
            boxes.append(array_bounds(rows, width, transform))
    except (RasterioError, CRSError, ValueError, OverflowError) as error:
        message = f"the raster does not lie where {crs.to_string()} is defined ({error}); choose another CRS"
        raise InvalidInputs([Fault(pointer, message)]) from error
    west, north = min(box[0] for box in boxes), max(box[3] for box in boxes)
    width = round((max(box[2] for box in boxes) - west) / transform.a)
    rows = round((north - min(box[1] for box in boxes)) / transform.a)
    return Grid(crs=crs, transform=from_origin(west, north, transform.a, transform.a), width=width, height=rows)


def _parts(west: float, east: float) -> list[tuple[float, float]]:
    """Return where the parts of a range of longitudes lie that is cut at the antimeridian, in -180 to 180, by width."""
    turns = range(math.floor((west + 180) / 360), math.ceil((east - 180) / 360) + 1)
    parts = [(max(west - 360 * turn, -180), min(east - 360 * turn, 180)) for turn in turns]
    return sorted((part for part in parts if part[0] < part[1]), key=lambda part: part[0] - part[1])


def check_size(grid: Grid, *, pointer: str = "/inputs/resolution") -> None:
    """Raise InvalidInputs if a grid has no pixels, or too many: nearly always a resolution in the wrong unit."""
    from graticule.data.rasters import MOST_PIXELS

    size = f"{grid.width} x {grid.height} pixels"
    if grid.width < 1 or grid.height < 1:
        raise InvalidInputs([Fault(pointer, f"the result would have {size}; give a finer resolution")])
    pixels = grid.width * grid.height
    if pixels > MOST_PIXELS:
        coarser = abs(grid.transform.a) * math.sqrt(pixels / MOST_PIXELS)
        unit = grid.crs.linear_units if grid.crs.is_projected else "degree"
        message = f"the result would have {size}, more than {MOST_PIXELS}; give at least {coarser:.3g} ({unit})"
        raise InvalidInputs([Fault(pointer, message)])


def warp(
    dataset: DatasetReader, grid: Grid, path: Path, *, method: str = "nearest", report: Callable[[int, str], None]
) -> None:
    """
    Write a raster on another grid, window by window, as a cloud-optimized GeoTIFF.

    Type, scale, offset, units, descriptions and no-data value of the bands stay. Where the result has no source, it has
    the no-data value; a raster without one gets a mask instead.

    Parameters
    ----------
    dataset : DatasetReader
        An open raster with a CRS.
    grid : Grid
        Where the result lies.
    path : Path
        The file to write.
    method : str
        A resampling method of GDAL's warper, e.g. ``bilinear``.
    report : Callable[[int, str], None]
        Told of progress.
    """
    from rasterio.enums import ColorInterp, Resampling

    from graticule.data.rasters import tracked, windows_of, writing_cog

    masked = dataset.nodata is None
    bands = [band for band in dataset.indexes if dataset.colorinterp[band - 1] != ColorInterp.alpha]
    profile = {
        "width": grid.width,
        "height": grid.height,
        "count": len(bands),
        "dtype": dataset.dtypes[0],
        "crs": grid.crs,
        "transform": grid.transform,
        "nodata": dataset.nodata,
    }
    with (
        _with_alpha(dataset) if masked else nullcontext(dataset) as source,
        writing_cog(path, profile, bands=[dataset.descriptions[band - 1] for band in bands]) as target,
    ):
        target.scales = [dataset.scales[band - 1] for band in bands]
        target.offsets = [dataset.offsets[band - 1] for band in bands]
        target.units = [dataset.units[band - 1] or "" for band in bands]
        target.colorinterp = [dataset.colorinterp[band - 1] for band in bands]
        _copy_palette(dataset, target)
        for window in tracked(windows_of(grid.height, grid.width), report, "warping", last=90):
            pixels = _warped(source, bands, grid, window, Resampling[method])
            target.write(pixels[: len(bands)], window=window)
            if masked:
                target.write_mask((pixels[-1] > 0).astype("uint8") * 255, window=window)
        report(90, "laying out the file")


def _copy_palette(dataset: DatasetReader, target: DatasetWriter) -> None:
    """Give a result of one palette band the colours of its source."""
    from rasterio.enums import ColorInterp

    if list(dataset.colorinterp) == [ColorInterp.palette]:
        target.write_colormap(1, dataset.colormap(1))


def _with_alpha(dataset: DatasetReader) -> AbstractContextManager[DatasetReader]:
    """Return a raster with a band that says where it has data."""
    from rasterio.enums import ColorInterp
    from rasterio.vrt import WarpedVRT

    return nullcontext(dataset) if ColorInterp.alpha in dataset.colorinterp else WarpedVRT(dataset, add_alpha=True)


def _warped(source: DatasetReader, bands: list[int], grid: Grid, window: Window, method: Resampling) -> NDArray[Any]:
    """
    Return a window of the bands on a grid; without a no-data value, where it is above 0 a last band says it has data.

    A `WarpedVRT` on this grid would lose what lies beyond 180 degrees of longitude, and about a CRS that crosses them.
    """
    import numpy as np
    import rasterio
    from rasterio.enums import ColorInterp
    from rasterio.errors import RasterioIOError, WarpOperationError
    from rasterio.warp import reproject as warp_into

    masked = source.nodata is None
    alpha = source.colorinterp.index(ColorInterp.alpha) + 1 if masked else 0
    pixels = np.zeros((len(bands) + masked, round(window.height), round(window.width)), source.dtypes[0])
    try:
        warp_into(
            rasterio.band(source, bands),
            pixels,
            dst_transform=grid.transform @ rasterio.Affine.translation(window.col_off, window.row_off),
            dst_crs=grid.crs,
            src_nodata=source.nodata,
            dst_nodata=source.nodata,
            src_alpha=alpha,
            dst_alpha=len(pixels) if masked else 0,
            resampling=method,
        )
    except WarpOperationError as error:  # what a dataset raises that cannot be read, and is known by
        raise RasterioIOError(f"read failed: {error}") from error
    return pixels
