"""Rows of a small database: one dataset, three images, two attributes."""

from sqlalchemy import Engine

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, OURS
from db import annotations, reference


def image(coco_id: int, **changes) -> dict:
    """Return a row of `image`."""
    return {
        "dataset": "d",
        "coco_id": coco_id,
        "file_name": f"{coco_id}.jpg",
        "url": f"http://h/{coco_id}.jpg",
        "licence": "",
        "width": 4,
        "height": 3,
        "split": "train",
        **changes,
    }


def segment(coco_id: int, segment_id: int) -> dict:
    """Return a row of `segment`."""
    return {
        "coco_id": coco_id,
        "segment_id": segment_id,
        "category_id": 1,
        "iscrowd": False,
        "annotated_area": 6,
    }


def fill(engine: Engine) -> None:
    """Write a dataset of three images and two attributes."""
    reference.sync_reference(
        engine,
        datasets=[
            {
                "name": "d",
                "title": "D",
                "is_coconut": True,
                "licence": "",
                "expected_images": 2,
                "expected_segments": 1,
            }
        ],
        attributes=[
            {"id": k, "name": name, "group_name": "g", "ours": False}
            for k, name in enumerate(("red", "blue"))
        ],
        categories=[{"id": 1, "name": "person", "isthing": True}],
    )
    images = [image(7, mask_path="m7.png"), image(8, mask_path="m8.png")]
    annotations.add_panoptic(
        engine,
        "d",
        images,
        [segment(7, 300), segment(8, 301)],
        file="f",
        origin="here",
        rows_done=2,
    )
    annotations.add_captions(
        engine, "d", [image(9)], [{"coco_id": 9, "caption_id": 90, "text": "a dog"}]
    )


def add_reference(engine: Engine) -> None:
    """Write the dataset val5k and our attributes."""
    row = {"name": "val5k", "title": "", "is_coconut": True, "licence": ""}
    reference.sync_reference(
        engine,
        [{**row, "expected_images": None, "expected_segments": None}],
        [
            {"id": k, "name": name, "group_name": GROUP_OF[name], "ours": name in OURS}
            for k, name in enumerate(ATTRIBUTES)
        ],
        [],
    )


def outcome(image_id: int, **changes) -> dict:
    """Return a row of `download`."""
    return {
        "image_id": image_id,
        "state": "done",
        "attempts": 1,
        "seconds": 0.1,
        "error_class": None,
        "error": None,
        "path": f"p{image_id}",
        "sha256": "s",
        "bytes": 10,
        **changes,
    }


#: A label of an older version.
NO_ESTIMATE: dict[str, object] = {
    "probability": None,
    "estimate": None,
    "judged": False,
    "model_probability": None,
}


def labels(image_id: int, state: str) -> list[dict]:
    """Return an image's rows of `image_attribute`: the first attribute's state is given."""
    row = {"image_id": image_id, "confidence": 0.9, "conflict": False, **NO_ESTIMATE}
    return [
        {**row, "attribute_id": 0, "state": state},
        {**row, "attribute_id": 1, "state": "unknown"},
    ]
