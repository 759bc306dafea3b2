"""The image model's out-of-fold predictions are evidence, of the source `model`

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

EVIDENCE = """
    CREATE VIEW evidence AS
    SELECT i.dataset, i.coco_id, i.file_name, a.name AS attribute, e.source, e.state, e.confidence,
           e.detail, e.segment_id, e.caption_id, i.id AS image_id
    FROM attribute_evidence e
    JOIN image i ON i.id = e.image_id
    JOIN attribute a ON a.id = e.attribute_id"""
OF_THE_MODEL = """
    UNION ALL
    SELECT i.dataset, i.coco_id, i.file_name, a.name, 'model',
           CASE WHEN l.model_probability >= 0.5 THEN 'present' ELSE 'absent' END,
           CASE WHEN l.model_probability >= 0.5 THEN l.model_probability
                ELSE 1 - l.model_probability END,
           'trained without this image, taught by run ' || i.model_run_id, NULL, NULL, i.id
    FROM image_attribute l
    JOIN image i ON i.id = l.image_id
    JOIN attribute a ON a.id = l.attribute_id
    WHERE l.model_probability IS NOT NULL"""


def upgrade() -> None:
    comment = "of present, by an image model that was trained without the image"
    op.add_column("image_attribute", sa.Column("model_probability", sa.Double(), comment=comment))
    comment = "the run whose labels taught model_probability"
    op.add_column("image", sa.Column("model_run_id", sa.Integer(), comment=comment))
    _comment_probability("of present: as judged (0 or 1), else by estimate and model_probability")
    op.execute("DROP VIEW evidence")
    op.execute(EVIDENCE + OF_THE_MODEL)


def downgrade() -> None:
    op.execute("DROP VIEW evidence")
    op.drop_column("image", "model_run_id")
    op.drop_column("image_attribute", "model_probability")
    _comment_probability("of present: as judged (0 or 1), else the estimate")
    op.execute(EVIDENCE)


def _comment_probability(comment: str) -> None:
    if op.get_bind().dialect.name == "postgresql":  # SQLite has no comments
        op.alter_column("image_attribute", "probability", comment=comment)
