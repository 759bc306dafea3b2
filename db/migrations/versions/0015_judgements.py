"""Judgements, the newest of each annotator, and the truth that they amount to

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

LATEST = """
    CREATE VIEW judgement_latest AS
    SELECT i.dataset, i.coco_id, i.file_name, i.split, a.name AS attribute, a.group_name, j.state,
           j.annotator, j.kind, j.guideline, j.chosen, j.judged_at, j.attribute_id, j.image_id
    FROM judgement j
    JOIN image i ON i.id = j.image_id
    JOIN attribute a ON a.id = j.attribute_id
    WHERE NOT EXISTS (
      SELECT 1 FROM judgement n
      WHERE n.image_id = j.image_id AND n.attribute_id = j.attribute_id
        AND n.annotator = j.annotator AND n.judged_at > j.judged_at)"""
TRUTH = """
    CREATE VIEW truth AS
    SELECT l.dataset, l.coco_id, l.file_name, l.split, l.attribute, l.group_name,
           CASE WHEN MIN(l.state) = MAX(l.state) THEN MIN(l.state) ELSE 'unsure' END AS state,
           l.kind, COUNT(*) AS annotators, l.attribute_id, l.image_id
    FROM judgement_latest l
    WHERE l.kind = 'human' OR NOT EXISTS (
      SELECT 1 FROM judgement h
      WHERE h.image_id = l.image_id AND h.attribute_id = l.attribute_id AND h.kind = 'human')
    GROUP BY l.dataset, l.coco_id, l.file_name, l.split, l.attribute, l.group_name, l.kind,
             l.attribute_id, l.image_id"""


def upgrade() -> None:
    image = sa.ForeignKey("image.id", name="fk_judgement_image_id", ondelete="CASCADE")
    attribute = sa.ForeignKey("attribute.id", name="fk_judgement_attribute_id")
    op.create_table(
        "judgement",
        sa.Column("image_id", sa.Integer(), image, primary_key=True),
        sa.Column("attribute_id", sa.Integer(), attribute, primary_key=True),
        sa.Column("annotator", sa.String(), primary_key=True),
        sa.Column("judged_at", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="human, or ai: an AI model"),
        sa.Column(
            "guideline",
            sa.String(),
            nullable=False,
            comment="version of GUIDELINE.md; empty: another",
        ),
        sa.Column(
            "chosen",
            sa.String(),
            nullable=False,
            comment="how the image was chosen: random, or a queue's name; empty: not stated",
        ),
        sa.CheckConstraint("state IN ('present', 'absent', 'unsure')", name="state"),
        sa.CheckConstraint("kind IN ('human', 'ai')", name="kind"),
    )
    op.execute(LATEST)
    op.execute(TRUTH)


def downgrade() -> None:
    op.execute("DROP VIEW truth")
    op.execute("DROP VIEW judgement_latest")
    op.drop_table("judgement")
