from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom
from shapely.geometry import Polygon, box, mapping

from graticule.errors import InvalidInputs
from graticule.processes.builtin import zonal_statistics as module
from graticule.processes.builtin.zonal_statistics import OPERATIONS, zonal_statistics
from graticule.processes.process import Dismissed


def zone(west, south, east, north, **properties):
    return {"type": "Feature", "properties": properties, "geometry": mapping(box(west, south, east, north))}


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


def statistics_of(run, raster, *features, **inputs):
    output = run(zonal_statistics, raster=raster, zones=collection(*features), **inputs)["zones"]
    assert output.media_type == "application/geo+json"
    return [feature["properties"] for feature in output.value["features"]]


@pytest.fixture
def small(write_raster):
    """Pixels of one degree: 1 2 over 3 4, the north-western corner at 0 east, 2 north."""
    return write_raster("small.tif", np.array([[1, 2], [3, 4]], "uint8"))


def test_numbers_are_those_of_a_calculation_by_hand(run, small):
    [found] = statistics_of(run, small, zone(0, 0, 1.5, 2), statistics=list(OPERATIONS))

    # Whole pixels 1 and 3, halves of 2 and 4; the mean of the squares is (1 + 9 + 2 + 8) / 3.
    assert found == {
        "count": 3,
        "sum": 7,
        "mean": pytest.approx(7 / 3),
        "min": 1,
        "max": 4,
        "std": pytest.approx((20 / 3 - 49 / 9) ** 0.5),
        "variance": pytest.approx(20 / 3 - 49 / 9),
        "median": pytest.approx(found["median"]),
        "majority": 3,
        "minority": 2,
        "variety": 4,
    }
    assert 2 <= found["median"] <= 3


def test_heights_may_stand_in_some_positions_or_be_more_than_one(run, small):
    flat, high = zone(0, 0, 1.5, 2), zone(0, 0, 1.5, 2)
    ring = high["geometry"]["coordinates"][0]
    high["geometry"]["coordinates"] = [
        [[*ring[0], 5], ring[1], [*ring[2], 5, 6], *map(list, ring[3:-1]), [*ring[0], 5]]
    ]

    assert statistics_of(run, small, high) == statistics_of(run, small, flat)


def test_a_region_of_the_world_has_the_values_known(run, ndvi):
    [found] = statistics_of(run, ndvi[3], zone(8, 54.4, 11, 57.4), statistics=["count", "sum", "mean", "std", "min"])

    assert found == {
        "count": 900,
        "sum": 168104,
        "mean": pytest.approx(186.78222222222223),
        "std": pytest.approx(48.663074245897455),
        "min": 27,
    }


def test_a_raster_stored_upside_down_has_the_same_values(run, ndvi, rasters):
    [flipped] = (rasters / "modis_ndvi" / "flipped_axis_y").iterdir()
    place = zone(8.03, 54.41, 11, 57.45)

    [found], [expected] = statistics_of(run, flipped, place), statistics_of(run, ndvi[0], place)
    assert found == pytest.approx(expected)


def test_pixels_without_data_do_not_count_in_windows_of_any_shape(run, ndvi, monkeypatch):
    with rasterio.open(ndvi[3]) as dataset:
        values = dataset.read(1, masked=True)
    monkeypatch.setattr(module, "WINDOW_CELLS", 3600)  # single rows

    [found] = statistics_of(run, ndvi[3], zone(-180, -90, 180, 90), statistics=["count", "min", "mean"])

    assert found == {"count": values.count(), "min": 1, "mean": pytest.approx(float(values.mean()))}


def test_zones_are_brought_into_the_crs_of_the_raster(run, samples):
    features = [{"type": "Feature", "properties": {}, "geometry": field} for field in read_fields(samples)]

    found = statistics_of(run, samples / "elevation.tif", *features)

    with rasterio.open(samples / "elevation.tif") as dataset:
        values = dataset.read(1)
        for feature, properties in zip(features, found, strict=True):
            ground = transform_geom("OGC:CRS84", dataset.crs, feature["geometry"])
            inside = ~geometry_mask([ground], values.shape, dataset.transform)
            assert properties["mean"] == pytest.approx(values[inside].mean(), abs=0.2), "pixel centres against shares"
            assert properties["count"] == pytest.approx(inside.sum(), rel=0.02)


def triangle(*corners):
    return {"type": "Feature", "properties": {}, "geometry": mapping(Polygon(corners))}


FAR_AWAY = triangle((100, 0), (101, 0), (101, 1))


@pytest.mark.parametrize(
    "around",
    [zone(-90, 0, 90, 80), zone(-80, -80, 80, 80), zone(-179, -89, 179, 89), zone(-180, -90, 180, 90)],
    ids=["quarter", "eighty", "nearly", "world"],
)
def test_a_zone_far_larger_than_a_projected_raster_counts_all_of_it(run, samples, around):
    with rasterio.open(samples / "elevation.tif") as dataset:
        values = dataset.read(1, masked=True)

    [found] = statistics_of(run, samples / "elevation.tif", around, statistics=["count", "mean"])

    assert found == {"count": pytest.approx(values.count()), "mean": pytest.approx(float(values.mean(dtype=float)))}


@pytest.mark.parametrize(
    ("crs", "west", "north", "size"),
    [
        ("EPSG:32660", 400_000, 500_000, 50_000),
        ("EPSG:3413", -3_000_000, 3_000_000, 600_000),
        ("EPSG:3857", -20_000_000, 20_000_000, 4_000_000),
        ("EPSG:3035", 2_500_000, 5_500_000, 400_000),
    ],
    ids=["antimeridian", "pole", "mercator", "continent"],
)
def test_the_world_holds_all_of_a_raster_wherever_it_lies(run, write_raster, crs, west, north, size):
    transform = rasterio.Affine(size, 0, west, 0, -size, north)
    path = write_raster("placed.tif", np.ones((10, 10), "uint8"), crs=crs, transform=transform)

    [found] = statistics_of(run, path, zone(-180, -90, 180, 90), statistics=["count"])

    assert found == {"count": pytest.approx(100)}


def test_the_world_holds_all_of_a_projected_raster_stored_upside_down(run, write_raster):
    transform = rasterio.Affine(10_000, 0, 400_000, 0, 10_000, 5_000_000)
    path = write_raster("flipped.tif", np.ones((10, 10), "uint8"), crs="EPSG:32632", transform=transform)

    [found] = statistics_of(run, path, zone(-180, -90, 180, 90), statistics=["count"])

    assert found == {"count": pytest.approx(100)}


def test_a_zone_that_goes_on_past_180_degrees_is_found(run, write_raster):
    transform = rasterio.Affine(50_000, 0, 400_000, 0, -50_000, 500_000)
    path = write_raster("placed.tif", np.ones((10, 10), "uint8"), crs="EPSG:32660", transform=transform)

    [found] = statistics_of(run, path, zone(170, -5, 190, 10), statistics=["count"])

    assert found == {"count": pytest.approx(100)}


def test_a_zone_far_from_a_projected_raster_has_no_pixels(run, samples):
    with pytest.raises(InvalidInputs, match="no zone touches the raster") as refusal:
        statistics_of(run, samples / "elevation.tif", FAR_AWAY)
    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/zones"]

    world = zone(-180, -90, 180, 90)
    [_, found] = statistics_of(run, samples / "elevation.tif", world, FAR_AWAY, statistics=["count", "mean"])
    assert found == {"count": 0, "mean": None}


def test_a_zone_that_a_full_disk_cannot_show_is_refused_with_its_place(run, write_raster):
    transform = rasterio.Affine(6_400_000, 0, -6_400_000, 0, -6_400_000, 6_400_000)
    path = write_raster("disk.tif", np.ones((2, 2), "uint8"), crs="+proj=ortho +lat_0=0 +lon_0=0", transform=transform)

    [found] = statistics_of(run, path, zone(-10, -20, 10, -10), statistics=["max"])
    assert found == {"max": 1}
    with pytest.raises(InvalidInputs, match="features/0 lies outside what the raster's CRS can show"):
        statistics_of(run, path, FAR_AWAY)


def read_fields(samples):
    return [field["geometry"] for field in json.loads((samples / "fields.geojson").read_text())["features"]]


def test_features_keep_what_they_had(run, small):
    feature = zone(0, 0, 1, 1, name="corner") | {"id": "a1", "bbox": [0, 0, 1, 1]}

    output = run(zonal_statistics, raster=small, zones=collection(feature) | {"name": "all"}, statistics=["max"])[
        "zones"
    ]

    assert output.value == collection(feature | {"properties": {"name": "corner", "max": 3}}) | {"name": "all"}


def test_with_several_bands_the_band_stands_before_the_statistic(run, write_raster):
    path = write_raster("two.tif", np.array([[[1]], [[2]]], "uint8"), descriptions=["red", None])

    [found] = statistics_of(run, path, zone(0, 0, 1, 1), statistics=["mean"], prefix="x_")

    assert found == {"x_red_mean": 1, "x_b2_mean": 2}


def test_a_single_chosen_band_needs_no_name(run, write_raster):
    path = write_raster("two.tif", np.array([[[1]], [[2]]], "uint8"), descriptions=["red", "nir"])

    assert statistics_of(run, path, zone(0, 0, 1, 1), statistics=["mean"], bands=[2]) == [{"mean": 2}]


def test_scale_and_offset_are_applied_unless_told_otherwise(run, write_raster):
    path = write_raster("scaled.tif", np.array([[4]], "uint8"), scales=[0.5], offsets=[10.0])

    assert statistics_of(run, path, zone(0, 0, 1, 1), statistics=["mean"]) == [{"mean": 12}]
    assert statistics_of(run, path, zone(0, 0, 1, 1), statistics=["mean"], scaled=False) == [{"mean": 4}]


def test_a_zone_beside_the_raster_and_one_without_geometry_have_nulls(run, small):
    nowhere = {"type": "Feature", "properties": None, "geometry": None}

    found = statistics_of(run, small, zone(0, 0, 1, 1), zone(50, 50, 51, 51), nowhere, statistics=["count", "mean"])

    assert found == [{"count": 1, "mean": 3}, {"count": 0, "mean": None}, {"count": None, "mean": None}]


CROSSED = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([], "holds no features"),
        ([zone(50, 50, 51, 51)], "covers 0, 0, 2, 2"),
        (
            [zone(0, 0, 1, 1), {"type": "Feature", "properties": {}, "geometry": CROSSED}],
            "features/1 is no valid polygon",
        ),
        (
            [{"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [0, 0]}}],
            "features/0 is a Point",
        ),
    ],
    ids=["none", "elsewhere", "crossed", "point"],
)
def test_zones_that_cannot_be_used_are_refused_with_their_place(run, small, features, said):
    with pytest.raises(InvalidInputs) as refusal:
        statistics_of(run, small, *features)

    [fault] = refusal.value.faults
    assert fault.pointer == "/inputs/zones"
    assert said in fault.message


def test_a_raster_without_crs_is_refused(run, write_raster):
    path = write_raster("bare.tif", np.array([[1]], "uint8"), crs=None)

    with pytest.raises(InvalidInputs) as refusal:
        statistics_of(run, path, zone(0, 0, 1, 1))

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/raster/href"]


def test_faults_of_raster_and_zones_are_named_together(run, write_raster):
    path = write_raster("bare.tif", np.array([[1]], "uint8"), crs=None)

    with pytest.raises(InvalidInputs) as refusal:
        statistics_of(run, path, {"type": "Feature", "properties": {}, "geometry": CROSSED})

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/raster/href", "/inputs/zones"]


def test_zones_over_more_pixels_than_can_be_read_are_refused(run, sparse):
    path = sparse(1_000_000, 1_000_000)

    with pytest.raises(InvalidInputs, match="hold 1000000000000 pixels, all bands counted, more than") as refusal:
        statistics_of(run, path, zone(-10, -10, 70, 70))

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/zones"]


def test_a_small_zone_of_a_large_raster_is_read(run, sparse):
    [found] = statistics_of(run, sparse(1_000_000, 1_000_000), zone(0, 0, 0.0006, 0.0006), statistics=["count"])

    assert found == {"count": pytest.approx(100)}


def test_a_rotated_raster_is_refused(run, write_raster):
    path = write_raster("rotated.tif", np.array([[1]], "uint8"), transform=rasterio.Affine(1, 0.2, 0, 0.2, -1, 1))

    with pytest.raises(InvalidInputs, match="rotated"):
        statistics_of(run, path, zone(0, 0, 1, 1))


def test_a_truncated_raster_is_blamed_on_its_input(run, truncated):
    with pytest.raises(InvalidInputs) as refusal:
        statistics_of(run, truncated, zone(-180, -90, 180, 90))

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/raster/href"]


def test_progress_is_told_zone_by_zone_and_a_dismissal_is_obeyed(run, context, small):
    zones = [zone(0, 0, 1, 1)] * 4
    statistics_of(run, small, *zones)
    assert [percent for percent, _ in context.reports] == [0, 25, 50, 75]

    context.stop_after = len(context.reports) + 2
    with pytest.raises(Dismissed):
        statistics_of(run, small, *zones)
