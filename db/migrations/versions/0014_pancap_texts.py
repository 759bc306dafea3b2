"""COCONut-PanCap texts, the attributes of segments, and `pancap` as a source and a stage

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

STAGES = ("annotations", "captions", "extract", "check")
SOURCES = ("panoptic", "pixels", "caption")
VIEW = """
    CREATE VIEW segment_label AS
    SELECT i.dataset, i.coco_id, i.split, x.segment_id, c.name AS category, a.name AS attribute,
           a.group_name, x.confidence, x.detail, s.area, s.rle, i.id AS image_id
    FROM segment_attribute x
    JOIN image i ON i.id = x.image_id
    JOIN attribute a ON a.id = x.attribute_id
    JOIN segment s ON s.image_id = x.image_id AND s.segment_id = x.segment_id
    LEFT JOIN category c ON c.id = s.category_id"""


def upgrade() -> None:
    _allow("finding", "stage", (*STAGES, "pancap"))
    _allow("attribute_evidence", "source", (*SOURCES, "pancap"))
    op.create_table(
        "pancap_text",
        _image_id("pancap_text"),
        sa.Column("text", sa.String(), nullable=False),
    )
    attribute = sa.ForeignKey("attribute.id", name="fk_segment_attribute_attribute_id")
    op.create_table(
        "segment_attribute",
        _image_id("segment_attribute"),
        sa.Column("segment_id", sa.Integer(), primary_key=True),
        sa.Column("attribute_id", sa.Integer(), attribute, primary_key=True),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
    )
    op.execute(VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW segment_label")
    op.drop_table("segment_attribute")
    op.drop_table("pancap_text")
    op.execute("DELETE FROM attribute_evidence WHERE source = 'pancap'")
    op.execute("DELETE FROM finding WHERE stage = 'pancap'")
    _allow("attribute_evidence", "source", SOURCES)
    _allow("finding", "stage", STAGES)


def _image_id(table: str) -> sa.Column:
    image = sa.ForeignKey("image.id", name=f"fk_{table}_image_id", ondelete="CASCADE")
    return sa.Column("image_id", sa.Integer(), image, primary_key=True)


def _allow(table: str, column: str, values: tuple[str, ...]) -> None:
    condition = f"{column} IN ({', '.join(repr(value) for value in values)})"
    with op.batch_alter_table(table) as batch:
        batch.drop_constraint(column, type_="check")
        batch.create_check_constraint(column, condition)
