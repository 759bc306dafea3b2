"""Perceptual hashes of photos, by which copies of a photo are found

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "38 hex digits, see coconut_attr/files/near_duplicates.py; empty: one colour"
    op.add_column("image", sa.Column("perceptual_hash", sa.String(), comment=comment))


def downgrade() -> None:
    op.drop_column("image", "perceptual_hash")
