"""Forms from input schemas, and back into execute requests."""

from __future__ import annotations

from typing import Any

import pytest

from graticule.errors import Fault
from graticule.ogc.processes import Example, Input, ProcessDescription
from graticule.web.forms import Form, blank_form, filled_form, read_form, with_faults

TEXT = {"type": "string"}
RASTER = {"type": "string", "contentEncoding": "binary", "contentMediaType": "image/tiff; application=geotiff"}
FEATURES = {"type": "object", "format": "geojson-feature-collection", "contentMediaType": "application/geo+json"}


def process(schema: dict[str, Any], **described: Any) -> ProcessDescription:
    return ProcessDescription(id="try", version="1", inputs={"it": Input(schema=schema, **described)})


def kind(schema: dict[str, Any], **described: Any) -> str:
    return blank_form(process(schema, **described)).fields[0].kind


def read(schema: dict[str, Any], posted: dict[str, list[str]], **described: Any) -> Form:
    return read_form(process(schema, **described), posted)


@pytest.mark.parametrize(
    ("schema", "described", "expected"),
    [
        (TEXT, {}, "text"),
        ({"type": "integer", "minimum": 1}, {}, "number"),
        ({"type": "string", "enum": ["a", "b"]}, {}, "choice"),
        ({"type": "boolean", "default": True}, {"min_occurs": 0}, "switch"),
        ({"type": "boolean"}, {"min_occurs": 0}, "choice"),
        ({"type": "string", "format": "date-time"}, {}, "moment"),
        ({"allOf": [{"format": "ogc-bbox"}]}, {}, "box"),
        (RASTER, {}, "content"),
        (RASTER, {"max_occurs": 20}, "addresses"),
        (FEATURES, {}, "content"),
        ({"type": "array", "items": {"type": "number"}}, {}, "json"),
        ({"type": "object"}, {}, "json"),
        ({"type": "integer"}, {"max_occurs": "unbounded"}, "lines"),
        ({"type": "string", "enum": ["a", "b"]}, {"max_occurs": "unbounded"}, "choices"),
    ],
)
def test_each_schema_has_its_control(schema: dict[str, Any], described: dict[str, Any], expected: str):
    assert kind(schema, **described) == expected


def test_a_number_carries_its_limits():
    field = blank_form(process({"type": "integer", "minimum": 1, "maximum": 9, "default": 4})).fields[0]

    assert dict(field.attributes) == {"step": "1", "min": "1", "max": "9"}
    assert field.text == "4"


@pytest.mark.parametrize(
    ("schema", "posted", "value"),
    [
        (TEXT, {"text:it": ["hello\r\nthere"]}, "hello\nthere"),
        ({"type": "integer"}, {"text:it": ["7"]}, 7),
        ({"type": "number"}, {"text:it": ["2.50"]}, 2.5),
        ({"type": "integer", "enum": [10, 20]}, {"text:it": ["20"]}, 20),
        ({"type": "boolean", "default": True}, {"text:it": ["true"]}, True),
        ({"type": "boolean", "default": True}, {}, False),
        ({"type": "string", "format": "date-time"}, {"text:it": ["2026-01-01T12:00"]}, "2026-01-01T12:00:00Z"),
        (
            {"format": "ogc-bbox"},
            {"west:it": ["5.9"], "south:it": ["45.8"], "east:it": ["10.5"], "north:it": ["47"]},
            {"bbox": [5.9, 45.8, 10.5, 47]},
        ),
        (RASTER, {"href:it": ["https://example.org/dem.tif"]}, {"href": "https://example.org/dem.tif"}),
        (RASTER, {"href:it": ["https://example.org/a"], "file:it": ["https://h/files/1/b"]}, {"href": "https://h/files/1/b"}),
        (FEATURES, {"text:it": ['{"type": "FeatureCollection"}']}, {"value": {"type": "FeatureCollection"}}),
        ({"type": "array", "items": {}}, {"json:it": ["[1, 2]"]}, [1, 2]),
        ({"type": "object"}, {"json:it": ['{"a": 1}']}, {"value": {"a": 1}}),
        ({"type": "object"}, {"json:it": ['{"value": {"a": 1}}']}, {"value": {"a": 1}}),
        ({"oneOf": [TEXT, {"type": "object"}]}, {"json:it": ["plain words"]}, "plain words"),
    ],
)  # fmt: skip
def test_what_was_entered_becomes_an_input(schema: dict[str, Any], posted: dict[str, list[str]], value: Any):
    form = read(schema, posted)

    assert form.inputs == {"it": value}
    assert form.faulty == ()


def test_numbers_are_entered_one_a_line_or_with_commas():
    form = read({"type": "integer"}, {"text:it": ["3\r\n4, 5"]}, max_occurs="unbounded")

    assert form.inputs == {"it": [3, 4, 5]}


def test_an_empty_control_sends_nothing():
    assert read(TEXT, {"text:it": [" "]}, min_occurs=0).inputs == {}


@pytest.mark.parametrize(
    ("schema", "posted", "said"),
    [
        ({"type": "number"}, {"text:it": ["many"]}, "'many' is no number"),
        ({"type": "number"}, {"text:it": ["inf"]}, "'inf' is no number"),
        ({"type": "array"}, {"json:it": ["[1, 2"]}, "no JSON"),
        ({"format": "ogc-bbox"}, {"west:it": ["1"], "north:it": ["2"]}, "south, east is missing"),
    ],
)
def test_what_cannot_be_read_is_a_fault_at_its_field_and_stays_there(
    schema: dict[str, Any], posted: dict[str, list[str]], said: str
):
    form = read(schema, posted)

    assert said in form.fields[0].faults[0]
    assert form.inputs == {}
    entered = form.fields[0].text or form.fields[0].edges[0]
    assert entered == next(iter(posted.values()))[0]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (TEXT, "text"),
        ({"type": "number"}, 0.5),
        ({"type": "string", "format": "date-time"}, "2026-01-01T12:00:00Z"),
        ({"type": "string", "format": "date-time"}, "2026-01-01T12:00:00.5Z"),
        ({"format": "ogc-bbox"}, {"bbox": [1, 2, 3, 4]}),
        ({"format": "ogc-bbox"}, {"bbox": [1, 2, 0, 3, 4, 9]}),
        (RASTER, {"href": "https://example.org/dem.tif", "type": "image/tiff"}),
        (RASTER, {"value": "AAAA", "encoding": "base64"}),
        (FEATURES, {"value": {"type": "FeatureCollection", "features": []}}),
        ({"type": "array"}, [1, [2]]),
        ({"type": "object"}, {"value": {"a": {"b": None}}}),
    ],
)
def test_a_filled_form_that_is_sent_unchanged_sends_the_same(schema: dict[str, Any], value: Any):
    field = filled_form(process(schema), {"it": value}).fields[0]
    posted = {
        f"{'json' if field.kind == 'json' else 'text'}:it": [field.text],
        "href:it": [field.address],
        "type:it": [field.media_type],
        **{f"{edge}:it": [text] for edge, text in zip(("west", "south", "east", "north"), field.edges, strict=True)},
    }

    assert read(schema, posted).inputs == {"it": value}


def test_an_example_leaves_the_defaults_of_what_it_does_not_name():
    description = ProcessDescription(
        id="try",
        version="1",
        inputs={
            "name": Input(schema=TEXT),
            "loud": Input(schema={"type": "boolean", "default": True}, min_occurs=0),
        },
        examples=[Example(title="One", inputs={"name": "World"})],
    )

    name, loud = blank_form(description, 0).fields

    assert (name.text, loud.text) == ("World", "true")


def test_faults_go_to_the_fields_that_their_pointers_name():
    form = blank_form(ProcessDescription(id="try", version="1", inputs={"a/b": Input(schema=TEXT)}))

    marked = with_faults(form, [Fault("/inputs/a~1b/0", "too short"), Fault("/outputs/x", "no such output")])

    assert marked.fields[0].faults == ("0: too short",)
    assert [fault.pointer for fault in marked.faults] == ["/outputs/x"]


def test_a_call_can_be_pasted_into_a_shell():
    form = filled_form(process(TEXT), {"it": "it's"})

    assert form.curl("http://h/execution").endswith("""-d '{"inputs": {"it": "it'\\''s"}}'""")
