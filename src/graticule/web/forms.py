"""Forms made from the input schemas of a process, and read back into an execute request.

Each input becomes one field; what no control fits is edited as JSON. The names of controls are ``KIND:INPUT``, so that
a form says itself how each value was entered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from graticule.errors import Fault
from graticule.ogc.processes import Input, ProcessDescription
from graticule.processes.formats import Alternative, alternatives_of, is_json
from graticule.processes.validation import escape
from graticule.web.pages import as_json

Kind = Literal[
    "text", "number", "choice", "choices", "switch", "moment", "date", "box", "content", "addresses", "lines", "json"
]  # fmt: skip

EDGES = ("west", "south", "east", "north")
"""The four numbers of a bounding box, in the order of the standard."""

_MARKS = ("value", "href", "bbox")
_LONG_TEXT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input as a form shows it."""

    name: str
    kind: Kind
    title: str
    description: str = ""
    required: bool
    schema: Mapping[str, Any]
    many: bool = False
    """True where several values are allowed."""
    options: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Limits that a browser checks by itself: ``min``, ``max``, ``step``, ``maxlength``."""
    media_types: tuple[str, ...] = ()
    takes_text: bool = False
    takes_address: bool = False
    default: str = ""
    text: str = ""
    """What stands in the control: text, number, chosen option, JSON."""
    address: str = ""
    """Of a value by reference; one a line where several are allowed."""
    media_type: str = ""
    edges: tuple[str, ...] = ("", "", "", "")
    selected: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def long(self) -> bool:
        """Whether the text wants several lines."""
        return "\n" in self.text or len(self.text) > _LONG_TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The form of a process."""

    fields: tuple[Field, ...]
    inputs: Mapping[str, Any]
    """The inputs of the execute request that it stands for."""
    faults: tuple[Fault, ...] = ()
    """Those that belong to no field."""

    @property
    def faulty(self) -> tuple[Field, ...]:
        return tuple(one for one in self.fields if one.faults)

    @property
    def multipart(self) -> bool:
        return any(one.takes_address for one in self.fields)

    @property
    def body(self) -> str:
        """The execute request as JSON text."""
        return as_json({"inputs": self.inputs})

    def curl(self, address: str) -> str:
        """Return a command line that sends the same request."""
        body = self.body.replace("'", "'\\''")
        return f"curl -X POST {address} \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'"


def blank_form(description: ProcessDescription, example: int | None = None) -> Form:
    """Return the form of a process, filled with an example or with its defaults."""
    examples = description.examples or []
    if example is not None:
        return filled_form(description, examples[example].inputs)
    fields = tuple(_field(name, one) for name, one in description.inputs.items())
    # What is shown as a call should work: a blank form shows that of the first example.
    return Form(fields=fields, inputs=examples[0].inputs if examples else {})


def filled_form(description: ProcessDescription, inputs: Mapping[str, Any], faults: Sequence[Fault] = ()) -> Form:
    """Return the form of a process with the inputs of an execute request, and faults beside them.

    Parameters
    ----------
    description : ProcessDescription
        The process.
    inputs : mapping
        As in an execute request; inputs that are not there show their defaults.
    faults : sequence of Fault
        What is wrong with them.
    """
    fields = []
    for name, one in description.inputs.items():
        begun = _field(name, one)
        fields.append(_filled(replace(begun, text=""), inputs[name]) if name in inputs else begun)
    return with_faults(Form(fields=tuple(fields), inputs=inputs), faults)


def with_faults(form: Form, faults: Sequence[Fault]) -> Form:
    """Return a form with each fault at its field; those of no field stand above it."""
    names = {escape(one.name): one.name for one in form.fields}
    found: dict[str, list[str]] = {}
    others = []
    for fault in faults:
        place, _, rest = fault.pointer.removeprefix("/inputs/").partition("/")
        if fault.pointer.startswith("/inputs/") and place in names:
            where = f"{rest}: " if rest and rest not in ("value", "href") else ""
            found.setdefault(names[place], []).append(f"{where}{fault.message}")
        else:
            others.append(fault)
    fields = tuple(replace(one, faults=tuple(found.get(one.name, ()))) for one in form.fields)
    return replace(form, fields=fields, faults=(*form.faults, *others))


# --- from schema to field --------------------------------------------------------------------------------------------


def _field(name: str, described: Input) -> Field:
    """Return the empty field of an input."""
    alternatives = alternatives_of(described.schema)
    only = alternatives[0] if len(alternatives) == 1 else None
    schema = only.schema if only is not None else {}
    passing = described.value_passing or ["byValue", "byReference"]
    default = described.schema.get("default")
    begun = Field(
        name=name,
        kind="json",
        title=described.title or name,
        description=described.description or "",
        required=described.min_occurs > 0,
        schema=described.schema,
        many=described.is_list,
        default="" if default is None else _shown(default),
    )
    contents = any(_is_content(one) for one in alternatives)
    if described.is_list:
        return _list_field(begun, schema, by_reference=contents and "byReference" in passing)
    if only is not None and only.form == "bbox":
        return replace(begun, kind="box")
    if contents:
        return replace(
            begun,
            kind="content",
            media_types=tuple(dict.fromkeys(one.default_media_type for one in alternatives)),
            takes_text="byValue" in passing and any(one.form != "binary" for one in alternatives),
            takes_address=True,
            attributes={"upload": "1"},
        )
    return _literal_field(begun, schema) if only is not None else replace(begun, text=begun.default)


def _is_content(alternative: Alternative) -> bool:
    """Whether a value is a document or file of its own rather than a literal."""
    return (
        alternative.form in ("binary", "text")
        or alternative.format.startswith("geojson-")
        or (
            alternative.media_type is not None
            and alternative.schema.get("type") not in ("number", "integer", "boolean")
        )
    )


def _list_field(begun: Field, schema: Mapping[str, Any], *, by_reference: bool) -> Field:
    if by_reference:
        return replace(begun, kind="addresses", takes_address=True)
    if "enum" in schema:
        return replace(begun, kind="choices", options=tuple(map(_shown, schema["enum"])))
    if schema.get("type") in ("string", "number", "integer") and "default" not in schema:
        return replace(begun, kind="lines")
    return replace(begun, text=begun.default)


def _literal_field(begun: Field, schema: Mapping[str, Any]) -> Field:
    if "enum" in schema:
        return replace(begun, kind="choice", options=tuple(map(_shown, schema["enum"])), text=begun.default)
    match schema.get("type"):
        case "boolean" if begun.default or begun.required:
            return replace(begun, kind="switch", text=begun.default)
        case "boolean":
            return replace(begun, kind="choice", options=("true", "false"))
        case "number" | "integer":
            return replace(begun, kind="number", attributes=_limits(schema), text=begun.default)
        case "string":
            return _text_field(begun, schema)
    return replace(begun, text=begun.default)


def _text_field(begun: Field, schema: Mapping[str, Any]) -> Field:
    kinds: dict[Any, Kind] = {"date-time": "moment", "date": "date"}
    kind = kinds.get(schema.get("format"), "text")
    begun = replace(begun, kind=kind, text="")
    if begun.default:
        return _filled(begun, schema["default"])
    return begun


def _limits(schema: Mapping[str, Any]) -> dict[str, str]:
    limits = {"step": "1" if schema.get("type") == "integer" else "any"}
    for word, attribute in (("minimum", "min"), ("maximum", "max")):
        if word in schema:
            limits[attribute] = _shown(schema[word])
    return limits


def _shown(value: Any) -> str:
    """Return a value as a control shows it: text bare, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


# --- from values to field --------------------------------------------------------------------------------------------


def _filled(empty: Field, given: Any) -> Field:
    """Return a field with the value of an execute request; as JSON where its own control cannot show it."""
    shown = _list_filled(empty, given) if empty.many else _one_filled(empty, given)
    return shown or replace(empty, kind="json", text=as_json(given))


def _one_filled(empty: Field, given: Any) -> Field | None:
    """Return a field with one value; None if its control cannot show it."""
    value, media_type = given, ""
    if isinstance(given, dict) and "href" in given:
        if not empty.takes_address:
            return None
        return replace(empty, address=str(given["href"]), media_type=str(given.get("type") or ""))
    if isinstance(given, dict) and "value" in given:
        value, media_type = given["value"], str(given.get("mediaType") or "")
        if given.get("encoding"):
            return None
    if empty.kind == "box":
        return _box_filled(empty, given)
    if empty.kind == "moment":
        return _moment_filled(empty, value)
    text = _text_of(empty, value)
    return None if text is None else replace(empty, text=text, media_type=media_type)


def _text_of(empty: Field, value: Any) -> str | None:
    """Return what stands in a control that shows one text; None if the value is none for it."""
    fits = {
        "json": True,
        "content": empty.takes_text,
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "switch": isinstance(value, bool),
        "choice": _shown(value) in empty.options,
        "text": isinstance(value, str),
        "date": isinstance(value, str),
    }
    if not fits.get(empty.kind, False):
        return None
    if empty.kind == "json" or (empty.kind == "content" and not isinstance(value, str)):
        return as_json(value)
    return _shown(value)


def _moment_filled(empty: Field, value: Any) -> Field | None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None or moment.microsecond:
        return None
    return replace(empty, text=moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"))


def _box_filled(empty: Field, given: Any) -> Field | None:
    if not isinstance(given, dict) or set(given) != {"bbox"}:
        return None
    box = given["bbox"]
    if not isinstance(box, list) or len(box) != len(EDGES):
        return None
    return replace(empty, edges=tuple(map(_shown, box)))


def _list_filled(empty: Field, given: Any) -> Field | None:
    values = given if isinstance(given, list) else [given]
    match empty.kind:
        case "choices" if all(_shown(value) in empty.options for value in values):
            return replace(empty, selected=tuple(map(_shown, values)))
        case "addresses" if all(isinstance(value, dict) and set(value) <= {"href", "type"} for value in values):
            return replace(empty, address="\n".join(str(value.get("href", "")) for value in values))
        case "lines" if not any(isinstance(value, dict | list) or "\n" in _shown(value) for value in values):
            return replace(empty, text="\n".join(map(_shown, values)))
        case "json":
            return replace(empty, text=as_json(given))
    return None


# --- from posted controls to inputs ----------------------------------------------------------------------------------

Posted = Mapping[str, Sequence[str]]
"""The controls of a posted form: several values of one name in their order. Uploaded files have become addresses."""


class _Misfit(Exception):
    """What was entered cannot be read; the message is the fault."""


def read_form(description: ProcessDescription, posted: Posted) -> Form:
    """Return what a posted form says: its inputs, and a fault for each field that cannot be read.

    Parameters
    ----------
    description : ProcessDescription
        The process; what the inputs must fit is checked later, as for every execute request.
    posted : mapping of str to sequence of str
        The controls.
    """
    fields: list[Field] = []
    inputs: dict[str, Any] = {}
    for name, described in description.inputs.items():
        entered = _entered(_field(name, described), posted)
        try:
            value = _value(entered, described)
        except _Misfit as misfit:
            entered = replace(entered, faults=(str(misfit),))
        else:
            if value is not None:
                inputs[name] = value
        fields.append(entered)
    return Form(fields=tuple(fields), inputs=inputs)


def _entered(empty: Field, posted: Posted) -> Field:
    """Return a field as it was left by whoever filled it."""

    def one(kind: str) -> str:
        values = posted.get(f"{kind}:{empty.name}", ())
        return values[0].replace("\r\n", "\n") if values else ""

    if f"json:{empty.name}" in posted:
        return replace(empty, kind="json", text=one("json"))
    addresses = [one("href").strip(), *posted.get(f"file:{empty.name}", ())]
    address = "\n".join(filter(None, addresses)) if empty.many else addresses[-1]  # a file goes before an address
    return replace(
        empty,
        text=one("text"),
        address=address,
        media_type=one("type"),
        edges=tuple(one(edge).strip() for edge in EDGES),
        selected=tuple(posted.get(f"choice:{empty.name}", ())),
    )


def _value(entered: Field, described: Input) -> Any:
    """Return the value of an input for an execute request; None: nothing was entered."""
    match entered.kind:
        case "box":
            return _box(entered)
        case "addresses":
            return [_link(line.strip(), "") for line in entered.address.splitlines() if line.strip()] or None
        case "choices":
            return [_option(described, choice) for choice in entered.selected] or None
        case "switch":
            return entered.text == "true"
        case "content" if entered.address:
            return _link(entered.address, entered.media_type)
    return _from_text(entered, described) if entered.text.strip() else None


def _from_text(entered: Field, described: Input) -> Any:
    """Return the value of a control that holds one text."""
    text = entered.text
    match entered.kind:
        case "number":
            return _number(text.strip())
        case "choice":
            return _option(described, text)
        case "lines":
            return _lines(text, alternatives_of(described.schema)[0].schema)
        case "moment":
            return f"{text}:00Z" if text.count(":") == 1 else f"{text}Z"
        case "content":
            return _content(entered, described)
        case "json":
            return _from_json(entered, described)
    return text


def _link(address: str, media_type: str) -> dict[str, str]:
    return {"href": address, "type": media_type} if media_type else {"href": address}


def _number(text: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        raise _Misfit(f"{text!r} is no number") from None
    if not math.isfinite(value):
        raise _Misfit(f"{text!r} is no number")
    return int(value) if value == int(value) and text.lstrip("+-").isdigit() else value


def _lines(text: str, schema: Mapping[str, Any]) -> list[Any]:
    """Return the values of a text area with one a line; numbers may be divided by commas or blanks too."""
    if schema.get("type") == "string":
        return [line.strip() for line in text.splitlines() if line.strip()]
    return [_number(part) for part in text.replace(",", " ").replace(";", " ").split()]


def _option(described: Input, choice: str) -> Any:
    """Return the value that an option stands for; one that is not offered goes on as it is, and is refused later."""
    schema = alternatives_of(described.schema)[0].schema
    options = {_shown(value): value for value in schema.get("enum", (True, False))}
    return options.get(choice, choice)


def _box(entered: Field) -> dict[str, list[Any]] | None:
    if not any(entered.edges):
        return None
    if not all(entered.edges):
        missing = ", ".join(edge for edge, text in zip(EDGES, entered.edges, strict=True) if not text)
        raise _Misfit(f"a box has four numbers; {missing} is missing")
    return {"bbox": [_number(text) for text in entered.edges]}


def _content(entered: Field, described: Input) -> Any:
    """Return the value of a text area that takes documents: JSON where that is offered and it is JSON, else text."""
    alternatives = alternatives_of(described.schema)
    wanted = entered.media_type
    chosen = [one for one in alternatives if not wanted or one.default_media_type == wanted]
    forms = {one.form for one in chosen}
    value: Any = entered.text
    if "json" in forms and (not wanted or is_json(wanted)):
        try:
            value = _decode(entered.text)
        except _Misfit:
            if forms == {"json"} and all(one.schema.get("type") != "string" for one in chosen):
                raise
    if not wanted:
        return _wrapped(value)
    return value if isinstance(value, dict) and _is_qualified(value) else {"value": value, "mediaType": wanted}


def _from_json(entered: Field, described: Input) -> Any:
    """Return the value of a JSON text area; what is no JSON counts as text where text is allowed."""
    try:
        value = _decode(entered.text)
    except _Misfit:
        if any(one.schema.get("type") == "string" for one in alternatives_of(described.schema)) and not entered.many:
            return entered.text
        raise
    if entered.many and isinstance(value, list):
        return [_wrapped(item) for item in value]
    return _wrapped(value)


def _decode(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise _Misfit(f"this is no JSON ({error}); texts need double quotes") from error


def _wrapped(value: Any) -> Any:
    """Return a value as an execute request carries it: a bare object is wrapped, a qualified one stays."""
    return {"value": value} if isinstance(value, dict) and not _is_qualified(value) else value


def _is_qualified(value: Mapping[str, Any]) -> bool:
    return "href" in value or ("type" not in value and any(mark in value for mark in _MARKS))
