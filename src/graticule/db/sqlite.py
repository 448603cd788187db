"""Open the SQLite database of a home folder.

``pysqlite3`` carries a current SQLite; the one beneath Python's own ``sqlite3`` module is older than 3.51.3 on most
systems, and those can corrupt a write-ahead log that two connections checkpoint at once.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

try:
    import pysqlite3 as sqlite3
except ImportError:  # no wheel for this platform
    import sqlite3

Connection = Any
"""A DB-API connection of pysqlite3 (or of sqlite3, which has the same interface); pysqlite3 has no type stubs."""

__all__ = ["Connection", "DatabaseError", "Error", "IntegrityError", "connect", "open_database", "sqlite3"]

Error = sqlite3.Error
DatabaseError = sqlite3.DatabaseError
IntegrityError = sqlite3.IntegrityError

_SAFE = (3, 51, 3)
_LOG_BYTES = 6 << 20
"""What is spilled into a new write-ahead log, to have it at the size that it will work with."""
_log = logging.getLogger("graticule.db")


def open_database(path: Path) -> Connection:
    """Open the database at `path` for its one writer."""
    if sqlite3.sqlite_version_info < _SAFE:
        _log.warning("SQLite %s has a known write-ahead-log fault; install pysqlite3", sqlite3.sqlite_version)
    connection = connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    _grow_log(connection)
    return connection


def _grow_log(connection: Connection) -> None:
    """Let the write-ahead log grow now: flushing a file that grows takes twice as long as one that is overwritten.

    What does not fit the cache is spilled into the log, and the file keeps its size when it is rolled back.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE spilled (content BLOB)")
        connection.execute("INSERT INTO spilled VALUES (zeroblob(?))", (_LOG_BYTES,))
    except Error as error:  # a full disk is told when something must be kept
        _log.warning("the write-ahead log cannot be grown: %s", error)
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def connect(path: Path) -> Connection:
    """Open one more connection, in autocommit mode; transactions are begun by hand."""
    connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute("PRAGMA busy_timeout=10000")
    return connection
