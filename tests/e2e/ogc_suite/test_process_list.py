"""Class ProcessList of the official suite; the tests bear its names."""
# ruff: noqa: N802

from __future__ import annotations

from tests.e2e.ogc_suite import wire
from tests.e2e.ogc_suite.schemas import Schemas

LIMIT = {"type": "integer", "minimum": 1, "maximum": 10000, "default": 10}
"""The `limit` parameter of the standard; the suite validates its own `limit=10` with it and asks the server nothing."""


def test_processlist_testPlLimitDefinition(schemas: Schemas) -> None:
    assert schemas.bundled_faults(LIMIT, 10) == []


def test_processlist_testPlLimitResponse(iut: str) -> None:
    answer = wire.get(f"{iut}/processes?limit=1")

    processes = answer.json()["processes"]
    assert isinstance(processes, list), str(answer)
    assert len(processes) == 1, str(answer)


def test_processlist_testPlLinks(iut: str) -> None:
    answer = wire.get(f"{iut}/processes?limit=1")

    assert isinstance(answer.json().get("links"), list), str(answer)


def test_processlist_testProcessList(iut: str) -> None:
    answer = wire.get(f"{iut}/processes")

    assert len(answer.json()["processes"]) > 0, str(answer)


def test_processlist_testProcessListSuccess(iut: str, schemas: Schemas) -> None:
    answer = wire.get(f"{iut}/processes")

    assert answer.all("Content-Type"), str(answer)
    schemas.assert_remote("processList.yaml", answer)
