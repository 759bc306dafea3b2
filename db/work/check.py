"""The integrity of a dataset of the store: checked shard by shard, kept as findings, and told by a command."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine

from coconut_attr.check import Held, check_annotation, check_dataset, check_photo
from coconut_attr.datasets import Dataset
from coconut_attr.findings import KINDS, Finding
from coconut_attr.labels.rules import load_rules
from coconut_attr.settings import settings
from db import annotations, labels
from db import annotations as writes
from db.labels import local_images
from db.sql import sql

STAGES = ("annotations", "captions", "check")  #: the check finds itself what extraction leaves out


def check_images(engine: Engine, dataset: Dataset, image_ids: Sequence[int]) -> int:
    """Check some images and store what was found, in place of what was before; returns how many findings."""
    categories = [category.id for category in load_rules().rules.category.values()]
    findings = [
        {"image_id": item.image["id"], "kind": problem.kind, "detail": problem.detail}
        for item in local_images(engine, image_ids)
        for problem in _image_problems(dataset, item, categories)
    ]
    writes.record_findings(engine, dataset.name, "check", image_ids, findings)
    return len(findings)


def _image_problems(
    dataset: Dataset, item: labels.AnnotatedImage, categories: Sequence[int]
) -> list[Finding]:
    image, data_dir = item.image, settings().data_dir
    problems = []
    if image["state"] == "done":
        problems += check_photo(data_dir / image["path"], image["sha256"])
    elif image["state"] == "failed":
        problems.append(
            Finding("annotation without image", f"{image['error_class']}: {image['error']}")
        )
    else:
        problems.append(Finding("image not asked for", "its photo has not been tried"))
    if image["mask_path"]:
        shape = (image["height"], image["width"])
        problems += check_annotation(data_dir / image["mask_path"], item.infos, shape, categories)
    elif dataset.repos:
        problems.append(Finding("image without annotation", "known by its captions alone"))
    return problems


def check_whole(engine: Engine, dataset: Dataset) -> int:
    """Check the counts and files of a dataset and store what was found; returns how many findings.

    Raises:
        SourceError: the Kaggle-layout folder of the settings is not one.
    """
    summary = sql(
        engine,
        "SELECT images, segments FROM dataset_summary WHERE dataset = :dataset",
        dataset=dataset.name,
    )
    files = annotations.annotation_files(engine, dataset.name)
    held = Held(
        images=summary[0]["images"] if summary else 0,
        segments=summary[0]["segments"] if summary else 0,
        masks=frozenset(annotations.mask_paths(engine, dataset.name)),
        photos=annotations.photo_bytes(engine, dataset.name),
        unfinished=tuple(name for name, row in files.items() if not row["complete"]),
    )
    problems = check_dataset(dataset, held, settings())
    rows = [
        {"image_id": None, "kind": problem.kind, "detail": problem.detail} for problem in problems
    ]
    writes.record_findings(engine, dataset.name, "check", None, rows)
    return len(rows)


def check_report(engine: Engine, dataset: str) -> list[dict[str, Any]]:
    """The findings of a dataset: `stage`, `kind`, `findings`, `images`, `example`, `meaning`, `remedy`."""
    return [
        {
            **row,
            "meaning": KINDS[row["kind"]][0],
            "remedy": KINDS[row["kind"]][1].replace("DATASET", dataset),
        }
        for row in annotations.findings(engine, dataset, STAGES)
    ]
