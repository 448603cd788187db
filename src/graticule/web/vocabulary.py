"""Say a schema in the words of OpenAPI 3.0 or of 3.1, which is JSON Schema 2020-12.

Descriptions keep to the words that both know; a process that brings its own schema may use more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graticule.web.schemas import Schema


def schema_3_1(schema: Any) -> Any:
    """
    Return a schema in the words of JSON Schema 2020-12.

    It may use those of the common subset, of OpenAPI 3.0, or of 2020-12 itself. ``oneOf`` becomes ``anyOf``, which is
    how values are checked; references to definitions inside the schema are written out.
    """
    definitions = schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
    return _modern(schema, definitions, ())


_PARTS = frozenset({"not", "items", "additionalProperties", "contains", "propertyNames", "if", "then", "else"})
_PART_LISTS = frozenset({"allOf", "anyOf", "prefixItems"})
_PART_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas"})
_LEFT_OUT = frozenset({"$defs", "$schema", "$id", "$anchor", "$comment", "definitions"})
_BYTES = frozenset({"byte", "binary", "base64", "base64url"})


def _modern(schema: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    if not isinstance(schema, Mapping):
        return {} if schema is True else {"not": {}} if schema is False else schema
    target = schema.get("$ref")
    if isinstance(target, str) and not target.startswith("#/components/"):
        found = definitions.get(target.rpartition("/")[2]) if target.startswith("#/$defs/") else None
        beside = {word: value for word, value in schema.items() if word != "$ref"}
        known = {} if found is None or target in inside else _modern(found, definitions, (*inside, target))
        return {**known, **_modern(beside, definitions, inside)}
    result: Schema = {}
    for word, value in schema.items():
        if word in _LEFT_OUT:
            continue
        if word in _PARTS:
            result[word] = value if isinstance(value, bool) else _modern(value, definitions, inside)
        elif word in _PART_LISTS or word == "oneOf":
            branches = [_modern(part, definitions, inside) for part in value]
            name = "anyOf" if word == "oneOf" else word
            if name in result or (word == "oneOf" and "anyOf" in schema):
                result["allOf"] = [*result.get("allOf", []), {"anyOf": branches}]
            else:
                result[name] = branches
        elif word in _PART_MAPS:
            result[word] = {name: _modern(part, definitions, inside) for name, part in value.items()}
        else:
            result[word] = value
    return _respelled(result)


def _respelled(result: Schema) -> Schema:
    """Turn the words that OpenAPI 3.0 has of its own into those of 2020-12."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(result.get(exclusive), bool) and result.pop(exclusive) and bound in result:
            result[exclusive] = result.pop(bound)
    if result.get("format") in _BYTES and result.get("type", "string") == "string":
        result["contentEncoding"] = "base64"
        del result["format"]
    elif result.get("contentEncoding") == "binary":
        result["contentEncoding"] = "base64"
    if "example" in result:
        result["examples"] = [result.pop("example")]
    return _with_null(result) if result.pop("nullable", False) else result


def _with_null(schema: Schema) -> Schema:
    """Let null be a value too."""
    null: Schema = {"type": "null"}
    if isinstance(schema.get("type"), str):
        enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
        return {**schema, "type": [schema["type"], "null"], **enum}
    if "anyOf" in schema and not {"allOf", "enum", "not", "$ref"} & set(schema):
        return {**schema, "anyOf": [*schema["anyOf"], null]}
    words: Schema = {name: schema.pop(name) for name in ("description", "title", "default") if name in schema}
    return {**words, "anyOf": [schema, null]}


_WORDS_3_0 = frozenset({
    "additionalProperties", "allOf", "anyOf", "default", "deprecated", "description", "discriminator",
    "enum", "example", "exclusiveMaximum", "exclusiveMinimum", "externalDocs", "format", "items",
    "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties",
    "minimum", "multipleOf", "not", "nullable", "oneOf", "pattern", "properties", "readOnly", "required", "title",
    "type", "uniqueItems", "writeOnly", "xml",
})  # fmt: skip


def schema_3_0(schema: Any) -> Any:
    """Return a schema in the words of OpenAPI 3.0; what it has no word for is left out, or stands as an extension."""
    return _older(schema_3_1(schema))


def _older(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return {} if schema is True else {"not": {}} if schema is False else schema
    if "$ref" in schema:
        return _older_reference(schema)
    result: Schema = {word: value for word, value in schema.items() if word in _WORDS_3_0}
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if schema.get("examples"):
        result.setdefault("example", schema["examples"][0])
    _older_content(result, schema)
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in result:
            result[bound], result[exclusive] = result[exclusive], True
    if not result.get("required", True):
        del result["required"]
    _older_parts(result, schema)
    return _older_null(result, schema)


def _older_reference(schema: Mapping[str, Any]) -> Schema:
    """Return a reference, which in 3.0 has nothing beside it."""
    reference: Schema = {"$ref": schema["$ref"]}
    beside: Schema = _older({word: value for word, value in schema.items() if word != "$ref"})
    return {**beside, "allOf": [*beside.get("allOf", []), reference]} if beside else reference


def _older_content(result: Schema, schema: Mapping[str, Any]) -> None:
    """Say what a string holds: only base64 has a word in 3.0."""
    if schema.get("contentEncoding") == "base64":
        result["format"] = "byte"
    elif "contentEncoding" in schema:
        result["x-contentEncoding"] = schema["contentEncoding"]
    if "contentMediaType" in schema:
        result["x-contentMediaType"] = schema["contentMediaType"]


def _older_parts(result: Schema, schema: Mapping[str, Any]) -> None:
    """Translate the schemas inside a schema."""
    if "not" in result:
        result["not"] = _older(result["not"])
    for word in ("allOf", "anyOf"):
        if word in result:
            result[word] = [_older(part) for part in result[word] if part != {"type": "null"}]
    if "properties" in result:
        result["properties"] = {name: _older(part) for name, part in result["properties"].items()}
    if schema.get("prefixItems"):
        kinds = [_older(part) for part in schema["prefixItems"]]
        result["items"] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    elif "items" in result:
        result["items"] = _older(result["items"])
    if schema.get("patternProperties"):
        result.pop("additionalProperties", None)
    elif isinstance(result.get("additionalProperties"), Mapping):
        result["additionalProperties"] = _older(result["additionalProperties"])


def _older_null(result: Schema, schema: Mapping[str, Any]) -> Schema:
    """Say with ``nullable`` what 2020-12 says with a type; an array of types becomes alternatives."""
    kinds = schema.get("type")
    listed = kinds if isinstance(kinds, list) else [kinds] if kinds else []
    if "null" in listed or {"type": "null"} in schema.get("anyOf", ()):
        result["nullable"] = True
    real = [kind for kind in listed if kind != "null"]
    if len(real) == 1:
        result["type"] = real[0]
    else:
        result.pop("type", None)
    if len(real) > 1:
        branches = [{"type": kind, **({"items": {}} if kind == "array" else {})} for kind in real]
        result["allOf"] = [*result.get("allOf", []), {"anyOf": branches}]
    elif listed and not real:
        result["enum"] = [None]
    if result.get("type") == "array":
        result.setdefault("items", {})
    return result
