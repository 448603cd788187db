from __future__ import annotations

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from graticule.errors import InvalidInputs
from graticule.processes.builtin.raster_statistics import (
    Moments,
    Question,
    describe_bands,
    quantiles,
    raster_statistics,
)
from graticule.processes.process import Dismissed


def statistics_of(run, raster, **inputs):
    return run(raster_statistics, raster=raster, **inputs)["statistics"].value


@pytest.fixture
def small(write_raster):
    """Five valid values 1, 2, 3, 4, 10 and one without data."""
    return write_raster("small.tif", np.array([[1, 2, 3], [4, 10, 99]], "int16"), nodata=99, descriptions=["level"])


def test_numbers_are_those_of_a_calculation_by_hand(run, small):
    [band] = statistics_of(run, small)

    assert band | {"std": round(band["std"], 6)} == {
        "band": 1,
        "name": "level",
        "unit": None,
        "count": 6,
        "valid": 5,
        "min": 1,
        "max": 10,
        "sum": 20,
        "mean": 4,
        "std": 3.162278,  # the root of (9 + 4 + 1 + 0 + 36) / 5
        "percentiles": None,
        "histogram": None,
    }


@pytest.mark.parametrize(
    ("size", "inputs", "said"),
    [
        ((1_000_000, 1_000_000), {"bands": [1]}, "1000000 x 1000000 pixels, more than 500000000; send a part"),
        ((20_000, 20_000, 13), {}, "13 bands of 20000 x 20000 pixels are more than 5000000000; ask for 12 at most"),
        ((20_000, 20_000), {"bands": [1] * 13}, "13 bands"),
    ],
    ids=["pixels", "bands", "one band again and again"],
)
def test_more_pixels_than_can_be_read_are_refused(run, sparse, size, inputs, said):
    with pytest.raises(InvalidInputs, match=said) as refusal:
        statistics_of(run, sparse(*size), **inputs)

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/raster/href"]


def test_percentiles_are_in_the_order_that_was_asked_for(run, small):
    [band] = statistics_of(run, small, percentiles=[50, 0, 100, 90])

    assert band["percentiles"] == [
        {"percentile": 50, "value": 3},
        {"percentile": 0, "value": 1},
        {"percentile": 100, "value": 10},
        {"percentile": 90, "value": pytest.approx(7.6)},  # 0.6 of the way from 4 to 10
    ]


def test_a_histogram_counts_every_valid_pixel_once(run, small):
    [band] = statistics_of(run, small, buckets=3)

    assert band["histogram"] == {"min": 1, "max": 10, "counts": [3, 1, 1]}


def test_a_month_of_the_world_has_the_values_of_numpy(run, ndvi):
    with rasterio.open(ndvi[0]) as dataset:
        values = dataset.read(1, masked=True).compressed()

    [band] = statistics_of(run, ndvi[0], percentiles=[1, 5, 10], buckets=20)

    assert (band["valid"], band["sum"]) == (6459851, 1420772438)
    assert band["mean"] == pytest.approx(219.93888682571782, rel=1e-12)
    assert band["std"] == pytest.approx(73.83883016509989, rel=1e-12)
    assert [one["value"] for one in band["percentiles"]] == list(np.percentile(values, [1, 5, 10]))
    assert band["histogram"]["counts"] == list(np.histogram(values, 20)[0])


def test_scale_and_offset_are_applied_unless_told_otherwise(run, rasters):
    [cropped] = (rasters / "modis_ndvi" / "cropped").glob("*.tif")

    [scaled], [stored] = statistics_of(run, cropped), statistics_of(run, cropped, scaled=False)

    assert stored["sum"] == 168104
    assert scaled["sum"] == 168104 * 2 + 900
    assert scaled["std"] == pytest.approx(2 * stored["std"])
    assert (scaled["min"], scaled["max"]) == (stored["min"] * 2 + 1, stored["max"] * 2 + 1)


def test_a_negative_scale_turns_percentiles_and_histogram_round(run, write_raster):
    path = write_raster("sunken.tif", np.array([[0, 1, 2, 10]], "uint8"), scales=[-1.0], offsets=[0.0])

    [band] = statistics_of(run, path, percentiles=[0, 100], buckets=2)

    assert (band["min"], band["max"]) == (-10, 0)
    assert [one["value"] for one in band["percentiles"]] == [-10, 0]
    assert band["histogram"] == {"min": -10, "max": 0, "counts": [1, 3]}


def test_chosen_bands_come_in_the_order_that_was_asked_for(run, samples):
    bands = statistics_of(run, samples / "landscape.tif", bands=[4, 1])

    assert [(band["band"], band["name"]) for band in bands] == [(4, "nir"), (1, "blue")]


def test_a_mask_is_respected(run, write_raster):
    path = write_raster("masked.tif", np.array([[1, 2]], "uint8"), mask=np.array([[255, 0]], "uint8"))

    [band] = statistics_of(run, path)

    assert (band["valid"], band["max"]) == (1, 1)


def test_not_a_number_and_infinity_do_not_count(run, write_raster):
    path = write_raster("odd.tif", np.array([[1, np.nan, np.inf, 3]], "float32"))

    [band] = statistics_of(run, path, percentiles=[50])

    assert (band["valid"], band["mean"], band["percentiles"][0]["value"]) == (2, 2, 2)


def test_a_band_without_valid_pixels_has_counts_only(run, write_raster):
    path = write_raster("empty.tif", np.zeros((2, 2), "uint8"), nodata=0)

    [band] = statistics_of(run, path, percentiles=[50], buckets=4)

    assert (band["count"], band["valid"]) == (4, 0)
    assert {band[name] for name in ("min", "max", "mean", "std", "sum")} == {None}


def test_a_band_that_is_not_there_is_named(run, small):
    with pytest.raises(InvalidInputs) as refusal:
        statistics_of(run, small, bands=[1, 2])

    [fault] = refusal.value.faults
    assert fault.pointer == "/inputs/bands/1"


def test_a_truncated_file_is_blamed_on_its_input(run, truncated):
    with pytest.raises(InvalidInputs) as refusal:
        statistics_of(run, truncated)

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/raster/href"]


def test_complex_numbers_are_refused(run, write_raster):
    path = write_raster("radar.tif", np.array([[1 + 1j]], "complex64"))

    with pytest.raises(InvalidInputs, match="complex"):
        statistics_of(run, path)


def test_progress_grows_to_the_end_and_a_dismissal_is_obeyed(run, context, ndvi):
    statistics_of(run, ndvi[0], percentiles=[50], buckets=5)
    percents = [percent for percent, _ in context.reports]
    assert percents == sorted(percents)
    assert percents[-1] > 90

    context.stop_after = len(context.reports) + 2
    with pytest.raises(Dismissed):
        statistics_of(run, ndvi[0])


def test_the_answer_does_not_depend_on_how_the_file_is_tiled(write_raster):
    values = np.random.default_rng(7).normal(size=(300, 2000)).astype("float32")
    layouts = [{"tiled": True, "blockxsize": 16, "blockysize": 16}, {"blockysize": 1}, {"blockysize": 300}]

    found = []
    for number, layout in enumerate(layouts):
        with rasterio.open(write_raster(f"{number}.tif", values, **layout)) as dataset:
            found += describe_bands(dataset, Question(percentiles=[25], buckets=3), report=lambda *_: None)

    assert found[0]["percentiles"] == found[1]["percentiles"] == found[2]["percentiles"]
    assert found[0]["mean"] == pytest.approx(float(values.mean(dtype="float64")))


class Once:
    """All values in one window."""

    def __init__(self, values):
        self.values = values
        self.valid = np.ones(values.shape, bool)


DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_quantiles_agree_with_numpy_for_every_type(dtype):
    random = np.random.default_rng(3)
    if dtype.startswith("float"):
        values = (random.normal(size=(50, 60)) * 100).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        values = random.integers(limits.min, limits.max, (50, 60), dtype=dtype, endpoint=True)
    shares = [0, 0.1, 0.25, 0.5, 0.99, 1]

    found = quantiles(lambda: iter([Once(values[:20]), Once(values[20:])]), dtype, values.size, shares)

    np.testing.assert_allclose(found, np.quantile(values.astype("float64"), shares), rtol=1e-12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(0, 30))
def test_moments_of_two_parts_add_up_to_those_of_the_whole(values, cut):
    whole = Moments.of(np.array(values))

    parts = Moments.of(np.array(values[:cut])) + Moments.of(np.array(values[cut:]))

    assert (parts.valid, parts.minimum, parts.maximum) == (whole.valid, whole.minimum, whole.maximum)
    assert parts.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-6)
    assert parts.deviation == pytest.approx(whole.deviation, rel=1e-6, abs=1e-5)
