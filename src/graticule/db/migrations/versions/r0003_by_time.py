"""Lists are in the order of the moments that they show, so that those of a period are found at once."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_INDEXES = {
    "jobs_listed": "(workspace, created, seq)",
    "jobs_of_actor": "(workspace, actor, created, seq)",
    "jobs_of_process": "(workspace, process, created, seq)",
    "jobs_unsuccessful": "(workspace, created, seq) WHERE status <> 'successful'",
    "jobs_labelled": "(workspace, created, seq) WHERE labels <> ''",
}


def upgrade() -> None:
    """Make the indexes of lists anew."""
    for name, columns in _INDEXES.items():
        op.execute(f"DROP INDEX {name}")
        op.execute(f"CREATE INDEX {name} ON jobs {columns}")
