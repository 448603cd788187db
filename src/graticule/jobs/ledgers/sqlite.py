"""The ledger of a home folder: SQLite with one writer.

Every group of changes is flushed (``synchronous=FULL``). Readers use a connection of their own on the event loop: a
read by key costs a few microseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from graticule.db.database import prepare_sqlite, usable
from graticule.db.sqlite import Connection, Error, IntegrityError, connect, open_database
from graticule.errors import GraticuleError, LedgerUnavailable
from graticule.jobs.clock import steady_us
from graticule.jobs.ledger import News
from graticule.jobs.ledgers.sql import SqlLedger

_STEP_US = 500_000
"""From this difference on, somebody has set the machine's clock."""
_AT_WORK = (
    "SELECT 1 FROM jobs WHERE status IN ('accepted', 'running')"
    " UNION ALL SELECT 1 FROM outbox WHERE status='waiting' LIMIT 1"
)


class SqliteLedger(SqlLedger):
    """A ledger in one SQLite file, written by the process that owns the home.

    Parameters
    ----------
    path : Path
        The database file; it is created when it does not exist.
    """

    leads = True
    _few = " INDEXED BY jobs_unsuccessful"
    _refused = (GraticuleError, IntegrityError)

    def __init__(self, path: Path) -> None:
        super().__init__()
        prepare_sqlite(path)
        with usable(path):
            self._writer = open_database(path)
            self._reader = connect(path)
            self._reader.execute("PRAGMA query_only=ON")
            waiting = self._reader.execute("SELECT count(*) FROM jobs WHERE status='accepted'").fetchone()
        self._waiting = int(waiting[0])
        self._offset = _day_us() - steady_us()
        self._thread.start()

    def clock(self) -> int:
        return steady_us() + self._offset

    async def set_clock(self) -> None:
        """Follow the machine's clock after somebody has set it, once no job and no notice waits for a moment."""
        offset = _day_us() - steady_us()
        if abs(offset - self._offset) > _STEP_US and not await self._read(_AT_WORK, ()):
            self._offset = offset

    async def close(self) -> None:
        """Write what has queued up and close the file."""
        await self._stop()
        self._reader.close()
        self._writer.close()

    def _write_group(self, apply: Callable[[Connection], None]) -> None:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            apply(self._writer)
            self._writer.execute("COMMIT")
        except Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise LedgerUnavailable(str(error)) from error

    def _publish(self, news: list[News]) -> None:
        """Tell nobody: the one owner knows all that it has written."""

    async def _read(self, sql: str, values: Sequence[Any]) -> list[Any]:
        rows: list[Any] = self._reader.execute(sql, values).fetchall()
        return rows


def _day_us() -> int:
    """Return the machine's time of day, which may be set while we work."""
    return time.time_ns() // 1000
