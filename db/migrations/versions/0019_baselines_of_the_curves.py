"""A run has the trivial baselines of its val split: labels may change after the training

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

COLUMNS = {
    "val_all_absent_accuracy": "of calling every known val cell absent",
    "val_prior_accuracy": "of the state that is likelier in train, on the known val cells",
    "val_prior_map": "of any constant score, on the known val cells",
}


def upgrade() -> None:
    for name, comment in COLUMNS.items():
        op.add_column("run", sa.Column(name, sa.Double(), comment=comment))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("run", name)
