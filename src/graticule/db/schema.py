"""Tables of the database, as the statements that make them.

The statements on a job's path are plain SQL on the driver's own connection (an ORM transaction costs more than the
job's whole budget), so the schema is plain SQL too. A change of it is a new revision.
"""

from __future__ import annotations

REVISION = 1

SQLITE = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    workspace TEXT NOT NULL,
    actor TEXT NOT NULL,
    type TEXT NOT NULL,
    process TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    sync INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    created INTEGER NOT NULL,
    started INTEGER NOT NULL,
    finished INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    agent TEXT NOT NULL,
    token INTEGER NOT NULL,
    lease_end INTEGER NOT NULL,
    progress INTEGER NOT NULL,
    message TEXT NOT NULL,
    request BLOB NOT NULL,
    subscriber BLOB NOT NULL,
    base TEXT NOT NULL,
    manifest BLOB NOT NULL,
    failure BLOB NOT NULL,
    log_bytes INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    label TEXT NOT NULL,
    trace TEXT NOT NULL
);
CREATE INDEX jobs_listed ON jobs (workspace, seq);
CREATE INDEX jobs_waiting ON jobs (priority DESC, seq) WHERE status = 'accepted';
CREATE INDEX jobs_running ON jobs (agent) WHERE status = 'running';
CREATE UNIQUE INDEX jobs_idempotent ON jobs (workspace, actor, process, idempotency_key) WHERE idempotency_key <> '';
CREATE TABLE removed_jobs (
    id TEXT PRIMARY KEY,
    workspace TEXT NOT NULL,
    removed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    workspace TEXT NOT NULL,
    job TEXT NOT NULL,
    kind TEXT NOT NULL,
    address TEXT NOT NULL,
    host TEXT NOT NULL,
    status TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    last_error TEXT NOT NULL
);
CREATE UNIQUE INDEX outbox_of_job ON outbox (job, kind);
CREATE INDEX outbox_due ON outbox (not_before, host) WHERE status = 'waiting';
"""
