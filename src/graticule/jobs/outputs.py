"""Turn what a process returned into what is kept: small values inline in the manifest, all others as files.

This runs in the job process. A large value is encoded piece by piece into a file, so that the job process grows by the
value itself and not by its encoding.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from graticule.errors import ProcessFault
from graticule.jobs.job import Manifest, StoredOutput, StoredValue
from graticule.ogc.processes import ProcessDescription
from graticule.processes.formats import is_json
from graticule.processes.process import Outputs, OutputValue

INLINE_BYTES = 16 * 1024
"""A larger encoded value becomes a file."""

_OCTETS = "application/octet-stream"
_CHECKED_BYTES = 1 << 20
"""Up to this size, bytes that are called JSON are read to see whether they are; larger ones are mostly linked."""
_SLICE = 256
_PIECE = 64 * 1024


def keep_outputs(outputs: Outputs, description: ProcessDescription, wanted: frozenset[str], folder: Path) -> Manifest:
    """Write the outputs that were asked for and return their manifest.

    Parameters
    ----------
    outputs : Outputs
        What the process returned.
    description : ProcessDescription
        What it had declared.
    wanted : frozenset of str
        Identifiers that the request asks for; others are dropped.
    folder : Path
        The job's folder. Files are written below ``outputs/`` in it.

    Raises
    ------
    ProcessFault
        If an output was not declared, or cannot be written as declared.
    """
    manifest: Manifest = {}
    for name, given in outputs.items():
        declared = description.outputs.get(name)
        if declared is None:
            raise ProcessFault(f"the process returned an output {name!r} that its description does not declare")
        if name not in wanted:
            continue
        values = given if isinstance(given, list) else [given]
        kept = [_keep(value, f"{name}-{index}", folder) for index, value in enumerate(values)]
        manifest[name] = StoredOutput(values=kept, many=declared.is_list)
    return manifest


def _keep(output: OutputValue, name: str, folder: Path) -> StoredValue:
    if output.href is not None:
        return StoredValue(
            href=output.href, media_type=output.media_type or "application/octet-stream", title=output.title
        )
    if output.file is not None:
        return _keep_file(output, folder)
    media_type, pieces = _encoded(output, name)
    head = bytearray()
    for piece in pieces:
        head += piece
        if len(head) > INLINE_BYTES:
            return _spill(head, pieces, media_type, name, folder, output.title)
    return _inline(bytes(head), media_type, output.title)


def _encoded(output: OutputValue, name: str) -> tuple[str, Iterator[bytes]]:
    value = output.value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _honest(output.media_type, memoryview(value)), _slices(memoryview(value))
    media_type = output.media_type or "application/json"
    if isinstance(value, str) and not is_json(media_type):
        return media_type, (value[start : start + _PIECE].encode() for start in range(0, len(value), _PIECE))
    return media_type, _checked(json_pieces(value), name)


def _honest(media_type: str | None, content: bytes | memoryview) -> str:
    """Return the media type of bytes; those that are called JSON and are none would break a results document."""
    if media_type is None or not is_json(media_type) or memoryview(content).nbytes > _CHECKED_BYTES:
        return media_type or _OCTETS
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _OCTETS
    return media_type


def _checked(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    try:
        yield from pieces
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise ProcessFault(f"output {name.rpartition('-')[0]!r} cannot be written as JSON: {error}") from error


def _inline(content: bytes, media_type: str, title: str | None) -> StoredValue:
    digest = hashlib.sha256(content).hexdigest()
    return StoredValue(content=content, media_type=media_type, size=len(content), sha256=digest, title=title)


def _spill(
    head: bytearray, pieces: Iterator[bytes], media_type: str, name: str, folder: Path, title: str | None
) -> StoredValue:  # fmt: skip
    path = _place(folder, name)
    digest = hashlib.sha256(head)
    with path.open("wb") as file:
        file.write(head)
        size = len(head)
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
            size += len(piece)
        _flush(file)
    return _stored(path, media_type, size, digest.hexdigest(), title)


def _keep_file(output: OutputValue, folder: Path) -> StoredValue:
    """Move a finished file among the outputs; its bytes are read once, for size and checksum."""
    source = output.file
    assert source is not None
    if not source.is_file():
        raise ProcessFault(f"the process names {source.name!r} as an output file, but did not write it")
    if not source.resolve().is_relative_to(folder.resolve()):
        raise ProcessFault(f"the output file {source.name!r} lies outside the job's folder; write it to context.folder")
    path = _place(folder, source.name)
    source.rename(path)
    digest = hashlib.sha256()
    with path.open("rb+") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
        size = file.tell()
        _flush(file)
    media_type = output.media_type or _OCTETS
    if size <= _CHECKED_BYTES and is_json(media_type):
        media_type = _honest(media_type, path.read_bytes())
    return _stored(path, media_type, size, digest.hexdigest(), output.title)


def _stored(path: Path, media_type: str, size: int, sha256: str, title: str | None) -> StoredValue:
    is_object = False
    if is_json(media_type):
        with path.open("rb") as file:
            is_object = file.read(_PIECE).lstrip()[:1] == b"{"
    return StoredValue(
        file=path.name, media_type=media_type, size=size, sha256=sha256, is_object=is_object, title=title
    )


def _place(folder: Path, name: str) -> Path:
    """Return a path among the outputs that no other output has."""
    outputs = folder / "outputs"
    outputs.mkdir(parents=True, exist_ok=True)
    path = outputs / name
    number = 1
    while path.exists():
        path = outputs / f"{number}-{name}"
        number += 1
    return path


def _flush(file: BinaryIO) -> None:
    """Have the bytes on the disk before the job is called successful."""
    file.flush()
    os.fsync(file.fileno())


# --- JSON in pieces -------------------------------------------------------------------------------------------------


def json_pieces(value: Any) -> Iterator[bytes]:
    """Yield the JSON encoding of `value` in pieces of bounded size; together they are one document."""
    if isinstance(value, dict):
        yield from _object_pieces(value)
    elif isinstance(value, (list, tuple)):
        yield from _array_pieces(value)
    elif isinstance(value, str) and len(value) > _PIECE:
        yield b'"'
        for start in range(0, len(value), _PIECE):
            yield _encode(value[start : start + _PIECE])[1:-1]
        yield b'"'
    else:
        yield _encode(value)


def _object_pieces(value: dict[Any, Any]) -> Iterator[bytes]:
    if all(_is_small(item) for item in value.values()) and len(value) <= _SLICE:
        yield _encode(value)
        return
    separator = b"{"
    for key, item in value.items():
        yield separator + _encode(str(key)) + b":"
        yield from json_pieces(item)
        separator = b","
    yield b"}" if value else b"{}"


def _array_pieces(value: list[Any] | tuple[Any, ...]) -> Iterator[bytes]:
    separator = b"["
    for start in range(0, len(value), _SLICE):
        part = value[start : start + _SLICE]
        if all(_is_small(item) for item in part):
            yield separator + _encode(part)[1:-1]
            separator = b","
            continue
        for item in part:
            yield separator
            yield from json_pieces(item)
            separator = b","
    yield b"]" if value else b"[]"


def _is_small(item: Any) -> bool:
    """Return whether a slice of such items may be encoded in one go: scalars, short strings, coordinates."""
    kind = type(item)
    if kind is float or kind is int or kind is bool or item is None:
        return True
    if kind is str:
        return len(item) <= 1024
    if kind is list or kind is tuple:
        return len(item) <= 4 and all(type(part) in (float, int) for part in item)
    return kind is not dict and not isinstance(item, (dict, list, tuple, str))


def _slices(view: memoryview) -> Iterator[bytes]:
    flat = view.cast("B")
    for start in range(0, len(flat), 1 << 20):
        yield bytes(flat[start : start + (1 << 20)])


def _foreign(value: Any) -> Any:
    """Encode what is no JSON type by the conventions of numpy and pydantic."""
    for method in ("tolist", "model_dump"):
        if hasattr(value, method):
            return getattr(value, method)()
    if hasattr(value, "__geo_interface__"):
        return value.__geo_interface__
    raise TypeError(f"a value of type {type(value).__name__} is no JSON")


_encoder = msgspec.json.Encoder(enc_hook=_foreign)


def _encode(value: Any) -> bytes:
    encoded = _encoder.encode(value)
    # Not-a-number and infinity are written as null, too: only where there is one need the numbers be looked at.
    if b"null" in encoded and not _is_finite(msgspec.to_builtins(value, enc_hook=_foreign)):
        raise ValueError(
            "it holds NaN or an infinite number, which JSON has not; return None in its place, "
            "with `| None` in the annotation, or a text"
        )
    return encoded


def _is_finite(value: Any) -> bool:
    """Whether all numbers in plain JSON are finite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_finite, value))
