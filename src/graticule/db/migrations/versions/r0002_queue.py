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
DROP INDEX jobs_waiting;
DROP INDEX jobs_running;
CREATE INDEX jobs_waiting ON jobs (lane, seq) WHERE status = 'accepted';
CREATE INDEX jobs_running ON jobs (lease_end) WHERE status = 'running';
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
_LANE = """
UPDATE jobs SET lane = workspace || :s || actor || :s || process || :s || version || :s || label || :s
    || CAST(priority AS TEXT)
"""


def upgrade() -> None:
    """Change the tables, and find the lane of each job."""
    for statement in statements(
        op.get_bind().dialect.name,  # type: ignore[arg-type]
        _CHANGES,
    ):
        op.execute(statement)
    op.execute(sa.text(_LANE).bindparams(s="\x1f"))
