"""Tables of the attribute database. The views over them are in views.sql."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Index,
    MetaData,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """The base of all tables: constraint names, and column types by annotation."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSON,
        float: Double,
    }


def _image_key() -> Mapped[int]:
    return mapped_column(ForeignKey("image.id", ondelete="CASCADE"), primary_key=True)


class Dataset(Base):
    """A dataset of the registry, and its counts as upstream states them."""

    __tablename__ = "dataset"

    name: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    is_coconut: Mapped[bool]
    licence: Mapped[str]
    expected_images: Mapped[int | None]
    expected_segments: Mapped[int | None]


class Attribute(Base):
    """One of the 34 attributes: `id` is its place in the label vector, `ours`: not the report's."""

    __tablename__ = "attribute"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(unique=True)
    group_name: Mapped[str]
    ours: Mapped[bool]


class Category(Base):
    """A COCO panoptic category."""

    __tablename__ = "category"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    isthing: Mapped[bool]


class AnnotationFile(Base):
    """How many rows of one annotation file (parquet shard, JSON) are stored, to resume reading it.

    `size` (bytes), `sha256` and `etag` are of the file that was read; NULL if its host states none.
    """

    __tablename__ = "annotation_file"

    dataset: Mapped[str] = mapped_column(ForeignKey("dataset.name"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    origin: Mapped[str] = mapped_column(
        comment="where it was read: the hub, a mirror, or a Kaggle-layout folder"
    )
    rows_done: Mapped[int] = mapped_column(default=0)
    complete: Mapped[bool] = mapped_column(default=False)
    size: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    etag: Mapped[str | None]
    updated_at: Mapped[datetime] = mapped_column(default=now)


class Image(Base):
    """An image of a dataset. Sizes are in pixels, paths are relative to the data folder."""

    __tablename__ = "image"
    __table_args__ = (
        UniqueConstraint("dataset", "coco_id"),
        CheckConstraint("split IN ('train', 'val', 'test')", name="split"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(ForeignKey("dataset.name"))
    coco_id: Mapped[int]
    file_name: Mapped[str]
    url: Mapped[str]
    licence: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    split: Mapped[str]
    path: Mapped[str | None]
    sha256: Mapped[str | None]
    bytes: Mapped[int | None]
    mask_path: Mapped[str | None]
    annotation_file: Mapped[str | None] = mapped_column(
        comment="name of the file that its mask and segments are of"
    )
    perceptual_hash: Mapped[str | None] = mapped_column(
        comment="38 hex digits, see coconut_attr/files/near_duplicates.py; empty: one colour"
    )
    rule_version: Mapped[str | None] = mapped_column(
        comment="rules its labels were made with; NULL: not labelled yet"
    )
    model_run_id: Mapped[int | None] = mapped_column(
        comment="the run whose labels taught model_probability"
    )


class Download(Base):
    """The result of the last attempts to download an image.

    A file in state `done` had the right length, structure and pixel size. `verified_at` is when it
    was last read again, compared with its SHA-256, and decoded. `error_class` names the cause of a
    failure; in state `done`, of a failed comparison with upstream (the file itself is intact).
    """

    __tablename__ = "download"
    __table_args__ = (
        CheckConstraint("state IN ('done', 'failed')", name="state"),
        Index(
            "ix_download_failed",
            "error_class",
            sqlite_where=text("state = 'failed'"),
            postgresql_where=text("state = 'failed'"),
        ),
    )

    image_id: Mapped[int] = _image_key()
    state: Mapped[str]
    attempts: Mapped[int]
    seconds: Mapped[float]
    error_class: Mapped[str | None]
    error: Mapped[str | None]
    updated_at: Mapped[datetime] = mapped_column(default=now)
    permanent: Mapped[bool | None] = mapped_column(
        comment="of a failure: there is no use in another attempt"
    )
    url: Mapped[str | None]
    etag: Mapped[str | None]
    bytes: Mapped[int | None]
    verified_at: Mapped[datetime | None]


class DownloadClaim(Base):
    """An image that a worker is downloading; after `expires_at` another worker may claim it."""

    __tablename__ = "download_claim"

    image_id: Mapped[int] = _image_key()
    worker: Mapped[str] = mapped_column(index=True, comment="host/process/random")
    expires_at: Mapped[datetime]


class FindingRow(Base):
    """Something that could not be used or does not fit: in one image, or (NULL) in the dataset.

    A stage (reading annotations or captions, extracting labels, checking) replaces its own findings
    when it runs again. Extraction and check may report the same thing, in the same words.
    """

    __tablename__ = "finding"
    __table_args__ = (
        CheckConstraint(
            "stage IN ('annotations', 'captions', 'pancap', 'extract', 'check')", name="stage"
        ),
        Index("ix_finding_dataset_kind", "dataset", "kind"),
        Index("ix_finding_image_id", "image_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(ForeignKey("dataset.name"))
    image_id: Mapped[int | None] = mapped_column(ForeignKey("image.id", ondelete="CASCADE"))
    stage: Mapped[str]
    kind: Mapped[str]
    detail: Mapped[str]
    found_at: Mapped[datetime] = mapped_column(default=now)


class Caption(Base):
    """A human caption; `caption_id` is COCO's."""

    __tablename__ = "caption"

    image_id: Mapped[int] = _image_key()
    caption_id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Segment(Base):
    """A panoptic segment; `segment_id` is R + 256 G + 65536 B of its colour in the mask.

    `annotated_area` is stated by segments_info, NULL without it. The other measures (pixels) come
    from the mask and are NULL until labels are extracted: `mean_l`, `mean_a`, `mean_b` are CIELAB
    of the mean colour under the mask, `color` names the colour of most pixels, `rle` is a thing's
    compressed run-length encoding for pycocotools.
    """

    __tablename__ = "segment"
    __table_args__ = (Index("ix_segment_category_id", "category_id"),)

    image_id: Mapped[int] = _image_key()
    segment_id: Mapped[int] = mapped_column(primary_key=True)
    category_id: Mapped[int]
    iscrowd: Mapped[bool]
    annotated_area: Mapped[int | None]
    area: Mapped[int | None]
    bbox_x: Mapped[int | None]
    bbox_y: Mapped[int | None]
    bbox_width: Mapped[int | None]
    bbox_height: Mapped[int | None]
    mean_l: Mapped[float | None]
    mean_a: Mapped[float | None]
    mean_b: Mapped[float | None]
    color: Mapped[str | None]
    rle: Mapped[str | None]


class PanCapText(Base):
    """The COCONut-PanCap text of an image: `<6: grey ramp>` describes the segment with id 6."""

    __tablename__ = "pancap_text"

    image_id: Mapped[int] = _image_key()
    text: Mapped[str]


class SegmentAttribute(Base):
    """An attribute that a COCONut-PanCap text states of a segment; `detail` quotes its phrase."""

    __tablename__ = "segment_attribute"

    image_id: Mapped[int] = _image_key()
    segment_id: Mapped[int] = mapped_column(primary_key=True)
    attribute_id: Mapped[int] = mapped_column(ForeignKey("attribute.id"), primary_key=True)
    confidence: Mapped[float]
    detail: Mapped[str]


class ImageAttribute(Base):
    """The label of one attribute of one image.

    `confidence` is the probability of its more probable state; `conflict`: there is evidence for
    both states.

    `estimate` is the label model's, from the evidence of annotations, texts and pixels;
    `probability` joins `model_probability` to it, if there is one. Both are NULL until `extract`
    labels an image of an older version again.
    """

    __tablename__ = "image_attribute"
    __table_args__ = (
        CheckConstraint("state IN ('present', 'absent', 'unknown')", name="state"),
        Index("ix_image_attribute_browse", "attribute_id", "state", "image_id"),
    )

    image_id: Mapped[int] = _image_key()
    attribute_id: Mapped[int] = mapped_column(ForeignKey("attribute.id"), primary_key=True)
    state: Mapped[str]
    confidence: Mapped[float]
    conflict: Mapped[bool]
    probability: Mapped[float | None] = mapped_column(
        comment="of present: as judged (0 or 1), else by estimate and model_probability"
    )
    estimate: Mapped[float | None] = mapped_column(
        comment="the label model's probability of present, whatever is judged"
    )
    judged: Mapped[bool] = mapped_column(
        default=False, server_default=false(), comment="the label is what somebody saw"
    )
    model_probability: Mapped[float | None] = mapped_column(
        comment="of present, by an image model that was trained without the image"
    )


class AttributeEvidence(Base):
    """One piece of evidence behind a label."""

    __tablename__ = "attribute_evidence"
    __table_args__ = (
        CheckConstraint("source IN ('panoptic', 'pixels', 'caption', 'pancap')", name="source"),
        CheckConstraint("state IN ('present', 'absent')", name="state"),
    )

    image_id: Mapped[int] = _image_key()
    attribute_id: Mapped[int] = mapped_column(ForeignKey("attribute.id"), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(primary_key=True)
    confidence: Mapped[float]
    detail: Mapped[str]
    segment_id: Mapped[int | None]
    caption_id: Mapped[int | None]


class Judgement(Base):
    """What an annotator who looked at a photo says of one attribute of it.

    Rows are only added. The newest of an annotator counts.
    """

    __tablename__ = "judgement"
    __table_args__ = (
        CheckConstraint("state IN ('present', 'absent', 'unsure')", name="state"),
        CheckConstraint("kind IN ('human', 'ai')", name="kind"),
    )

    image_id: Mapped[int] = _image_key()
    attribute_id: Mapped[int] = mapped_column(ForeignKey("attribute.id"), primary_key=True)
    annotator: Mapped[str] = mapped_column(primary_key=True)
    judged_at: Mapped[datetime] = mapped_column(primary_key=True)
    state: Mapped[str]
    kind: Mapped[str] = mapped_column(comment="human, or ai: an AI model")
    guideline: Mapped[str] = mapped_column(comment="version of GUIDELINE.md; empty: another")
    chosen: Mapped[str] = mapped_column(
        comment="how the image was chosen: random, or a queue's name; empty: not stated"
    )


class Run(Base):
    """A training run: `trained` here, or `reported` by somebody else and stored for comparison.

    The process of a `running` run writes `heartbeat_at` every half minute. If it stops doing so, it
    has died or cannot reach the database, and another process may take over the run.
    """

    __tablename__ = "run"
    __table_args__ = (
        CheckConstraint("kind IN ('trained', 'reported')", name="kind"),
        CheckConstraint("status IN ('running', 'finished', 'failed', 'cancelled')", name="status"),
        Index(
            "ix_run_pinned",
            "dataset",
            unique=True,
            sqlite_where=text("pinned"),
            postgresql_where=text("pinned"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    status: Mapped[str]
    dataset: Mapped[str]
    backbone: Mapped[str]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    total_parameters: Mapped[int]
    trainable_parameters: Mapped[int]
    train_images: Mapped[int | None]
    val_images: Mapped[int | None]
    val_all_absent_accuracy: Mapped[float | None] = mapped_column(
        comment="of calling every known val cell absent"
    )
    val_prior_accuracy: Mapped[float | None] = mapped_column(
        comment="of the state that is likelier in train, on the known val cells"
    )
    val_prior_map: Mapped[float | None] = mapped_column(
        comment="of any constant score, on the known val cells"
    )
    seed: Mapped[int | None]
    config: Mapped[dict[str, Any]]
    environment: Mapped[dict[str, Any]] = mapped_column(
        comment="git revision, package versions, hardware"
    )
    rule_version: Mapped[str | None]
    data_fingerprint: Mapped[str | None] = mapped_column(
        comment="SHA-256 of image hashes, splits and labels"
    )
    checkpoint: Mapped[str | None] = mapped_column(comment="relative to the data folder")
    best_epoch: Mapped[int | None]
    flow_run_id: Mapped[str | None]
    note: Mapped[str | None]
    heartbeat_at: Mapped[datetime | None]
    process: Mapped[str | None] = mapped_column(
        comment="that has the run, or had it last: host/process id/random"
    )
    pinned: Mapped[bool] = mapped_column(
        default=False,
        server_default=false(),
        comment="the run to show of its dataset; without one, the best by val",
    )
    archived: Mapped[bool] = mapped_column(
        default=False, server_default=false(), comment="not offered, nor shown by default"
    )
    name: Mapped[str | None] = mapped_column(comment="given by people")


class EpochMetric(Base):
    """One epoch of a run. Accuracy (over `decisions` cells) and mAP are of the val split."""

    __tablename__ = "epoch_metric"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    loss: Mapped[float]
    val_loss: Mapped[float | None]
    accuracy: Mapped[float]
    map: Mapped[float | None]
    decisions: Mapped[int]
    learning_rate: Mapped[float | None]
    images_per_second: Mapped[float | None]
    seconds: Mapped[float | None]


class RunMetric(Base):
    """One overall score of a run on a split, with its 95 % interval and its n (known cells).

    It is against what was seen in the photos (`eyes`: judgements) or against the labels.
    """

    __tablename__ = "run_metric"
    __table_args__ = (CheckConstraint("against IN ('eyes', 'labels')", name="against"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    dataset: Mapped[str] = mapped_column(primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    against: Mapped[str] = mapped_column(primary_key=True, server_default="labels")
    judged_by: Mapped[str | None] = mapped_column(
        comment="who saw what an `eyes` score is against: human, ai, or both"
    )
    value: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    n: Mapped[int]
    images: Mapped[int]
    attributes: Mapped[int | None] = mapped_column(
        comment="number of attributes over which a score is the mean"
    )


class AttributeMetric(Base):
    """Scores of one attribute in a run, beside trivial baselines. NULL: the score is undefined.

    `label_present` and `label_absent` count the labels of the same cells, which are right where
    they agree with the judgement; only scores by eyes have them.
    """

    __tablename__ = "attribute_metric"
    __table_args__ = (CheckConstraint("against IN ('eyes', 'labels')", name="against"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    dataset: Mapped[str] = mapped_column(primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    attribute_id: Mapped[int] = mapped_column(ForeignKey("attribute.id"), primary_key=True)
    against: Mapped[str] = mapped_column(primary_key=True, server_default="labels")
    n: Mapped[int]
    positives: Mapped[int]
    accuracy: Mapped[float | None]
    accuracy_low: Mapped[float | None]
    accuracy_high: Mapped[float | None]
    all_absent_accuracy: Mapped[float | None]
    prior_accuracy: Mapped[float | None]
    ap: Mapped[float | None]
    ap_low: Mapped[float | None]
    ap_high: Mapped[float | None]
    prior_ap: Mapped[float | None]
    precision: Mapped[float | None]
    precision_low: Mapped[float | None]
    precision_high: Mapped[float | None]
    recall: Mapped[float | None]
    recall_low: Mapped[float | None]
    recall_high: Mapped[float | None]
    specificity: Mapped[float | None]
    specificity_low: Mapped[float | None]
    specificity_high: Mapped[float | None]
    f1: Mapped[float | None]
    f1_low: Mapped[float | None]
    f1_high: Mapped[float | None]
    balanced_accuracy: Mapped[float | None]
    balanced_accuracy_low: Mapped[float | None]
    balanced_accuracy_high: Mapped[float | None]
    threshold: Mapped[float | None] = mapped_column(
        comment="chosen on val, for precision, recall, F1, balanced accuracy"
    )
    ece: Mapped[float | None] = mapped_column(comment="expected calibration error")
    ece_low: Mapped[float | None]
    ece_high: Mapped[float | None]
    probe_ap: Mapped[float | None] = mapped_column(
        comment="of the linear probe on the same backbone"
    )
    over_prior: Mapped[float | None] = mapped_column(
        comment="gain in average precision over a random order, which is all that the prior gives"
    )
    over_prior_low: Mapped[float | None]
    over_prior_high: Mapped[float | None]
    over_probe: Mapped[float | None] = mapped_column(
        comment="gain in average precision over the linear probe"
    )
    over_probe_low: Mapped[float | None]
    over_probe_high: Mapped[float | None]
    label_present: Mapped[int | None]
    label_present_right: Mapped[int | None]
    label_absent: Mapped[int | None]
    label_absent_right: Mapped[int | None]


class Prediction(Base):
    """A run's probability of one attribute of one image of an evaluated split."""

    __tablename__ = "prediction"
    __table_args__ = (
        Index("ix_prediction_browse", "run_id", "attribute_id", "probability", "image_id"),
    )

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    image_id: Mapped[int] = _image_key()
    attribute_id: Mapped[int] = mapped_column(ForeignKey("attribute.id"), primary_key=True)
    probability: Mapped[float]


class Progress(Base):
    """How far a long job has come, written every few seconds; `what` names the job."""

    __tablename__ = "progress"
    __table_args__ = (CheckConstraint("state IN ('running', 'finished', 'failed')", name="state"),)

    what: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    done: Mapped[int]
    total: Mapped[int]
    note: Mapped[str]
    started_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class DatasetCount(Base):
    """Counts of a split of a dataset as of the end of the last stage; see db.counts."""

    __tablename__ = "dataset_count"

    dataset: Mapped[str] = mapped_column(ForeignKey("dataset.name"), primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    images: Mapped[int] = mapped_column(BigInteger)
    downloaded: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)
    with_mask: Mapped[int] = mapped_column(BigInteger)
    labelled: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    segments: Mapped[int] = mapped_column(BigInteger)
    captions: Mapped[int] = mapped_column(BigInteger)
    counted_at: Mapped[datetime]


class LabelCount(Base):
    """Number of images of a split by label state, by all sources (`combined`) and by each."""

    __tablename__ = "label_count"

    dataset: Mapped[str] = mapped_column(ForeignKey("dataset.name"), primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    attribute_id: Mapped[int] = mapped_column(ForeignKey("attribute.id"), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    present: Mapped[int]
    absent: Mapped[int]
    unknown: Mapped[int]
    conflicts: Mapped[int]


class CooccurrenceCount(Base):
    """Images in which one attribute is present and another is known (`n`), or present as well."""

    __tablename__ = "cooccurrence_count"

    dataset: Mapped[str] = mapped_column(ForeignKey("dataset.name"), primary_key=True)
    attribute_id: Mapped[int] = mapped_column(ForeignKey("attribute.id"), primary_key=True)
    other_id: Mapped[int] = mapped_column(ForeignKey("attribute.id"), primary_key=True)
    both_present: Mapped[int]
    n: Mapped[int]
