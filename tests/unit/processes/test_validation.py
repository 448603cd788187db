"""Large values are judged like small ones, in bounded memory."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from graticule.errors import Fault
from graticule.processes.geojson import STRUCTURES
from graticule.processes.validation import SHOWN_FAULTS, Validator, compile_schema

COLLECTION = STRUCTURES["geojson-feature-collection"]
NUMBERS = {"type": "array", "items": {"type": "integer"}, "maxItems": 2_000_000}
NAMED = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "integer"}}
OWN_PART = {"items": {"$ref": "#/properties/a"}, "properties": {"a": NUMBERS}}
CLOSED = {"type": "object", "properties": {"a": {"type": "array"}}, "additionalProperties": False}


def points(positions: list[Any]) -> dict[str, Any]:
    features = [
        {"type": "Feature", "properties": None, "geometry": {"type": "Point", "coordinates": one}} for one in positions
    ]
    return {"type": "FeatureCollection", "features": features}


def ring(position: list[Any]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[position] * 30_000]}


LARGE = [
    pytest.param(COLLECTION, points([["a"] * 300] * 300), id="wrong coordinates"),
    pytest.param(COLLECTION, points([*([[1, 2]] * 20_000), [1]]), id="the last one"),
    pytest.param(COLLECTION, {**points([[1, 2]] * 20_000), "type": "Feature"}, id="another kind"),
    pytest.param(COLLECTION, {"type": "FeatureCollection", "more": [0] * 30_000}, id="a member that is missing"),
    pytest.param(STRUCTURES["geojson-geometry"], ring([1, 2, None]), id="heights of null"),
    pytest.param(NUMBERS, ["a"] * 50_000, id="array"),
    pytest.param({**NUMBERS, "maxItems": 10}, [1] * 50_000, id="too many"),
    pytest.param({**NUMBERS, "uniqueItems": True}, [1] * 30_000, id="not unique"),
    pytest.param({"items": NUMBERS}, [[1] * 30_000, ["b"] * 30_000], id="arrays of arrays"),
    pytest.param({"anyOf": [NUMBERS, {"type": "string"}]}, [0.5] * 30_000, id="none of the alternatives"),
    pytest.param({**NUMBERS, "nullable": True}, ["a"] * 30_000, id="may be null"),
    pytest.param(NAMED, {f"n{number}": "a" for number in range(30_000)}, id="members"),
    pytest.param(CLOSED, {"a": [0] * 30_000, "b": 1}, id="member that is not known"),
    pytest.param({"allOf": [{"not": {"required": ["a"]}}]}, {"a": [0] * 30_000}, id="not"),
]


@pytest.mark.parametrize(("schema", "value"), LARGE)
def test_of_a_large_value_the_first_faults_are_those_of_the_validator(schema: dict[str, Any], value: Any) -> None:
    at_once = compile_schema(schema)
    every = ["/x" + "".join(f"/{step}" for step in error.instance_path) for error in at_once.iter_errors(value)]

    found = list(Validator(schema).faults(value, "/x"))

    assert [fault.pointer for fault in found[:SHOWN_FAULTS]] == every[:SHOWN_FAULTS]
    assert (Fault("/x", "there are more faults like these") in found) == (len(every) > SHOWN_FAULTS)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        pytest.param(COLLECTION, points([[1, 2]] * 20_000), id="collection"),
        pytest.param(STRUCTURES["geojson-geometry"], ring([1, 2, 3.5]), id="polygon"),
        pytest.param({"anyOf": [{"type": "string"}, NUMBERS]}, [1] * 50_000, id="the second alternative"),
        pytest.param(NAMED, {"a": "x", **{f"n{number}": 1 for number in range(30_000)}}, id="members"),
        pytest.param({"patternProperties": {"^n": NUMBERS}}, {"n": [1] * 30_000}, id="undivided"),
        pytest.param(OWN_PART, [[1] * 30_000], id="own part"),
    ],
)
def test_a_large_value_that_fits_has_no_faults(schema: dict[str, Any], value: Any) -> None:
    assert list(Validator(schema).faults(value, "")) == []


def test_a_large_value_with_many_faults_takes_little_memory() -> None:
    value = points([["a"] * 1000 for _ in range(1000)])
    validator = Validator(COLLECTION)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = list(validator.faults(value, ""))
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    assert found[0] == Fault("/features/0/geometry/coordinates/0", '"a" is not of type "number"')
    assert len(found) == SHOWN_FAULTS + 1
    assert grown_mib < 16
