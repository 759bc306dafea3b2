"""Versions of annotation files, the file that an image's annotation is of, and findings of reading

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BEFORE = "stage IN ('extract', 'check')"
AFTER = "stage IN ('annotations', 'captions', 'extract', 'check')"


def upgrade() -> None:
    op.add_column("annotation_file", sa.Column("size", sa.BigInteger()))
    op.add_column("annotation_file", sa.Column("sha256", sa.String()))
    op.add_column("annotation_file", sa.Column("etag", sa.String()))
    comment = "name of the file that its mask and segments are of"
    op.add_column("image", sa.Column("annotation_file", sa.String(), comment=comment))
    _stages(AFTER)


def downgrade() -> None:
    op.execute("DELETE FROM finding WHERE stage IN ('annotations', 'captions')")
    _stages(BEFORE)
    op.drop_column("image", "annotation_file")
    for name in ("etag", "sha256", "size"):
        op.drop_column("annotation_file", name)


def _stages(condition: str) -> None:
    with op.batch_alter_table("finding") as table:
        table.drop_constraint("stage", type_="check")
        table.create_check_constraint("stage", condition)
