"""What annotations say beyond their type, and how the types of this package describe themselves to pydantic.

Pydantic loads only when a function is described.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graticule.processes.formats import essence, is_json

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema


class MediaType:
    """
    Say in an annotation which media types a value has.

    The first is the default. Text and JSON types of a file are sent inline as they are, all others as base64.

    Parameters
    ----------
    *names : str
        Media types.

    Examples
    --------
    ``Annotated[File, MediaType("text/csv")]``, ``Annotated[str, MediaType("application/xml")]``,
    ``Annotated[OutputFile, MediaType("image/png", "application/pdf")]``
    """

    def __init__(self, *names: str) -> None:
        if not names:
            raise ValueError("MediaType needs at least one media type, e.g. MediaType('text/csv')")
        self.names = names

    def __repr__(self) -> str:
        return f"MediaType({', '.join(map(repr, self.names))})"

    def __get_pydantic_json_schema__(self, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        plain = {key: value for key, value in handler(source).items() if key not in _CONTENT_MEMBERS}
        if plain.get("type") == "string" and not _is_content(handler(source)):
            return alternatives([{**plain, "contentMediaType": name} for name in self.names])
        return alternatives([content_schema(name) for name in self.names])


class OneValue:
    """
    Say in an annotation that a list is ONE value, a JSON array, rather than several values of the input.

    ``list[float]`` is an input with ``maxOccurs: unbounded``; ``Annotated[list[float], OneValue()]`` is one whose
    schema is an array. Tuples are always one value.
    """

    def __repr__(self) -> str:
        return "OneValue()"


_CONTENT_MEMBERS = {"contentMediaType", "contentEncoding", "format", "oneOf"}


def _is_content(schema: Mapping[str, Any]) -> bool:
    """Whether a schema stands for bytes: one alternative or several."""
    first = schema.get("oneOf", [schema])[0]
    return "contentEncoding" in first or first.get("format") in {"binary", "byte", "base64url"}


def alternatives(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one schema as it is, several as ``oneOf``."""
    return schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}


def content_schema(media_type: str) -> dict[str, Any]:
    """Return the schema of a whole document: JSON as an object, text as a string, anything else as binary."""
    if is_json(media_type):
        return {"type": "object", "contentMediaType": media_type}
    plain = essence(media_type)
    if plain.startswith("text/") or plain == "application/xml" or plain.endswith("+xml"):
        return {"type": "string", "contentMediaType": media_type}
    return {"type": "string", "contentEncoding": "binary", "contentMediaType": media_type}


def instances_of(kind: type[Any], convert: Any = None) -> CoreSchema:
    """Return the pydantic schema that takes an instance of `kind`, or what `convert` makes one of."""
    from pydantic_core import core_schema

    def accept(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if convert is None:
            raise ValueError(f"a {kind.__name__} is needed")
        return convert(value)

    return core_schema.no_info_plain_validator_function(accept)
