from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform_geom
from shapely.geometry import box, shape

from graticule.processes.samples import SAMPLES, generate_samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    generate_samples(folder)
    return folder


def read_features(path):
    return json.loads(path.read_text())["features"]


def test_the_files_are_those_that_are_announced(tmp_path):
    files = generate_samples(tmp_path / "new")

    assert [file.name for file in files] == list(SAMPLES)
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == sorted(SAMPLES)


def test_all_files_together_are_small(samples):
    assert sum(file.stat().st_size for file in samples.iterdir()) < 2_000_000


def test_the_files_are_the_same_each_time(samples, tmp_path):
    again = generate_samples(tmp_path)

    assert [file.read_bytes() for file in again] == [(samples / file.name).read_bytes() for file in again]


@pytest.mark.parametrize("name", ["elevation.tif", "landscape.tif"])
def test_a_sample_raster_is_a_cloud_optimized_geotiff_with_a_crs(samples, name):
    with rasterio.open(samples / name) as raster:
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.crs.to_epsg() == 32632


def test_the_elevation_is_in_metres_with_a_gap(samples):
    with rasterio.open(samples / "elevation.tif") as raster:
        heights = raster.read(1, masked=True)

        assert raster.units == ("m",)
        assert 0.001 < heights.mask.mean() < 0.1
        assert 300 < heights.min() < heights.max() < 1500


def test_the_landscape_tells_water_from_forest_and_bare_soil(samples):
    with rasterio.open(samples / "landscape.tif") as raster:
        assert raster.descriptions == ("blue", "green", "red", "nir")
        red, nir = (raster.read(raster.descriptions.index(name) + 1).astype(float) for name in ("red", "nir"))

    index = (nir - red) / (nir + red)
    assert (index < 0).mean() == pytest.approx(0.016, abs=0.01), "the river"
    assert ((index > 0) & (index < 0.3)).mean() > 0.02, "rock and bare fields"
    assert (index > 0.6).mean() > 0.5, "meadows and forest"


def test_the_fields_are_named_polygons_inside_the_rasters(samples):
    fields = read_features(samples / "fields.geojson")
    with rasterio.open(samples / "landscape.tif") as raster:
        shapes = [shape(transform_geom("OGC:CRS84", raster.crs, field["geometry"])) for field in fields]
        ground = box(*raster.bounds)

    assert len({field["properties"]["name"] for field in fields}) == len(fields) >= 8
    assert all(ground.contains(field) and field.is_valid for field in shapes)
    assert all(shape(field["geometry"]).exterior.is_ccw for field in fields)
    assert all(not one.intersects(other) for place, one in enumerate(shapes) for other in shapes[place + 1 :]), (
        "fields do not overlap"
    )


def test_the_places_are_named_points_inside_the_rasters(samples):
    places = read_features(samples / "places.geojson")
    with rasterio.open(samples / "elevation.tif") as raster:
        shapes = [shape(transform_geom("OGC:CRS84", raster.crs, place["geometry"])) for place in places]
        heights = [value[0] for value in raster.sample([(point.x, point.y) for point in shapes])]

    assert all(300 < height < 1500 for height in heights)
    assert places[int(np.argmax(heights))]["properties"]["name"] == "High Top"
