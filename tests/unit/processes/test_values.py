"""The values that processes take and give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rasterio
import shapely

from graticule import BoundingBox, Feature, FeatureCollection, File, Geometry, GeoTIFF, OutputFile, Raster
from graticule.errors import InvalidInputs
from graticule.ogc.common import CRS84
from graticule.processes.values import Malformed

POINT = {"type": "Point", "coordinates": [1, 2]}


def test_a_box_over_the_antimeridian_is_known() -> None:
    assert BoundingBox(170, -10, -170, 10).crosses_antimeridian
    assert not BoundingBox(-170, -10, 170, 10).crosses_antimeridian


@pytest.mark.parametrize(
    "edges", [(10, 0, -10, 1), (20, 0, 10, 1), (0, 1, 1, 0), (float("nan"), 0, 1, 1), (0, 0, float("inf"), 1)], ids=str
)
def test_a_box_that_is_none_is_refused(edges: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"minimum|finite"):
        BoundingBox(*edges)


def test_every_minimum_above_its_maximum_is_named() -> None:
    with pytest.raises(Malformed, match="first minimum 10 is above its maximum 5") as caught:
        BoundingBox(10, 10, 5, 5)

    assert [fault.pointer for fault in caught.value.faults] == ["/bbox/0", "/bbox/1"]
    assert "second minimum 10 is above its maximum 5" in str(caught.value)


def test_a_box_over_the_antimeridian_may_still_have_another_fault() -> None:
    with pytest.raises(Malformed) as caught:
        BoundingBox(170, 10, -170, 5)

    assert [fault.pointer for fault in caught.value.faults] == ["/bbox/1"]


def test_only_geographic_boxes_may_cross_the_antimeridian() -> None:
    with pytest.raises(ValueError, match="first minimum"):
        BoundingBox(170, -10, -170, 10, crs="EPSG:3857")


@pytest.mark.parametrize(
    "document",
    [{"bbox": [0, 1, 2, 3], "crs": CRS84}, {"bbox": [0, 1, 2, 3, 4, 5], "crs": "EPSG:4979"}],
    ids=["flat", "with heights"],
)
def test_a_box_survives_json(document: dict[str, Any]) -> None:
    assert BoundingBox.from_json(document).to_json() == document


def test_geojson_reads_like_a_mapping() -> None:
    feature = Feature({"type": "Feature", "id": "a", "geometry": POINT, "properties": None})

    assert feature["type"] == feature.type == "Feature"
    assert feature.geometry == Geometry(POINT)
    assert (feature.id, feature.properties) == ("a", {})


def test_geojson_and_shapely_understand_each_other() -> None:
    geometry = Geometry(shapely.Point(1, 2))

    assert geometry.coordinates == (1, 2)
    assert shapely.geometry.shape(geometry) == shapely.Point(1, 2)


@pytest.mark.parametrize(
    ("kind", "document", "place"),
    [
        (Geometry, {"type": "Circle"}, "/type"),
        (Geometry, {"type": "Point", "coordinates": [1]}, "/coordinates"),
        (Geometry, {"type": "Point", "coordinates": [1, True]}, "/coordinates"),
        (Geometry, {"type": "Point", "coordinates": [10**400, 1]}, "/coordinates"),
        (Geometry, {"type": "Point", "coordinates": "ab"}, "/coordinates"),
        (Geometry, {"type": "LineString", "coordinates": [[0, 0]]}, "/coordinates"),
        (Geometry, {"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 1], [0, 0]]]]}, "/coordinates/0/0"),
        (Geometry, {"type": "GeometryCollection", "geometries": [{}]}, "/geometries/0/type"),
        (Feature, POINT, "/type"),
        (Feature, {"type": "Feature"}, "/geometry"),
        (Feature, {"type": "Feature", "geometry": None, "properties": 1}, "/properties"),
        (FeatureCollection, {"type": "FeatureCollection"}, "/features"),
        (FeatureCollection, {"type": "FeatureCollection", "features": [1]}, "/features/0"),
        (Geometry, 5, ""),
    ],
)
def test_geojson_that_is_none_names_the_place(kind: Any, document: Any, place: str) -> None:
    with pytest.raises(Malformed) as caught:
        kind(document)

    assert [fault.pointer for fault in caught.value.faults] == [place]


@pytest.mark.parametrize("content", [b"", b"<html>", b"<VRTDataset/>", b"{}", b"abc"], ids=str)
def test_only_known_kinds_of_raster_are_opened(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)

    with (
        pytest.raises(InvalidInputs) as caught,
        Raster(path=tmp_path / "a.tif", pointer="/inputs/dem").open(),
    ):
        pass

    assert caught.value.faults[0].pointer == "/inputs/dem"


def test_a_raster_that_only_begins_like_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\x00" + bytes(100))

    with pytest.raises(InvalidInputs, match="damaged"), Raster(path=tmp_path / "a.tif").open():
        pass


def test_a_raster_without_crs_is_refused_where_one_is_needed(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", transform=rasterio.Affine(1, 0, 10, 0, -1, 50), **profile):
        pass

    with pytest.raises(InvalidInputs, match="reference system"), Raster(path=tmp_path / "a.tif").open_georeferenced():
        pass
    with Raster(path=tmp_path / "a.tif").open() as dataset:
        assert dataset.crs is None


def test_files_beside_a_raster_are_not_read(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", transform=rasterio.Affine(1, 0, 10, 0, -1, 50), **profile):
        pass
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:4326</SRS></PAMDataset>")

    with Raster(path=tmp_path / "a.tif").open() as dataset:
        assert dataset.crs is None


def test_a_fault_of_the_process_own_files_is_not_the_inputs(tmp_path: Path, shared_data: Path) -> None:
    raster = Raster(path=shared_data / "geoengine/raster/modis_ndvi/cropped/MOD13A2_M_NDVI_2014-04-01_30x30.tif")

    with pytest.raises(rasterio.errors.RasterioIOError), raster.open(), rasterio.open(tmp_path / "none.tif"):
        pass


def test_a_file_reads_as_text_or_names_itself(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff")

    with pytest.raises(InvalidInputs, match="utf-8"):
        File(path=tmp_path / "a").read_text()


def test_the_ending_says_the_media_type() -> None:
    assert OutputFile(Path("a.png")).media_type == "image/png"
    assert OutputFile(Path("a.unknown")).media_type == "application/octet-stream"
    assert GeoTIFF(Path("a.tif")).media_type == "image/tiff; application=geotiff"


def test_checking_inputs_loads_nothing_heavy() -> None:
    code = (
        "import sys, graticule.processes.inputs;"
        "heavy = ('pydantic', 'numpy', 'rasterio', 'httpx2', 'shapely', 'pyproj');"
        "print([name for name in heavy if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
