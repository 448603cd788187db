"""Telling a whole TIFF from one that was cut short, from its directories alone.

GDAL opens a file whose pixels are missing and fails in the middle of the work. The directories say where every strip
and tile lies, so one look at them is enough.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

_STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES = 273, 279, 324, 325
_TYPES = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_DIRECTORIES = 64
_MOST_PARTS = 1 << 20


class Readable(Protocol):
    """What is read: an open file, or a remote one."""

    def seek(self, offset: int, /) -> object: ...
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Layout:
    """How numbers are written in a TIFF of one kind."""

    order: str
    count: str
    entry: str
    offset: str


_CLASSIC, _BIG = ("H", "HHI", "I"), ("Q", "HHQ", "Q")


def needed_bytes(file: Readable) -> int:
    """
    Return how long a TIFF must be to hold every strip and tile that its directories name.

    Parameters
    ----------
    file : Readable
        Its content; the position is moved.

    Returns
    -------
    int
        Bytes. 0 when the content is no TIFF.

    References
    ----------
    TIFF 6.0, sections 2 and 15; BigTIFF as libtiff writes it.
    """
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        return 0
    big = struct.unpack_from(order + "H", head, 2)[0] == 43
    layout = _Layout(order, *(_BIG if big else _CLASSIC))
    (at,) = struct.unpack_from(order + layout.offset, head, 8 if big else 4)
    needed = 0
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _MOST_DIRECTORIES:
        seen.add(at)
        end, at = _read_directory(file, at, layout)
        needed = max(needed, end)
    return needed


def _read_directory(file: Readable, at: int, layout: _Layout) -> tuple[int, int]:
    """Return where what one directory names ends, and where the next directory begins."""
    file.seek(at)
    head_size = struct.calcsize(layout.order + layout.count)
    head = file.read(head_size)
    if len(head) < head_size:
        return at + head_size, 0
    (count,) = struct.unpack(layout.order + layout.count, head)
    entry = layout.order + layout.entry
    value_size = struct.calcsize(layout.order + layout.offset)
    step = struct.calcsize(entry) + value_size
    end = at + head_size + count * step + value_size
    if count > 4096:
        return end, 0
    body = file.read(count * step + value_size)
    if len(body) < count * step + value_size:
        return end, 0
    found = {}
    for number in range(count):
        tag, kind, length = struct.unpack_from(entry, body, number * step)
        if (
            tag in (_STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES)
            and kind in _TYPES
            and length <= _MOST_PARTS
        ):
            start = number * step + struct.calcsize(entry)
            found[tag] = _read_numbers(file, layout, (kind, length), body[start : start + value_size])
    for offsets, sizes in ((_STRIP_OFFSETS, _STRIP_SIZES), (_TILE_OFFSETS, _TILE_SIZES)):
        parts = zip(found.get(offsets, ()), found.get(sizes, ()), strict=False)
        end = max([end, *(offset + size for offset, size in parts if size)])
    (following,) = struct.unpack_from(layout.order + layout.offset, body, count * step)
    return end, following


def _read_numbers(file: Readable, layout: _Layout, shape: tuple[int, int], inline: bytes) -> tuple[int, ...]:
    kind, length = shape
    code = f"{layout.order}{length}{_TYPES[kind]}"
    size = struct.calcsize(code)
    if size <= len(inline):
        return struct.unpack_from(code, inline)
    (at,) = struct.unpack(layout.order + layout.offset, inline)
    file.seek(at)
    content = file.read(size)
    # Where the list itself is cut off, a part beyond everything stands for it.
    return struct.unpack(code, content) if len(content) == size else (at + size,)
