"""Many jobs of one actor and a single one of another; the long form is 300 jobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.turns import CAP, run

JOBS = 300 if os.environ.get("GRATICULE_TEST_ALL") else 30

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_never_more_run_than_may_and_anothers_job_begins_next(tmp_path: Path, ledger: str) -> None:
    figures = run(tmp_path, ledger=ledger, jobs=JOBS)

    print(figures)
    assert figures.statuses == {"successful": JOBS}
    assert figures.most_at_once <= CAP
    assert figures.before > JOBS // 3, "else the other job did not have to wait"
    assert figures.overtook == 0, figures
