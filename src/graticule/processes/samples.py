"""Sample data that the package makes itself: a small invented valley, the same at every start.

All four files show one place of about four by four kilometres: its heights, a picture in four bands, its fields and a
few points. Nothing is measured; do not look for it on a map.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray
    from rasterio.transform import Affine

SIZE = 400
"""Pixels along each edge."""

PIXEL_M = 10.0
WEST_M, NORTH_M = 470_000.0, 5_260_000.0
CRS = "EPSG:32632"

ELEVATION = "elevation.tif"
LANDSCAPE = "landscape.tif"
FIELDS = "fields.geojson"
PLACES = "places.geojson"

SAMPLES = (ELEVATION, LANDSCAPE, FIELDS, PLACES)
"""Names of the files; in a process description's examples one stands as ``sample:NAME``."""

_REFLECTANCE = {
    # Blue, green, red, near infrared; roughly as such surfaces look from above.
    "water": (0.06, 0.05, 0.03, 0.02),
    "meadow": (0.04, 0.09, 0.06, 0.38),
    "forest": (0.02, 0.05, 0.03, 0.30),
    "soil": (0.09, 0.13, 0.18, 0.26),
    "wheat": (0.05, 0.09, 0.08, 0.34),
    "maize": (0.03, 0.08, 0.04, 0.48),
    "clover": (0.03, 0.07, 0.04, 0.44),
    "rock": (0.17, 0.19, 0.21, 0.25),
}

_FIELDS = (
    # Name, crop, west edge, north edge, width, height (metres from the north-western corner), turned by degrees.
    ("Mill Field", "wheat", 520, 2180, 620, 380, 8),
    ("Long Acre", "maize", 1240, 2290, 900, 300, 8),
    ("Church Field", "soil", 2250, 2420, 560, 420, 10),
    ("Bridge Meadow", "meadow", 2900, 2560, 480, 340, 10),
    ("Crow Field", "wheat", 450, 2640, 560, 420, 6),
    ("Broad Acre", "clover", 1110, 2700, 680, 440, 8),
    ("Stone Field", "soil", 1900, 2940, 620, 400, 12),
    ("Fox Field", "maize", 2640, 3040, 560, 420, 12),
    ("Lower Field", "wheat", 560, 3180, 700, 420, 5),
    ("Orchard Field", "clover", 1420, 3330, 520, 380, 9),
)

_PLACES = (
    # Name, kind, metres east and south of the north-western corner.
    ("High Top", "summit", 1010, 520),
    ("Old Mill", "building", 880, 1830),
    ("Stone Bridge", "bridge", 2070, 1985),
    ("Chapel", "building", 2480, 2330),
    ("Ferry House", "building", 3220, 2330),
    ("Forest Lodge", "building", 2900, 900),
)


def generate_samples(folder: Path) -> list[Path]:
    """
    Write the sample files, each whole or not at all.

    Parameters
    ----------
    folder : Path
        Where; it is made if need be. Files of these names are replaced.

    Returns
    -------
    list[Path]
        The files, in the order of `SAMPLES`.
    """
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1569)  # 1569: Mercator's world map
    heights, river = _relief(random)
    elevation = np.where(_survey_gap(), np.nan, np.round(heights, 1)).astype("float32")
    _write_raster(folder / ELEVATION, elevation[None], ["elevation"], units=["m"], nodata=-9999.0)
    reflectance = _reflectance(random, heights, river)
    _write_raster(
        folder / LANDSCAPE, reflectance, ["blue", "green", "red", "nir"], units=["1"] * 4, nodata=0, scale=1e-4
    )
    _write_features(folder / FIELDS, [_field(*field) for field in _FIELDS])
    _write_features(folder / PLACES, [_place(*place) for place in _PLACES])
    return [folder / name for name in SAMPLES]


def _grid() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return metres east and south of the corner for each pixel."""
    import numpy as np

    steps = (np.arange(SIZE) + 0.5) * PIXEL_M
    east, south = np.meshgrid(steps, steps)
    return east, south


def _rough(random: Generator, steepness: float) -> NDArray[Any]:
    """Return fractal noise between 0 and 1: the amplitudes fall with the frequency to the power of `steepness`."""
    import numpy as np

    frequencies = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :])
    frequencies[0, 0] = np.inf
    waves = np.fft.rfft2(random.standard_normal((SIZE, SIZE))) * frequencies**-steepness
    noise: NDArray[Any] = np.fft.irfft2(waves, s=(SIZE, SIZE))
    scaled: NDArray[Any] = (noise - noise.min()) / (noise.max() - noise.min())
    return scaled


def _river_course(east: NDArray[Any]) -> NDArray[Any]:
    """Return how far south the middle of the river lies, metres."""
    import numpy as np

    course: NDArray[Any] = 1950 + 0.06 * east + 130 * np.sin(east / 420) + 55 * np.sin(east / 170 + 1)
    return course


def _relief(random: Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return heights in metres and the distance from the river in metres."""
    import numpy as np

    east, south = _grid()
    away = south - _river_course(east)
    north_side = 560 * (1 - np.exp(-np.clip(-away, 0, None) / 900)) ** 1.5
    south_side = 140 * (1 - np.exp(-np.clip(away, 0, None) / 1100)) ** 1.3
    relief = np.clip(np.abs(away) / 700, 0.03, 1) * (_rough(random, 1.9) - 0.35)
    heights = 410 - east / 400 + north_side + south_side + np.where(away < 0, 420, 60) * relief
    return np.maximum(heights, 400 - east / 400), np.abs(away)


def _survey_gap() -> NDArray[Any]:
    """Return True where nobody surveyed the heights: a corner of the map."""
    east, south = _grid()
    gap: NDArray[Any] = (SIZE * PIXEL_M - east) + south < 520
    return gap


def _reflectance(random: Generator, heights: NDArray[Any], river: NDArray[Any]) -> NDArray[Any]:
    """Return four bands of reflectance in ten thousandths, shape ``(4, y, x)``."""
    import numpy as np

    east, south = _grid()
    patches = _rough(random, 1.6)
    cover = np.full((SIZE, SIZE), "meadow", dtype="<U6")
    cover[((south < _river_course(east) - 160) & (patches > 0.38)) | (patches > 0.68)] = "forest"
    cover[heights > np.quantile(heights, 0.985)] = "rock"
    for _, crop, *place in _FIELDS:
        cover[_inside(east, south, *place)] = crop
    cover[river < 32] = "water"
    bands = np.zeros((4, SIZE, SIZE))
    for name, colours in _REFLECTANCE.items():
        bands[:, cover == name] = np.array(colours)[:, None]
    slope_south, slope_east = np.gradient(heights, PIXEL_M)
    shade = np.clip(1 + 0.35 * (slope_east + slope_south), 0.5, 1.3)
    vigour = 0.85 + 0.3 * _rough(random, 1.1)
    bands[3] *= np.where(cover == "water", 1, vigour)
    bands *= np.where(cover == "water", 1, shade) * (1 + 0.025 * random.standard_normal(bands.shape))
    # Steps of 0.002 keep the file small; real sensors are no finer.
    steps: NDArray[Any] = np.round(np.clip(bands, 0.002, 1) / 0.002)
    return (steps * 20).astype("uint16")


def _corners(west: float, north: float, width: float, height: float, turn: float) -> list[tuple[float, float]]:
    """Return the corners of a turned rectangle, metres east and south, clockwise on the map from the north-west."""
    sine, cosine = math.sin(math.radians(turn)), math.cos(math.radians(turn))
    flat = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
    return [(west + x * cosine - y * sine, north + x * sine + y * cosine) for x, y in flat]


def _inside(
    east: NDArray[Any], south: NDArray[Any], west: float, north: float, width: float, height: float, turn: float
) -> NDArray[Any]:
    """Return True for the pixels of a turned rectangle."""
    sine, cosine = math.sin(math.radians(turn)), math.cos(math.radians(turn))
    x = (east - west) * cosine + (south - north) * sine
    y = (south - north) * cosine - (east - west) * sine
    inside: NDArray[Any] = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return inside


def _transform() -> Affine:
    from rasterio.transform import Affine

    return Affine(PIXEL_M, 0.0, WEST_M, 0.0, -PIXEL_M, NORTH_M)


def _write_raster(
    path: Path, bands: NDArray[Any], names: list[str], *, units: list[str], nodata: float, scale: float = 1.0
) -> None:
    import numpy as np

    from graticule.data.rasters import writing_cog

    profile = {
        "width": SIZE,
        "height": SIZE,
        "count": len(bands),
        "dtype": str(bands.dtype),
        "crs": CRS,
        "transform": _transform(),
        "nodata": nodata,
    }
    part = path.with_name(f".{path.name}.part")
    with writing_cog(part, profile, bands=names) as target:
        target.units = units
        target.scales = [scale] * len(bands)
        target.write(np.where(np.isnan(bands), nodata, bands).astype(bands.dtype))
    part.replace(path)


def _lonlat(points: list[tuple[float, float]]) -> list[list[float]]:
    """Return longitude and latitude of places given in metres from the north-western corner."""
    from rasterio.warp import transform

    east, south = zip(*points, strict=True)
    lon, lat = transform(CRS, "OGC:CRS84", [WEST_M + x for x in east], [NORTH_M - y for y in south])
    return [[round(x, 6), round(y, 6)] for x, y in zip(lon, lat, strict=True)]


def _field(name: str, crop: str, *place: float) -> dict[str, Any]:
    corners = _corners(*place)
    # Counter-clockwise, as RFC 7946 wants of an outline.
    ring = _lonlat([corners[0], *reversed(corners)])
    return _feature(name, {"type": "Polygon", "coordinates": [ring]}, crop=crop)


def _place(name: str, kind: str, east: float, south: float) -> dict[str, Any]:
    return _feature(name, {"type": "Point", "coordinates": _lonlat([(east, south)])[0]}, kind=kind)


def _feature(name: str, geometry: dict[str, Any], **properties: str) -> dict[str, Any]:
    identifier = name.lower().replace(" ", "-")
    return {"type": "Feature", "id": identifier, "geometry": geometry, "properties": {"name": name, **properties}}


def _write_features(path: Path, features: list[dict[str, Any]]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps({"type": "FeatureCollection", "features": features}, indent=1), encoding="utf-8")
    part.replace(path)
