"""A PostgreSQL database of an earlier version is brought to the tables of this one."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config

from graticule.db.database import postgresql_revision, prepare_postgresql
from graticule.db.schema import REVISION
from graticule.jobs.ledger import JobQuery
from graticule.jobs.ledgers.postgresql import PostgresqlLedger
from graticule.testing.ledger import job
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio


def migrate(url: str, revision: str) -> None:
    """Bring a new database to an earlier revision than today's."""
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    config = Config()
    config.set_main_option("script_location", "graticule.db:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def schema_of(url: str) -> list[tuple[str, ...]]:
    """What a database consists of."""
    with psycopg.connect(url) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable, collation_name FROM information_schema.columns"
            " WHERE table_schema='public' ORDER BY table_name, column_name"
        ).fetchall()
        indexes = connection.execute(
            "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname='public'"
            " AND tablename<>'alembic_version' ORDER BY indexname"
        ).fetchall()
    return [*columns, *indexes]


async def test_an_earlier_revision_comes_to_the_same_and_a_copy_of_it_is_kept(postgres: Postgres) -> None:
    new, old = postgres.new_database(), postgres.new_database()
    assert prepare_postgresql(new) is None
    migrate(old, "0002")
    with psycopg.connect(old) as connection:
        connection.execute("INSERT INTO marks VALUES ('storage', 'here')")
        connection.execute("INSERT INTO removed_jobs VALUES ('gone', 'default', 7)")

    assert prepare_postgresql(old) == "0002"

    assert postgresql_revision(old) == REVISION
    assert schema_of(old) == schema_of(new)
    with psycopg.connect(old) as connection:
        assert connection.execute("SELECT * FROM removed_jobs").fetchall() == [("gone", "default", 7)]
        for schema in ("public", f"graticule_before_{REVISION}"):
            assert connection.execute(f"SELECT value FROM {schema}.marks").fetchall() == [("here",)]
    ledger = await PostgresqlLedger.open(old)
    try:
        await ledger.add(job("new"))
        assert [one.id for one in (await ledger.page(JobQuery(workspace="default"))).jobs] == ["new"]
    finally:
        await ledger.close()
