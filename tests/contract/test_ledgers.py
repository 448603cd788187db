"""Every kind of ledger keeps the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from graticule.jobs.job import Failure, Job, JobKey
from graticule.jobs.ledgers.sqlite import SqliteLedger
from graticule.testing.ledger import NOON, LedgerContract, job, running, watched

pytestmark = pytest.mark.anyio


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    async def ledger(self, tmp_path: Path) -> AsyncIterator[SqliteLedger]:
        ledger = SqliteLedger(tmp_path / "graticule.db")
        yield ledger
        await ledger.close()

    async def test_what_was_added_survives_a_restart(self, tmp_path: Path) -> None:
        first = SqliteLedger(tmp_path / "again.db")
        await first.add(job("j1"))
        await first.close()

        second = SqliteLedger(tmp_path / "again.db")

        assert await second.get(job("j1").key) == job("j1")
        assert second.waiting == 1
        await second.close()

    async def test_claims_of_an_earlier_owner_are_void(self, ledger: SqliteLedger) -> None:
        await ledger.add(running("again"))
        await ledger.add(running("nobody waits", sync=True))
        await ledger.add(running("too often", attempts=2))

        touched = await ledger.recover(NOON + 9, max_attempts=3, give_up=_give_up)

        assert {found.id: found.status for found in touched} == {
            "again": "accepted",
            "nobody waits": "failed",
            "too often": "failed",
        }
        assert ledger.waiting == 1

    async def test_a_lost_job_that_is_given_up_has_its_notice(self, ledger: SqliteLedger) -> None:
        await ledger.add(watched("again"))
        await ledger.add(watched("nobody waits", sync=True))

        await ledger.recover(NOON + 9, max_attempts=3, give_up=_give_up)

        assert [notice.kind for notice in await ledger.notices_of(JobKey("default", "nobody waits"))] == ["failed"]
        assert await ledger.notices_of(JobKey("default", "again")) == []


def _give_up(lost: Job) -> Job:
    failure = msgspec.msgpack.encode(Failure(cause="lost worker", detail="gone"))
    return lost.moved_to("failed", at=NOON + 9, failure=failure)
