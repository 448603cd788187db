"""The API definition: OpenAPI 3.0 and 3.1 as JSON and YAML, and as a page."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

import graticule
from graticule.errors import InvalidParameter, NotAcceptable
from graticule.ogc.common import HTML, JSON
from graticule.processes.catalog import Catalog
from graticule.web import pages
from graticule.web.negotiation import Range, media_type_of, parse_accept
from graticule.web.openapi import BASE, Service, Version, definition
from graticule.web.requests import base_of, check_parameters, header, visit_of, workspace_of
from graticule.web.responses import VARY, etag, matches
from graticule.web.routes.processes import describe
from graticule.web.routing import Answer, Parameter, Route, Routes

routes = Routes("Service")

OPENAPI_JSON = "application/vnd.oai.openapi+json"
OPENAPI_YAML = "application/vnd.oai.openapi"
YAML = "application/yaml"
_VERSIONS: tuple[Version, ...] = ("3.0", "3.1")
_LATEST = 8
"""How many written definitions are kept: two editions, two encodings, and some to spare while the catalogue changes."""

_VERSION = Parameter(
    name="version",
    description="Edition of OpenAPI.",
    schema={"type": "string", "enum": list(_VERSIONS), "default": "3.0"},
)
_F = Parameter(
    name="f",
    description="Representation; it goes before the Accept header.",
    schema={"type": "string", "enum": ["json", "yaml", "html"]},
)
_DEFINITION = tuple((f"{OPENAPI_JSON};version={version}", "") for version in _VERSIONS)
_ANSWER = Answer(
    status=200,
    description="The definition.",
    content=(*_DEFINITION, (JSON, ""), (YAML, ""), (HTML, "")),
    headers=("ETag",),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Which representation of the definition somebody wants."""

    content_type: str
    version: Version
    kind: str
    """``json``, ``yaml`` or ``html``."""


@routes.get(
    "/api", parameters=(_F, _VERSION), answers=(_ANSWER,), problems=(InvalidParameter, NotAcceptable), reads=False
)
async def api_definition(request: Request) -> Response:
    """Describe this API, for programs (OpenAPI) or for people."""
    check_parameters(request.query_params, "f", "version")
    wanted = _wanted(request.query_params.get("f"), header(request, "accept"), _version(request))
    return await _respond(request, wanted)


@routes.get(
    "/api.json",
    parameters=(_VERSION,),
    answers=(Answer(status=200, description="The definition.", content=_DEFINITION, headers=("ETag",)),),
    problems=(InvalidParameter,),
    reads=False,
)
async def api_definition_json(request: Request) -> Response:
    """Describe this API for programs (OpenAPI as JSON)."""
    check_parameters(request.query_params, "version")
    return await _respond(request, _wanted("json", "", _version(request)))


@routes.get(
    "/api.html",
    answers=(Answer(status=200, description="The definition as a page.", content=((HTML, ""),), headers=("ETag",)),),
    problems=(InvalidParameter,),
    reads=False,
)
async def api_definition_html(request: Request) -> Response:
    """Describe this API for people."""
    check_parameters(request.query_params)
    return await _respond(request, _wanted("html", "", None))


def _version(request: Request) -> Version | None:
    text = request.query_params.get("version")
    if text is None:
        return None
    for version in _VERSIONS:
        if text == version:
            return version
    raise InvalidParameter("version", text, f"use {' or '.join(_VERSIONS)}")


def _wanted(f: str | None, accept: str, version: Version | None) -> _Wanted:
    """Return which representation the parameter ``f``, the Accept header and the parameter ``version`` ask for.

    Raises
    ------
    InvalidParameter
        If ``f`` names one that there is not.
    NotAcceptable
        If the Accept header wants none of them.
    """
    if f == "json":
        return _json(version or "3.0")
    if f is not None:
        chosen = _offered(parse_accept(media_type_of(f))[0], version)
        if chosen is None:
            raise InvalidParameter("f", f, "this resource is offered as json, yaml and html")
        return chosen
    ranges = parse_accept(accept)
    for wanted in sorted(ranges, key=lambda one: (-one.quality, -one.specificity)):
        chosen = _offered(wanted, version) if wanted.quality > 0 else None
        if chosen is not None:
            return chosen
    raise NotAcceptable(accept, [f"{OPENAPI_JSON};version=3.0", f"{OPENAPI_JSON};version=3.1", YAML, HTML])


def _offered(wanted: Range, version: Version | None) -> _Wanted | None:
    """Return the representation that falls into a media range, the default first."""
    named = dict(wanted.parameters).get("version", "")
    edition: Version = version or "3.0"
    if named and version is None:
        found = [one for one in _VERSIONS if named == one or named.startswith(f"{one}.")]
        if not found:
            return None
        edition = found[0]
    if wanted.admits(OPENAPI_JSON):
        return _json(edition)
    if wanted.admits(JSON):
        return _Wanted(content_type=JSON, version=edition, kind="json")
    for media_type in (YAML, OPENAPI_YAML):
        if wanted.admits(media_type):
            kind = f"{media_type};version={edition}" if media_type == OPENAPI_YAML else media_type
            return _Wanted(content_type=kind, version=edition, kind="yaml")
    if wanted.admits(HTML):
        return _Wanted(content_type=f"{HTML}; charset=utf-8", version=edition, kind="html")
    return None


def _json(version: Version) -> _Wanted:
    return _Wanted(content_type=f"{OPENAPI_JSON};version={version}", version=version, kind="json")


async def _respond(request: Request, wanted: _Wanted) -> Response:
    """Return the definition; it is written once for a state of the catalogue, then sent from bytes."""
    visit, catalog = visit_of(request), workspace_of(request).processes
    server = visit.parts.settings.server
    service = Service(
        title=server.title,
        description=server.description,
        version=graticule.__version__,
        secured=bool(visit.parts.settings.security.tokens),
    )
    declared = tuple(request.app.table.routes)
    written = _Written(declared, catalog, catalog.revision, service, wanted.version)
    if wanted.kind == "html":
        document = msgspec.json.decode(await asyncio.to_thread(_as_json, written))
        content = pages.render(request, "api", document, groups=_groups(document)).encode()
    else:
        encode = _as_json if wanted.kind == "json" else _as_yaml
        content = (await asyncio.to_thread(encode, written)).replace(BASE.encode(), _escaped(base_of(request)))
    tag = etag(content)
    rights = pages.HEADERS if wanted.kind == "html" else {}
    headers = {"etag": tag, "vary": VARY, "cache-control": "no-cache", **rights}
    visit.cacheable = True
    if matches(header(request, "if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers={**headers, "content-type": wanted.content_type})


@dataclass(frozen=True, slots=True)
class _Written:
    """What a definition is written from; the same again is taken from the last ones."""

    routes: tuple[Route, ...]
    catalog: Catalog
    revision: int
    service: Service
    version: Version

    def __hash__(self) -> int:
        return hash((len(self.routes), id(self.catalog), self.revision, self.service, self.version))


@lru_cache(maxsize=_LATEST)
def _as_json(written: _Written) -> bytes:
    """Return the definition as JSON, with `BASE` where the address of the service goes."""
    processes = [describe(offer, BASE) for offer in written.catalog.offers()]
    return msgspec.json.encode(definition(written.routes, processes, written.service, written.version))


@lru_cache(maxsize=_LATEST)
def _as_yaml(written: _Written) -> bytes:
    import yaml

    # Decoded from JSON: shared parts would become anchors, which few readers of OpenAPI like.
    document = msgspec.json.decode(_as_json(written))
    text: str = yaml.dump(
        document, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, allow_unicode=True, width=120
    )
    return text.encode()


def _escaped(base: str) -> bytes:
    return msgspec.json.encode(base)[1:-1]


def _groups(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the operations by tag, as the page lists them."""
    groups: dict[str, list[dict[str, Any]]] = {}
    components = document["components"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            shown = {
                "method": method.upper(),
                "path": path,
                "summary": operation["summary"],
                "description": operation.get("description", ""),
                "parameters": [_resolved(one, components) for one in operation.get("parameters", ())],
                "body": sorted(operation.get("requestBody", {}).get("content", ())),
                "answers": {status: _resolved(answer, components) for status, answer in operation["responses"].items()},
                "id": operation["operationId"],
            }
            groups.setdefault(operation["tags"][0], []).append(shown)
    return groups


def _resolved(part: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref")
    if reference is None:
        return part
    _, _, kind, name = reference.split("/", 3)
    resolved: dict[str, Any] = components[kind][name]
    return resolved
