"""Bring a database to the revision that this version works with.

A new database is made at once. An older one is migrated after a copy of it was kept; Alembic, which takes half a
second to import, is loaded only then. A newer one is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from graticule.db.schema import REVISION, Dialect, statements
from graticule.db.sqlite import Connection, DatabaseError, Error, connect, sqlite3
from graticule.errors import InvalidSetting

log = logging.getLogger("graticule.db")

_LOCK = 0x67726174
"""Names the advisory lock under which a PostgreSQL database is changed: any number, but always the same."""
_POSTGRESQL_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname=current_schema()"


def prepare_sqlite(path: Path) -> str | None:
    """Make or migrate the database at `path`; only its owner may.

    Returns
    -------
    str or None
        The revision that it had before; None: it is new.

    Raises
    ------
    InvalidSetting
        If it was made by a newer version of Graticule, or cannot be opened.
    """
    with _opened(path) as connection:
        found = _revision_of(lambda sql: connection.execute(sql).fetchall(), "sqlite")
        _refuse_newer(found, "storage.home", str(path))
        if found is None:
            connection.execute("BEGIN IMMEDIATE")
            for statement in [*statements("sqlite"), _stamp()]:
                connection.execute(statement)
            connection.execute("COMMIT")
        if found in (None, REVISION):
            return found
        copy = path.with_name(f"{path.name}.before-{REVISION}")
        copy.unlink(missing_ok=True)
        connection.execute("VACUUM INTO ?", (str(copy),))
    log.warning("%s has revision %s and is migrated to %s; %s is a copy", path, found, REVISION, copy)
    _migrate(f"sqlite:///{path}", found)
    return found


def prepare_postgresql(url: str) -> str | None:
    """Make or migrate the tables of a PostgreSQL database; one process at a time does.

    Returns
    -------
    str or None
        The revision that it had before; None: there were no tables.

    Raises
    ------
    InvalidSetting
        If they were made by a newer version of Graticule, or cannot be made.
    """
    import psycopg

    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            found = _revision_of(lambda sql: connection.execute(sql).fetchall(), "postgresql")
            _refuse_newer(found, "database.url", "the database")
            if found is None:
                with connection.transaction():
                    for statement in [*statements("postgresql"), _stamp()]:
                        connection.execute(statement)
            if found in (None, REVISION):
                return found
            copy = f"graticule_before_{REVISION}"
            with connection.transaction():
                connection.execute(f"DROP SCHEMA IF EXISTS {copy} CASCADE")
                connection.execute(f"CREATE SCHEMA {copy}")
                for (table,) in connection.execute(_POSTGRESQL_TABLES).fetchall():
                    connection.execute(f"CREATE TABLE {copy}.{table} AS TABLE {table}")
            log.warning(
                "the database has revision %s and is migrated to %s; schema %s is a copy", found, REVISION, copy
            )
            _migrate(url.replace("postgresql://", "postgresql+psycopg://", 1), found)
            return found
    except psycopg.Error as error:
        raise InvalidSetting("database.url", f"the database cannot be used: {str(error).strip()}") from error


def sqlite_revision(path: Path) -> str | None:
    """Return the revision of the database at `path`; None: there is none."""
    if not path.exists():
        return None
    with _opened(path) as connection:
        return _revision_of(lambda sql: connection.execute(sql).fetchall(), "sqlite")


def postgresql_revision(url: str) -> str | None:
    """Return the revision of a PostgreSQL database; None: it has no tables of ours."""
    import psycopg

    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            return _revision_of(lambda sql: connection.execute(sql).fetchall(), "postgresql")
    except psycopg.Error as error:
        raise InvalidSetting("database.url", f"the database cannot be used: {str(error).strip()}") from error


@contextmanager
def _opened(path: Path) -> Iterator[Connection]:
    """Open a SQLite database for a look at it; raises InvalidSetting where that cannot be done."""
    with usable(path), closing(connect(path)) as connection:
        yield connection


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """Tell in a sentence, as InvalidSetting, what SQLite has against the database at `path`."""
    try:
        yield
    except Error as error:
        remedy = "name a file of Graticule's own, or a new one in a folder that can be written to"
        if type(error) is DatabaseError:  # no kind of its own: what is in the file is damaged, or was never a database
            remedy = f"if it is Graticule's own it is damaged: stop the server and restore the backup; else {remedy}"
        reason = f"the database {str(path)!r} cannot be used: {error}; {remedy}"
        raise InvalidSetting("database.url", reason) from error


def _revision_of(query: Callable[[str], list[Any]], dialect: Dialect) -> str | None:
    names = "SELECT name FROM sqlite_master WHERE type='table'"
    tables = {row[0] for row in query(_POSTGRESQL_TABLES if dialect == "postgresql" else names)}
    if "alembic_version" in tables:
        rows = query("SELECT version_num FROM alembic_version")
        return str(rows[0][0]) if rows else None
    return "0001" if "jobs" in tables else None  # the first version left no mark


def _refuse_newer(found: str | None, setting: str, name: str) -> None:
    if found is not None and found > REVISION:
        raise InvalidSetting(
            setting,
            f"{name} was written by a newer Graticule (schema {found}, this one knows {REVISION}); "
            "install that version again, or restore the copy that it kept",
        )


def _stamp() -> str:
    return f"INSERT INTO alembic_version (version_num) VALUES ('{REVISION}')"


def _migrate(url: str, found: str) -> None:
    import sqlalchemy
    from alembic import command
    from alembic.config import Config

    if url.startswith("sqlite"):
        engine = sqlalchemy.create_engine(url, module=sqlite3)
        # The driver's own way to begin transactions leaves statements that change tables out of them.
        sqlalchemy.event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    else:
        engine = sqlalchemy.create_engine(url)
    config = Config()
    config.set_main_option("script_location", "graticule.db:migrations")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                command.stamp(config, found)
            command.upgrade(config, REVISION)
    finally:
        engine.dispose()
