"""Labels are probabilities; scores say what they are against, and views lead with those by eyes

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

LABEL = """
    CREATE VIEW label AS
    SELECT i.dataset, i.coco_id, i.file_name, i.split, a.name AS attribute, a.group_name, l.state,
           {more}l.confidence, l.conflict, i.rule_version, i.id AS image_id
    FROM image_attribute l
    JOIN image i ON i.id = l.image_id
    JOIN attribute a ON a.id = l.attribute_id"""
# 'eyes' comes before 'labels'.
HEADLINE = """
    AND m.against = (SELECT MIN(x.against) FROM {table} x
                     WHERE x.run_id = m.run_id AND x.dataset = m.dataset AND x.split = m.split)"""
RUN_SUMMARY = """
    CREATE VIEW run_summary AS
    SELECT r.id AS run_id, r.kind, r.status, r.backbone, r.dataset AS trained_on,
           m.dataset AS evaluated_on, m.split, r.started_at, r.finished_at, r.train_images,
           r.val_images, MAX(m.images) AS images,
           MAX(CASE WHEN m.name = 'accuracy' THEN m.n END) AS decisions,
           MAX(CASE WHEN m.name = 'accuracy' THEN m.value END) AS accuracy,
           MAX(CASE WHEN m.name = 'accuracy' THEN m.low END) AS accuracy_low,
           MAX(CASE WHEN m.name = 'accuracy' THEN m.high END) AS accuracy_high,
           MAX(CASE WHEN m.name = 'all_absent_accuracy' THEN m.value END) AS all_absent_accuracy,
           MAX(CASE WHEN m.name = 'prior_accuracy' THEN m.value END) AS prior_accuracy,
           MAX(CASE WHEN m.name = 'map' THEN m.value END) AS map,
           MAX(CASE WHEN m.name = 'map' THEN m.low END) AS map_low,
           MAX(CASE WHEN m.name = 'map' THEN m.high END) AS map_high,
           MAX(CASE WHEN m.name = 'prior_map' THEN m.value END) AS prior_map{more}
    FROM run r
    LEFT JOIN run_metric m ON m.run_id = r.id{headline}
    GROUP BY r.id, r.kind, r.status, r.backbone, r.dataset, m.dataset, m.split, r.started_at,
             r.finished_at, r.train_images, r.val_images{group}"""
BALANCED = """,
           MAX(CASE WHEN m.name = 'balanced_accuracy' THEN m.value END) AS balanced_accuracy,
           MAX(CASE WHEN m.name = 'balanced_accuracy' THEN m.low END) AS balanced_accuracy_low,
           MAX(CASE WHEN m.name = 'balanced_accuracy' THEN m.high END) AS balanced_accuracy_high,
           m.against, m.judged_by"""
ATTRIBUTE_ACCURACY = """
    CREATE VIEW attribute_accuracy AS
    SELECT m.run_id, r.kind, r.backbone, m.dataset, m.split, a.name AS attribute, a.group_name, m.n,
           m.positives, m.accuracy, m.accuracy_low, m.accuracy_high, m.all_absent_accuracy,
           m.prior_accuracy, m.ap, m.ap_low, m.ap_high, m.prior_ap, m.precision, m.recall, m.f1,
           m.balanced_accuracy, m.threshold, m.ece, m.probe_ap, m.precision_low, m.precision_high,
           m.recall_low, m.recall_high, m.f1_low, m.f1_high, m.balanced_accuracy_low,
           m.balanced_accuracy_high, m.ece_low, m.ece_high{more}
    FROM attribute_metric m
    JOIN run r ON r.id = m.run_id{headline}
    JOIN attribute a ON a.id = m.attribute_id"""
SPECIFICITY = """, m.specificity, m.specificity_low,
           m.specificity_high,
           CASE WHEN m.recall < 0.2 OR m.specificity < 0.2 THEN 1 ELSE 0 END AS degenerate,
           m.against"""
KEYS = {
    "run_metric": ["run_id", "dataset", "split", "name"],
    "attribute_metric": ["run_id", "dataset", "split", "attribute_id"],
}


def upgrade() -> None:
    _drop_views()
    with op.batch_alter_table("image_attribute") as batch:
        comment = "of present: as judged (0 or 1), else the estimate"
        batch.add_column(sa.Column("probability", sa.Double(), comment=comment))
        comment = "the label model's probability of present, whatever is judged"
        batch.add_column(sa.Column("estimate", sa.Double(), comment=comment))
        comment = "the label is what somebody saw"
        batch.add_column(
            sa.Column(
                "judged",
                sa.Boolean(),
                nullable=False,
                server_default=sa.false(),
                comment=comment,
            )
        )
    for table, key in KEYS.items():
        column = sa.Column("against", sa.String(), nullable=False, server_default="labels")
        with op.batch_alter_table(table) as batch:
            batch.add_column(column)
            batch.drop_constraint(f"pk_{table}", type_="primary")
            batch.create_primary_key(f"pk_{table}", [*key, "against"])
            batch.create_check_constraint("against", "against IN ('eyes', 'labels')")
    with op.batch_alter_table("run_metric") as batch:
        comment = "who saw what an `eyes` score is against: human, ai, or both"
        batch.add_column(sa.Column("judged_by", sa.String(), comment=comment))
    with op.batch_alter_table("attribute_metric") as batch:
        for name in ("specificity", "specificity_low", "specificity_high"):
            batch.add_column(sa.Column(name, sa.Double()))
    op.execute(LABEL.format(more="l.probability, l.judged, "))
    op.execute(
        RUN_SUMMARY.format(
            more=BALANCED,
            headline=HEADLINE.format(table="run_metric"),
            group=", m.against, m.judged_by",
        )
    )
    op.execute(
        ATTRIBUTE_ACCURACY.format(
            more=SPECIFICITY, headline=HEADLINE.format(table="attribute_metric")
        )
    )


def downgrade() -> None:
    _drop_views()
    for table, key in KEYS.items():
        against: sa.ColumnClause[str] = sa.column("against")
        op.execute(sa.delete(sa.table(table, against)).where(against == "eyes"))
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint("against", type_="check")
            batch.drop_constraint(f"pk_{table}", type_="primary")
            batch.create_primary_key(f"pk_{table}", key)
            batch.drop_column("against")
    with op.batch_alter_table("run_metric") as batch:
        batch.drop_column("judged_by")
    with op.batch_alter_table("attribute_metric") as batch:
        for name in ("specificity", "specificity_low", "specificity_high"):
            batch.drop_column(name)
    with op.batch_alter_table("image_attribute") as batch:
        for name in ("probability", "estimate", "judged"):
            batch.drop_column(name)
    op.execute(LABEL.format(more=""))
    op.execute(RUN_SUMMARY.format(more="", headline="", group=""))
    op.execute(ATTRIBUTE_ACCURACY.format(more="", headline=""))


def _drop_views() -> None:
    for view in ("attribute_accuracy", "run_summary", "label"):
        op.execute(f"DROP VIEW {view}")
