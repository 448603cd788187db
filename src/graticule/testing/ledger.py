"""What every ledger promises; subclass ``LedgerContract`` and give a ``ledger`` fixture."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from graticule.errors import IllegalTransition, JobGone, NoSuchJob
from graticule.jobs.job import Job, JobKey
from graticule.jobs.ledger import JobQuery, Ledger, Notice
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


class LedgerContract:
    """Tests of a ledger; they leave nothing that the next one sees."""

    async def test_a_job_is_found_as_it_was_kept(self, ledger: Ledger) -> None:
        kept = job("j1", request=b'{"inputs": {}}', base="http://here", priority=3, label="x")

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

        first = await ledger.claim("a", slots=1, at=NOON, lease=LEASE)
        second = await ledger.claim("b", slots=1, at=NOON, lease=LEASE)

        assert [claimed.id for claimed in first] == ["j1"]
        assert second == []

    async def test_a_claim_gives_a_new_token_and_a_lease(self, ledger: Ledger) -> None:
        await ledger.add(job("j1"))

        (claimed,) = await ledger.claim("a", slots=1, at=NOON, lease=LEASE)

        assert (claimed.status, claimed.agent, claimed.token, claimed.attempts) == ("running", "a", 1, 1)
        assert claimed.lease_end == NOON + LEASE

    async def test_priority_goes_before_age(self, ledger: Ledger) -> None:
        await ledger.add(job("old"))
        await ledger.add(job("urgent", priority=5, created=NOON + 1))
        await ledger.add(job("young", created=NOON + 2))

        claimed = await ledger.claim("a", slots=3, at=NOON + 9, lease=LEASE)

        assert [found.id for found in claimed] == ["urgent", "old", "young"]

    async def test_a_job_is_not_claimed_before_its_time(self, ledger: Ledger) -> None:
        await ledger.add(job("j1", not_before=NOON + 1))

        assert await ledger.claim("a", slots=1, at=NOON, lease=LEASE) == []

    async def test_a_created_job_is_not_claimed_before_it_is_started(self, ledger: Ledger) -> None:
        created = job("j1", status="created", preparation=b"p")
        await ledger.add(created)
        before = (ledger.waiting, await ledger.claim("a", slots=1, at=NOON, lease=LEASE))

        started = await ledger.move(created.key, lambda found: found.moved_to("accepted", at=NOON))
        waiting = ledger.waiting
        (claimed,) = await ledger.claim("a", slots=1, at=NOON, lease=LEASE)

        assert before == (0, [])
        assert (started.status, waiting) == ("accepted", 1)
        assert (claimed.id, claimed.preparation) == ("j1", b"p")

    async def test_waiting_counts_what_waits(self, ledger: Ledger) -> None:
        await ledger.add(job("j1"))
        await ledger.add(job("j2"))
        await ledger.add(running("j3"))
        await ledger.claim("a", slots=1, at=NOON, lease=LEASE)

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
        begun = running("j1")
        await ledger.add(begun)

        await ledger.discard(begun)

        with pytest.raises(NoSuchJob):
            await ledger.get(begun.key)

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

        shown: list[str] = []
        before: int | None = None
        while True:
            page = await ledger.page(JobQuery(workspace="default", limit=3, before=before))
            shown += [found.id for found in page.jobs]
            before = page.next
            if before is None:
                break

        assert shown == ["j6", "j5", "j4", "j3", "j2", "j1", "j0"]

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

        assert await ledger.due(at=NOON, limit=5, without_hosts=["told.example"]) == [other]

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
