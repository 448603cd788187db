"""Pages for people: templates filled with the same documents that the API answers with."""

from __future__ import annotations

import hashlib
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.requests import Request

from graticule.web.requests import base_of, visit_of

HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
"""What every page is sent with: nothing from another host, no inline scripts or styles, no frames."""

STATES: Mapping[str, str] = {
    "created": "◌",
    "accepted": "○",
    "running": "◐",
    "successful": "●",
    "failed": "✕",
    "dismissed": "–",
}
"""The shape that goes with the word of each job status, so that none is told by its colour alone."""

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n\n")
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


def render(request: Request, template: str, document: Any, **context: Any) -> str:
    """Return the page that shows a document; send it with `HEADERS`.

    Parameters
    ----------
    request : Request
        The request; templates see ``base`` (address of the workspace), ``path`` (below it), ``here`` (both),
        ``as_json`` (address of the same as JSON), ``site`` (name of the service) and ``now``.
    template : str
        Name of the template without its suffix.
    document : Struct or dict
        What it shows; templates see it as plain data named ``document``.
    **context
        What else the template wants.
    """
    base, path = base_of(request), request.scope.get("resource", "/")
    here = base + (path if path != "/" else "/")
    known = {
        "base": base,
        "path": path,
        "here": here,
        "as_json": f"{here}?{_query(request)}f=json",
        "query": request.query_params,
        "site": visit_of(request).parts.settings.server.title,
        "now": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    page = _environment().get_template(f"{template}.html")
    return page.render({**known, "document": msgspec.to_builtins(document), **context})


def _query(request: Request) -> str:
    """Return the query without ``f``, ready to be continued."""
    return "".join(f"{part}&" for part in request.url.query.split("&") if part and not part.startswith("f="))


# --- assets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of scripts, styles or pictures that pages load."""

    content: bytes
    media_type: str
    version: str
    """A hash of the content; addresses carry it, so that a browser may keep the file for good."""


@lru_cache(maxsize=1)
def assets() -> Mapping[str, Asset]:
    """Return the assets by their path below ``/static/``."""
    found: dict[str, Asset] = {}
    folders = [("", resources.files("graticule.web").joinpath("static"))]
    while folders:
        prefix, folder = folders.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((f"{prefix}{entry.name}/", entry))
            else:
                content = entry.read_bytes()
                found[prefix + entry.name] = Asset(
                    content, _type_of(entry.name), hashlib.sha256(content).hexdigest()[:12]
                )
    return found


def _type_of(name: str) -> str:
    known = _TYPES.get(name[name.rfind(".") :])
    return known or mimetypes.guess_type(name)[0] or "application/octet-stream"


# --- what templates can do -------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("graticule.web", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(states=STATES, static=_static)
    environment.filters.update(
        lede=lede, rest=rest, ago=ago, ahead=ahead, moment=moment, interval=interval, bytes=in_bytes, seconds=seconds,
        number=number, json=as_json,
    )  # fmt: skip
    return environment


def _static(name: str) -> str:
    return f"/static/{name}?v={assets()[name].version}"


def lede(text: str) -> str:
    """Return the first sentence of a description."""
    return _SENTENCE.split(text.strip(), maxsplit=1)[0]


def rest(text: str) -> list[str]:
    """Return what follows the first sentence of a description, by paragraphs."""
    _, *following = _SENTENCE.split(text.strip(), maxsplit=1)
    return [" ".join(paragraph.split()) for paragraph in "".join(following).split("\n\n") if paragraph.strip()]


def ago(text: str, now: datetime | None = None) -> str:
    """Return how long ago an RFC 3339 moment was, in words."""
    passed = ((now or datetime.now(UTC)) - datetime.fromisoformat(text)).total_seconds()
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= size:
            return f"{int(passed // size)} {word} ago"
    return "just now" if passed < 5 else f"{int(passed)} s ago"


def ahead(text: str, now: datetime | None = None) -> str:
    """Return how far ahead an RFC 3339 moment is, in words."""
    left = (datetime.fromisoformat(text) - (now or datetime.now(UTC))).total_seconds()
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if left >= size:
            return f"in about {left / size:.0f} {word}"
    return "soon" if left < 5 else f"in about {left:.0f} s"


def interval(text: str) -> str:
    """Return an interval of RFC 3339 moments for reading."""
    start, slash, end = text.partition("/")
    if not slash:
        return f"at {moment(start)}"
    words = [f"{word} {moment(part)}" for word, part in (("from", start), ("to", end)) if part not in ("", "..")]
    return " ".join(words)


def moment(text: str) -> str:
    """Return an RFC 3339 moment for reading: to the second, in UTC."""
    # Its last second may be a leap second, which dates of Python do not know.
    return datetime.fromisoformat(text.replace(":59:60", ":59:59")).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def seconds(start: str, end: str | None = None) -> str:
    """Return the time between two RFC 3339 moments, the second of which may be now."""
    last = datetime.fromisoformat(end) if end else datetime.now(UTC)
    passed = max(0.0, (last - datetime.fromisoformat(start)).total_seconds())
    if passed < 1:
        return f"{passed * 1000:.0f} ms"
    if passed < 60:
        return f"{passed:.1f} s"
    minutes, rest = divmod(int(passed), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def in_bytes(size: int) -> str:
    """Return a number of bytes with a unit that fits."""
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def number(value: float) -> str:
    """Return a number with thin spaces between groups of three digits; decimals as JSON writes them."""
    text = msgspec.json.encode(value).decode()
    whole, point, rest = text.partition(".")
    if not whole.lstrip("-").isdigit() or len(whole.lstrip("-")) < 5:
        return text
    return f"{int(whole):,}".replace(",", "\u2009") + point + rest


def as_json(value: Any, indent: str = "") -> str:
    """Return a value as JSON text for reading: what is short stays in one line."""
    short = msgspec.json.format(msgspec.json.encode(value), indent=0).decode()
    if len(indent) + len(short) <= 60 or not isinstance(value, dict | list):
        return short
    inner = indent + "  "
    if isinstance(value, list):
        items = [f"{inner}{as_json(item, inner)}" for item in value]
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    items = [f"{inner}{msgspec.json.encode(name).decode()}: {as_json(item, inner)}" for name, item in value.items()]
    return "{\n" + ",\n".join(items) + f"\n{indent}}}"
