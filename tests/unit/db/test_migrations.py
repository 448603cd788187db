"""A database of an earlier version is brought to the tables of this one, and nothing of it is lost."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config

from graticule.data.storage import read_all
from graticule.data.storages.local import LocalStorage
from graticule.db.database import prepare_sqlite, sqlite_revision
from graticule.db.schema import REVISION
from graticule.db.sqlite import connect
from graticule.errors import InvalidSetting
from graticule.jobs.job import Failure, Job, StoredOutput, StoredValue
from graticule.jobs.ledgers.sqlite import SqliteLedger
from graticule.jobs.queue import lane_of
from graticule.jobs.results import ResultStore

encode = msgspec.msgpack.encode
VALUE = StoredValue(file="dem.tif", media_type="image/tiff", size=3)
BEFORE = {
    job.id: job
    for job in (
        Job(id="waits", process="echo", version="1", status="accepted", created=1, priority=2, request=b"{}",
            requires="gpu"),
        Job(id="runs", process="echo", status="running", created=2, started=3, attempts=1, token=1, agent="gone"),
        Job(
            id="is-done", process="echo", status="successful", created=3, started=4, finished=5, token=1, revision=4,
            manifest=encode({"dem": StoredOutput(values=[VALUE])}), log_bytes=5,
        ),
        Job(
            id="failed", process="echo", status="failed", created=4, started=5, finished=6, token=2,
            failure=encode(Failure(cause="process error", detail="it broke")),
        ),
        Job(id="was-dismissed", process="echo", status="dismissed", created=5, finished=6),
    )
}  # fmt: skip
CANCELLED = Failure(cause="cancelled", detail="the job was dismissed")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database as the first version left it, with a job in every status."""
    path = tmp_path / "graticule.db"
    migrate(path, "0001")
    with closing(connect(path)) as database:
        database.execute("DROP TABLE alembic_version")  # the first version left no mark
        columns = [row[1] for row in database.execute("PRAGMA table_info(jobs)") if row[1] != "seq"]
        for job in BEFORE.values():
            # Then the cause was called otherwise, and so was what a job requires.
            failure = (
                encode(CANCELLED).replace(b"cancelled", b"dismissed") if job.status == "dismissed" else job.failure
            )
            kept = {**msgspec.structs.asdict(job), "failure": failure, "label": job.requires}
            row = [kept[column] for column in columns]
            database.execute(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join('?' * len(row))})", row)
        database.execute("INSERT INTO removed_jobs VALUES ('gone', 'default', 7)")
    return path


def migrate(path: Path, revision: str) -> None:
    """Bring a database, which may be new, to an earlier revision than today's."""
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", "graticule.db:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def schema_of(path: Path) -> dict[str, Any]:
    """What a database consists of; how its statements are written does not matter."""
    with closing(connect(path)) as database:
        parts = database.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        tables = {
            name: database.execute(f"PRAGMA table_xinfo({name})").fetchall()
            for kind, name, _ in parts
            if kind == "table"
        }
        indices = {name: re.sub(r"\s+", " ", sql) for kind, name, sql in parts if kind == "index" and sql}
        unique = {name: "WITHOUT ROWID" in sql for kind, name, sql in parts if kind == "table"}
    return {"tables": tables, "indices": indices, "without rowid": unique}


def test_the_tables_are_those_of_a_new_database(old: Path, tmp_path: Path) -> None:
    assert prepare_sqlite(tmp_path / "new.db") is None

    assert prepare_sqlite(old) == "0001"

    assert sqlite_revision(old) == REVISION
    assert schema_of(old) == schema_of(tmp_path / "new.db")
    assert prepare_sqlite(old) == REVISION


def test_an_interim_revision_comes_to_the_same(tmp_path: Path) -> None:
    path = tmp_path / "graticule.db"
    migrate(path, "0002")
    assert prepare_sqlite(tmp_path / "new.db") is None
    assert schema_of(path)["indices"] != schema_of(tmp_path / "new.db")["indices"]

    assert prepare_sqlite(path) == "0002"

    assert schema_of(path) == schema_of(tmp_path / "new.db")


async def test_the_jobs_are_what_they_were(old: Path) -> None:
    ledger = SqliteLedger(old)
    try:
        for name, before in BEFORE.items():
            found = await ledger.get(before.key)
            if before.ended:  # its results lie where those of a job without a token do
                assert found.token == 0
                found = msgspec.structs.replace(found, token=before.token)
            if name == "was-dismissed":
                assert found.failed_because() == CANCELLED
                found = msgspec.structs.replace(found, failure=b"")
            assert found == before
        assert ledger.waiting == 1
    finally:
        await ledger.close()
    with closing(connect(old)) as database:
        lanes = dict(database.execute("SELECT id, lane FROM jobs"))
        assert database.execute("SELECT * FROM removed_jobs").fetchall() == [("gone", "default", 7)]
    assert lanes == {name: lane_of(job) for name, job in BEFORE.items()}


async def test_results_are_found_where_the_earlier_version_left_them(old: Path, tmp_path: Path) -> None:
    place = tmp_path / "storage" / "default" / "jobs" / "is-done"
    (place / "outputs").mkdir(parents=True)
    (place / "outputs" / "dem.tif").write_bytes(b"abc")
    (place / "process.log").write_text("said\n")
    ledger, store = SqliteLedger(old), ResultStore(LocalStorage(tmp_path / "storage"))
    try:
        job = await ledger.get(BEFORE["is-done"].key)
    finally:
        await ledger.close()

    assert await read_all(store.value(job, VALUE)) == b"abc"
    assert await read_all((await store.logs_of(job))["process"].file) == b"said\n"
    await store.remove_outputs(job)
    assert sorted(path.name for path in place.iterdir()) == ["process.log"]
    await store.remove(job.key)
    assert not place.exists()


def test_a_copy_of_what_was_is_kept(old: Path) -> None:
    before = schema_of(old)

    prepare_sqlite(old)

    copy = old.with_name(f"graticule.db.before-{REVISION}")
    assert schema_of(copy) == before
    with closing(connect(copy)) as database:
        tokens = dict(database.execute("SELECT id, token FROM jobs"))
    assert tokens == {name: job.token for name, job in BEFORE.items()}


def test_a_newer_database_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "graticule.db"
    prepare_sqlite(path)
    with closing(connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()

    with pytest.raises(InvalidSetting, match="newer Graticule"):
        prepare_sqlite(path)

    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["graticule.db"]
