"""The ledger of several machines: PostgreSQL, written by any number of servers and workers.

Each process writes by one connection, in groups as on SQLite; it reads by a small pool and hears of the others' changes
by a third kind of connection (LISTEN). One NOTIFY is sent for a group, after it: inside the transaction it would take a
lock of the whole cluster until the commit. Moments are the database's: each process knows how far that clock is ahead
of its own, which nobody sets.

No answer is waited for without end: the server may be frozen, or the network cut so that nobody says so. A connection
whose answer does not come is cut and thrown away, for nobody knows in which state it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import errors as faults
from psycopg.conninfo import make_conninfo
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from graticule.db.database import prepare_postgresql
from graticule.errors import LedgerUnavailable
from graticule.jobs.clock import steady, steady_us
from graticule.jobs.job import Job, JobKey
from graticule.jobs.ledger import Advance, Claim, News, Room
from graticule.jobs.ledgers.sql import Change, SqlLedger
from graticule.jobs.outage import Outage

_CHANNEL = "graticule"
_ADVANCES = "graticule_advances"
"""How far running jobs are, told to the servers alone: workers have nobody to pass it on to."""
_CLAIMS = 0x67726101
_LEADER = 0x67726102
"""Advisory locks: of whoever claims, or adds where not all may wait, so that limits hold for all, and of the one
process that leads."""
_MESSAGE = 7000
"""Bytes of one NOTIFY; the database takes 8000."""
_READERS = 4
_ANSWER_S = 5.0
"""Seconds that a read may take with all it waits for, and a statement of the writer at most; then the ledger is
unavailable."""
_GONE_S = 0.5
"""Seconds to wait for a connection that reads while it is known that the database is gone."""
_CONNECT_S = 3
_TRIES = 5
"""How often a group is tried that deadlocked with another process's, or whose connection was lost."""
_LEAD_S = 2.0
"""Seconds between two looks whether the leader's place is free."""
_RETRY_S = 1.0

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_SESSION = (
    "SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint FROM pg_stat_activity WHERE pid=pg_backend_pid()"
)
_END_SESSION = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid=? AND (extract(epoch FROM backend_start) * 1000000)::bigint=?"
)
_UNDO = "DELETE FROM jobs WHERE id=? AND token=?"
_OPTIONS = (
    "-c synchronous_commit=on -c client_min_messages=warning -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=2"
)
"""Keepalives of the server's side: what a machine held that is cut off, as the leader's place, is free soon."""
_LINE = {
    "connect_timeout": _CONNECT_S,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Keepalives of this side, for the connection that only listens."""
_SPLIT = "\x1f"
_UNREACHED = "no connection to its database"
_CLOCK_S = 1.0
"""Seconds between two looks at the database's clock: when somebody sets it, all must know long before a lease ends."""
_CLOCK_MOST_US = 500_000
"""An answer that took longer says too little about the moment."""

log = logging.getLogger("graticule.ledger")


class _PlainText(StrDumper):
    """Writes text without the one character that the database cannot hold."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\x00", "\N{REPLACEMENT CHARACTER}") if "\x00" in obj else obj)


class _Flag(Int8Dumper):
    """Writes truth as a number, as SQLite has it."""

    def dump(self, obj: bool) -> Any:  # noqa: FBT001 - the driver's signature
        return super().dump(int(obj))


class _Connection:
    """A connection that takes the same statements as SQLite's, and can be cut from another thread."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.raw = connection
        self.asked: float | None = None
        """When the latest statement of a group was sent, by `steady`; None: nothing is waited for."""
        # A descriptor of our own: the connection's may be closed, and its number another's, when it is to be cut.
        self._line = socket.socket(fileno=os.dup(connection.fileno()))
        _adapt(connection)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        self.asked = steady()
        return self.raw.execute(_translated(sql), values, prepare=True)

    def cut(self) -> None:
        """Have whoever waits for an answer hear that the connection is lost."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.raw.close()
        self._line.close()


class PostgresqlLedger(SqlLedger):
    """A ledger in a PostgreSQL database.

    Parameters
    ----------
    url : str
        ``postgresql://user:password@host/database``, as libpq reads it.
    may_lead : bool
        Whether this process may be the one that leads.
    lease_s : float
        Seconds after which the jobs of an agent that is not heard of go to another; long before, a change must be known
        to be made or not.
    """

    shared = True
    _lock = " FOR UPDATE"
    _lock_free = " FOR UPDATE SKIP LOCKED"

    def __init__(self, url: str, *, may_lead: bool = True, lease_s: float = 10.0) -> None:
        super().__init__()
        self._address = make_conninfo(url, **_LINE)
        self._may_lead = may_lead
        self._patience_s = max(1.0, min(_ANSWER_S, lease_s / 3))
        limit_ms = int(self._patience_s * 1000)
        # The server ends by itself what nobody waits for any more. No statement_timeout for the writer: where commits
        # wait for a standby, it would end that wait, and the commit would be called done all the same.
        self._options = f"{_OPTIONS} -c lock_timeout={limit_ms * 4 // 5}"
        self._options += f" -c idle_in_transaction_session_timeout={limit_ms}"
        self._writer: _Connection | None = None
        self._offset = 0
        self._own_pid = 0
        self._heard = 0
        self._heard_at_claim = 0
        self._leads = False
        self._closing = False
        self._checked = float("-inf")
        self._gone = False
        """Whether the connection that hears of changes is lost, and another one was not to be had."""
        self._session = (0, 0)
        self._lost_sessions: list[tuple[int, int]] = []
        """Sessions on the server that were given up, each by its process and when it began."""
        self._in_doubt = False
        """Whether the latest group may have been committed although nobody heard so."""
        self._undone: list[Job] = []
        """Jobs of such groups whose senders were told that they were not taken."""
        self._unread = Outage(log, "the ledger cannot be read")
        self._unheard = Outage(log, "changes of other processes are not heard")
        self._pool = AsyncConnectionPool(
            self._address,
            min_size=1,
            max_size=_READERS,
            open=False,
            timeout=_ANSWER_S,
            reconnect_timeout=1.0,
            kwargs={
                "autocommit": True,
                "options": f"{_OPTIONS} -c statement_timeout={int(_ANSWER_S * 1000)}",
            },
            configure=_adapt_reader,
            name="graticule-ledger",
        )
        # Of each attempt that fails it would write a line of its own.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
        self._listening: asyncio.Task[None] | None = None
        self._watching = self._loop.create_task(self._watch_writer())

    @classmethod
    async def open(cls, url: str, *, may_lead: bool = True, lease_s: float = 10.0) -> PostgresqlLedger:
        """Return the ledger of a database, whose tables are made or migrated first; raises InvalidSetting."""
        await asyncio.to_thread(prepare_postgresql, url)
        ledger = cls(url, may_lead=may_lead, lease_s=lease_s)
        try:
            await asyncio.to_thread(ledger._connect)
        except LedgerUnavailable:
            ledger._watching.cancel()
            raise
        await ledger._pool.open()
        ledger._waiting = int((await ledger._read("SELECT count(*) FROM jobs WHERE status='accepted'", ()))[0][0])
        ledger._thread.start()
        ledger._listening = asyncio.get_running_loop().create_task(ledger._listen())
        return ledger

    async def close(self) -> None:
        """Write what has queued up and let go of the database."""
        self._closing = True
        await self._stop()
        self._watching.cancel()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._pool.close()
        if self._writer is not None:
            self._writer.close()

    @property
    def leads(self) -> bool:
        return self._leads

    def clock(self) -> int:
        return steady_us() + self._offset

    async def set_clock(self) -> None:
        """Do nothing: the database's clock is looked at whenever something is written."""

    # --- claiming ---------------------------------------------------------------------------------------------------

    def add(self, job: Job, room: Room | None = None) -> asyncio.Future[None]:
        self._heard += 1  # a claim that is on its way does not see this one
        return super().add(job, room)

    def claim(self, claim: Claim) -> asyncio.Future[list[Job]]:
        self._heard_at_claim = self._heard
        return super().claim(claim)

    def _begin_group(self, db: _Connection, *, counts: bool) -> None:
        if counts:  # before any row is locked, else two groups could wait for each other
            db.execute("SELECT pg_advisory_xact_lock(?)", (_CLAIMS,))

    def _took(self, future: asyncio.Future[list[Job]], claim: Claim) -> None:
        """Know that nothing is left to claim, unless limits hold it back, or somebody has said otherwise meanwhile."""
        if future.cancelled() or future.exception() is not None:
            return
        got = len(future.result())
        if got < claim.slots and self._heard == self._heard_at_claim and not claim.rules.limited:
            self._waiting = 0
        else:
            self._waiting = max(1, self._waiting - got)

    # --- writing ----------------------------------------------------------------------------------------------------

    async def _watch_writer(self) -> None:
        """Cut the writer's connection when no answer comes: only that wakes a thread that waits for one."""
        while True:
            await asyncio.sleep(self._patience_s / 8)
            db = self._writer
            if db is not None and db.asked is not None and steady() - db.asked > self._patience_s:
                db.cut()

    def _connect(self) -> _Connection:
        try:
            raw = psycopg.connect(self._address, autocommit=True, options=self._options)
        except psycopg.Error as error:
            raise _unavailable(error) from error
        raw.prepared_max = 256
        db = self._writer = _Connection(raw)
        try:
            self._end_lost_sessions(db)
            self._session = db.execute(_SESSION).fetchall()[0]
            self._own_pid = self._session[0]
            self._set_clock(db)
        except psycopg.Error as error:
            self._drop_writer()
            raise _unavailable(error) from error
        finally:
            db.asked = None
        return db

    def _drop_writer(self) -> None:
        """Throw the writer's connection away: nobody knows in which state it is."""
        if self._writer is not None:
            self._lost_sessions.append(self._session)
            self._writer.close()
            self._writer = None

    def _end_lost_sessions(self, db: _Connection) -> None:
        """End on the server what was given up here, before anything is written anew.

        A session whose connection was cut may not know it yet: it is frozen, or its network is. Such a one still holds
        its locks, and if it was told to commit, it may do so at any time later. When it has ended, either it has
        committed or it never will, and what is made again after that finds which.
        """
        while self._lost_sessions:
            for _ in range(20):
                if not db.execute(_END_SESSION, self._lost_sessions[-1]).fetchall():
                    break
                time.sleep(0.05)
            else:
                self._drop_writer()
                raise LedgerUnavailable("an earlier session has not ended")
            self._lost_sessions.pop()

    def _set_clock(self, db: _Connection) -> None:
        """Learn how far the database's clock is ahead of ours, to half the time that asking takes."""
        before = steady_us()
        row = db.execute(_NOW).fetchone()
        after = steady_us()
        assert row is not None
        if after - before < _CLOCK_MOST_US or not self._offset:
            self._offset = int(row[0]) - (before + after) // 2
        self._checked = steady()

    def _write_group(self, apply: Callable[[Any], None]) -> None:
        self._in_doubt = False
        until = steady() + self._patience_s
        for attempt in range(1, _TRIES + 1):
            db = self._writer
            if db is None or db.raw.closed:
                db = self._connect()
            committing = False
            try:
                db.asked = steady()
                with db.raw.transaction():
                    for job in self._undone:
                        db.execute(_UNDO, (job.id, job.token))
                    apply(db)
                    committing, db.asked = True, steady()
            except (faults.DeadlockDetected, faults.SerializationFailure) as error:
                if attempt == _TRIES:
                    raise _unavailable(error) from error
            except psycopg.Error as error:
                # Every change of a group may be made twice, so one whose commit was not heard of is simply made again.
                lost = db.raw.closed or db.raw.broken
                if lost:
                    self._in_doubt |= committing
                    self._drop_writer()
                if not lost or attempt == _TRIES or steady() > until:
                    raise _unavailable(error) from error
            else:
                self._undone.clear()
                return
            finally:
                db.asked = None

    def _gave_up(self, group: list[Change]) -> None:
        """Remember jobs that may be there although whoever sent them was told that nothing was changed.

        They are removed with the next group, unless somebody has begun them by then. Those with an idempotency key are
        not: whoever sends one again is given that job. All else that may come to be so is made again by whoever wanted
        it, and finds itself done: ends and leases by their agents, dismissals by clients. Jobs claimed by a group that
        was committed unheard are nobody's until their leases end.
        """
        if self._in_doubt:
            self._undone += [change.job for change in group if change.kind == "add" and not change.job.idempotency_key]

    def _publish(self, news: list[News]) -> None:
        lines = dict.fromkeys(
            one.kind if one.key is None or one.kind == "waiting" else _SPLIT.join((one.kind, *one.key))
            for one in news
            if one.advance is None
        )
        advances = [msgspec.json.encode(one.advance).decode() for one in news if one.advance is not None]
        db = self._writer
        if db is None:  # what was to be told is no more than how far jobs are
            return
        try:
            for channel, message in (*_messages(_CHANNEL, lines), *_messages(_ADVANCES, advances)):
                db.execute("SELECT pg_notify(?, ?)", (channel, message))
            if steady() - self._checked > _CLOCK_S:
                self._set_clock(db)
        except psycopg.Error as error:  # the others find out when they look around
            log.warning("other processes are not told of changes: %s", error)
            if db.raw.closed:
                self._drop_writer()
        finally:
            db.asked = None

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _read(self, sql: str, values: Sequence[Any]) -> list[Any]:
        try:
            rows = await self._rows(sql, values)
        except LedgerUnavailable as error:
            self._unread.goes_on(error.__cause__ or error.reason)  # the log has what clients are not told
            raise
        self._unread.over()
        return rows

    async def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        until = self._loop.time() + _ANSWER_S
        for connections_left in range(_READERS, -1, -1):
            left = max(0.01, until - self._loop.time())
            try:
                async with self._pool.connection(timeout=min(left, _GONE_S) if self._gone else left) as connection:
                    with _cut_after(until - self._loop.time(), connection):
                        cursor = await connection.execute(_translated(sql), values, prepare=True)
                        return await cursor.fetchall()
            except (PoolTimeout, PoolClosed) as error:
                raise LedgerUnavailable(_UNREACHED, reading=True) from error
            except psycopg.OperationalError as error:
                # Until then it may be one from before the database was started anew.
                if not connections_left or self._loop.time() >= until:
                    raise _unavailable(error, reading=True) from error
        raise AssertionError

    # --- hearing ----------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Hear of the others' changes, and lead if nobody else does, for as long as the ledger is open."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._address, autocommit=True, options=_OPTIONS
                ) as connection:
                    with _cut_after(_ANSWER_S, connection):
                        await connection.execute(f"LISTEN {_CHANNEL}")
                        if self._may_lead:
                            await connection.execute(f"LISTEN {_ADVANCES}")
                    self._gone = False
                    self._unheard.over()
                    self._tell_here(News("missed"))  # whatever was said while nobody listened
                    await self._hear_from(connection)
            except psycopg.Error as error:
                self._gone = True
                if not self._closing:
                    self._unheard.goes_on(str(error).strip())
            finally:
                self._leads = False  # the lock went with the connection
            await asyncio.sleep(_RETRY_S)

    async def _hear_from(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            # Whoever leads asks, too: it must notice that its connection, and with it the leader's place, is lost.
            ask = self._may_lead and not self._leads
            with _cut_after(_ANSWER_S, connection):
                cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)" if ask else "SELECT %s", (_LEADER,))
                row = await cursor.fetchone()
            self._leads = self._leads or (ask and bool(row and row[0]))
            async for notify in connection.notifies(timeout=_LEAD_S):
                if notify.pid == self._own_pid:
                    continue
                for line in notify.payload.split("\n")[:-1]:
                    self._tell_here(_parse_news(notify.channel, line))

    def _tell_here(self, news: News) -> None:
        if news.kind in ("waiting", "missed"):
            self._heard += 1
            self._waiting = max(1, self._waiting)
        if self._hear is not None:
            self._hear(news)


def _unavailable(error: psycopg.Error, *, reading: bool = False) -> LedgerUnavailable:
    """Return what clients are told; what the driver says in full is for the log, it names host, user and database."""
    # What the database itself has said has a code, and a class of its own: DiskFull, TooManyConnections.
    reason = f"its database reports {type(error).__name__}" if error.sqlstate else _UNREACHED
    return LedgerUnavailable(reason, reading=reading)


@contextlib.contextmanager
def _cut_after(seconds: float, connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """Cut a connection on which an answer is waited for too long.

    To cancel the task would be no way out: the driver then asks the server to stop, and waits for it.
    """

    def cut() -> None:
        if not connection.closed:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(seconds, cut)
    try:
        yield
    finally:
        timer.cancel()


def _messages(channel: str, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield what is sent over a channel: some lines at once."""
    message, size = "", 0
    for line in lines:
        length = len(line.encode()) + 1
        if message and size + length > _MESSAGE:
            yield channel, message
            message, size = "", 0
        message, size = f"{message}{line}\n", size + length
    if message:
        yield channel, message


def _parse_news(channel: str, line: str) -> News:
    if channel == _ADVANCES:
        advance = msgspec.json.decode(line, type=Advance)
        return News("advanced", advance.key, advance)
    kind, *key = line.split(_SPLIT)
    return News(kind, JobKey(*key) if key else None)  # type: ignore[arg-type]


def _translated(sql: str) -> str:
    """Return a statement with the marks for values that this driver knows."""
    found = _statements.get(sql)
    if found is None:
        found = _statements[sql] = sql.replace("%", "%%").replace("?", "%s")
    return found


_statements: dict[str, str] = {}


def _adapt(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    # One type for all whole numbers: else every mixture of sizes would be another prepared statement.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(bool, _Flag)
    connection.adapters.register_dumper(str, _PlainText)


async def _adapt_reader(connection: psycopg.AsyncConnection[Any]) -> None:
    connection.prepared_max = 256
    _adapt(connection)
