"""From what was sent to what a process takes: fetch references, decode binary, check what needs the bytes.

This is the first thing that a job process does with a job. Every fault is collected and named with its place.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec

from graticule.data.fetch import RemoteFile, Undelivered, Unfetchable, fetch_to
from graticule.data.globe import shape_of
from graticule.data.tiff import Readable, needed_bytes
from graticule.errors import Fault, InvalidInputs
from graticule.ogc.common import CRS84, CRS84H
from graticule.ogc.processes import Input, ProcessDescription
from graticule.processes.branches import meant
from graticule.processes.formats import OCTETS, Alternative, essence
from graticule.processes.inputs import (
    MAX_DEPTH,
    AlternativeReader,
    GivenValue,
    InputReader,
    Misread,
    OwnResult,
    ReferencePolicy,
    decode_base64,
    read_value,
    unfit,
)
from graticule.processes.process import Inputs, InputValue
from graticule.processes.validation import SHOWN_FAULTS, escape
from graticule.processes.values import (
    RASTER_KINDS,
    SIGNATURE_BYTES,
    BoundingBox,
    Feature,
    FeatureCollection,
    Geometry,
    Malformed,
    RasterKind,
    describe_content,
    find_raster_kind,
)

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

TEXT_BYTES = 16 * 1024 * 1024
"""Text by reference up to this size is held as a value; longer text stays in its file."""

_RASTERS = frozenset(kind.media_type for kind in RASTER_KINDS)
_CRS84S = tuple(uri.replace("http:", scheme) for uri in (CRS84, CRS84H) for scheme in ("http:", "https:"))
_VAGUE = frozenset({OCTETS, "binary/octet-stream", "application/binary", "text/plain", "application/x-download", ""})
"""Media types by which a server says that it does not know."""

_GEOJSON: dict[str, Callable[[Any], Any]] = {
    "geojson-geometry": Geometry,
    "geojson-feature": Feature,
    "geojson-feature-collection": FeatureCollection,
}


class ReadInPlace(Input, frozen=True, kw_only=True):
    """
    An input whose process reads a raster where it is, by byte ranges, when its server allows.

    It is published like any other; only `resolve_inputs` in the job process looks at the class.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteInput(InputValue):
    """A raster that was left where it is, and what may be done to read it."""

    policy: ReferencePolicy


class Unusable(Exception):
    """A value does not hold what it should; carries its faults."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.faults = faults


def resolve_inputs(
    description: ProcessDescription, inputs: Mapping[str, Any], *, policy: ReferencePolicy, folder: Path
) -> Inputs:
    """
    Return the inputs of a request as a process takes them.

    Parameters
    ----------
    description : ProcessDescription
        That of the process itself, where it runs.
    inputs : Mapping[str, Any]
        As sent; `InputChecker` found no fault in them.
    policy : ReferencePolicy
        What references may point to.
    folder : Path
        The job's folder; what is fetched goes below its ``inputs``.

    Returns
    -------
    Inputs
        Absent inputs with a default in their schema have it.

    Raises
    ------
    InvalidInputs
        With every fault that was found.
    """
    resolver = _Resolver(policy, folder)
    resolved: dict[str, InputValue | list[InputValue]] = {}
    for name, one in description.inputs.items():
        if name in inputs:
            reader = _reader(name, one)
            values = list(resolver.values(reader, inputs[name]))
            if reader.is_list:
                resolved[name] = values
            elif values:
                resolved[name] = values[0]
        elif "default" in one.schema:
            default = InputValue(pointer=f"/inputs/{escape(name)}", value=one.schema["default"])
            resolved[name] = [default] if one.is_list else default
    if resolver.faults:
        raise InvalidInputs(resolver.faults)
    return resolved


_READERS: dict[int, tuple[Input, InputReader]] = {}
"""By identity of the description: a kept job process reads the same few inputs again and again."""


def _reader(name: str, one: Input) -> InputReader:
    known = _READERS.get(id(one))
    if known is None or known[0] is not one:
        known = _READERS[id(one)] = one, InputReader(name, one)
    return known[1]


class _Resolver:
    """One job's inputs on their way: where they go, and what was wrong."""

    def __init__(self, policy: ReferencePolicy, folder: Path) -> None:
        self.policy = policy
        self.folder = folder
        self.faults: list[Fault] = []
        self._count = 0

    def values(self, reader: InputReader, given: Any) -> Iterator[InputValue]:
        """Yield the values of one input; faults are kept."""
        for pointer, one in reader.values(given):
            try:
                value = read_value(one, pointer)
                yield self._referenced(reader, value, value.href) if value.href else self._inline(reader, value)
            except Misread as error:
                self.faults.append(error.fault)
            except Unusable as error:
                self.faults.extend(error.faults)

    # --- sent in the request ---

    def _inline(self, reader: InputReader, given: GivenValue) -> InputValue:
        fitting = reader.fitting(given.media_type) or reader.readers
        if len(fitting) > 1 and any(one.alternative.form == "binary" for one in fitting):
            fitting = _nearest_first(fitting, _start_of(given.value))
        return _first_usable(fitting, given, lambda chosen: _read_inline(chosen, given, alone=len(fitting) == 1))

    # --- by reference ---

    def _referenced(self, reader: InputReader, given: GivenValue, href: str) -> InputValue:
        local = self.policy.find_local(href)
        fitting = reader.fitting(given.media_type) or reader.readers
        try:
            if (result := self.policy.own_results.get(href)) is not None:
                content = self._own_result(reader.name, given, result)
            elif local is not None:
                content = _local(given, local)
            elif isinstance(reader.description, ReadInPlace):
                content = self._in_place(reader.name, href, fitting)
            else:
                content = self._fetched(reader.name, href, fitting)
        except Unfetchable as error:
            fault = Fault(given.pointer, str(error), transient=isinstance(error, Undelivered))
            raise Unusable(fault) from error
        return _read_content(content, fitting, given, href, self.policy)

    def _own_result(self, name: str, given: GivenValue, result: OwnResult) -> _Content:
        """Return the result of another job; a small one becomes a file first, since references are files."""
        path = Path(result.path) if result.content is None else self._new_path(name, "")
        if result.content is not None:
            path.write_bytes(result.content)
        elif not path.is_file():
            reason = "the result is not there any more: its job was removed; run that job again"
            raise Unusable(Fault(given.pointer, reason))
        with path.open("rb") as file:
            return _look_at(file, path.stat().st_size, result.media_type, path)

    def _fetched(self, name: str, href: str, fitting: Sequence[AlternativeReader]) -> _Content:
        path = self._new_path(name, href)
        fetched = fetch_to(path, href, self.policy, is_wanted=partial(_may_be_any, fitting))
        with path.open("rb") as file:
            return _look_at(file, fetched.size, fetched.media_type, path)

    def _in_place(self, name: str, href: str, fitting: Sequence[AlternativeReader]) -> _Content:
        """Leave a raster where it is when its server answers ranges, else take the whole."""
        is_wanted = partial(_may_be_any, fitting)
        with RemoteFile(href, self.policy, is_wanted=is_wanted) as remote:
            content = _look_at(remote.opener(href), remote.size, remote.media_type, None)
            if remote.failure is not None:
                raise remote.failure
            if remote.ranged and (find_raster_kind(content.start) is not None or not is_wanted(content.start)):
                return content
            path = self._new_path(name, href)
            with path.open("wb") as file:
                for offset in range(0, remote.size, 1 << 20):
                    file.write(remote.read_at(offset, 1 << 20))
            return replace(content, path=path)

    def _new_path(self, name: str, href: str) -> Path:
        """Return a path of its own for what is fetched; only the ending comes from the address."""
        folder = self.folder / "inputs"
        folder.mkdir(parents=True, exist_ok=True)
        ending = re.search(r"\.[A-Za-z0-9]{1,10}$", unquote(urlsplit(href).path))
        self._count += 1
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]
        return folder / f"{safe}-{self._count}{ending[0].lower() if ending else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What a reference led to."""

    path: Path | None
    """None: it was left where it is."""

    size: int
    media_type: str | None
    """As its server said."""

    start: bytes
    needed: int
    """Bytes that it must have to be whole; 0 where that is not known."""

    def describe(self) -> str:
        kind = essence(self.media_type or "")
        return describe_content(self.start) + (f" (sent as {kind})" if kind and kind not in _VAGUE else "")


def _look_at(file: Readable, size: int, media_type: str | None, path: Path | None) -> _Content:
    file.seek(0)
    start = file.read(SIGNATURE_BYTES)
    return _Content(path=path, size=size, media_type=media_type, start=start, needed=needed_bytes(file))


def _local(given: GivenValue, path: Path) -> _Content:
    if not path.is_file():
        raise Unusable(Fault(given.pointer, _missing(given.href or "", path)))
    with path.open("rb") as file:
        return _look_at(file, path.stat().st_size, mimetypes.guess_type(path.name)[0], path)


def _missing(href: str, path: Path) -> str:
    """Say why a reference to this machine leads to no file; only an own file of the service can be uploaded again."""
    if not href.lower().startswith("file:"):
        return "there is no such file; it may have expired, upload it again"
    if path.is_dir():
        return "the href leads to a folder; name one of the files in it"
    return "there is no such file on this machine; check the path in the href"


# --- which alternative it is ---------------------------------------------------------------------------------------


def _first_usable(
    candidates: Sequence[AlternativeReader], given: GivenValue, attempt: Callable[[AlternativeReader], InputValue]
) -> InputValue:
    """Return what the first candidate makes of a value that suits it; the nearest one says what is wrong."""
    found: list[Sequence[Fault]] = []
    for candidate in candidates:
        try:
            return attempt(candidate)
        except Unusable as error:
            found.append(error.faults)
    raise Unusable(*meant(found, given.pointer)[0])


def _nearest_first(candidates: Sequence[AlternativeReader], start: bytes) -> tuple[AlternativeReader, ...]:
    """Put the alternatives first that are of the kind of raster that the content is."""
    kind = find_raster_kind(start)
    return tuple(sorted(candidates, key=lambda one: kind is not None and not _is_of(one.alternative, kind)))


def _may_be_any(candidates: Sequence[AlternativeReader], start: bytes) -> bool:
    """Whether content that begins so may suit one of the alternatives; only of rasters the first bytes tell."""
    kind = find_raster_kind(start)
    return any(
        not _begins_tellingly(one.alternative) or (kind is not None and _is_of(one.alternative, kind))
        for one in candidates
    )


def _begins_tellingly(alternative: Alternative) -> bool:
    return alternative.form == "binary" and essence(alternative.default_media_type) in _RASTERS


def _is_of(alternative: Alternative, kind: RasterKind) -> bool:
    return essence(alternative.default_media_type) == kind.media_type


def _start_of(text: Any) -> bytes:
    """Return how binary content in base64 begins; empty when it is none."""
    try:
        return decode_base64(text[: SIGNATURE_BYTES * 4 // 3 // 4 * 4]) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _read_inline(chosen: AlternativeReader, given: GivenValue, *, alone: bool) -> InputValue:
    alternative = chosen.alternative
    # A single alternative was checked when the request came; of several the one that fits has to be found again.
    faults = () if alone else tuple(chosen.faults(given))
    if faults:
        raise Unusable(*faults)
    try:
        value = chosen.decode(given)
    except ValueError as error:
        raise Unusable(Fault(given.pointer, str(error))) from error
    if isinstance(value, bytes):
        content = _look_at(BytesIO(value), len(value), given.media_type, None)
        _check_bytes(alternative, content, given.pointer)
    else:
        _check_meaning(alternative, value, given.pointer)
    media_type = given.media_type or alternative.media_type or (OCTETS if alternative.form == "binary" else None)
    return InputValue(pointer=given.pointer, value=value, media_type=media_type)


def _read_content(
    content: _Content, fitting: Sequence[AlternativeReader], given: GivenValue, href: str, policy: ReferencePolicy
) -> InputValue:
    said = essence(content.media_type or "")
    candidates = [one for one in fitting if said in _VAGUE or one.alternative.admits(said)]
    if not candidates:
        # Servers misname what they send: what can be told from the content itself may still be what is wanted.
        candidates = [one for one in fitting if _is_telling(one.alternative)]
    if not candidates:
        wanted = ", ".join(dict.fromkeys(one.alternative.default_media_type for one in fitting))
        raise Unusable(
            Fault(given.pointer, f"the href gives {content.describe()}, where one of these is wanted: {wanted}")
        )
    nearest = _nearest_first(candidates, content.start)
    return _first_usable(nearest, given, lambda chosen: _interpret(content, chosen, given, href, policy))


def _is_telling(alternative: Alternative) -> bool:
    return alternative.form in ("json", "bbox") or essence(alternative.default_media_type) in _RASTERS


def _interpret(
    content: _Content, chosen: AlternativeReader, given: GivenValue, href: str, policy: ReferencePolicy
) -> InputValue:
    """Return content as one alternative has it."""
    alternative = chosen.alternative
    value = None
    if alternative.form == "binary":
        _check_bytes(alternative, content, given.pointer)
    elif content.path is None:
        raise Unusable(Fault(given.pointer, f"the href gives {content.describe()}, where JSON or text is wanted"))
    elif alternative.form == "text":
        value = _text_of(content, content.path, chosen, given.pointer)
    else:
        value = _json_of(content, content.path, chosen, given.pointer)
    media_type = _media_type(content, alternative, given)
    if content.path is None:
        return RemoteInput(pointer=given.pointer, media_type=media_type, href=href, policy=policy)
    return InputValue(pointer=given.pointer, value=value, media_type=media_type, href=href, file=content.path)


def _media_type(content: _Content, alternative: Alternative, given: GivenValue) -> str:
    for said in (given.media_type, content.media_type):
        if said is not None and essence(said) not in _VAGUE and alternative.admits(said):
            return said
    return alternative.default_media_type


# --- what the bytes say --------------------------------------------------------------------------------------------


def _check_bytes(alternative: Alternative, content: _Content, pointer: str) -> None:
    """Raise Unusable unless content that should be a raster begins like one, and is whole."""
    wanted = alternative.default_media_type
    if essence(wanted) not in _RASTERS:
        return
    kind = find_raster_kind(content.start)
    if kind is None or not _is_of(alternative, kind):
        raise Unusable(Fault(pointer, _other_kind(content, essence(wanted))))
    if content.needed > content.size:
        raise Unusable(
            Fault(
                pointer, f"the raster is cut short: {content.size} of at least {content.needed} bytes; send the whole"
            )
        )


def _other_kind(content: _Content, wanted: str) -> str:
    """Say that content is not what is wanted: where its media type says so, its bytes do not."""
    if essence(content.media_type or "") == wanted:
        found = describe_content(content.start)
        return f"the content was sent as {wanted}, but by its first bytes it is {found}; send a real {wanted} file"
    return f"the content is {content.describe()}, where {wanted} is wanted"


def _text_of(content: _Content, path: Path, chosen: AlternativeReader, pointer: str) -> str | None:
    """Return short text, checked; long text stays in its file."""
    if content.size > TEXT_BYTES:
        return None
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise Unusable(Fault(pointer, f"the content is not UTF-8 text (byte {error.start})")) from error
    faults = tuple(chosen.validator.faults(text, pointer))
    if faults:
        raise Unusable(*faults)
    return text


def _json_of(content: _Content, path: Path, chosen: AlternativeReader, pointer: str) -> Any:
    alternative = chosen.alternative
    try:
        value = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        said = essence(content.media_type or "")
        if alternative.schema.get("type") != "string" or not (said in _VAGUE or said.startswith("text/")):
            raise Unusable(Fault(pointer, _no_json(content, error))) from error
        value = _text_of(content, path, chosen, pointer)
    reason = unfit(value)
    if reason is not None:
        raise Unusable(Fault(pointer, reason))
    faults = tuple(chosen.faults(GivenValue(pointer, value)))
    if faults:
        raise Unusable(*faults)
    _check_meaning(alternative, value, pointer)
    return chosen.decode(GivenValue(pointer, value))


def _no_json(content: _Content, error: Exception) -> str:
    """Say what is wrong with content that was wanted as JSON: its kind, or else what the decoder met."""
    if isinstance(error, RecursionError):
        return f"the content nests deeper than {MAX_DEPTH} levels; send a flatter document"
    if isinstance(error, msgspec.ValidationError):  # nothing but numbers is validated here
        return "the content holds a number that is larger than any that is computed with; send smaller ones"
    if not content.start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return f"the content is {content.describe()}, where JSON is wanted"
    return f"the content begins like JSON, but is none: {error}"


# --- what the values mean ------------------------------------------------------------------------------------------


def _check_meaning(alternative: Alternative, value: Any, pointer: str) -> None:
    """Raise Unusable for a bounding box in an unknown CRS, and GeoJSON that is none or crosses itself."""
    if alternative.form == "bbox":
        _check_crs(BoundingBox.from_json(value), pointer)
        return
    kind = _GEOJSON.get(alternative.format)
    if kind is None:
        return
    try:
        checked = kind(value)
    except Malformed as error:
        raise Unusable(*(Fault(pointer + one.pointer, one.message) for one in error.faults)) from error
    faults = tuple(islice(_crossings(checked, pointer), SHOWN_FAULTS))
    if faults:
        raise Unusable(*faults)


def _check_crs(box: BoundingBox, pointer: str) -> None:
    if box.crs.startswith(_CRS84S):
        return
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        CRS.from_user_input(box.crs.strip("[]").replace("https://www.opengis.net/", "http://www.opengis.net/"))
    except CRSError as error:
        raise Unusable(Fault(f"{pointer}/crs", f"crs {box.crs!r} is not known; send e.g. {CRS84}")) from error


def _crossings(value: Mapping[str, Any], pointer: str) -> Iterator[Fault]:
    """Yield a fault for each polygon that is not valid."""
    polygons = [(place, one) for place, one in _geometries(value, pointer) if "Polygon" in one["type"]]
    if not polygons:
        return
    import shapely

    for place, one in polygons:
        polygon = shape_of(one)
        if not shapely.is_valid(polygon):
            reason = _crossing(shapely.is_valid_reason(polygon))
            yield Fault(
                f"{place}/coordinates{_crossed(polygon)}",
                f"the polygon is not valid: {reason}; mend it, e.g. with make_valid",
            )


def _crossed(area: BaseGeometry) -> str:
    """Return where in the coordinates of an area the first polygon or ring stands that is wrong by itself."""
    if area.geom_type == "MultiPolygon":
        return next((f"/{place}{_crossed(one)}" for place, one in enumerate(area.geoms) if not one.is_valid), "")
    rings = [area.exterior, *area.interiors]
    return next((f"/{place}" for place, ring in enumerate(rings) if not ring.is_simple), "")


def _crossing(reason: str) -> str:
    """Say GEOS's reason, e.g. ``Self-intersection[1 1]``, as a clause."""
    what, _, place = reason.rstrip("]").partition("[")
    words = {"Self-intersection": "it crosses itself", "Ring Self-intersection": "a ring touches itself"}
    return words.get(what, what.lower()) + (f" at {place}" if place else "")


def _geometries(value: Mapping[str, Any], place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every simple geometry below a GeoJSON object, with its place."""
    match value["type"]:
        case "FeatureCollection":
            for number, feature in enumerate(value["features"]):
                yield from _geometries(feature, f"{place}/features/{number}")
        case "Feature":
            if value["geometry"] is not None:
                yield from _geometries(value["geometry"], f"{place}/geometry")
        case "GeometryCollection":
            for number, part in enumerate(value["geometries"]):
                yield from _geometries(part, f"{place}/geometries/{number}")
        case _:
            yield place, value
