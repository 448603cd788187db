"""``graticule describe``: what a process takes and gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
import msgspec

from graticule.cli.service import Service, json_option, service_options
from graticule.cli.show import print_json, print_line, print_table
from graticule.ogc.processes import Input, Output, ProcessDescription, Schema


@click.command("describe")
@click.argument("process_id", metavar="PROCESS")
@service_options
@json_option
def command(process_id: str, service: Service, *, as_json: bool) -> None:
    """Show the inputs and outputs of a process."""
    with service.client() as client:
        process = client.process(process_id)
    if as_json:
        print_json(process)
        return
    print_line(f"{process.id} {process.version}: {process.title or ''}\n")
    if process.description:
        print_line(f"{process.description}\n")
    print_table(("input", "type", "needed", "description"), _input_rows(process))
    print_line("")
    print_table(("output", "type", "description"), _output_rows(process))


def _input_rows(process: ProcessDescription) -> Iterator[tuple[str, str, str, str]]:
    for name, described in process.inputs.items():
        yield name, type_of(described.schema), needed_of(described), _words(described)


def _output_rows(process: ProcessDescription) -> Iterator[tuple[str, str, str]]:
    for name, described in process.outputs.items():
        yield name, type_of(described.schema), _words(described)


def _words(described: Input | Output) -> str:
    return described.description or described.title or ""


def needed_of(described: Input) -> str:
    """Return whether an input must be given, what it is otherwise, and how many values it takes."""
    needed = "yes" if described.min_occurs else "no"
    if "default" in described.schema:
        needed = f"default {_json(described.schema['default'])}"
    if not described.is_list:
        return needed
    least = described.min_occurs if described.min_occurs > 1 else None
    most = None if described.max_occurs == "unbounded" else described.max_occurs
    return f"{needed}, {_between(least, most) or 'any number'}"


def type_of(schema: Schema) -> str:
    """Return in a few words what values a schema takes."""
    if not isinstance(schema, Mapping):
        return "any"  # true, as other services may write it
    for word, joint in (("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")):
        if word in schema:
            return joint.join(dict.fromkeys(filter(None, map(type_of, schema[word]))))
    if "enum" in schema:
        return " or ".join(map(_choice, schema["enum"]))
    if "contentMediaType" in schema:
        return str(schema["contentMediaType"])
    kind = schema.get("type") or "any"
    name = str(schema.get("format") or (kind if isinstance(kind, str) else " or ".join(kind)))
    if schema.get("type") == "array":
        inner = type_of(schema.get("items", {}))
        name = f"list of ({inner})" if "," in inner or " " in inner else f"list of {inner}"
    return ", ".join([name, *_limits(schema)])


def _limits(schema: Schema) -> Iterator[str]:
    """Yield what a schema says besides its type."""
    forbidden = schema.get("not")
    excluded = forbidden.get("enum", []) if isinstance(forbidden, Mapping) else []
    low, high = schema.get("minimum"), schema.get("maximum")
    if bounds := _between(low, high, above=low in excluded, below=high in excluded):
        yield bounds
    if others := [value for value in excluded if value not in (low, high)]:
        yield "not " + " or ".join(map(_choice, others))
    if "multipleOf" in schema:
        yield f"a multiple of {schema['multipleOf']}"
    for unit, least, most in (("characters", "minLength", "maxLength"), ("values", "minItems", "maxItems")):
        if counts := _between(schema.get(least), schema.get(most)):
            yield f"{counts} {unit.removesuffix('s') if counts.endswith(' 1') else unit}"
    if schema.get("uniqueItems"):
        yield "no two alike"
    if "pattern" in schema:
        yield f"matches {schema['pattern']}"


def _between(low: Any, high: Any, *, above: bool = False, below: bool = False) -> str:
    """Return two bounds in words; `above` and `below` say that a bound itself is not allowed."""
    at_least = f"above {low}" if above else f"at least {low}"
    at_most = f"below {high}" if below else f"at most {high}"
    if low is None or high is None:
        return at_least if low is not None else at_most if high is not None else ""
    return f"{at_least if above else f'from {low}'} to {at_most if below else high}"


def _choice(value: Any) -> str:
    """Return an allowed value: a word as it is typed, anything else as JSON."""
    return value if isinstance(value, str) and value.strip() else _json(value)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
