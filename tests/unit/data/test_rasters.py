from __future__ import annotations

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window

from graticule.data.rasters import WINDOW_PIXELS, parse_crs, read_pixels, tracked, windows_of, writing_cog
from graticule.errors import InvalidInputs


def covered(windows, height, width):
    times = np.zeros((height, width), int)
    for window in windows:
        times[window.row_off : window.row_off + window.height, window.col_off : window.col_off + window.width] += 1
    return times


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 700), st.integers(1, 700))
def test_windows_cover_every_pixel_once(height, width, rows, columns):
    windows = windows_of(height, width, (rows, columns))

    assert (covered(windows, height, width) == 1).all()


@pytest.mark.parametrize(
    ("height", "width", "block"),
    [
        (10_000, 10_000, (512, 512)),
        (10_000, 10_000, (1, 10_000)),
        (3, 50_000_000, (1, 50_000_000)),
        (9000, 9000, (9000, 9000)),
    ],
    ids=["tiles", "rows", "very long rows", "one block"],
)
def test_windows_stay_small(height, width, block):
    assert all(window.width * window.height <= WINDOW_PIXELS for window in windows_of(height, width, block))


def test_windows_end_where_tiles_end():
    assert all(window.col_off % 256 == 0 and window.row_off % 256 == 0 for window in windows_of(3000, 5000, (256, 256)))


def test_a_report_is_made_once_a_percent_within_its_share():
    reports = []

    list(tracked([Window(0, 0, 1, 1)] * 1000, lambda percent, _: reports.append(percent), "reading", first=50, last=60))

    assert reports == list(range(50, 60))


PROFILE = {
    "width": 600, "height": 600, "count": 1, "dtype": "float32", "crs": "EPSG:4326",
    "transform": rasterio.Affine(1, 0, 5, 0, -1, 50), "nodata": -1,
}  # fmt: skip


def test_what_is_written_becomes_a_cloud_optimized_geotiff(tmp_path):
    path = tmp_path / "a.tif"
    values = np.arange(360_000, dtype="float32").reshape(600, 600)

    with writing_cog(path, PROFILE, bands=["height"]) as target:
        target.write(values, 1)

    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2]
        assert dataset.descriptions == ("height",)
        np.testing.assert_array_equal(dataset.read(1), values)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="stop"), writing_cog(tmp_path / "a.tif", PROFILE):
        raise ValueError("stop")

    assert list(tmp_path.iterdir()) == []


def test_pixels_are_valid_inside_the_mask_where_they_are_finite(tmp_path):
    with writing_cog(tmp_path / "a.tif", PROFILE | {"width": 4, "height": 1}) as target:
        target.write(np.array([[1, -1, np.nan, np.inf]], "float32"), 1)

    with rasterio.open(tmp_path / "a.tif") as dataset:
        pixels = read_pixels(dataset, 1, Window(0, 0, 4, 1))

    assert pixels.valid.tolist() == [[True, False, False, False]]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("EPSG:32632", 32632),
        ("epsg:4326", 4326),
        ("urn:ogc:def:crs:EPSG::3857", 3857),
        ("urn:ogc:def:crs:EPSG:6.6:4326", 4326),
        ("http://www.opengis.net/def/crs/EPSG/0/25832", 25832),
        ("[EPSG:4326]", 4326),
    ],
)
def test_a_crs_is_known_by_its_code(text, code):
    assert parse_crs(text, pointer="/inputs/crs").to_epsg() == code


def test_crs84_has_longitude_first():
    assert parse_crs("http://www.opengis.net/def/crs/OGC/1.3/CRS84", pointer="/inputs/crs").to_string() == "OGC:CRS84"


@pytest.mark.parametrize(
    "text",
    ["", "4326", "EPSG:0", "EPSG:1000000", "+proj=longlat", "+init=/etc/passwd", "GEOGCS[]", "a:b:c:d", "EPSG:4326;x"],
)
def test_what_is_no_code_is_refused(text):
    with pytest.raises(InvalidInputs) as refusal:
        parse_crs(text, pointer="/inputs/crs")

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/crs"]
