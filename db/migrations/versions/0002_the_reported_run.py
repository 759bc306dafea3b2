"""The reported run: ten epochs of an earlier one-off training, stored to be drawn beside ours

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LOSSES = (0.7049, 0.7019, 0.7006, 0.6988, 0.6972, 0.6963, 0.6953, 0.6946, 0.6936, 0.6939)
ACCURACIES = (0.2941, 0.3059, 0.3176, 0.3412, 0.3882, 0.3824, 0.4235, 0.4529, 0.4529, 0.4294)
DECISIONS = 170  # every accuracy is a multiple of 1/170: 5 images of 34 attributes
NOTE = (
    "Reported by an earlier one-off run, not reproduced here. Its validation set was 5 images (170 decisions), its "
    "loss stays at chance (ln 2 = 0.693), and it stated no baseline."
)

run = sa.table(
    "run",
    sa.column("id", sa.Integer), sa.column("kind"), sa.column("status"), sa.column("dataset"), sa.column("backbone"),
    sa.column("total_parameters", sa.Integer), sa.column("trainable_parameters", sa.Integer),
    sa.column("val_images", sa.Integer), sa.column("config", sa.JSON), sa.column("environment", sa.JSON),
    sa.column("note"),
)  # fmt: skip
epoch_metric = sa.table(
    "epoch_metric",
    sa.column("run_id", sa.Integer), sa.column("epoch", sa.Integer), sa.column("loss", sa.Double),
    sa.column("accuracy", sa.Double), sa.column("decisions", sa.Integer),
)  # fmt: skip


def upgrade() -> None:
    result = op.get_bind().execute(
        run.insert().returning(run.c.id),
        {
            "kind": "reported",
            "status": "finished",
            "dataset": "val5k",
            "backbone": "resnet50",
            "total_parameters": 27_078_498,
            "trainable_parameters": 12_495_650,
            "val_images": 5,
            "config": {
                "epochs": 10,
                "schedule": "cosine",
                "gradient_clipping": True,
                "weight_decay": True,
            },
            "environment": {},
            "note": NOTE,
        },
    )
    run_id = result.scalar_one()
    curve = enumerate(zip(LOSSES, ACCURACIES, strict=True), start=1)
    op.bulk_insert(
        epoch_metric,
        [
            {
                "run_id": run_id,
                "epoch": epoch,
                "loss": loss,
                "accuracy": accuracy,
                "decisions": DECISIONS,
            }
            for epoch, (loss, accuracy) in curve
        ],
    )


def downgrade() -> None:
    op.execute(
        "DELETE FROM epoch_metric WHERE run_id IN (SELECT id FROM run WHERE kind = 'reported')"
    )
    op.execute("DELETE FROM run WHERE kind = 'reported'")
