"""Which process has a run: one that lost it may not write to it any more

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "that has the run, or had it last: host/process id/random"
    op.add_column("run", sa.Column("process", sa.String(), comment=comment))


def downgrade() -> None:
    with op.batch_alter_table("run") as table:
        table.drop_column("process")
