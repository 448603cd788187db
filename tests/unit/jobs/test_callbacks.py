"""Subscribers are told how their jobs go, whatever they answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import operator
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from graticule.data.post import ReceiverPolicy, Unsent, post
from graticule.jobs.agent import now
from graticule.jobs.callbacks import Callbacks, Pace
from graticule.jobs.job import Job, NoticeKind
from graticule.jobs.ledger import Advance, News, Notice
from graticule.jobs.ledgers.sqlite import SqliteLedger
from graticule.jobs.subscriptions import Message
from graticule.ogc.processes import Subscriber
from graticule.testing.ledger import NOON, running
from tests.receiver import SECONDS, Receiver, receiver

pytestmark = pytest.mark.anyio

QUICK = Pace(retries=(0.05, 0.05, 0.05), jitter=0, progress=0.3)
HERE = ReceiverPolicy(allow_private_addresses=True, timeout_s=5)
ELSEWHERE = ReceiverPolicy(timeout_s=5)


def document(job: Job, kind: NoticeKind) -> bytes:
    """Write what is enough to tell one news from another."""
    return msgspec.json.encode({"job": job.id, "kind": kind, "status": job.status, "progress": job.progress})


@pytest.fixture
def subscriber() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    found = SqliteLedger(tmp_path / "graticule.db")
    yield found
    await found.close()


@pytest.fixture
async def callbacks(ledger: SqliteLedger) -> AsyncIterator[Callbacks]:
    found = Callbacks(ledger, partial(post, policy=HERE), QUICK)
    found.start(document)
    yield found
    await found.close()


def watched(where: Receiver, name: str = "j1", **paths: str) -> Job:
    """Return a running job whose news go to paths of the receiver."""
    addresses = {member: where.address(path) for member, path in paths.items()}
    return running(name, subscriber=msgspec.msgpack.encode(Subscriber(**addresses)), base="http://here")


async def end(ledger: SqliteLedger, callbacks: Callbacks, begun: Job, status: Any = "successful") -> None:
    """End a running job as an agent does."""
    job = begun.moved_to(status, at=NOON)
    await ledger.finish(job)
    callbacks.ended(job)


async def settled(ledger: SqliteLedger, job: Job, done: Callable[[Notice], bool]) -> Notice:
    """Wait until the notice of a job is as it should be."""
    async with asyncio.timeout(SECONDS):
        while not done(notice := (await ledger.notices_of(job.key))[0]):  # noqa: ASYNC110 - a ledger has no event for it
            await asyncio.sleep(0.01)
    return notice


async def heard(where: Receiver, path: str, times: int = 1) -> list[Any]:
    """Wait until a path was told so many times, and return the documents."""
    return [told.document for told in await asyncio.to_thread(where.wait, path, times)]


# --- the end of a job ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "path", "kind"),
    [("successful", "/success", "success"), ("failed", "/failed", "failed"), ("dismissed", "/failed", "failed")],
)
async def test_the_end_of_a_job_is_told_to_the_address_for_it(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver, status: str, path: str, kind: str
) -> None:
    job = watched(subscriber, success_uri="/success", failed_uri="/failed")
    await ledger.add(job)

    await end(ledger, callbacks, job, status)

    assert [found["kind"] for found in await heard(subscriber, path)] == [kind]
    assert (await settled(ledger, job, lambda notice: notice.status == "delivered")).attempts == 1
    assert len(subscriber.told) == 1


async def test_a_notice_says_what_it_is_and_whose(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver
) -> None:
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)

    await end(ledger, callbacks, job)

    (told,) = await asyncio.to_thread(subscriber.wait, "/success")
    assert told.headers["content-type"] == "application/json"
    assert told.headers["webhook-id"] == "j1_success"
    assert abs(int(told.headers["webhook-timestamp"]) - time.time()) < SECONDS
    assert told.headers["link"] == '<http://here/jobs/j1>; rel="monitor"'


async def test_the_success_address_may_be_spelt_as_in_the_schema_of_1_0(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver
) -> None:
    job = watched(subscriber, success_url="/success")
    await ledger.add(job)

    await end(ledger, callbacks, job)

    assert await heard(subscriber, "/success")


@pytest.mark.parametrize("status", [500, 503, 429, 404, 301, 307])
async def test_what_was_not_taken_is_sent_again(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver, status: int
) -> None:
    subscriber.statuses["/success"] = [status, status]
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)

    await end(ledger, callbacks, job)

    assert (await settled(ledger, job, lambda notice: notice.status == "delivered")).attempts == 3
    assert [told.status for told in subscriber.told] == [status, status, 200]
    assert len({told.headers["webhook-id"] for told in subscriber.told}) == 1


async def test_a_redirect_is_not_followed(ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver) -> None:
    subscriber.statuses["/success"] = [307] * 9
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)

    await end(ledger, callbacks, job)

    await settled(ledger, job, lambda notice: notice.status == "undelivered")
    assert {told.path for told in subscriber.told} == {"/success"}


async def test_after_the_last_attempt_a_notice_is_undelivered_and_the_job_as_it_was(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver
) -> None:
    subscriber.statuses["/success"] = [500] * 9
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)

    await end(ledger, callbacks, job)

    notice = await settled(ledger, job, lambda notice: notice.status == "undelivered")
    assert (notice.attempts, notice.last_error) == (4, "it answered 500")
    assert await ledger.get(job.key) == job.moved_to("successful", at=NOON)


async def test_a_receiver_that_says_gone_is_not_told_again(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver
) -> None:
    subscriber.statuses["/success"] = [410]
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)

    await end(ledger, callbacks, job)

    assert (await settled(ledger, job, lambda notice: notice.status == "undelivered")).attempts == 1


async def test_pauses_grow_from_attempt_to_attempt(ledger: SqliteLedger, subscriber: Receiver) -> None:
    subscriber.statuses["/success"] = [500] * 3
    pace = Pace(retries=(0.1, 0.3, 0.6), jitter=0)
    callbacks = Callbacks(ledger, partial(post, policy=HERE), pace)
    callbacks.start(document)
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)

    await end(ledger, callbacks, job)

    moments = [told.moment for told in await asyncio.to_thread(subscriber.wait, "/success", 4)]
    pauses = [after - before for before, after in itertools.pairwise(moments)]
    assert pauses == sorted(pauses)
    assert all(pause >= least for pause, least in zip(pauses, (0.1, 0.3, 0.6), strict=True))
    await callbacks.close()


async def test_a_notice_that_falls_due_between_two_looks_at_the_clock_is_not_forgotten(
    ledger: SqliteLedger, subscriber: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(NOON, 10_000)  # each look is 10 ms after the one before
    monkeypatch.setattr("graticule.jobs.callbacks.now", lambda: next(ticks))
    subscriber.statuses["/success"] = [500]
    callbacks = Callbacks(ledger, partial(post, policy=HERE), Pace(retries=(0.015,), jitter=0))
    callbacks.start(document)
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)

    await end(ledger, callbacks, job)

    assert (await settled(ledger, job, lambda notice: notice.status == "delivered")).attempts == 2
    await callbacks.close()


async def test_a_private_address_is_not_told_unless_that_is_allowed(ledger: SqliteLedger, subscriber: Receiver) -> None:
    callbacks = Callbacks(ledger, partial(post, policy=ELSEWHERE), QUICK)
    callbacks.start(document)
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)

    await end(ledger, callbacks, job)

    notice = await settled(ledger, job, lambda notice: notice.status == "undelivered")
    assert "private" in notice.last_error
    assert subscriber.told == []
    await callbacks.close()


async def test_what_an_earlier_server_left_is_told_at_start(ledger: SqliteLedger, subscriber: Receiver) -> None:
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)
    await ledger.finish(job.moved_to("successful", at=NOON))

    callbacks = Callbacks(ledger, partial(post, policy=HERE), QUICK)
    callbacks.start(document)

    assert await heard(subscriber, "/success")
    await settled(ledger, job, lambda notice: notice.status == "delivered")
    await callbacks.close()


async def test_what_was_under_way_at_the_end_of_a_server_is_told_by_the_next(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver
) -> None:
    subscriber.delays["/success"] = 0.5
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)
    await end(ledger, callbacks, job)
    await asyncio.sleep(0.1)
    await callbacks.close()
    assert (await ledger.notices_of(job.key))[0].status == "waiting"

    following = Callbacks(ledger, partial(post, policy=HERE), QUICK)
    following.start(document)

    await settled(ledger, job, lambda notice: notice.status == "delivered")
    await following.close()


async def test_a_slow_receiver_keeps_nobody_else_waiting(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver
) -> None:
    with receiver() as other:
        subscriber.delays["/success"] = 1
        slow = [watched(subscriber, f"slow{number}", success_uri="/success") for number in range(20)]
        quick = msgspec.structs.replace(
            watched(other, "quick"),
            subscriber=msgspec.msgpack.encode(Subscriber(success_uri=f"http://localhost:{other.port}/success")),
        )
        for job in (*slow, quick):
            await ledger.add(job)
            await end(ledger, callbacks, job)

        await heard(other, "/success")

        assert subscriber.told == []


async def test_a_host_that_fails_is_left_alone_and_then_asked_once(ledger: SqliteLedger, subscriber: Receiver) -> None:
    subscriber.statuses["/success"] = [500] * 9
    pace = Pace(retries=(0.05,) * 20, jitter=0, failures=3, rest=0.15, gap=0.05, at_once_per_host=1)
    callbacks = Callbacks(ledger, partial(post, policy=HERE), pace)
    jobs = [watched(subscriber, f"j{number}", success_uri="/success") for number in range(10)]
    for job in jobs:
        await ledger.add(job)
        await ledger.finish(job.moved_to("successful", at=now()))
    callbacks.start(document)

    for job in jobs:
        await settled(ledger, job, lambda notice: notice.status == "delivered")

    moments = [told.moment for told in subscriber.told]
    assert [told.status for told in subscriber.told] == [500] * 9 + [200] * 10
    # After the third failure in a row each further one costs a rest, whatever waits; after a success nothing does.
    assert all(pause >= pace.rest * 0.9 for pause in map(operator.sub, moments[3:10], moments[2:9]))
    assert moments[-1] - moments[9] < 2
    await callbacks.close()


async def test_no_notice_for_a_dead_host_is_given_up_without_a_request_of_its_own(
    ledger: SqliteLedger, subscriber: Receiver
) -> None:
    subscriber.statuses["/success"] = [503] * 999
    counted: Counter[str] = Counter()
    pace = Pace(retries=(0.05,) * 3, jitter=0, failures=3, rest=0.2, gap=0.02)
    callbacks = Callbacks(ledger, partial(post, policy=HERE), pace, count=lambda status: counted.update([status]))
    jobs = [watched(subscriber, f"j{number:02}", success_uri="/success") for number in range(30)]
    for job in jobs:
        await ledger.add(job)
        await ledger.finish(job.moved_to("successful", at=now()))
    callbacks.start(document)

    for job in jobs:
        notice = await settled(ledger, job, lambda notice: notice.status == "undelivered")
        assert (notice.attempts, notice.last_error) == (4, "it answered 503")

    asked = Counter(told.document["job"] for told in subscriber.told)
    assert set(asked) == {job.id for job in jobs}
    assert sum(asked.values()) < 60  # of 120 attempts, most of which cost it nothing
    moments = [told.moment for told in subscriber.told][10:]
    assert all(after - before >= pace.gap * 0.9 for before, after in itertools.pairwise(moments))
    assert counted == {"waiting": 90, "undelivered": 30}
    await callbacks.close()


async def test_a_dead_receiver_is_no_trouble_of_another_one_on_the_same_host(
    ledger: SqliteLedger, subscriber: Receiver
) -> None:
    pace = Pace(retries=(60,), jitter=0, failures=1, rest=60)
    with receiver() as dead:
        dead.statuses["/success"] = [500]
        callbacks = Callbacks(ledger, partial(post, policy=HERE), pace)
        callbacks.start(document)
        for where, name in ((dead, "dead"), (subscriber, "well")):
            job = watched(where, name, success_uri="/success")
            await ledger.add(job)
            await end(ledger, callbacks, job)
            await heard(where, "/success")

        assert (await settled(ledger, job, lambda notice: notice.status == "delivered")).attempts == 1
        await callbacks.close()


async def test_notices_that_an_older_version_left_are_told(
    ledger: SqliteLedger, subscriber: Receiver, tmp_path: Path
) -> None:
    jobs = [watched(subscriber, f"j{number}", success_uri="/success") for number in range(9)]
    subscriber.statuses["/success"] = [503] * 4
    for job in jobs:
        await ledger.add(job)
        await ledger.finish(job.moved_to("successful", at=now()))
    with contextlib.closing(sqlite3.connect(tmp_path / "graticule.db")) as database, database:
        kept = {row[0] for row in database.execute("SELECT host FROM outbox")}
        database.execute("UPDATE outbox SET host='127.0.0.1'")
    pace = Pace(retries=(0.05,) * 9, jitter=0, failures=2, rest=0.1, gap=0.02, at_once=4)
    callbacks = Callbacks(ledger, partial(post, policy=HERE), pace)
    callbacks.start(document)

    for job in jobs:
        await settled(ledger, job, lambda notice: notice.status == "delivered")

    assert kept == {f"127.0.0.1:{subscriber.port}"}
    await callbacks.close()


async def test_an_undelivered_notice_is_sent_again_when_somebody_asks(
    ledger: SqliteLedger, subscriber: Receiver
) -> None:
    subscriber.statuses["/success"] = [500] * 2
    callbacks = Callbacks(ledger, partial(post, policy=HERE), Pace(retries=(0.05,), jitter=0, failures=2, rest=60))
    callbacks.start(document)
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)
    await end(ledger, callbacks, job)
    given_up = await settled(ledger, job, lambda notice: notice.status == "undelivered")

    again = await callbacks.send_again(given_up)

    assert (again.status, again.attempts) == ("waiting", 0)
    assert (await settled(ledger, job, lambda notice: notice.status == "delivered")).attempts == 1
    assert len({told.headers["webhook-id"] for told in subscriber.told}) == 1
    await callbacks.close()


async def test_what_cannot_be_authorized_is_not_sent_and_its_host_is_not_blamed(
    ledger: SqliteLedger, subscriber: Receiver
) -> None:
    async def authorize(job: Job, message: Message) -> dict[str, str]:
        if job.id.startswith("bad"):
            raise Unsent("its profile is gone")
        return {"webhook-signature": f"{message.id} {message.body.decode()}"}

    pace = Pace(retries=(), failures=1, rest=60)
    callbacks = Callbacks(ledger, partial(post, policy=HERE), pace, authorize=authorize)
    callbacks.start(document)
    for name in ("bad", "good"):
        job = watched(subscriber, name, success_uri="/success")
        await ledger.add(job)
        await end(ledger, callbacks, job)

    bad = watched(subscriber, "bad", success_uri="/success")
    assert (await settled(ledger, bad, lambda notice: notice.attempts > 0)).last_error == "its profile is gone"
    (told,) = await asyncio.to_thread(subscriber.wait, "/success")
    assert told.headers["webhook-signature"].startswith("good_success {")
    await callbacks.close()


async def test_a_removed_job_is_not_told_of(ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver) -> None:
    subscriber.statuses["/success"] = [500]
    job = watched(subscriber, success_uri="/success")
    await ledger.add(job)
    await end(ledger, callbacks, job)
    await heard(subscriber, "/success")

    await ledger.remove(job.key)

    await asyncio.sleep(0.2)
    assert len(subscriber.told) == 1


# --- progress --------------------------------------------------------------------------------------------------------


def at(job: Job, progress: int) -> Job:
    return msgspec.structs.replace(job, progress=progress, revision=job.revision + progress)


async def test_progress_is_told_at_the_start_and_at_each_step(callbacks: Callbacks, subscriber: Receiver) -> None:
    job = watched(subscriber, in_progress_uri="/progress")
    callbacks.began(job)
    await heard(subscriber, "/progress")

    for times, percent in ((2, 10), (3, 20), (4, 45)):
        callbacks.progressed(at(job, percent - 1))  # less than a step: the next one comes before its time
        callbacks.progressed(at(job, percent))
        await heard(subscriber, "/progress", times)

    assert [told.document["progress"] for told in subscriber.at("/progress")] == [0, 10, 20, 45]


async def test_a_job_that_does_not_come_on_is_told_of_once_only(callbacks: Callbacks, subscriber: Receiver) -> None:
    callbacks.began(watched(subscriber, in_progress_uri="/progress"))

    await asyncio.sleep(2 * QUICK.progress)

    assert len(subscriber.told) == 1


async def test_small_progress_is_told_after_a_pause_the_latest_alone(
    callbacks: Callbacks, subscriber: Receiver
) -> None:
    job = watched(subscriber, in_progress_uri="/progress")
    callbacks.began(job)
    await heard(subscriber, "/progress")

    for percent in range(1, 10):
        callbacks.progressed(at(job, percent))
    await heard(subscriber, "/progress", 2)
    await asyncio.sleep(2 * QUICK.progress)

    first, second = subscriber.at("/progress")
    assert [first.document["progress"], second.document["progress"]] == [0, 9]
    assert second.moment - first.moment >= QUICK.progress * 0.9


async def test_the_end_is_told_after_the_progress_that_is_under_way(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver
) -> None:
    subscriber.delays["/progress"] = 0.4
    job = watched(subscriber, in_progress_uri="/progress", success_uri="/success")
    await ledger.add(job)
    callbacks.began(job)
    await asyncio.sleep(0.1)
    callbacks.progressed(at(job, 50))

    await end(ledger, callbacks, job)

    await heard(subscriber, "/success")
    assert [told.path for told in subscriber.told] == ["/progress", "/success"]


async def test_progress_after_the_end_is_not_told(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver
) -> None:
    job = watched(subscriber, in_progress_uri="/progress", success_uri="/success")
    await ledger.add(job)
    callbacks.began(job)
    await heard(subscriber, "/progress")
    await end(ledger, callbacks, job)
    await heard(subscriber, "/success")

    callbacks.progressed(at(job, 50))

    await asyncio.sleep(2 * QUICK.progress)
    assert [told.path for told in subscriber.told] == ["/progress", "/success"]


async def test_progress_that_nobody_takes_is_not_sent_again(callbacks: Callbacks, subscriber: Receiver) -> None:
    subscriber.statuses["/progress"] = [500]
    job = watched(subscriber, in_progress_uri="/progress")

    callbacks.began(job)

    await heard(subscriber, "/progress")
    await asyncio.sleep(2 * QUICK.progress)
    assert len(subscriber.told) == 1


# --- progress of jobs that other processes run -----------------------------------------------------------------------


def advanced(job: Job, progress: int) -> News:
    """Return what another process tells of a job that has come so far."""
    further = msgspec.structs.replace(job, progress=progress, updated=job.updated + progress)
    return News("advanced", job.key, Advance.of(further))


async def test_who_leads_tells_of_a_job_that_another_process_runs(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver
) -> None:
    job = watched(subscriber, in_progress_uri="/progress", success_uri="/success")
    await ledger.add(job)
    for times, percent in ((1, 10), (2, 20), (3, 40)):
        callbacks.hear(advanced(job, percent))
        await heard(subscriber, "/progress", times)
    await ledger.finish(job.moved_to("successful", at=NOON))

    callbacks.hear(News("ended", job.key))
    callbacks.hear(advanced(job, 60))

    await heard(subscriber, "/success")
    await asyncio.sleep(0.1)
    callbacks.hear(advanced(job, 80))
    await asyncio.sleep(2 * QUICK.progress)
    assert [told.document["progress"] for told in subscriber.told] == [10, 20, 40, 100]
    assert [told.path for told in subscriber.told][-1] == "/success"
    assert len({told.headers["webhook-id"] for told in subscriber.told}) == 4


async def test_a_job_that_ends_while_it_is_looked_at_is_told_of_by_its_end_alone(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver
) -> None:
    job = watched(subscriber, in_progress_uri="/progress", success_uri="/success")
    await ledger.add(job)
    kept = ledger.finish(job.moved_to("successful", at=NOON))

    callbacks.hear(advanced(job, 10))
    callbacks.hear(News("ended", job.key))
    await kept
    callbacks.hear(News("ended", job.key))

    await heard(subscriber, "/success")
    await asyncio.sleep(2 * QUICK.progress)
    assert [told.path for told in subscriber.told] == ["/success"]


async def test_a_job_that_was_begun_anew_elsewhere_is_told_of_as_it_is_then(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver
) -> None:
    job = watched(subscriber, in_progress_uri="/progress")
    await ledger.add(job)
    callbacks.hear(advanced(job, 50))
    await heard(subscriber, "/progress")
    waiting = await ledger.move(job.key, lambda job: job.moved_to("accepted", at=NOON, progress=0))
    again = await ledger.move(job.key, lambda job: job.moved_to("running", at=NOON))

    callbacks.hear(advanced(again, 5))

    documents = await heard(subscriber, "/progress", 2)
    assert waiting.token < again.token
    assert [document["progress"] for document in documents] == [50, 5]


async def test_who_does_not_lead_tells_nobody_of_progress(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = watched(subscriber, "own", in_progress_uri="/own")
    other = watched(subscriber, "other", in_progress_uri="/other")
    await ledger.add(own)
    await ledger.add(other)
    with monkeypatch.context() as follower:
        follower.setattr(ledger, "leads", False)
        callbacks.began(own)
        callbacks.progressed(at(own, 20))
        callbacks.hear(advanced(other, 20))
        await asyncio.sleep(0.2)
    before = list(subscriber.told)

    callbacks.progressed(msgspec.structs.replace(at(own, 25), updated=own.updated + 1))
    callbacks.hear(advanced(other, 25))

    assert before == []
    assert [(await heard(subscriber, path))[0]["progress"] for path in ("/own", "/other")] == [25, 25]


async def test_who_may_have_lost_the_lead_tells_of_nothing_until_there_are_news(
    ledger: SqliteLedger, callbacks: Callbacks, subscriber: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = watched(subscriber, in_progress_uri="/progress")
    await ledger.add(job)
    callbacks.hear(advanced(job, 10))
    await heard(subscriber, "/progress")

    callbacks.hear(advanced(job, 12))  # it would be told after a while
    callbacks.hear(News("missed"))
    await asyncio.sleep(2 * QUICK.progress)
    before = len(subscriber.told)
    callbacks.hear(advanced(job, 30))

    assert before == 1
    assert [document["progress"] for document in await heard(subscriber, "/progress", 2)] == [10, 30]


async def test_news_of_jobs_that_nobody_subscribed_to_are_not_for_who_leads(subscriber: Receiver) -> None:
    silent = watched(subscriber, success_uri="/success")

    assert not Advance.of(running("j2")).told
    assert not Advance.of(silent).told
    assert Advance.of(watched(subscriber, in_progress_uri="/progress")).told
