"""Annotations read as inputs and outputs: what a parameter takes, and what a function returns."""

from __future__ import annotations

import dataclasses
import enum
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from inspect import Parameter
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from graticule.errors import Fault, InvalidInputs, ProcessFault
from graticule.ogc.common import GEOJSON
from graticule.ogc.processes import Input, Output, Schema
from graticule.processes.branches import meant
from graticule.processes.formats import OCTETS, alternatives_of, is_json
from graticule.processes.process import InputValue, Outputs, OutputValue, RunContext
from graticule.processes.resolve import ReadInPlace, RemoteInput
from graticule.processes.schemas import schema_of
from graticule.processes.validation import escape
from graticule.processes.values import (
    COG,
    BoundingBox,
    File,
    GeoJSON,
    GeoTIFF,
    Malformed,
    OneValue,
    OutputFile,
    Raster,
    Text,
)

RESULT = "result"
"""The name of the only output."""

_LISTS: tuple[Any, ...] = (list, set, frozenset, Sequence, AbstractSet)
_FILES: tuple[type[Any], ...] = (GeoTIFF, COG, OutputFile)
_OWN = (*_FILES, Text, BoundingBox, GeoJSON, Raster, File, OutputValue)
_LITERALS: tuple[Any, ...] = (str, int, float, bool, type(None), list, dict, Any, object)


def title_of(name: str) -> str:
    """Return a name as a title: ``cell_size`` is ``Cell size``."""
    words = re.sub(r"[_-]+", " ", name).strip()
    return words[:1].upper() + words[1:]


# --- annotations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Annotation:
    """An annotation taken apart: the bare type, and what stood around it."""

    bare: Any
    """Without None."""

    metadata: tuple[Any, ...]
    """Of the outermost ``Annotated``."""

    optional: bool
    """Whether None is allowed."""

    @classmethod
    def of(cls, hint: Any) -> _Annotation:
        metadata: tuple[Any, ...] = ()
        optional = False
        while True:
            if get_origin(hint) is Annotated:
                metadata = (*hint.__metadata__, *metadata)
                hint = hint.__origin__
            elif get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
                optional = True
                left = tuple(one for one in get_args(hint) if one is not type(None))
                hint = Union[left]  # noqa: UP007 - made from a tuple
            else:
                return cls(hint, metadata, optional)

    @property
    def field(self) -> FieldInfo | None:
        """The ``Field`` that describes it."""
        return next((one for one in self.metadata if isinstance(one, FieldInfo)), None)

    @property
    def element(self) -> Any:
        """What a list holds; None when this is no list of several values (``maxOccurs`` 1 would be none either)."""
        is_one = any(isinstance(one, OneValue) or one is OneValue for one in self.metadata)
        if (get_origin(self.bare) or self.bare) not in _LISTS or is_one or self.limit("max_length") == 1:
            return None
        return (get_args(self.bare) or (Any,))[0]

    def adapter(self) -> TypeAdapter[Any]:
        """Return pydantic's checker of the type without None."""
        marks = tuple(one for one in self.metadata if not isinstance(one, OneValue) and one is not OneValue)
        hint = Annotated[(self.bare, *marks)] if marks else self.bare
        return TypeAdapter(cast("Any", hint))

    def limit(self, name: str) -> int | None:
        """Return a length that the metadata gives, e.g. ``min_length``."""
        marks = [mark for one in self.metadata for mark in (one.metadata if isinstance(one, FieldInfo) else [one])]
        return next((getattr(mark, name) for mark in marks if getattr(mark, name, None) is not None), None)


def _mentions(hint: Any, kinds: tuple[type[Any], ...]) -> bool:
    """Whether an annotation names one of some types anywhere."""
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
        return issubclass(hint, kinds)
    return any(_mentions(one, kinds) for one in get_args(hint) if one is not Ellipsis)


# --- parameters --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InputParameter:
    """A parameter of the function as an input of the process."""

    name: str
    description: Input
    adapter: TypeAdapter[Any]
    several: bool
    """Whether it takes a list of values."""

    takes_files: bool
    """Whether files and rasters are among what it takes."""

    takes_bytes: bool

    @classmethod
    def of(cls, parameter: Parameter, hint: Any, described: str | None) -> InputParameter:
        annotation = _Annotation.of(hint)
        several = annotation.element is not None
        adapter = annotation.adapter()
        schema = dict(schema_of(TypeAdapter(annotation.element) if several else adapter))
        for word in ("title", "description", "nullable"):
            schema.pop(word, None)
        required = parameter.default is parameter.empty and not annotation.optional
        if parameter.default is not parameter.empty and parameter.default is not None and not several:
            _set_default(schema, adapter, parameter.default)
        field = annotation.field
        raster = _mentions(hint, (Raster,))
        description = (ReadInPlace if raster else Input)(
            title=(field.title if field is not None else None) or title_of(parameter.name),
            description=(field.description if field is not None else None) or described or None,
            schema=schema,
            min_occurs=max(1, annotation.limit("min_length") or 1) if required and several else int(required),
            max_occurs=(annotation.limit("max_length") or "unbounded") if several else 1,
        )
        takes_bytes = _mentions(hint, (bytes,))
        return cls(parameter.name, description, adapter, several, raster or _mentions(hint, (File,)), takes_bytes)

    def argument(self, given: InputValue | list[InputValue], context: RunContext) -> Any:
        """Return the typed argument; raises InvalidInputs."""
        values = given if isinstance(given, list) else [given]
        content = [self._content(value, number, context) for number, value in enumerate(values)]
        try:
            return self.adapter.validate_python(content if self.several else content[0])
        except ValidationError as error:
            found = [self._located(*numbered, values, content) for numbered in enumerate(error.errors())]
            raise InvalidInputs(_worth_telling(list(chain.from_iterable(found)))) from error

    def _content(self, value: InputValue, number: int, context: RunContext) -> Any:
        """Return what pydantic is to look at: a file, a raster, bytes or a JSON value."""
        is_content = value.file is not None or value.href is not None or isinstance(value.value, bytes)
        if self.takes_files and (is_content or value.media_type is not None):
            return self._file(value, number, context)
        if value.value is None and value.file is not None:
            return value.file.read_bytes() if self.takes_bytes else value.file.read_text("utf-8")
        return value.value

    def _file(self, value: InputValue, number: int, context: RunContext) -> File | Raster:
        path = value.file
        if path is None and value.href is None:
            path = _write(
                value, context.folder / "inputs", f"{re.sub(r'[^A-Za-z0-9_-]', '_', self.name)}-inline-{number}"
            )
        if isinstance(self.description, ReadInPlace):
            policy = value.policy if isinstance(value, RemoteInput) else None
            return Raster(path=path, href=value.href, media_type=value.media_type, pointer=value.pointer, policy=policy)
        if path is None:
            raise InvalidInputs([Fault(value.pointer, "the content of this reference was not fetched")])
        return File(path=path, media_type=value.media_type, href=value.href, pointer=value.pointer)

    def _located(
        self, order: int, error: Any, values: list[InputValue], content: list[Any]
    ) -> Iterator[tuple[_Branches, Fault]]:
        """Yield pydantic's complaint with its place in the request, and the branches of unions that it is about."""
        steps = list(error["loc"])
        number = steps.pop(0) if self.several and steps and isinstance(steps[0], int) else 0
        place = values[number].pointer if number < len(values) else f"/inputs/{escape(self.name)}"
        here = content[number] if number < len(content) else None
        branches = []
        for index, step in enumerate(steps, start=1):
            is_missing = error["type"] == "missing" and index == len(steps)
            # Names of union branches stand among the steps; only those that lead into the value are places.
            if isinstance(here, Mapping) and (step in here or is_missing):
                here = here.get(step)
            elif isinstance(here, list) and isinstance(step, int) and step < len(here):
                here = here[step]
            else:
                # Types that check themselves all have one name, and complain once each.
                branches.append((place, f"{step}-{order}" if str(step).startswith("function-") else str(step)))
                continue
            place += f"/{escape(str(step))}"
        cause = error.get("ctx", {}).get("error", error["msg"])
        said = cause.faults if isinstance(cause, Malformed) else [Fault("", str(cause))]
        yield from ((tuple(branches), Fault(place + one.pointer, one.message)) for one in said)


_Branches = tuple[tuple[str, str], ...]
"""Unions from the outermost inwards: where the value stands, and the name of the branch that was tried."""


def _worth_telling(found: Sequence[tuple[_Branches, Fault]]) -> list[Fault]:
    """Return faults without those of union branches that the value was not meant for."""
    told: list[Fault] = []
    unions: dict[str, dict[str, list[tuple[_Branches, Fault]]]] = {}
    for branches, fault in found:
        if branches:
            place, branch = branches[0]
            unions.setdefault(place, {}).setdefault(branch, []).append((branches[1:], fault))
        else:
            told.append(fault)
    for place, tried in unions.items():
        told.extend(chain.from_iterable(meant([_worth_telling(one) for one in tried.values()], place)))
    return told


def _set_default(schema: Schema, adapter: TypeAdapter[Any], default: Any) -> None:
    value = default.value if isinstance(default, enum.Enum) else default
    try:
        schema["default"] = msgspec.json.decode(
            msgspec.json.encode(adapter.dump_python(value, mode="json", warnings=False))
        )
    except (TypeError, ValueError, msgspec.MsgspecError):
        schema.pop("default", None)  # the function knows its own default; it only cannot be shown


def _write(value: InputValue, folder: Path, name: str) -> Path:
    """Write inline content to a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if isinstance(value.value, bytes):
        path.write_bytes(value.value)
    elif isinstance(value.value, str):
        path.write_text(value.value, "utf-8")
    else:
        path.write_bytes(msgspec.json.encode(value.value))
    return path


# --- results -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Result:
    """One output."""

    name: str
    description: Output
    adapter: TypeAdapter[Any]
    several: bool
    as_is: bool
    """Whether what is returned is JSON already: it is neither checked nor copied, however large."""

    text_type: str | None
    """The media type of a ``str`` that is no JSON string."""

    binary_type: str | None
    """The media type of ``bytes``."""

    @classmethod
    def of(cls, name: str, hint: Any, described: str | None) -> _Result:
        annotation = _Annotation.of(hint)
        several = annotation.element is not None and _mentions(annotation.element, (*_FILES, bytes))
        adapter = annotation.adapter()
        schema = dict(schema_of(TypeAdapter(annotation.element) if several else adapter))
        for word in ("title", "description", "nullable", "default"):
            schema.pop(word, None)
        types_of = {one.form: one.default_media_type for one in reversed(alternatives_of(schema))}
        field = annotation.field
        description = Output(
            title=(field.title if field is not None else None) or title_of(name),
            description=(field.description if field is not None else None) or described or None,
            schema=schema,
            min_occurs=0 if annotation.optional else 1,
            max_occurs="unbounded" if several else 1,
        )
        return cls(
            name=name,
            description=description,
            adapter=adapter,
            several=several,
            as_is=_is_json(annotation.bare),
            text_type=types_of.get("text"),
            binary_type=types_of.get("binary", OCTETS if annotation.bare in (Any, object) else None),
        )

    def values(self, returned: Any, context: RunContext) -> OutputValue | list[OutputValue]:
        """Return what the function gave as values of this output."""
        if self.several and isinstance(returned, (list, tuple, set, frozenset)):
            return [self._value(one, context) for one in returned]
        return self._value(returned, context)

    def _value(self, one: Any, context: RunContext) -> OutputValue:
        if isinstance(one, OutputValue):
            return one
        if isinstance(one, _FILES):
            return OutputValue(file=context.folder / one.path, media_type=one.media_type)
        if isinstance(one, Text):
            # Text of a JSON type is a document already; as `str` it would become a JSON string.
            content = one.value.encode() if is_json(one.media_type) else one.value
            return OutputValue(value=content, media_type=one.media_type)
        if isinstance(one, GeoJSON):
            return OutputValue(value=one.__geo_interface__, media_type=GEOJSON)
        if isinstance(one, BoundingBox):
            return OutputValue(value=one.to_json())
        if isinstance(one, (bytes, bytearray, memoryview)) and self.binary_type is not None:
            return OutputValue(value=bytes(one), media_type=self.binary_type)
        if isinstance(one, str) and self.text_type is not None:
            return OutputValue(value=one, media_type=self.text_type)
        return OutputValue(value=one if self.as_is else self._checked(one))

    def _checked(self, one: Any) -> Any:
        """Return a value as JSON, checked against its annotation."""
        try:
            checked = self.adapter.validate_python(one)
        except ValidationError as error:
            found = error.errors()[0]
            place = "".join(f"/{escape(str(step))}" for step in found["loc"])
            raise ProcessFault(
                f"the process returned no valid {self.name!r}{place and f' at {place}'}: {found['msg']}"
            ) from error
        if isinstance(checked, GeoJSON):
            return checked.__geo_interface__
        if isinstance(checked, BoundingBox):
            return checked.to_json()
        return self.adapter.dump_python(checked, mode="json", by_alias=True)


def _is_json(hint: Any) -> bool:
    if hint in _LITERALS:
        return hint not in (str, int, float, bool)  # these are checked: it costs nothing
    return get_origin(hint) in (list, dict) and all(one in _LITERALS or _is_json(one) for one in get_args(hint))


@dataclass(frozen=True, slots=True)
class ResultType:
    """What a function returns, as outputs."""

    outputs: tuple[_Result, ...]
    named: bool
    """Whether what is returned has one field per output."""

    @classmethod
    def of(
        cls,
        hint: Any,
        chosen: Mapping[str, Output | str],
        documented: Mapping[str, str | None],
        only: str | None,
    ) -> ResultType:
        if hint is type(None) or hint is None:
            return cls((), named=False)
        fields = _fields_of(hint)
        if fields is None:
            name = next(iter(chosen), RESULT)
            return cls((_overridden(_Result.of(name, hint, only), chosen.get(name)),), named=False)
        unknown = [name for name in chosen if name not in fields]
        if unknown:
            raise ValueError(f"outputs= names {unknown[0]!r}, which the return type does not have")
        results = (_Result.of(name, one, documented.get(name)) for name, one in fields.items())
        return cls(tuple(_overridden(one, chosen.get(one.name)) for one in results), named=True)

    def outputs_of(self, returned: Any, context: RunContext) -> Outputs:
        """Return what a function returned as outputs; None is no output.

        Raises
        ------
        ProcessFault
            If it returned something other than it declares, or an output is missing that is wanted and not optional.
        """
        if not self.outputs:
            return {}
        found = _members_of(returned) if self.named else {self.outputs[0].name: returned}
        given = [one for one in self.outputs if found.get(one.name) is not None]
        for one in self.outputs:
            if one not in given and one.description.min_occurs and one.name in context.wanted:
                remedy = "let it return one, or declare it optional with '| None'"
                raise ProcessFault(f"the process returned no {one.name!r}, which it declares; {remedy}")
        return {one.name: one.values(found[one.name], context) for one in given}


def _overridden(result: _Result, chosen: Output | str | None) -> _Result:
    if isinstance(chosen, Output):
        return dataclasses.replace(result, description=chosen)
    if chosen is not None:
        described = msgspec.structs.replace(result.description, description=chosen)
        return dataclasses.replace(result, description=described)
    return result


def _fields_of(hint: Any) -> dict[str, Any] | None:
    """Return the fields of a type of one's own that stands for several outputs, or None."""
    if not isinstance(hint, type) or issubclass(hint, _OWN):
        return None
    is_named_tuple = issubclass(hint, tuple) and hasattr(hint, "_fields")
    if not (dataclasses.is_dataclass(hint) or is_typeddict(hint) or is_named_tuple or issubclass(hint, BaseModel)):
        return None
    hints = get_type_hints(hint, include_extras=True)
    if issubclass(hint, BaseModel):
        return {name: Annotated[hints[name], field] for name, field in hint.model_fields.items()}
    if dataclasses.is_dataclass(hint):
        return {one.name: hints[one.name] for one in dataclasses.fields(hint)}
    return {
        name: _optional_if(one, name not in getattr(hint, "__required_keys__", hints)) for name, one in hints.items()
    }


def _optional_if(hint: Any, optional: bool) -> Any:  # noqa: FBT001 - private, called once
    inner = get_args(hint)[0] if str(get_origin(hint)).endswith(("NotRequired", "Required")) else hint
    return Union[inner, None] if optional else inner  # noqa: UP007 - inner is a value


def _members_of(returned: Any) -> Mapping[str, Any]:
    if returned is None:
        return {}
    if isinstance(returned, Mapping):
        return returned
    if isinstance(returned, tuple):
        return dict(zip(getattr(returned, "_fields", ()), returned, strict=False))
    names = (
        type(returned).model_fields
        if isinstance(returned, BaseModel)
        else (f.name for f in dataclasses.fields(returned))
    )
    return {name: getattr(returned, name) for name in names}
