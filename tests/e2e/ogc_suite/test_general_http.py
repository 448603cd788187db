"""Class GeneralHttp of the official suite (A.2.1.1); the tests bear its names."""
# ruff: noqa: N802

from __future__ import annotations

from tests.e2e.ogc_suite import wire


def test_generalhttp_testHttp(iut: str) -> None:
    answer = wire.get(f"{iut}/", accept="*/*")

    assert answer.version == 11, f"the status line must say HTTP/1.1: {answer}"
