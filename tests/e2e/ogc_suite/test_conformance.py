"""Class Conformance of the official suite (A.2.3); the test bears its name."""
# ruff: noqa: N802

from __future__ import annotations

from tests.e2e.ogc_suite import wire
from tests.e2e.ogc_suite.schemas import Schemas

CORE = "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/core"


def test_conformance_testValidateConformanceOperationAndResponse(iut: str, schemas: Schemas) -> None:
    answer = wire.get(
        f"{iut}/conformance", accept="application/json, application/javascript, text/javascript, text/json"
    )

    assert answer.status == 200, str(answer)
    schemas.assert_remote("confClasses.yaml", answer)
    classes = answer.json()["conformsTo"]
    assert all(isinstance(name, str) for name in classes), classes
    assert CORE in classes
