"""Answers: documents in the wanted representation, content from files, pages."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from graticule.data.storage import Readable
from graticule.errors import ContentLost, InvalidRange, StorageUnavailable
from graticule.ogc.common import HTML, JSON, Link
from graticule.web import pages
from graticule.web.negotiation import preferred_profile, profile_uri, wanted_media_type
from graticule.web.requests import base_of, header, visit_of, whole_number

log = logging.getLogger("graticule.web")

VARY = "Accept, Prefer, Accept-Profile, Authorization, Origin"
CONTENT_HEADERS = {"x-content-type-options": "nosniff", "content-security-policy": "sandbox; default-src 'none'"}
"""What content of processes and users is sent with: a browser that shows it gives it no rights on this site."""


def answer(
    request: Request,
    document: Any,
    *,
    page: str,
    status: int = 200,
    headers: dict[str, str] | None = None,
    profile: str | None = None,
    cacheable: bool = False,
    **context: Any,
) -> Response:
    """Return a document as JSON or as a page, whichever is wanted.

    Parameters
    ----------
    request : Request
        Says which representation is wanted.
    document : Struct or dict
        The document; its ``links`` are mirrored as ``Link`` headers.
    page : str
        Name of the template that shows it to people.
    status : int
        The HTTP status.
    headers : dict, optional
        Further headers.
    profile : str, optional
        Identifier of the profile that the document follows.
    cacheable : bool
        True for what changes only with the catalogue: it gets an ETag and is kept as bytes.
    **context
        What else the template wants.
    """
    wanted = wanted_media_type(request.query_params.get("f"), header(request, "accept"), (JSON, HTML))
    headers = {"vary": VARY, **(headers or {})}
    if request.method != "POST" and (links := link_header(document, profile)):
        headers["link"] = links
    if profile:
        headers["content-profile"] = f"<{profile_uri(profile)}>"
        if (preferred := preferred_profile(header(request, "prefer"))) == profile:
            headers["preference-applied"] = f"profile={preferred}"
    if wanted == HTML:
        body = pages.render(request, page, document, **context).encode()
        response = Response(body, status, {**headers, **pages.HEADERS}, media_type="text/html; charset=utf-8")
    else:
        response = Response(msgspec.json.encode(document), status, headers, media_type=JSON)
    if cacheable:
        visit_of(request).cacheable = True
        response.headers["etag"] = etag(bytes(response.body))
        response.headers["cache-control"] = "no-cache"
        if matches(header(request, "if-none-match"), response.headers["etag"]):
            return Response(status_code=304, headers={name: response.headers[name] for name in ("etag", "vary")})
    return response


def link_header(document: Any, profile: str | None = None, limit: int = 20) -> str:
    """Return a document's links as a ``Link`` header (RFC 8288), unless they are numerous."""
    links: Sequence[Link] = getattr(document, "links", None) or ()
    parts = []
    if len(links) <= limit:
        parts = [link_value(link) for link in links]
    if profile and not any(link.rel == "profile" for link in links[: limit + 1]):
        parts.append(f'<{profile_uri(profile)}>; rel="profile"')
    return ", ".join(parts)


def link_value(link: Link) -> str:
    """Return a link as a member of a ``Link`` header."""
    kind = f'; type="{link.type}"' if link.type and '"' not in link.type else ""
    title = f'; title="{link.title}"' if link.title and re.fullmatch(r"[ !#-~]*", link.title) else ""
    return f'<{link.href}>; rel="{link.rel}"{kind}{title}'


def self_links(request: Request, path: str | None = None, *, title: str | None = None) -> list[Link]:
    """Return the links of a resource to itself and to its other representations.

    Parameters
    ----------
    request : Request
        The request; its query is kept (without ``f``), so that the links lead to the same page of a list.
    path : str, optional
        Path below the workspace; default: the one that was asked for.
    title : str, optional
        Title of the resource.
    """
    here = base_of(request) + (request.scope["resource"] if path is None else path)
    asked = request.url.query.split("&") if path is None else []
    query = "&".join(part for part in asked if part and not part.startswith("f="))
    joined = f"{here}?{query}&" if query else f"{here}?"
    return [
        Link(href=f"{joined.rstrip('?&')}", rel="self", type=JSON, title=title),
        Link(href=f"{joined}f=html", rel="alternate", type=HTML, title=title),
        Link(href=f"{joined}f=json", rel="alternate", type=JSON, title=title),
    ]


def etag(content: bytes) -> str:
    """Return a strong entity tag."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def matches(if_none_match: str, tag: str) -> bool:
    """Return whether an ``If-None-Match`` header names an entity tag (weak comparison)."""
    return bool(if_none_match) and (if_none_match.strip() == "*" or tag in re.findall(r'"[^"]*"', if_none_match))


def allows(if_match: str, tag: str) -> bool:
    """Return whether an ``If-Match`` header lets a request change what has this tag (strong comparison)."""
    return not if_match or if_match.strip() == "*" or tag in re.findall(r'(?:W/)?"[^"]*"', if_match)


# --- content ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file that is part of an answer."""

    file: Readable
    size: int
    base64: bool = False
    """True: its content is sent base64-encoded."""

    @property
    def sent(self) -> int:
        """Bytes on the wire."""
        return (self.size + 2) // 3 * 4 if self.base64 else self.size


Part = bytes | FilePart


class ContentResponse(Response):
    """Content made of bytes and files, sent piece by piece: no file is ever held in memory.

    Parameters
    ----------
    parts : sequence of bytes or FilePart
        The content, in order.
    status : int
        The HTTP status; with 304 nothing of the content is sent.
    media_type : str
        Its type.
    headers : dict, optional
        Further headers.
    start, stop : int, optional
        The bytes that are sent of a single file (a range request).
    """

    def __init__(
        self,
        parts: Sequence[Part],
        status: int = 200,
        *,
        media_type: str,
        headers: dict[str, str] | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        total = sum(part.sent if isinstance(part, FilePart) else len(part) for part in parts)
        length = (total if stop is None else stop) - start
        self._parts = parts
        self._start = start
        self._stop = start + length if not any(isinstance(part, FilePart) and part.base64 for part in parts) else None
        self._leading = next((place for place, part in enumerate(parts) if isinstance(part, FilePart)), len(parts))
        self._begun: list[bytes] = []
        self._rest: AsyncGenerator[bytes] | None = None
        self.status_code = status
        self.media_type = None
        self.background = None
        self.body = b""
        sent = {} if status == 304 else {"content-type": media_type, "content-length": str(length)}
        self.init_headers({**(headers or {}), **sent})

    async def prepare(self) -> None:
        """Read the beginning of the first file, so that what is wrong with the storage is said before the head."""
        pieces = self._pieces()
        async for piece in pieces:
            self._begun.append(piece)
            if len(self._begun) > self._leading:
                break
        self._rest = pieces

    async def look(self) -> None:
        """Find out whether the first file is there, for an answer that sends nothing of it; raise as `prepare` does."""
        part = self._parts[self._leading] if self._leading < len(self._parts) else b""
        if isinstance(part, FilePart):
            content = await part.file.open(start=0, stop=0)
            await content.pieces.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD" and self.status_code != 304:
            async with aclosing(self._rest or self._pieces()) as rest:
                for piece in self._begun:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                try:
                    async for piece in rest:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                except (ContentLost, StorageUnavailable) as error:
                    # An answer that ends too early is all that can be said now; the server closes the connection.
                    log.warning("an answer was broken off: %s", error)
                    return
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self) -> AsyncGenerator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
                continue
            content = await part.file.open(start=self._start, stop=self._stop if len(self._parts) == 1 else part.size)
            pieces = _base64(content.pieces) if part.base64 else content.pieces
            async with aclosing(content.pieces), aclosing(pieces):
                async for piece in pieces:
                    yield piece


async def _base64(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Encode pieces so that together they are the encoding of the whole: three bytes at a time."""
    left = b""
    async for piece in pieces:
        whole = left + piece
        end = len(whole) // 3 * 3
        left = whole[end:]
        if end:
            yield base64.b64encode(whole[:end])
    if left:
        yield base64.b64encode(left)


def file_response(
    request: Request,
    part: Part,
    *,
    media_type: str,
    tag: str,
    sha256: str = "",
    headers: dict[str, str] | None = None,
) -> Response:
    """Return one value or file, with ETag and ranges (RFC 9110 section 14; one range at a time).

    Whoever has sent something, as an execution, gets all of it: only what is fetched has conditions and ranges.

    Parameters
    ----------
    request : Request
        Says which range is wanted, and what the client has.
    part : bytes or FilePart
        The content.
    media_type : str
        Its type.
    tag : str
        Its entity tag.
    sha256 : str
        Its checksum, where it is known: clients get it as ``Repr-Digest`` (RFC 9530), also with a range.
    headers : dict, optional
        Further headers.

    Raises
    ------
    InvalidRange
        If the range lies outside the content.
    """
    headers = {"etag": tag, "accept-ranges": "bytes", "vary": VARY, **CONTENT_HEADERS, **(headers or {})}
    if sha256:
        headers["repr-digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
    fetched = request.method in ("GET", "HEAD")
    if fetched and matches(header(request, "if-none-match"), tag):
        if isinstance(part, bytes):
            return Response(status_code=304, headers=headers)
        return ContentResponse([part], 304, media_type=media_type, headers=headers)
    size = part.size if isinstance(part, FilePart) else len(part)
    span = span_of(header(request, "range"), header(request, "if-range"), tag, size) if fetched else None
    if span is None and isinstance(part, bytes):
        return Response(part, headers={**headers, "content-type": media_type})
    if span is None:
        return ContentResponse([part], media_type=media_type, headers=headers)
    start, stop = span
    headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    if isinstance(part, bytes):
        return Response(part[start:stop], 206, headers, media_type=media_type)
    return ContentResponse([part], 206, media_type=media_type, headers=headers, start=start, stop=stop)


def disposition(kind: str, name: str) -> str:
    """Return a ``Content-Disposition`` with a file name: plain, and in full where it is not ASCII (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9_. -]", "_", name)
    return f'{kind}; filename="{plain}"' + ("" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}")


def span_of(text: str, if_range: str, tag: str, size: int) -> tuple[int, int] | None:
    """Return start and end (excluded) of a byte range; None: send everything.

    Raises
    ------
    InvalidRange
        If the range lies outside the content.
    """
    found = re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", text.strip())
    if not found or found.group(0) == "bytes=-" or (if_range and if_range != tag):
        return None
    first, last = (whole_number(digits) if digits else None for digits in found.groups())
    if first is None:
        if not last or size == 0:
            raise InvalidRange(size)
        return max(0, size - last), size
    if first >= size or (last is not None and last < first):
        raise InvalidRange(size)
    return first, size if last is None else min(size, last + 1)
