"""What runs jobs is killed again and again; the long form is 500 jobs and 10 kills of each kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.kills import RUNNING, run

ALL = bool(os.environ.get("GRATICULE_TEST_ALL"))
JOBS, KILLS = (500, 10) if ALL else (60, 1)
ATTEMPTS = 3
"""A job that is hit as often as this fails as a lost worker; then it has ended, too."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500 if ALL else 300)]


@pytest.mark.parametrize(("ledger", "kinds"), [("sqlite", 1), ("postgresql", 3)])
def test_no_job_is_lost_doubled_or_in_a_false_state(tmp_path: Path, ledger: str, kinds: int) -> None:
    figures = run(tmp_path, ledger=ledger, jobs=JOBS, kills=KILLS)

    print(figures)
    assert figures.submitted >= JOBS
    assert list(figures.kills.values()) == [KILLS] * kinds
    assert min(figures.running_at_kills) >= RUNNING
    assert figures.samples > figures.stalls, figures
    assert not figures.lost, figures
    assert not figures.doubled, figures
    assert not figures.false_states, figures
    assert set(figures.statuses) <= {"successful", "failed"}
    assert figures.statuses["failed"] <= sum(count for times, count in figures.attempts.items() if times >= ATTEMPTS)
    assert figures.worst_recovery_s <= figures.limit_s, figures
