"""Class OGCProcessDescription of the official suite; the tests bear its names.

The suite skips the other six when the first fails; here each says what it finds. Where the suite would skip for want of
something in the description, the test fails: the aim is 54 of 54, none skipped.
"""
# ruff: noqa: N802

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.ogc_suite import wire
from tests.e2e.ogc_suite.schemas import Schemas


@pytest.fixture
def answer(iut: str) -> wire.Answer:
    """The description of the echo process, asked for after the list, as the suite does."""
    assert isinstance(wire.get(f"{iut}/processes").json()["processes"], list)
    return wire.get(f"{iut}/processes/echo")


@pytest.fixture
def description(answer: wire.Answer) -> Any:
    """Its document."""
    assert answer.all("Content-Type"), str(answer)
    return answer.json()


def test_ogcprocessdescription_testOGCProcessDescriptionJSON(answer: wire.Answer, schemas: Schemas) -> None:
    schemas.assert_operation("getProcessDescription", answer)


def test_ogcprocessdescription_testOGCProcessDescriptionInputsDef(description: Any) -> None:
    assert "inputs" in description


def test_ogcprocessdescription_testOGCProcessDescriptionOutputsDef(description: Any) -> None:
    assert "outputs" in description


def test_ogcprocessdescription_testOGCProcessDescriptionInputDef(description: Any) -> None:
    assert all("schema" in given for given in description["inputs"].values())


def test_ogcprocessdescription_testOGCProcessDescriptionOutputDef(description: Any) -> None:
    assert all("schema" in given for given in description["outputs"].values())


def test_ogcprocessdescription_testOGCProcessDescriptionInputDefinitionOfMixedType(description: Any) -> None:
    assert all("schema" in given for given in description["inputs"].values())
    assert any("oneOf" in given["schema"] for given in description["inputs"].values()), "the suite would skip"


def test_ogcprocessdescription_testOGCProcessDescriptionOutputDefinitionOfMixedType(description: Any) -> None:
    assert all("schema" in given for given in description["outputs"].values())
    assert any("oneOf" in given["schema"] for given in description["outputs"].values()), "the suite would skip"
