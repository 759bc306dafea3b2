"""Findings: what in files and annotations could not be used, or does not fit together

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "finding",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column(
            "dataset",
            sa.String(),
            sa.ForeignKey("dataset.name", name="fk_finding_dataset"),
            nullable=False,
        ),
        sa.Column(
            "image_id",
            sa.Integer(),
            sa.ForeignKey("image.id", name="fk_finding_image_id", ondelete="CASCADE"),
        ),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("stage IN ('extract', 'check')", name="stage"),
    )
    op.create_index("ix_finding_dataset_kind", "finding", ["dataset", "kind"])
    op.create_index("ix_finding_image_id", "finding", ["image_id"])


def downgrade() -> None:
    op.drop_table("finding")
