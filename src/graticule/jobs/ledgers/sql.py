"""What the ledgers on SQL databases share: one thread writes, in groups.

The thread owns the writing connection. It takes whatever has queued up, applies it in one transaction and then resolves
the futures, so that a hundred changes cost one flush of the disk. The statements on a job's path are the same for every
database; what differs stands in the subclasses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from graticule.data.post import receiver_of
from graticule.errors import DuplicateJob, GraticuleError, JobGone, LedgerUnavailable, NoSuchJob, TooManyJobs
from graticule.jobs.holds import Hold
from graticule.jobs.job import Job, JobKey
from graticule.jobs.ledger import (
    Advance,
    AgentRecord,
    Claim,
    Cursor,
    Found,
    JobQuery,
    News,
    Notice,
    Page,
    Profile,
    Room,
)
from graticule.jobs.outage import Outage
from graticule.jobs.queue import Head, Lane, Load, choose, lane_of, parse_lane

Connection = Any
"""A connection with ``execute(sql, values)`` that returns a cursor; values stand for question marks."""

COLUMNS = Job.__struct_fields__
SELECT = f"SELECT {', '.join(COLUMNS)} FROM jobs"
_STORED = (*COLUMNS, "lane")
_REPLACE = f"UPDATE jobs SET {', '.join(f'{column}=?' for column in _STORED)} WHERE id=? AND revision=?"
_ROW = f"({', '.join('?' * len(_STORED))})"
_FINISHED = (
    "id", "token", "status", "finished", "updated", "progress", "message", "manifest", "failure", "log_bytes",
)  # fmt: skip
_FINISH_ROW = f"({', '.join('?' * len(_FINISHED))})"
_SIZES = (32, 8, 1)
"""Rows of one statement: few sizes, so that the prepared statements are found again."""
_LANES = (
    "WITH RECURSIVE lanes(lane) AS (SELECT min(lane) FROM jobs WHERE status='accepted' UNION ALL SELECT (SELECT"
    " min(jobs.lane) FROM jobs WHERE status='accepted' AND jobs.lane>lanes.lane) FROM lanes WHERE lanes.lane IS NOT"
    " NULL) SELECT lane FROM lanes WHERE lane IS NOT NULL"
)
"""Each lane once, by as many steps in the index as there are lanes."""
_KEYED = "workspace=? AND actor=? AND idempotency_key<>''"
_MOVED_AWAY = (
    f"WITH RECURSIVE keyed(process) AS (SELECT min(process) FROM jobs WHERE {_KEYED} UNION ALL SELECT (SELECT"
    f" min(jobs.process) FROM jobs WHERE {_KEYED} AND jobs.process>keyed.process) FROM keyed WHERE keyed.process IS NOT"
    f" NULL) {SELECT} WHERE {_KEYED} AND process IN (SELECT process FROM keyed) AND idempotency_key=?"
)
"""The job of a key wherever it went, by as many steps in the index as the actor has processes."""
_WAITING = "SELECT lane, count(*) FROM jobs WHERE status='accepted' GROUP BY lane"
_HEADS = "SELECT created, seq FROM jobs WHERE status='accepted' AND lane=? AND not_before<=? ORDER BY seq LIMIT ?"
_LOAD = "SELECT workspace, actor, process, count(*) FROM jobs WHERE status='running' GROUP BY workspace, actor, process"
_TAKE = (
    "UPDATE jobs SET status='running', agent=?, token=?, attempts=?, started=?, updated=?, lease_end=?, message='',"
    " revision=revision+1 WHERE id=? AND status='accepted'"
)
_UNSUCCESSFUL = "status<>'successful'"
"""The condition of an index: jobs that wait or run, or ended otherwise, are few beside those that ended well."""
_NEWEST_FIRST = "ORDER BY created DESC, seq DESC"
_NOTICE = Notice.__struct_fields__
_NOTICES = f"SELECT {', '.join(_NOTICE)} FROM outbox"
_NOTIFY = (
    "INSERT INTO outbox (workspace, job, kind, address, host, status, created, updated, not_before, attempts,"
    " last_error) VALUES (?, ?, ?, ?, ?, 'waiting', ?, ?, ?, 0, '') ON CONFLICT DO NOTHING"
)
_NOTE = "UPDATE outbox SET status=?, updated=?, not_before=?, attempts=?, last_error=? WHERE seq=? AND job=?"
_AGENT = AgentRecord.__struct_fields__
_REPORT = (
    f"INSERT INTO agents ({', '.join(_AGENT)}) VALUES ({', '.join('?' * len(_AGENT))}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name}=excluded.{name}" for name in _AGENT if name != "id")
)
_HOLD = "hold "
"""What the names of marks begin with that say what is held back."""
_PROFILE = Profile.__struct_fields__
_KEEP_PROFILE = (
    f"INSERT INTO notification_profiles ({', '.join(_PROFILE)}) VALUES ({', '.join('?' * len(_PROFILE))})"
    " ON CONFLICT (workspace, actor, name)"
    " DO UPDATE SET type=excluded.type, sealed=excluded.sealed, updated=excluded.updated"
)
_THIS_PROFILE = "WHERE workspace=? AND actor=? AND name=?"
_PAUSE = 0.0004
"""Seconds that the writer waits for more changes if it has fewer than the last time: half as many groups to flush."""
_GROUP = 256
"""Changes in one transaction at most: bounds how long the first of them waits."""
_TROUBLED_S = 5.0
"""Seconds for which a failure to write is told of, though a smaller one succeeded since, as on a disk that is full."""

_log = logging.getLogger("graticule.ledger")
_T = TypeVar("_T", bound=msgspec.Struct)


class Change:
    """One change that waits to be written."""

    __slots__ = ("apply", "early", "error", "future", "job", "kind", "result", "room")

    def __init__(
        self, future: asyncio.Future[Any], kind: str, what: Any, *, early: bool = False, room: Room | None = None
    ) -> None:
        self.kind = kind
        """``add``, ``take``, ``finish`` or ``discard`` of one job; else ``claim`` or ``other``, a function."""
        self.job: Job = what
        self.apply: Callable[[Connection], Any] = what
        self.future = future
        self.early = early
        self.room = room
        """How many jobs may wait, where this may make one more do so."""
        self.result: Any = None
        self.error: Exception | None = None


class _Batch:
    """The changes of single jobs in a group, folded and written in as few statements as possible.

    A job that came and ended within one group is written once, in its last state: that is every short job under load,
    since the group before it is still on its way to the disk. Fewer statements also mean fewer times that the writer
    and the event loop take turns.
    """

    def __init__(self, tell: Callable[[News], None] | None) -> None:
        self._tell = tell
        """Told what others must know; None: there are no others."""
        self._adds: dict[str, list[Change]] = {}
        self._takes: list[Change] = []
        self._finishes: list[Change] = []

    def fold(self, change: Change) -> bool:
        """Take a change in; False when it needs what came before it to be written first."""
        added = self._adds.get(change.job.id)
        if change.kind == "add":
            self._adds[change.job.id] = [change]
        elif change.kind == "discard":
            if added is None:
                return False
            del self._adds[change.job.id]
            change.result = True
        elif added is not None:
            added.append(change)
            change.result = change.kind == "finish"
        elif change.kind == "take":
            self._takes.append(change)
        else:
            self._finishes.append(change)
        return True

    def write(self, db: Connection) -> None:
        """Write what was taken in, and begin anew."""
        for part in _parts(list(self._adds.values())):
            _insert(db, part)
            _notify(db, [changes[-1].job for changes in part if changes[-1].job.subscriber and not changes[-1].error])
        for change in self._takes:
            job = change.job
            db.execute(_TAKE, (job.agent, job.token, job.attempts, job.started, job.updated, job.lease_end, job.id))
        for ended in _parts(self._finishes):
            _finish(db, ended)
            _notify(db, [change.job for change in ended if change.job.subscriber and change.result])
        if self._tell is not None:
            for changes in self._adds.values():
                _tell_state(self._tell, changes[-1].job)
            for change in self._finishes:
                _tell_state(self._tell, change.job)
        self._adds, self._takes, self._finishes = {}, [], []


def _parts(changes: list[Any]) -> Iterator[list[Any]]:
    """Cut a list into parts of the sizes that there are statements for."""
    start = 0
    for size in _SIZES:
        while len(changes) - start >= size:
            yield changes[start : start + size]
            start += size


def _insert(db: Connection, added: list[list[Change]]) -> None:
    """Insert jobs, each in the last state that its changes gave it; one that is there already spoils only itself."""
    sql = (
        f"INSERT INTO jobs ({', '.join(_STORED)}) VALUES {', '.join([_ROW] * len(added))}"
        " ON CONFLICT DO NOTHING RETURNING id"
    )
    values = [value for changes in added for value in _row(changes[-1].job)]
    written = {row[0] for row in db.execute(sql, values).fetchall()}
    if len(written) < len(added):
        for changes in added:
            job = changes[-1].job
            if job.id not in written and not _holds(db, job):
                for change in changes:
                    change.error = DuplicateJob(job.id, job.idempotency_key)


def _holds(db: Connection, job: Job) -> bool:
    """Return whether a job is kept exactly so: a change that was written, only nobody learnt of it, is not repeated."""
    row = db.execute(f"{SELECT} WHERE id=?", (job.id,)).fetchone()
    return row is not None and _job(row) == job


def _finish(db: Connection, ended: list[Change]) -> None:
    """Write the ends of jobs whose token is still the newest."""
    sql = (
        "UPDATE jobs SET status=v.column3, finished=v.column4, updated=v.column5, progress=v.column6,"
        " message=v.column7, manifest=v.column8, failure=v.column9, log_bytes=v.column10, revision=jobs.revision+1"
        f" FROM (VALUES {', '.join([_FINISH_ROW] * len(ended))}) AS v"
        " WHERE jobs.id=v.column1 AND jobs.token=v.column2 AND jobs.status='running' RETURNING jobs.id"
    )
    values = [getattr(change.job, name) for change in ended for name in _FINISHED]
    written = {row[0] for row in db.execute(sql, values).fetchall()}
    for change in ended:
        job = change.job
        change.result = job.id in written
        if not change.result:
            row = db.execute("SELECT status, token, finished FROM jobs WHERE id=?", (job.id,)).fetchone()
            if row is not None and tuple(row) == (job.status, job.token, job.finished):
                change.result = True  # it was written, only nobody learnt of it
            elif row is not None and row[0] == "dismissed":
                # Dismissed meanwhile: what it had printed until then is kept all the same.
                db.execute("UPDATE jobs SET log_bytes=? WHERE id=?", (job.log_bytes, job.id))


def _lanes(db: Connection) -> Counter[Lane]:
    """Return how many jobs wait in each lane."""
    return Counter({parse_lane(name): count for name, count in db.execute(_WAITING, ()).fetchall()})


def _makes_room(db: Connection, change: Change, waiting: Counter[Lane]) -> bool:
    """Count a new job among those that wait; False if it may not be one of them, which is then its error."""
    assert change.room is not None
    job = change.job
    try:
        change.room.check(waiting, job.workspace, job.actor)
    except TooManyJobs as error:
        if not _holds(db, job):  # else it was written, only nobody learnt of it
            change.error = error
        return False
    waiting[Lane.of(job)] += 1
    return True


def _renew(db: Connection, running: list[Job]) -> set[str]:
    """Lengthen leases; return the jobs that are still held."""
    sql = (
        "UPDATE jobs SET lease_end=v.column3, progress=v.column4, message=v.column5, updated=v.column6,"
        f" revision=jobs.revision+1 FROM (VALUES {', '.join(['(?, ?, ?, ?, ?, ?)'] * len(running))}) AS v"
        " WHERE jobs.id=v.column1 AND jobs.token=v.column2 AND jobs.status='running' RETURNING jobs.id"
    )
    values = [
        value for job in running for value in (job.id, job.token, job.lease_end, job.progress, job.message, job.updated)
    ]
    return {row[0] for row in db.execute(sql, values).fetchall()}


def _tell_state(tell: Callable[[News], None], job: Job) -> None:
    """Tell what others must know of a job that has come into its status."""
    if job.status == "accepted":
        tell(News("waiting", job.key))
    elif job.ended:
        tell(News("ended", job.key))


def _notify(db: Connection, jobs: Iterable[Job]) -> None:
    """Put the notices of jobs that have just ended into the outbox, in the transaction that ended them."""
    for job in jobs:
        notice = job.end_notice() if job.ended else None
        if notice is not None:
            kind, address = notice
            host, at = receiver_of(address), job.finished
            db.execute(_NOTIFY, (job.workspace, job.id, kind, address, host, at, at, at))


class SqlLedger(ABC):
    """A ledger in a SQL database, written by one thread of this process."""

    shared = False
    _lock = ""
    """Ends a SELECT whose rows are about to be changed."""
    _lock_free = ""
    """The same, leaving out the rows that somebody else changes now."""
    _few = ""
    """Follows the table where only jobs that are not successful are wanted, for a planner that counts no rows."""
    _refused: tuple[type[Exception], ...] = (GraticuleError,)
    """What is raised when one change cannot be made, whatever else is in its group."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[list[Change] | None] = queue.SimpleQueue()
        self._gathered: list[Change] = []
        self._waiting = 0
        self._hear: Callable[[News], None] | None = None
        self._news: list[News] = []
        self._failed = (float("-inf"), "")
        self._unwritten = Outage(_log, "the ledger cannot be written")
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)

    # --- what differs -----------------------------------------------------------------------------------------------

    @abstractmethod
    def clock(self) -> int: ...

    @abstractmethod
    async def set_clock(self) -> None: ...

    @abstractmethod
    def _write_group(self, apply: Callable[[Connection], None]) -> None:
        """Have a function make its changes in one transaction, durable on return; raises LedgerUnavailable.

        The function may be called again if the first time came to nothing.
        """

    @abstractmethod
    def _publish(self, news: list[News]) -> None:
        """Tell other processes what has happened, if anything; called by the thread that writes, after a group."""

    @abstractmethod
    async def _read(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Return the rows of a SELECT."""

    # --- changes ----------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def trouble(self) -> str:
        at, reason = self._failed
        return reason if time.monotonic() - at < _TROUBLED_S else ""

    def listen(self, hear: Callable[[News], None]) -> None:
        self._hear = hear

    def add(self, job: Job, room: Room | None = None) -> asyncio.Future[None]:
        if job.status != "accepted":
            return self._put("add", job)
        self._waiting += 1
        kept = self._put("add", job, room=room)
        if room is not None:
            kept.add_done_callback(self._added)
        return kept

    def _added(self, kept: asyncio.Future[None]) -> None:
        if kept.cancelled() or kept.exception() is not None:
            self._waiting -= 1

    def finish(self, job: Job) -> asyncio.Future[bool]:
        return self._put("finish", job)

    def discard(self, job: Job) -> asyncio.Future[bool]:
        return self._put("discard", job)

    def claim(self, claim: Claim) -> asyncio.Future[list[Job]]:
        # Early where nobody else claims: the owner's job processes die with it, so the work may begin at once.
        early = not self.shared
        future = self._change(lambda db: _claim(db, claim, self._lock_free), early=early, kind="claim")
        future.add_done_callback(lambda done: self._took(done, claim))
        return future

    def _took(self, future: asyncio.Future[list[Job]], claim: Claim) -> None:
        if not future.cancelled() and future.exception() is None:
            self._waiting -= len(future.result())

    def take(self, job: Job) -> asyncio.Future[None]:
        self._waiting -= 1
        return self._put("take", job)

    def tell(self, running: Sequence[Job]) -> asyncio.Future[None]:
        news = [News("advanced", job.key, Advance.of(job)) for job in running]
        return self._change(lambda _: self._news.extend(news))

    def renew(self, running: Sequence[Job]) -> asyncio.Future[list[str]]:
        def apply(db: Connection) -> list[str]:
            held: set[str] = set()
            for part in _parts(list(running)):
                held |= _renew(db, part)
            return [job.id for job in running if job.id not in held]

        return self._change(apply)

    def move(self, key: JobKey, change: Callable[[Job], Job], room: Room | None = None) -> asyncio.Future[Job]:
        def apply(db: Connection) -> tuple[Job, Job]:
            before = self._find_to_change(db, key)
            after = change(before)
            if room is not None and after.status == "accepted" != before.status:
                room.check(_lanes(db), after.workspace, after.actor)
            self._replace(db, before, after)
            return before, after

        moved: asyncio.Future[Job] = self._loop.create_future()

        def done(future: asyncio.Future[tuple[Job, Job]]) -> None:
            if moved.cancelled():
                return
            if (error := future.exception()) is not None:
                moved.set_exception(error)
                return
            before, after = future.result()
            self._waiting += (after.status == "accepted") - (before.status == "accepted")
            moved.set_result(after)

        self._change(apply, room=room).add_done_callback(done)
        return moved

    def remove(self, key: JobKey) -> asyncio.Future[None]:
        def apply(db: Connection) -> None:
            db.execute("DELETE FROM jobs WHERE id=? AND workspace=?", (key.id, key.workspace))
            db.execute("DELETE FROM outbox WHERE job=? AND workspace=?", (key.id, key.workspace))
            db.execute(
                "INSERT INTO removed_jobs (id, workspace, removed) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (key.id, key.workspace, self.clock()),
            )

        return self._change(apply)

    def reap(self, change: Callable[[Job], Job], *, before: int | None) -> asyncio.Future[list[Job]]:
        due = "status='running'"
        if before is None:  # a sync job that waits was the earlier owner's: nobody waits for it, or will ask for it
            due = "(status='running' OR (status='accepted' AND sync=1 AND idempotency_key=''))"
        values = () if before is None else (before,)
        limit = "" if before is None else " AND lease_end<? ORDER BY seq LIMIT 256"

        def apply(db: Connection) -> list[tuple[Job, Job]]:
            touched = []
            for found in db.execute(f"{SELECT} WHERE {due}{limit}{self._lock_free}", values).fetchall():
                lost = _job(found)
                after = change(lost)
                self._replace(db, lost, after)
                touched.append((lost, after))
            return touched

        reaped: asyncio.Future[list[Job]] = self._loop.create_future()

        def done(future: asyncio.Future[list[tuple[Job, Job]]]) -> None:
            if reaped.cancelled():
                return
            if (error := future.exception()) is not None:
                reaped.set_exception(error)
                return
            statuses = Counter[str]()
            for lost, after in future.result():
                statuses[after.status] += 1
                statuses[lost.status] -= 1
            self._waiting += statuses["accepted"]
            reaped.set_result([after for _, after in future.result()])

        self._change(apply).add_done_callback(done)
        return reaped

    def note(self, notice: Notice) -> asyncio.Future[None]:
        values = (
            notice.status, notice.updated, notice.not_before, notice.attempts, notice.last_error, notice.seq, notice.job
        )  # fmt: skip

        def apply(db: Connection) -> None:
            db.execute(_NOTE, values)
            if self.shared and notice.status == "waiting":
                self._news.append(News("ended", notice.key))  # whoever delivers must look

        return self._change(apply)

    def keep_profile(self, profile: Profile) -> asyncio.Future[bool]:
        def apply(db: Connection) -> bool:
            key = (profile.workspace, profile.actor, profile.name)
            known = db.execute(f"SELECT 1 FROM notification_profiles {_THIS_PROFILE}", key).fetchone()
            db.execute(_KEEP_PROFILE, msgspec.structs.astuple(profile))
            return known is None

        return self._change(apply)

    def drop_profile(self, workspace: str, actor: str, name: str) -> asyncio.Future[bool]:
        sql, key = f"DELETE FROM notification_profiles {_THIS_PROFILE}", (workspace, actor, name)
        return self._change(lambda db: db.execute(sql, key).rowcount > 0)

    def report(self, agent: AgentRecord) -> asyncio.Future[None]:
        values = msgspec.structs.astuple(agent)
        return self._change(lambda db: db.execute(_REPORT, values) and None)

    def leave(self, agent: str) -> asyncio.Future[None]:
        def apply(db: Connection) -> None:
            db.execute("DELETE FROM agents WHERE id=?", (agent,))
            held = db.execute("DELETE FROM marks WHERE name=?", (f"{_HOLD}worker:{agent}",)).rowcount
            if held and self.shared:
                self._news.append(News("held"))

        return self._change(apply)

    def hold(self, hold: Hold) -> asyncio.Future[None]:
        return self._change_hold(
            "INSERT INTO marks (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value=excluded.value",
            (f"{_HOLD}{hold.scope}", msgspec.json.encode(hold).decode()),
        )

    def release(self, scope: str) -> asyncio.Future[None]:
        return self._change_hold("DELETE FROM marks WHERE name=?", (f"{_HOLD}{scope}",))

    def _change_hold(self, sql: str, values: tuple[str, ...]) -> asyncio.Future[None]:
        def apply(db: Connection) -> None:
            db.execute(sql, values)
            if self.shared:
                self._news.append(News("held"))

        return self._change(apply)

    def mark(self, name: str, value: str) -> asyncio.Future[str]:
        def apply(db: Connection) -> str:
            db.execute("INSERT INTO marks (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, value))
            return str(db.execute("SELECT value FROM marks WHERE name=?", (name,)).fetchone()[0])

        return self._change(apply)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def get(self, key: JobKey) -> Job:
        rows = await self._read(f"{SELECT} WHERE id=? AND workspace=?", (key.id, key.workspace))
        if rows:
            return _job(rows[0])
        gone = await self._read("SELECT 1 FROM removed_jobs WHERE id=? AND workspace=?", (key.id, key.workspace))
        raise JobGone(key.id) if gone else NoSuchJob(key.id)

    async def find_same(self, job: Job) -> Job | None:
        sql = f"{SELECT} WHERE workspace=? AND actor=? AND process=? AND idempotency_key=? AND idempotency_key<>''"
        rows = await self._read(sql, (job.workspace, job.actor, job.process, job.idempotency_key))
        if not rows and job.idempotency_key:
            owner = (job.workspace, job.actor)
            rows = await self._read(_MOVED_AWAY, (*owner, *owner, *owner, f"{job.idempotency_key} {job.process}"))
        return _job(rows[0]) if rows else None

    async def page(self, query: JobQuery) -> Page:
        where, values = _conditions(query)
        source = f"jobs{self._few}" if _UNSUCCESSFUL in where else "jobs"
        sql = f"SELECT seq, {', '.join(COLUMNS)} FROM {source} WHERE {' AND '.join(where)} {_NEWEST_FIRST} LIMIT ?"
        rows = await self._read(sql, (*values, query.limit + 1))
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        jobs = [_job(row[1:]) for row in rows]
        return Page(jobs, Cursor(jobs[-1].created, rows[-1][0]) if more else None)

    async def find(self, query: JobQuery) -> list[Found]:
        where, values = _conditions(query)
        sql = f"SELECT created, seq, id, status FROM jobs WHERE {' AND '.join(where)} {_NEWEST_FIRST} LIMIT ?"
        rows = await self._read(sql, (*values, query.limit))
        return [Found(Cursor(created, seq), *others) for created, seq, *others in rows]

    async def expirable(
        self, workspace: str, *, before: int, limit: int, only: Sequence[str] = (), without: Sequence[str] = ()
    ) -> list[Job]:
        conditions = "".join(
            f" AND process {word} ({', '.join('?' * len(names))})"
            for word, names in (("IN", only), ("NOT IN", without))
            if names
        )
        sql = (
            f"{SELECT} WHERE workspace=? AND finished<? AND status='successful'"
            f" AND (keeping='' OR keeping='expiring'){conditions} ORDER BY finished LIMIT ?"
        )
        return [_job(row) for row in await self._read(sql, (workspace, before, *only, *without, limit))]

    async def lanes(self) -> dict[Lane, int]:
        rows = await self._read(_WAITING, ())
        return {parse_lane(name): count for name, count in rows}

    async def before_in_lane(self, job: Job) -> int:
        sql = (
            "SELECT count(*) FROM jobs WHERE status='accepted' AND lane=?"
            " AND seq<(SELECT seq FROM jobs AS this WHERE this.id=?)"
        )
        rows = await self._read(sql, (lane_of(job), job.id))
        return int(rows[0][0])

    async def due(self, *, at: int, limit: int, without_hosts: Collection[str] = ()) -> list[Notice]:
        elsewhere = f" AND host NOT IN ({', '.join('?' * len(without_hosts))})" if without_hosts else ""
        sql = f"{_NOTICES} WHERE status='waiting' AND not_before<=?{elsewhere} ORDER BY not_before LIMIT ?"
        return [_read_as(Notice, row) for row in await self._read(sql, (at, *without_hosts, limit))]

    async def next_due(self, *, after: int) -> int | None:
        sql = "SELECT min(not_before) FROM outbox WHERE status='waiting' AND not_before>?"
        moment: int | None = (await self._read(sql, (after,)))[0][0]
        return moment

    async def notices_of(self, key: JobKey) -> list[Notice]:
        sql = f"{_NOTICES} WHERE job=? AND workspace=? ORDER BY seq"
        return [_read_as(Notice, row) for row in await self._read(sql, (key.id, key.workspace))]

    async def profiles(self, workspace: str, actor: str, name: str | None = None) -> list[Profile]:
        sql = f"SELECT {', '.join(_PROFILE)} FROM notification_profiles WHERE workspace=? AND actor=?"
        only = "" if name is None else " AND name=?"
        values = (workspace, actor) if name is None else (workspace, actor, name)
        return [_read_as(Profile, row) for row in await self._read(f"{sql}{only} ORDER BY name", values)]

    async def holds(self) -> list[Hold]:
        sql = f"SELECT value FROM marks WHERE name LIKE '{_HOLD}%' ORDER BY name"
        return [msgspec.json.decode(row[0], type=Hold) for row in await self._read(sql, ())]

    async def running(self) -> list[tuple[str, str, str, int]]:
        return [tuple(row) for row in await self._read(_LOAD, ())]

    async def agents(self, *, since: int) -> list[AgentRecord]:
        sql = f"SELECT {', '.join(_AGENT)} FROM agents WHERE seen>=? ORDER BY started"
        return [_read_as(AgentRecord, row) for row in await self._read(sql, (since,))]

    # --- the writer -------------------------------------------------------------------------------------------------

    def _begin_group(self, db: Connection, *, counts: bool) -> None:
        """Do what must come first in a group of changes, some of which may count what waits or runs; here nothing."""
        del db, counts

    def _gave_up(self, group: list[Change]) -> None:
        """Hear that a group could not be written; here, then nothing of it was."""
        del group

    def _find_to_change(self, db: Connection, key: JobKey) -> Job:
        row = db.execute(f"{SELECT} WHERE id=? AND workspace=?{self._lock}", (key.id, key.workspace)).fetchone()
        if row is not None:
            return _job(row)
        gone = db.execute("SELECT 1 FROM removed_jobs WHERE id=? AND workspace=?", (key.id, key.workspace)).fetchone()
        raise JobGone(key.id) if gone else NoSuchJob(key.id)

    def _replace(self, db: Connection, before: Job, after: Job) -> None:
        # Nobody else changes the row now, so what was just read still holds; the revision is compared all the same.
        db.execute(_REPLACE, (*_row(after), before.id, before.revision))
        if not before.ended:
            _notify(db, [after])
        if self.shared and after.status != before.status:
            _tell_state(self._news.append, after)
            if not after.ended:
                self._news.append(News("moved", after.key))

    async def _stop(self) -> None:
        """Write what has queued up and end the thread."""
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _put(self, kind: str, job: Job, *, room: Room | None = None) -> asyncio.Future[Any]:
        return self._gather(Change(self._loop.create_future(), kind, job, room=room))

    def _change(
        self,
        apply: Callable[[Connection], Any],
        *,
        kind: str = "other",
        early: bool = False,
        room: Room | None = None,
    ) -> asyncio.Future[Any]:
        return self._gather(Change(self._loop.create_future(), kind, apply, early=early, room=room))

    def _gather(self, change: Change) -> asyncio.Future[Any]:
        """Keep a change until the loop has done what is ready: the writer would take turns with it after each one."""
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(change)
        return change.future

    def _hand_over(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _write(self) -> None:
        before = 0
        while (group := self._queue.get()) is not None:
            if len(group) < before:
                time.sleep(_PAUSE)
            with contextlib.suppress(queue.Empty):
                while len(group) < _GROUP:
                    more = self._queue.get_nowait()
                    if more is None:
                        self._commit(group)
                        return
                    group += more
            before = len(group)
            self._commit(group)

    def _commit(self, group: list[Change]) -> None:
        try:
            self._write_group(lambda db: self._apply_all(db, group))
        except LedgerUnavailable as error:  # disk full, database locked or gone: nothing of the group was written
            self._unwritten.goes_on(error.__cause__ or error.reason)
            self._failed = (time.monotonic(), error.reason)
            self._news.clear()
            self._gave_up(group)
            for change in group:
                change.error = error
        else:
            self._unwritten.over()
        self._tell(_resolve, [change for change in group if not change.early or change.error])
        news, self._news = self._news, []
        self._publish(news)

    def _apply_all(self, db: Connection, group: list[Change]) -> None:
        self._news.clear()
        self._begin_group(db, counts=any(change.kind == "claim" or change.room is not None for change in group))
        batch = _Batch(self._news.append if self.shared else None)
        waiting: Counter[Lane] | None = None
        for change in group:
            change.error = None
            if change.kind != "add":
                waiting = None  # it may have changed that
            elif change.room is not None:
                if waiting is None:
                    batch.write(db)
                    waiting = _lanes(db)
                if not _makes_room(db, change, waiting):
                    continue
            if change.kind in ("other", "claim") or not batch.fold(change):
                batch.write(db)
                self._apply(db, change)
        batch.write(db)

    def _apply(self, db: Connection, change: Change) -> None:
        """Apply one change; one that is refused (no such job, wrong transition) spoils only itself."""
        try:
            if change.kind == "discard":
                db.execute("DELETE FROM jobs WHERE id=? AND token=? AND sync=1", (change.job.id, change.job.token))
                change.result = not db.execute("SELECT 1 FROM jobs WHERE id=?", (change.job.id,)).fetchone()
            else:
                change.result = change.apply(db)
        except self._refused as error:
            change.error = error
        if change.early:
            self._tell(_resolve, [change])

    def _tell(self, function: Callable[[list[Change]], None], group: list[Change]) -> None:
        try:
            self._loop.call_soon_threadsafe(function, group)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _log.debug("ledger.loop-closed")


def _resolve(group: list[Change]) -> None:
    for change in group:
        if change.future.done():
            continue
        if change.error is not None:
            change.future.set_exception(change.error)
            change.future.exception()  # whoever did not wait for it is not warned about it
        else:
            change.future.set_result(change.result)


def _claim(db: Connection, claim: Claim, lock: str) -> list[Job]:
    """Take the jobs that are next by the queue's policy."""
    lanes: dict[Lane, Sequence[Head]] = {}
    for (name,) in db.execute(_LANES, ()).fetchall():
        lane = parse_lane(name)
        if claim.fits(lane):
            heads = db.execute(_HEADS, (name, claim.at, claim.slots)).fetchall()
            lanes[lane] = [Head(*head) for head in heads]
    load = Load(db.execute(_LOAD, ()).fetchall())
    chosen = choose(lanes, load, claim.turns, claim.rules, at=claim.at, slots=claim.slots)
    if not chosen:
        return []
    order = {head.seq: number for number, head in enumerate(chosen)}
    sql = (
        "UPDATE jobs SET status='running', agent=?, token=token+1, attempts=attempts+1,"
        " started=CASE WHEN created>? THEN created ELSE ? END, updated=?, lease_end=?, message='',"
        " revision=revision+1 WHERE seq IN (SELECT seq FROM jobs WHERE status='accepted'"
        f" AND seq IN ({', '.join('?' * len(chosen))}){lock})"
        f" RETURNING seq, {', '.join(COLUMNS)}"
    )
    rows = db.execute(sql, (claim.agent, claim.at, claim.at, claim.at, claim.at + claim.lease, *order)).fetchall()
    return [_job(row[1:]) for row in sorted(rows, key=lambda row: order[row[0]])]


def _row(job: Job) -> tuple[Any, ...]:
    return (*msgspec.structs.astuple(job), lane_of(job))


def _job(row: Sequence[Any]) -> Job:
    values = dict(zip(COLUMNS, row, strict=True))
    values["sync"] = bool(values["sync"])
    return Job(**values)


def _read_as(kind: type[_T], row: Sequence[Any]) -> _T:
    """Return a row whose columns are the fields of a struct, in their order, as that struct."""
    return kind(**dict(zip(kind.__struct_fields__, row, strict=True)))


def _conditions(query: JobQuery) -> tuple[list[str], list[Any]]:
    where: list[str] = ["workspace=?"]
    values: list[Any] = [query.workspace]

    def any_of(column: str, wanted: Sequence[str]) -> None:
        if wanted:
            # Of one value as an equation: else SQLite's index of that column would not be in the order of the page.
            test = "=?" if len(wanted) == 1 else f" IN ({', '.join('?' * len(wanted))})"
            where.append(f"{column}{test}")
            values.extend(wanted)

    def compare(condition: str, value: float | str | None) -> None:
        if value is not None:
            where.append(condition)
            values.append(value)

    compare("actor=?", query.actor)
    any_of("type", query.types)
    any_of("process", query.processes)
    any_of("status", query.statuses)
    if query.statuses and "successful" not in query.statuses:
        where.append(_UNSUCCESSFUL)
    if query.labels:
        one = " OR ".join(["replace(labels, ?, '')<>labels"] * len(query.labels))
        where.append(f"labels<>'' AND ({one})")
        values.extend(f",{label}," for label in query.labels)
    compare("created>=?", query.created_from)
    compare("created<=?", query.created_to)
    if query.before is not None:
        where.append("(created, seq)<(?, ?)")
        values.extend(query.before)
    if query.min_duration is not None or query.max_duration is not None:
        where.append("started>0 AND status IN ('running', 'successful', 'failed', 'dismissed')")
        lasted = f"(CASE WHEN finished>0 THEN finished ELSE {int(query.now)} END - started)"
        compare(f"{lasted}>=?", None if query.min_duration is None else query.min_duration * 1e6)
        compare(f"{lasted}<=?", None if query.max_duration is None else query.max_duration * 1e6)
    return where, values
