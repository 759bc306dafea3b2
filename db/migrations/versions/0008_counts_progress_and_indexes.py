"""Counts that readers need at once, progress of long work, and indexes for browsing

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COUNTS = (
    "images",
    "downloaded",
    "failed",
    "with_mask",
    "labelled",
    "bytes",
    "segments",
    "captions",
)


def _dataset(table: str) -> sa.Column:
    key = sa.ForeignKey("dataset.name", name=f"fk_{table}_dataset")
    return sa.Column("dataset", sa.String(), key, primary_key=True)


def _attribute(table: str, name: str = "attribute_id") -> sa.Column:
    return sa.Column(
        name,
        sa.Integer(),
        sa.ForeignKey("attribute.id", name=f"fk_{table}_{name}"),
        primary_key=True,
    )


def upgrade() -> None:
    op.create_table(
        "progress",
        sa.Column("what", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('running', 'finished', 'failed')", name="state"),
    )
    op.create_table(
        "dataset_count",
        _dataset("dataset_count"),
        sa.Column("split", sa.String(), primary_key=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "label_count",
        _dataset("label_count"),
        sa.Column("split", sa.String(), primary_key=True),
        _attribute("label_count"),
        sa.Column("source", sa.String(), primary_key=True),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("present", "absent", "unknown", "conflicts")
        ),
    )
    op.create_table(
        "cooccurrence_count",
        _dataset("cooccurrence_count"),
        _attribute("cooccurrence_count"),
        _attribute("cooccurrence_count", "other_id"),
        sa.Column("both_present", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
    )
    op.drop_index("ix_image_attribute_attribute_id_state", "image_attribute")
    op.create_index(
        "ix_image_attribute_browse", "image_attribute", ["attribute_id", "state", "image_id"]
    )
    op.create_index(
        "ix_prediction_browse", "prediction", ["run_id", "attribute_id", "probability", "image_id"]
    )
    failed = sa.text("state = 'failed'")
    op.create_index(
        "ix_download_failed",
        "download",
        ["error_class"],
        sqlite_where=failed,
        postgresql_where=failed,
    )


def downgrade() -> None:
    op.drop_index("ix_download_failed", "download")
    op.drop_index("ix_prediction_browse", "prediction")
    op.drop_index("ix_image_attribute_browse", "image_attribute")
    op.create_index(
        "ix_image_attribute_attribute_id_state", "image_attribute", ["attribute_id", "state"]
    )
    for table in ("cooccurrence_count", "label_count", "dataset_count", "progress"):
        op.drop_table(table)
