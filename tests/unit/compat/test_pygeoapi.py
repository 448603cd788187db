"""Processors of pygeoapi's shape become processes: their metadata, their inputs, what they return, what they refuse."""

import datetime as dt
import decimal
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from graticule.compat import RESULTS_ROLE
from graticule.compat.pygeoapi import PygeoapiProcess, as_json, describe, outputs_of
from graticule.errors import Fault, InvalidInputs
from graticule.processes.process import InputValue, OutputValue

METADATA = {
    "id": "other-id",
    "version": "0.2.0",
    "title": {"fr": "Bonjour", "en": "Hello"},
    "description": "Says hello.",
    "keywords": ["hello"],
    "jobControlOptions": ["sync-execute", "async-execute"],
    "links": [{"type": "text/html", "rel": "about", "title": {"en": "More"}, "href": "https://example.org/more"}],
    "inputs": {
        "name": {
            "title": "Name",
            "schema": {"type": "string"},
            "minOccurs": 1,
            "maxOccurs": 1,
            "keywords": ["full name"],
        },
        "tags": {"schema": {"type": "string"}, "minOccurs": 0, "maxOccurs": "unbounded"},
        "place": {"schema": {"$ref": "http://schemas.example.org/geometryGeoJSON.yaml"}, "minOccurs": 0},
    },
    "outputs": {"echo": {"title": "Echo", "schema": {"type": "object", "contentMediaType": "application/json"}}},
    "example": {"inputs": {"name": "World", "place": {"type": "Point", "coordinates": [1, 2]}}},
}


class Refused(Exception):
    """As pygeoapi's own: with a message for users and a status."""

    http_status_code = 500

    def __init__(self, message: str = "", user_msg: str | None = None) -> None:
        super().__init__(message)
        self.user_msg = user_msg


class Processor:
    """Keeps what it was given and does what the test says."""

    metadata = METADATA
    supports_outputs = False
    job_id = ""

    def __init__(self, act=lambda data: ("application/json", data)):
        self.act = act
        self.outputs = "not given"

    def set_job_id(self, job_id):
        self.job_id = job_id

    def execute(self, data, outputs="not given"):
        self.outputs = outputs
        return self.act(data)


class Context(SimpleNamespace):
    folder = Path("/scratch/jobs/job-1")
    wanted = frozenset({"echo"})
    media_type = None

    def wanted_media_type(self, output_id):
        return self.media_type


def run(processor, inputs=None, **context):
    process = PygeoapiProcess("hello", lambda: processor, Refused)
    return process.run(inputs or {}, Context(**context))


# --- the description ---------------------------------------------------------------------------------------------


def test_the_configuration_names_the_process():
    assert describe("hello", METADATA).id == "hello"


def test_texts_are_taken_in_english_or_else_in_the_first_language():
    assert describe("hello", METADATA).title == "Hello"
    assert describe("hello", {**METADATA, "title": {"fr": "Bonjour", "es": "Hola"}}).title == "Bonjour"
    assert describe("hello", {**METADATA, "title": {"en-US": "Howdy", "fr": "Bonjour"}}).title == "Howdy"


def test_inputs_keep_names_schemas_and_cardinality():
    inputs = describe("hello", METADATA).inputs

    assert (inputs["name"].min_occurs, inputs["name"].max_occurs, inputs["name"].schema) == (1, 1, {"type": "string"})
    assert (inputs["tags"].min_occurs, inputs["tags"].max_occurs) == (0, "unbounded")
    assert inputs["name"].keywords == ["full name"]


def test_a_schema_of_the_ogc_is_known_by_its_address():
    assert describe("hello", METADATA).inputs["place"].schema == {"type": "object", "format": "geojson-geometry"}


def test_links_become_metadata():
    links = describe("hello", METADATA).metadata

    assert [(one.role, one.href, one.title) for one in links if one.href] == [
        ("about", "https://example.org/more", "More")
    ]
    assert RESULTS_ROLE in [one.role for one in links]


def test_an_example_becomes_a_request_that_can_be_sent():
    (example,) = describe("hello", METADATA).examples

    assert example.inputs == {"name": "World", "place": {"value": {"type": "Point", "coordinates": [1, 2]}}}


def test_an_example_that_its_own_description_refuses_is_left_out():
    assert describe("hello", {**METADATA, "example": {"inputs": {"nobody": 1}}}).examples is None


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (None, ["sync-execute", "async-execute", "dismiss"]),
        (["async-execute"], ["sync-execute", "async-execute", "dismiss"]),
        (["sync-execute"], ["sync-execute", "dismiss"]),
    ],
    ids=["nothing", "async", "sync"],
)
def test_a_processor_always_runs_synchronously_too(said, meant):
    assert describe("hello", {**METADATA, "jobControlOptions": said}).job_control_options == meant


def test_a_processor_without_outputs_has_one():
    assert list(describe("hello", {**METADATA, "outputs": {}}).outputs) == ["result"]


# --- inputs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resolved", "handed"),
    [
        (InputValue(pointer="/inputs/x", value=5), 5),
        (InputValue(pointer="/inputs/x/value", value={"a": 1}, media_type="application/json"), {"a": 1}),
        (InputValue(pointer="/inputs/x/value", value=b"\x00\xff"), "AP8="),
        (InputValue(pointer="/inputs/x/href", href="https://e.org/a", media_type="image/tiff", file=Path("/tmp/a")),
         {"href": "https://e.org/a", "type": "image/tiff"}),
        ([InputValue(pointer="/inputs/x", value="a")], "a"),
        ([InputValue(pointer="/inputs/x/0", value="a")], ["a"]),
        ([InputValue(pointer="/inputs/x/0/value", value=1), InputValue(pointer="/inputs/x/1", value=2)], [1, 2]),
        ([], []),
    ],
    ids=["literal", "qualified", "binary", "link", "one of many", "array of one", "array", "empty array"],
)  # fmt: skip
def test_inputs_are_handed_over_as_plain_json(resolved, handed):
    outputs = run(Processor(), {"x": resolved})

    assert outputs["echo"].value == {"x": handed}


def test_a_processor_learns_its_job():
    processor = Processor()

    run(processor)

    assert processor.job_id == "job-1"


def test_outputs_are_named_only_to_who_supports_them():
    processor = Processor()
    run(processor, media_type="text/csv")
    assert processor.outputs == "not given"

    processor.supports_outputs = True
    run(processor, media_type="text/csv")
    assert processor.outputs == {"echo": {"format": {"mediaType": "text/csv"}}}

    run(processor)
    assert processor.outputs is None


# --- what it returns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "value", "kept"),
    [
        ("application/json", {"id": "echo", "value": "Hi"}, {"id": "echo", "value": "Hi"}),
        ("application/json", "Hi", "Hi"),
        ("application/geo+json", '{"type":"Point"}', b'{"type":"Point"}'),
        ("text/plain", "Hi", b"Hi"),
        ("image/png", b"\x89PNG", b"\x89PNG"),
    ],
    ids=["object", "string", "written json", "text", "binary"],
)
def test_what_is_returned_is_the_one_output(media_type, value, kept):
    assert outputs_of(value, media_type, ("echo",)) == {"echo": OutputValue(value=kept, media_type=media_type)}


def test_a_processor_without_a_media_type_returns_json():
    outputs = run(Processor(lambda _: (None, [1])))

    assert outputs == {"echo": OutputValue(value=[1], media_type="application/json")}


def test_members_of_several_outputs_are_kept_apart():
    value = {
        "a": 1,
        "b": {"value": "x,y", "mediaType": "text/csv"},
        "c": {"href": "https://e.org/c", "type": "image/tiff"},
    }

    assert outputs_of(value, "application/json", ("a", "b", "c")) == {
        "a": OutputValue(value=1, media_type="application/json"),
        "b": OutputValue(value=b"x,y", media_type="text/csv"),
        "c": OutputValue(href="https://e.org/c", media_type="image/tiff"),
    }


def test_a_value_that_names_its_output_is_that_one():
    assert list(outputs_of({"id": "b", "value": 1}, "application/json", ("a", "b"))) == ["b"]


def test_what_is_no_json_is_written_as_pygeoapi_does():
    given = {
        "when": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "price": decimal.Decimal("1.5"),
        "id": uuid.UUID(int=1),
        "path": Path("/a"),
        "text": b"abc",
        "list": (1, [dt.date(2026, 1, 2)]),
    }

    assert as_json(given) == {
        "when": "2026-01-02T00:00:00+00:00",
        "price": 1.5,
        "id": "00000000-0000-0000-0000-000000000001",
        "path": "/a",
        "text": "abc",
        "list": [1, ["2026-01-02"]],
    }


def test_plain_json_is_not_copied():
    given = {"features": [{"a": [1.5, 2.5]}]}

    assert as_json(given) is given


# --- what it refuses ---------------------------------------------------------------------------------------------


def raising(error):
    def act(_):
        raise error

    return Processor(act)


@pytest.mark.parametrize("status", [400, 413, 500])
def test_the_message_for_the_user_is_told_whatever_its_status(status):
    error = Refused("internal words", user_msg="no name, no greeting")
    error.http_status_code = status

    with pytest.raises(InvalidInputs) as refusal:
        run(raising(error))

    assert refusal.value.faults == (Fault("/inputs", "no name, no greeting"),)


def test_without_one_the_error_itself_is_told():
    with pytest.raises(InvalidInputs, match="Cannot process without a name, or two"):
        run(raising(Refused("Cannot process\n    without a name, or two")))


def test_other_errors_are_bad_input_too_and_leave_their_trace_in_the_log(capsys):
    with pytest.raises(InvalidInputs, match="ZeroDivisionError: division by zero; if the inputs are right"):
        run(Processor(lambda _: 1 / 0))

    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "no space left")])
def test_what_the_machine_lacks_is_no_fault_of_the_request(error):
    with pytest.raises(type(error)):
        run(raising(error))
