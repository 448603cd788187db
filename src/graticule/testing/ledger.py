"""What every ledger promises; subclass ``LedgerContract`` and give a ``ledger`` fixture."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from graticule.errors import DuplicateJob, IllegalTransition, JobGone, NoSuchJob, NotWaiting, TooManyJobs
from graticule.jobs.holds import Hold
from graticule.jobs.job import Failure, Job, JobKey
from graticule.jobs.ledger import AgentRecord, Claim, Cursor, JobQuery, Ledger, Notice, Profile, Room
from graticule.jobs.queue import QueueRules
from graticule.ogc.jobs import JobStatus
from graticule.ogc.processes import Subscriber

NOON = 1_700_000_000_000_000
LEASE = 10_000_000


def job(name: str, **fields: Any) -> Job:
    """Return a waiting job."""
    return Job(**{"id": name, "process": "echo", "created": NOON, "updated": NOON, **fields})


def running(name: str, **fields: Any) -> Job:
    """Return a job that was handed over when it was sent."""
    return job(name, **fields).moved_to("running", at=NOON, agent="a", lease_end=NOON + LEASE)


def claim(agent: str = "a", *, slots: int = 1, at: int = NOON, **fields: Any) -> Claim:
    """Return what an agent asks for."""
    return Claim(agent=agent, slots=slots, at=at, lease=LEASE, **fields)


SUBSCRIBER = Subscriber(
    success_uri="https://told.example/success",
    in_progress_uri="https://told.example/progress",
    failed_uri="https://else.example/failed",
)


def watched(name: str, subscriber: Subscriber = SUBSCRIBER, **fields: Any) -> Job:
    """Return a running job with a subscriber."""
    return running(name, subscriber=msgspec.msgpack.encode(subscriber), **fields)


async def ended(ledger: Ledger, begun: Job, *, at: int = NOON) -> Notice:
    """End a running job with a subscriber and return the notice of it."""
    await ledger.add(begun)
    await ledger.finish(begun.moved_to("successful", at=at))
    (notice,) = await ledger.notices_of(begun.key)
    return notice


def give_up(lost: Job) -> Job:
    """Return a job as it is when nobody runs it any more."""
    failure = msgspec.msgpack.encode(Failure(cause="lost worker", detail="gone"))
    return lost.moved_to("failed", at=NOON + 9, failure=failure)


def profile(name: str, **fields: Any) -> Profile:
    """Return a notification profile."""
    kept = {"workspace": "default", "actor": "ada", "type": "bearer", "sealed": b"s", "created": NOON, "updated": NOON}
    return Profile(**{**kept, "name": name, **fields})


class LedgerContract:
    """Tests of a ledger; they leave nothing that the next one sees."""

    async def test_a_job_is_found_as_it_was_kept(self, ledger: Ledger) -> None:
        kept = job("j1", request=b'{"inputs": {}}', base="http://here", priority=3, requires="x")

        await ledger.add(kept)

        assert await ledger.get(kept.key) == kept

    async def test_an_unknown_job_is_no_such_job(self, ledger: Ledger) -> None:
        with pytest.raises(NoSuchJob):
            await ledger.get(JobKey("default", "nobody"))

    async def test_a_job_of_another_workspace_is_no_such_job(self, ledger: Ledger) -> None:
        await ledger.add(job("j1", workspace="ours"))

        with pytest.raises(NoSuchJob):
            await ledger.get(JobKey("theirs", "j1"))

    async def test_a_job_is_claimed_once(self, ledger: Ledger) -> None:
        await ledger.add(job("j1"))

        first = await ledger.claim(claim("a", slots=1, at=NOON))
        second = await ledger.claim(claim("b", slots=1, at=NOON))

        assert [claimed.id for claimed in first] == ["j1"]
        assert second == []

    async def test_a_claim_gives_a_new_token_and_a_lease(self, ledger: Ledger) -> None:
        await ledger.add(job("j1"))

        (claimed,) = await ledger.claim(claim("a", slots=1, at=NOON))

        assert (claimed.status, claimed.agent, claimed.token, claimed.attempts) == ("running", "a", 1, 1)
        assert claimed.lease_end == NOON + LEASE

    async def test_no_more_jobs_wait_than_there_is_room_for(self, ledger: Ledger) -> None:
        room = Room(most=3)
        await ledger.add(job("first"))

        sent = [ledger.add(job(f"j{number}"), room) for number in range(5)]
        kept = await asyncio.gather(*sent, return_exceptions=True)

        assert [type(one) for one in kept] == [type(None)] * 2 + [TooManyJobs] * 3
        assert sum((await ledger.lanes()).values()) == ledger.waiting == 3
        await ledger.claim(claim("a"))
        await ledger.add(job("next"), room)
        await ledger.add(running("needs none"), room)

    async def test_each_actor_has_room_of_its_own(self, ledger: Ledger) -> None:
        room = Room(most_per_actor=1)
        await ledger.add(job("a1", actor="ada"), room)

        with pytest.raises(TooManyJobs):
            await ledger.add(job("a2", actor="ada"), room)
        await ledger.add(job("b1", actor="ben"), room)

    async def test_a_created_job_that_is_started_needs_room(self, ledger: Ledger) -> None:
        await ledger.add(job("waits"))
        await ledger.add(job("created", status="created"))

        with pytest.raises(TooManyJobs):
            await ledger.move(
                JobKey("default", "created"), lambda found: found.moved_to("accepted", at=NOON), Room(most=1)
            )

        assert (await ledger.get(JobKey("default", "created"))).status == "created"

    async def test_priority_goes_before_age(self, ledger: Ledger) -> None:
        await ledger.add(job("old"))
        await ledger.add(job("urgent", priority=5, created=NOON + 1))
        await ledger.add(job("young", created=NOON + 2))

        claimed = await ledger.claim(claim("a", slots=3, at=NOON + 9))

        assert [found.id for found in claimed] == ["urgent", "old", "young"]

    async def test_a_job_is_not_claimed_before_its_time(self, ledger: Ledger) -> None:
        await ledger.add(job("j1", not_before=NOON + 1))

        assert await ledger.claim(claim("a", slots=1, at=NOON)) == []

    async def test_one_actors_many_jobs_do_not_delay_anothers_first(self, ledger: Ledger) -> None:
        for number in range(20):
            await ledger.add(job(f"a{number}", actor="ada"))
        await ledger.claim(claim(slots=2))
        await ledger.add(job("b", actor="ben", created=NOON + 9))

        (claimed,) = await ledger.claim(claim())

        assert claimed.id == "b"

    async def test_limits_hold_for_what_runs_and_what_is_claimed(self, ledger: Ledger) -> None:
        await ledger.add(running("r", process="slow"))
        for number in range(3):
            await ledger.add(job(f"s{number}", process="slow"))
            await ledger.add(job(f"e{number}"))

        claimed = await ledger.claim(claim(slots=9, rules=QueueRules(processes={"slow": 2}, most=4)))

        assert sorted(found.id for found in claimed) == ["e0", "e1", "s0"]

    async def test_an_agent_claims_only_what_it_can_run(self, ledger: Ledger) -> None:
        await ledger.add(job("j1", process="train", requires="gpu"))
        await ledger.add(job("j2", version="2.0.0"))
        await ledger.add(job("j3"))

        claimed = await ledger.claim(claim(slots=9, fits=lambda lane: not lane.requires and not lane.version))

        assert [found.id for found in claimed] == ["j3"]

    async def test_the_jobs_that_wait_are_counted_by_lane(self, ledger: Ledger) -> None:
        for name, actor in (("j1", "ada"), ("j2", "ada"), ("j3", "ben")):
            await ledger.add(job(name, actor=actor))

        assert {lane.actor: count for lane, count in (await ledger.lanes()).items()} == {"ada": 2, "ben": 1}
        assert await ledger.before_in_lane(job("j2", actor="ada")) == 1

    async def test_the_same_idempotency_key_is_refused_for_the_same_actor_and_process(self, ledger: Ledger) -> None:
        first = job("j1", idempotency_key="k")
        await ledger.add(first)
        others = ledger.add(job("j3", idempotency_key="k", actor="ben")), ledger.add(job("j4"))

        with pytest.raises(DuplicateJob):
            await ledger.add(job("j2", idempotency_key="k"))

        for other in others:
            await other
        assert await ledger.find_same(job("j2", idempotency_key="k")) == first
        with pytest.raises(NoSuchJob):
            await ledger.get(JobKey("default", "j2"))

    async def test_the_key_of_a_job_is_found_after_the_job_has_become_one_of_another_process(
        self, ledger: Ledger
    ) -> None:
        first = job("j1", idempotency_key="k", process="a")
        await ledger.add(first)
        for number in range(3):
            await ledger.add(job(f"x{number}", idempotency_key="k", process=f"p{number}"))

        moved = msgspec.structs.replace(first, process="p1", idempotency_key=first.key_at("p1"), revision=1)
        await ledger.move(first.key, lambda _: moved)

        assert await ledger.find_same(job("j2", idempotency_key="k", process="a")) == moved
        assert await ledger.find_same(job("j2", idempotency_key="k", process="p3")) is None
        assert await ledger.find_same(job("j2", idempotency_key="k", process="a", actor="ben")) is None
        found = await ledger.find_same(job("j2", idempotency_key="k", process="p1"))
        assert found is not None
        assert found.id == "x1"

    async def test_jobs_whose_lease_has_ended_are_lost(self, ledger: Ledger) -> None:
        await ledger.add(running("lost"))
        await ledger.add(watched("told"))
        await ledger.add(msgspec.structs.replace(running("held"), lease_end=NOON + 2 * LEASE))

        touched = await ledger.reap(give_up, before=NOON + LEASE + 1)

        assert [(found.id, found.status) for found in touched] == [("lost", "failed"), ("told", "failed")]
        assert (await ledger.get(JobKey("default", "held"))).status == "running"
        assert [notice.kind for notice in await ledger.notices_of(JobKey("default", "told"))] == ["failed"]

    async def test_who_renews_is_told_what_is_not_held_any_more(self, ledger: Ledger) -> None:
        held, dismissed, taken = running("held"), running("dismissed"), running("taken", token=3)
        for begun in (held, dismissed, taken):
            await ledger.add(begun)
        await ledger.move(dismissed.key, lambda found: found.moved_to("dismissed", at=NOON))

        lost = await ledger.renew([held, dismissed, msgspec.structs.replace(taken, token=3)])

        assert lost == ["dismissed", "taken"]

    async def test_an_end_that_was_written_already_is_kept(self, ledger: Ledger) -> None:
        begun = running("j1")
        await ledger.add(begun)
        end = begun.moved_to("successful", at=NOON + 5)
        await ledger.finish(end)

        assert await ledger.finish(end) is True

    async def test_text_that_not_every_database_takes_is_kept_as_well_as_can_be(self, ledger: Ledger) -> None:
        begun = running("j1")
        await ledger.add(begun)

        await ledger.finish(begun.moved_to("failed", at=NOON, message="\x00 ? % 'quoted' \N{SNOWMAN}"))

        assert (await ledger.get(begun.key)).message.endswith(" ? % 'quoted' \N{SNOWMAN}")

    async def test_agents_are_known_while_they_live(self, ledger: Ledger) -> None:
        await ledger.report(AgentRecord(id="a", seen=NOON, started=1))
        await ledger.report(AgentRecord(id="b", seen=NOON - 9, started=2))
        await ledger.report(AgentRecord(id="a", seen=NOON + 5, started=1, busy=2))

        assert [(found.id, found.busy) for found in await ledger.agents(since=NOON)] == [("a", 2)]
        await ledger.leave("a")
        assert await ledger.agents(since=NOON) == []

    async def test_a_mark_is_what_the_first_has_made_it(self, ledger: Ledger) -> None:
        assert await ledger.mark("storage", "one") == "one"
        assert await ledger.mark("storage", "other") == "one"

    async def test_what_is_held_back_is_kept_until_it_is_released(self, ledger: Ledger) -> None:
        await ledger.mark("storage", "one")
        await ledger.hold(Hold(scope="queue", action="pause", reason="first"))
        await ledger.hold(Hold(scope="process:echo", action="drain"))
        await ledger.hold(Hold(scope="queue", action="drain", reason="second", actor="ada", since=NOON))

        assert [(hold.scope, hold.action, hold.reason) for hold in await ledger.holds()] == [
            ("process:echo", "drain", ""), ("queue", "drain", "second"),
        ]  # fmt: skip
        await ledger.release("queue")
        await ledger.release("queue")
        assert [hold.scope for hold in await ledger.holds()] == ["process:echo"]

    async def test_the_hold_of_a_worker_ends_with_it(self, ledger: Ledger) -> None:
        await ledger.report(AgentRecord(id="a", seen=NOON, started=1))
        await ledger.hold(Hold(scope="worker:a", action="drain"))

        await ledger.leave("a")

        assert await ledger.holds() == []

    async def test_nothing_of_a_paused_workspace_or_process_is_claimed(self, ledger: Ledger) -> None:
        await ledger.add(job("j1", workspace="east"))
        await ledger.add(job("j2", process="slow"))
        await ledger.add(job("j3"))
        rules = QueueRules(paused_workspaces=frozenset({"east"}), paused_processes=frozenset({"slow"}))

        claimed = await ledger.claim(claim(slots=9, rules=rules))

        assert [found.id for found in claimed] == ["j3"]

    async def test_a_job_of_higher_priority_is_claimed_first_whenever_it_got_it(self, ledger: Ledger) -> None:
        for name in ("j1", "j2", "j3"):
            await ledger.add(job(name))
        await ledger.move(JobKey("default", "j3"), lambda found: found.prioritized(7))

        (claimed,) = await ledger.claim(claim())

        assert (claimed.id, claimed.priority) == ("j3", 7)
        with pytest.raises(NotWaiting):
            await ledger.move(JobKey("default", "j3"), lambda found: found.prioritized(1))

    async def test_what_runs_is_counted_by_actor_and_process(self, ledger: Ledger) -> None:
        for name, actor in (("j1", "ada"), ("j2", "ada"), ("j3", "ben")):
            await ledger.add(running(name, actor=actor))

        counted = sorted(await ledger.running())

        assert counted == [("default", "ada", "echo", 2), ("default", "ben", "echo", 1)]

    async def test_jobs_are_found_by_label(self, ledger: Ledger) -> None:
        for name, labels in (("j1", ""), ("j2", ",a,"), ("j3", ",a_b,c,"), ("j4", ",axb,")):
            await ledger.add(job(name, labels=labels))

        found = await ledger.find(JobQuery(workspace="default", labels=("a", "a_b")))

        assert [(one.id, one.status) for one in found] == [("j3", "accepted"), ("j2", "accepted")]
        assert await ledger.find(JobQuery(workspace="default", labels=("b",))) == []

    async def test_a_created_job_is_not_claimed_before_it_is_started(self, ledger: Ledger) -> None:
        created = job("j1", status="created", preparation=b"p")
        await ledger.add(created)
        before = await ledger.claim(claim())

        started = await ledger.move(created.key, lambda found: found.moved_to("accepted", at=NOON))
        (claimed,) = await ledger.claim(claim("a", slots=1, at=NOON))

        assert before == []
        assert started.status == "accepted"
        assert (claimed.id, claimed.preparation) == ("j1", b"p")

    async def test_waiting_counts_what_waits(self, ledger: Ledger) -> None:
        await ledger.add(job("j1"))
        await ledger.add(job("j2"))
        await ledger.add(running("j3"))
        await ledger.claim(claim("a", slots=1, at=NOON))

        assert ledger.waiting == 1

    async def test_an_end_is_kept(self, ledger: Ledger) -> None:
        begun = running("j1")
        await ledger.add(begun)

        kept = await ledger.finish(begun.moved_to("successful", at=NOON + 5, manifest=b"m"))

        found = await ledger.get(begun.key)
        assert kept is True
        assert (found.status, found.finished, found.progress, found.manifest) == ("successful", NOON + 5, 100, b"m")

    async def test_an_end_with_an_old_token_changes_nothing(self, ledger: Ledger) -> None:
        begun = running("j1", token=4)
        await ledger.add(begun)

        late = msgspec.structs.replace(begun, token=4).moved_to("successful", at=NOON + 5)

        assert await ledger.finish(late) is False
        assert (await ledger.get(begun.key)).status == "running"

    async def test_a_dismissed_job_stays_dismissed_when_its_process_ends(self, ledger: Ledger) -> None:
        begun = running("j1")
        await ledger.add(begun)
        await ledger.move(begun.key, lambda found: found.moved_to("dismissed", at=NOON + 1))

        assert await ledger.finish(begun.moved_to("successful", at=NOON + 2)) is False
        assert (await ledger.get(begun.key)).status == "dismissed"

    async def test_a_change_that_the_table_forbids_changes_nothing(self, ledger: Ledger) -> None:
        begun = running("j1")
        await ledger.add(begun)
        await ledger.finish(begun.moved_to("successful", at=NOON))

        with pytest.raises(IllegalTransition):
            await ledger.move(begun.key, lambda found: found.moved_to("dismissed", at=NOON))
        assert (await ledger.get(begun.key)).status == "successful"

    async def test_a_discarded_job_was_never_there(self, ledger: Ledger) -> None:
        begun = running("j1", sync=True)
        await ledger.add(begun)

        assert await ledger.discard(begun) is True

        with pytest.raises(NoSuchJob):
            await ledger.get(begun.key)

    async def test_a_job_whose_address_was_told_is_not_discarded(self, ledger: Ledger) -> None:
        begun = running("j1", sync=True)
        await ledger.add(begun)
        await ledger.move(begun.key, lambda found: msgspec.structs.replace(found, sync=False))

        assert await ledger.discard(begun) is False
        assert (await ledger.get(begun.key)).status == "running"

    async def test_a_removed_job_is_gone(self, ledger: Ledger) -> None:
        await ledger.add(job("j1"))

        await ledger.remove(JobKey("default", "j1"))

        with pytest.raises(JobGone):
            await ledger.get(JobKey("default", "j1"))

    async def test_progress_is_renewed_with_the_lease(self, ledger: Ledger) -> None:
        begun = running("j1")
        await ledger.add(begun)

        await ledger.renew([msgspec.structs.replace(begun, progress=40, message="reading", lease_end=NOON + 2 * LEASE)])

        found = await ledger.get(begun.key)
        assert (found.progress, found.message, found.lease_end) == (40, "reading", NOON + 2 * LEASE)

    async def test_pages_show_every_job_once_newest_first(self, ledger: Ledger) -> None:
        for number in range(7):
            await ledger.add(job(f"j{number}"))
        # From a server whose clock is behind: kept last, but not the newest.
        await ledger.add(job("late", created=NOON - 1))

        shown: list[str] = []
        before: Cursor | None = None
        while True:
            page = await ledger.page(JobQuery(workspace="default", limit=3, before=before))
            shown += [found.id for found in page.jobs]
            before = page.next
            if before is None:
                break

        assert shown == ["j6", "j5", "j4", "j3", "j2", "j1", "j0", "late"]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            pytest.param({"statuses": ("running",)}, {"b"}, id="status"),
            pytest.param({"processes": ("sum",)}, {"a"}, id="process"),
            pytest.param({"processes": ("sum", "echo")}, {"a", "b"}, id="two processes"),
            pytest.param({"actor": "eve"}, {"b"}, id="actor"),
            pytest.param({"types": ("task",)}, {"t"}, id="type"),
            pytest.param({"created_from": NOON + 10}, {"b"}, id="created from, included"),
            pytest.param({"created_to": NOON + 9}, {"a"}, id="created to"),
            pytest.param({"min_duration": 30.0, "now": NOON + 40_000_000}, {"b"}, id="a running job lasts until now"),
            pytest.param(
                {"max_duration": 29.0, "now": NOON + 40_000_000}, set(), id="jobs without a start are left out"
            ),
        ],
    )
    async def test_a_filter_lets_through_what_it_says(
        self, ledger: Ledger, query: dict[str, Any], expected: set[str]
    ) -> None:  # fmt: skip
        await ledger.add(job("a", process="sum"))
        await ledger.add(running("b", actor="eve", created=NOON + 10))
        await ledger.add(job("t", type="task"))

        page = await ledger.page(JobQuery(workspace="default", **query))

        assert {found.id for found in page.jobs} == expected

    # --- the outbox -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("status", "kind", "address"),
        [
            ("successful", "success", SUBSCRIBER.success_uri),
            ("failed", "failed", SUBSCRIBER.failed_uri),
            ("dismissed", "failed", SUBSCRIBER.failed_uri),
        ],
    )
    async def test_a_job_ends_together_with_the_notice_of_its_end(
        self, ledger: Ledger, status: JobStatus, kind: str, address: str
    ) -> None:  # fmt: skip
        begun = watched("j1")
        await ledger.add(begun)

        await ledger.finish(begun.moved_to(status, at=NOON + 5))

        (notice,) = await ledger.notices_of(begun.key)
        assert (notice.key, notice.kind, notice.address) == (begun.key, kind, address)
        assert (notice.status, notice.created, notice.not_before, notice.attempts) == ("waiting", NOON + 5, NOON + 5, 0)

    async def test_a_job_that_comes_and_ends_at_once_has_its_notice(self, ledger: Ledger) -> None:
        begun = watched("j1")

        added = ledger.add(begun)
        await ledger.finish(begun.moved_to("successful", at=NOON))
        await added

        assert len(await ledger.notices_of(begun.key)) == 1

    async def test_a_job_that_is_dismissed_while_it_waits_has_its_notice(self, ledger: Ledger) -> None:
        waiting = job("j1", subscriber=msgspec.msgpack.encode(SUBSCRIBER))
        await ledger.add(waiting)

        await ledger.move(waiting.key, lambda found: found.moved_to("dismissed", at=NOON))

        assert [notice.kind for notice in await ledger.notices_of(waiting.key)] == ["failed"]

    @pytest.mark.parametrize(
        "begun",
        [
            pytest.param(running("j1"), id="no subscriber"),
            pytest.param(watched("j1", Subscriber(failed_uri="https://told.example/failed")), id="only failures"),
        ],
    )
    async def test_a_success_that_nobody_asked_for_has_no_notice(self, ledger: Ledger, begun: Job) -> None:
        await ledger.add(begun)

        await ledger.finish(begun.moved_to("successful", at=NOON))

        assert await ledger.notices_of(begun.key) == []

    async def test_an_end_that_is_not_kept_has_no_notice(self, ledger: Ledger) -> None:
        begun = watched("j1", token=4)
        await ledger.add(begun)

        await ledger.finish(msgspec.structs.replace(begun, token=4).moved_to("successful", at=NOON))

        assert await ledger.notices_of(begun.key) == []

    async def test_a_job_that_goes_back_to_the_queue_has_no_notice(self, ledger: Ledger) -> None:
        begun = watched("j1")
        await ledger.add(begun)

        await ledger.move(begun.key, lambda found: found.moved_to("accepted", at=NOON))

        assert await ledger.notices_of(begun.key) == []

    async def test_notices_are_due_in_the_order_of_their_moments(self, ledger: Ledger) -> None:
        late = await ended(ledger, watched("late"), at=NOON + 9)
        early = await ended(ledger, watched("early"), at=NOON + 1)
        await ended(ledger, watched("not yet"), at=NOON + 10)

        assert await ledger.due(at=NOON + 9, limit=5) == [early, late]
        assert await ledger.due(at=NOON + 9, limit=1) == [early]

    async def test_notices_for_a_busy_host_are_left_out(self, ledger: Ledger) -> None:
        await ended(ledger, watched("busy"))
        other = await ended(ledger, watched("other", Subscriber(success_uri="http://free.example:81/told")))

        assert await ledger.due(at=NOON, limit=5, without_hosts=["told.example:443"]) == [other]

    async def test_a_notice_that_was_put_off_is_due_later(self, ledger: Ledger) -> None:
        notice = await ended(ledger, watched("j1"))

        later = msgspec.structs.replace(notice, attempts=1, not_before=NOON + 60, last_error="it answered 500")
        await ledger.note(later)

        assert await ledger.due(at=NOON + 59, limit=5) == []
        assert await ledger.next_due(after=NOON) == NOON + 60
        assert await ledger.due(at=NOON + 60, limit=5) == [later]

    @pytest.mark.parametrize("status", ["delivered", "undelivered"])
    async def test_a_notice_that_is_done_with_is_not_due(self, ledger: Ledger, status: Any) -> None:
        notice = await ended(ledger, watched("j1"))

        await ledger.note(msgspec.structs.replace(notice, status=status, attempts=3, last_error="why"))

        assert await ledger.due(at=NOON + 60, limit=5) == []
        assert [(kept.status, kept.attempts, kept.last_error) for kept in await ledger.notices_of(notice.key)] == [
            (status, 3, "why")
        ]

    async def test_without_notices_none_is_due(self, ledger: Ledger) -> None:
        assert await ledger.due(at=NOON, limit=5) == []
        assert await ledger.next_due(after=0) is None

    async def test_notices_are_removed_with_their_job(self, ledger: Ledger) -> None:
        notice = await ended(ledger, watched("j1"))

        await ledger.remove(notice.key)
        await ledger.note(msgspec.structs.replace(notice, attempts=1))

        assert await ledger.notices_of(notice.key) == []
        assert await ledger.due(at=NOON, limit=5) == []

    async def test_a_notice_that_was_given_up_is_due_when_it_waits_again(self, ledger: Ledger) -> None:
        notice = await ended(ledger, watched("j1"))
        await ledger.note(msgspec.structs.replace(notice, status="undelivered", attempts=7, last_error="why"))

        again = msgspec.structs.replace(notice, not_before=NOON + 90, updated=NOON + 90, last_error="why")
        await ledger.note(again)

        assert await ledger.due(at=NOON + 90, limit=5) == [again]

    # --- notification profiles --------------------------------------------------------------------------------------

    async def test_profiles_are_found_by_name_in_the_order_of_names(self, ledger: Ledger) -> None:
        for name in ("station", "archive"):
            assert await ledger.keep_profile(profile(name)) is True

        assert await ledger.profiles("default", "ada") == [profile("archive"), profile("station")]
        assert await ledger.profiles("default", "ada", "station") == [profile("station")]
        assert await ledger.profiles("default", "ada", "nobody") == []

    async def test_a_profile_takes_the_place_of_its_namesake(self, ledger: Ledger) -> None:
        await ledger.keep_profile(profile("station"))

        later = profile("station", type="basic", sealed=b"other", created=NOON + 5, updated=NOON + 5)

        assert await ledger.keep_profile(later) is False
        assert await ledger.profiles("default", "ada") == [msgspec.structs.replace(later, created=NOON)]

    async def test_profiles_belong_to_one_actor_in_one_workspace(self, ledger: Ledger) -> None:
        kept = [profile("p"), profile("p", actor="eve", sealed=b"e"), profile("p", workspace="other", sealed=b"o")]
        for one in kept:
            assert await ledger.keep_profile(one) is True

        assert await ledger.drop_profile("default", "eve", "p") is True

        assert await ledger.profiles("default", "ada") == [kept[0]]
        assert await ledger.profiles("default", "eve") == []
        assert await ledger.profiles("other", "ada") == [kept[2]]

    async def test_a_profile_is_dropped_once(self, ledger: Ledger) -> None:
        await ledger.keep_profile(profile("p"))

        assert await ledger.drop_profile("default", "ada", "p") is True
        assert await ledger.drop_profile("default", "ada", "p") is False

    # --- retention ---

    async def test_successful_jobs_may_lose_their_results_when_they_are_old(self, ledger: Ledger) -> None:
        for name, end in (("late", 9), ("early", 1), ("middle", 5)):
            await finished(ledger, name, NOON + end)
        failed = running("failed")
        await ledger.add(failed)
        await ledger.finish(failed.moved_to("failed", at=NOON + 1))
        await ledger.add(running("goes on"))
        await finished(ledger, "elsewhere", NOON + 1, workspace="other")

        found = await ledger.expirable("default", before=NOON + 9, limit=10)

        assert [one.id for one in found] == ["early", "middle"]
        assert [one.id for one in await ledger.expirable("default", before=NOON + 9, limit=1)] == ["early"]

    async def test_processes_are_told_apart_when_results_expire(self, ledger: Ledger) -> None:
        await finished(ledger, "j1", NOON + 1)
        await finished(ledger, "j2", NOON + 2, process="buffer")

        assert [one.id for one in await ledger.expirable("default", before=NOON + 9, limit=5, only=["buffer"])] == [
            "j2"
        ]
        others = await ledger.expirable("default", before=NOON + 9, limit=5, without=["buffer", "none"])
        assert [one.id for one in others] == ["j1"]

    async def test_a_pinned_job_keeps_its_results(self, ledger: Ledger) -> None:
        begun = running("j1")
        await ledger.add(begun)
        await ledger.move(begun.key, Job.pinned)
        await ledger.finish(begun.moved_to("successful", at=NOON + 1))

        assert await ledger.expirable("default", before=NOON + 9, limit=5) == []
        await ledger.move(begun.key, Job.unpinned)
        assert [one.id for one in await ledger.expirable("default", before=NOON + 9, limit=5)] == ["j1"]


async def finished(ledger: Ledger, name: str, at: int, **fields: Any) -> None:
    """Keep a job that was successful."""
    begun = running(name, **fields)
    await ledger.add(begun)
    await ledger.finish(begun.moved_to("successful", at=at))
