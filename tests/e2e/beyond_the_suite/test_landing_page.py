"""Landing page, API definition and conformance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

from tests.e2e.beyond_the_suite.asking import (
    HTML,
    REL,
    href,
    media_type,
    nulls_in,
)
from tests.e2e.ogc_suite.schemas import Schemas
from tests.serving import Server


@pytest.fixture
def landing(http: httpx2.Client) -> Any:
    """The landing page."""
    return http.get("/").json()


def test_t1_0__req_core_landingpage_success(landing: Any, schemas: Schemas) -> None:
    assert schemas.remote_faults("landingPage.yaml", landing) == []
    assert list(nulls_in(landing)) == []


def test_t2_0__req_core_landingpage_success(landing: Any, draft: Callable[[str, Any], list[str]]) -> None:
    assert draft("common-core/landingPage.yaml", landing) == []
    assert landing["title"]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("name", "path"), [("conformance", "/conformance"), ("processes", "/processes"), ("job-list", "/jobs")]
)
def test_x_https_landing_page_links_both_spellings(
    landing: Any, server: Server, scheme: str, name: str, path: str
) -> None:
    assert href(landing, f"{scheme}://www.opengis.net/def/rel/ogc/1.0/{name}") == server.url + path


def test_t1_0__rec_job_list_job_list_landing_page(landing: Any, http: httpx2.Client) -> None:
    assert "jobs" in http.get(href(landing, f"{REL}job-list") or "").json()


@pytest.mark.parametrize("version", ["3.0", "3.1"])
def test_t2_0__req_oas_definition_one_link_for_each_version(landing: Any, http: httpx2.Client, version: str) -> None:
    described = f"application/vnd.oai.openapi+json;version={version}"
    address = href(landing, "service-desc", described)
    assert address is not None

    answer = http.get(address, headers={"Accept": described})

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].replace(" ", "") == described
    assert answer.json()["openapi"].startswith(f"{version}.")


def test_t1_0__req_oas30_oas_definition_2_the_document_is_valid(landing: Any, http: httpx2.Client) -> None:
    address = href(landing, "service-desc", "application/vnd.oai.openapi+json;version=3.0") or ""

    assert list(OpenAPIV30SpecValidator(http.get(address).json()).iter_errors()) == []


def test_t2_0__req_oas31_oas_definition_the_document_is_valid(landing: Any, http: httpx2.Client) -> None:
    address = href(landing, "service-desc", "application/vnd.oai.openapi+json;version=3.1") or ""

    assert list(OpenAPIV31SpecValidator(http.get(address).json()).iter_errors()) == []


def test_t1_0__req_core_api_definition_success_as_a_page(landing: Any, http: httpx2.Client) -> None:
    answer = http.get(href(landing, "service-doc", HTML) or "", headers={"Accept": HTML})

    assert answer.status_code == 200
    assert media_type(answer) == HTML


def test_t1_0__landing_page_links_itself_and_its_other_form(landing: Any, http: httpx2.Client, server: Server) -> None:
    assert (href(landing, "self") or "").rstrip("/") == server.url
    assert media_type(http.get(href(landing, "alternate", HTML) or "")) == HTML


CORE_10 = ["core", "ogc-process-description", "json", "html", "oas30", "job-list", "callback", "dismiss"]
CORE_20 = [*CORE_10, "oas", "oas31", "kvp-execute", "query-param-profile"]
COMMON = ["core", "landing-page", "json", "html", "oas30"]


@pytest.mark.parametrize(
    "name",
    [
        *(f"http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/{name}" for name in CORE_10),
        *(f"http://www.opengis.net/spec/ogcapi-processes-1/2.0/conf/{name}" for name in CORE_20),
        *(f"http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/{name}" for name in COMMON),
    ],
)
def test_t1_0__req_core_conformance_success_declares(http: httpx2.Client, name: str) -> None:
    assert name in http.get("/conformance").json()["conformsTo"]


def test_t1_0__req_core_conformance_success_declares_each_class_once(http: httpx2.Client) -> None:
    classes = http.get("/conformance").json()["conformsTo"]

    assert len(classes) == len(set(classes))
