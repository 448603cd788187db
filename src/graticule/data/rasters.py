"""Rasters a window at a time: reading with masks, writing cloud-optimized GeoTIFF, checks that name the input.

No function here holds more than one window of a raster. Only job processes import this file: it loads rasterio.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioIOError
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.windows import Window

from graticule.errors import Fault, InvalidInputs

# GDAL keeps decoded blocks up to a twentieth of the machine's memory unless this says otherwise when it first reads.
os.environ.setdefault("GDAL_CACHEMAX", "64MB")

WINDOW_PIXELS = 1 << 18
"""Pixels of one band in a window: 2 MiB as float64, so that a formula's intermediate values stay in the CPU's cache."""

BLOCK = 512
"""Edge of a tile in files that are written, pixels."""

ALIGNMENT = 1e-3
"""How far two grids may lie apart at any corner and still be one grid, as a share of a pixel."""

MOST_PIXELS = 500_000_000
"""Pixels of a band that are read or written at most. A file of a few kilobytes can claim any number of empty ones."""

MOST_VALUES = 10 * MOST_PIXELS
"""Pixels of all bands together that are read at most; some minutes of work."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """One band in one window."""

    values: NDArray[Any]
    """Shape ``(y, x)``, in the type of the file, or float64 when scale and offset were applied."""

    valid: NDArray[np.bool_]
    """True where there is data: inside every mask and neither NaN nor infinite. Shape ``(y, x)``."""


def windows_of(height: int, width: int, block: tuple[int, int] = (BLOCK, BLOCK)) -> list[Window]:
    """
    Return windows that cover a raster once, row by row, each of about `WINDOW_PIXELS` pixels.

    Parameters
    ----------
    height, width : int
        Size of the raster, pixels.
    block : tuple[int, int]
        Height and width of a stored block, pixels. Windows end at block edges, so that no block is decoded twice.

    Returns
    -------
    list[Window]
        The windows.
    """
    block_height, block_width = min(block[0], height), min(block[1], width)
    columns = _multiple(block_width, width, WINDOW_PIXELS // block_height)
    rows = _multiple(block_height, height, WINDOW_PIXELS // columns)
    return [
        Window(column, row, min(columns, width - column), min(rows, height - row))
        for row in range(0, height, rows)
        for column in range(0, width, columns)
    ]


def _multiple(block: int, size: int, most: int) -> int:
    """Return the largest multiple of `block` within `most`, at least one block unless a block is larger than that."""
    if block > most:
        return max(1, most)
    return min(size, block * (most // block))


def windows_in(dataset: DatasetReader) -> list[Window]:
    """Return windows over an open raster along its own blocks."""
    return windows_of(dataset.height, dataset.width, dataset.block_shapes[0])


@contextmanager
def reading(pointer: str) -> Iterator[None]:
    """
    Report a file that cannot be read to its end as a fault of the input at `pointer`.

    `Raster.open` does this for one raster; where several are open, each reading needs to say whose it is.
    """
    try:
        yield
    except RasterioIOError as error:
        message = "the content is damaged or cut short; send the whole file"
        raise InvalidInputs([Fault(pointer, message)]) from error


def read_pixels(dataset: DatasetReader, band: int, window: Window, *, scaled: bool = False) -> Pixels:
    """
    Read one band in one window.

    Parameters
    ----------
    dataset : DatasetReader
        An open raster.
    band : int
        From 1.
    window : Window
        Which pixels.
    scaled : bool
        Apply the band's scale and offset: ``value * scale + offset``, float64.

    Returns
    -------
    Pixels
        Values and where they are valid.
    """
    values = dataset.read(band, window=window)
    valid = dataset.read_masks(band, window=window) != 0
    if values.dtype.kind == "f":
        valid &= np.isfinite(values)
    scale, offset = dataset.scales[band - 1], dataset.offsets[band - 1]
    if scaled and (scale, offset) != (1.0, 0.0):
        values = values * np.float64(scale) + offset
    return Pixels(values, valid)


def check_bands(dataset: DatasetReader, *, pointer: str) -> None:
    """Raise InvalidInputs if a raster has no band, or one of complex numbers."""
    if not dataset.count:
        raise InvalidInputs([Fault(pointer, "has no raster bands; send one of the rasters that the file contains")])
    if any(dtype.startswith("complex") for dtype in dataset.dtypes):
        raise InvalidInputs([Fault(pointer, "holds complex numbers; send real ones, e.g. their magnitude")])


def check_pixels(dataset: DatasetReader, *, pointer: str, bands: int = 1) -> None:
    """
    Raise InvalidInputs if a raster has more than `MOST_PIXELS` pixels, or the bands together more than `MOST_VALUES`.

    Parameters
    ----------
    dataset : DatasetReader
        An open raster.
    pointer : str
        Where it stood in the request.
    bands : int
        How many bands are read.
    """
    pixels = dataset.width * dataset.height
    size = f"{dataset.width} x {dataset.height} pixels"
    if pixels > MOST_PIXELS:
        message = (
            f"has {size}, more than {MOST_PIXELS}; send a part of it (gdal_translate -srcwin …), or bring it to a "
            "coarser resolution with the process reproject"
        )
        raise InvalidInputs([Fault(pointer, message)])
    if pixels * bands > MOST_VALUES:
        message = f"{bands} bands of {size} are more than {MOST_VALUES}; ask for {MOST_VALUES // pixels} at most"
        raise InvalidInputs([Fault(pointer, message)])


def check_crs(dataset: DatasetReader, *, pointer: str) -> CRS:
    """Return the CRS of a raster; raise InvalidInputs with the remedy if it has none."""
    if dataset.crs is None:
        raise InvalidInputs(
            [Fault(pointer, "has no coordinate reference system; write one into the file (gdal_edit.py -a_srs EPSG:…)")]
        )
    return dataset.crs


def check_grid(dataset: DatasetReader, first: DatasetReader, *, pointer: str) -> None:
    """
    Check that a raster lies on the grid of another one, pixel on pixel.

    Raises
    ------
    InvalidInputs
        If CRS, size or place differ; the fault says in what.
    """
    remedy = "bring it onto the grid of the first one with the process reproject and its input like"
    if dataset.crs != first.crs:
        names = [_crs_name(item) for item in (dataset, first)]
        raise InvalidInputs([Fault(pointer, f"is in {names[0]}, the first one in {names[1]}; {remedy}")])
    if dataset.shape != first.shape:
        sizes = [f"{item.width} x {item.height}" for item in (dataset, first)]
        raise InvalidInputs([Fault(pointer, f"has {sizes[0]} pixels, the first one {sizes[1]}; {remedy}")])
    corners = [(0, 0), (first.width, 0), (0, first.height), (first.width, first.height)]
    to_pixels = ~first.transform @ dataset.transform
    if any(math.dist(corner, to_pixels @ corner) > ALIGNMENT for corner in corners):
        raise InvalidInputs([Fault(pointer, f"does not lie on the pixels of the first one; {remedy}")])


def _crs_name(dataset: DatasetReader) -> str:
    return dataset.crs.to_string() if dataset.crs else "no CRS"


def parse_crs(text: str, *, pointer: str) -> CRS:
    """
    Return the CRS that a code names.

    Parameters
    ----------
    text : str
        ``EPSG:32632``, ``urn:ogc:def:crs:EPSG::32632`` or ``http://www.opengis.net/def/crs/EPSG/0/32632``; ``OGC``,
        ``ESRI`` and ``IAU_2015`` codes too. Definitions in full are not taken: they can name files of this machine.
    pointer : str
        Where the text stood in the request.

    Returns
    -------
    CRS
        The CRS.

    Raises
    ------
    InvalidInputs
        If there is no such CRS, or it is no map: of heights alone, geocentric or of a building site.
    """
    parts = [part for part in text.strip().strip("[]").rsplit("def/crs/", 1)[-1].replace("/", ":").split(":") if part]
    if parts[:4] == ["urn", "ogc", "def", "crs"]:
        parts = parts[4:]
    try:
        if len(parts) in (2, 3) and all(part.replace("_", "").replace(".", "").isalnum() for part in parts):
            crs = CRS.from_user_input(f"{parts[0].upper()}:{parts[-1].upper()}")
            if crs.is_geographic or crs.is_projected:
                return crs
            message = f"{text!r} is no CRS of a map; give a geographic or projected one, e.g. EPSG:32632"
            raise InvalidInputs([Fault(pointer, message)])
    except CRSError:
        pass
    raise InvalidInputs([Fault(pointer, f"{text!r} is no known CRS; give an authority and a code, e.g. EPSG:32632")])


@contextmanager
def writing_cog(path: Path, profile: dict[str, Any], *, bands: Sequence[str | None] = ()) -> Iterator[DatasetWriter]:
    """
    Open a raster for writing window by window; at the end it becomes a cloud-optimized GeoTIFF.

    Parameters
    ----------
    path : Path
        The file to make. A plain GeoTIFF of the same size stands beside it while it is written.
    profile : dict[str, Any]
        ``width``, ``height``, ``count``, ``dtype``, ``crs``, ``transform``, ``nodata`` as rasterio takes them.
    bands : Sequence[str | None]
        Descriptions of the bands.

    Yields
    ------
    DatasetWriter
        The raster; write windows of whole tiles in any order.

    References
    ----------
    OGC 21-026, Cloud Optimized GeoTIFF.
    """
    plain = path.with_name(f".{path.stem}.plain.tif")
    layout = {"driver": "GTiff", "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "pixel"}
    packing = {"compress": "zstd", "zstd_level": 1, "bigtiff": "IF_SAFER", "sparse_ok": True}
    try:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            with rasterio.open(plain, "w", **profile, **layout, **packing) as target:
                for number, description in enumerate(bands, start=1):
                    if description:
                        target.set_band_description(number, description)
                yield target
            rasterio.shutil.copy(plain, path, driver="COG", **_cog_options(profile["dtype"]))
    finally:
        plain.unlink(missing_ok=True)


def _cog_options(dtype: str) -> dict[str, Any]:
    continuous = np.dtype(dtype).kind == "f"
    return {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "FLOATING_POINT" if continuous else "STANDARD",
        "BLOCKSIZE": BLOCK,
        "BIGTIFF": "IF_SAFER",
        "OVERVIEW_RESAMPLING": "AVERAGE" if continuous else "NEAREST",
    }


def tracked(
    windows: Sequence[Window], report: Callable[[int, str], None], message: str, *, first: int = 0, last: int = 100
) -> Iterator[Window]:
    """Yield windows; before each that begins a new percent between `first` and `last`, call `report`."""
    told = -1
    for number, window in enumerate(windows):
        percent = first + (last - first) * number // len(windows)
        if percent != told:
            report(percent, message)
            told = percent
        yield window
