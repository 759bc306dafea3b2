"""The integrity of a dataset: checked shard by shard, stored as findings, and reported."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine

from coconut_attr.check import StoredDataset, check_annotation, check_dataset, check_photo
from coconut_attr.datasets import Dataset
from coconut_attr.findings import KINDS, Finding
from coconut_attr.labels.rules import load_rules
from coconut_attr.settings import settings
from db import annotations, labels
from db.duplicates import duplicate_photos
from db.labels import local_images
from db.sql import sql

#: Not `extract`: the check makes the findings of extraction itself.
STAGES = ("annotations", "captions", "pancap", "check")


def check_images(engine: Engine, dataset: Dataset, image_ids: Sequence[int]) -> int:
    """Check some images, replace their findings, and return how many there are."""
    categories = [category.id for category in load_rules().rules.category.values()]
    findings = [
        {"image_id": item.image["id"], "kind": finding.kind, "detail": finding.detail}
        for item in local_images(engine, image_ids)
        for finding in _image_findings(dataset, item, categories)
    ]
    annotations.record_findings(engine, dataset.name, "check", image_ids, findings)
    return len(findings)


def _image_findings(
    dataset: Dataset, item: labels.AnnotatedImage, categories: Sequence[int]
) -> list[Finding]:
    image, data_dir = item.image, settings().data_dir
    findings = []
    if image["state"] == "done":
        findings += check_photo(data_dir / image["path"], image["sha256"])
    elif image["state"] == "failed":
        findings.append(
            Finding("annotation without image", f"{image['error_class']}: {image['error']}")
        )
    else:
        findings.append(Finding("image not asked for", "its photo has not been tried"))
    if image["mask_path"]:
        shape = (image["height"], image["width"])
        findings += check_annotation(data_dir / image["mask_path"], item.infos, shape, categories)
    elif dataset.has_masks:
        findings.append(Finding("image without annotation", "known by its captions alone"))
    return findings


def check_whole(engine: Engine, dataset: Dataset) -> int:
    """Check a dataset's counts and files, replace the findings, and return how many there are.

    Raises:
        SourceError: the Kaggle-layout folder of the settings is not one.
    """
    summary = sql(
        engine,
        "SELECT images, segments FROM dataset_summary WHERE dataset = :dataset",
        dataset=dataset.name,
    )
    files = annotations.annotation_files(engine, dataset.name)
    masks = annotations.mask_paths(engine, dataset.name)
    stored = StoredDataset(
        images=summary[0]["images"] if summary else 0,
        segments=summary[0]["segments"] if summary else 0,
        masks=frozenset(masks),
        photos=annotations.photo_bytes(engine, dataset.name),
        shared_masks=sorted(path for path, images in Counter(masks).items() if images > 1),
        unfinished=[name for name, row in files.items() if not row["complete"]],
    )
    findings = check_dataset(dataset, stored, settings()) + duplicate_photos(engine, dataset.name)
    rows = [
        {"image_id": None, "kind": finding.kind, "detail": finding.detail} for finding in findings
    ]
    annotations.record_findings(engine, dataset.name, "check", None, rows)
    return len(rows)


def check_report(engine: Engine, dataset: str) -> list[dict[str, Any]]:
    """Return a dataset's findings by kind.

    Columns: `stage`, `kind`, `findings`, `images`, `example`, `meaning`, `remedy`.
    """
    return [
        {
            **row,
            "meaning": KINDS[row["kind"]][0],
            "remedy": KINDS[row["kind"]][1].replace("DATASET", dataset),
        }
        for row in annotations.findings(engine, dataset, STAGES)
    ]
