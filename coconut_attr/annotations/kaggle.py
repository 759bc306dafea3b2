"""COCONut's Kaggle layout: NAME/panoptic/*.png beside annotations/annotations/NAME_panoptic.json."""

import json
from collections.abc import Iterator
from pathlib import Path

from coconut_attr.annotations.records import (
    MALFORMED,
    Panoptic,
    SegmentInfo,
    image_info,
    plain_name,
)
from coconut_attr.datasets import Dataset
from coconut_attr.errors import SourceError


def annotation_file(folder: Path, dataset: Dataset) -> Path:
    """The panoptic JSON of a dataset in a Kaggle-layout folder.

    Raises:
        SourceError: there is none.
    """
    path = folder / "annotations" / "annotations" / f"{dataset.kaggle_name}_panoptic.json"
    if not path.is_file():
        raise SourceError(
            f"{path} does not exist; COCONUT_ATTR_ANNOTATIONS_DIR must hold COCONut's Kaggle layout"
        )
    return path


def read(
    folder: Path, dataset: Dataset, batch: int = 100, skip: int = 0
) -> Iterator[list[Panoptic]]:
    """The annotations in a Kaggle-layout folder, in batches.

    Args:
        batch: annotations a list.
        skip: annotations that an earlier, interrupted reading already stored.

    Raises:
        SourceError: a file is missing or is not of the layout.
    """
    path = annotation_file(folder, dataset)
    try:
        content = json.loads(path.read_bytes())
        prefix = dataset.coco_files[-1].photos
        images = {entry["id"]: image_info(entry, prefix) for entry in content["images"]}
        annotations = content["annotations"][skip:]
    except MALFORMED as error:
        raise SourceError(f"{path} is not a COCO panoptic file: {error!r}") from error
    for start in range(0, len(annotations), batch):
        try:
            part = [
                _panoptic(folder, dataset, images, entry)
                for entry in annotations[start : start + batch]
            ]
        except MALFORMED as error:
            raise SourceError(f"{path} is not a COCO panoptic file: {error!r}") from error
        yield part


def unnamed_masks(folder: Path, dataset: Dataset) -> list[str]:
    """Mask files of a Kaggle-layout folder, relative to it, that no annotation names.

    Raises:
        SourceError: the annotation file is missing or is not of the layout.
    """
    path = annotation_file(folder, dataset)
    try:
        named = {entry["file_name"] for entry in json.loads(path.read_bytes())["annotations"]}
    except MALFORMED as error:
        raise SourceError(f"{path} is not a COCO panoptic file: {error!r}") from error
    masks = folder / dataset.kaggle_name / "panoptic"
    return sorted(
        str(mask.relative_to(folder)) for mask in masks.glob("*.png") if mask.name not in named
    )


def _panoptic(folder: Path, dataset: Dataset, images: dict, entry: dict) -> Panoptic:
    mask = folder / dataset.kaggle_name / "panoptic" / plain_name(entry["file_name"])
    if entry["image_id"] not in images:
        raise SourceError(
            f"annotation {entry['file_name']} names image {entry['image_id']}, which `images` lacks"
        )
    try:
        mask_png = mask.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read mask {mask}: {error.strerror}") from error
    return Panoptic(
        image=images[entry["image_id"]],
        mask_png=mask_png,
        segments=tuple(
            SegmentInfo(
                int(s["id"]), int(s["category_id"]), bool(s.get("iscrowd", 0)), int(s["area"])
            )
            for s in entry["segments_info"]
        ),
    )
