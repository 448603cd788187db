"""The ledger of several machines: PostgreSQL, written by any number of servers and workers.

Each process writes by one connection, in groups as on SQLite; it reads by a small pool and hears of the others' changes
by a third kind of connection (LISTEN). One NOTIFY is sent for a group, after it: inside the transaction it would take a
lock of the whole cluster until the commit. Moments are the database's: each process knows how far its own clock is off.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import errors as faults
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from graticule.db.database import prepare_postgresql
from graticule.errors import LedgerUnavailable
from graticule.jobs.job import Job, JobKey
from graticule.jobs.ledger import Advance, Claim, News
from graticule.jobs.ledgers.sql import SqlLedger

_CHANNEL = "graticule"
_ADVANCES = "graticule_advances"
"""How far running jobs are, told to the servers alone: workers have nobody to pass it on to."""
_CLAIMS = 0x67726101
_LEADER = 0x67726102
"""Advisory locks: of whoever claims now, so that limits hold for all, and of the one process that leads."""
_MESSAGE = 7000
"""Bytes of one NOTIFY; the database takes 8000."""
_READERS = 4
_ANSWER_S = 5.0
"""Seconds to wait for a connection that reads; then the ledger is unavailable."""
_GONE_S = 0.5
"""The same while it is known that the database is gone."""
_CONNECT_S = 3
_TRIES = 5
"""How often a group is tried that deadlocked with another process's, or whose connection was lost."""
_LEAD_S = 2.0
"""Seconds between two looks whether the leader's place is free."""
_RETRY_S = 1.0

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_OPTIONS = "-c synchronous_commit=on -c client_min_messages=warning -c idle_in_transaction_session_timeout=30000"
_SPLIT = "\x1f"
_UNREACHED = "no connection to its database"
_CLOCK_S = 10.0
"""Seconds between two looks at the database's clock."""

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
    """A connection that takes the same statements as SQLite's."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.raw = connection
        _adapt(connection)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        return self.raw.execute(_translated(sql), values, prepare=True)


class PostgresqlLedger(SqlLedger):
    """A ledger in a PostgreSQL database.

    Parameters
    ----------
    url : str
        ``postgresql://user:password@host/database``, as libpq reads it.
    """

    shared = True
    _lock = " FOR UPDATE"
    _lock_free = " FOR UPDATE SKIP LOCKED"

    def __init__(self, url: str, *, may_lead: bool = True) -> None:
        super().__init__()
        self._url = url
        self._may_lead = may_lead
        self._writer: _Connection | None = None
        self._offset = 0
        self._own_pid = 0
        self._heard = 0
        self._heard_at_claim = 0
        self._leads = False
        self._closing = False
        self._checked = 0.0
        self._gone = False
        """Whether the connection that hears of changes is lost, and another one was not to be had."""
        self._pool = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=_READERS,
            open=False,
            timeout=_ANSWER_S,
            reconnect_timeout=1.0,
            kwargs={"autocommit": True, "connect_timeout": _CONNECT_S, "options": _OPTIONS},
            configure=_adapt_reader,
            name="graticule-ledger",
        )
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, *, may_lead: bool = True) -> PostgresqlLedger:
        """Return the ledger of a database, whose tables are made or migrated first; raises InvalidSetting."""
        await asyncio.to_thread(prepare_postgresql, url)
        ledger = cls(url, may_lead=may_lead)
        await asyncio.to_thread(ledger._connect)
        await ledger._pool.open()
        ledger._waiting = int((await ledger._read("SELECT count(*) FROM jobs WHERE status='accepted'", ()))[0][0])
        ledger._thread.start()
        ledger._listening = asyncio.get_running_loop().create_task(ledger._listen())
        return ledger

    async def close(self) -> None:
        """Write what has queued up and let go of the database."""
        self._closing = True
        await self._stop()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._pool.close()
        if self._writer is not None:
            self._writer.raw.close()

    @property
    def leads(self) -> bool:
        return self._leads

    def clock(self) -> int:
        return time.time_ns() // 1000 + self._offset

    # --- claiming ---------------------------------------------------------------------------------------------------

    def claim(self, claim: Claim) -> asyncio.Future[list[Job]]:
        self._heard_at_claim = self._heard
        return super().claim(claim)

    def _begin_group(self, db: _Connection, *, claims: bool) -> None:
        if claims:  # before any row is locked, else two groups could wait for each other
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

    def _connect(self) -> _Connection:
        try:
            raw = psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_S, options=_OPTIONS)
        except psycopg.Error as error:
            raise _unavailable(error) from error
        raw.prepared_max = 256
        self._writer = _Connection(raw)
        self._own_pid = raw.info.backend_pid
        self._set_clock()
        return self._writer

    def _set_clock(self) -> None:
        """Learn how far this machine's clock is off, to half the time that asking takes."""
        assert self._writer is not None
        before = time.time_ns() // 1000
        row = self._writer.raw.execute(_NOW).fetchone()
        after = time.time_ns() // 1000
        assert row is not None
        self._offset = int(row[0]) - (before + after) // 2

    def _write_group(self, apply: Callable[[Any], None]) -> None:
        for attempt in range(1, _TRIES + 1):
            db = self._writer
            if db is None or db.raw.closed:
                db = self._connect()
            try:
                with db.raw.transaction():
                    apply(db)
            except (faults.DeadlockDetected, faults.SerializationFailure) as error:
                if attempt == _TRIES:
                    raise _unavailable(error) from error
            except psycopg.Error as error:
                # Every change of a group may be made twice, so one whose commit was not heard of is simply made again.
                lost = db.raw.closed or db.raw.broken
                if lost:
                    self._writer = None
                if not lost or attempt == _TRIES:
                    raise _unavailable(error) from error
            else:
                return

    def _publish(self, news: list[News]) -> None:
        lines = dict.fromkeys(
            one.kind if one.key is None or one.kind == "waiting" else _SPLIT.join((one.kind, *one.key))
            for one in news
            if one.advance is None
        )
        advances = [msgspec.json.encode(one.advance).decode() for one in news if one.advance is not None]
        try:
            assert self._writer is not None
            for channel, message in (*_messages(_CHANNEL, lines), *_messages(_ADVANCES, advances)):
                self._writer.execute("SELECT pg_notify(?, ?)", (channel, message))
            if abs(time.monotonic() - self._checked) > _CLOCK_S:
                self._checked = time.monotonic()
                self._set_clock()
        except psycopg.Error as error:  # the others find out when they look around
            log.warning("other processes are not told of changes: %s", error)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _read(self, sql: str, values: Sequence[Any]) -> list[Any]:
        for connections_left in range(_READERS, -1, -1):
            try:
                async with self._pool.connection(_GONE_S if self._gone else _ANSWER_S) as connection:
                    cursor = await connection.execute(_translated(sql), values, prepare=True)
                    return await cursor.fetchall()
            except (PoolTimeout, PoolClosed) as error:
                raise LedgerUnavailable(_UNREACHED, reading=True) from error
            except psycopg.OperationalError as error:
                if not connections_left:  # until then it may be one from before the database was started anew
                    raise _unavailable(error, reading=True) from error
        raise AssertionError

    # --- hearing ----------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Hear of the others' changes, and lead if nobody else does, for as long as the ledger is open."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=_CONNECT_S, options=_OPTIONS
                ) as connection:
                    await connection.execute(f"LISTEN {_CHANNEL}")
                    if self._may_lead:
                        await connection.execute(f"LISTEN {_ADVANCES}")
                    self._gone = False
                    self._tell_here(News("missed"))  # whatever was said while nobody listened
                    await self._hear_from(connection)
            except psycopg.Error as error:
                self._gone = True
                if not self._closing:
                    log.warning("changes of other processes are not heard: %s", str(error).strip())
            finally:
                self._leads = False  # the lock went with the connection
            await asyncio.sleep(_RETRY_S)

    async def _hear_from(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            if self._may_lead and not self._leads:
                cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LEADER,))
                row = await cursor.fetchone()
                self._leads = bool(row and row[0])
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
    log.warning("the database: %s", str(error).strip())
    # What the database itself has said has a code, and a class of its own: DiskFull, TooManyConnections.
    reason = f"its database reports {type(error).__name__}" if error.sqlstate else _UNREACHED
    return LedgerUnavailable(reason, reading=reading)


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
