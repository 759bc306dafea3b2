"""Areas that upstream does not state, and COCONut-B as one repository

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("segment") as table:
        table.alter_column("annotated_area", existing_type=sa.Integer(), nullable=True)
    # Images of COCONut-S that were read again from COCONut-B, which holds all of S: no duplicates.
    op.execute(
        "DELETE FROM finding WHERE dataset = 'coconut-b' AND kind = 'duplicate COCO id'"
        " AND detail LIKE 'annotated again in xdeng77/coconut_b/%' AND image_id IN"
        " (SELECT id FROM image WHERE annotation_file LIKE 'xdeng77/coconut_s/%')"
    )


def downgrade() -> None:
    op.execute("UPDATE segment SET annotated_area = COALESCE(area, 0) WHERE annotated_area IS NULL")
    with op.batch_alter_table("segment") as table:
        table.alter_column("annotated_area", existing_type=sa.Integer(), nullable=False)
