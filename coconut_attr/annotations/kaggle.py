"""COCONut as one JSON beside a folder of PNGs: its Kaggle archives, and the JSON of its tars.

The archive of April 2025 has annotations/annotations/NAME_panoptic.json and NAME/panoptic/*.png
(coconut_val/coconut_val/*.png), that of 2024 coconut_s.json and coconut_s/coconut_s/*.png.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coconut_attr.annotations.categories import (
    Category,
    coco_categories,
    own_categories,
    refuse_other_numbering,
)
from coconut_attr.annotations.records import MALFORMED, Panoptic, Row
from coconut_attr.annotations.rows import (
    odd_row,
    refuse_missing_mask,
    refuse_other_image,
    refuse_shared_mask,
    segments_of,
    stated_image,
)
from coconut_attr.annotations.values import OddValueError, field, file_name, number_of, whole
from coconut_attr.datasets import Dataset
from coconut_attr.errors import SourceError

BATCH = 100  # annotations


@dataclass(frozen=True)
class PanopticJson:
    """The content of a COCO panoptic JSON; `name` is the file's, for findings and errors."""

    name: str
    images: Mapping[int, Any]
    annotations: list[Any]
    categories: Mapping[int, Category]
    states_categories: bool

    @cached_property
    def mask_uses(self) -> Counter[str]:
        """Return how many images' annotations name each mask file."""
        uses = {
            (name, str(entry.get("image_id")))
            for entry in self.annotations
            if (name := mask_name(entry))
        }
        return Counter(name for name, _ in uses)

    def row(self, entry: Any, place: str, mask: bytes | None, missing: str = "") -> Row:
        """Return the annotation in an entry of `annotations`.

        Args:
            mask: its PNG; None where there is none, and `missing` says why.
        """
        try:
            name, image_id = file_name(entry), whole(entry, "image_id")
            stated = self.images.get(image_id)
            if stated is None:
                raise OddValueError(f"image {image_id} is not in `images`")
            image, findings = stated_image(stated, image_id)
            if image is None or number_of(image.file_name) is not None:  # COCO's way to name photos
                refuse_other_image(name, image_id)
            if self.mask_uses[name] > 1:
                refuse_shared_mask(name, image_id)
            if mask is None:
                refuse_missing_mask(name, missing)
            segments, odd = segments_of(
                field(entry, "segments_info"), self.categories, not self.states_categories
            )
        except (OddValueError, SourceError) as error:
            return odd_row(place, error)
        return Panoptic(image_id, image, mask or b"", segments, place, (*findings, *odd))


def parse_json(content: bytes, name: str) -> PanopticJson:
    """Return the content of a COCO panoptic JSON.

    Raises:
        SourceError: it is none, or numbers its categories in a way that cannot be told.
    """
    try:
        document = json.loads(content)
        images, annotations = document["images"], document["annotations"]
        if not isinstance(images, list) or not isinstance(annotations, list):
            raise TypeError("`images` or `annotations` is no list")
        states_categories = bool(document.get("categories"))
    except MALFORMED as error:
        raise SourceError(f"{name} is not a COCO panoptic file: {error!r}") from error
    try:
        categories = (
            own_categories(document["categories"]) if states_categories else coco_categories()
        )
        refuse_other_numbering(numbering(annotations), categories)
    except SourceError as error:
        raise SourceError(f"{name} is refused: {error}") from error
    by_id: dict[int, Any] = {}
    for entry in images:
        try:
            by_id.setdefault(whole(entry, "id"), entry)
        except OddValueError:  # annotations that name it become findings
            continue
    return PanopticJson(name, by_id, annotations, categories, states_categories)


def numbering(annotations: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield category_id and isthing of all segments that have the form of one."""
    for entry in annotations:
        infos = entry.get("segments_info") if isinstance(entry, dict) else None
        for segment in infos if isinstance(infos, list) else ():
            if isinstance(segment, dict):
                yield segment.get("category_id"), segment.get("isthing")


def mask_name(entry: Any) -> str:
    """Return the mask file that an annotation names, empty where it names none."""
    try:
        return file_name(entry)
    except (OddValueError, SourceError):
        return ""


def annotation_file(folder: Path, dataset: Dataset) -> Path:
    """Return the panoptic JSON of a dataset in a Kaggle-layout folder.

    Raises:
        SourceError: there is none.
    """
    names = [f"{dataset.kaggle_name}_panoptic.json", f"{dataset.kaggle_name}.json"]
    for name in names:
        if (path := folder / "annotations" / "annotations" / name).is_file():
            return path
    raise SourceError(
        f"{folder / 'annotations' / 'annotations' / names[0]} does not exist;"
        " COCONUT_ATTR_ANNOTATIONS_DIR must hold COCONut's Kaggle layout"
    )


def mask_folder(folder: Path, dataset: Dataset) -> Path:
    """Return the folder of a dataset's masks in a Kaggle-layout folder.

    Raises:
        SourceError: the archive has none, as of COCONut-B; the message names where they are.
    """
    for name in ("panoptic", dataset.kaggle_name):
        if (path := folder / dataset.kaggle_name / name).is_dir():
            return path
    hub = ", ".join(f"huggingface.co/datasets/{repo}" for repo in dataset.hub_repos)
    raise SourceError(
        f"{folder} has no masks of {dataset.title} ({dataset.kaggle_name}/panoptic);"
        f" unset COCONUT_ATTR_ANNOTATIONS_DIR to read them from the hub: {hub}"
    )


def read(folder: Path, dataset: Dataset, skip: int = 0) -> Iterator[list[Row]]:
    """Yield the annotations in a Kaggle-layout folder, in batches.

    Args:
        skip: annotations that an earlier, interrupted reading already stored.

    Raises:
        SourceError: the JSON or the mask folder is missing, or is not of the layout.
    """
    path, masks = annotation_file(folder, dataset), mask_folder(folder, dataset)
    content = parse_json(_read(path), path.name)
    for start in range(skip, len(content.annotations), BATCH):
        yield [
            _row(content, masks, entry, f"kaggle/{path.name} row {number}")
            for number, entry in enumerate(content.annotations[start : start + BATCH], start + 1)
        ]


def _row(content: PanopticJson, masks: Path, entry: Any, place: str) -> Row:
    name = mask_name(entry)
    try:
        return content.row(entry, place, (masks / name).read_bytes() if name else None)
    except OSError as error:
        return content.row(entry, place, None, error.strerror or str(error))


def unnamed_masks(folder: Path, dataset: Dataset) -> list[str]:
    """Return the mask files of a Kaggle-layout folder, relative to it, that no annotation names.

    Raises:
        SourceError: the annotation file is missing or is not of the layout.
    """
    path = annotation_file(folder, dataset)
    named = parse_json(_read(path), path.name).mask_uses
    masks = mask_folder(folder, dataset)
    return sorted(
        str(mask.relative_to(folder)) for mask in masks.glob("*.png") if mask.name not in named
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
