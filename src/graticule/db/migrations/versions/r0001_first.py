"""The first tables: jobs, those that were removed, and the outbox."""

from __future__ import annotations

from alembic import op

from graticule.db.schema import statements

revision = "0001"
down_revision = None

_TABLES = """
CREATE TABLE jobs (
    seq <KEY>,
    id TEXT NOT NULL UNIQUE,
    workspace TEXT NOT NULL,
    actor TEXT NOT NULL,
    type TEXT NOT NULL,
    process TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    sync <INTEGER> NOT NULL,
    priority <INTEGER> NOT NULL,
    created <INTEGER> NOT NULL,
    started <INTEGER> NOT NULL,
    finished <INTEGER> NOT NULL,
    updated <INTEGER> NOT NULL,
    not_before <INTEGER> NOT NULL,
    attempts <INTEGER> NOT NULL,
    agent TEXT NOT NULL,
    token <INTEGER> NOT NULL,
    lease_end <INTEGER> NOT NULL,
    progress <INTEGER> NOT NULL,
    message TEXT NOT NULL,
    request <BYTES> NOT NULL,
    subscriber <BYTES> NOT NULL,
    base TEXT NOT NULL,
    manifest <BYTES> NOT NULL,
    failure <BYTES> NOT NULL,
    log_bytes <INTEGER> NOT NULL,
    revision <INTEGER> NOT NULL,
    idempotency_key TEXT NOT NULL,
    label TEXT NOT NULL
);
CREATE INDEX jobs_listed ON jobs (workspace, seq);
CREATE INDEX jobs_waiting ON jobs (priority DESC, seq) WHERE status = 'accepted';
CREATE INDEX jobs_running ON jobs (agent) WHERE status = 'running';
CREATE UNIQUE INDEX jobs_idempotent ON jobs (workspace, actor, process, idempotency_key) WHERE idempotency_key <> '';
CREATE TABLE removed_jobs (
    id TEXT PRIMARY KEY,
    workspace TEXT NOT NULL,
    removed <INTEGER> NOT NULL
)<PLAIN>;
CREATE TABLE outbox (
    seq <KEY>,
    workspace TEXT NOT NULL,
    job TEXT NOT NULL,
    kind TEXT NOT NULL,
    address TEXT NOT NULL,
    host TEXT NOT NULL,
    status TEXT NOT NULL,
    created <INTEGER> NOT NULL,
    updated <INTEGER> NOT NULL,
    not_before <INTEGER> NOT NULL,
    attempts <INTEGER> NOT NULL,
    last_error TEXT NOT NULL
);
CREATE UNIQUE INDEX outbox_of_job ON outbox (job, kind);
CREATE INDEX outbox_due ON outbox (not_before, host) WHERE status = 'waiting';
"""


def upgrade() -> None:
    """Make the tables."""
    for statement in statements(
        op.get_bind().dialect.name,  # type: ignore[arg-type]
        _TABLES,
    ):
        op.execute(statement)
