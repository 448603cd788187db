"""GeoJSON drawn as outlines."""

from __future__ import annotations

import pytest

from graticule.web.outlines import HEIGHT, MARGIN, WIDTH, outline


def square(west: float, south: float, edge: float) -> dict[str, object]:
    ring = [[west, south], [west + edge, south], [west + edge, south + edge], [west, south + edge], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def test_a_square_at_the_equator_is_drawn_as_a_square():
    drawn = outline(square(-0.5, -0.5, 1))

    assert drawn is not None
    # 460 - 2 * 28 = 404 units high, and as wide, in the middle: from 178 to 582.
    assert drawn.shapes[0].path == "M178.0 432.0L582.0 432.0L582.0 28.0L178.0 28.0L178.0 432.0Z"


def test_a_degree_of_longitude_is_half_as_wide_at_60_degrees():
    drawn = outline({"type": "LineString", "coordinates": [[0, 59], [4, 61]]})

    assert drawn is not None
    # 4 degrees, drawn as wide as 2: as the height.
    assert drawn.shapes[0].path == "M178.0 432.0L582.0 28.0"


def test_everything_lies_inside_the_margin():
    drawn = outline({"type": "MultiPoint", "coordinates": [[-180, -90], [180, 90], [13, 52]]})

    assert drawn is not None
    points = drawn.shapes[0].points
    assert min(x for x, _ in points) >= MARGIN
    assert max(x for x, _ in points) <= WIDTH - MARGIN
    assert max(y for _, y in points) <= HEIGHT - MARGIN


def test_the_graticule_is_at_round_numbers():
    drawn = outline(square(8.0, 47.0, 1))

    assert drawn is not None
    assert [line.label for line in drawn.parallels] == ["47.0° N", "47.5° N", "48.0° N"]


def test_one_point_is_in_the_middle():
    drawn = outline({"type": "Point", "coordinates": [8.5, 47.4]})

    assert drawn is not None
    assert drawn.shapes[0].points == ((WIDTH / 2, HEIGHT / 2),)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [1, 2],
        {"type": "Topology"},
        {"type": "FeatureCollection", "features": []},
        {"type": "Point", "coordinates": "nowhere"},
        {"type": "Polygon", "coordinates": [[["a", "b"]]]},
        {"type": "Feature", "geometry": None, "properties": {}},
    ],
)
def test_what_has_no_place_is_not_drawn(document: object):
    assert outline(document) is None


def test_very_many_vertices_are_thinned():
    line = {"type": "LineString", "coordinates": [[number / 1000, 0] for number in range(100_000)]}

    drawn = outline(line)

    assert drawn is not None
    assert drawn.shapes[0].path.count("L") < 40_001
