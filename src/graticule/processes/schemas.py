"""From the JSON schema that pydantic writes to the words that OpenAPI 3.0 and JSON Schema 2020-12 share.

References are written out, ``const`` becomes ``enum``, exclusive bounds become bounds and an excluded number, and null
becomes ``nullable``. Whatever has no shared word is left out: pydantic checks it all the same when the process runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema

from graticule.ogc.processes import Schema

_KEPT = frozenset(
    [
        "title",
        "multipleOf",
        "maximum",
        "minimum",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "maxProperties",
        "minProperties",
        "enum",
        "type",
        "description",
        "format",
        "default",
        "nullable",
        "readOnly",
        "writeOnly",
        "example",
        "deprecated",
        "contentMediaType",
        "contentEncoding",
    ]
)
_NULL = {"type": "null"}
_LOOK_AROUND = ("(?=", "(?!", "(?<=", "(?<!")


class _Generator(GenerateJsonSchema):
    """Pydantic's generator without the titles that it makes up from names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_of(adapter: TypeAdapter[Any]) -> Schema:
    """
    Return the schema of a type in the common subset.

    Parameters
    ----------
    adapter : TypeAdapter
        Of the type.

    Returns
    -------
    Schema

    Raises
    ------
    TypeError
        If the type has no JSON form.
    """
    try:
        written = adapter.json_schema(schema_generator=_Generator, mode="validation")
    except PydanticInvalidForJsonSchema as error:
        raise TypeError(f"{error.message}; use a type that JSON can carry") from error
    return common_subset(written)


def common_subset(schema: Mapping[str, Any]) -> Schema:
    """
    Return a JSON schema in the common subset.

    A definition that refers to itself ends as an open object where it would begin again.
    """
    definitions = schema.get("$defs", {})
    return _translate(schema, definitions, frozenset())


def _translate(schema: Any, definitions: Mapping[str, Any], open_names: frozenset[str]) -> Schema:
    if not isinstance(schema, Mapping):
        return {}  # true and false: whatever else is said, decides
    if "$ref" in schema:
        return _inlined(schema, definitions, open_names)

    def part(one: Any) -> Schema:
        return _translate(one, definitions, open_names)

    result: Schema = {word: value for word, value in schema.items() if word in _KEPT}
    _single_type(result, schema)
    _literals(result, schema)
    _strings(result)
    _members(result, schema, part)
    if "not" in schema:
        result["not"] = part(schema["not"])
    _bound(result, schema)
    _combined(result, schema, part)
    return result


def _single_type(result: Schema, schema: Mapping[str, Any]) -> None:
    """Write several types as alternatives."""
    if not isinstance(schema.get("type"), list):
        return
    names = [name for name in result.pop("type") if name != "null"]
    result.update(_branches([{"type": name} for name in names]))
    if "null" in schema["type"]:
        result["nullable"] = True


def _literals(result: Schema, schema: Mapping[str, Any]) -> None:
    """Write constants as enumerations, and leave out null where it only says that there is nothing."""
    if "const" in schema:
        result["enum"] = [schema["const"]]
        result.setdefault("type", _type_name(schema["const"]))
    if None in result.get("enum", ()):
        result["enum"] = [one for one in result["enum"] if one is not None]
        result["nullable"] = True
    if "default" in result and result["default"] is None:
        del result["default"]
    if schema.get("examples"):
        result.setdefault("example", schema["examples"][0])


def _strings(result: Schema) -> None:
    """Leave out patterns that need look-around, which takes exponential time, and name binary as the standard does."""
    if any(mark in result.get("pattern", "") for mark in _LOOK_AROUND):
        del result["pattern"]
    if result.get("type") == "string" and result.get("format") in ("binary", "base64url"):
        del result["format"]
        result["contentEncoding"] = "binary"
        result.setdefault("contentMediaType", "application/octet-stream")


def _combined(result: Schema, schema: Mapping[str, Any], part: Callable[[Any], Schema]) -> None:
    """Translate alternatives and conjunctions."""
    if "allOf" in schema:
        result["allOf"] = [part(one) for one in schema["allOf"]]
    for word in ("anyOf", "oneOf"):
        if word in schema:
            result.update(_branches([part(one) for one in schema[word] if one != _NULL]))
            if _NULL in schema[word]:
                result["nullable"] = True


def _inlined(schema: Mapping[str, Any], definitions: Mapping[str, Any], open_names: frozenset[str]) -> Schema:
    name = str(schema["$ref"]).rpartition("/")[2]
    beside = {word: value for word, value in schema.items() if word in _KEPT and value is not None}
    if name in open_names or name not in definitions:
        return {"type": "object", **beside}
    return {**_translate(definitions[name], definitions, open_names | {name}), **beside}


def _bound(result: Schema, schema: Mapping[str, Any]) -> None:
    """Write exclusive bounds as bounds and numbers that are not allowed."""
    excluded = []
    for word, bound, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        limit = schema.get(word)
        if limit is None or isinstance(limit, bool):
            continue
        if schema.get("type") == "integer" and isinstance(limit, int):
            result[bound] = limit + step
        else:
            result[bound] = limit
            excluded.append(limit)
    if excluded:
        result["not"] = {"enum": excluded}


def _members(result: Schema, schema: Mapping[str, Any], part: Callable[[Any], Schema]) -> None:
    """Translate what arrays and objects hold."""
    if "prefixItems" in schema:
        kinds = [part(one) for one in schema["prefixItems"]]
        result["items"] = _branches(_distinct(kinds)) if kinds else {}
    elif "items" in schema:
        result["items"] = part(schema["items"])
    elif result.get("type") == "array":
        result["items"] = {}
    if schema.get("properties"):
        result["properties"] = {name: part(one) for name, one in schema["properties"].items()}
    if schema.get("required"):
        result["required"] = list(schema["required"])
    more = schema.get("additionalProperties")
    if more is None and schema.get("patternProperties"):
        more = next(iter(schema["patternProperties"].values()))
    if isinstance(more, bool):
        result["additionalProperties"] = more
    elif more is not None:
        result["additionalProperties"] = part(more)


def _branches(branches: list[Schema]) -> Schema:
    """Return alternatives: ``oneOf`` when no value can fit two of them, else ``anyOf``."""
    flat = _distinct(inner for one in branches for inner in (one["oneOf"] if set(one) == {"oneOf"} else [one]))
    if len(flat) == 1:
        return flat[0]
    return {"oneOf" if _disjoint(flat) else "anyOf": flat}


def _disjoint(branches: list[Schema]) -> bool:
    kinds = [(_broad(one), one.get("contentMediaType"), one.get("format")) for one in branches]
    return all(kind is not None for kind, _, _ in kinds) and len(set(kinds)) == len(kinds)


def _broad(schema: Schema) -> str | None:
    """Return the JSON type, numbers all being one and a bounding box an object; None when the schema names none."""
    kind = "object" if "allOf" in schema else schema.get("type")
    return "number" if kind == "integer" else kind


def _distinct(schemas: Iterable[Schema]) -> list[Schema]:
    result: list[Schema] = []
    for one in schemas:
        if one not in result:
            result.append(one)
    return result


def _type_name(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "string")
