"""Run the processors of pygeoapi unchanged.

A processor is a class with ``metadata`` and ``execute(data, outputs) -> (media type, value)``. What it returns is the
body that pygeoapi would send, so it becomes the value of one output as it is; a processor of several outputs that
returns one member for each has them kept apart.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Protocol
from uuid import UUID

import msgspec

from graticule.compat import RESULTS_ROLE
from graticule.errors import Fault, GraticuleError, InvalidInputs, PluginNotLoaded
from graticule.jobs.failures import print_traceback
from graticule.ogc.common import JSON
from graticule.ogc.processes import Example, Input, JobControl, Metadata, Output, ProcessDescription, Schema
from graticule.processes.inputs import InputChecker, ReferencePolicy
from graticule.processes.process import Inputs, InputValue, Outputs, OutputValue, RunContext
from graticule.processes.schemas import common_subset

LANGUAGE = "en"
"""Language that is taken of texts in several; pygeoapi's own default."""

_LANGUAGE_TAG = re.compile(r"[a-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_FOREIGN_SCHEMAS = {
    "featureCollectionGeoJSON": {"type": "object", "format": "geojson-feature-collection"},
    "featureGeoJSON": {"type": "object", "format": "geojson-feature"},
    "geometryGeoJSON": {"type": "object", "format": "geojson-geometry"},
    "bbox": {"type": "object", "format": "ogc-bbox"},
}
"""Schemas of the OGC that descriptions refer to by address; nothing is fetched, any other one admits everything."""


class Processor(Protocol):
    """What pygeoapi calls a processor."""

    metadata: Mapping[str, Any]
    supports_outputs: bool

    def set_job_id(self, job_id: str) -> None:
        """Take the identifier of the job."""

    def execute(self, data: dict[str, Any], outputs: dict[str, Any] | None = None) -> tuple[str | None, Any]:
        """Run; return the media type and the value."""


def wrap_processor(process_id: str, target: str, definition: Mapping[str, Any]) -> PygeoapiProcess:
    """
    Return a processor of pygeoapi as a process.

    Parameters
    ----------
    process_id : str
        Identifier that the configuration gives it.
    target : str
        Short name such as ``HelloWorld``, or the dotted path of a class.
    definition : Mapping[str, Any]
        The member ``processor`` of the configuration; the processor is made with it.

    Raises
    ------
    PluginNotLoaded
        If pygeoapi or the processor cannot be imported, or it is none.
    """
    try:
        from pygeoapi.error import GenericError
        from pygeoapi.plugin import InvalidPluginError, load_plugin
    except ImportError as error:
        remedy = f"install pygeoapi for {sys.executable}, or name a Python that has it in processes.{process_id}.python"
        raise PluginNotLoaded(target, f"{error}; {remedy}") from error

    def make() -> Processor:
        try:
            processor: Processor = load_plugin("process", {**definition, "name": target})
        except InvalidPluginError as error:
            reason = "pygeoapi has no processor of that name; give the dotted path of its class"
            raise PluginNotLoaded(target, reason) from error
        except (ImportError, AttributeError) as error:
            raise PluginNotLoaded(target, f"{type(error).__name__}: {error}") from error
        return processor

    return PygeoapiProcess(process_id, make, GenericError)


class PygeoapiProcess:
    """
    A processor of pygeoapi as the engine sees it.

    Parameters
    ----------
    process_id : str
        Identifier of the process.
    make : Callable
        Makes the processor; each job gets a new one, as in pygeoapi.
    fault : type of Exception
        What processors raise to tell their user something.
    """

    def __init__(self, process_id: str, make: Callable[[], Processor], fault: type[Exception]) -> None:
        self._make = make
        self._fault = fault
        self.description = describe(process_id, make().metadata)

    def run(self, inputs: Inputs, context: RunContext) -> Outputs:
        """Hand the inputs over as plain JSON, and take what the processor returns."""
        processor = self._make()
        processor.set_job_id(context.folder.name)
        data = {name: _handed_over(value) for name, value in inputs.items()}
        try:
            if processor.supports_outputs:
                media_type, value = processor.execute(data, outputs=self._asked(context))
            else:
                media_type, value = processor.execute(data)
        except (GraticuleError, MemoryError, OSError):
            raise  # not the request's fault: the plug-in or the machine's
        except Exception as error:
            raise InvalidInputs([Fault("/inputs", self._told(error))]) from error
        return outputs_of(value, media_type or JSON, tuple(self.description.outputs))

    def _told(self, error: Exception) -> str:
        """Return what a processor says by an exception; of one that is not meant for users, where to read more."""
        if isinstance(error, self._fault):
            # Without arguments its class has a sentence of its own, in `message`.
            told = getattr(error, "user_msg", None) or error or getattr(error, "message", "no reason was given")
            return " ".join(str(told).split())
        print_traceback(error)
        told = f"{type(error).__name__}: {error}".rstrip(": ")
        return f"the processor failed with {told}; if the inputs are right, run it as a job and read its log"

    def _asked(self, context: RunContext) -> dict[str, Any] | None:
        """Return the member ``outputs`` of the request; None where it asks for all as they come."""
        asked = {}
        for name in self.description.outputs:
            if name in context.wanted:
                media_type = context.wanted_media_type(name)
                asked[name] = {"format": {"mediaType": media_type}} if media_type else {}
        everything = len(asked) == len(self.description.outputs) and not any(asked.values())
        return None if everything else asked


# --- the description ---------------------------------------------------------------------------------------------


def describe(process_id: str, metadata: Mapping[str, Any]) -> ProcessDescription:
    """
    Return the description of a processor as it is published.

    Parameters
    ----------
    process_id : str
        The configuration's identifier; the one in the metadata does not count, as in pygeoapi.
    metadata : Mapping[str, Any]
        The processor's own, with texts in one or several languages.
    """
    told = _in_one_language(dict(metadata))
    outputs = {name: Output(**_described(one)) for name, one in (told.get("outputs") or {}).items()}
    description = ProcessDescription(
        id=process_id,
        version=str(told.get("version") or "1.0.0"),
        title=_text(told.get("title")),
        description=_text(told.get("description")),
        keywords=_keywords(told.get("keywords")),
        metadata=[*_links(told.get("links")), Metadata(title="A processor of pygeoapi", role=RESULTS_ROLE)],
        job_control_options=_job_control(told.get("jobControlOptions")),
        inputs={name: _input(one) for name, one in (told.get("inputs") or {}).items()},
        outputs=outputs or {"result": Output(title="Result", schema={})},
    )
    return msgspec.structs.replace(description, examples=_examples(told.get("example"), description))


def _in_one_language(value: Any) -> Any:
    """Return metadata with each text in several languages replaced by the one in `LANGUAGE`, or else the first."""
    if isinstance(value, Mapping):
        if value and all(isinstance(text, str) and _LANGUAGE_TAG.fullmatch(str(key)) for key, text in value.items()):
            found = [text for key, text in value.items() if re.split("[-_]", key)[0] == LANGUAGE]
            return value.get(LANGUAGE) or (found or list(value.values()))[0]
        return {key: one if key in ("example", "schema") else _in_one_language(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_in_one_language(one) for one in value]
    return value


def _described(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": _text(one.get("title")),
        "description": _text(one.get("description")),
        "keywords": _keywords(one.get("keywords")),
        "schema": _schema(one.get("schema")),
    }


def _input(one: Mapping[str, Any]) -> Input:
    most = one.get("maxOccurs", 1)
    return Input(
        **_described(one),
        min_occurs=int(one.get("minOccurs", 1)),
        max_occurs="unbounded" if most == "unbounded" else int(most),
    )


def _schema(schema: Any) -> Schema:
    return common_subset(_without_addresses(schema)) if isinstance(schema, Mapping) else {}


def _without_addresses(schema: Any) -> Any:
    """Replace references to other documents by what is known of them."""
    if isinstance(schema, list):
        return [_without_addresses(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    address = schema.get("$ref")
    if isinstance(address, str) and not address.startswith("#"):
        name = address.rpartition("/")[2].partition(".")[0]
        rest = {word: value for word, value in schema.items() if word != "$ref"}
        return {**_FOREIGN_SCHEMAS.get(name, {}), **rest}
    return {word: _without_addresses(value) for word, value in schema.items()}


def _job_control(options: Any) -> list[JobControl]:
    """Return how it can be run: always synchronously, as in pygeoapi; asynchronously if it says so or says nothing."""
    if isinstance(options, list) and "async-execute" not in options:
        return ["sync-execute", "dismiss"]
    return ["sync-execute", "async-execute", "dismiss"]


def _links(links: Any) -> list[Metadata]:
    found = [one for one in links or () if isinstance(one, Mapping) and one.get("href")]
    return [Metadata(title=_text(one.get("title")), role=_text(one.get("rel")), href=str(one["href"])) for one in found]


def _examples(example: Any, description: ProcessDescription) -> list[Example] | None:
    """Return the example as a ready request, if its own description admits it."""
    if not isinstance(example, Mapping) or not isinstance(example.get("inputs"), Mapping):
        return None
    inputs = {name: _sendable(value) for name, value in example["inputs"].items()}
    if InputChecker(description).check(inputs, None, ReferencePolicy()):
        return None
    return [Example(title="Example", inputs=inputs)]


def _sendable(value: Any) -> Any:
    return {"value": value} if isinstance(value, Mapping) and not value.keys() & {"value", "href"} else value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _keywords(value: Any) -> list[str] | None:
    return [str(word) for word in value] if isinstance(value, list) and value else None


# --- inputs ------------------------------------------------------------------------------------------------------


def _handed_over(value: InputValue | list[InputValue]) -> Any:
    """Return an input as JSON: an array where one was sent, for pygeoapi hands over what it got."""
    if isinstance(value, list):
        in_array = len(value) != 1 or re.fullmatch(r"/inputs/[^/]+/0(/.*)?", value[0].pointer) is not None
        return [_plain(one) for one in value] if in_array else _plain(value[0])
    return _plain(value)


def _plain(value: InputValue) -> Any:
    """Return one value: a link as it was sent, everything else without what qualified it."""
    if value.href is not None:
        return {"href": value.href, **({"type": value.media_type} if value.media_type else {})}
    if isinstance(value.value, bytes):
        return base64.b64encode(value.value).decode()
    return value.value


# --- outputs -----------------------------------------------------------------------------------------------------


def outputs_of(value: Any, media_type: str, names: tuple[str, ...]) -> Outputs:
    """
    Return what a processor returned as outputs.

    Parameters
    ----------
    value : Any
        A dict, list, string or bytes, or any other JSON.
    media_type : str
        What it is, as the processor says.
    names : tuple of str
        The outputs that it declares.
    """
    if len(names) > 1 and isinstance(value, Mapping) and value and value.keys() <= set(names):
        return {name: _member(one) for name, one in value.items()}
    return {_name_in(value, names): _whole(value, media_type)}


def _name_in(value: Any, names: tuple[str, ...]) -> str:
    """Return which output a value is: the one that it names itself, or the first."""
    named = value.get("id") if isinstance(value, Mapping) else None
    return named if isinstance(named, str) and named in names else names[0]


def _whole(value: Any, media_type: str) -> OutputValue:
    if isinstance(value, str) and media_type.partition(";")[0].strip().lower() != JSON:
        # The processor has written the body itself; of application/json alone pygeoapi makes a JSON string.
        return OutputValue(value=value.encode(), media_type=media_type)
    if isinstance(value, bytes | bytearray):
        return OutputValue(value=bytes(value), media_type=media_type)
    return OutputValue(value=as_json(value), media_type=media_type)


def _member(value: Any) -> OutputValue:
    """Return one of several outputs: a qualified value, a link, or plain JSON."""
    if isinstance(value, Mapping):
        media_type = _text(value.get("mediaType") or value.get("type"))
        if isinstance(value.get("href"), str):
            return OutputValue(href=value["href"], media_type=media_type, title=_text(value.get("title")))
        if "value" in value and value.keys() <= {"value", "mediaType"}:
            return _whole(value["value"], media_type or JSON)
    if isinstance(value, bytes | bytearray):
        return OutputValue(value=bytes(value), media_type="application/octet-stream")
    return OutputValue(value=as_json(value), media_type=JSON)


def as_json(value: Any) -> Any:
    """Return a value with what is no JSON written as pygeoapi does; containers without such are the same objects."""
    if isinstance(value, Mapping):
        changed = {key: new for key, one in value.items() if (new := as_json(one)) is not one}
        return {**value, **changed} if changed else value
    if isinstance(value, list | tuple):
        new = [as_json(one) for one in value]
        return new if any(one is not other for one, other in zip(new, value, strict=True)) else value
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return float(value)
        case UUID() | PurePath():
            return str(value)
        case bytes():
            return _text_or_base64(value)
        case _:
            return value


def _text_or_base64(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()
