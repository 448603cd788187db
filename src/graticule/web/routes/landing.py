"""The landing page and the conformance declaration."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import InvalidParameter, NotAcceptable
from graticule.ogc.common import (
    HTML,
    JSON,
    REL_CONFORMANCE,
    REL_JOB_LIST,
    REL_PROCESSES,
    Conformance,
    LandingPage,
    Link,
)
from graticule.web.parameters import F
from graticule.web.requests import base_of, check_parameters, visit_of, workspace_of
from graticule.web.responses import answer, self_links
from graticule.web.routing import Answer, Routes

routes = Routes("Service")

_CORE_1_0 = ("core", "ogc-process-description", "json", "html", "oas30", "job-list", "dismiss", "callback")
_CORE_2_0 = (
    "core", "ogc-process-description", "json", "html", "oas", "oas30", "oas31", "job-list", "dismiss", "callback",
    "kvp-execute", "query-param-profile",
)  # fmt: skip
_JOB_MANAGEMENT = ("job-management", "ogcapi-processes", "provenance")
_COMMON = ("core", "landing-page", "json", "html", "oas30")

CONFORMANCE = (
    *(f"http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/{name}" for name in _COMMON),
    *(f"http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/{name}" for name in _CORE_1_0),
    *(f"http://www.opengis.net/spec/ogcapi-processes-1/2.0/conf/{name}" for name in _CORE_2_0),
    *(f"http://www.opengis.net/spec/ogcapi-processes-4/1.0/conf/{name}" for name in _JOB_MANAGEMENT),
    "https://www.opengis.net/spec/ogcapi-processes-5/1.0/conf/provenance",
)


@routes.get(
    "/",
    parameters=(F,),
    answers=(
        Answer(
            status=200, description="The landing page.", content=((JSON, "landingPage"), (HTML, "")), headers=("ETag",)
        ),
    ),
    problems=(InvalidParameter, NotAcceptable),
    reads=False,
)
async def landing_page(request: Request) -> Response:
    """Say what this service is and where everything is."""
    check_parameters(request.query_params, "f")
    base, server = base_of(request), visit_of(request).parts.settings.server
    links = [
        *self_links(request, "/"),
        *_service_links(base),
        *_both_schemes(f"{base}/conformance", REL_CONFORMANCE, "What this service conforms to"),
        *_both_schemes(f"{base}/processes", REL_PROCESSES, "Processes"),
        *_both_schemes(f"{base}/jobs", REL_JOB_LIST, "Jobs"),
    ]
    document = LandingPage(title=server.title, description=server.description, links=links)
    return answer(
        request, document, page="landing", cacheable=True, offers=workspace_of(request).processes.offers()[:50]
    )


@routes.get(
    "/conformance",
    parameters=(F,),
    answers=(
        Answer(
            status=200,
            description="Conformance classes.",
            content=((JSON, "confClasses"), (HTML, "")),
            headers=("ETag",),
        ),
    ),
    problems=(InvalidParameter, NotAcceptable),
    reads=False,
)
async def conformance(request: Request) -> Response:
    """List the conformance classes that this service meets."""
    check_parameters(request.query_params, "f")
    return answer(request, Conformance(conforms_to=list(CONFORMANCE)), page="conformance", cacheable=True)


def _service_links(base: str) -> list[Link]:
    kind = "application/vnd.oai.openapi+json;version="
    return [
        Link(href=f"{base}/api?f=json", rel="service-desc", type=f"{kind}3.0", title="API definition (OpenAPI 3.0)"),
        Link(
            href=f"{base}/api?f=json&version=3.1",
            rel="service-desc",
            type=f"{kind}3.1",
            title="API definition (OpenAPI 3.1)",
        ),
        Link(href=f"{base}/api?f=html", rel="service-doc", type=HTML, title="API reference"),
    ]


def _both_schemes(href: str, rel: str, title: str) -> list[Link]:
    """Return a link in both spellings: 1.0 clients look for http, newer drafts write https."""
    secure = rel.replace("http://", "https://")
    return [Link(href=href, rel=name, type=JSON, title=title) for name in (rel, secure)]
