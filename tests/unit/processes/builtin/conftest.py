from __future__ import annotations

import io
from dataclasses import dataclass, field

import pytest
import rasterio

from graticule.processes.process import Dismissed, InputValue
from graticule.processes.samples import generate_samples


@dataclass
class Context:
    """What a process asks of its surroundings, kept for the test to look at."""

    folder: object
    wanted: frozenset = frozenset()
    media_types: dict = field(default_factory=dict)
    stop_after: int | None = None
    """How many reports are taken before the process must stop; None: all."""
    reports: list = field(default_factory=list)

    @property
    def stopping(self):
        return self.stop_after is not None and len(self.reports) >= self.stop_after

    def wanted_media_type(self, output_id):
        return self.media_types.get(output_id)

    def report(self, progress, message=""):
        if self.stopping:
            raise Dismissed
        self.reports.append((progress, message))

    def log(self, step):
        return io.StringIO()


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    return Context(folder)


@pytest.fixture
def run(context):
    """Run a process as its engine does: values as JSON, `href` for a path, lists where many are allowed."""

    def run(process, **values):
        context.wanted = context.wanted or frozenset(process.description.outputs)
        inputs = {}
        for name, value in values.items():
            many = process.description.inputs[name].is_list
            found = [given(item, f"/inputs/{name}/{place}") for place, item in enumerate(value)] if many else None
            inputs[name] = found if many else given(value, f"/inputs/{name}")
        return process.run(inputs, context)

    return run


def given(value, pointer):
    if isinstance(value, InputValue):
        return value
    if hasattr(value, "open"):
        return InputValue(pointer=f"{pointer}/href", href=value.as_uri(), file=value, media_type="image/tiff")
    return InputValue(pointer=pointer, value=value)


@pytest.fixture(scope="session")
def rasters(shared_data):
    """The folder of rasters with known values."""
    return shared_data / "geoengine" / "raster"


@pytest.fixture(scope="session")
def ndvi(rasters):
    """Files of the six months of vegetation index."""
    return sorted((rasters / "modis_ndvi").glob("*.TIFF"))


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    generate_samples(folder)
    return folder


@pytest.fixture
def write_raster(tmp_path):
    """Write a small GeoTIFF: an array of one band or several, and what rasterio takes as profile."""

    def write(name, values, *, descriptions=(), scales=None, offsets=None, mask=None, **profile):
        values = values if values.ndim == 3 else values[None]
        options = {
            "driver": "GTiff",
            "count": values.shape[0],
            "height": values.shape[1],
            "width": values.shape[2],
            "dtype": values.dtype,
            "crs": "EPSG:4326",
            "transform": rasterio.Affine(1, 0, 0, 0, -1, values.shape[1]),
        } | profile
        path = tmp_path / name
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **options) as target:
            for number, description in enumerate(descriptions, start=1):
                target.set_band_description(number, description)
            if scales:
                target.scales = scales
            if offsets:
                target.offsets = offsets
            target.write(values)
            if mask is not None:
                target.write_mask(mask)
        return path

    return write


@pytest.fixture
def sparse(tmp_path):
    """Write a GeoTIFF of 60 by 60 degrees whose pixels are only claimed: a few kilobytes, however many they are."""

    def write(width, height, count=1):
        path = tmp_path / "sparse.tif"
        size = {"width": width, "height": height, "count": count, "dtype": "uint8"}
        tiles = {"tiled": True, "blockxsize": 8192, "blockysize": 8192, "interleave": "band", "sparse_ok": True}
        place = {"crs": "EPSG:4326", "transform": rasterio.Affine(60 / width, 0, 0, 0, -60 / height, 60)}
        rasterio.open(path, "w", driver="GTiff", **size, **tiles, **place).close()
        return path

    return write


@pytest.fixture
def truncated(tmp_path, ndvi):
    """A GeoTIFF that opens, and ends half-way."""
    path = tmp_path / "truncated.tif"
    path.write_bytes(ndvi[0].read_bytes()[:700_000])
    return path
