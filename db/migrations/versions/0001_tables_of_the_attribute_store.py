"""Tables of the attribute store

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The documented SQL interface. Both SQLite and PostgreSQL read it.
VIEWS = {
    "label": """
        SELECT i.dataset, i.coco_id, i.file_name, i.split, a.name AS attribute, a.group_name, l.state, l.confidence,
               l.conflict, i.rule_version, i.id AS image_id
        FROM image_attribute l JOIN image i ON i.id = l.image_id JOIN attribute a ON a.id = l.attribute_id""",
    "evidence": """
        SELECT i.dataset, i.coco_id, i.file_name, a.name AS attribute, e.source, e.state, e.confidence, e.detail,
               e.segment_id, e.caption_id, i.id AS image_id
        FROM attribute_evidence e JOIN image i ON i.id = e.image_id JOIN attribute a ON a.id = e.attribute_id""",
    "dataset_coverage": """
        SELECT i.dataset, a.name AS attribute, a.group_name, COUNT(*) AS images,
               SUM(CASE WHEN l.state = 'present' THEN 1 ELSE 0 END) AS present,
               SUM(CASE WHEN l.state = 'absent' THEN 1 ELSE 0 END) AS absent,
               SUM(CASE WHEN l.state = 'unknown' THEN 1 ELSE 0 END) AS unknown,
               SUM(CASE WHEN l.conflict THEN 1 ELSE 0 END) AS conflicts,
               1.0 * SUM(CASE WHEN l.state = 'unknown' THEN 0 ELSE 1 END) / COUNT(*) AS coverage
        FROM image_attribute l JOIN image i ON i.id = l.image_id JOIN attribute a ON a.id = l.attribute_id
        GROUP BY i.dataset, a.id, a.name, a.group_name""",
    "dataset_summary": """
        SELECT d.name AS dataset, d.title, d.is_coconut, d.expected_images, d.expected_segments,
               COUNT(i.id) AS images,
               COUNT(CASE WHEN w.state = 'done' THEN 1 END) AS downloaded,
               COUNT(CASE WHEN w.state = 'failed' THEN 1 END) AS failed,
               COUNT(i.mask_path) AS with_mask,
               COUNT(i.rule_version) AS labelled,
               COALESCE(SUM(i.bytes), 0) AS bytes,
               (SELECT COUNT(*) FROM segment s JOIN image x ON x.id = s.image_id WHERE x.dataset = d.name) AS segments,
               (SELECT COUNT(*) FROM caption c JOIN image x ON x.id = c.image_id WHERE x.dataset = d.name) AS captions
        FROM dataset d LEFT JOIN image i ON i.dataset = d.name LEFT JOIN download w ON w.image_id = i.id
        GROUP BY d.name, d.title, d.is_coconut, d.expected_images, d.expected_segments""",
    "attribute_accuracy": """
        SELECT m.run_id, r.kind, r.backbone, m.dataset, m.split, a.name AS attribute, a.group_name, m.n, m.positives,
               m.accuracy, m.accuracy_low, m.accuracy_high, m.all_absent_accuracy, m.prior_accuracy,
               m.ap, m.ap_low, m.ap_high, m.prior_ap, m.precision, m.recall, m.f1
        FROM attribute_metric m JOIN run r ON r.id = m.run_id JOIN attribute a ON a.id = m.attribute_id""",
    "epoch_curve": """
        SELECT e.run_id, r.kind, r.status, r.dataset, r.backbone, e.epoch, e.loss, e.val_loss, e.accuracy, e.map,
               e.decisions, e.learning_rate, e.images_per_second, e.seconds
        FROM epoch_metric e JOIN run r ON r.id = e.run_id""",
    "run_summary": """
        SELECT r.id AS run_id, r.kind, r.status, r.backbone, r.dataset AS trained_on, m.dataset AS evaluated_on,
               m.split, r.started_at, r.finished_at, r.train_images, r.val_images, MAX(m.images) AS images,
               MAX(CASE WHEN m.name = 'accuracy' THEN m.n END) AS decisions,
               MAX(CASE WHEN m.name = 'accuracy' THEN m.value END) AS accuracy,
               MAX(CASE WHEN m.name = 'accuracy' THEN m.low END) AS accuracy_low,
               MAX(CASE WHEN m.name = 'accuracy' THEN m.high END) AS accuracy_high,
               MAX(CASE WHEN m.name = 'all_absent_accuracy' THEN m.value END) AS all_absent_accuracy,
               MAX(CASE WHEN m.name = 'prior_accuracy' THEN m.value END) AS prior_accuracy,
               MAX(CASE WHEN m.name = 'map' THEN m.value END) AS map,
               MAX(CASE WHEN m.name = 'map' THEN m.low END) AS map_low,
               MAX(CASE WHEN m.name = 'map' THEN m.high END) AS map_high,
               MAX(CASE WHEN m.name = 'prior_map' THEN m.value END) AS prior_map
        FROM run r LEFT JOIN run_metric m ON m.run_id = r.id
        GROUP BY r.id, r.kind, r.status, r.backbone, r.dataset, m.dataset, m.split, r.started_at, r.finished_at,
                 r.train_images, r.val_images""",
}


def upgrade() -> None:
    op.create_table(
        "attribute",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("group_name", sa.String(), nullable=False),
        sa.Column("ours", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attribute")),
        sa.UniqueConstraint("name", name=op.f("uq_attribute_name")),
    )
    op.create_table(
        "category",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("isthing", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_category")),
    )
    op.create_table(
        "dataset",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("is_coconut", sa.Boolean(), nullable=False),
        sa.Column("licence", sa.String(), nullable=False),
        sa.Column("expected_images", sa.Integer(), nullable=True),
        sa.Column("expected_segments", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_dataset")),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("backbone", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("total_parameters", sa.Integer(), nullable=False),
        sa.Column("trainable_parameters", sa.Integer(), nullable=False),
        sa.Column("train_images", sa.Integer(), nullable=True),
        sa.Column("val_images", sa.Integer(), nullable=True),
        sa.Column("seed", sa.Integer(), nullable=True),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column(
            "environment",
            sa.JSON(),
            nullable=False,
            comment="git revision, package versions, hardware",
        ),
        sa.Column("rule_version", sa.String(), nullable=True),
        sa.Column(
            "data_fingerprint",
            sa.String(),
            nullable=True,
            comment="SHA-256 of image hashes, splits and labels",
        ),
        sa.Column("checkpoint", sa.String(), nullable=True, comment="relative to the data folder"),
        sa.Column("best_epoch", sa.Integer(), nullable=True),
        sa.Column("flow_run_id", sa.String(), nullable=True),
        sa.Column("note", sa.String(), nullable=True),
        sa.CheckConstraint("kind IN ('trained', 'reported')", name=op.f("ck_run_kind")),
        sa.CheckConstraint(
            "status IN ('running', 'finished', 'failed')", name=op.f("ck_run_status")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    op.create_table(
        "annotation_file",
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "origin",
            sa.String(),
            nullable=False,
            comment="where it was read: the hub, a mirror, or a Kaggle-layout folder",
        ),
        sa.Column("rows_done", sa.Integer(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"], ["dataset.name"], name=op.f("fk_annotation_file_dataset")
        ),
        sa.PrimaryKeyConstraint("dataset", "name", name=op.f("pk_annotation_file")),
    )
    op.create_table(
        "attribute_metric",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("attribute_id", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("positives", sa.Integer(), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("accuracy_low", sa.Double(), nullable=True),
        sa.Column("accuracy_high", sa.Double(), nullable=True),
        sa.Column("all_absent_accuracy", sa.Double(), nullable=True),
        sa.Column("prior_accuracy", sa.Double(), nullable=True),
        sa.Column("ap", sa.Double(), nullable=True),
        sa.Column("ap_low", sa.Double(), nullable=True),
        sa.Column("ap_high", sa.Double(), nullable=True),
        sa.Column("prior_ap", sa.Double(), nullable=True),
        sa.Column("precision", sa.Double(), nullable=True),
        sa.Column("recall", sa.Double(), nullable=True),
        sa.Column("f1", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["attribute_id"], ["attribute.id"], name=op.f("fk_attribute_metric_attribute_id")
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_attribute_metric_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "run_id", "dataset", "split", "attribute_id", name=op.f("pk_attribute_metric")
        ),
    )
    op.create_table(
        "epoch_metric",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=False),
        sa.Column("val_loss", sa.Double(), nullable=True),
        sa.Column("accuracy", sa.Double(), nullable=False),
        sa.Column("map", sa.Double(), nullable=True),
        sa.Column("decisions", sa.Integer(), nullable=False),
        sa.Column("learning_rate", sa.Double(), nullable=True),
        sa.Column("images_per_second", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_epoch_metric_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "epoch", name=op.f("pk_epoch_metric")),
    )
    op.create_table(
        "image",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("coco_id", sa.Integer(), nullable=False),
        sa.Column("file_name", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("licence", sa.String(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=True),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("bytes", sa.Integer(), nullable=True),
        sa.Column("mask_path", sa.String(), nullable=True),
        sa.Column(
            "rule_version",
            sa.String(),
            nullable=True,
            comment="rules its labels were made with; NULL: not labelled yet",
        ),
        sa.CheckConstraint("split IN ('train', 'val', 'test')", name=op.f("ck_image_split")),
        sa.ForeignKeyConstraint(["dataset"], ["dataset.name"], name=op.f("fk_image_dataset")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image")),
        sa.UniqueConstraint("dataset", "coco_id", name=op.f("uq_image_dataset")),
    )
    op.create_table(
        "run_metric",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_run_metric_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "dataset", "split", "name", name=op.f("pk_run_metric")),
    )
    op.create_table(
        "attribute_evidence",
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("attribute_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("segment_id", sa.Integer(), nullable=True),
        sa.Column("caption_id", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "source IN ('panoptic', 'pixels', 'caption')", name=op.f("ck_attribute_evidence_source")
        ),
        sa.CheckConstraint(
            "state IN ('present', 'absent')", name=op.f("ck_attribute_evidence_state")
        ),
        sa.ForeignKeyConstraint(
            ["attribute_id"], ["attribute.id"], name=op.f("fk_attribute_evidence_attribute_id")
        ),
        sa.ForeignKeyConstraint(
            ["image_id"],
            ["image.id"],
            name=op.f("fk_attribute_evidence_image_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "image_id", "attribute_id", "source", "state", name=op.f("pk_attribute_evidence")
        ),
    )
    op.create_table(
        "caption",
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("caption_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_caption_image_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "caption_id", name=op.f("pk_caption")),
    )
    op.create_table(
        "download",
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("error_class", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('done', 'failed')", name=op.f("ck_download_state")),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_download_image_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_download")),
    )
    op.create_table(
        "image_attribute",
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("attribute_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("conflict", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "state IN ('present', 'absent', 'unknown')", name=op.f("ck_image_attribute_state")
        ),
        sa.ForeignKeyConstraint(
            ["attribute_id"], ["attribute.id"], name=op.f("fk_image_attribute_attribute_id")
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_image_attribute_image_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "attribute_id", name=op.f("pk_image_attribute")),
    )
    op.create_index(
        "ix_image_attribute_attribute_id_state",
        "image_attribute",
        ["attribute_id", "state"],
        unique=False,
    )
    op.create_table(
        "prediction",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("attribute_id", sa.Integer(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["attribute_id"], ["attribute.id"], name=op.f("fk_prediction_attribute_id")
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_prediction_image_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_prediction_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "image_id", "attribute_id", name=op.f("pk_prediction")),
    )
    op.create_table(
        "segment",
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("segment_id", sa.Integer(), nullable=False),
        sa.Column("category_id", sa.Integer(), nullable=False),
        sa.Column("iscrowd", sa.Boolean(), nullable=False),
        sa.Column("annotated_area", sa.Integer(), nullable=False),
        sa.Column("area", sa.Integer(), nullable=True),
        sa.Column("bbox_x", sa.Integer(), nullable=True),
        sa.Column("bbox_y", sa.Integer(), nullable=True),
        sa.Column("bbox_width", sa.Integer(), nullable=True),
        sa.Column("bbox_height", sa.Integer(), nullable=True),
        sa.Column("mean_l", sa.Double(), nullable=True),
        sa.Column("mean_a", sa.Double(), nullable=True),
        sa.Column("mean_b", sa.Double(), nullable=True),
        sa.Column("color", sa.String(), nullable=True),
        sa.Column("rle", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_segment_image_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "segment_id", name=op.f("pk_segment")),
    )
    op.create_index("ix_segment_category_id", "segment", ["category_id"], unique=False)
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
    op.drop_index("ix_segment_category_id", table_name="segment")
    op.drop_table("segment")
    op.drop_table("prediction")
    op.drop_index("ix_image_attribute_attribute_id_state", table_name="image_attribute")
    op.drop_table("image_attribute")
    op.drop_table("download")
    op.drop_table("caption")
    op.drop_table("attribute_evidence")
    op.drop_table("run_metric")
    op.drop_table("image")
    op.drop_table("epoch_metric")
    op.drop_table("attribute_metric")
    op.drop_table("annotation_file")
    op.drop_table("run")
    op.drop_table("dataset")
    op.drop_table("category")
    op.drop_table("attribute")
