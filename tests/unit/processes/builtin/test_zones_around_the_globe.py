"""Zones over 180 degrees, around poles and beyond the globe count what zones cut by hand count."""

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from shapely.geometry import box, mapping

from graticule.errors import InvalidInputs
from graticule.processes.builtin.zonal_statistics import Question, zone_statistics

GRIDS = {
    "mercator": ("EPSG:3857", 400, 200, from_origin(-20037508.34, 20037508.34, 100187.5417, 200375.0834)),
    "mercator over 180": ("EPSG:3857", 40, 200, from_origin(18_000_000, 20037508.34, 100187.5417, 200375.0834)),
    "equal area": ("EPSG:6933", 347, 146, from_origin(-17_350_000, 7_300_000, 100_000, 100_000)),
    "mollweide": ("ESRI:54009", 180, 90, from_origin(-18_000_000, 9_000_000, 200_000, 200_000)),
    "mollweide about 150": ("+proj=moll +lon_0=150", 180, 90, from_origin(-18e6, 9e6, 200_000, 200_000)),
    "robinson": ("ESRI:54030", 180, 90, from_origin(-18_000_000, 9_000_000, 200_000, 200_000)),
    "pacific": ("EPSG:3832", 100, 100, from_origin(2_000_000, 1_000_000, 10_000, 10_000)),
    "globe": ("EPSG:4326", 360, 180, from_origin(-180, 90, 1, 1)),
    "globe from 0": ("EPSG:4326", 360, 180, from_origin(0, 90, 1, 1)),
    "north": ("EPSG:3413", 200, 200, from_origin(-4_000_000, 4_000_000, 40_000, 40_000)),
    "north off the pixels": ("EPSG:3413", 200, 200, from_origin(-4_012_345, 4_001_234, 40_000, 40_000)),
    "sea ice": ("EPSG:3413", 304, 448, from_origin(-3_850_000, 5_850_000, 25_000, 25_000)),
    "universal polar": ("EPSG:32661", 200, 200, from_origin(-2_000_000, 6_000_000, 40_000, 40_000)),
    "ease": ("EPSG:6931", 360, 360, from_origin(-9_000_000, 9_000_000, 50_000, 50_000)),
    "europe and the pole": ("EPSG:3035", 500, 500, from_origin(0, 12_000_000, 20_000, 20_000)),
    "south": ("EPSG:3031", 316, 332, from_origin(-3_950_000, 4_350_000, 25_000, 25_000)),
}
CYLINDERS = ["mercator", "equal area", "mollweide", "mollweide about 150", "robinson", "globe", "globe from 0"]
POLES = ["north", "north off the pixels", "sea ice", "universal polar", "ease", "europe and the pole"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder, opened = tmp_path_factory.mktemp("grids"), {}

    def open_grid(name):
        if name not in opened:
            crs, width, height, transform = GRIDS[name]
            size = {"width": width, "height": height, "count": 1, "dtype": "uint8"}
            path = folder / f"{name}.tif"
            with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **size) as target:
                target.write(np.ones((1, height, width), "uint8"))
            opened[name] = rasterio.open(path)
        return opened[name]

    yield open_grid
    for dataset in opened.values():
        dataset.close()


def counts(dataset, *zones):
    features = [{"type": "Feature", "properties": {}, "geometry": mapping(zone)} for zone in zones]
    question = Question(statistics=("count",))
    found = zone_statistics(dataset, features, question, pointer="/inputs/zones", report=lambda *_: None)
    return [feature["properties"]["count"] for feature in found]


def boxes(*bounds):
    return shapely.MultiPolygon([box(*one) for one in bounds])


def oracle(name, *bounds, turn=0.0):
    """Count pixels in boxes that were cut by hand, each bent by itself and computed with double precision."""
    crs, width, height, transform = GRIDS[name]
    to_grid = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True)

    def bend(points):
        x, y = to_grid.transform(points[:, 0] + turn, points[:, 1])
        columns, rows = ~transform @ (np.asarray(x), np.asarray(y))
        return np.round(np.column_stack([columns, height - rows]), 6)

    ones = NumPyRasterSource(np.ones((height, width)), xmin=0, xmax=width, ymin=0, ymax=height)
    total = 0.0
    for one in bounds:
        piece = shapely.transform(shapely.segmentize(box(*one), 0.02), bend)
        asked = {"type": "Feature", "properties": {}, "geometry": mapping(piece)}
        [found] = exact_extract(ones, asked, ["count"], output="geojson")
        total += found["properties"]["count"]
    return total


@pytest.mark.parametrize("name", CYLINDERS)
def test_a_zone_over_180_degrees_counts_what_its_halves_count(grid, name):
    crossing = box(170, -10, 190, 10), box(-190, -10, -170, 10), box(890, -10, 910, 10)
    cut = boxes((170, -10, 180, 10), (-180, -10, -170, 10))

    *whole, halves = counts(grid(name), *crossing, cut)

    assert whole == pytest.approx([halves] * 3)
    west = (-180 + 1e-9, -10, -170, 10) if name != "globe from 0" else (180, -10, 190, 10)
    assert halves == pytest.approx(oracle(name, (170, -10, 180 - 1e-9, 10), west), rel=1e-5)


@pytest.mark.parametrize("name", CYLINDERS)
def test_zones_around_the_globe_count_all_of_it_wherever_they_begin(grid, name):
    around = [counts(grid(name), box(west, -80, west + 360, 80))[0] for west in (-180, 0, -10, -190)]
    narrow = [counts(grid(name), box(west, -10, west + 350, 10))[0] for west in (-175, 185)]

    quarters = [(west + 1e-9, -80, west + 90 - 1e-9, 80) for west in (-180, -90, 0, 90)]
    if name == "globe from 0":
        quarters = [(west % 360, south, west % 360 + 90, north) for west, south, _, north in quarters]
    if name == "mollweide about 150":
        quarters = [(-30 + start, -80, 60 + start - 1e-9, 80) for start in (1e-9, 90, 180, 270)]
    assert around == pytest.approx([oracle(name, *quarters)] * 4, rel=1e-5)
    assert narrow[0] == pytest.approx(narrow[1])


def test_the_numbers_that_were_wrong_once(grid):
    assert counts(grid("mercator"), box(170, -10, 190, 10), box(179, 0, 181, 1)) == pytest.approx(
        [248.177, 1.23463], 1e-5
    )
    assert counts(grid("globe"), box(170, -10, 190, 10)) == pytest.approx([400])
    world, west, east = box(-180, -90, 180, 90), box(-180, -90, 0, 90), box(0, -90, 180, 90)
    assert counts(grid("globe from 0"), world, west, east) == pytest.approx([64800, 32400, 32400])
    assert counts(grid("north"), box(-180, 80, 180, 90)) == pytest.approx([2315.3987], 1e-5)


def test_a_raster_that_goes_on_past_180_degrees_has_both_sides(grid):
    inside = counts(
        grid("mercator over 180"), box(170, -10, 190, 10), boxes((170, -10, 180, 10), (-180, -10, -170, 10))
    )

    assert inside == pytest.approx(counts(grid("mercator"), box(170, -10, 190, 10)) * 2)
    assert counts(grid("mercator over 180"), box(-180, -90, 180, 90)) == pytest.approx([40 * 200])
    [part] = counts(grid("pacific"), box(170, -10, 190, 10))
    assert part == pytest.approx(oracle("pacific", (170, -10, 180, 10)), rel=1e-5)


@pytest.mark.parametrize("name", POLES)
@pytest.mark.parametrize("latitude", [75, 85])
def test_a_polar_cap_is_the_sum_of_its_quarters(grid, name, latitude):
    quarters = [(west, latitude, west + 90, 90) for west in (-180, -90, 0, 90)]
    halves = box(-180, latitude, 0, 90), box(0, latitude, 180, 90)

    cap, turned, east, west, *each = counts(
        grid(name),
        box(-180, latitude, 180, 90),
        box(-100, latitude, 260, 90),
        *halves,
        *(box(*one) for one in quarters),
    )

    assert [cap, turned, east + west, sum(each)] == pytest.approx([oracle(name, *quarters)] * 4, rel=1e-5)


def test_the_southern_cap_and_a_ring_around_the_pole(grid):
    cap, inner, ring = counts(
        grid("south"),
        box(-180, -90, 180, -75),
        box(-180, -90, 180, -85),
        box(-180, -85, 180, -75),
    )

    quarters = [(west, -90, west + 90, -75) for west in (-180, -90, 0, 90)]
    assert cap == pytest.approx(oracle("south", *quarters), rel=1e-5)
    assert ring == pytest.approx(cap - inner, rel=1e-6)


places = st.integers(0, 10)
wests = st.one_of(st.integers(-400, 400), st.floats(-400, 400))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from([*CYLINDERS, *POLES]),
    west=wests,
    widths=st.tuples(st.integers(1, 180), st.integers(1, 180)),
    south=st.integers(60, 83),
    north=st.sampled_from([86, 88, 90]),
)
def test_two_neighbours_count_what_both_together_count(grid, name, west, widths, south, north):
    if name == "mercator":
        north = min(north, 85.5)
    middle, east = west + widths[0], west + sum(widths)

    first, second, both = counts(
        grid(name), *(box(a, south, b, north) for a, b in ((west, middle), (middle, east), (west, east)))
    )

    assert both == pytest.approx(first + second, rel=1e-6, abs=2e-3)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from([*CYLINDERS, *POLES]),
    corners=st.lists(st.tuples(st.integers(-60, 60), st.integers(62, 84)), min_size=3, max_size=6, unique=True),
    west=st.integers(-180, 180),
    turns=st.integers(-2, 2),
)
def test_a_turn_around_the_globe_changes_nothing(grid, name, corners, west, turns):
    zone = shapely.convex_hull(shapely.MultiPoint([(west + x, y) for x, y in corners]))
    if zone.geom_type != "Polygon":
        return

    turned = shapely.affinity.translate(zone, 360 * turns)

    assert counts(grid(name), zone) == pytest.approx(counts(grid(name), turned), rel=1e-6, abs=1e-4)


@pytest.mark.parametrize(
    ("zone", "said"),
    [(box(-1e6, -90, 1e6, 90), "features/0 has longitudes from"), (box(5e8, 0, 5e8 + 1, 1), "send such between")],
)
def test_longitudes_that_mean_nothing_are_refused(grid, zone, said):
    with pytest.raises(InvalidInputs, match=said):
        counts(grid("globe"), zone)


def test_a_zone_over_a_place_where_the_crs_is_torn_is_refused(write_raster):
    path = write_raster(
        "torn.tif", np.ones((90, 202), "uint8"), crs="+proj=igh", transform=from_origin(-2.02e7, 9e6, 2e5, 2e5)
    )

    with rasterio.open(path) as dataset:
        [lobe] = counts(dataset, box(-90, -50, -30, 0))
        assert lobe > 0
        with pytest.raises(InvalidInputs, match="features/0 goes over a place where the raster's CRS is torn"):
            counts(dataset, box(-60, -50, 0, -10))


def test_a_zone_around_the_place_opposite_the_raster_is_refused(write_raster):
    crs, transform = "+proj=laea +lat_0=0 +lon_0=0", from_origin(-1.3e7, 1.3e7, 1e6, 1e6)
    path = write_raster("whole.tif", np.ones((26, 26), "uint8"), crs=crs, transform=transform)

    with rasterio.open(path) as dataset, pytest.raises(InvalidInputs, match="features/0"):
        counts(dataset, box(100, -60, 260, 60))
