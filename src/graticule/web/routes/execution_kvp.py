"""Run a process by a GET request, its inputs as query parameters (requirements class kvp-execute of the 2.0 draft)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import (
    ContentLost,
    Fault,
    InvalidInputs,
    InvalidParameter,
    JobFailed,
    KeyReused,
    NoSuchProcess,
    NotAcceptable,
    QueueHeld,
    ShuttingDown,
    SyncTimeout,
    TooManyJobs,
)  # fmt: skip
from graticule.ogc.processes import Execute, Format, Input, ProcessDescription, WantedOutput
from graticule.processes.formats import Alternative, alternatives_of
from graticule.processes.inputs import unfit
from graticule.processes.validation import escape
from graticule.web.parameters import IDEMPOTENCY_KEY, PREFER, PROCESS_ID
from graticule.web.requests import decode_leniently, visit_of, workspace_of
from graticule.web.routes.execution import EXECUTION_ANSWERS, run
from graticule.web.routing import RANGE, Parameter, Routes

routes = Routes("Execution")

_RESPONSE = Parameter(
    name="response",
    description="`response[f]` stands for the Accept header, `response[prefer]` for Prefer.",
    schema={
        "type": "object",
        "properties": {"f": {"type": "string"}, "prefer": {"type": "string"}},
        "additionalProperties": False,
    },
    style="deepObject",
)
_KEPT = frozenset({"f", "profile", "profiles"})
"""Parameters that other parts of the service read; an input of the same name goes before them."""
_OF_VALUES = frozenset({"value", "mediatype", "encoding", "schema"})
_OF_LINKS = frozenset({"href", "type", "rel", "hreflang", "title"})
_OF_INPUTS = _OF_VALUES | _OF_LINKS | {"crs"}
_OF_OUTPUTS = frozenset({"include", "mediatype", "encoding", "schema"})
_SPELLINGS = {"mediatype": "mediaType"}
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


@routes.get(
    "/processes/{processID}/execution",
    parameters=(PROCESS_ID, _RESPONSE, PREFER, IDEMPOTENCY_KEY),
    head=False,
    answers=(*EXECUTION_ANSWERS, RANGE),
    problems=(
        NoSuchProcess, InvalidInputs, InvalidParameter, NotAcceptable, JobFailed, SyncTimeout,
        ContentLost, KeyReused, TooManyJobs, QueueHeld, ShuttingDown,
    ),
)  # fmt: skip
async def execute_kvp(request: Request) -> Response:
    """Run a process with inputs given as query parameters."""
    process_id = request.path_params["processID"]
    description = workspace_of(request).jobs.catalog.get(process_id).description
    query = read_query(request.url.query, description)
    execute = query.execute()
    unread = [Fault(f"/inputs/{escape(name)}", why) for name, one in execute.inputs.items() if (why := unfit(one))]
    if unread:
        raise InvalidInputs([query.named(fault) for fault in unread])
    body = msgspec.json.encode(execute)
    depth = visit_of(request).parts.settings.limits.json_depth
    if body.count(b"[") + body.count(b"{") > depth and _depth(execute.inputs) > depth:
        raise InvalidParameter("inputs", "", f"a value is nested deeper than {depth} levels")
    try:
        return await run(_with_headers(request, query), process_id, execute, body)
    except InvalidInputs as error:
        raise InvalidInputs([query.named(fault) for fault in error.faults]) from error


@dataclass(slots=True)
class Query:
    """A query, sorted by what its parameters belong to."""

    description: ProcessDescription
    inputs: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By input and qualifier (empty for the value itself): the raw texts, still percent-encoded."""
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    response: dict[str, str] = field(default_factory=dict)
    kept: list[tuple[str, str]] = field(default_factory=list)

    def execute(self) -> Execute:
        """Return the execute request that the query stands for."""
        inputs = {name: _input(name, given, self.description.inputs[name]) for name, given in self.inputs.items()}
        return Execute(inputs=inputs, outputs=self._wanted())

    def _wanted(self) -> dict[str, WantedOutput] | None:
        if not self.outputs:
            return None
        included = {name: _truth(name, given.get("include")) for name, given in self.outputs.items()}
        if not any(included.values()):
            # Leaving some out means all others, as naming none means all.
            names: Iterable[str] = [name for name in self.description.outputs if name not in included]
        else:
            names = [name for name, wanted in included.items() if wanted]
        return {name: WantedOutput(format=_format(self.outputs.get(name, {}))) for name in names}

    def named(self, fault: Fault) -> Fault:
        """Return a fault of the execute request with the parameter that it comes from in its message."""
        steps = [step.replace("~1", "/").replace("~0", "~") for step in fault.pointer.split("/")[1:]]
        if len(steps) < 2:
            return fault
        member = {"format": "mediaType"}.get(steps[2], steps[2]) if len(steps) > 2 else ""
        qualified = member.lower() in (_OF_INPUTS if steps[0] == "inputs" else _OF_OUTPUTS) and member != "value"
        name = f"{steps[1]}[{member}]" if qualified else steps[1]
        return Fault(fault.pointer, f"parameter {name!r}: {fault.message}")


def read_query(text: str, description: ProcessDescription) -> Query:
    """Return the parameters of a query, sorted.

    Parameters
    ----------
    text : str
        The query as it came: values stay encoded, since a literal comma parts values and an encoded one is data.
    description : ProcessDescription
        Says which inputs and outputs there are; their names are compared without regard to case.

    Raises
    ------
    InvalidParameter
        If a parameter is unknown, or given twice where one value is allowed.
    """
    query = Query(description)
    for pair in filter(None, text.split("&")):
        encoded, _, value = pair.partition("=")
        _sort(query, unquote_plus(encoded), value)
    _settle(query)
    return query


def _sort(query: Query, name: str, value: str) -> None:
    found = re.fullmatch(r"([^\[\]]+)(?:\[([^\[\]]+)\])?", name)
    base, qualifier = (found[1], found[2] or "") if found else (name, "")
    lower = qualifier.lower()
    if base.lower() == "response" and lower in ("f", "prefer"):
        query.response[lower] = unquote_plus(value)
        return
    description = query.description
    input_id, output_id = _find(base, description.inputs), _find(base, description.outputs)
    if input_id is not None and (not lower or lower in _OF_INPUTS):
        given = query.inputs.setdefault(input_id, {})
        if lower in given and (lower or not description.inputs[input_id].is_list):
            raise InvalidParameter(name, unquote_plus(value), "it is given twice; one value is allowed")
        given.setdefault(lower, []).append(value)
    elif output_id is not None and lower in _OF_OUTPUTS:
        query.outputs.setdefault(output_id, {})[lower] = unquote_plus(value)
    elif base in _KEPT and not qualifier:
        query.kept.append((base, unquote_plus(value)))
    else:
        raise InvalidParameter(name, unquote_plus(value), _remedy(base, lower, input_id, output_id, description))


def _remedy(
    base: str, qualifier: str, input_id: str | None, output_id: str | None, description: ProcessDescription
) -> str:
    if input_id is not None:
        return f"input {input_id!r} has no such qualifier; known: {', '.join(_spelled(_OF_INPUTS))}"
    if output_id is not None:
        return f"{base!r} is an output; ask for it by {output_id}[include]=true" if not qualifier else (
            f"output {output_id!r} has no such qualifier; known: {', '.join(_spelled(_OF_OUTPUTS))}"
        )  # fmt: skip
    inputs, outputs = ", ".join(description.inputs) or "none", ", ".join(description.outputs) or "none"
    return f"there is no such parameter; inputs: {inputs}; outputs: {outputs}; besides: response[f], response[prefer]"


def _spelled(qualifiers: Iterable[str]) -> list[str]:
    return sorted(_SPELLINGS.get(name, name) for name in qualifiers)


def _find(name: str, known: Mapping[str, object]) -> str | None:
    """Return the identifier that a name means: the very same, or else the only one that differs in case alone."""
    if name in known:
        return name
    alike = [one for one in known if one.lower() == name.lower()]
    return alike[0] if len(alike) == 1 else None


def _settle(query: Query) -> None:
    """Give qualifiers of a name that is an input and an output to the one that is spoken of."""
    for name in [name for name, given in query.inputs.items() if given.keys() <= _OF_OUTPUTS]:
        output_id = _find(name, query.description.outputs)
        if output_id is not None:
            given = query.inputs.pop(name)
            query.outputs.setdefault(output_id, {}).update(
                {key: unquote_plus(texts[0]) for key, texts in given.items()}
            )


# --- inputs ------------------------------------------------------------------------------------------------------


def _input(name: str, given: Mapping[str, list[str]], description: Input) -> Any:
    """Return the value of an input as an execute request has it."""
    alternatives: Sequence[Alternative] = alternatives_of(description.schema)
    if "href" in given and ("" in given or "value" in given):
        href = unquote_plus(given["href"][0])
        raise InvalidParameter(f"{name}[href]", href, f"{name!r} has a value too; send either the value or the link")
    if "href" in given:
        return {_SPELLINGS.get(key, key): unquote_plus(texts[0]) for key, texts in given.items() if key in _OF_LINKS}
    texts = given.get("value") or given.get("")
    if texts is None:
        qualifier = next(iter(given))
        raise InvalidParameter(
            f"{name}[{qualifier}]", unquote_plus(given[qualifier][0]), f"parameter {name!r} with a value is missing"
        )
    qualifiers = {
        _SPELLINGS.get(key, key): unquote_plus(given[key][0]) for key in _OF_VALUES - {"value"} if key in given
    }
    crs = unquote_plus(given["crs"][0]) if "crs" in given else None
    declared = qualifiers.get("mediaType")
    alternatives = [one for one in alternatives if declared is None or one.admits(declared)] or alternatives
    if not description.is_list:
        return _qualified(_value(",".join(texts), alternatives, crs), qualifiers)
    whole = _json(unquote_plus(texts[0])) if len(texts) == 1 else None
    if isinstance(whole, list) and not any(one.schema.get("type") == "array" for one in alternatives):
        return [_qualified(_wrapped(one), qualifiers) for one in whole]
    return [_qualified(_value(text, alternatives, crs), qualifiers) for text in _parted(texts, alternatives)]


def _parted(texts: Sequence[str], alternatives: Sequence[Alternative]) -> list[str]:
    """Return the values of an input that takes several: literal commas part them."""
    if len(texts) == 1 and any(one.form == "bbox" for one in alternatives) and "{" not in unquote_plus(texts[0]):
        return list(texts)  # its commas part the numbers of one box
    return [part for text in texts for part in text.split(",")]


def _qualified(value: Any, qualifiers: Mapping[str, str]) -> Any:
    if not qualifiers:
        return value
    wrapped = isinstance(value, dict) and value.keys() == {"value"}
    return {**(value if wrapped else {"value": value}), **qualifiers}


def _value(encoded: str, alternatives: Sequence[Alternative], crs: str | None) -> Any:
    """Return one value: the first alternative that the text can be read as; the text itself where none can."""
    text = unquote_plus(encoded)
    if text.startswith(("{", "[")):
        # Any text is a string: where an object is allowed besides, it is what was meant.
        alternatives = sorted(alternatives, key=lambda one: one.schema.get("type", "string") == "string")
    for alternative in alternatives:
        found = _read(text, alternative)
        if found is not None:
            value = found.value
            return {**value, "crs": crs} if crs is not None and alternative.form == "bbox" else value
    return text


@dataclass(frozen=True, slots=True)
class _Found:
    value: Any


def _read(text: str, alternative: Alternative) -> _Found | None:
    """Return what a text is as one alternative has it; None where it is no such thing."""
    match alternative.form:
        case "bbox":
            return _box(text)
        case "binary":
            # A plus sign of base64 that was not encoded has become a blank.
            return _Found(text.replace(" ", "+"))
        case "text":
            return _Found(text)
        case _:
            return _plain(text, alternative.schema)


def _plain(text: str, schema: Mapping[str, Any]) -> _Found | None:
    match schema.get("type"):
        case "string":
            return _Found(text)
        case "number" | "integer":
            return _Found(_json(text)) if _NUMBER.fullmatch(text) else None
        case "boolean":
            return _Found(text.lower() == "true") if text.lower() in ("true", "false") else None
        case "array":
            return _array(text, schema)
        case _:
            value = _json(text)
            return None if value is None else _Found(_wrapped(value))


def _array(text: str, schema: Mapping[str, Any]) -> _Found | None:
    value = _json(text)
    if isinstance(value, list):
        return _Found(value)
    items = schema.get("items")
    if not isinstance(items, Mapping) or text.startswith(("[", "{")):
        return None
    # A plain list of scalars is written without brackets by hand.
    return _Found(
        [_value(part.replace("%", "%25").replace("+", "%2B"), alternatives_of(items), None) for part in text.split(",")]
    )


def _box(text: str) -> _Found | None:
    value = _json(text)
    if isinstance(value, dict):
        return _Found(value)
    numbers = value if isinstance(value, list) else [_json(part.strip()) for part in text.split(",")]
    return _Found({"bbox": numbers}) if all(isinstance(one, int | float) for one in numbers) else None


def _wrapped(value: Any) -> Any:
    """Return an object as an execute request must have it: wrapped, unless it is a link or wrapped already."""
    if not isinstance(value, dict) or "value" in value or "href" in value or ("bbox" in value and "type" not in value):
        return value
    return {"value": value}


def _json(text: str) -> Any:
    """Return the JSON value that a text is, with what is refused later: infinite numbers, halves of characters."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return decode_leniently(text)


def _depth(value: Any) -> int:
    """Return how deep a value nests; the decoder has refused what would be too deep for this."""
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


# --- outputs and headers -----------------------------------------------------------------------------------------


def _truth(name: str, text: str | None) -> bool:
    if text is None or text.lower() == "true":
        return True
    if text.lower() == "false":
        return False
    raise InvalidParameter(f"{name}[include]", text, "use true or false")


def _format(given: Mapping[str, str]) -> Format | None:
    if not given.keys() - {"include"}:
        return None
    return Format(media_type=given.get("mediatype"), encoding=given.get("encoding"), schema=given.get("schema"))


def _with_headers(request: Request, query: Query) -> Request:
    """Return the request as if its ``response`` parameters had been headers, and its inputs no parameters."""
    headers = list(request.scope["headers"])
    for parameter, name in (("f", b"accept"), ("prefer", b"prefer")):
        text = query.response.get(parameter)
        if text is not None:
            headers = [pair for pair in headers if pair[0] != name]
            headers.append((name, text.encode("latin-1", "replace")))
    scope = {**request.scope, "headers": headers, "query_string": urlencode(query.kept).encode()}
    return Request(scope, request.receive)
