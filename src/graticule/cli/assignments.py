"""What stands on the command line as ``name=value``, read as the inputs of a process.

A value is JSON where it parses and the input wants it, else a string. ``@file`` and, for inputs that are files, a plain
path mean a file; an address is a reference. An input that takes several values, or an array, gets an array: a JSON one
as it stands, else one of what each ``name=value`` says. What does not fit is passed on as it is: the check says why.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from graticule.errors import Fault, InvalidInputs
from graticule.ogc.common import Link
from graticule.ogc.processes import Input, ProcessDescription, Schema


def read_inputs(
    source: str | None, assignments: Iterable[str], description: ProcessDescription, *, samples: str | None = None
) -> dict[str, Any]:
    """
    Return inputs as an execute request has them; files of this machine stand as `Path`, references as `Link`.

    Parameters
    ----------
    source : str, optional
        A JSON file of inputs, ``-`` for standard input; assignments overrule it.
    assignments : Iterable of str
        ``name=value``; a repeated name gives an array.
    description : ProcessDescription
        Says what each input wants.
    samples : str, optional
        Address that ``sample:NAME`` stands for.

    Raises
    ------
    InvalidInputs
        If a named file does not exist or the JSON file is none.
    """
    inputs = _inputs_of_file(source) if source else {}
    given: dict[str, list[str]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{assignment!r} is no input; write NAME=VALUE")
        given.setdefault(name, []).append(text)
    for name, texts in given.items():
        inputs[name] = _Reader(name, samples).read(texts, description.inputs.get(name, _UNKNOWN))
    return {name: _whole(value, description.inputs.get(name, _UNKNOWN)) for name, value in inputs.items()}


def read_outputs(names: Iterable[str]) -> dict[str, Any] | None:
    """Return the outputs of ``NAME`` or ``NAME=MEDIA/TYPE``; None if none is named, which means all."""
    outputs: dict[str, Any] = {}
    for text in names:
        name, _, media_type = text.partition("=")
        outputs[name] = {"format": {"mediaType": media_type}} if media_type else {}
    return outputs or None


def _inputs_of_file(source: str) -> dict[str, Any]:
    try:
        text = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        inputs = msgspec.json.decode(text)
    except OSError as error:
        raise InvalidInputs([Fault("/inputs", f"{source} cannot be read: {error.strerror}")]) from error
    except msgspec.DecodeError as error:
        raise InvalidInputs([Fault("/inputs", f"{source} is no JSON: {error}")]) from error
    if isinstance(inputs, dict) and isinstance(inputs.get("inputs"), dict):
        inputs = inputs["inputs"]  # a whole execute request, e.g. copied from the page of the process
    if not isinstance(inputs, dict):
        raise InvalidInputs([Fault("/inputs", f"{source} must be an object of inputs by name")])
    return inputs


_UNKNOWN = Input(schema={})
_ARRAY: Schema = {"type": "array"}


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads what was assigned to one input."""

    name: str
    samples: str | None

    def read(self, texts: list[str], wanted: Input) -> Any:
        """Return what the texts say: one value, or an array where the input takes one or the name is repeated."""
        kinds = list(_alternatives(wanted.schema))
        if wanted.is_list:
            return [value for text in texts for value in self._several(text, kinds)]
        arrays = [kind for kind in kinds if _is_array(kind)]
        items = [kind for array in arrays for kind in _alternatives(array.get("items", {}))]
        if len(texts) > 1:
            return [self._value(text, items if arrays else kinds) for text in texts]
        only = self._value(texts[0], kinds)
        takes_it = len(arrays) < max(1, len(kinds)) or isinstance(only, list | dict | Link | Path)
        return only if takes_it else [self._value(texts[0], items)]

    def _several(self, text: str, kinds: list[Schema]) -> list[Any]:
        """Return the values of an input that takes several: those of a JSON array, unless it is one value itself."""
        value = self._value(text, kinds and [*kinds, _ARRAY])
        if not isinstance(value, list):
            return [value]
        is_one = any(map(_is_array, kinds)) and not all(isinstance(item, list) or _is_marked(item) for item in value)
        return [value] if is_one else value

    def _value(self, text: str, kinds: list[Schema]) -> Any:
        """Return one value of one of these kinds; none means any."""
        if text.startswith("@@"):
            return text[1:]
        if text.startswith("@"):
            return self._file(Path(text[1:]), kinds)
        if self.samples and text.startswith("sample:"):
            return Link(href=f"{self.samples}/{text.removeprefix('sample:')}")
        takes_content = any(map(_is_content, kinds))
        is_json = text.lstrip().startswith(("{", "[", '"'))
        if takes_content and text.startswith(("http://", "https://", "file://")):
            return Link(href=text)
        if takes_content and not is_json and _is_file(text):
            return self._file(Path(text), kinds)
        if any(map(_is_bbox, kinds)) and (numbers := _numbers(text)):
            return {"bbox": numbers}
        if any(map(_is_binary, kinds)) and ("/" in text or "." in text) and not is_json:
            raise self._refused(f"there is no file {text!r}; give a path or an http(s) address")
        return _json_or_text(text, kinds)

    def _file(self, path: Path, kinds: list[Schema]) -> Any:
        """Return a file: as itself where the input takes one, else what it holds."""
        path = path.expanduser()
        if not path.is_file():
            raise self._refused(f"there is no file {str(path)!r}")
        if not kinds or any(map(_is_content, kinds)):
            return path
        return _json_or_text(path.read_text(encoding="utf-8"), kinds)

    def _refused(self, reason: str) -> InvalidInputs:
        return InvalidInputs([Fault(f"/inputs/{self.name}", reason)])


def _whole(value: Any, wanted: Input) -> Any:
    """Return a value whose arrays of objects are qualified, so that nobody takes each object for a value of its own."""
    if not isinstance(value, list):
        return value
    if wanted.is_list:
        return [{"value": item} if isinstance(item, list) and _has_objects(item) else item for item in value]
    return {"value": value} if _has_objects(value) else value


def _has_objects(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_objects, value)))


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except OSError:  # a text that is too long for a path
        return False


def _json_or_text(text: str, kinds: list[Schema]) -> Any:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    if not kinds or _is_marked(value) or any(_wants(value, kind) for kind in kinds):
        return value
    return text if any(map(_takes_text, kinds)) else value


def _is_marked(value: Any) -> bool:
    """Whether a value says itself what it is: qualified, a reference, or a bounding box."""
    return isinstance(value, dict) and bool(value.keys() & {"href", "value", "bbox"})


_TYPES: dict[type, frozenset[str]] = {
    bool: frozenset({"boolean"}),
    int: frozenset({"integer", "number"}),
    float: frozenset({"number", "integer"}),
    str: frozenset({"string"}),
    list: frozenset({"array"}),
    dict: frozenset({"object"}),
}


def _wants(value: Any, kind: Schema) -> bool:
    """Whether a schema has use for a JSON value, as far as its type says."""
    if "enum" in kind:
        return value in kind["enum"]
    if "type" not in kind:
        return True
    return kind["type"] in _TYPES.get(type(value), frozenset())


def _takes_text(kind: Schema) -> bool:
    return kind.get("type") == "string" or any(isinstance(value, str) for value in kind.get("enum", ()))


def _alternatives(schema: Mapping[str, Any]) -> Iterator[Schema]:
    """Yield the schemas that a value may have, one by one."""
    inner = [*schema.get("oneOf", ()), *schema.get("anyOf", ()), *schema.get("allOf", ())]
    if not inner:
        if schema:
            yield dict(schema)
        return
    for alternative in inner:
        yield from _alternatives(alternative)


def _is_binary(kind: Schema) -> bool:
    return "contentEncoding" in kind or kind.get("format") in {"binary", "byte"}


def _is_content(kind: Schema) -> bool:
    """Whether a schema stands for a document, which may come as a file or by reference."""
    return _is_binary(kind) or "contentMediaType" in kind or kind.get("type") == "object"


def _is_array(kind: Schema) -> bool:
    return kind.get("type") == "array" and not _is_bbox(kind)


def _is_bbox(kind: Schema) -> bool:
    return str(kind.get("format", "")).endswith("bbox") or "bbox" in kind.get("properties", {})


def _numbers(text: str) -> list[float] | None:
    try:
        numbers = [float(part) for part in text.strip("[] ").split(",")]
    except ValueError:
        return None
    return numbers if len(numbers) in {4, 6} else None
