"""Rasters as small pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import MemoryFile

from graticule.data.preview import render_preview

pytestmark = pytest.mark.filterwarnings(f"ignore::{NotGeoreferencedWarning.__module__}.NotGeoreferencedWarning")


def written(path: Path, values: Any, **profile: Any) -> Path:
    bands = np.asarray(values)
    count, height, width = bands.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=bands.dtype, **profile
    ) as target:
        target.write(bands)
    return path


def picture(path: Path) -> Any:
    with MemoryFile(render_preview(path)) as memory, memory.open() as source:
        return source.read()


def test_one_band_goes_from_dark_to_light_and_is_transparent_without_data(tmp_path: Path):
    path = written(tmp_path / "one.tif", np.array([[[0, 50, 100, -1]]], dtype="float32"), nodata=-1)

    red, green, blue, alpha = picture(path)[:, 0, :]

    assert (red[0], green[0], blue[0]) == (68, 1, 84)
    assert (red[2], green[2], blue[2]) == (253, 231, 37)
    assert list(alpha) == [255, 255, 255, 0]


def test_a_constant_raster_is_one_colour(tmp_path: Path):
    seen = picture(written(tmp_path / "flat.tif", np.full((1, 2, 2), 7, dtype="int16")))

    assert len(np.unique(seen[:3].reshape(3, -1), axis=1).T) == 1
    assert (seen[3] == 255).all()


def test_a_raster_without_any_data_is_transparent(tmp_path: Path):
    seen = picture(written(tmp_path / "none.tif", np.full((1, 2, 2), np.nan, dtype="float32")))

    assert not seen[3].any()


def test_bands_are_found_by_their_names(tmp_path: Path):
    path = written(tmp_path / "four.tif", np.array([[[1]], [[2]], [[3]], [[4]]], dtype="uint8"))
    with rasterio.open(path, "r+") as target:
        target.descriptions = ("nir", "blue", "green", "red")

    assert list(picture(path)[:, 0, 0]) == [4, 3, 2, 255]


def test_a_palette_is_kept(tmp_path: Path):
    path = written(tmp_path / "classes.tif", np.array([[[1, 2]]], dtype="uint8"), photometric="palette")
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {1: (10, 20, 30), 2: (40, 50, 60)})

    assert picture(path)[:3, 0, :].T.tolist() == [[10, 20, 30], [40, 50, 60]]


def test_a_large_raster_is_made_small(tmp_path: Path):
    path = written(tmp_path / "wide.tif", np.zeros((1, 100, 4096), dtype="uint8"))

    assert picture(path).shape == (4, 25, 1024)


def test_a_file_that_names_other_files_is_not_opened(tmp_path: Path):
    path = tmp_path / "sly.tif"
    path.write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>', encoding="utf-8")

    with pytest.raises(RasterioIOError):
        render_preview(path)
