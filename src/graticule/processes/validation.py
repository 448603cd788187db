"""What a JSON schema says against a value, in no more time and memory than the first faults take.

The validator copies what it looks at, and makes an object of some kilobytes for each fault before it hands out the
first. Small values are given to it whole; a large one is walked through here, and given to it in parts.

The web process loads this file: no pydantic, no numpy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any

import jsonschema_rs

from graticule.errors import Fault

SHOWN_FAULTS = 20
"""Faults that are listed of one value; a wrong array of a million numbers is named once and clearly enough."""

_EXPLAINED = 1_000
"""How many parts a value may have of which the validator lists all faults: some megabytes."""

_COPIED = 20_000
"""How many parts a value may have which the validator looks at in one go: some megabytes, some milliseconds."""

_CHUNK = 512
"""Items of an array which the validator looks at in one go."""


def escape(name: str) -> str:
    """Return `name` as one step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1") if "~" in name or "/" in name else name


def compile_schema(schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """
    Compile a schema of the common subset.

    ``oneOf`` counts as ``anyOf``, as the standard's own value schemas overlap; nothing is fetched; formats are checked;
    patterns run on the engine whose time grows with the text only.

    Raises
    ------
    ValueError
        If it is no schema, or refers to something outside.
    """
    return jsonschema_rs.Draft202012Validator(
        as_2020_12(schema), offline=True, validate_formats=True, pattern_options=jsonschema_rs.RegexOptions()
    )


_SCHEMAS = frozenset({"not", "items", "additionalProperties", "contains", "propertyNames", "if", "then", "else"})
_SCHEMA_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SCHEMA_MAPS = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})


def as_2020_12(schema: Any) -> Any:
    """Return a schema of the common subset, or of OpenAPI 3.0, in the words of JSON Schema 2020-12."""
    if not isinstance(schema, Mapping):
        return schema
    result = {word: _inner(word, value) for word, value in schema.items()}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(result.get(exclusive), bool) and result.pop(exclusive) and bound in result:
            result[exclusive] = result.pop(bound)
    _say_excluded_bounds(result)
    if "oneOf" in result:
        either = {"anyOf": result.pop("oneOf")}
        result |= {"allOf": [*result.get("allOf", []), either]} if "anyOf" in result else either
    if result.get("format") in ("byte", "binary"):
        del result["format"]
    return {"anyOf": [result, {"type": "null"}]} if result.pop("nullable", False) else result


def _say_excluded_bounds(schema: dict[str, Any]) -> None:
    """Write a bound that ``not`` excludes, as our descriptions do, as an exclusive one: a fault can then name it."""
    if not isinstance(schema.get("not"), Mapping) or set(schema["not"]) != {"enum"}:
        return
    left = list(schema["not"]["enum"])
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if bound in schema and schema[bound] in left and exclusive not in schema:
            left.remove(schema[bound])
            schema[exclusive] = schema.pop(bound)
    if left:
        schema["not"] = {"enum": left}
    else:
        del schema["not"]


def _inner(word: str, value: Any) -> Any:
    """Translate what a keyword holds, when that is a schema or several."""
    if word in _SCHEMAS:
        return as_2020_12(value)
    if word in _SCHEMA_LISTS:
        return [as_2020_12(part) for part in value]
    if word in _SCHEMA_MAPS:
        return {name: as_2020_12(part) for name, part in value.items()}
    return value


class Validator:
    """
    A schema of the common subset, compiled.

    Parameters
    ----------
    schema : Mapping[str, Any]
        The schema.

    Raises
    ------
    ValueError
        If it is no schema, or refers to something outside.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._compiled = compile_schema(schema)
        self._schema = schema

    @cached_property
    def _root(self) -> _Node:
        schema = as_2020_12(self._schema)
        return _Node(schema, _Definitions(schema.get("$defs", {})) if _divisible(schema) else None)

    def is_valid(self, value: Any) -> bool:
        """Return whether a value fits."""
        if _is_small(value, _COPIED):
            return self._compiled.is_valid(value)
        return next(self._root.faults(value, ""), None) is None

    def faults(self, value: Any, pointer: str) -> Iterator[Fault]:
        """Yield what the schema says against a value that stands at `pointer`."""
        if _is_small(value, _COPIED) and self._compiled.is_valid(value):
            return
        found = self._root.faults(value, pointer)
        yield from islice(found, SHOWN_FAULTS)
        if next(found, None) is not None:
            yield Fault(pointer, "there are more faults like these")


# --- large values ------------------------------------------------------------------------------------------------

_PARTED = frozenset({"$ref", "allOf", "anyOf", "if", "then", "else", "items", "properties", "additionalProperties"})
"""Keywords that are followed here, into the parts of a value."""

_OF_THE_SHELL = frozenset(
    {"type", "minItems", "maxItems", "required", "minProperties", "maxProperties", "dependentRequired"}
)
"""Keywords that ask for no more than the kind of a value, how many parts it has and what they are called."""

_SAYING_NOTHING = frozenset({"$defs", "title", "description", "default", "example", "examples", "format", "deprecated"})


_LOCAL = "#/$defs/"
_REFERENCE = re.compile(r'"\$(?:ref|id|anchor|dynamicRef|dynamicAnchor)":(?! *"#/\$defs/[^/"]+")')


class _Definitions(dict[str, "_Node"]):
    """The definitions of a schema, each compiled when it is first needed."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self.schemas = schemas

    def __missing__(self, reference: str) -> _Node:
        self[reference] = node = _Node(self.schemas[reference.removeprefix(_LOCAL)], self)
        return node


class _Node:
    """
    A part of a schema, which names the faults of a value one after the other, as they are asked for.

    Parameters
    ----------
    schema : Any
        In the words of JSON Schema 2020-12.
    definitions : _Definitions | None
        What it may refer to. None: it cannot be divided, and tells the first fault of a large value only.
    """

    def __init__(self, schema: Any, definitions: _Definitions | None) -> None:
        self._schema = schema
        self._definitions = definitions
        words = dict(schema) if isinstance(schema, Mapping) else {}
        divided = definitions is not None and words.keys().isdisjoint(("patternProperties", "prefixItems"))
        self._words = {word: words[word] for word in _PARTED.intersection(words)} if divided else {}

    def _compile(self, schema: Any) -> jsonschema_rs.Draft202012Validator:
        defined = self._definitions.schemas if self._definitions is not None else {}
        return compile_schema({**schema, "$defs": defined} if defined and isinstance(schema, Mapping) else schema)

    def _node(self, schema: Any) -> _Node | None:
        """Return a part of this schema; None when it says nothing."""
        return None if schema is None or schema is True or schema == {} else _Node(schema, self._definitions)

    @cached_property
    def _whole(self) -> jsonschema_rs.Draft202012Validator:
        return self._compile(self._schema)

    @cached_property
    def _shell(self) -> jsonschema_rs.Draft202012Validator | None:
        schema = {word: self._schema[word] for word in _OF_THE_SHELL.intersection(self._schema)} if self._words else {}
        if self._words.get("additionalProperties") is False:
            schema |= {
                "properties": dict.fromkeys(self._words.get("properties", ()), True),
                "additionalProperties": False,
            }
        return compile_schema(schema) if schema else None

    @cached_property
    def _rest(self) -> jsonschema_rs.Draft202012Validator | None:
        if not self._words:
            return self._whole
        left = self._schema.keys() - _PARTED - _OF_THE_SHELL - _SAYING_NOTHING
        return self._compile({word: self._schema[word] for word in left}) if left else None

    @cached_property
    def _items(self) -> _Node | None:
        return self._node(self._words.get("items"))

    @cached_property
    def _chunk(self) -> jsonschema_rs.Draft202012Validator:
        return self._compile({"items": self._words["items"]})

    @cached_property
    def _properties(self) -> dict[str, _Node | None]:
        return {name: self._node(schema) for name, schema in self._words.get("properties", {}).items()}

    @cached_property
    def _more(self) -> _Node | None:
        more = self._words.get("additionalProperties")
        return None if more is False else self._node(more)

    @cached_property
    def _all(self) -> list[_Node]:
        nodes = [_Node(schema, self._definitions) for schema in self._words.get("allOf", ())]
        if "$ref" in self._words and self._definitions is not None:
            nodes.append(self._definitions[self._words["$ref"]])
        return nodes

    @cached_property
    def _any(self) -> list[_Node]:
        return [_Node(schema, self._definitions) for schema in self._words.get("anyOf", ())]

    @cached_property
    def _if(self) -> _Node | None:
        return _Node(self._words["if"], self._definitions) if "if" in self._words else None

    @cached_property
    def _then(self) -> _Node | None:
        return self._node(self._words.get("then"))

    @cached_property
    def _else(self) -> _Node | None:
        return self._node(self._words.get("else"))

    def faults(self, value: Any, pointer: str) -> Iterator[Fault]:
        """Yield what is wrong with a value."""
        if _is_small(value, _EXPLAINED):
            for error in self._whole.iter_errors(value):
                yield _fault(error, pointer)
            return
        yield from self._own_faults(value, pointer)
        if isinstance(value, list) and self._items is not None:
            yield from self._faults_of_items(self._items, value, pointer)
        if isinstance(value, dict):
            yield from self._faults_of_members(value, pointer)
        for node in self._all:
            yield from node.faults(value, pointer)
        if self._any:
            yield from self._faults_of_any(value, pointer)
        if self._if is not None:
            then = self._else if any(self._if.faults(value, "")) else self._then
            if then is not None:
                yield from then.faults(value, pointer)

    def _own_faults(self, value: Any, pointer: str) -> Iterator[Fault]:
        """Yield what the keywords say that are not followed into the parts of a value."""
        if self._shell is not None:
            for error in self._shell.iter_errors(_shell_of(value)):
                yield _fault(error, pointer)
        if self._rest is not None and not self._rest.is_valid(value):
            try:
                self._rest.validate(value)  # tells the first fault and looks for no other
            except jsonschema_rs.ValidationError as error:
                yield _fault(error, pointer)

    def _faults_of_members(self, members: dict[str, Any], pointer: str) -> Iterator[Fault]:
        for name, member in members.items() if self._properties or self._more is not None else ():
            node = self._properties.get(name, self._more)
            if node is not None:
                yield from node.faults(member, f"{pointer}/{escape(name)}")

    def _faults_of_items(self, node: _Node, items: list[Any], pointer: str) -> Iterator[Fault]:
        for start in range(0, len(items), _CHUNK):
            chunk = items[start : start + _CHUNK]
            if _is_small(chunk, _COPIED) and self._chunk.is_valid(chunk):
                continue
            for number, item in enumerate(chunk, start):
                yield from node.faults(item, f"{pointer}/{number}")

    def _faults_of_any(self, value: Any, pointer: str) -> Iterator[Fault]:
        reasons = []
        for branch in self._any:
            fault = next(branch.faults(value, pointer), None)
            if fault is None:
                return
            reasons.append(fault.message)
        yield Fault(pointer, _NONE_FITS + "; or ".join(dict.fromkeys(reasons)))


def _divisible(schema: Any) -> bool:
    """Return whether parts of a schema hold alone: they refer to nothing but its definitions."""
    return _REFERENCE.search(json.dumps(schema)) is None


def _is_small(value: Any, limit: int) -> bool:
    """Return whether a value has at most `limit` parts; it stops counting there."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (list, dict)):
            limit -= len(one)
            if limit < 0:
                return False
            parts = one if isinstance(one, list) else one.values()
            waiting += [part for part in parts if isinstance(part, (list, dict))]
    return True


def _shell_of(value: Any) -> Any:
    """Return a value without what its parts hold."""
    if isinstance(value, list):
        return ["…" if isinstance(part, (list, dict)) else part for part in value]
    if isinstance(value, dict):
        return {name: "…" if isinstance(part, (list, dict)) else part for name, part in value.items()}
    return value


def _fault(error: jsonschema_rs.ValidationError, pointer: str) -> Fault:
    steps = "".join(f"/{escape(str(step))}" for step in error.instance_path)
    return Fault(pointer + steps, _message(error))


_NONE_FITS = "none of the allowed forms fits: "


def _message(error: jsonschema_rs.ValidationError) -> str:
    kind, kinds = error.kind, jsonschema_rs.ValidationErrorKind
    if isinstance(kind, kinds.AnyOf):
        reasons = [_message(branch[0]) for branch in kind.context if branch]
        return "none of the allowed forms fits: " + "; or ".join(dict.fromkeys(reasons))
    if isinstance(kind, kinds.ExclusiveMinimum | kinds.ExclusiveMaximum):
        side = "above" if isinstance(kind, kinds.ExclusiveMinimum) else "below"
        return _short(f"{error.instance} is not allowed; the value must be {side} {kind.limit}")
    if isinstance(kind, kinds.Not) and isinstance(kind.schema, dict) and list(kind.schema) == ["enum"]:
        return _short(f"{error.instance!r} is not allowed; send another value")
    return _short(error.message)


def _short(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:200]} … {message[-80:]}"
