"""Class LandingPage of the official suite (abstract tests 1 and 2); the tests bear its names."""
# ruff: noqa: N802

from __future__ import annotations

from tests.e2e.ogc_suite import wire
from tests.e2e.ogc_suite.schemas import Schemas

REL = "http://www.opengis.net/def/rel/ogc/1.0/"
RESTASSURED_JSON = "application/json, application/javascript, text/javascript, text/json"


def test_landingpage_testLandingPageRetrieval(iut: str) -> None:
    answer = wire.get(f"{iut}/", accept=RESTASSURED_JSON)

    assert answer.status == 200, str(answer)
    answer.json()


def test_landingpage_testLandingPageValidation(iut: str, schemas: Schemas) -> None:
    answer = wire.get(f"{iut}/", accept=RESTASSURED_JSON)

    assert answer.status == 200, str(answer)
    relations = {link["rel"] for link in answer.json()["links"]}
    assert relations & {"service-desc", "service-doc"}, relations
    assert relations & {f"{REL}conformance", "conformance"}, relations
    assert relations & {f"{REL}processes", "processes"}, relations
    schemas.assert_remote("landingPage.yaml", answer)
