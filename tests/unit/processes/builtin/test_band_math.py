from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from graticule.errors import InvalidInputs
from graticule.processes.builtin.band_math import band_math
from graticule.processes.process import Dismissed

REGION = Window(1880, 326, 30, 30)
"""A region of the world rasters whose sums are known; all its pixels are valid."""


@pytest.fixture
def region(ndvi, write_raster):
    """January and February of the region."""
    paths = []
    for month in ndvi[:2]:
        with rasterio.open(month) as dataset:
            paths.append(write_raster(month.name, dataset.read(window=REGION), nodata=0))
    return paths


def result_of(run, rasters, expression, **inputs):
    output = run(band_math, rasters=rasters, expression=expression, **inputs)["result"]
    with rasterio.open(output.file) as dataset:
        return dataset.read(1, masked=True)


@pytest.mark.parametrize(
    ("expression", "dtype", "total"),
    [
        ("b1 + b2", "float32", 263331),
        ("b1 - b2", "float64", -20127),
        ("(b1 - b2) / (b1 + b2)", "float64", -95.40838630004461),
        ("where(b1 > 100, b1, 0)", "float64", 96784),
        ("sqrt(b1)", "float64", 10105.782082937743),
    ],
)
def test_sums_over_a_region_are_those_known(run, region, expression, dtype, total):
    values = result_of(run, region, expression, dtype=dtype)

    assert values.sum(dtype="float64") == pytest.approx(total, rel=1e-12)


def test_every_pixel_is_that_of_numpy(run, ndvi):
    with rasterio.open(ndvi[0]) as first, rasterio.open(ndvi[1]) as second:
        a, b = (dataset.read(1, masked=True).astype("float64") for dataset in (first, second))
    expected = ((a - b) / (a + b)).astype("float32")

    values = result_of(run, ndvi[:2], "(b1 - b2) / (b1 + b2)")

    np.testing.assert_array_equal(values.mask, np.ma.getmaskarray(expected))
    np.testing.assert_array_equal(values.filled(9), expected.filled(9))


def test_the_result_is_a_cloud_optimized_geotiff_on_the_same_grid(run, ndvi):
    output = run(band_math, rasters=ndvi[:1], expression="b1 / 2")["result"]

    with rasterio.open(output.file) as result, rasterio.open(ndvi[0]) as source:
        assert result.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert result.overviews(1) == [2, 4, 8]
        assert (result.crs, result.transform, result.shape) == (source.crs, source.transform, source.shape)
        assert np.isnan(result.nodata)
    assert output.media_type == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert [file.name for file in output.file.parent.iterdir()] == ["result.tif"], "nothing else is left"


def test_a_raster_of_too_many_pixels_is_refused(run, sparse):
    path = sparse(1_000_000, 1_000_000)

    with pytest.raises(InvalidInputs, match="1000000 x 1000000 pixels, more than 500000000; send a part") as refusal:
        run(band_math, rasters=[path], expression="b1")

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/rasters/0/href"]


def test_bands_go_by_their_descriptions(run, samples):
    index = result_of(run, [samples / "landscape.tif"], "(nir - red) / (nir + red)")

    with rasterio.open(samples / "landscape.tif") as dataset:
        red, nir = dataset.read(3).astype("float64"), dataset.read(4).astype("float64")
    np.testing.assert_allclose(index.filled(9), (nir - red) / (nir + red), rtol=1e-5, atol=1e-7)


def test_bands_of_two_rasters_are_counted_through(run, samples):
    rasters = [samples / "landscape.tif", samples / "elevation.tif"]

    by_number = result_of(run, rasters, "b5 - b1")
    by_name = result_of(run, rasters, "elevation - blue")

    np.testing.assert_array_equal(by_number.filled(-1), by_name.filled(-1))


def test_given_names_are_those_of_the_formula(run, region):
    values = result_of(run, region, "jan + feb", names=["jan", "feb"])

    assert values.sum() == 263331


def test_scale_and_offset_are_applied_unless_told_otherwise(run, write_raster):
    path = write_raster("scaled.tif", np.array([[1, 2]], "uint8"), scales=[0.5], offsets=[10.0])

    assert result_of(run, [path], "b1").tolist() == [[10.5, 11.0]]
    assert result_of(run, [path], "b1", scaled=False).tolist() == [[1.0, 2.0]]


def test_what_has_no_value_has_no_data(run, write_raster):
    path = write_raster("values.tif", np.array([[0, 4, 255]], "uint8"), nodata=255)

    assert result_of(run, [path], "sqrt(1 / b1)").tolist() == [[None, 0.5, None]]


def test_whole_numbers_are_rounded_and_what_does_not_fit_has_no_data(run, write_raster):
    path = write_raster("values.tif", np.array([[1, 3, 5, 1000, -1]], "int16"))

    values = result_of(run, [path], "b1 / 2", dtype="uint8")

    assert values.tolist() == [[0, 2, 2, None, 0]]
    assert values.fill_value == 255


def test_the_no_data_value_can_be_chosen(run, write_raster):
    path = write_raster("values.tif", np.array([[1, 2]], "uint8"))

    output = run(band_math, rasters=[path], expression="1 / (b1 - 1)", nodata=-9999)["result"]

    with rasterio.open(output.file) as dataset:
        assert dataset.nodata == -9999
        assert dataset.read(1).tolist() == [[-9999, 1]]


def test_bands_that_the_formula_does_not_name_do_not_matter(run, write_raster):
    path = write_raster("two.tif", np.array([[[1, 2]], [[0, 0]]], "uint8"), nodata=0)

    assert result_of(run, [path], "b1").tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("inputs", "pointer", "said"),
    [
        ({"expression": "b1 +"}, "/inputs/expression", "ends where"),
        ({"expression": "b1 + sepia"}, "/inputs/expression", "names 'sepia' at character 6; the bands are blue, green"),
        ({"expression": "1 + 1"}, "/inputs/expression", "names no band"),
        ({"expression": "b1", "names": ["a"]}, "/inputs/names", "1 names for 4 bands"),
        ({"expression": "b1", "names": ["a", "b c", "d", "a"]}, "/inputs/names/1", "no name"),
        ({"expression": "b1", "dtype": "uint8", "nodata": 300}, "/inputs/nodata", "from 0 to 255"),
        ({"expression": "b1", "nodata": 1e300}, "/inputs/nodata", "is no float32"),
        ({"expression": "b1", "dtype": "uint8", "nodata": 0.5}, "/inputs/nodata", "whole number"),
    ],
    ids=[
        "broken",
        "unknown band",
        "no band",
        "too few names",
        "no word",
        "no-data too large",
        "no float32",
        "no-data broken",
    ],
)
def test_a_fault_names_its_input_and_the_remedy(run, samples, inputs, pointer, said):
    with pytest.raises(InvalidInputs) as refusal:
        run(band_math, rasters=[samples / "landscape.tif"], **inputs)

    fault = refusal.value.faults[0]
    assert fault.pointer == pointer
    assert said in fault.message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crs": "EPSG:32632"}, "EPSG:32632, the first one in EPSG:4326"),
        ({"transform": rasterio.Affine(1, 0, 0.5, 0, -1, 2)}, "does not lie on the pixels"),
        ({"transform": rasterio.Affine(2, 0, 0, 0, -1, 2)}, "does not lie on the pixels"),
    ],
    ids=["other CRS", "moved", "other pixels"],
)
def test_rasters_on_different_grids_are_refused(run, write_raster, change, said):
    first = write_raster("first.tif", np.ones((2, 2), "uint8"))
    second = write_raster("second.tif", np.ones((2, 2), "uint8"), **change)

    with pytest.raises(InvalidInputs) as refusal:
        run(band_math, rasters=[first, second], expression="b1 + b2")

    [fault] = refusal.value.faults
    assert fault.pointer == "/inputs/rasters/1/href"
    assert said in fault.message
    assert "reproject" in fault.message


def test_rasters_of_different_sizes_are_refused(run, ndvi, rasters):
    small = next((rasters / "modis_ndvi" / "downscaled_3x").iterdir())

    with pytest.raises(InvalidInputs, match="1200 x 600 pixels, the first one 3600 x 1800"):
        run(band_math, rasters=[ndvi[0], small], expression="b1 + b2")


def test_grids_that_differ_by_rounding_only_are_one(run, write_raster):
    first = write_raster("first.tif", np.ones((2, 2), "uint8"))
    second = write_raster("second.tif", np.ones((2, 2), "uint8"), transform=rasterio.Affine(1, 0, 1e-9, 0, -1, 2))

    assert result_of(run, [first, second], "b1 + b2").tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize("place", [0, 1])
def test_of_several_rasters_the_truncated_one_is_blamed(run, context, ndvi, truncated, place):
    rasters = [ndvi[1]]
    rasters.insert(place, truncated)

    with pytest.raises(InvalidInputs) as refusal:
        run(band_math, rasters=rasters, expression="b1 + b2")

    assert [fault.pointer for fault in refusal.value.faults] == [f"/inputs/rasters/{place}/href"]
    assert list(context.folder.iterdir()) == [], "no half result is left"


def test_a_truncated_raster_alone_is_blamed(run, truncated):
    with pytest.raises(InvalidInputs) as refusal:
        run(band_math, rasters=[truncated], expression="b1 * 2")

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/rasters/0/href"]


def test_progress_grows_and_a_dismissal_is_obeyed(run, context, ndvi):
    run(band_math, rasters=ndvi[:1], expression="b1 * 2")
    percents = [percent for percent, _ in context.reports]
    assert percents == sorted(percents)
    assert len(percents) > 5

    context.stop_after = len(context.reports) + 1
    with pytest.raises(Dismissed):
        run(band_math, rasters=ndvi[:1], expression="b1 * 2")
