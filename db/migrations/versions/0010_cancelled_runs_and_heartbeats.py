"""Runs that were cancelled, and when a run was last heard of

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

BEFORE = "status IN ('running', 'finished', 'failed')"
AFTER = "status IN ('running', 'finished', 'failed', 'cancelled')"


def upgrade() -> None:
    with op.batch_alter_table("run") as table:
        table.add_column(sa.Column("heartbeat_at", sa.DateTime(timezone=True)))
        table.drop_constraint("status", type_="check")
        table.create_check_constraint("status", AFTER)


def downgrade() -> None:
    op.execute("UPDATE run SET status = 'failed' WHERE status = 'cancelled'")
    with op.batch_alter_table("run") as table:
        table.drop_column("heartbeat_at")
        table.drop_constraint("status", type_="check")
        table.create_check_constraint("status", BEFORE)
