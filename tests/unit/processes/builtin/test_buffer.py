from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod
from shapely.geometry import shape

from graticule.errors import InvalidInputs
from graticule.processes.builtin.buffer import Zone, buffer, buffered
from graticule.processes.process import Dismissed

WGS84 = Geod(ellps="WGS84")
EARTH_RADIUS_M = 6_371_007.2
"""Of the sphere with the area of the ellipsoid."""


def area_of(area):
    """Return square metres on the ellipsoid, holes taken off."""
    return sum(abs(WGS84.geometry_area_perimeter(part)[0]) for part in shapely.get_parts(area))


def cap_area(distance):
    """Return the area of a circle on the sphere."""
    return 2 * math.pi * EARTH_RADIUS_M**2 * (1 - math.cos(distance / EARTH_RADIUS_M))


def distance_to(geometry, longitude, latitude, *, step_m):
    """Return metres from a place to the outline of a geometry whose edges are straight in longitude and latitude."""
    points = shapely.get_coordinates(shapely.segmentize(geometry, step_m / 111_000))
    return WGS84.inv(*np.broadcast_arrays(longitude, latitude, *points.T))[2].min()


PLACES = [(0, 0), (10, 50), (179.9, 0), (-180, 10), (0, 89.9), (0, 90), (50, -85), (-120, -89.99)]


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("distance", [100, 1e5, 1e6])
def test_a_circle_has_the_area_of_a_circle_anywhere_on_the_globe(place, distance):
    circle = buffered(shapely.Point(place), Zone(distance=distance, segments=64))

    assert circle.is_valid
    assert area_of(circle) == pytest.approx(cap_area(distance), rel=0.012 if distance < 1e6 else 0.006)


@pytest.mark.parametrize("place", [(7, 46), (-70, -60), (30, 0)], ids=str)
def test_every_corner_of_a_circle_lies_at_the_distance(place):
    circle = buffered(shapely.Point(place), Zone(distance=25_000))

    corners = shapely.get_coordinates(circle)

    _, _, away = WGS84.inv(*np.broadcast_arrays(*place, *corners.T))
    np.testing.assert_allclose(away, 25_000, rtol=1e-6)
    assert len(corners) == 4 * 16 + 1


def test_a_circle_over_the_antimeridian_is_two_polygons():
    circle = buffered(shapely.Point(180, 0), Zone(distance=1e5))

    west_edges = sorted(part.bounds[0] for part in shapely.get_parts(circle))
    assert west_edges == [-180, pytest.approx(179.1, abs=0.01)]


def test_a_circle_around_a_pole_reaches_the_pole_at_all_longitudes():
    circle = buffered(shapely.Point(40, 89), Zone(distance=5e5))

    assert circle.bounds == pytest.approx((-180, 84.54, 180, 90), abs=0.02)
    assert circle.contains(shapely.Point(-100, 89.99))


LINES = {
    "equator": ("LINESTRING (0 0, 10 0)", 1e5),
    "parallel": ("LINESTRING (0 80, 90 80)", 1e5),
    "over the antimeridian": ("LINESTRING (175 50, 185 50)", 5e4),
    "narrow": ("LINESTRING (8 60, 8.4 60)", 50),
    "square": ("POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))", 1e4),
    "square in the north": ("POLYGON ((10 70, 14 70, 14 72, 10 72, 10 70))", 2e4),
    "ring": ("POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0), (1 1, 1 3, 3 3, 3 1, 1 1))", 5e4),
}


@pytest.mark.parametrize(("text", "distance"), LINES.values(), ids=LINES)
def test_the_outline_of_a_zone_lies_at_the_distance(text, distance):
    geometry = shapely.from_wkt(text)

    zone = buffered(geometry, Zone(distance=distance))

    corners = shapely.get_coordinates(zone)
    corners = corners[np.abs(corners[:, 0]) < 180]  # a cut along the antimeridian is no outline
    away = [distance_to(geometry, *corner, step_m=distance / 15) for corner in corners[:: len(corners) // 40]]
    assert zone.is_valid
    np.testing.assert_allclose(away, distance, rtol=0.003)


def test_a_polygon_is_in_its_zone_whole():
    square = shapely.box(0, 0, 1, 1)

    assert buffered(square, Zone(distance=1)).covers(square.buffer(-1e-9))


def test_a_hole_that_is_wide_enough_stays():
    zone = buffered(shapely.from_wkt(LINES["ring"][0]), Zone(distance=5e4))

    assert [len(part.interiors) for part in shapely.get_parts(zone)] == [1]
    assert not zone.contains(shapely.Point(2, 2))


def test_a_polar_cap_sent_as_a_rectangle_stays_a_cap():
    cap = shapely.box(-180, -90, 180, -80)

    zone = buffered(cap, Zone(distance=1e5))

    assert zone.bounds == pytest.approx((-180, -90, 180, -79.104), abs=0.01)
    assert zone.geom_type == "Polygon"


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-180, 180), st.floats(-90, 90), st.floats(1, 4_900_000), st.floats(-180, 180), st.floats(-90, 90)
)  # fmt: skip
def test_a_place_is_in_a_circle_when_its_distance_says_so(longitude, latitude, distance, east, north):
    away = WGS84.inv(longitude, latitude, east, north)[2]
    circle = buffered(shapely.Point(longitude, latitude), Zone(distance=distance, segments=32))

    if away < distance * 0.98:
        assert circle.covers(shapely.Point(east, north)) or circle.distance(shapely.Point(east, north)) < 1e-6
    elif away > distance * 1.02:
        assert not circle.contains(shapely.Point(east, north))


# --- the process ---


POINT = {"type": "Point", "coordinates": [8, 47]}


def result_of(run, geojson, distance=1000, **inputs):
    output = run(buffer, geojson=geojson, distance=distance, **inputs)["buffer"]
    assert output.media_type == "application/geo+json"
    return output.value


def test_a_geometry_gives_a_geometry(run):
    result = result_of(run, POINT)

    assert result["type"] == "Polygon"
    assert shape(result).exterior.is_ccw


def test_a_feature_keeps_what_it_had(run):
    feature = {"type": "Feature", "id": 7, "properties": {"name": "here"}, "geometry": POINT}

    result = result_of(run, feature)

    assert result | {"geometry": None} == feature | {"geometry": None}
    assert result["geometry"]["type"] == "Polygon"


def test_a_collection_keeps_its_features_in_order_also_those_without_geometry(run):
    features = [
        {"type": "Feature", "properties": {"name": name}, "geometry": geometry}
        for name, geometry in (
            ("a", POINT),
            ("b", None),
            ("c", {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}),
        )
    ]

    result = result_of(run, {"type": "FeatureCollection", "features": features})

    assert [feature["properties"]["name"] for feature in result["features"]] == ["a", "b", "c"]
    assert [bool(feature["geometry"]) for feature in result["features"]] == [True, False, True]


def test_all_zones_can_be_merged_into_one_geometry(run):
    points = {"type": "GeometryCollection", "geometries": [POINT, {"type": "Point", "coordinates": [8.001, 47]}]}

    result = result_of(run, points, merge=True)

    assert result["type"] == "Polygon"


def test_heights_are_left_out(run):
    result = result_of(run, {"type": "Point", "coordinates": [8, 47, 500]})

    assert {len(position) for position in result["coordinates"][0]} == {2}


@pytest.mark.parametrize(
    ("geojson", "said"),
    [
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}, "Self-intersection[0.5 0.5]"),
        ({"type": "Point", "coordinates": [47, 98]}, "longitude, then latitude"),
        ({"type": "GeometryCollection", "geometries": []}, "no geometry"),
        ({"type": "Feature", "properties": {}, "geometry": None}, "no geometry"),
    ],
    ids=["crosses itself", "swapped", "empty", "none"],
)
def test_a_geometry_that_cannot_be_used_is_refused(run, geojson, said):
    with pytest.raises(InvalidInputs) as refusal:
        result_of(run, geojson)

    [fault] = refusal.value.faults
    assert fault.pointer == "/inputs/geojson"
    assert said in fault.message


@pytest.mark.parametrize(
    ("geojson", "said"),
    [
        ({"type": "Point", "coordinates": [1e308, 1]}, "has longitudes from"),
        ({"type": "Point", "coordinates": [1e16, 1]}, "send such between -1080 and 1080"),
        ({"type": "Polygon", "coordinates": [[[1081, 1], [10811, 1], [10811, 2], [1081, 1]]]}, "from 1081 to 10811"),
        ({"type": "LineString", "coordinates": [[0, 0], [1e9, 1]]}, "from 0 to 1e\\+09"),
        ({"type": "LineString", "coordinates": [[-1080, 1], [1080, 1]]}, "has edges so long .* send shorter edges"),
    ],
    ids=["infinitely far", "far", "polygon", "line", "steps of some metres three times around the globe"],
)
def test_what_would_run_for_minutes_is_refused(run, geojson, said):
    with pytest.raises(InvalidInputs, match=said):
        result_of(run, geojson, 0.001)


def test_a_line_three_times_around_the_globe_is_a_band(run):
    line = {"type": "LineString", "coordinates": [[-540, 10], [540, 10]]}

    result = result_of(run, line, 100_000)

    assert shape(result).bounds == pytest.approx((-180, 9.1, 180, 10.9), abs=0.01)


@pytest.mark.parametrize(
    "coordinates",
    [[[0, 0], [1, 0, 5], [1, 1]], [[0, 0, 1, 2], [1, 0, 5, 6], [1, 1, 0, 0, 0]]],
    ids=["some heights", "more numbers than heights"],
)
def test_what_follows_longitude_and_latitude_is_left_out(run, coordinates):
    line = {"type": "LineString", "coordinates": coordinates}
    flat = {"type": "LineString", "coordinates": [[0, 0], [1, 0], [1, 1]]}

    assert result_of(run, line, 10_000) == result_of(run, flat, 10_000)


@pytest.mark.parametrize("distance", [0, -5, 6_000_000])
def test_the_description_allows_distances_above_zero_and_below_half_a_hemisphere(run, distance):
    with pytest.raises(InvalidInputs) as refusal:
        result_of(run, POINT, distance=distance)

    assert [fault.pointer for fault in refusal.value.faults] == ["/inputs/distance"]


def test_a_dismissal_is_obeyed(run, context):
    context.stop_after = 1
    features = [{"type": "Feature", "properties": {}, "geometry": POINT}] * 3

    with pytest.raises(Dismissed):
        result_of(run, {"type": "FeatureCollection", "features": features})


@pytest.mark.parametrize("distance", [0.001, 0.01, 0.05, 0.1, 1.0])
@pytest.mark.parametrize("place", [(8.123456, 49.5), (179.9999, -70.0), (0.0, 0.0)])
def test_small_distances_are_as_right_as_large_ones(place, distance):
    area = buffered(shapely.Point(place), Zone(distance=distance, segments=16))

    ring = shapely.get_coordinates(area)
    away = WGS84.inv(*np.broadcast_arrays(*place, *ring.T))[2]
    assert np.abs(away / distance - 1).max() < 1e-3
