from __future__ import annotations

import time

import msgspec
import pytest

from graticule.processes.builtin.echo import Echo
from graticule.processes.process import Dismissed, InputValue, OutputValue, Process

SCHEMAS = {
    "message": {"type": "string"},
    "mixed": {"oneOf": [{"type": "string", "contentMediaType": "text/plain"}, {"type": "object"}]},
    "numbers": {"type": "array", "items": {"type": "integer"}},
    "bbox": {"allOf": [{"format": "ogc-bbox"}]},
}


def test_echo_is_a_process():
    assert isinstance(Echo(), Process)


def test_the_schemas_are_those_that_the_official_suite_can_read():
    description = msgspec.to_builtins(Echo.description)

    assert list(description["inputs"]) == ["message", "pause", "mixed", "numbers", "bbox"]
    assert {name: one["schema"] for name, one in description["inputs"].items()} == SCHEMAS | {
        "pause": {"type": "integer", "minimum": 0, "maximum": 60}
    }
    assert {name: one["schema"] for name, one in description["outputs"].items()} == SCHEMAS | {
        "count": {"type": "integer"}
    }
    assert [name for name, one in description["inputs"].items() if one.get("minOccurs", 1)] == ["message"]
    assert description["jobControlOptions"] == ["sync-execute", "async-execute", "dismiss"]


def test_each_input_comes_back_and_all_are_counted(run):
    box = {"bbox": [1, 2, 3, 4]}

    outputs = run(Echo(), message="hello", numbers=[1, 2], bbox=box)

    assert outputs == {
        "message": OutputValue(value="hello"),
        "numbers": OutputValue(value=[1, 2]),
        "bbox": OutputValue(value=box),
        "count": OutputValue(value=3),
    }


def test_text_keeps_its_media_type(run):
    outputs = run(
        Echo(), message="", mixed=InputValue(pointer="/inputs/mixed", value="teststring", media_type="text/plain")
    )

    assert outputs["mixed"] == OutputValue(value="teststring", media_type="text/plain")


def test_only_wanted_outputs_are_made(run, context):
    context.wanted = frozenset({"count"})

    assert run(Echo(), message="hello") == {"count": OutputValue(value=1)}


def test_a_pause_is_kept(run, context):
    start = time.monotonic()

    run(Echo(), message="", pause=1)

    assert time.monotonic() - start >= 1
    assert [percent for percent, _ in context.reports] == sorted(percent for percent, _ in context.reports)


def test_a_pause_ends_when_the_job_is_dismissed(run, context):
    context.stop_after = 2

    with pytest.raises(Dismissed):
        run(Echo(), message="", pause=60)
