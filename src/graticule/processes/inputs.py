"""Checking an execute request for all that needs neither network nor GDAL, once, and every fault at a time.

The web process loads this file: no pydantic, no numpy. A checker is built once for a description; its validators are
compiled then.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from graticule.data.fetch import FetchPolicy, Unfetchable, check_host, parse_reference
from graticule.errors import Fault, PluginNotLoaded
from graticule.ogc.processes import Input, ProcessDescription, WantedOutput
from graticule.processes.branches import meant
from graticule.processes.formats import Alternative, alternatives_of, essence
from graticule.processes.geojson import STRUCTURES, Malformed
from graticule.processes.validation import Validator, escape
from graticule.processes.values import BoundingBox

MAX_DEPTH = 128
"""How deep arrays and objects of one value may nest."""

MOST_FAULTS = 200
"""Faults that are listed of one request."""

_MARKS = ("value", "href", "bbox", "collection", "process")
_ENCODINGS = frozenset({"base64", "binary", "utf-8", "utf8", "ascii", "us-ascii"})


class OwnResult(msgspec.Struct, frozen=True, kw_only=True):
    """A result of another job of the service: a file, or, when it is small, its content."""

    media_type: str
    path: str = ""
    content: bytes | None = None


class ReferencePolicy(FetchPolicy, frozen=True, kw_only=True):
    """What references in inputs may point to. Plain JSON: it travels to the job process with the job."""

    allowed_folders: tuple[str, ...] = ()
    """Absolute folders below which ``file:`` references are read."""

    local_files: dict[str, str] = {}
    """Addresses of the service's own files, as they stand in the request, and where the content lies."""

    own_results: dict[str, OwnResult] = {}
    """Results of the service's own jobs by their addresses, as they stand in the request."""

    def find_local(self, href: str) -> Path | None:
        """Return where the content of a reference lies on this machine, or None when it must be fetched."""
        known = self.local_files.get(href)
        if known is not None:
            return Path(known)
        if not href.lower().startswith("file:"):
            return None
        try:
            parts = urlsplit(href)
        except ValueError:
            return None
        if parts.netloc not in ("", "localhost"):
            return None
        path = Path(unquote(parts.path)).resolve()
        return path if any(path.is_relative_to(Path(folder).resolve()) for folder in self.allowed_folders) else None


# --- values ----------------------------------------------------------------------------------------------------------


def unfit(value: Any, depth: int = 0) -> str | None:
    """Return why a value is no JSON that can be taken (too deep, NaN, no proper text), or None."""
    kind = type(value)
    if kind is str:
        return None if value.isascii() or _encodes(value) else "the text holds a lone surrogate, which is no character"
    if kind is int or kind is bool or value is None:
        return None
    if kind is float:
        return None if math.isfinite(value) else "NaN and infinite numbers are not allowed"
    if depth >= MAX_DEPTH:
        return f"the value nests deeper than {MAX_DEPTH} levels"
    if kind is list:
        return next(filter(None, (unfit(item, depth + 1) for item in value)), None)
    if isinstance(value, Mapping):
        return next(filter(None, (unfit(item, depth + 1) for pair in value.items() for item in pair)), None)
    return f"a {kind.__name__} is not JSON"


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class GivenValue:
    """One value as it stands in a request, its kind recognised (digest of Part 1, 6.2)."""

    pointer: str
    """Where the value itself stands; faults of a qualified value name its ``value``."""

    value: Any = None
    media_type: str | None = None
    encoding: str | None = None
    href: str | None = None
    type_pointer: str = ""
    """Where its media type stands."""


class Misread(Exception):
    """A value has no kind that the standard knows; carries the fault."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(pointer, message)


def read_value(given: Any, pointer: str) -> GivenValue:
    """
    Recognise the kind of one value: bare, qualified, bounding box or reference.

    Raises
    ------
    Misread
        If it is of none, or of one that is not supported.
    """
    if not isinstance(given, dict):
        return GivenValue(pointer, given)
    if "value" in given and "href" in given:
        raise Misread(f"{pointer}/href", "a value stands beside this href; send either the value or the link")
    if "value" in given:
        return _read_qualified(given, pointer)
    if "href" in given:
        return _read_link(given, pointer)
    if "bbox" in given and "type" not in given:
        return GivenValue(pointer, given)
    for name in ("collection", "process"):
        if name in given:
            raise Misread(f"{pointer}/{name}", f"a {name} as an input is not supported here; send a value or a link")
    raise Misread(pointer, 'an object must be wrapped: send {"value": {…}}, or a link {"href": "…"}')


def _read_qualified(given: dict[str, Any], pointer: str) -> GivenValue:
    # The suite of the standard sends mediaType and encoding inside `format`; the schema has them beside `value`.
    nested = given.get("format")
    inner = nested if isinstance(nested, dict) else {}
    place = pointer if "mediaType" in given or "mediaType" not in inner else f"{pointer}/format"
    return GivenValue(
        f"{pointer}/value",
        given["value"],
        media_type=_text(given.get("mediaType", inner.get("mediaType")), f"{place}/mediaType"),
        encoding=_text(given.get("encoding", inner.get("encoding")), f"{pointer}/encoding"),
        type_pointer=f"{place}/mediaType",
    )


def _read_link(given: dict[str, Any], pointer: str) -> GivenValue:
    href = _text(given["href"], f"{pointer}/href")
    if not href:
        raise Misread(f"{pointer}/href", "the href is empty; send an address like https://example.org/data.tif")
    media_type = _text(given.get("type"), f"{pointer}/type")
    return GivenValue(f"{pointer}/href", href=href, media_type=media_type, type_pointer=f"{pointer}/type")


def _text(member: Any, pointer: str) -> str | None:
    if member is None or isinstance(member, str):
        return member
    raise Misread(pointer, "this must be a string")


def decode_base64(text: str) -> bytes:
    """Return the bytes of base64 text, line breaks allowed (RFC 2045); raise ValueError when it is none."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"this is no base64 ({error})") from error


@cache
def _structure(json_format: str) -> Validator:
    """Return the validator of what a format such as ``geojson-feature`` stands for."""
    return Validator(STRUCTURES[json_format])


class AlternativeReader:
    """One alternative of an input, ready to check values."""

    def __init__(self, alternative: Alternative) -> None:
        self.alternative = alternative

    @cached_property
    def validator(self) -> Validator:
        """Compiled when first needed: the job process mostly does without."""
        return Validator(self.alternative.schema)

    def decode(self, given: GivenValue) -> Any:
        """Return the JSON value, text or bytes that was given inline; raise ValueError when it cannot be."""
        value = given.value
        form = self.alternative.form
        encoded = given.encoding is not None and given.encoding.lower() == "base64"
        if form == "bbox":
            return BoundingBox.from_json(value).to_json()
        if form == "binary" or (encoded and isinstance(value, str)):
            if not isinstance(value, str):
                raise ValueError("binary content must be a base64 string")
            content = decode_base64(value)
            return content if form == "binary" else content.decode()
        return value

    def faults(self, given: GivenValue) -> Iterator[Fault]:
        """Yield what is wrong with an inline value."""
        try:
            value = self.decode(given)
        except Malformed as error:
            yield from (Fault(given.pointer + one.pointer, one.message) for one in error.faults)
            return
        except ValueError as error:
            yield Fault(given.pointer, str(error))
            return
        # Lengths and patterns of binary content would speak of the base64 text; nobody means that.
        if self.alternative.form in ("binary", "bbox"):
            return
        if self.alternative.format in STRUCTURES:
            faults = _structure(self.alternative.format).faults(value, given.pointer)
            if (first := next(faults, None)) is not None:
                yield first
                yield from faults
                return
        yield from self.validator.faults(value, given.pointer)


class InputReader:
    """One input of a process, ready to check what is sent for it."""

    def __init__(self, name: str, description: Input) -> None:
        self.name = name
        self.pointer = f"/inputs/{escape(name)}"
        self.description = description
        self.is_list = description.is_list
        self.readers = tuple(map(AlternativeReader, alternatives_of(description.schema)))
        passing = description.value_passing or ["byValue", "byReference"]
        self.by_value = "byValue" in passing
        self.by_reference = "byReference" in passing
        only = self.readers[0] if len(self.readers) == 1 else None
        self._plain = only if only is not None and only.alternative.form == "json" and not self.is_list else None

    def compile(self) -> None:
        """Compile all schemas now; raises ValueError when one cannot be."""
        for reader in self.readers:
            reader.validator  # noqa: B018 - reading it compiles it

    def values(self, given: Any) -> Iterator[tuple[str, Any]]:
        """Yield pointer and value of each value sent."""
        if self.is_list:
            for number, value in enumerate(given):
                yield f"{self.pointer}/{number}", value
        else:
            yield self.pointer, given

    def check(self, given: Any, policy: ReferencePolicy) -> Iterator[Fault]:
        """Yield what is wrong with all that was sent for this input."""
        kind = type(given)
        reason = unfit(given)
        if reason is not None:
            yield Fault(self.pointer, reason)
            return
        # The hot path: one plain literal.
        if self._plain is not None and self.by_value and (kind is str or kind is int or kind is float or kind is bool):
            yield from self._plain.validator.faults(given, self.pointer)
            return
        if self.is_list and not isinstance(given, list):
            yield Fault(self.pointer, "this input takes several values; send an array, also for one")
            return
        if self.is_list:
            yield from self._check_cardinality(len(given))
        for pointer, one in self.values(given):
            try:
                value = read_value(one, pointer)
            except Misread as error:
                yield error.fault
                continue
            yield from self._check_one(value, policy)

    def _check_cardinality(self, count: int) -> Iterator[Fault]:
        least, most = self.description.min_occurs, self.description.max_occurs
        if count < least:
            yield Fault(self.pointer, f"{count} values were sent; at least {least} are needed")
        if most != "unbounded" and count > most:
            yield Fault(self.pointer, f"{count} values were sent; at most {most} are allowed")

    def _check_one(self, given: GivenValue, policy: ReferencePolicy) -> Iterator[Fault]:
        if given.encoding is not None and given.encoding.lower() not in _ENCODINGS:
            yield Fault(given.pointer, f"encoding {given.encoding!r} is not known; send base64")
            return
        fitting = self.fitting(given.media_type)
        if not fitting:
            offered = ", ".join(reader.alternative.default_media_type for reader in self.readers)
            yield Fault(given.type_pointer, f"media type {given.media_type!r} is not taken; send one of: {offered}")
            return
        if given.href is not None:
            yield from self._check_reference(given, given.href, policy)
        elif not self.by_value:
            yield Fault(given.pointer, 'this input is taken by reference only; send {"href": "…"}')
        else:
            yield from self._check_inline(given, fitting)

    def fitting(self, media_type: str | None) -> tuple[AlternativeReader, ...]:
        """Return the alternatives that a declared media type leaves: all when none is declared."""
        if media_type is None:
            return self.readers
        exact = tuple(one for one in self.readers if essence(one.alternative.default_media_type) == essence(media_type))
        return exact or tuple(one for one in self.readers if one.alternative.admits(media_type))

    def choose(self, given: GivenValue) -> AlternativeReader:
        """Return the alternative that an inline value is meant for: the first that it fits."""
        if len(self.readers) == 1:
            return self.readers[0]
        fitting = self.fitting(given.media_type)
        return next((one for one in fitting if not any(one.faults(given))), fitting[0] if fitting else self.readers[0])

    def _check_inline(self, given: GivenValue, fitting: tuple[AlternativeReader, ...]) -> Iterator[Fault]:
        if len(fitting) == 1:
            yield from fitting[0].faults(given)
            return
        found = []
        for reader in fitting:
            faults = list(reader.faults(given))
            if not faults:
                return
            found.append(faults)
        nearest = meant(found, given.pointer)
        if len(nearest) == 1:
            yield from nearest[0]
            return
        reasons = "; or ".join(dict.fromkeys(faults[0].message for faults in nearest))
        yield Fault(given.pointer, f"none of the allowed forms fits: {reasons}")

    def _check_reference(self, given: GivenValue, href: str, policy: ReferencePolicy) -> Iterator[Fault]:
        if not self.by_reference:
            yield Fault(given.pointer, "this input is taken by value only; send the value itself")
            return
        fault = reference_fault(href, policy)
        if fault is not None:
            yield Fault(given.pointer, fault)


def reference_fault(href: str, policy: ReferencePolicy) -> str | None:
    """Return why a reference may not be followed, as far as its text says, or None."""
    if href in policy.signed_files or href in policy.own_results or policy.find_local(href) is not None:
        return None
    scheme = href.partition(":")[0].lower()
    if scheme == "file":
        return "the href begins with 'file:' and points to no folder that is allowed here; upload the file instead"
    try:
        check_host(parse_reference(href).hostname or "", policy)
    except Unfetchable as error:
        return str(error)
    return None


# --- requests ----------------------------------------------------------------------------------------------------


class InputChecker:
    """
    Check execute requests of one process.

    Parameters
    ----------
    description : ProcessDescription
        The process as published.

    Raises
    ------
    PluginNotLoaded
        If a schema of the description cannot be compiled.
    """

    def __init__(self, description: ProcessDescription) -> None:
        self._inputs: dict[str, InputReader] = {}
        for name, one in description.inputs.items():
            try:
                self._inputs[name] = InputReader(name, one)
                self._inputs[name].compile()
            except ValueError as error:
                reason = f"the schema of input {name!r} cannot be used: {str(error).splitlines()[0]}"
                raise PluginNotLoaded(description.id, reason) from error
        self._required = tuple(name for name, one in description.inputs.items() if one.min_occurs > 0)
        self._outputs = {name: alternatives_of(one.schema) for name, one in description.outputs.items()}
        self._transmissions = description.output_transmission

    def check(
        self,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, WantedOutput] | None,
        policy: ReferencePolicy,
    ) -> tuple[Fault, ...]:
        """
        Return all faults of a request; none means that it may become a job.

        Parameters
        ----------
        inputs : Mapping[str, Any]
            As sent.
        outputs : Mapping[str, WantedOutput] | None
            As sent; None when the request names none.
        policy : ReferencePolicy
            What references may point to.

        Returns
        -------
        tuple[Fault, ...]
            Each with its JSON pointer into the request.

        References
        ----------
        OGC API - Processes Part 1, req/core/process-execute-input-validation.
        """
        found = self._faults(inputs, outputs, policy)
        faults = tuple(islice(found, MOST_FAULTS))
        return faults if next(found, None) is None else (*faults, Fault("", "there are more faults like these"))

    def _faults(
        self, inputs: Mapping[str, Any], outputs: Mapping[str, WantedOutput] | None, policy: ReferencePolicy
    ) -> Iterator[Fault]:
        for name in self._required:
            if name not in inputs:
                yield Fault(f"/inputs/{escape(name)}", "this input is required; send a value")
        for name, given in inputs.items():
            reader = self._inputs.get(name)
            if reader is None:
                known = ", ".join(self._inputs) or "none"
                yield Fault(f"/inputs/{escape(name)}", f"there is no such input; this process has: {known}")
            else:
                yield from reader.check(given, policy)
        if outputs:
            yield from self._check_outputs(outputs)

    def _check_outputs(self, outputs: Mapping[str, WantedOutput]) -> Iterator[Fault]:
        for name, wanted in outputs.items():
            pointer = f"/outputs/{escape(name)}"
            alternatives = self._outputs.get(name)
            if alternatives is None:
                known = ", ".join(self._outputs) or "none"
                yield Fault(pointer, f"there is no such output; this process has: {known}")
                continue
            if wanted.transmission_mode is not None and wanted.transmission_mode not in self._transmissions:
                offered = ", ".join(self._transmissions)
                yield Fault(
                    f"{pointer}/transmissionMode", f"{wanted.transmission_mode!r} is not offered; ask for {offered}"
                )
            media_type = wanted.format.media_type if wanted.format is not None else None
            if media_type is not None and not any(one.admits(media_type) for one in alternatives):
                offered = ", ".join(dict.fromkeys(one.default_media_type for one in alternatives))
                yield Fault(f"{pointer}/format/mediaType", f"{media_type!r} is not offered; ask for one of: {offered}")
