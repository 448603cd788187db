"""What a page shows of the outputs of a job: each value by its kind, and nothing that is too large to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from graticule.data.storage import read_all
from graticule.jobs.job import StoredValue
from graticule.processes.formats import essence, is_json
from graticule.web.documents import LARGE, Results
from graticule.web.outlines import Outline, features_of, outline
from graticule.web.responses import FilePart

Kind = Literal["text", "literal", "tree", "table", "map", "picture", "raster", "link", "file"]

SHOWN_BYTES = 512 << 10
"""A larger text or JSON value is offered for download only."""

MAP_BYTES = 4 << 20
"""A larger GeoJSON value is offered for download only."""

PICTURE_BYTES = 16 << 20
ROWS = 100
"""Rows of a table; the download has the others."""

_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"})
_RASTERS = frozenset({"image/tiff", "image/jp2"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Objects of one kind as rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """One value of an output as a page shows it."""

    name: str
    index: int | None
    """Which value, where an output may have several."""
    title: str
    description: str
    kind: Kind
    href: str
    media_type: str
    size: int
    sha256: str
    value: Any = None
    """Text, literal or JSON tree."""
    outline: Outline | None = None
    table: Table | None = None
    picture: str = ""
    """Address of a picture of it."""
    too_large: bool = False


async def exhibits(results: Results) -> list[Exhibit]:
    """Return the outputs of a job as a page shows them, in the order of the process's description."""
    found = []
    described = results.description.outputs if results.description is not None else {}
    for name, output in results.manifest.items():
        about = described.get(name)
        for index, value in enumerate(output.values):
            place = f"{results.here}/{quote(name, safe='')}"
            begun = Exhibit(
                name=name,
                index=index if output.many else None,
                title=(about.title if about is not None else None) or name,
                description=(about.description if about is not None else None) or "",
                kind="file",
                href=value.href or (f"{place}/{index}" if output.many else place),
                media_type=value.media_type,
                size=value.size,
                sha256=value.sha256,
            )
            shown = await _shown(results, value, f"{place}/{index}/preview.png")
            found.append(replace(begun, **shown))
    return found


async def _shown(results: Results, value: StoredValue, preview: str) -> dict[str, Any]:
    """Return how a value is shown: its kind, and what that needs."""
    if value.href is not None:
        return {"kind": "link"}
    media_type = essence(value.media_type)
    if media_type in _RASTERS:
        return {"kind": "raster", "picture": preview}
    if media_type in _PICTURES:
        # A page shows nothing from other hosts, and so no picture to which it would be redirected.
        return {"kind": "picture", "too_large": value.size > (LARGE if results.store.signs else PICTURE_BYTES)}
    if is_json(media_type):
        return await _json(results, value)
    if media_type.startswith("text/") or media_type in ("application/xml", "application/yaml"):
        if value.size > SHOWN_BYTES:
            return {"too_large": True}
        return {"kind": "text", "value": (await _content(results, value)).decode(errors="replace")}
    return {}


async def _json(results: Results, value: StoredValue) -> dict[str, Any]:
    if value.size > MAP_BYTES:
        return {"too_large": True}
    try:
        document = msgspec.json.decode(await _content(results, value))
    except msgspec.DecodeError:
        return {}
    features = features_of(document)
    if features is not None and (drawn := outline(document)) is not None:
        return {"kind": "map", "outline": drawn, "table": _feature_table(features)}
    if value.size > SHOWN_BYTES:
        return {"too_large": True}
    if not isinstance(document, dict | list):
        return {"kind": "literal", "value": document}
    if isinstance(document, list) and _is_tabular(document):
        return {"kind": "table", "table": _table(document)}
    return {"kind": "tree", "value": document}


async def _content(results: Results, value: StoredValue) -> bytes:
    part = results.part(value)
    return await read_all(part.file) if isinstance(part, FilePart) else part


def _is_tabular(document: Sequence[Any]) -> bool:
    """Whether values are objects that hold literals only."""
    return (
        len(document) > 1
        and all(isinstance(row, dict) and row for row in document)
        and all(not isinstance(cell, dict | list) for row in document[:ROWS] for cell in row.values())
    )


def _feature_table(features: Sequence[Mapping[str, Any]]) -> Table | None:
    rows = [feature.get("properties") or {} for feature in features]
    return _table(rows) if any(rows) else None


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    shown = rows[:ROWS]
    columns = tuple(dict.fromkeys(name for row in shown for name in row))
    cells = tuple(tuple(row.get(name) for name in columns) for row in shown)
    return Table(columns=columns, rows=cells, total=len(rows))
