"""Intervals of precision, recall, F1, balanced accuracy and calibration error

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCORES = ("precision", "recall", "f1", "balanced_accuracy", "ece")
COLUMNS = [f"{name}_{end}" for name in SCORES for end in ("low", "high")]
VIEW = """
    CREATE VIEW attribute_accuracy AS
    SELECT m.run_id, r.kind, r.backbone, m.dataset, m.split, a.name AS attribute, a.group_name, m.n, m.positives,
           m.accuracy, m.accuracy_low, m.accuracy_high, m.all_absent_accuracy, m.prior_accuracy,
           m.ap, m.ap_low, m.ap_high, m.prior_ap, m.precision, m.recall, m.f1,
           m.balanced_accuracy, m.threshold, m.ece, m.probe_ap{more}
    FROM attribute_metric m JOIN run r ON r.id = m.run_id JOIN attribute a ON a.id = m.attribute_id"""


def upgrade() -> None:
    op.execute("DROP VIEW attribute_accuracy")
    for name in COLUMNS:
        op.add_column("attribute_metric", sa.Column(name, sa.Double()))
    op.execute(VIEW.format(more=", " + ", ".join(f"m.{name}" for name in COLUMNS)))


def downgrade() -> None:
    op.execute("DROP VIEW attribute_accuracy")
    for name in COLUMNS:
        op.drop_column("attribute_metric", name)
    op.execute(VIEW.format(more=""))
