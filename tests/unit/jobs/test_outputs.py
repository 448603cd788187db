"""Small values are kept inline, large ones as files, and the encoding is never held whole."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graticule.errors import ProcessFault
from graticule.jobs.job import StoredValue
from graticule.jobs.outputs import INLINE_BYTES, json_pieces, keep_outputs
from graticule.ogc.processes import Output, ProcessDescription
from graticule.processes.process import OutputValue

DESCRIPTION = ProcessDescription(
    id="p",
    version="1",
    outputs={"one": Output(schema={}), "many": Output(schema={}, max_occurs="unbounded", min_occurs=0)},
)
ALL = frozenset({"one", "many"})
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=300) | st.dictionaries(st.text(), inner),
    max_leaves=60,
)


def keep(value: OutputValue, folder: Path) -> StoredValue:
    return keep_outputs({"one": value}, DESCRIPTION, ALL, folder)["one"].values[0]


@given(json_values)
def test_the_pieces_of_a_value_are_its_json(value: Any) -> None:
    assert json.loads(b"".join(json_pieces(value))) == value


@pytest.mark.parametrize(
    "value", ['é"\\\n' * 50_000, [[i, i / 2] for i in range(2000)], {"a": {"b": list(range(3000))}}]
)
def test_the_pieces_of_a_large_value_are_its_json(value: Any) -> None:
    pieces = list(json_pieces(value))

    assert len(pieces) > 1
    assert json.loads(b"".join(pieces)) == value


def test_a_small_value_is_kept_inline(tmp_path: Path) -> None:
    kept = keep(OutputValue(value={"a": [1, 2]}), tmp_path)

    assert (kept.content, kept.media_type, kept.size, kept.file) == (b'{"a":[1,2]}', "application/json", 11, None)
    assert list(tmp_path.iterdir()) == []


def test_a_large_value_becomes_a_file_with_its_checksum(tmp_path: Path) -> None:
    value = list(range(INLINE_BYTES))

    kept = keep(OutputValue(value=value), tmp_path)

    content = (tmp_path / "outputs" / str(kept.file)).read_bytes()
    assert json.loads(content) == value
    assert (kept.size, kept.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_bytes_and_text_are_kept_as_they_are(tmp_path: Path) -> None:
    assert keep(OutputValue(value=b"\x00\xff"), tmp_path).content == b"\x00\xff"
    assert keep(OutputValue(value="é", media_type="text/plain"), tmp_path).content == "é".encode()


@dataclass
class Measured:
    level: float


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        -math.inf,
        [1.5, [2.5, math.nan]],
        [[0.5, math.nan]] * 1000,
        {"a": {"b": [None, math.inf]}},
        np.float32("nan"),
        np.array([1, np.nan]),
        Measured(math.nan),
    ],
    ids=["NaN", "infinity", "list", "many positions", "object", "number of numpy", "array of numpy", "dataclass"],
)
def test_a_number_that_json_has_not_is_the_fault_of_the_process(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ProcessFault, match=r"output 'one'.*NaN.*return None in its place.*or a text"):
        keep(OutputValue(value=value), tmp_path)


@pytest.mark.parametrize("value", [None, [None, 1.5], {"null": "null"}, [Measured(1.5), None]], ids=str)
def test_null_itself_is_json(value: Any, tmp_path: Path) -> None:
    assert b"null" in (keep(OutputValue(value=value), tmp_path).content or b"")


@pytest.mark.parametrize(
    "media_type", ["text/json", "application/x-geojson", "application/vnd.geo+json; charset=utf-8"]
)
def test_every_spelling_of_json_is_json(media_type: str, tmp_path: Path) -> None:
    value = keep(OutputValue(value={"a": [1]}, media_type=media_type), tmp_path)
    document = keep(OutputValue(value=b'{"a": [1]}', media_type=media_type), tmp_path)
    damaged = keep(OutputValue(value=b'{"a": [1', media_type=media_type), tmp_path)

    assert (value.content, value.media_type) == (b'{"a":[1]}', media_type)
    assert (document.content, document.media_type) == (b'{"a": [1]}', media_type)
    assert damaged.media_type == "application/octet-stream"


def test_a_file_is_moved_among_the_outputs(tmp_path: Path) -> None:
    (tmp_path / "shade.tif").write_bytes(b"II*\x00")

    kept = keep(OutputValue(file=tmp_path / "shade.tif", media_type="image/tiff"), tmp_path)

    assert (tmp_path / "outputs" / "shade.tif").read_bytes() == b"II*\x00"
    assert not (tmp_path / "shade.tif").exists()
    assert (kept.file, kept.size) == ("shade.tif", 4)


def test_two_outputs_of_one_file_name_do_not_meet(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(folder)
    values = [OutputValue(file=tmp_path / folder / "x.txt", media_type="text/plain") for folder in ("a", "b")]

    kept = keep_outputs({"many": values}, DESCRIPTION, ALL, tmp_path)["many"]

    assert kept.many
    assert [(tmp_path / "outputs" / str(value.file)).read_text() for value in kept.values] == ["a", "b"]


def test_an_output_that_was_not_asked_for_is_dropped(tmp_path: Path) -> None:
    assert keep_outputs({"one": OutputValue(value=1)}, DESCRIPTION, frozenset(), tmp_path) == {}


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        pytest.param({"other": OutputValue(value=1)}, "'other'", id="not declared"),
        pytest.param({"one": OutputValue(value=object())}, "'one' cannot be written as JSON", id="no JSON"),
        pytest.param({"one": OutputValue(file=Path("/nowhere/x"))}, "did not write it", id="file missing"),
        pytest.param({"one": OutputValue(file=Path("/etc/hostname"))}, "outside the job's folder", id="foreign file"),
    ],
)
def test_an_output_that_cannot_be_kept_is_the_fault_of_the_process(
    outputs: dict[str, OutputValue], words: str, tmp_path: Path
) -> None:  # fmt: skip
    with pytest.raises(ProcessFault, match=words):
        keep_outputs(outputs, DESCRIPTION, ALL, tmp_path)
