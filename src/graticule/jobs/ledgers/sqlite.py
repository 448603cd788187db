"""The ledger of a home folder: SQLite with one writer.

One thread owns the writing connection. It takes whatever has queued up, applies it in one transaction with
``synchronous=FULL`` and then resolves the futures, so that a hundred changes cost one flush of the disk. Readers use
a connection of their own on the event loop: a read by key costs a few microseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from graticule.db.sqlite import Connection, Error, IntegrityError, connect, open_database
from graticule.errors import GraticuleError, JobGone, LedgerUnavailable, NoSuchJob
from graticule.jobs.job import Job, JobKey
from graticule.jobs.ledger import JobQuery, Notice, Page, Profile

_COLUMNS = Job.__struct_fields__
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM jobs"
_REPLACE = f"UPDATE jobs SET {', '.join(f'{column}=?' for column in _COLUMNS)} WHERE id=? AND revision=?"
_ROW = f"({', '.join('?' * len(_COLUMNS))})"
_FINISHED = (
    "id", "token", "status", "finished", "updated", "progress", "message", "manifest", "failure", "log_bytes",
)  # fmt: skip
_FINISH_ROW = f"({', '.join('?' * len(_FINISHED))})"
_SIZES = (32, 8, 1)
"""Rows of one statement: few sizes, so that the prepared statements are found again."""
_CLAIM = (
    "UPDATE jobs SET status='running', agent=?, token=token+1, attempts=attempts+1, started=?, updated=?, lease_end=?,"
    " revision=revision+1 WHERE seq IN (SELECT seq FROM jobs WHERE status='accepted' AND not_before<=?"
    f" ORDER BY priority DESC, seq LIMIT ?) RETURNING {', '.join(_COLUMNS)}"
)
_TAKE = (
    "UPDATE jobs SET status='running', agent=?, token=?, attempts=?, started=?, updated=?, lease_end=?,"
    " revision=revision+1 WHERE id=? AND status='accepted'"
)
_RENEW = (
    "UPDATE jobs SET lease_end=?, progress=?, message=?, updated=?, revision=revision+1"
    " WHERE id=? AND token=? AND status='running'"
)
_NOTICE = Notice.__struct_fields__
_NOTICES = f"SELECT {', '.join(_NOTICE)} FROM outbox"
_NOTIFY = (
    "INSERT OR IGNORE INTO outbox (workspace, job, kind, address, host, status, created, updated, not_before, attempts,"
    " last_error) VALUES (?, ?, ?, ?, ?, 'waiting', ?, ?, ?, 0, '')"
)
_NOTE = "UPDATE outbox SET status=?, updated=?, not_before=?, attempts=?, last_error=? WHERE seq=? AND job=?"
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

_log = logging.getLogger("graticule.ledger")


class _Change:
    """One change that waits to be written."""

    __slots__ = ("apply", "early", "error", "future", "job", "kind", "result")

    def __init__(self, future: asyncio.Future[Any], kind: str, what: Any, *, early: bool = False) -> None:
        self.kind = kind
        """``add``, ``take``, ``finish`` or ``discard`` of one job, or ``other``: a function of the connection."""
        self.job: Job = what
        self.apply: Callable[[Connection], Any] = what
        self.future = future
        self.early = early
        self.result: Any = None
        self.error: Exception | None = None


class _Batch:
    """The changes of single jobs in a group, folded and written in as few statements as possible.

    A job that came and ended within one group is written once, in its last state: that is every short job under load,
    since the group before it is still on its way to the disk. Fewer statements also mean fewer times that the writer
    and the event loop take turns.
    """

    def __init__(self) -> None:
        self._adds: dict[str, list[_Change]] = {}
        self._takes: list[_Change] = []
        self._finishes: list[_Change] = []

    def fold(self, change: _Change) -> bool:
        """Take a change in; False when it needs what came before it to be written first."""
        added = self._adds.get(change.job.id)
        if change.kind == "add":
            self._adds[change.job.id] = [change]
        elif change.kind == "discard":
            if added is None:
                return False
            del self._adds[change.job.id]
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
        self._adds, self._takes, self._finishes = {}, [], []


def _parts(changes: list[Any]) -> Iterator[list[Any]]:
    """Cut a list into parts of the sizes that there are statements for."""
    start = 0
    for size in _SIZES:
        while len(changes) - start >= size:
            yield changes[start : start + size]
            start += size


def _insert(db: Connection, added: list[list[_Change]]) -> None:
    """Insert jobs, each in the last state that its changes gave it."""
    sql = f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES {', '.join([_ROW] * len(added))}"
    try:
        db.execute(sql, [value for changes in added for value in _row(changes[-1].job)])
    except IntegrityError as error:
        if len(added) > 1:  # one of them is refused: find it, and keep the others
            for changes in added:
                _insert(db, [changes])
            return
        for change in added[0]:
            change.error = error


def _finish(db: Connection, ended: list[_Change]) -> None:
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
        change.result = change.job.id in written
        if not change.result:
            # Dismissed meanwhile: what it had printed until then is kept all the same.
            values = [change.job.log_bytes, change.job.id]
            db.execute("UPDATE jobs SET log_bytes=? WHERE id=? AND status='dismissed'", values)


def _notify(db: Connection, jobs: Iterable[Job]) -> None:
    """Put the notices of jobs that have just ended into the outbox, in the transaction that ended them."""
    for job in jobs:
        notice = job.end_notice() if job.ended else None
        if notice is not None:
            kind, address = notice
            host, at = urlsplit(address).hostname or "", job.finished
            db.execute(_NOTIFY, (job.workspace, job.id, kind, address, host, at, at, at))


class SqliteLedger:
    """A ledger in one SQLite file, written by the process that owns the home.

    Parameters
    ----------
    path : Path
        The database file; it is created when it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = open_database(path)
        self._reader = connect(path)
        self._reader.execute("PRAGMA query_only=ON")
        self._queue: queue.SimpleQueue[list[_Change] | None] = queue.SimpleQueue()
        self._gathered: list[_Change] = []
        self._waiting = int(self._reader.execute("SELECT count(*) FROM jobs WHERE status='accepted'").fetchone()[0])
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._waiting

    async def close(self) -> None:
        """Write what has queued up and close the file."""
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._reader.close()
        self._writer.close()

    # --- changes --------------------------------------------------------------------------------------------------

    def add(self, job: Job) -> asyncio.Future[None]:
        if job.status == "accepted":
            self._waiting += 1
        return self._put("add", job)

    def finish(self, job: Job) -> asyncio.Future[bool]:
        return self._put("finish", job)

    def discard(self, job: Job) -> asyncio.Future[None]:
        return self._put("discard", job)

    def claim(self, agent: str, *, slots: int, at: int, lease: int) -> asyncio.Future[list[Job]]:
        values = (agent, at, at, at + lease, at, slots)

        def take(db: Connection) -> list[Job]:
            taken = [_job(row) for row in db.execute(_CLAIM, values).fetchall()]
            return sorted(taken, key=lambda job: (-job.priority, job.created))  # RETURNING keeps no order

        # Early: the caller's job processes die with it, so a claim need not be durable before the work begins.
        future = self._change(take, early=True)
        future.add_done_callback(self._took)
        return future

    def _took(self, future: asyncio.Future[list[Job]]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._waiting -= len(future.result())

    def take(self, job: Job) -> asyncio.Future[None]:
        self._waiting -= 1
        return self._put("take", job)

    def renew(self, running: Sequence[Job]) -> asyncio.Future[None]:
        rows = [(job.lease_end, job.progress, job.message, job.updated, job.id, job.token) for job in running]
        return self._change(lambda db: db.executemany(_RENEW, rows) and None)

    def move(self, key: JobKey, change: Callable[[Job], Job]) -> asyncio.Future[Job]:
        def apply(db: Connection) -> tuple[Job, Job]:
            before = _find(db, key)
            after = change(before)
            # The writer is alone, so what it has just read still holds; the revision is compared all the same.
            db.execute(_REPLACE, (*_row(after), before.id, before.revision))
            if not before.ended:
                _notify(db, [after])
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

        self._change(apply).add_done_callback(done)
        return moved

    def remove(self, key: JobKey) -> asyncio.Future[None]:
        def apply(db: Connection) -> None:
            db.execute("DELETE FROM jobs WHERE id=? AND workspace=?", (key.id, key.workspace))
            db.execute("DELETE FROM outbox WHERE job=? AND workspace=?", (key.id, key.workspace))
            db.execute(
                "INSERT OR REPLACE INTO removed_jobs (id, workspace, removed) VALUES (?, ?, ?)",
                (key.id, key.workspace, time.time_ns() // 1000),
            )

        return self._change(apply)

    def recover(self, at: int, *, max_attempts: int, give_up: Callable[[Job], Job]) -> asyncio.Future[list[Job]]:
        """Void the claims of an earlier owner: jobs go back to the queue, or fail if nobody waits or none is left.

        Parameters
        ----------
        at : int
            Now, microseconds since 1970.
        max_attempts : int
            A job that was begun this often is not begun again.
        give_up : callable
            What a job becomes that is not run again.

        Returns
        -------
        Future of list of Job
            The jobs that were touched, as they are now.
        """

        def apply(db: Connection) -> list[Job]:
            touched = []
            rows = db.execute(f"{_SELECT} WHERE status='running' OR (status='accepted' AND sync=1)").fetchall()
            for before in map(_job, rows):
                if before.sync or before.attempts >= max_attempts:
                    after = give_up(before)
                else:
                    message = f"its server stopped; waiting again (attempt {before.attempts + 1} of {max_attempts})"
                    after = before.moved_to("accepted", at=at, message=message, agent="", progress=0)
                db.execute(_REPLACE, (*_row(after), before.id, before.revision))
                touched.append(after)
            _notify(db, touched)
            self._waiting = int(db.execute("SELECT count(*) FROM jobs WHERE status='accepted'").fetchone()[0])
            return touched

        return self._change(apply)

    def note(self, notice: Notice) -> asyncio.Future[None]:
        values = (
            notice.status, notice.updated, notice.not_before, notice.attempts, notice.last_error, notice.seq, notice.job
        )  # fmt: skip
        return self._change(lambda db: db.execute(_NOTE, values) and None)

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

    # --- reading --------------------------------------------------------------------------------------------------

    async def get(self, key: JobKey) -> Job:
        return _find(self._reader, key)

    async def page(self, query: JobQuery) -> Page:
        where, values = _conditions(query)
        sql = f"SELECT seq, {', '.join(_COLUMNS)} FROM jobs WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?"
        rows = self._reader.execute(sql, (*values, query.limit + 1)).fetchall()
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        return Page([_job(row[1:]) for row in rows], rows[-1][0] if more else None)

    async def due(self, *, at: int, limit: int, without_hosts: Collection[str] = ()) -> list[Notice]:
        elsewhere = f" AND host NOT IN ({', '.join('?' * len(without_hosts))})" if without_hosts else ""
        sql = f"{_NOTICES} WHERE status='waiting' AND not_before<=?{elsewhere} ORDER BY not_before LIMIT ?"
        return [_notice(row) for row in self._reader.execute(sql, (at, *without_hosts, limit)).fetchall()]

    async def next_due(self, *, after: int) -> int | None:
        sql = "SELECT min(not_before) FROM outbox WHERE status='waiting' AND not_before>?"
        moment: int | None = self._reader.execute(sql, (after,)).fetchone()[0]
        return moment

    async def notices_of(self, key: JobKey) -> list[Notice]:
        sql = f"{_NOTICES} WHERE job=? AND workspace=? ORDER BY seq"
        return [_notice(row) for row in self._reader.execute(sql, (key.id, key.workspace)).fetchall()]

    async def profiles(self, workspace: str, actor: str, name: str | None = None) -> list[Profile]:
        sql = f"SELECT {', '.join(_PROFILE)} FROM notification_profiles WHERE workspace=? AND actor=?"
        only = "" if name is None else " AND name=?"
        values = (workspace, actor) if name is None else (workspace, actor, name)
        rows = self._reader.execute(f"{sql}{only} ORDER BY name", values).fetchall()
        return [Profile(**dict(zip(_PROFILE, row, strict=True))) for row in rows]

    # --- the writer -----------------------------------------------------------------------------------------------

    def _put(self, kind: str, job: Job) -> asyncio.Future[Any]:
        return self._gather(_Change(self._loop.create_future(), kind, job))

    def _change(self, apply: Callable[[Connection], Any], *, early: bool = False) -> asyncio.Future[Any]:
        return self._gather(_Change(self._loop.create_future(), "other", apply, early=early))

    def _gather(self, change: _Change) -> asyncio.Future[Any]:
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

    def _commit(self, group: list[_Change]) -> None:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            batch = _Batch()
            for change in group:
                if change.kind == "other" or not batch.fold(change):
                    batch.write(self._writer)
                    self._apply(change)
            batch.write(self._writer)
            self._writer.execute("COMMIT")
        except Error as error:  # disk full, database locked or gone: nothing of the group was written
            _log.error("the ledger cannot be written: %s", error)
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            for change in group:
                change.error = LedgerUnavailable(str(error))
        self._tell(_resolve, [change for change in group if not change.early or change.error])

    def _apply(self, change: _Change) -> None:
        """Apply one change; one that is refused (unique key, no such job, wrong transition) spoils only itself."""
        try:
            if change.kind == "discard":
                self._writer.execute("DELETE FROM jobs WHERE id=? AND token=?", (change.job.id, change.job.token))
            else:
                change.result = change.apply(self._writer)
        except (GraticuleError, IntegrityError) as error:
            change.error = error
        if change.early:
            self._tell(_resolve, [change])

    def _tell(self, function: Callable[[list[_Change]], None], group: list[_Change]) -> None:
        try:
            self._loop.call_soon_threadsafe(function, group)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _log.debug("ledger.loop-closed")


def _resolve(group: list[_Change]) -> None:
    for change in group:
        if change.future.done():
            continue
        if change.error is not None:
            change.future.set_exception(change.error)
            change.future.exception()  # whoever did not wait for it is not warned about it
        else:
            change.future.set_result(change.result)


def _row(job: Job) -> tuple[Any, ...]:
    return tuple([getattr(job, column) for column in _COLUMNS])


def _job(row: Sequence[Any]) -> Job:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["sync"] = bool(values["sync"])
    return Job(**values)


def _notice(row: Sequence[Any]) -> Notice:
    return Notice(**dict(zip(_NOTICE, row, strict=True)))


def _find(db: Connection, key: JobKey) -> Job:
    row = db.execute(f"{_SELECT} WHERE id=? AND workspace=?", (key.id, key.workspace)).fetchone()
    if row is not None:
        return _job(row)
    gone = db.execute("SELECT 1 FROM removed_jobs WHERE id=? AND workspace=?", (key.id, key.workspace)).fetchone()
    raise JobGone(key.id) if gone else NoSuchJob(key.id)


def _conditions(query: JobQuery) -> tuple[list[str], list[Any]]:
    where: list[str] = ["workspace=?"]
    values: list[Any] = [query.workspace]

    def any_of(column: str, wanted: Sequence[str]) -> None:
        if wanted:
            where.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values.extend(wanted)

    def compare(condition: str, value: float | str | None) -> None:
        if value is not None:
            where.append(condition)
            values.append(value)

    compare("actor=?", query.actor)
    any_of("type", query.types)
    any_of("process", query.processes)
    any_of("status", query.statuses)
    compare("created>=?", query.created_from)
    compare("created<=?", query.created_to)
    compare("seq<?", query.before)
    if query.min_duration is not None or query.max_duration is not None:
        where.append("started>0 AND status IN ('running', 'successful', 'failed', 'dismissed')")
        lasted = f"(CASE WHEN finished>0 THEN finished ELSE {int(query.now)} END - started)"
        compare(f"{lasted}>=?", None if query.min_duration is None else query.min_duration * 1e6)
        compare(f"{lasted}<=?", None if query.max_duration is None else query.max_duration * 1e6)
    return where, values
