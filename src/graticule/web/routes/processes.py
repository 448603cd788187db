"""The list of processes and their descriptions."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import InvalidParameter, NoSuchProcess, NotAcceptable
from graticule.ogc.common import HTML, JSON, REL_EXECUTE, Link
from graticule.ogc.processes import Example, ProcessDescription
from graticule.processes.catalog import Offer
from graticule.web.forms import blank_form
from graticule.web.negotiation import profile_uri
from graticule.web.parameters import LIMIT, PROCESS_ID, PROFILE, F
from graticule.web.requests import PROFILES, base_of, check_parameters, limit_of, offset_of, visit_of, workspace_of
from graticule.web.responses import answer, self_links
from graticule.web.routing import Answer, Parameter, Routes

routes = Routes("Processes")

OFFSET = Parameter(
    name="offset", description="Entries to pass over; links with rel `next` and `prev` carry it.",
    schema={"type": "integer", "minimum": 0, "default": 0},
)  # fmt: skip


class ProcessList(msgspec.Struct, kw_only=True):
    """One page of process summaries (processList.yaml)."""

    processes: list[ProcessDescription]
    links: list[Link]


@routes.get(
    "/processes",
    parameters=(LIMIT, OFFSET, PROFILE, F),
    answers=(
        Answer(
            status=200,
            description="A page of processes.",
            content=((JSON, "processList"), (HTML, "")),
            headers=("ETag",),
        ),
    ),
    problems=(InvalidParameter, NotAcceptable),
    reads=False,
)
async def list_processes(request: Request) -> Response:
    """List the processes that can be run here."""
    query, limits = request.query_params, visit_of(request).parts.settings.limits
    check_parameters(query, "limit", "offset", "f", several=PROFILES)
    limit = limit_of(query, limits.page_size, limits.page_max)
    offset = offset_of(query)
    offers, base = workspace_of(request).processes.offers(), base_of(request)
    links = self_links(request)
    if offset + limit < len(offers):
        links.append(Link(href=f"{base}/processes?limit={limit}&offset={offset + limit}", rel="next", type=JSON))
    if offset > 0:
        before = max(0, offset - limit)
        links.append(Link(href=f"{base}/processes?limit={min(limit, offset)}&offset={before}", rel="prev", type=JSON))
    page = [_summary(offer.description, base) for offer in offers[offset : offset + limit]]
    return answer(
        request, ProcessList(processes=page, links=links), page="processes", profile="ogc-process-list", cacheable=True
    )


@routes.get(
    "/processes/{processID}",
    parameters=(PROCESS_ID, PROFILE, F),
    answers=(
        Answer(status=200, description="The process.", content=((JSON, "process"), (HTML, "")), headers=("ETag",)),
    ),
    problems=(NoSuchProcess, InvalidParameter, NotAcceptable),
    reads=False,
)
async def describe_process(request: Request) -> Response:
    """Describe a process: what goes in, what comes out, how it runs."""
    check_parameters(request.query_params, "f", "example", several=PROFILES)
    offer = workspace_of(request).processes.get(request.path_params["processID"])
    description = describe(offer, base_of(request))
    example = _example(request.query_params.get("example"), description)
    return answer(
        request, description, page="process", profile="ogc-process-description", cacheable=True,
        form=partial(blank_form, description, example), example=example,
    )  # fmt: skip


def describe(offer: Offer, base: str) -> ProcessDescription:
    """Return a description as it is published: with links, and with the addresses of its sample data."""
    description = offer.description
    here = f"{base}/processes/{description.id}"
    links = [
        *_process_links(here, description.title),
        Link(href=f"{base}/", rel="service", type=JSON, title="Landing page"),
        Link(href=f"{base}/processes", rel="up", type=JSON, title="All processes"),
        Link(href=profile_uri("ogc-process-description"), rel="profile"),
    ]
    examples = [
        Example(title=example.title, inputs=_with_samples(example.inputs, base), outputs=example.outputs)
        for example in description.examples or ()
    ]
    return msgspec.structs.replace(description, links=links, examples=examples or None)


def _summary(description: ProcessDescription, base: str) -> ProcessDescription:
    links = _process_links(f"{base}/processes/{description.id}", description.title)
    return msgspec.structs.replace(description, inputs={}, outputs={}, examples=None, links=links)


def _process_links(here: str, title: str | None) -> list[Link]:
    return [
        Link(href=here, rel="self", type=JSON, title=title),
        Link(href=f"{here}?f=html", rel="alternate", type=HTML, title=title),
        Link(href=f"{here}?f=json", rel="alternate", type=JSON, title=title),
        Link(href=f"{here}/execution", rel=REL_EXECUTE, type=JSON, title="Run it"),
    ]


def _with_samples(value: Any, base: str) -> Any:
    """Put the address of the sample data in place of ``sample:NAME``."""
    if isinstance(value, str) and value.startswith("sample:"):
        return f"{base}/files/samples/{value.removeprefix('sample:')}"
    if isinstance(value, dict):
        return {name: _with_samples(item, base) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_samples(item, base) for item in value]
    return value


def _example(text: str | None, description: ProcessDescription) -> int | None:
    """Return the number of the example that fills the form of the page."""
    if text is None:
        return None
    count = len(description.examples or ())
    if not text.isdecimal() or len(text) > 4 or int(text) >= count:
        raise InvalidParameter("example", text, f"use a whole number below {count}")
    return int(text)
