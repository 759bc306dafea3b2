"""A run can be pinned, named and archived; scores say what they count, and the view trust

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

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
           MAX(CASE WHEN m.name = 'prior_map' THEN m.value END) AS prior_map,
           MAX(CASE WHEN m.name = 'balanced_accuracy' THEN m.value END) AS balanced_accuracy,
           MAX(CASE WHEN m.name = 'balanced_accuracy' THEN m.low END) AS balanced_accuracy_low,
           MAX(CASE WHEN m.name = 'balanced_accuracy' THEN m.high END) AS balanced_accuracy_high,
           m.against, m.judged_by{more}
    FROM run r
    LEFT JOIN run_metric m ON m.run_id = r.id{headline}
    GROUP BY r.id, r.kind, r.status, r.backbone, r.dataset, m.dataset, m.split, r.started_at,
             r.finished_at, r.train_images, r.val_images, m.against, m.judged_by{group}"""
MORE = """,
           MAX(CASE WHEN m.name = 'map' THEN m.attributes END) AS map_attributes,
           MAX(CASE WHEN m.name = 'probe_map' THEN m.value END) AS probe_map,
           r.name, r.pinned, r.archived, r.best_epoch"""
GROUP = ", r.name, r.pinned,\n             r.archived, r.best_epoch"
ATTRIBUTE_ACCURACY = """
    CREATE VIEW attribute_accuracy AS
    SELECT m.run_id, r.kind, r.backbone, m.dataset, m.split, a.name AS attribute, a.group_name, m.n,
           m.positives, m.accuracy, m.accuracy_low, m.accuracy_high, m.all_absent_accuracy,
           m.prior_accuracy, m.ap, m.ap_low, m.ap_high, m.prior_ap, m.precision, m.recall, m.f1,
           m.balanced_accuracy, m.threshold, m.ece, m.probe_ap, m.precision_low, m.precision_high,
           m.recall_low, m.recall_high, m.f1_low, m.f1_high, m.balanced_accuracy_low,
           m.balanced_accuracy_high, m.ece_low, m.ece_high, m.specificity, m.specificity_low,
           m.specificity_high,
           CASE WHEN m.recall < 0.2 OR m.specificity < 0.2 THEN 1 ELSE 0 END AS degenerate,
           m.against{more}
    FROM attribute_metric m
    JOIN run r ON r.id = m.run_id{headline}
    JOIN attribute a ON a.id = m.attribute_id"""
RARER = """,
           CASE WHEN m.positives < m.n - m.positives THEN m.positives ELSE m.n - m.positives END
             AS rarer_n,
           m.over_prior, m.over_prior_low, m.over_prior_high, m.over_probe, m.over_probe_low,
           m.over_probe_high"""
SHOWN_RUN = """
    CREATE VIEW shown_run AS
    SELECT ranked.dataset, ranked.run_id, ranked.pinned
    FROM (SELECT r.dataset, r.id AS run_id, r.pinned,
                 ROW_NUMBER() OVER (
                   PARTITION BY r.dataset
                   ORDER BY r.pinned DESC, COALESCE(e.map, -1) DESC, r.id DESC) AS place
          FROM run r
          LEFT JOIN epoch_metric e ON e.run_id = r.id AND e.epoch = r.best_epoch
          WHERE r.kind = 'trained' AND r.status = 'finished' AND NOT r.archived) ranked
    WHERE ranked.place = 1"""
TRUST = """
    CREATE VIEW trust AS
    SELECT t.run_id, t.dataset, t.split, t.attribute, t.group_name,
           CASE
             WHEN t.against = 'labels' THEN 'not measured'
             WHEN t.rarer_n < 5 THEN 'too few cells'
             WHEN t.over_prior_low IS NULL THEN 'not measured'
             WHEN t.over_prior_low <= 0 OR t.degenerate = 1 OR t.over_probe_high < 0 THEN 'no'
             ELSE 'yes' END AS verdict,
           CASE
             WHEN t.against = 'labels' THEN 'nobody judged photos of this split'
             WHEN t.rarer_n < 5 THEN 'under 5 judged cells of the rarer state'
             WHEN t.over_prior_low IS NULL THEN 'scored by an older version: evaluate again'
             WHEN t.over_prior_high < 0 THEN 'worse than the prior'
             WHEN t.over_prior_low <= 0 THEN 'not distinguishable from the prior'
             WHEN t.over_probe_high < 0 THEN 'better than the prior, worse than the linear probe'
             WHEN t.specificity < 0.2 THEN 'better than the prior in order, but cannot say no'
             WHEN t.recall < 0.2 THEN 'better than the prior in order, but cannot say yes'
             WHEN t.over_probe_low > 0 THEN 'better than the prior and the linear probe'
             WHEN t.over_probe_low IS NULL THEN 'better than the prior, without a linear probe to compare'
             ELSE 'better than the prior, not distinguishable from the linear probe'
           END AS reason,
           t.against, t.n, t.positives, t.rarer_n,
           1.0 * (m.label_present_right + m.label_absent_right)
             / NULLIF(m.label_present + m.label_absent, 0) AS label_precision,
           m.label_present_right + m.label_absent_right AS labels_right,
           m.label_present + m.label_absent AS labels_judged,
           1.0 * (m.label_present + m.label_absent) / NULLIF(t.n, 0) AS label_coverage,
           t.ap, t.prior_ap, t.probe_ap, t.over_prior, t.over_prior_low, t.over_prior_high,
           t.over_probe, t.over_probe_low, t.over_probe_high, t.recall, t.specificity
    FROM attribute_accuracy t
    JOIN attribute a ON a.name = t.attribute
    JOIN attribute_metric m
      ON m.run_id = t.run_id AND m.dataset = t.dataset AND m.split = t.split
      AND m.against = t.against AND m.attribute_id = a.id"""
GAINS = [f"over_{what}{end}" for what in ("prior", "probe") for end in ("", "_low", "_high")]
COMMENTS = {
    "over_prior": "gain in average precision over a random order, which is all that the prior gives",
    "over_probe": "gain in average precision over the linear probe",
}
LABELS = ["label_present", "label_present_right", "label_absent", "label_absent_right"]


def upgrade() -> None:
    op.execute("DROP VIEW attribute_accuracy")
    op.execute("DROP VIEW run_summary")
    with op.batch_alter_table("run") as batch:
        comment = "the run to show of its dataset; without one, the best by val"
        for name, text in (("pinned", comment), ("archived", "not offered, nor shown by default")):
            batch.add_column(
                sa.Column(
                    name, sa.Boolean(), nullable=False, server_default=sa.false(), comment=text
                )
            )
        batch.add_column(sa.Column("name", sa.String(), comment="given by people"))
    op.create_index(
        "ix_run_pinned",
        "run",
        ["dataset"],
        unique=True,
        sqlite_where=sa.text("pinned"),
        postgresql_where=sa.text("pinned"),
    )
    with op.batch_alter_table("run_metric") as batch:
        comment = "number of attributes over which a score is the mean"
        batch.add_column(sa.Column("attributes", sa.Integer(), comment=comment))
    with op.batch_alter_table("attribute_metric") as batch:
        for name in GAINS:
            batch.add_column(sa.Column(name, sa.Double(), comment=COMMENTS.get(name)))
        for name in LABELS:
            batch.add_column(sa.Column(name, sa.Integer()))
    op.execute(
        RUN_SUMMARY.format(more=MORE, headline=HEADLINE.format(table="run_metric"), group=GROUP)
    )
    op.execute(
        ATTRIBUTE_ACCURACY.format(more=RARER, headline=HEADLINE.format(table="attribute_metric"))
    )
    op.execute(SHOWN_RUN)
    op.execute(TRUST)


def downgrade() -> None:
    for view in ("shown_run", "trust", "attribute_accuracy", "run_summary"):
        op.execute(f"DROP VIEW {view}")
    with op.batch_alter_table("attribute_metric") as batch:
        for name in (*GAINS, *LABELS):
            batch.drop_column(name)
    with op.batch_alter_table("run_metric") as batch:
        batch.drop_column("attributes")
    op.drop_index("ix_run_pinned", "run")
    with op.batch_alter_table("run") as batch:
        for name in ("pinned", "archived", "name"):
            batch.drop_column(name)
    op.execute(RUN_SUMMARY.format(more="", headline=HEADLINE.format(table="run_metric"), group=""))
    op.execute(
        ATTRIBUTE_ACCURACY.format(more="", headline=HEADLINE.format(table="attribute_metric"))
    )
