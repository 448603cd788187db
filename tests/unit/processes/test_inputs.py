"""What is wrong with a request is found before a job exists, all of it, with its place."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from graticule.errors import PluginNotLoaded
from graticule.ogc.common import COG, CRS84, GEOJSON, GEOTIFF
from graticule.ogc.processes import Format, Input, Output, ProcessDescription, WantedOutput
from graticule.processes.inputs import InputChecker, ReferencePolicy
from graticule.processes.validation import escape

PLAIN = ReferencePolicy()
MIXED = {"oneOf": [{"type": "string", "contentMediaType": "text/plain"}, {"type": "object"}]}
TIFF = {"type": "string", "contentEncoding": "binary", "contentMediaType": GEOTIFF}
PNG = {"type": "string", "contentEncoding": "binary", "contentMediaType": "image/png"}
GEOMETRY = {"type": "object", "format": "geojson-geometry", "contentMediaType": GEOJSON}
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 2], [0, 0]]]}

ECHO = ProcessDescription(
    id="echo",
    version="1.0.0",
    inputs={
        "message": Input(schema={"type": "string", "maxLength": 10}, min_occurs=0),
        "pause": Input(schema={"type": "integer", "minimum": 0, "maximum": 60}, min_occurs=0),
        "mixed": Input(schema=MIXED, min_occurs=0),
        "numbers": Input(schema={"type": "array", "items": {"type": "integer"}}, min_occurs=0),
        "box": Input(schema={"allOf": [{"format": "ogc-bbox"}]}, min_occurs=0),
        "several": Input(schema={"type": "number"}, min_occurs=0, max_occurs=3),
        "pairs": Input(schema={"type": "array", "items": {"type": "number"}}, min_occurs=0, max_occurs="unbounded"),
        "object": Input(schema={"type": "object", "required": ["a"]}, min_occurs=0),
        "dem": Input(schema={"oneOf": [TIFF, PNG]}, min_occurs=0),
        "place": Input(schema=GEOMETRY, min_occurs=0),
        "day": Input(schema={"type": "string", "format": "date"}, min_occurs=0),
        "byValue": Input(schema={"type": "string"}, min_occurs=0, value_passing=["byValue"]),
        "byReference": Input(schema={"type": "string"}, min_occurs=0, value_passing=["byReference"]),
        "a/b~c": Input(schema={"type": "string"}, min_occurs=0),
        "any": Input(schema={}, min_occurs=0),
    },
    outputs={
        "message": Output(schema={"type": "string"}),
        "shade": Output(schema={"oneOf": [TIFF, {**TIFF, "contentMediaType": COG}]}),
    },
    output_transmission=["value"],
)


@pytest.fixture(scope="module")
def echo() -> InputChecker:
    return InputChecker(ECHO)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"message": "hello"}, id="bare string"),
        pytest.param({"message": {"value": "hello"}}, id="qualified string"),
        pytest.param({"message": {"value": "hello", "mediaType": "text/plain"}}, id="plain text"),
        pytest.param({"message": {"value": _base64(b"hello"), "encoding": "base64"}}, id="text as base64"),
        pytest.param({"pause": 5}, id="integer"),
        pytest.param({"pause": 5.0}, id="integer with a point"),
        pytest.param({"mixed": {"value": "teststring"}}, id="mixed, as the suite sends it"),
        pytest.param({"mixed": "teststring"}, id="mixed, bare"),
        pytest.param({"mixed": {"value": {"a": 1}}}, id="mixed, an object"),
        pytest.param({"mixed": {"value": "x", "mediaType": "text/plain; charset=utf-8"}}, id="parameters of a type"),
        pytest.param({"mixed": {"value": {}, "mediaType": "application/json"}}, id="media type selects the object"),
        pytest.param({"numbers": [1, 2, 3]}, id="array as one value"),
        pytest.param({"box": {"bbox": [51.9, 7, 52, 7.1], "crs": CRS84}}, id="bbox"),
        pytest.param({"box": {"bbox": [0, 0, 0, 1, 1, 1], "crs": "EPSG:4979"}}, id="bbox with heights"),
        pytest.param({"box": {"bbox": [170, -10, -170, 10]}}, id="bbox over the antimeridian"),
        pytest.param({"box": {"value": {"bbox": [0, 0, 1, 1]}}}, id="bbox, qualified"),
        pytest.param({"several": [1, 2.5]}, id="several values"),
        pytest.param({"several": [{"value": 1}, 2, {"href": "https://example.org/n.json"}]}, id="several of all kinds"),
        pytest.param({"pairs": [[1, 2], [3]]}, id="arrays of arrays"),
        pytest.param({"object": {"value": {"a": 1}}}, id="object, wrapped"),
        pytest.param({"dem": _base64(b"II*\x00")}, id="binary, bare"),
        pytest.param({"dem": {"value": "SUkq\r\nAA==", "encoding": "base64"}}, id="base64 with line breaks"),
        pytest.param(
            {"dem": {"value": "SUkqAA==", "format": {"mediaType": "image/tiff", "encoding": "base64"}}},
            id="nested format",
        ),
        pytest.param({"dem": {"href": "https://example.org/a.tif"}}, id="link"),
        pytest.param({"dem": {"href": "https://example.org/a.tif", "type": "image/tiff"}}, id="link, typed"),
        pytest.param({"dem": {"href": "https://example.org/a", "type": "application/octet-stream"}}, id="link, vague"),
        pytest.param({"place": {"value": SQUARE}}, id="geometry"),
        pytest.param({"place": {"value": SQUARE, "mediaType": "application/json"}}, id="geometry, said to be JSON"),
        pytest.param({"day": "2026-02-28"}, id="date"),
        pytest.param({"byValue": "x", "byReference": {"href": "http://example.org/"}}, id="as they may be passed"),
        pytest.param({"any": [1, {"b": [None]}]}, id="anything"),
    ],
)
def test_what_fits_is_accepted(echo: InputChecker, inputs: dict[str, Any]) -> None:
    assert echo.check(inputs, None, PLAIN) == ()


@pytest.mark.parametrize(
    ("inputs", "pointer", "words"),
    [
        pytest.param({"nope": 1}, "/inputs/nope", "no such input", id="unknown"),
        pytest.param({"message": 5}, "/inputs/message", "string", id="wrong type"),
        pytest.param({"message": None}, "/inputs/message", "null", id="null"),
        pytest.param({"message": ["a"]}, "/inputs/message", "string", id="array for one value"),
        pytest.param({"message": "x" * 11}, "/inputs/message", "longer than 10", id="too long"),
        pytest.param({"message": "\ud800"}, "/inputs/message", "surrogate", id="lone surrogate"),
        pytest.param({"message": {"value": 5}}, "/inputs/message/value", "string", id="wrong type, qualified"),
        pytest.param({"message": {"text": "a"}}, "/inputs/message", "wrapped", id="bare object"),
        pytest.param(
            {"message": {"value": "a", "encoding": "rot13"}}, "/inputs/message/value", "rot13", id="unknown encoding"
        ),
        pytest.param(
            {"message": {"value": "a", "mediaType": 1}}, "/inputs/message/mediaType", "string", id="media type, no text"
        ),
        pytest.param({"pause": -5}, "/inputs/pause", "minimum of 0", id="below the minimum"),
        pytest.param({"pause": 2.5}, "/inputs/pause", "integer", id="no integer"),
        pytest.param({"pause": True}, "/inputs/pause", "integer", id="boolean for integer"),
        pytest.param({"pause": float("nan")}, "/inputs/pause", "NaN", id="NaN"),
        pytest.param({"numbers": [1, float("inf")]}, "/inputs/numbers", "infinite", id="infinity inside"),
        pytest.param({"numbers": [1, "b", 2]}, "/inputs/numbers/1", "integer", id="one element"),
        pytest.param({"mixed": 5}, "/inputs/mixed", "none of the allowed forms", id="no alternative fits"),
        pytest.param({"mixed": {"type": "wrong/type_1"}}, "/inputs/mixed", "wrapped", id="as the suite sends it"),
        pytest.param(
            {"mixed": {"value": "a", "mediaType": "a/b"}},
            "/inputs/mixed/mediaType",
            "not taken",
            id="media type unknown",
        ),
        pytest.param(
            {"mixed": {"value": {}, "mediaType": "text/plain"}},
            "/inputs/mixed/value",
            "string",
            id="object sent as text",
        ),
        pytest.param({"box": [0, 0, 1, 1]}, "/inputs/box", "bounding box", id="bbox as array"),
        pytest.param({"box": {"bbox": [0, 0, 1]}}, "/inputs/box", "4 numbers", id="bbox of three"),
        pytest.param({"box": {"bbox": [0, 0, "1", 1]}}, "/inputs/box", "numbers only", id="bbox of text"),
        pytest.param({"box": {"bbox": [10, 0, -10, 1]}}, "/inputs/box/bbox/0", "first minimum", id="bbox, x swapped"),
        pytest.param(
            {"box": {"bbox": [20, 0, 10, 1]}}, "/inputs/box/bbox/0", "first minimum", id="bbox, x swapped in the east"
        ),
        pytest.param({"box": {"bbox": [0, 5, 1, 1]}}, "/inputs/box/bbox/1", "second minimum", id="bbox, y swapped"),
        pytest.param(
            {"box": {"bbox": [0, 0, 9, 1, 1, 1]}}, "/inputs/box/bbox/2", "third minimum", id="bbox, z swapped"
        ),
        pytest.param({"box": {"bbox": [0, 0, 1, 1e999]}}, "/inputs/box", "infinite", id="bbox, infinite"),
        pytest.param(
            {"box": {"bbox": [0, 0, 1, 1], "crs": "wgs"}}, "/inputs/box", "crs 'wgs'", id="bbox, crs of no form"
        ),
        pytest.param({"several": [1, 2, 3, 4]}, "/inputs/several", "at most 3", id="too many"),
        pytest.param({"several": 1}, "/inputs/several", "send an array", id="one value where an array is due"),
        pytest.param({"several": [1, "x"]}, "/inputs/several/1", "number", id="second of several"),
        pytest.param({"pairs": [1, [2]]}, "/inputs/pairs/0", "array", id="not an array of arrays"),
        pytest.param({"object": {"value": {}}}, "/inputs/object/value", '"a" is a required', id="member missing"),
        pytest.param({"object": {"a": 1}}, "/inputs/object", "wrapped", id="object not wrapped"),
        pytest.param({"object": {"collection": "c"}}, "/inputs/object/collection", "not supported", id="collection"),
        pytest.param({"object": {"process": "p"}}, "/inputs/object/process", "not supported", id="nested process"),
        pytest.param({"dem": "§§§"}, "/inputs/dem", "base64", id="no base64"),
        pytest.param({"dem": 5}, "/inputs/dem", "base64", id="number for binary"),
        pytest.param({"dem": {"href": 5}}, "/inputs/dem/href", "string", id="href, no text"),
        pytest.param(
            {"dem": {"href": "https://example.org/a.tif", "value": "SUkqAA=="}},
            "/inputs/dem/href",
            "either the value or the link",
            id="href and value",
        ),
        pytest.param({"dem": {"href": ""}}, "/inputs/dem/href", "empty", id="href, empty"),
        pytest.param({"dem": {"href": "nowhere"}}, "/inputs/dem/href", "only http", id="href, relative"),
        pytest.param({"dem": {"href": "ftp://a.org/b"}}, "/inputs/dem/href", "only http", id="href, ftp"),
        pytest.param({"dem": {"href": "file:///etc/passwd"}}, "/inputs/dem/href", "file:", id="href, file"),
        pytest.param({"dem": {"href": "http://127.0.0.1/a"}}, "/inputs/dem/href", "private", id="href, loopback"),
        pytest.param({"dem": {"href": "http://localhost/a"}}, "/inputs/dem/href", "private", id="href, localhost"),
        pytest.param({"dem": {"href": "http://[::1]/a"}}, "/inputs/dem/href", "private", id="href, loopback v6"),
        pytest.param({"dem": {"href": "http://2130706433/a"}}, "/inputs/dem/href", "private", id="href, as a number"),
        pytest.param(
            {"dem": {"href": "http://169.254.169.254/"}}, "/inputs/dem/href", "private", id="href, link-local"
        ),
        pytest.param({"dem": {"href": "http://a.org:99999/"}}, "/inputs/dem/href", "no valid", id="href, port"),
        pytest.param(
            {"dem": {"href": "http://a.org/", "type": "text/html"}},
            "/inputs/dem/type",
            "text/html",
            id="link of a wrong type",
        ),
        pytest.param(
            {"place": {"value": {"type": "Square"}}}, "/inputs/place/value/type", "Point", id="unknown geometry"
        ),
        pytest.param(
            {"place": {"value": {"type": "Point"}}}, "/inputs/place/value", "coordinates", id="no coordinates"
        ),
        pytest.param(
            {"place": {"value": {"type": "LineString", "coordinates": [[0, 0], [1, "a"]]}}},
            "/inputs/place/value/coordinates/1/1",
            "number",
            id="coordinate of text",
        ),
        pytest.param({"day": "2026-02-30"}, "/inputs/day", "date", id="no such day"),
        pytest.param(
            {"byValue": {"href": "http://a.org/"}}, "/inputs/byValue/href", "by value only", id="by value only"
        ),
        pytest.param({"byReference": "x"}, "/inputs/byReference", "by reference only", id="by reference only"),
        pytest.param({"a/b~c": 1}, "/inputs/a~1b~0c", "string", id="name that needs escaping"),
        pytest.param({"any": b"x"}, "/inputs/any", "not JSON", id="bytes"),
    ],
)
def test_what_does_not_fit_is_named(echo: InputChecker, inputs: dict[str, Any], pointer: str, words: str) -> None:
    faults = echo.check(inputs, None, PLAIN)

    assert [fault.pointer for fault in faults] == [pointer]
    assert words in faults[0].message


def test_every_minimum_above_its_maximum_is_named(echo: InputChecker) -> None:
    faults = echo.check({"box": {"bbox": [10, 10, 5, 5]}}, None, PLAIN)

    assert [fault.pointer for fault in faults] == ["/inputs/box/bbox/0", "/inputs/box/bbox/1"]


@pytest.mark.parametrize(
    ("sent", "pointer"),
    [
        pytest.param({"type": "Point", "coordinates": [1]}, "/coordinates", id="geometry"),
        pytest.param({"type": "Feature", "properties": {}}, "", id="feature without geometry"),
        pytest.param(
            {
                "type": "FeatureCollection",
                "features": [
                    {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": ["a", 1]}}
                ],
            },
            "/features/0/geometry/coordinates/0",
            id="feature collection",
        ),
    ],
)
def test_of_several_kinds_of_geojson_the_one_that_was_sent_is_blamed(sent: dict[str, Any], pointer: str) -> None:
    kinds = [{**GEOMETRY, "format": f"geojson-{kind}"} for kind in ("geometry", "feature", "feature-collection")]
    checker = InputChecker(ProcessDescription(id="h", version="1", inputs={"x": Input(schema={"oneOf": kinds})}))

    faults = checker.check({"x": {"value": sent}}, None, PLAIN)

    assert [fault.pointer for fault in faults] == [f"/inputs/x/value{pointer}"]
    assert "none of the allowed forms" not in faults[0].message


def test_deep_nesting_is_refused(echo: InputChecker) -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]

    assert "deeper" in echo.check({"any": deep}, None, PLAIN)[0].message


def test_a_missing_input_is_named() -> None:
    hello = InputChecker(ProcessDescription(id="h", version="1", inputs={"name": Input(schema={"type": "string"})}))

    assert [fault.pointer for fault in hello.check({}, None, PLAIN)] == ["/inputs/name"]


def test_too_few_values_are_named() -> None:
    two = Input(schema={"type": "string"}, min_occurs=2, max_occurs=5)
    checker = InputChecker(ProcessDescription(id="h", version="1", inputs={"names": two}))

    assert "at least 2" in checker.check({"names": ["a"]}, None, PLAIN)[0].message
    assert "at least 2" in checker.check({"names": []}, None, PLAIN)[0].message


def test_all_faults_come_at_once(echo: InputChecker) -> None:
    faults = echo.check(
        {"nope": 1, "pause": -5, "several": ["a", "b"]}, {"other": WantedOutput(), "message": WantedOutput()}, PLAIN
    )

    assert {fault.pointer for fault in faults} == {
        "/inputs/nope",
        "/inputs/pause",
        "/inputs/several/0",
        "/inputs/several/1",
        "/outputs/other",
    }


def test_many_faults_of_one_value_are_cut_off(echo: InputChecker) -> None:
    faults = echo.check({"numbers": ["a"] * 1000}, None, PLAIN)

    assert len(faults) == 21


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        pytest.param(WantedOutput(format=Format(media_type="image/tiff")), None, id="offered"),
        pytest.param(WantedOutput(transmission_mode="value"), None, id="by value"),
        pytest.param(
            WantedOutput(transmission_mode="reference"), "/outputs/shade/transmissionMode", id="not by reference"
        ),
        pytest.param(
            WantedOutput(format=Format(media_type="text/csv")), "/outputs/shade/format/mediaType", id="not offered"
        ),
    ],
)
def test_wanted_outputs_are_checked(echo: InputChecker, wanted: WantedOutput, pointer: str | None) -> None:
    faults = echo.check({}, {"shade": wanted}, PLAIN)

    assert [fault.pointer for fault in faults] == ([] if pointer is None else [pointer])


@pytest.mark.parametrize(
    ("policy", "href"),
    [
        pytest.param(
            ReferencePolicy(allow_private_addresses=True), "http://127.0.0.1/a", id="private addresses allowed"
        ),
        pytest.param(
            ReferencePolicy(allowed_folders=("/data",)), "file:///data/a%20b.tif", id="file in an allowed folder"
        ),
        pytest.param(ReferencePolicy(local_files={"/files/1/a": "/x"}), "/files/1/a", id="own file"),
    ],
)
def test_a_policy_allows_references(echo: InputChecker, policy: ReferencePolicy, href: str) -> None:
    assert echo.check({"dem": {"href": href}}, None, policy) == ()


@pytest.mark.parametrize("href", ["file:///data/../etc/passwd", "file:///database/a", "file://host/data/a"])
def test_no_file_outside_the_allowed_folders_is_read(echo: InputChecker, href: str) -> None:
    policy = ReferencePolicy(allowed_folders=("/data",))

    assert len(echo.check({"dem": {"href": href}}, None, policy)) == 1


def test_a_policy_survives_the_way_to_the_job_process() -> None:
    policy = ReferencePolicy(allowed_folders=("/data",), local_files={"a": "/b"}, max_bytes=5)

    assert msgspec.json.decode(msgspec.json.encode(policy), type=ReferencePolicy) == policy


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "text"}, id="no such type"),
        pytest.param({"$ref": "http://example.org/schema.json"}, id="refers to elsewhere"),
        pytest.param({"$ref": "file:///etc/passwd"}, id="refers to a file"),
        pytest.param({"type": "string", "pattern": "(?=a)b"}, id="look-around"),
    ],
)
def test_a_schema_that_cannot_be_used_is_said_at_once(schema: dict[str, Any]) -> None:
    with pytest.raises(PluginNotLoaded):
        InputChecker(ProcessDescription(id="h", version="1", inputs={"name": Input(schema=schema)}))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        pytest.param({"type": "number", "minimum": 0, "exclusiveMinimum": True}, 1, 0, id="exclusive bound as boolean"),
        pytest.param({"type": "number", "maximum": 360, "not": {"enum": [360]}}, 359.5, 360, id="excluded number"),
        pytest.param(
            {"type": "number", "maximum": 360, "not": {"enum": [360]}}, 359.5, 360.0, id="excluded, other spelling"
        ),
        pytest.param({"oneOf": [{"type": "integer"}, {"type": "number"}]}, 5, "a", id="overlapping oneOf"),
        pytest.param({"type": "array", "items": {"type": "string", "nullable": True}}, [None], [1], id="nullable"),
    ],
)
def test_schemas_of_openapi_3_0_are_understood(schema: dict[str, Any], good: Any, bad: Any) -> None:
    checker = InputChecker(ProcessDescription(id="h", version="1", inputs={"x": Input(schema=schema)}))

    assert checker.check({"x": good}, None, PLAIN) == ()
    assert len(checker.check({"x": bad}, None, PLAIN)) == 1


@pytest.mark.parametrize(
    ("schema", "given", "message"),
    [
        ({"minimum": 0, "not": {"enum": [0]}}, 0, "0 is not allowed; the value must be above 0"),
        ({"minimum": 0, "not": {"enum": [0]}}, -1, "-1 is not allowed; the value must be above 0"),
        ({"maximum": 360, "not": {"enum": [360]}}, 360.0, "360.0 is not allowed; the value must be below 360"),
        ({"minimum": 0, "maximum": 9, "not": {"enum": [0, 9]}}, 9, "9 is not allowed; the value must be below 9"),
        ({"minimum": 0, "maximum": 9, "not": {"enum": [5, 0]}}, 0, "0 is not allowed; the value must be above 0"),
        ({"minimum": 0, "not": {"enum": [5]}}, -1, "-1 is less than the minimum of 0"),
        ({"minimum": 0, "not": {"enum": [5, 0]}}, 5, "5 is not allowed; send another value"),
        ({"minimum": 0, "not": {"enum": [0, None]}}, 0, "0 is not allowed; the value must be above 0"),
    ],
)
def test_a_bound_that_is_excluded_is_named(schema: dict[str, Any], given: float, message: str) -> None:
    schema = {"type": "number", **schema}
    checker = InputChecker(ProcessDescription(id="h", version="1", inputs={"x": Input(schema=schema)}))

    assert [fault.message for fault in checker.check({"x": given}, None, PLAIN)] == [message]


def test_pointers_escape_names() -> None:
    assert escape("a/b~c") == "a~1b~0c"
