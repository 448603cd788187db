"""Where the results of a job come from."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import (
    InvalidParameter,
    JobGone,
    NoSuchJob,
    NotAcceptable,
    ProvenanceMissing,
    ProvenanceNotAcceptable,
)
from graticule.jobs.provenance import provenance_of
from graticule.ogc.common import HTML
from graticule.ogc.prov import ARGUMENTS, LABEL, LOCATION, VALUE, Name, Provenance, RelationKind, Typed
from graticule.web import pages
from graticule.web.negotiation import choose
from graticule.web.parameters import JOB_ID, PROFILE
from graticule.web.provenance import FORMS, PROV_N, prov_n
from graticule.web.requests import PROFILES, base_of, check_parameters, header, profiles_of, workspace_of
from graticule.web.responses import CONTENT_HEADERS, VARY
from graticule.web.routing import Answer, Parameter, Routes

routes = Routes("Jobs")

_OFFERED = (*FORMS, HTML)
_SHORT: Mapping[str, str] = {
    "json": "application/json",
    "jsonld": "application/ld+json",
    "xml": "application/xml",
    "provn": PROV_N,
    "nt": "application/n-triples",
    "turtle": "text/turtle",
    "ttl": "text/turtle",
    "html": HTML,
}
_PROFILES: Mapping[str, str] = {
    "prov-json": next(iter(FORMS)),
    "prov-jsonld": "application/ld+json",
    "prov-xml": "application/provenance+xml",
    "prov-n": PROV_N,
    "prov-nt": "application/n-triples",
    "prov-turtle": "text/turtle",
}
_VERBS: Mapping[RelationKind, str] = {
    "used": "used",
    "wasGeneratedBy": "was made by",
    "wasAssociatedWith": "was done by",
    "wasAttributedTo": "is due to",
    "actedOnBehalfOf": "acted for",
    "wasStartedBy": "was started by",
    "hadMember": "has the member",
}
_FORM = Parameter(
    name="f",
    description="Form: a short name or a media type; it goes before profile and Accept header.",
    schema={"type": "string", "enum": [*_SHORT, *_OFFERED]},
    example="turtle",
)


@routes.get(
    "/jobs/{jobID}/prov",
    parameters=(JOB_ID, PROFILE, _FORM),
    answers=(Answer(status=200, description="A PROV document.", content=tuple((name, "") for name in _OFFERED)),),
    problems=(NoSuchJob, JobGone, ProvenanceMissing, ProvenanceNotAcceptable, InvalidParameter),
)
async def get_provenance(request: Request) -> Response:
    """Tell where the results of a job that has ended come from (W3C PROV)."""
    check_parameters(request.query_params, "f", several=PROFILES)
    workspace = workspace_of(request)
    job = await workspace.jobs.get(request.path_params["jobID"])
    media_type = _wanted(request)
    offer = workspace.processes.find(job.process)
    description = offer.description if offer is not None else None
    write = FORMS.get(media_type, prov_n)

    def tell() -> tuple[Provenance, bytes]:
        provenance = provenance_of(job, base_of(request), description)
        return provenance, write(provenance)

    # In a thread: the request may have megabytes of inputs, whose checksums are taken.
    provenance, content = await asyncio.to_thread(tell)
    if media_type == HTML:
        things, ties = _in_words(provenance)
        body = pages.render(
            request, "provenance", {"jobID": job.id}, notation=content.decode(), things=lambda: things,
            ties=lambda: ties,
        )  # fmt: skip
        return Response(body, 200, {"vary": VARY, **pages.HEADERS}, media_type="text/html; charset=utf-8")
    return Response(content, 200, {"vary": VARY, **CONTENT_HEADERS}, media_type=media_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """Something that took part, as the page tells of it."""

    label: str
    kind: str
    location: str
    value: str
    start: str
    end: str


def _in_words(provenance: Provenance) -> tuple[list[Thing], list[str]]:
    """Return what took part, and a sentence for each of the relations between."""
    things = {}
    for element in provenance.elements:
        said = {
            name: value.text if isinstance(value, Typed) else str(value)
            for name, value in element.attributes
            if name in (LABEL, LOCATION, VALUE)
        }
        things[element.name] = Thing(
            label=said.get(LABEL, str(element.name)), kind=element.kind, location=said.get(LOCATION, ""),
            value=said.get(VALUE, ""), start=element.start, end=element.end,
        )  # fmt: skip
    ties = []
    for relation in provenance.relations:
        ends = [relation.arguments.get(argument) for argument in ARGUMENTS[relation.kind][:2]]
        names = [things[end].label if isinstance(end, Name) and end in things else str(end) for end in ends if end]
        if len(names) == len(ends):
            ties.append(f" {_VERBS[relation.kind]} ".join(names))
    return list(things.values()), ties


def _wanted(request: Request) -> str:
    """Return the media type that ``f`` names, or a profile, or that the Accept header wants most."""
    f = request.query_params.get("f")
    if f is not None:
        # A plus sign in a query is a space.
        wanted = _SHORT.get(f, f.partition(";")[0].strip().lower().replace(" ", "+"))
        if wanted not in _OFFERED:
            raise InvalidParameter("f", f, f"use {', '.join(_SHORT)} or a media type of these")
        return wanted
    named = (_PROFILES.get(profile.lower()) for profile in profiles_of(request))
    if (by_profile := next(filter(None, named), None)) is not None:
        return by_profile
    accept = header(request, "accept")
    try:
        return choose(accept, _OFFERED)
    except NotAcceptable:
        raise ProvenanceNotAcceptable(accept, _OFFERED) from None
