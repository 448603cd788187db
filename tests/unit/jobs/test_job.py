"""The life of a job is one table."""

from __future__ import annotations

import pytest

from graticule.errors import IllegalTransition
from graticule.jobs.job import NEXT, Job

NOON = 1_700_000_000_000_000


def test_a_job_that_begins_has_a_token_and_an_attempt_more() -> None:
    begun = Job(id="j1", process="echo").moved_to("running", at=NOON)

    assert (begun.status, begun.started, begun.token, begun.attempts, begun.revision) == ("running", NOON, 1, 1, 1)


def test_a_successful_job_is_at_a_hundred_percent() -> None:
    ended = Job(id="j1", process="echo", status="running", progress=30).moved_to("successful", at=NOON)

    assert (ended.progress, ended.finished) == (100, NOON)


@pytest.mark.parametrize("status", ["successful", "failed", "dismissed"])
@pytest.mark.parametrize("wanted", list(NEXT))
def test_an_ended_job_never_changes_again(status: str, wanted: str) -> None:
    ended = Job(id="j1", process="echo", status=status)  # type: ignore[arg-type]

    with pytest.raises(IllegalTransition):
        ended.moved_to(wanted, at=NOON)  # type: ignore[arg-type]


def test_a_job_whose_worker_was_lost_goes_back_to_the_queue() -> None:
    begun = Job(id="j1", process="echo").moved_to("running", at=NOON)

    waiting = begun.moved_to("accepted", at=NOON + 1)

    assert (waiting.status, waiting.token) == ("accepted", 1)
