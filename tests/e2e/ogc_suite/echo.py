"""The echo process as the suite reads its description, and the execute requests that it makes from it.

The suite reads with a Java parser that knows little: what it cannot follow ends in a NullPointerException, which skips
all tests of the class. Here that is a failed assertion.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TEXT = "teststring"

BOGUS_BBOX = {"crs": "urn:ogc:def:crs:EPSG:6.6:4326", "bbox": [345345345] * 4}
GOOD_BBOX = {"bbox": [51.9, 7, 52, 7.1], "crs": "http://www.opengis.net/def/crs/OGC/1.3/CRS84"}
ARRAYS: dict[str, list[Any]] = {"integer": [1, 2, 3], "string": ["test1", "test2", "test3"]}
GEOTIFF = (
    "https://raw.githubusercontent.com/opengeospatial/ets-ogcapi-processes10/master"
    "/src/main/resources/org/opengis/cite/testdata/testgeotiff.tiff"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One type that an input takes."""

    type: str
    media_type: str | None = None
    binary: bool = False


@dataclass(slots=True, kw_only=True)
class Input:
    """An input, as far as the suite sees it."""

    id: str
    kinds: list[Kind] = field(default_factory=list)
    format: str | None = None
    is_bbox: bool = False

    def takes(self, type_: str) -> bool:
        """Whether one of its types is this one."""
        return any(kind.type == type_ for kind in self.kinds)


@dataclass(slots=True, kw_only=True)
class Output:
    """An output, as far as the suite sees it."""

    id: str
    is_array: bool = False
    is_bbox: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """What the suite knows of the echo process."""

    inputs: list[Input]
    outputs: list[Output]
    sync: bool
    asynchronous: bool

    # --- the requests ------------------------------------------------------------------------------------------------

    def plain(self) -> dict[str, Any]:
        """Make the ordinary request: what the suite can think of for each input, and every output by value."""
        inputs = self._inputs(_add)
        assert inputs, "no input takes a plain string"
        return {"inputs": inputs, "outputs": self._outputs()}

    def without_outputs(self) -> dict[str, Any]:
        """Make the ordinary request without its `outputs`."""
        return {"inputs": self._inputs(_add)}

    def with_object(self) -> dict[str, Any]:
        """Make a request in which the first input that takes an object gets the wrapped string."""
        return self._first(lambda given: given.takes("object"), _add_object)

    def with_array(self) -> dict[str, Any] | None:
        """Make a request with an array, asking for the first array output alone; None: no input takes arrays."""
        if not any(given.takes("array") for given in self.inputs):
            return None
        arrays = [output.id for output in self.outputs if output.is_array][:1]
        return self._first(lambda given: given.takes("array"), _add_array) | {"outputs": self._outputs(arrays)}

    def with_bbox(self) -> dict[str, Any] | None:
        """Make a request with a bounding box, asking for such outputs alone; None: no input takes one."""
        if not any(given.is_bbox for given in self.inputs):
            return None
        boxes = [output.id for output in self.outputs if output.is_bbox]
        return self._first(lambda given: given.is_bbox, _add_bbox) | {"outputs": self._outputs(boxes)}

    def with_binary(self) -> dict[str, Any]:
        """Make a request with inline binary, which the suite's release cannot: its sample is not in the jar."""
        found = [given.id for given in self.inputs if _takes_binary(given)]
        assert not found, f"the suite fails on any echo with a binary input: {found}"
        return self.with_reference()

    def with_reference(self) -> dict[str, Any]:
        """Make a request in which the first binary input comes by reference; without one it is the ordinary one."""
        return self._first(_takes_binary, _add_reference)

    def with_wrong_format(self) -> dict[str, Any] | None:
        """Make a request with nonsense for inputs that name a media type; None: none does."""

        def add(given: Input, inputs: dict[str, Any]) -> None:
            if any(kind.media_type is not None for kind in given.kinds):
                inputs[given.id] = {"type": f"wrong/type_{uuid.uuid4()}"}
            else:
                _add(given, inputs)

        if not any(kind.media_type is not None for given in self.inputs for kind in given.kinds):
            return None
        return {"inputs": self._inputs(add), "outputs": self._outputs()}

    def one_output(self) -> dict[str, Any]:
        """Make a raw request for the output that is named like the first input."""
        first = self.inputs[0].id
        wanted = [output.id for output in self.outputs if output.id == first]
        return {"inputs": self._inputs(_add), "outputs": self._outputs(wanted), "response": "raw"}

    def with_pause(self) -> dict[str, Any] | None:
        """Make a raw request with the first input and five seconds of pause; None: no input is named `pause`."""
        if not any(given.id == "pause" for given in self.inputs):
            return None
        request = self.one_output()
        inputs: dict[str, Any] = {}
        _add(self.inputs[0], inputs)
        return request | {"inputs": {**inputs, "pause": 5}}

    def _inputs(self, add: Callable[[Input, dict[str, Any]], None]) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        for given in self.inputs:
            add(given, inputs)
        return inputs

    def _first(self, fits: Callable[[Input], bool], add: Callable[[Input, dict[str, Any]], None]) -> dict[str, Any]:
        """Fill the first fitting input by `add`, the others as usual."""
        first = next((given.id for given in self.inputs if fits(given)), None)
        inputs = self._inputs(lambda given, into: (add if given.id == first else _add)(given, into))
        return {"inputs": inputs, "outputs": self._outputs()}

    def _outputs(self, ids: list[str] | None = None) -> dict[str, Any]:
        wanted = [output.id for output in self.outputs] if ids is None else ids
        return {output: {"transmissionMode": "value"} for output in wanted}


# --- what is sent for an input ----------------------------------------------------------------------------------------


def _add(given: Input, inputs: dict[str, Any]) -> None:
    for kind in given.kinds:
        if kind.type == "string":
            if given.format is None and kind.media_type is None:
                inputs[given.id] = TEXT
        elif given.is_bbox:
            inputs[given.id] = BOGUS_BBOX
        elif kind.type == "object":
            _add_object(given, inputs)


def _add_object(given: Input, inputs: dict[str, Any]) -> None:
    inputs[given.id] = {"value": TEXT}


def _add_bbox(given: Input, inputs: dict[str, Any]) -> None:
    inputs[given.id] = GOOD_BBOX


def _add_array(given: Input, inputs: dict[str, Any]) -> None:
    item = next((kind.type for kind in given.kinds if kind.type != "array"), None)
    assert item is not None, f"array input {given.id!r} does not say the type of its items"
    inputs[given.id] = ARRAYS.get(item, [])


def _add_reference(given: Input, inputs: dict[str, Any]) -> None:
    tiff = [kind.media_type for kind in given.kinds if kind.type == "string" and "tiff" in (kind.media_type or "")]
    inputs[given.id] = {"href": GEOTIFF, "format": {"mediaType": tiff[-1]} if tiff else {}}


def _takes_binary(given: Input) -> bool:
    return any(kind.binary for kind in given.kinds)


# --- reading the description -----------------------------------------------------------------------------------------


def parse_echo(description: dict[str, Any]) -> Echo:
    """Read a process description as the suite does."""
    control = description.get("jobControlOptions")
    assert isinstance(control, list), "no array `jobControlOptions`: the suite cannot tell sync from async"
    return Echo(
        inputs=[_parse_input(id_, schema) for id_, schema in _schemas(description, "inputs")],
        outputs=[_parse_output(id_, schema) for id_, schema in _schemas(description, "outputs")],
        sync="sync-execute" in control,
        asynchronous="async-execute" in control,
    )


def _schemas(description: dict[str, Any], member: str) -> list[tuple[str, dict[str, Any]]]:
    values = description.get(member)
    assert isinstance(values, dict), f"`{member}` must be a map: {values!r}"
    for id_, value in values.items():
        assert isinstance(value.get("schema"), dict), f"{member}/{id_} has no schema"
    return [(id_, value["schema"]) for id_, value in values.items()]


def _parse_input(id_: str, schema: dict[str, Any]) -> Input:
    given = Input(id=id_)
    if "type" in schema:
        _parse_kind(schema, given)
        given.format = schema.get("format") if schema["type"] == "string" else None
    elif isinstance(schema.get("oneOf"), list):
        for branch in schema["oneOf"]:
            if "type" in branch:
                _parse_kind(branch, given)
    else:
        given.is_bbox = _is_bbox(schema)
    return given


def _parse_kind(schema: dict[str, Any], given: Input) -> None:
    type_ = schema["type"] if isinstance(schema["type"], str) else ""
    if type_ == "object" and "bbox" in schema.get("properties", {}):
        given.is_bbox = True
    if type_ == "array" and "type" in schema.get("items", {}):
        given.kinds.append(Kind(type=schema["items"]["type"]))
    if type_ == "string":
        binary = schema.get("format") == "byte" or schema.get("contentEncoding") == "binary"
        given.kinds.append(Kind(type=type_, media_type=schema.get("contentMediaType"), binary=binary))
    else:
        given.kinds.append(Kind(type=type_))


def _parse_output(id_: str, schema: dict[str, Any]) -> Output:
    if "type" in schema:
        return Output(id=id_, is_array=schema["type"] == "array")
    return Output(id=id_, is_bbox=_is_bbox(schema))


def _is_bbox(schema: dict[str, Any]) -> bool:
    for branch in schema.get("allOf", []):
        assert "format" in branch, f"a member of allOf without `format` makes the suite skip its class: {schema}"
        if branch["format"] == "ogc-bbox":
            return True
    return False
