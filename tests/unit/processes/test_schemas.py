"""Schemas in the words that OpenAPI 3.0 and JSON Schema 2020-12 share."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from graticule.processes.schemas import common_subset, schema_of

ALLOWED = frozenset({
    "title", "multipleOf", "maximum", "minimum", "maxLength", "minLength",
    "pattern", "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties",
    "required", "enum", "type", "not", "allOf", "oneOf",
    "anyOf", "items", "properties", "additionalProperties", "description", "format",
    "default", "nullable", "readOnly", "writeOnly", "example", "deprecated",
    "contentMediaType", "contentEncoding",
})  # fmt: skip


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(gt=0)] = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    friend: Dog | Cat | None = None
    tags: dict[str, float] = {}


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    share: Annotated[float, Field(gt=0, le=1, examples=[0.5])]
    price: Decimal | None = None
    place: tuple[float, str] = (0, "")


def _words(schema: Any) -> set[str]:
    """Return every keyword that stands anywhere in a schema."""
    if isinstance(schema, list):
        return set().union(*map(_words, schema))
    if not isinstance(schema, dict):
        return set()
    inner = [
        value
        for word, value in schema.items()
        if word in ("not", "items", "additionalProperties", "allOf", "oneOf", "anyOf")
    ]
    inner += list(schema.get("properties", {}).values())
    return set(schema).union(*map(_words, inner))


@pytest.mark.parametrize("model", [Cat, Dog, Owner])
def test_a_model_is_described_in_the_shared_words(model: type[BaseModel]) -> None:
    assert _words(schema_of(TypeAdapter(model))) <= ALLOWED


@pytest.mark.parametrize(
    ("written", "shared"),
    [
        ({"const": 1}, {"enum": [1], "type": "integer"}),
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
        ({"type": ["string", "number"]}, {"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ({"type": "number", "exclusiveMaximum": 360}, {"type": "number", "maximum": 360, "not": {"enum": [360]}}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}),
        ({"type": "string", "default": None, "examples": ["a"]}, {"type": "string", "example": "a"}),
        ({"type": "string", "pattern": "(?!a)b"}, {"type": "string"}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "string", "nullable": True}),
        ({"enum": ["a", None]}, {"enum": ["a"], "nullable": True}),
        ({"type": "object", "propertyNames": {}, "x-own": 1, "required": []}, {"type": "object"}),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}}},
            {"properties": {"a": {"type": "object"}}},
        ),
    ],
    ids=str,
)
def test_each_word_has_its_translation(written: dict[str, Any], shared: dict[str, Any]) -> None:
    assert common_subset(written) == shared
