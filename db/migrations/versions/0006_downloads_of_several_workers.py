"""Downloads: what upstream said of a file, when it was verified, and the claims of several workers

Revision ID: 0006
Revises: 0005
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS: tuple[sa.Column[Any], ...] = (
    sa.Column(
        "permanent", sa.Boolean(), comment="of a failure: there is no use in another attempt"
    ),
    sa.Column("url", sa.String()),
    sa.Column("etag", sa.String()),
    sa.Column("bytes", sa.Integer()),
    sa.Column("verified_at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("download", column.copy())
    op.create_table(
        "download_claim",
        sa.Column(
            "image_id",
            sa.Integer(),
            sa.ForeignKey("image.id", name="fk_download_claim_image_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("worker", sa.String(), nullable=False, comment="host/process/random"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_download_claim_worker", "download_claim", ["worker"])


def downgrade() -> None:
    op.drop_table("download_claim")
    for column in COLUMNS:
        op.drop_column("download", column.name)
