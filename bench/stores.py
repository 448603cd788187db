"""Fill a ledger with jobs that have ended, as many and as different as a service has after some months."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import psycopg

from graticule.db.database import prepare_postgresql, prepare_sqlite
from graticule.db.sqlite import connect
from graticule.jobs.job import Failure, Job, StoredOutput, StoredValue
from graticule.jobs.queue import lane_of

COLUMNS = (*Job.__struct_fields__, "lane")
SECOND = 1_000_000
FIRST = 1_767_225_600 * SECOND
"""When the first job was sent: the start of 2026."""
BETWEEN = 60 * SECOND
"""From one job to the next."""
RARE = 1000
"""One of so many jobs is of an actor, a process and a status that are seldom."""


def stored_jobs(count: int) -> Iterator[Job]:
    """Yield jobs that have ended, the oldest first; the rare ones are spread over all the time."""
    chance = random.Random(1)
    for number in range(count):
        created, rare = FIRST + number * BETWEEN, number % RARE == RARE // 2
        text = f"Hello, number {number}".encode()
        value = StoredValue(content=json.dumps(text.decode()).encode(), size=len(text) + 2)
        job = Job(
            id=f"{created // 1000:012x}{chance.getrandbits(64):016x}",
            actor="cleo" if rare else chance.choice(("ada", "ben")),
            process="reproject" if rare else chance.choice(("hello-world", "echo")),
            version="1.0.0",
            status="successful",
            created=created,
            started=created + SECOND // 10,
            finished=created + SECOND,
            updated=created + SECOND,
            attempts=1,
            agent="agent-of-before",
            token=1,
            progress=100,
            request=json.dumps({"inputs": {"name": f"number {number}"}}).encode(),
            base="http://127.0.0.1:8080",
            manifest=msgspec.msgpack.encode({"greeting": StoredOutput(values=[value])}),
            revision=2,
            keeping="pinned",  # else the sweeper would take them away while they are counted
        )
        if rare:
            failure = msgspec.msgpack.encode(Failure(cause="process error", detail="bad luck", step="run"))
            job = msgspec.structs.replace(job, status="failed", progress=50, manifest=b"", failure=failure, keeping="")
        yield job


def fill_sqlite(home: Path, count: int) -> None:
    """Put so many jobs into the ledger of a new home."""
    home.mkdir(parents=True)
    path = home / "graticule.db"
    prepare_sqlite(path)
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            f"INSERT INTO jobs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",
            ((*msgspec.structs.astuple(job), lane_of(job)) for job in stored_jobs(count)),
        )
        connection.execute("COMMIT")


def fill_postgresql(url: str, count: int) -> None:
    """Put so many jobs into the ledger of a new database, and have it look at its tables as it does now and then."""
    prepare_postgresql(url)
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.cursor().copy(f"COPY jobs ({', '.join(COLUMNS)}) FROM STDIN".encode()) as copy:
            for job in stored_jobs(count):
                copy.write_row((*msgspec.structs.astuple(msgspec.structs.replace(job, sync=0)), lane_of(job)))
        connection.execute("VACUUM ANALYZE jobs")
