"""Read what a request carries: its workspace, its address, its headers, its body."""

from __future__ import annotations

import codecs
import gc
import ipaddress
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect, Request

from graticule.errors import (
    AccessDenied,
    Fault,
    InvalidBody,
    InvalidParameter,
    MalformedRequest,
    TooLarge,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from graticule.jobs.aside import LARGE_BYTES, aside
from graticule.jobs.ledger import Cursor
from graticule.ogc.common import JSON
from graticule.processes.validation import escape
from graticule.runtime.logs import ASKED
from graticule.runtime.parts import Parts
from graticule.web.negotiation import media_type_of, wanted_media_type, wanted_profiles
from graticule.web.preferences import Preferences, parse_prefer
from graticule.workspace import Workspace

T = TypeVar("T")

PROFILES = ("profile", "profiles")
"""Spellings of the parameter that names profiles: the draft has both."""

_LOOPBACK = ("127.0.0.0/8", "::1/128")

CURSOR_FORM = "[0-9a-f]{30}"

_TOO_LARGE = ("Number out of range", "Integer value out of range")
"""What msgspec says of a number that no float holds, and of one with more digits than are read."""

_CHECKED_BYTES = 64 << 10
"""Up to this size a document is read a second time, for members that it has twice: some microseconds for most."""

_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|[^u]|u(?![dD][89a-fA-F]).{4})|(?P<alone>\\u[dD][89a-fA-F]..)", re.DOTALL
)
"""Escapes of a JSON text one by one; those of half a character have a name."""

_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+;=:@%-]+)*")

_FORWARDED_PAIR = re.compile(r"(?:^|;)\s*(host|proto|for)\s*=\s*\"?([^\";\s]+)", re.IGNORECASE)

_NODE = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<address>[0-9.]+))(?::\w+)?")
"""An address with or without a port, as proxies write it."""

_DIGITS = 18
"""A whole number of more digits is larger than anything that is counted here."""


@dataclass(slots=True)
class Visit:
    """What the application knows of a request before a route sees it."""

    parts: Parts
    workspace: Workspace
    base: str
    """Address of the workspace as the client sees it, without a slash at its end; every link begins with it."""
    cacheable: bool = False
    """Set by a handler whose answer changes only when the catalogue does."""


def visit_of(request: Request) -> Visit:
    """Return what is known of the request."""
    visit: Visit = request.scope["graticule"]
    return visit


def workspace_of(request: Request) -> Workspace:
    """Return what the request works with."""
    return visit_of(request).workspace


def base_of(request: Request) -> str:
    """Return the address that links begin with."""
    return visit_of(request).base


def header(request: Request, name: str) -> str:
    """Return a header by its lower-case name; several of one name are joined by commas, an absent one is empty."""
    headers: dict[str, str] | None = request.scope.get("graticule.headers")
    if headers is None:
        headers = {}
        for key, value in request.scope["headers"]:
            text, known = value.decode("latin-1"), headers.get(decoded := key.decode("latin-1"))
            headers[decoded] = text if known is None else f"{known}, {text}"
        request.scope["graticule.headers"] = headers
    return headers.get(name, "")


def trace_of(request: Request) -> str:
    """Return the header ``traceparent`` under which what the request sets in motion goes on; empty: no trace."""
    trace: str = request.scope.get("traceparent", "")
    return trace


def client_of(request: Request) -> str:
    """Return the address of whoever asks, as far as it is known; empty where somebody else may speak through it."""
    client, server = request.scope.get("client"), visit_of(request).parts.settings.server
    address = client[0] if client else ""
    if is_within(address, server.trusted_proxies):
        # The last one is the proxy's own word; what stands before it may be the client's.
        return header(request, "x-forwarded-for").rpartition(",")[2].strip()
    passed_on = any(header(request, name) for name in ("forwarded", "via", "x-forwarded-for"))
    # With a public address a proxy stands before this server, mostly on the same machine, and need not say so.
    behind = bool(server.public_url) and is_within(address, _LOOPBACK)
    return "" if passed_on or behind else address


def is_within(address: str, networks: Sequence[str]) -> bool:
    """Return whether an address lies in one of some networks."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in ipaddress.ip_network(network, strict=False) for network in networks)


def about_job(job_id: str) -> None:
    """Note which job the request is about, for the log."""
    asked = ASKED.get()
    if asked is not None:
        asked.job = job_id


def accept_of(request: Request) -> str:
    """Return what is accepted: the media type that the parameter ``f`` names, or else the ``Accept`` header.

    Raises
    ------
    InvalidParameter
        If ``f`` is neither a short name nor a media type.
    """
    f = request.query_params.get("f")
    return header(request, "accept") if f is None else media_type_of(f)


def require_json(request: Request) -> None:
    """Raise NotAcceptable if something else than JSON is asked for, where there is nothing else."""
    wanted_media_type(request.query_params.get("f"), header(request, "accept"), (JSON,))


def require_operator(request: Request, action: str, *, everywhere: bool = False) -> None:
    """Raise AccessDenied unless an operator asks.

    Parameters
    ----------
    request : Request
        The request.
    action : str
        What only operators may do.
    everywhere : bool
        Whether it takes an operator of the whole service, whose token opens all workspaces.
    """
    workspace = workspace_of(request)
    if workspace.operates == "service" or (workspace.operates == "workspace" and not everywhere):
        return
    whole = " and without workspaces" if everywhere else ""
    right = f'a token with role = "operator"{whole} in security.tokens gives the right'
    raise AccessDenied(workspace.actor, f"{action}; {right}")


def prefer_of(request: Request) -> Preferences:
    """Return what the ``Prefer`` headers ask for."""
    return parse_prefer(header(request, "prefer"))


def profiles_of(request: Request) -> tuple[str, ...]:
    """Return the identifiers of the profiles that the request asks for."""
    query = ",".join(value for name in PROFILES for value in request.query_params.getlist(name))
    headers = (header(request, name) for name in ("accept", "accept-profile", "prefer", "link"))
    return wanted_profiles(*headers, query)


def list_parameter(query: QueryParams, name: str) -> tuple[str, ...]:
    """Return the values of an array parameter, whether it was repeated or given as a comma list."""
    return tuple(part.strip() for value in query.getlist(name) for part in value.split(",") if part.strip())


def limit_of(query: QueryParams, default: int, maximum: int) -> int:
    """Return the parameter ``limit``; one above the maximum is cut, as the standard has it.

    Raises
    ------
    InvalidParameter
        If it is no whole number of at least 1.
    """
    text = query.get("limit")
    if text is None:
        return default
    if not re.fullmatch(r"0*[1-9][0-9]*", text):
        raise InvalidParameter("limit", text, "use a whole number of at least 1")
    return min(whole_number(text), maximum)


def offset_of(query: QueryParams) -> int:
    """Return the parameter ``offset``.

    Raises
    ------
    InvalidParameter
        If it is no whole number of at least 0.
    """
    text = query.get("offset", "0")
    if not re.fullmatch(r"[0-9]+", text):
        raise InvalidParameter("offset", text, "use a whole number of at least 0")
    return whole_number(text)


def whole_number(digits: str) -> int:
    """Return the number that a client's digits say; one that is larger than anything counted here, no larger."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _DIGITS else 10**_DIGITS


def cursor_of(query: QueryParams) -> Cursor | None:
    """Return where a page of jobs begins, from the parameter ``cursor``; None for the first one.

    Raises
    ------
    InvalidParameter
        If it is none that `encode_cursor` has made.
    """
    text = query.get("cursor")
    if text is not None and not re.fullmatch(CURSOR_FORM, text):
        raise InvalidParameter("cursor", text, "follow a link with rel next instead of making one")
    return None if text is None else Cursor(int(text[:15], 16), int(text[15:], 16))


def encode_cursor(before: Cursor) -> str:
    """Return the value of the parameter ``cursor`` for the page after a job."""
    return f"{before.created:015x}{before.seq:015x}"


def check_parameters(query: QueryParams, *once: str, several: Sequence[str] = ()) -> None:
    """Refuse query parameters that nobody knows, so that a misspelt filter does not silently select everything.

    Parameters
    ----------
    query : QueryParams
        The query.
    *once : str
        Names that are known and have one value.
    several : sequence of str
        Names that may be repeated.

    Raises
    ------
    InvalidParameter
        For the first unknown one, or the first that is repeated where one value is wanted.
    """
    for name, values in ((name, query.getlist(name)) for name in query):
        if name not in once and name not in several:
            known = ", ".join(sorted((*once, *several))) or "none"
            raise InvalidParameter(name, values[-1], f"there is no such parameter; known: {known}")
        if len(values) > 1 and name in once:
            raise InvalidParameter(name, ", ".join(values), "it is given more than once; send one value")


async def read_body(request: Request, kind: type[T]) -> tuple[T, bytes]:
    """Return the JSON body of a request as a document of a standard, and as it came.

    Raises
    ------
    UnsupportedMediaType
        If it says that it is something else than JSON.
    TooLarge
        If it is larger than ``server.body_limit_mib``.
    InvalidBody
        If it is missing, no JSON, nested too deeply, or has a member of a wrong type; the fault names the place.
    """
    content_type = (header(request, "content-type") or JSON).partition(";")[0].strip().lower()
    if content_type != JSON and not content_type.endswith("+json"):
        raise UnsupportedMediaType(content_type, [JSON])
    check_charset(request)
    body = await read_json(request)
    return await parse_body(body, kind), body


def check_charset(request: Request) -> None:
    """Raise UnsupportedMediaType if a JSON body says that it is not UTF-8 (RFC 8259, section 8.1)."""
    found = _CHARSET.search(header(request, "content-type"))
    if found is not None and found[1].lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(header(request, "content-type"), [f"{JSON} in UTF-8"])


def check_encoding(request: Request) -> None:
    """Raise UnsupportedEncoding if a body is compressed."""
    encoding = header(request, "content-encoding").strip()
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedEncoding(encoding)


async def read_json(request: Request) -> bytes:
    """Return the JSON body of a request as it came, whatever it calls itself; it is not too large nor too deep.

    Raises
    ------
    TooLarge
        If it is larger than ``server.body_limit_mib``.
    InvalidBody
        If it is missing, or nested too deeply.
    """
    settings = visit_of(request).parts.settings
    body = await read_bytes(request, settings.server.body_limit_mib << 20)
    if not body.strip():
        raise InvalidBody('the request has no body; send a JSON document such as {"inputs": {}}')
    if body.count(b"[") + body.count(b"{") > settings.limits.json_depth:
        await aside(len(body), _check_depth, body, settings.limits.json_depth)
    return body


async def parse_body(body: bytes, kind: type[T]) -> T:
    """Return a JSON body as a document of a standard; a large one is read off the event loop.

    Raises
    ------
    InvalidBody
        If it is no JSON, or has a member of a wrong type; the fault names the place.
    """
    return await aside(len(body), _parse, body, kind)


def _parse(body: bytes, kind: type[T]) -> T:
    try:
        body.decode()  # the decoder passes over what it does not know, whatever bytes that has
        document = decode(body, _decoder(kind))
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        if message in _TOO_LARGE:
            message, pointer = "the number is larger than any that is computed with", _pointer_to(body, _is_infinite)
        else:
            pointer = _pointer(_with_key(path.strip("`"), body, kind))
        raise InvalidBody(f"the body does not fit: {message}", [Fault(pointer or "", message)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise no_json(body, error) from error
    except RecursionError as error:
        raise InvalidBody("the body is nested too deeply") from error
    check_members(body)
    return document


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a document; while a large one is, the collector of cycles does not look at its parts again and again."""
    if len(body) <= LARGE_BYTES or not gc.isenabled():
        return decoder.decode(body)
    gc.disable()
    try:
        return decoder.decode(body)
    finally:
        gc.enable()


def no_json(body: bytes, error: Exception, said: str = "the body is no JSON") -> InvalidBody:
    """Return the error for content that cannot be decoded: its encoding goes before what the decoder says."""
    if body.startswith(codecs.BOM_UTF8):
        return InvalidBody(f"{said}: it begins with a byte order mark; remove it")
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        place = f"byte 0x{body[fault.start]:02X} at offset {fault.start}"
        return InvalidBody(f"{said}: it is not UTF-8 ({place}); encode it as UTF-8")
    pointer = _pointer_to(body, _is_surrogate)
    if pointer is None:
        return InvalidBody(f"{said}: {error}")
    halved = next(found for found in _ESCAPES.finditer(body) if found["alone"])
    place = f"{halved['alone'].decode()} at offset {halved.start()}"
    message = f"a lone surrogate ({place}) is half of a character; send both halves, or the character itself"
    return InvalidBody(f"{said}: {message}", [Fault(pointer, message)])


def check_members(body: bytes) -> None:
    """Raise InvalidBody if an object in a JSON document has a member twice, as far as looking for it is cheap."""
    if len(body) <= _CHECKED_BYTES:
        _members.decode(body.decode())


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidBody(f"the body has the member {json.dumps(twice)} twice in one object; send it once")
    return found


_members = json.JSONDecoder(object_pairs_hook=_once, parse_int=str, parse_float=str, strict=False)
"""Numbers stay text, since only the names are looked at."""


def _whole(text: str) -> float:
    try:
        return int(text)
    except ValueError:  # it has more digits than are read
        return math.inf


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


_lenient = json.JSONDecoder(parse_int=_whole, parse_constant=_no_constant)


def decode_leniently(text: str) -> Any:
    """Return a JSON value with what is otherwise refused, to look for it; None if it is no JSON even so.

    Numbers of any size are infinite, halves of characters stay.
    """
    try:
        return _lenient.decode(text)
    except (ValueError, RecursionError):
        return None


def _pointer_to(body: bytes, is_meant: Callable[[Any], bool]) -> str | None:
    """Return where in a JSON document the first value or name of a kind stands; None if that cannot be found."""
    waiting: list[tuple[str, Any]] = [("", decode_leniently(body.decode()))]
    while waiting:
        pointer, value = waiting.pop()
        if is_meant(value):
            return pointer
        members: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, dict):
            if any(map(is_meant, value)):
                return pointer
            members = value.items()
        elif isinstance(value, list):
            members = enumerate(value)
        waiting += reversed([(f"{pointer}/{escape(str(name))}", one) for name, one in members])
    return None


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _is_surrogate(value: Any) -> bool:
    return isinstance(value, str) and re.search("[\ud800-\udfff]", value) is not None


async def read_bytes(request: Request, limit: int) -> bytes:
    """Return the body of a request.

    Raises
    ------
    UnsupportedEncoding
        If it is compressed.
    TooLarge
        As soon as it is known to be larger than `limit` bytes.
    InvalidBody
        If it ends too early.
    """
    check_encoding(request)
    declared = header(request, "content-length")
    remedy = "send large inputs by reference: upload them to /files and give the href"
    if declared.isdecimal() and whole_number(declared) > limit:
        raise TooLarge("the request body", limit, remedy)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise TooLarge("the request body", limit, remedy)
    except ClientDisconnect as error:
        raise InvalidBody("the body ended before it was complete") from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    if kind not in _DECODERS:
        _DECODERS[kind] = msgspec.json.Decoder(kind)
    return _DECODERS[kind]


def _with_key(path: str, body: bytes, kind: type[T]) -> str:
    """Put the key of a map where msgspec writes ``[...]``: the one without whose value the fault is gone."""
    before, mark, after = path.partition("[...]")
    if not mark:
        return path
    document = holder = decode_leniently(body.decode())
    *way, last = re.findall(r"[^.\[\]]+", before.removeprefix("$"))
    for step in way:
        holder = holder[int(step)] if isinstance(holder, list) else holder[step]
    for key, value in holder[last].items():
        holder[last] = {key: value}
        try:
            msgspec.convert(document, kind)
        except msgspec.ValidationError:
            return f"{before}[{key}]{after}"
    return path


def _pointer(path: str) -> str:
    """Turn msgspec's ``$.outputs[...].format`` into a JSON pointer."""
    return "".join(f"/{part}" for part in re.findall(r"[^.\[\]]+", path.removeprefix("$")))


def _check_depth(body: bytes, limit: int) -> None:
    """Refuse deep nesting before anything recursive meets it; a linear pass in C per level, no recursion here."""
    brackets = brackets_of(body)
    for _ in range(limit):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if b"[" in brackets or b"{" in brackets:
        raise InvalidBody(f"the body is nested deeper than {limit} levels")


def brackets_of(body: bytes) -> bytes:
    """Return the brackets of a JSON document that stand in no text."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = body.translate(None, _NO_MARKS).replace(b'""', b"")
    return re.sub(rb'"[^"]*"', b"", marks)


_NO_MARKS = bytes(sorted(set(range(256)) - set(b'[]{}"')))


def check_host(headers: Headers, version: str) -> None:
    """Refuse a request without exactly one host that there may be: links are made of it (RFC 9112, section 3.2).

    Raises
    ------
    MalformedRequest
        If it has none, several, or one with other characters than names and addresses of hosts have.
    """
    hosts = headers.getlist("host")
    if len(hosts) > 1:
        raise MalformedRequest("it has several Host headers; send one")
    if not hosts:
        if version == "1.0":
            return
        raise MalformedRequest("it has no Host header; send one")
    if not _HOST.fullmatch(hosts[0]):
        raise MalformedRequest("its Host header is no name or address of a host; send one such as example.org:8080")


def check_query(query: bytes) -> None:
    """Refuse a query that is not UTF-8: each wrong byte would become the same character.

    Raises
    ------
    InvalidParameter
        For the first parameter of which name or value is none.
    """
    if b"%" not in query and query.isascii():
        return
    for pair in query.split(b"&"):
        try:
            unquote_to_bytes(pair).decode()
        except UnicodeDecodeError:
            name, _, value = pair.partition(b"=")
            shown = unquote_to_bytes(name).decode(errors="replace")
            raise InvalidParameter(shown, value.decode("latin-1"), "it is not UTF-8; encode it as UTF-8") from None


def forwarded_base(headers: Headers, scheme: str, proxies: Sequence[str]) -> str | None:
    """Return scheme and host (and prefix) that a trusted proxy says the client used (RFC 7239, X-Forwarded-*).

    Each proxy adds at the end; what stands first may be the client's own. Only what trusted proxies wrote counts.

    Parameters
    ----------
    headers : Headers
        Of a request that comes from a trusted proxy.
    scheme : str
        How this one reached the server.
    proxies : sequence of str
        Addresses and networks of the trusted ones.
    """
    elements = [
        {name.lower(): value for name, value in _FORWARDED_PAIR.findall(element)}
        for element in _added(headers, "forwarded")
    ]
    passed = _trusted_hops([element.get("for", "") for element in elements], proxies)
    found = elements[-1 - passed] if elements else {}
    passed = _trusted_hops(_added(headers, "x-forwarded-for"), proxies)

    def told(name: str) -> str:
        values = _added(headers, f"x-forwarded-{name}")
        # Where not every proxy added one, only the last one is surely of the nearest.
        return values[-1 - passed] if len(values) > passed else values[-1] if values else ""

    host = found.get("host") or told("host") or headers.get("host", "")
    proto = (found.get("proto") or told("proto") or scheme).lower()
    prefix = told("prefix").rstrip("/")
    if not _HOST.fullmatch(host) or proto not in ("http", "https"):
        return None
    return f"{proto}://{host}{prefix if _PREFIX.fullmatch(prefix) else ''}"


def _trusted_hops(clients: Sequence[str], proxies: Sequence[str]) -> int:
    """Return how many proxies before the nearest one are trusted.

    Parameters
    ----------
    clients : sequence of str
        Whom each proxy names as the one that asked it, the nearest proxy last.
    proxies : sequence of str
        Addresses and networks of the trusted ones.
    """
    hops = 0
    for client in reversed(clients[1:]):
        found = _NODE.fullmatch(client)
        if not is_within(found["address"] or found["v6"] if found else client, proxies):
            break
        hops += 1
    return hops


def _added(headers: Headers, name: str) -> list[str]:
    """Return what proxies have added to a header; no quotes are heeded, since a client may leave one open."""
    return [member for text in headers.getlist(name) for one in text.split(",") if (member := one.strip())]
