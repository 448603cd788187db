"""What one process takes and gives, as schemas: execute requests, their query parameters, and results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from graticule.ogc.common import JSON
from graticule.ogc.processes import Input, Output, ProcessDescription
from graticule.processes.formats import OCTETS, Alternative, alternatives_of, is_json
from graticule.web.routing import Parameter
from graticule.web.schemas import ABSENT, COMPONENTS, Schema, component_name, ref


@dataclass(frozen=True, slots=True)
class Requests:
    """Writes the schemas of execute requests.

    Parameters
    ----------
    shared : dict
        Gets the parts that many processes have in common, by the name that they are referred to by.
    """

    shared: dict[str, Schema]

    def body(self, description: ProcessDescription) -> Schema:
        """Return the schema of an execute request of one process."""
        required = [name for name, one in description.inputs.items() if one.min_occurs > 0]
        inputs: Schema = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: self.input(one) for name, one in description.inputs.items()},
        }
        outputs: Schema = {
            "type": "object",
            "nullable": True,
            "description": "Which outputs, and how. None given: all. An empty object: run, and return nothing.",
            "additionalProperties": False,
            "properties": {name: self._selection(one, description) for name, one in description.outputs.items()},
        }
        body: Schema = {
            "type": "object",
            "properties": {
                "inputs": inputs,
                "outputs": outputs,
                "response": ref("response"),
                "subscriber": ref("subscriber"),
                "limits": ref("limits"),
                "labels": ref("labels"),
            },
        }
        if required:
            inputs["required"] = required
            body["required"] = ["inputs"]
        return body

    def input(self, description: Input) -> Schema:
        """
        Return the schema of all that may be sent for an input.

        Each value comes bare, qualified, as a bounding box or as a link, whatever its kind allows; where several values
        are allowed, an array of them.
        """
        passing = description.value_passing or ["byValue", "byReference"]
        ways: list[Schema] = []
        if "byValue" in passing:
            ways += self._ways(alternatives_of(description.schema))
        if "byReference" in passing:
            ways.append(self._reference(description))
        words = {"title": description.title, "description": description.description}
        said: Schema = {name: text for name, text in words.items() if text}
        if not description.is_list:
            return {**said, "anyOf": _distinct(ways)}
        return {**said, **_several({"anyOf": _distinct(ways)}, description)}

    def _ways(self, alternatives: Sequence[Alternative]) -> Iterator[Schema]:
        """Yield the forms in which a value can be sent inline; binary content of all media types is one of them."""
        binary = [one for one in alternatives if one.form == "binary"]
        for alternative in alternatives:
            media_type = self._media_types([alternative])
            if alternative.form == "bbox":
                yield ref("bbox")
                yield _sent(ref("bbox"), media_type)
            elif alternative.form != "binary":
                schema = _value(alternative)
                bare = _bare(schema)
                if bare is not None:
                    yield bare
                yield _sent(schema, media_type)
            elif alternative is binary[0]:
                content = _bytes(empty=any(one.default_media_type == OCTETS for one in binary))
                if len(binary) == 1:
                    content["contentMediaType"] = alternative.default_media_type
                yield content
                names = self._media_types(binary)
                encoding: Schema = {"type": "string", "enum": ["base64"], "nullable": True}
                yield _sent(content, names, encoding)

    def _reference(self, description: Input) -> Schema:
        """Return the schema of a link to a value of an input."""
        alternatives = alternatives_of(description.schema)
        kind: Schema = {"type": "object", "properties": {"type": self._media_types(alternatives)}}
        return self._share("reference", _names(alternatives), {"allOf": [ref("reference"), kind]})

    def _selection(self, output: Output, description: ProcessDescription) -> Schema:
        """Return how one output can be asked for."""
        alternatives = alternatives_of(output.schema)
        modes = list(description.output_transmission)
        schema: Schema = {
            "type": "object",
            "properties": {
                "format": {
                    "type": "object",
                    "nullable": True,
                    "properties": {**COMPONENTS["format"]["properties"], "mediaType": self._media_types(alternatives)},
                },
                "transmissionMode": {"type": "string", "enum": modes, "nullable": True},
            },
        }
        return self._share("output", [*_names(alternatives), *modes], schema)

    def _media_types(self, alternatives: Sequence[Alternative]) -> Schema:
        """Return the schema of a media type that must be one of several; untyped bytes may be called anything."""
        names = _names(alternatives)
        if any(one.form == "binary" and one.default_media_type == OCTETS for one in alternatives):
            return {"type": "string", "nullable": True}
        return self._share("mediaType", names, {"type": "string", "enum": names, "nullable": True})

    def _share(self, kind: str, names: Iterable[str], schema: Schema) -> Schema:
        """Keep a schema under a name that says what makes it different, and return a reference to it."""
        name = component_name(".".join([kind, *dict.fromkeys(names)]))
        self.shared.setdefault(name, schema)
        return ref(name)


_FOUR = "[A-Za-z0-9+/]{4}"
_LAST = "[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}="


def _bytes(*, empty: bool, breaks: str = r"\s*") -> Schema:
    """Return the schema of base64 text, with line breaks between groups of four characters (RFC 2045)."""
    end = f"({_LAST})?" if empty else f"({_FOUR}|{_LAST})"
    return {"type": "string", "format": "byte", "pattern": rf"^({_FOUR}{breaks})*{end}{breaks}$"}


def _value(alternative: Alternative) -> Schema:
    """Return the schema of a value itself; GeoJSON and bounding boxes are described once for all."""
    if alternative.form == "bbox":
        return ref("bbox")
    if alternative.form == "binary":
        return _bytes(empty=alternative.default_media_type == OCTETS)
    schema = dict(alternative.schema)
    if alternative.format in COMPONENTS:
        return {**schema, "allOf": [*schema.get("allOf", ()), ref(alternative.format)]}
    return schema


def _several(schema: Schema, description: Input) -> Schema:
    """Return the schema of an array with as many values as an input may have."""
    several: Schema = {"type": "array", "items": schema}
    if description.min_occurs:
        several["minItems"] = description.min_occurs
    if description.max_occurs != "unbounded":
        several["maxItems"] = description.max_occurs
    return several


def _bare(schema: Schema) -> Schema | None:
    """Return what may be sent without wrapping: everything but objects."""
    kind = schema.get("type")
    if kind == "object":
        return None
    if isinstance(kind, str):
        return schema
    return {"allOf": [schema, {"not": {"type": "object"}}]}


_PLAIN_ENCODING: Schema = {"type": "string", "enum": ["utf-8"], "nullable": True}


def _sent(value: Schema, media_type: Schema, encoding: Schema = _PLAIN_ENCODING) -> Schema:
    """Return the schema of a qualified value in a request, which is no link besides."""
    return _qualified(value, mediaType=media_type, encoding=encoding, href=ABSENT)


def _qualified(value: Schema, **beside: Schema) -> Schema:
    return {"type": "object", "required": ["value"], "properties": {"value": value, **beside}}


def _names(alternatives: Iterable[Alternative]) -> list[str]:
    """Return the media types by which alternatives can be named, their own first."""
    found: dict[str, None] = {}
    for alternative in alternatives:
        found[alternative.default_media_type] = None
        for other in (JSON, "text/plain", OCTETS):
            if alternative.admits(other):
                found[other] = None
    return list(found)


def _distinct(schemas: Iterable[Schema]) -> list[Schema]:
    result: list[Schema] = []
    for one in schemas:
        if one not in result:
            result.append(one)
    return result


RAW: Schema = {"description": "The bytes themselves.", "format": "x-raw"}
"""Content that is no JSON: ``format: binary`` for OpenAPI 3.0, nothing to say for 3.1."""


def result_content(description: ProcessDescription) -> dict[str, Schema]:
    """Return the schemas of the answer to an execution, by media type: a results document, or one output as itself."""
    alone: dict[str, list[Schema]] = {JSON: [_results_schema(description)]}
    for name, output in description.outputs.items():
        values = alone[JSON]
        if output.max_occurs == "unbounded" or output.max_occurs > 1:
            values.append({"type": "array", "title": f"Values of {name}", "items": {}})
        for alternative in alternatives_of(output.schema):
            media_type = alternative.default_media_type
            if alternative.form == "bbox":
                values.append(ref("bbox"))
            elif is_json(media_type):
                schema = {"title": f"Value of {name}", **alternative.schema}
                alone.setdefault(media_type, []).append(schema)
                if schema.get("type") not in ("object", "array"):
                    alone.setdefault("text/plain", []).append({"type": "string"})
            elif media_type.startswith("text/"):
                alone.setdefault(media_type, []).append({"type": "string"})
                values.append({"type": "string", "title": f"Value of {name}"})
            else:
                alone.setdefault(media_type, []).append(RAW)
    alone.setdefault("multipart/related", []).append(RAW)
    content = {}
    for media_type, schemas in alone.items():
        distinct = _distinct(schemas)
        content[media_type] = distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
    return content


def _results_schema(description: ProcessDescription) -> Schema:
    return {
        "title": "Results document",
        "type": "object",
        "properties": {name: _result_schema(output) for name, output in description.outputs.items()},
    }


def _result_schema(output: Output) -> Schema:
    ways: list[Schema] = []
    for alternative in alternatives_of(output.schema):
        if alternative.form == "bbox":
            ways.append(ref("bbox"))
        elif alternative.form == "binary":
            ways.append(_qualified({"type": "string", "format": "byte"}, mediaType={"type": "string"}))
        elif alternative.form == "text":
            ways.append(_qualified({"type": "string"}, mediaType={"type": "string"}))
        else:
            schema = dict(alternative.schema)
            bare = _bare(schema)
            ways += ([] if bare is None else [bare]) + [_qualified(schema, mediaType={"type": "string"})]
    one: Schema = {"anyOf": _distinct([*ways, ref("link")])}
    several = output.max_occurs == "unbounded" or output.max_occurs > 1
    words = {"description": output.description} if output.description else {}
    return {"type": "array", "items": one, **words} if several else {**one, **words}


# --- execution by query parameters ----------------------------------------------------------------------------------


def query_parameters(description: ProcessDescription) -> list[Parameter]:
    """
    Return the query parameters that stand for the inputs and outputs of a process (requirements class kvp-execute).

    Literals, arrays and boxes are sent in form style, everything else as URL-encoded JSON. An input that is mostly sent
    by reference is documented by ``NAME[href]``.
    """
    found: list[Parameter] = []
    for name, one in description.inputs.items():
        found += _query_input(name, one)
    for name, output in description.outputs.items():
        found.append(
            Parameter(
                name=f"{name}[include]",
                description=f"Whether to return {output.title or name}; with none of these, all outputs are returned.",
                schema={"type": "boolean"},
            )
        )
    return found


def _query_input(name: str, one: Input) -> Iterator[Parameter]:
    passing = one.value_passing or ["byValue", "byReference"]
    forms = {alternative.form for alternative in alternatives_of(one.schema)}
    text = ". ".join(part.rstrip(".") for part in (one.title, one.description) if part)
    required = one.min_occurs > 0
    linked = "byReference" in passing and ("byValue" not in passing or forms == {"binary"})
    if "byValue" in passing:
        yield _query_value(name, one, text, required=required and not linked)
    if linked or ("byReference" in passing and forms - {"json"}):
        yield Parameter(
            name=f"{name}[href]",
            description=f"Address of a value: {text}" if text else "Address of a value.",
            schema={"type": "string", "pattern": "^https?://[!-~]+$"},
        )


def _query_value(name: str, one: Input, text: str, *, required: bool) -> Parameter:
    alternatives = alternatives_of(one.schema)
    schema = dict(alternatives[0].schema)
    form = alternatives[0].form
    if form == "bbox":
        sizes = [{"minItems": size, "maxItems": size} for size in (4, 6)]
        schema = {"type": "array", "items": {"type": "number"}, "anyOf": sizes}
        return _query(name, f"{text}. 4 or 6 numbers", schema, required=required, exploded=False)
    simple = len(alternatives) == 1 and schema.get("type") in ("string", "number", "integer", "boolean")
    if form == "binary":
        # A blank in a query may have been a plus sign.
        schema = _bytes(empty=alternatives[0].default_media_type == OCTETS, breaks="")
        simple = True
    if simple and not one.is_list:
        return _query(name, text, schema, required=required)
    if simple:
        return _query(name, text, _several(schema, one), required=required)
    values = _distinct(_value(alternative) for alternative in alternatives)
    whole: Schema = values[0] if len(values) == 1 else {"anyOf": values}
    if one.is_list:
        whole = _several(whole, one)
    return _query(name, f"{text}. URL-encoded JSON", whole, required=required, media_type=JSON)


def _query(
    name: str, description: str, schema: Schema, *, required: bool, exploded: bool = True, media_type: str = ""
) -> Parameter:  # fmt: skip
    return Parameter(
        name=name,
        description=description,
        schema=schema,
        explode=exploded,
        style=None if exploded else "form",
        required=required,
        media_type=media_type,
    )
