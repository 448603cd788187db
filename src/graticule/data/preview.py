"""A raster as a small picture: read at reduced size, stretched, without data transparent.

This runs in a process of its own that ends with the picture; the web process never opens rasters.
"""

from __future__ import annotations

import resource
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader, MemoryFile

from graticule.data.fetch import FetchPolicy, RemoteFile

EDGE = 1024
"""Longest edge of a picture, pixels."""

DRIVERS = ("GTiff", "PNG", "JPEG", "JP2OpenJPEG", "WEBP")
"""Formats that are opened; none of them can name other files."""

STRETCH = (2.0, 98.0)
"""Percentiles that become the ends of the scale, so that a few outliers do not flatten everything else."""

MEMORY_BYTES = 3 << 30
CPU_SECONDS = 30

_RAMP = np.array([(68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37)])
"""From low to high; dark to light, also for those who do not tell red from green."""


def render_preview(place: Path | str) -> bytes:
    """
    Return a raster as a PNG with transparency.

    Three bands or more are shown as red, green and blue: those of these names, or of this colour interpretation, or
    else the first three. Of fewer, the first is shown on a scale of colours, or in its own palette.

    Parameters
    ----------
    place : Path or str
        A file in one of the formats `DRIVERS`, or the http(s) address of one, of which only what is needed is read.

    Returns
    -------
    bytes
        The picture, at most `EDGE` pixels wide and high.
    """
    environment = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR")
    with environment, _opened(place) as source:
        shrink = max(1.0, max(source.width, source.height) / EDGE)
        shape = (max(1, round(source.height / shrink)), max(1, round(source.width / shrink)))
        colours = _colour_bands(source)
        picture = _single_band(source, shape) if colours is None else _true_colours(source, colours, shape)
    return _png(picture)


@contextmanager
def _opened(place: Path | str) -> Iterator[DatasetReader]:
    if isinstance(place, Path):
        with DatasetReader(str(place), driver=list(DRIVERS)) as source:
            yield source
        return
    # The address comes from the service's own storage, which may well be a private one.
    with RemoteFile(place, FetchPolicy(allow_private_addresses=True)) as remote, _remote(remote) as source:
        yield source


def _remote(remote: RemoteFile) -> DatasetReader:
    """Open a raster by the first driver that knows it: of what has an opener, rasterio takes one driver at a time."""
    for driver in DRIVERS:
        with suppress(RasterioIOError):
            return rasterio.open("remote", driver=driver, opener=remote.opener)
    raise RasterioIOError(f"no raster of {', '.join(DRIVERS)}")


def _colour_bands(source: DatasetReader) -> tuple[int, int, int] | None:
    """Return the bands that are red, green and blue, from 1; None if there are not three."""
    if source.count < 3:
        return None
    names = [(text or "").lower() for text in source.descriptions]
    if {"red", "green", "blue"} <= set(names):
        return names.index("red") + 1, names.index("green") + 1, names.index("blue") + 1
    meanings = list(source.colorinterp)
    wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(meaning in meanings for meaning in wanted):
        red, green, blue = (meanings.index(meaning) + 1 for meaning in wanted)
        return red, green, blue
    return 1, 2, 3


def _read(source: DatasetReader, band: int, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return a band at reduced size and where it is valid."""
    values = source.read(band, out_shape=shape, resampling=Resampling.nearest)
    valid = source.read_masks(band, out_shape=shape, resampling=Resampling.nearest) != 0
    if values.dtype.kind == "c":
        values = np.abs(values)
    if values.dtype.kind == "f":
        valid &= np.isfinite(values)
    return values, valid


def _true_colours(source: DatasetReader, bands: tuple[int, int, int], shape: tuple[int, int]) -> NDArray[np.uint8]:
    picture = np.zeros((4, *shape), dtype="uint8")
    read = [_read(source, band, shape) for band in bands]
    valid = np.logical_and.reduce([mask for _, mask in read])
    for layer, (values, _) in enumerate(read):
        picture[layer] = values if values.dtype == np.uint8 else _stretched(values, valid) * 255
    picture[3] = valid * 255
    return picture


def _single_band(source: DatasetReader, shape: tuple[int, int]) -> NDArray[np.uint8]:
    values, valid = _read(source, 1, shape)
    picture = np.zeros((4, *shape), dtype="uint8")
    if source.colorinterp[0] == ColorInterp.palette:
        palette = np.zeros((256, 3), dtype="uint8")
        for index, colour in source.colormap(1).items():
            palette[index & 255] = colour[:3]
        picture[:3] = np.moveaxis(palette[values.astype("int64") & 255], -1, 0)
    else:
        place = _stretched(values, valid) * (len(_RAMP) - 1)
        for layer in range(3):
            picture[layer] = np.interp(place, np.arange(len(_RAMP)), _RAMP[:, layer])
    picture[3] = valid * 255
    return picture


def _stretched(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return values between 0 and 1, by the percentiles of those that are valid."""
    stretched: NDArray[np.float64] = np.zeros(values.shape)
    if not valid.any():
        return stretched
    known = values[valid].astype("float64")
    low, high = np.percentile(known, STRETCH)
    if low == high:
        low, high = known.min(), known.max()
    if low == high:
        stretched[valid] = 0.5
        return stretched
    stretched[valid] = np.clip((known - low) / (high - low), 0, 1)
    return stretched


def _png(picture: NDArray[np.uint8]) -> bytes:
    _, height, width = picture.shape
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="PNG", width=width, height=height, count=4, dtype="uint8") as target:
            target.write(picture)
        content: bytes = memory.read()
    return content


def main(place: str) -> None:
    """Write the picture of a raster to standard output, within limits of memory and time."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    sys.stdout.buffer.write(render_preview(place if place.startswith(("http://", "https://")) else Path(place)))


if __name__ == "__main__":
    main(sys.argv[1])
