"""Class Process of the official suite; the tests bear its names."""
# ruff: noqa: N802

from __future__ import annotations

import uuid

from tests.e2e.ogc_suite import wire
from tests.e2e.ogc_suite.schemas import Schemas


def test_process_testProcessExceptionNoSuchProcess(iut: str, schemas: Schemas) -> None:
    answer = wire.get(f"{iut}/processes/invalid-process-{uuid.uuid4()}")

    schemas.assert_response("getProcessDescription", answer)


def test_process_testProcess(iut: str, schemas: Schemas) -> None:
    answer = wire.get(f"{iut}/processes/echo")

    schemas.assert_operation("getProcessDescription", answer)


def test_process_testProcessSuccess(iut: str, schemas: Schemas) -> None:
    answer = wire.get(f"{iut}/processes/echo")

    schemas.assert_operation("getProcessDescription", answer)
