"""Every kind of ledger keeps the same promises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import psycopg
import pytest

from graticule.errors import IllegalTransition, LedgerUnavailable, TooManyJobs
from graticule.jobs.job import Job, JobKey
from graticule.jobs.ledger import Advance, JobQuery, News, Room
from graticule.jobs.ledgers.postgresql import PostgresqlLedger
from graticule.jobs.ledgers.sqlite import SqliteLedger
from graticule.testing.ledger import NOON, LedgerContract, claim, give_up, job, running
from tests.postgres import Postgres

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

    async def test_a_clock_that_is_set_back_delays_no_job(
        self, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await ledger.add(job("tried again", not_before=ledger.clock() + 50_000))
        now = time.time_ns

        monkeypatch.setattr(time, "time_ns", lambda: now() - 3600 * 10**9)
        await ledger.set_clock()
        await asyncio.sleep(0.1)
        claimed = await ledger.claim(claim("a", at=ledger.clock()))

        assert [found.id for found in claimed] == ["tried again"]

    async def test_the_clock_is_right_again_once_nothing_depends_on_it(
        self, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: now() + 3600 * 10**9)

        await ledger.set_clock()

        assert abs(ledger.clock() - time.time_ns() // 1000) < 1_000_000

    async def test_all_that_an_earlier_owner_held_is_lost(self, ledger: SqliteLedger) -> None:
        await ledger.add(running("ran"))
        await ledger.add(job("waited in vain", sync=True))
        await ledger.add(job("waits"))

        touched = await ledger.reap(give_up, before=None)

        assert [found.id for found in touched] == ["ran", "waited in vain"]
        assert ledger.waiting == 1


class TestPostgresqlLedger(LedgerContract):
    @pytest.fixture
    async def ledger(self, postgres: Postgres) -> AsyncIterator[PostgresqlLedger]:
        ledger = await PostgresqlLedger.open(postgres.new_database())
        yield ledger
        await ledger.close()

    async def test_a_job_that_comes_while_a_claim_is_on_its_way_is_known_to_wait(
        self, ledger: PostgresqlLedger
    ) -> None:  # fmt: skip
        await asyncio.sleep(0.5)  # it has begun to listen, and looked for what it may have missed
        assert await ledger.claim(claim()) == []
        assert not ledger.waiting
        claimed, kept = ledger.claim(claim(slots=2)), ledger.add(job("j1"))

        assert await claimed == []
        await kept
        assert ledger.waiting

    async def test_what_one_adds_the_other_claims(self, postgres: Postgres) -> None:
        url = postgres.new_database()
        first, second = await PostgresqlLedger.open(url), await PostgresqlLedger.open(url)
        heard: asyncio.Queue[News] = asyncio.Queue()
        second.listen(heard.put_nowait)
        try:
            await _heard(heard, News("missed"))  # from now on it listens
            await first.add(job("j1"))
            await _heard(heard, News("waiting"))

            (claimed,) = await second.claim(claim("b"))
            assert await first.claim(claim("a")) == []

            await first.move(claimed.key, _dismissed)
            await _heard(heard, News("ended", claimed.key))
            assert await second.finish(claimed.moved_to("successful", at=NOON + 2)) is False
        finally:
            await first.close()
            await second.close()

    async def test_what_one_tells_of_running_jobs_the_other_hears_and_none_keeps(self, postgres: Postgres) -> None:
        url, opened = postgres.new_database(), []
        heard, heard_by_worker = asyncio.Queue[News](), asyncio.Queue[News]()
        for leads, queue in ((True, asyncio.Queue[News]()), (True, heard), (False, heard_by_worker)):
            opened.append(await PostgresqlLedger.open(url, may_lead=leads))
            opened[-1].listen(queue.put_nowait)
        first, second, _ = opened
        try:
            await _heard(heard, News("missed"))
            await _heard(heard_by_worker, News("missed"))
            await first.add(job("j1"))
            (claimed,) = await first.claim(claim("a"))
            # Messages may have any character; PostgreSQL takes 8000 bytes at once.
            message = "half\nway\x1f\x00" + "€" * 900
            reports = [msgspec.structs.replace(claimed, progress=number, message=message) for number in range(40)]

            await first.tell(reports)
            for report in reports:
                await _heard(heard, News("advanced", report.key, Advance.of(report)))
            await first.move(claimed.key, lambda found: found.moved_to("accepted", at=NOON))
            await _heard(heard, News("moved", claimed.key))
            await _heard(heard_by_worker, News("moved", claimed.key))

            assert (await second.get(claimed.key)).progress == 0
        finally:
            for ledger in opened:
                await ledger.close()

    async def test_there_is_room_for_no_more_whoever_adds_them(self, postgres: Postgres) -> None:
        url, room = postgres.new_database(), Room(most=5)
        ledgers = [await PostgresqlLedger.open(url) for _ in range(3)]

        sent = [ledger.add(job(f"{name}-{n}"), room) for n in range(10) for name, ledger in enumerate(ledgers)]
        kept = await asyncio.gather(*sent, return_exceptions=True)
        lanes = await ledgers[0].lanes()
        for ledger in ledgers:
            await ledger.close()

        assert sum(lanes.values()) == kept.count(None) == 5
        assert {type(one) for one in kept} == {type(None), TooManyJobs}

    async def test_a_server_that_is_frozen_is_not_waited_for_and_gets_nothing_twice(self) -> None:
        with Postgres() as own:
            ledger = await PostgresqlLedger.open(own.new_database(), lease_s=3)
            try:
                await ledger.add(job("before"))
                own.freeze()
                began = time.monotonic()
                answers = await asyncio.gather(
                    ledger.add(job("meanwhile")), ledger.get(job("before").key), return_exceptions=True
                )
                took = time.monotonic() - began
                own.thaw()
                await asyncio.sleep(1)
                await ledger.add(job("after"))
                page = await ledger.page(JobQuery(workspace="default"))
            finally:
                own.thaw()
                await ledger.close()

        assert [type(answer) for answer in answers] == [LedgerUnavailable] * 2
        assert took < 8
        assert [found.id for found in page.jobs] == ["after", "before"]

    async def test_a_job_that_was_committed_unheard_although_it_was_refused_is_removed(self) -> None:
        with Postgres() as own:
            url = own.new_database()
            ledger = await PostgresqlLedger.open(url, lease_s=3)
            try:
                # Whoever commits waits for a standby that there is not: the commit stands, and is not heard of.
                with psycopg.connect(own.url("postgres"), autocommit=True) as admin:
                    admin.execute("ALTER SYSTEM SET synchronous_standby_names='nobody'")
                    admin.execute("SELECT pg_reload_conf()")
                await asyncio.sleep(0.5)
                for name, key in (("refused", ""), ("known", "k")):
                    with pytest.raises(LedgerUnavailable):
                        await ledger.add(job(name, idempotency_key=key))
                with psycopg.connect(own.url("postgres"), autocommit=True) as admin:
                    admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
                    admin.execute("SELECT pg_reload_conf()")
                await asyncio.sleep(0.5)
                await ledger.add(job("after"))
                page = await ledger.page(JobQuery(workspace="default"))
            finally:
                await ledger.close()

        assert {found.id for found in page.jobs} == {"known", "after"}

    async def test_only_one_leads_and_another_follows(self, postgres: Postgres) -> None:
        url = postgres.new_database()
        first = await PostgresqlLedger.open(url)
        await _until(lambda: first.leads)
        second = await PostgresqlLedger.open(url)
        await asyncio.sleep(0.5)
        assert not second.leads

        await first.close()

        await _until(lambda: second.leads)
        await second.close()

    async def test_all_is_well_again_after_the_server_was_killed(self) -> None:
        with Postgres() as own:  # one that many tests have written to takes long to recover
            ledger = await PostgresqlLedger.open(own.new_database())
            try:
                await self._kill_and_start(ledger, own)
                page = await ledger.page(JobQuery(workspace="default"))
            finally:
                await ledger.close()

        assert [found.id for found in page.jobs] == ["after", "before"]

    async def _kill_and_start(self, ledger: PostgresqlLedger, postgres: Postgres) -> None:
        await ledger.add(job("before"))
        postgres.kill()
        await asyncio.sleep(0.5)  # its children end when they notice
        try:
            with pytest.raises(LedgerUnavailable):
                await ledger.add(job("meanwhile"))
            with pytest.raises(LedgerUnavailable):
                await ledger.get(JobKey("default", "before"))
        finally:
            postgres.start()
        await ledger.add(job("after"))

    async def test_many_writers_lose_nothing_and_wait_for_nobody_in_circles(self, postgres: Postgres) -> None:
        url = postgres.new_database()
        ledgers = [await PostgresqlLedger.open(url) for _ in range(3)]
        await asyncio.gather(*[ledgers[0].add(job(f"j{number}")) for number in range(60)])

        async def work(ledger: PostgresqlLedger, agent: str) -> list[str]:
            done = []
            while claimed := await ledger.claim(claim(agent, slots=7)):
                kept = await asyncio.gather(*[ledger.finish(one.moved_to("successful", at=NOON)) for one in claimed])
                done += [one.id for one, well in zip(claimed, kept, strict=True) if well]
            return done

        done, *moved = await asyncio.gather(
            asyncio.gather(*[work(ledger, f"a{number}") for number, ledger in enumerate(ledgers)]),
            *[ledgers[0].move(job(f"j{number}").key, _dismissed) for number in range(59, 0, -7)],
            return_exceptions=True,
        )
        for ledger in ledgers:
            await ledger.close()

        assert isinstance(done, list)
        successful = [name for part in done for name in part]
        dismissed = [one.id for one in moved if isinstance(one, Job)]
        assert sorted(successful + dismissed) == sorted(f"j{number}" for number in range(60))
        assert all(isinstance(one, Job | IllegalTransition) for one in moved)


def _dismissed(found: Job) -> Job:
    return found.moved_to("dismissed", at=NOON)


async def _heard(queue: asyncio.Queue[News], wanted: News) -> None:
    while await asyncio.wait_for(queue.get(), 5) != wanted:
        pass


async def _until(what: Callable[[], bool]) -> None:
    for _ in range(100):
        if what():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it did not happen within 10 seconds")
