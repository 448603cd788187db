"""Jobs are dismissed just when they finish; the long form is 100 races."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.races import ENOUGH, run

ALL = bool(os.environ.get("GRATICULE_TEST_ALL"))
RACES, LEAST = (100, ENOUGH) if ALL else (10, 1)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_who_loses_a_race_has_lost_it_for_ever(tmp_path: Path, ledger: str) -> None:
    figures = run(tmp_path, ledger=ledger, races=RACES)

    print(figures)
    assert sum(figures.states.values()) == RACES
    assert set(figures.states) <= {"successful", "dismissed", "removed"}
    assert min(figures.states["successful"], figures.states["dismissed"]) >= LEAST, figures
    assert not figures.contradicted, figures
    assert not any(figures.changed.values()), figures
    assert not figures.wrong_results, figures
    assert not figures.left, figures
