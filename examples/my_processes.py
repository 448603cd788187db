"""Two processes in a file: ``graticule serve my_processes.py`` serves them."""

from typing import Annotated

import numpy as np
import rasterio
from pydantic import Field

from graticule import GeoTIFF, Raster, RunContext, process

SUN_HEIGHT = 45.0
"""Degrees above the horizon."""


@process
def add(a: float, b: Annotated[float, Field(ge=0)] = 1.0) -> float:
    """Add two numbers."""
    return a + b


@process(
    title="Hill shade",
    version="1.2.0",
    examples=[{"title": "Evening light", "inputs": {"dem": {"href": "sample:elevation.tif"}, "azimuth": 260}}],
)
def hillshade(dem: Raster, azimuth: Annotated[float, Field(ge=0, lt=360)] = 315.0, *, context: RunContext) -> GeoTIFF:
    """Shade a digital elevation model.

    Parameters
    ----------
    dem : Raster
        Elevation in metres, on a grid in metres.
    azimuth : float
        Direction of the light, degrees clockwise from north.
    """
    with dem.open() as source:  # a rasterio dataset
        context.report(10, "reading")
        heights = source.read(1, masked=True).astype("float32").filled(np.nan)
        profile = source.profile | {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 0}
        pixel_m = source.res[0]
    context.report(40, "shading")
    southward, eastward = np.gradient(heights, pixel_m)
    light = sunlight(-eastward, southward, azimuth)
    context.report(80, "writing")
    path = context.folder / "shade.tif"
    with rasterio.open(path, "w", **profile) as target:
        target.write(np.where(np.isnan(light), 0, 1 + 254 * np.clip(light, 0, 1)).astype("uint8"), 1)
    return GeoTIFF(path)


def sunlight(east: np.ndarray, north: np.ndarray, azimuth: float) -> np.ndarray:
    """Return the cosine of the angle between the light and a surface that faces `east` and `north` (and 1 upward)."""
    direction, height = np.radians(azimuth), np.radians(SUN_HEIGHT)
    sun_east, sun_north, sun_up = np.sin(direction) * np.cos(height), np.cos(direction) * np.cos(height), np.sin(height)
    return (east * sun_east + north * sun_north + sun_up) / np.sqrt(east**2 + north**2 + 1)
