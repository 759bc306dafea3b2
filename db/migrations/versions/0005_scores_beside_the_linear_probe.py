"""Scores: balanced accuracy, threshold, calibration error, and the linear probe's average precision

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = {
    "balanced_accuracy": None,
    "threshold": "chosen on val, for precision, recall, F1, balanced accuracy",
    "ece": "expected calibration error",
    "probe_ap": "of the linear probe on the same backbone",
}
VIEW = """
    CREATE VIEW attribute_accuracy AS
    SELECT m.run_id, r.kind, r.backbone, m.dataset, m.split, a.name AS attribute, a.group_name, m.n, m.positives,
           m.accuracy, m.accuracy_low, m.accuracy_high, m.all_absent_accuracy, m.prior_accuracy,
           m.ap, m.ap_low, m.ap_high, m.prior_ap, m.precision, m.recall, m.f1{more}
    FROM attribute_metric m JOIN run r ON r.id = m.run_id JOIN attribute a ON a.id = m.attribute_id"""


def upgrade() -> None:
    op.execute("DROP VIEW attribute_accuracy")
    for name, comment in COLUMNS.items():
        op.add_column("attribute_metric", sa.Column(name, sa.Double(), comment=comment))
    op.execute(VIEW.format(more=", " + ", ".join(f"m.{name}" for name in COLUMNS)))


def downgrade() -> None:
    op.execute("DROP VIEW attribute_accuracy")
    for name in COLUMNS:
        op.drop_column("attribute_metric", name)
    op.execute(VIEW.format(more=""))
