from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.warp import reproject as warp_all

from graticule.errors import InvalidInputs
from graticule.processes.builtin.reproject import reproject
from graticule.processes.process import Dismissed

# rasterio 1.4 multiplies transforms in the older way
pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")


@pytest.fixture
def cropped(rasters):
    [path] = (rasters / "modis_ndvi" / "cropped").glob("*.tif")
    return path


def path_of(run, raster, **inputs):
    return run(reproject, raster=raster, **inputs)["result"].file


@pytest.mark.parametrize("method", ["nearest", "bilinear", "cubic", "average", "mode"])
def test_pixels_are_those_of_the_warper_over_the_whole_raster(run, cropped, method):
    path = path_of(run, cropped, crs="EPSG:32632", resampling=method)

    with rasterio.open(path) as result, rasterio.open(cropped) as source:
        expected = np.zeros(result.shape, "uint8")
        warp_all(
            rasterio.band(source, 1), expected, dst_transform=result.transform, dst_crs=result.crs, dst_nodata=0,
            resampling=Resampling[method],
        )  # fmt: skip
        np.testing.assert_array_equal(result.read(1), expected)
        assert expected.any()


def test_a_world_raster_goes_to_web_mercator_window_by_window(run, ndvi):
    path = path_of(run, ndvi[2], crs="EPSG:3857")

    with rasterio.open(path) as result, rasterio.open(ndvi[2]) as source:
        expected = np.zeros(result.shape, "uint8")
        warp_all(rasterio.band(source, 1), expected, dst_transform=result.transform, dst_crs=result.crs, dst_nodata=0)
        np.testing.assert_array_equal(result.read(1), expected)
        assert result.bounds.top == pytest.approx(20037508.34, abs=1)
        assert result.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_what_describes_the_bands_stays(run, samples):
    path = path_of(run, samples / "landscape.tif", crs="EPSG:3857", resolution=40)

    with rasterio.open(path) as result, rasterio.open(samples / "landscape.tif") as source:
        for name in ("descriptions", "scales", "offsets", "units", "dtypes", "nodata", "count"):
            assert getattr(result, name) == getattr(source, name)
        assert result.res == (40, 40)


def test_a_palette_stays(run, ndvi):
    path = path_of(run, ndvi[0], resolution=2)

    with rasterio.open(path) as result, rasterio.open(ndvi[0]) as source:
        assert result.colormap(1) == source.colormap(1)


def test_a_coarser_resolution_alone_keeps_the_crs(run, write_raster):
    path = write_raster("four.tif", np.array([[1, 3], [5, 7]], "uint8"))

    with rasterio.open(path_of(run, path, resolution=2, resampling="average")) as result:
        assert result.read(1).tolist() == [[4]]
        assert result.crs.to_epsg() == 4326


def test_like_gives_the_grid_of_another_raster(run, samples, write_raster):
    with rasterio.open(samples / "elevation.tif") as pattern:
        west, north = pattern.transform @ (100, 100)
    grid = {"crs": "EPSG:32632", "transform": rasterio.Affine(20, 0, west, 0, -20, north)}
    like = write_raster("like.tif", np.zeros((50, 60), "uint8"), **grid)

    with (
        rasterio.open(path_of(run, samples / "elevation.tif", like=like)) as result,
        rasterio.open(samples / "elevation.tif") as source,
    ):
        assert (result.transform, result.shape) == (grid["transform"], (50, 60))
        # The centre of a pixel of 20 m is a corner of four of 10 m: nearest takes one of them.
        heights = source.read(1)
        around = heights[100:102, 100:102]
        assert result.read(1)[0, 0] in around


def test_without_a_no_data_value_a_mask_says_where_nothing_is(run, write_raster):
    path = write_raster("full.tif", np.full((40, 40), 7, "uint8"), transform=rasterio.Affine(1, 0, 0, 0, -1, 60))

    with rasterio.open(path_of(run, path, crs="EPSG:3035")) as result:
        values, mask = result.read(1), result.dataset_mask()
        assert result.nodata is None
        assert set(np.unique(mask)) == {0, 255}
        assert (values[mask == 255] == 7).all()


def test_a_mask_goes_along(run, write_raster):
    mask = np.array([[255, 0], [255, 255]], "uint8")
    path = write_raster("masked.tif", np.full((2, 2), 7, "uint8"), mask=mask)

    with rasterio.open(path_of(run, path, resolution=1)) as result:
        np.testing.assert_array_equal(result.dataset_mask(), mask)


@pytest.mark.parametrize(
    "crs", ["epsg:3857", "urn:ogc:def:crs:EPSG::3857", "http://www.opengis.net/def/crs/EPSG/0/3857"]
)
def test_a_crs_is_named_in_any_of_the_usual_ways(run, cropped, crs):
    with rasterio.open(path_of(run, cropped, crs=crs)) as result:
        assert result.crs.to_epsg() == 3857


@pytest.mark.parametrize(
    ("inputs", "pointer", "said"),
    [
        ({}, "/inputs/crs", "one of them"),
        ({"crs": "EPSG:999999"}, "/inputs/crs", "no known CRS"),
        ({"crs": "+proj=longlat +nadgrids=/etc/passwd"}, "/inputs/crs", "no known CRS"),
        ({"crs": "EPSG:3857", "resolution": 0.001}, "/inputs/resolution", "give at least"),
        ({"resolution": 1e-9}, "/inputs/resolution", "give at least"),
    ],
    ids=["nothing", "unknown", "definition", "too fine", "far too fine"],
)
def test_a_fault_names_its_input_and_the_remedy(run, cropped, inputs, pointer, said):
    with pytest.raises(InvalidInputs) as refusal:
        path_of(run, cropped, **inputs)

    [fault] = refusal.value.faults
    assert fault.pointer == pointer
    assert said in fault.message


def test_like_and_a_crs_together_are_refused(run, cropped):
    with pytest.raises(InvalidInputs) as refusal:
        path_of(run, cropped, like=cropped, crs="EPSG:3857", resolution=1)

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/crs", "/inputs/resolution"]


@pytest.mark.parametrize("role", ["raster", "like"])
def test_a_raster_without_crs_is_refused(run, cropped, write_raster, role):
    bare = write_raster("bare.tif", np.array([[1]], "uint8"), crs=None)
    inputs = {"raster": cropped, "like": cropped} | {role: bare}

    with pytest.raises(InvalidInputs) as refusal:
        run(reproject, **inputs)

    assert [fault.pointer for fault in refusal.value.faults] == [f"/inputs/{role}/href"]


def test_a_truncated_raster_is_blamed_and_nothing_is_left(run, context, truncated):
    with pytest.raises(InvalidInputs) as refusal:
        path_of(run, truncated, crs="EPSG:3857")

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/raster/href"]
    assert list(context.folder.iterdir()) == []


def test_a_dismissal_is_obeyed(run, context, ndvi):
    context.stop_after = 2

    with pytest.raises(Dismissed):
        path_of(run, ndvi[0], crs="EPSG:3857")


@pytest.mark.parametrize("nodata", [-9999, None], ids=["no-data value", "mask"])
@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:5070", "EPSG:3413", "EPSG:3460", "EPSG:3832", "EPSG:4326"])
@pytest.mark.parametrize(("west", "east"), [(200, 280), (170, 190), (-200, -120), (0, 360), (-180, 180)])
def test_what_lies_beyond_180_degrees_goes_along(run, write_raster, west, east, crs, nodata):
    pixels = np.arange(1, 3201, dtype="float32").reshape(40, 80)
    transform = rasterio.Affine((east - west) / 80, 0, west, 0, -1, 60)
    path = write_raster("beyond.tif", pixels, transform=transform, nodata=nodata)

    with rasterio.open(path_of(run, path, crs=crs)) as result, rasterio.open(path) as source:
        expected = np.full(result.shape, -9999, "float32")
        warp_all(
            rasterio.band(source, 1), expected, src_nodata=nodata, dst_nodata=-9999, dst_transform=result.transform,
            dst_crs=result.crs,
        )  # fmt: skip
        valid = result.dataset_mask() > 0
        assert valid.sum() > 500
        assert np.count_nonzero(valid != (expected != -9999)) <= valid.size // 1000
        assert np.count_nonzero(valid & (result.read(1) != expected)) <= valid.sum() // 20  # halfway between pixels


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:3460"])
def test_a_raster_over_the_antimeridian_keeps_the_size_of_its_pixels(run, write_raster, crs):
    pixels = np.ones((40, 20), "float32")
    path = write_raster("anti.tif", pixels, transform=rasterio.Affine(1, 0, 170, 0, -1, 20), nodata=-9999)

    with rasterio.open(path_of(run, path, crs=crs)) as result:
        assert 80_000 < result.res[0] < 140_000
        assert result.read_masks(1).astype(bool).sum() > 750


@pytest.mark.parametrize("crs", ["EPSG:5773", "EPSG:4978", "EPSG:5800"], ids=["heights", "geocentric", "engineering"])
def test_a_crs_without_a_map_is_refused(run, cropped, crs):
    with pytest.raises(InvalidInputs) as refusal:
        path_of(run, cropped, crs=crs)

    [fault] = refusal.value.faults
    assert fault.pointer == "/inputs/crs"
    assert "geographic or projected" in fault.message


@pytest.mark.parametrize("crs", ["EPSG:4979", "EPSG:7415"], ids=["with heights", "compound"])
def test_a_crs_with_heights_counts_by_its_map(run, cropped, crs):
    with rasterio.open(path_of(run, cropped, crs=crs)) as result:
        assert result.read(1).any()
