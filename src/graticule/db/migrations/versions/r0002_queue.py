"""Waiting jobs lie in lanes, agents make themselves known, and attempts are remembered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from graticule.db.schema import statements

revision = "0002"
down_revision = "0001"

_CHANGES = """
ALTER TABLE jobs ADD COLUMN lane <NAME> NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN history <BYTES> NOT NULL DEFAULT <EMPTY>;
ALTER TABLE jobs ADD COLUMN preparation <BYTES> NOT NULL DEFAULT <EMPTY>;
ALTER TABLE jobs ADD COLUMN sources <BYTES> NOT NULL DEFAULT <EMPTY>;
ALTER TABLE jobs ADD COLUMN trace TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN keeping TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN labels TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN repeats TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN repeated_by TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs RENAME COLUMN label TO requires;
DROP INDEX jobs_waiting;
DROP INDEX jobs_running;
DROP INDEX jobs_listed;
CREATE INDEX jobs_listed ON jobs (workspace, seq, created);
CREATE INDEX jobs_of_actor ON jobs (workspace, actor, seq);
CREATE INDEX jobs_of_process ON jobs (workspace, process, seq);
CREATE INDEX jobs_unsuccessful ON jobs (workspace, seq) WHERE status <> 'successful';
CREATE INDEX jobs_waiting ON jobs (lane, seq) WHERE status = 'accepted';
CREATE INDEX jobs_running ON jobs (lease_end) WHERE status = 'running';
CREATE INDEX jobs_expiring ON jobs (workspace, finished)
    WHERE status = 'successful' AND (keeping = '' OR keeping = 'expiring');
CREATE INDEX jobs_labelled ON jobs (workspace, seq) WHERE labels <> '';
CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    host TEXT NOT NULL,
    pid <INTEGER> NOT NULL,
    started <INTEGER> NOT NULL,
    seen <INTEGER> NOT NULL,
    slots <INTEGER> NOT NULL,
    busy <INTEGER> NOT NULL,
    labels TEXT NOT NULL,
    offers TEXT NOT NULL,
    paused <INTEGER> NOT NULL
)<PLAIN>;
CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
)<PLAIN>;
CREATE TABLE notification_profiles (
    workspace TEXT NOT NULL,
    actor TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    sealed <BYTES> NOT NULL,
    created <INTEGER> NOT NULL,
    updated <INTEGER> NOT NULL,
    PRIMARY KEY (workspace, actor, name)
)<PLAIN>;
"""
_PLACE = "UPDATE jobs SET token = 0 WHERE status IN ('successful', 'failed', 'dismissed')"
"""Results lie below the token of their job now; those that were made before lie where a job without one has them."""
_LANE = """
UPDATE jobs SET lane = workspace || :s || actor || :s || process || :s || version || :s || requires || :s
    || CAST(priority AS TEXT)
"""


def upgrade() -> None:
    """Change the tables, and find the lane of each job."""
    for statement in statements(
        op.get_bind().dialect.name,  # type: ignore[arg-type]
        _CHANGES,
    ):
        op.execute(statement)
    _rename_cause()
    op.execute(_PLACE)
    op.execute(sa.text(_LANE).bindparams(s="\x1f"))


def _rename_cause() -> None:
    """Call the cause of jobs that were dismissed ``cancelled``, as it is called now; both words are of one length."""
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT id, failure FROM jobs WHERE status = 'dismissed'")).all()
    for name, failure in rows:
        renamed = bytes(failure).replace(b"\xa9dismissed", b"\xa9cancelled")
        connection.execute(
            sa.text("UPDATE jobs SET failure = :failure WHERE id = :id"), {"failure": renamed, "id": name}
        )
