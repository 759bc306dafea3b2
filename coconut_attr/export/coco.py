"""Labels and panoptic segments as one COCO-style JSON file."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from coconut_attr.annotations.records import LICENCES
from coconut_attr.attributes import GROUP_OF, INDEX
from coconut_attr.export.records import Counts, ExportHeader, ExportImage, ExportSegment
from coconut_attr.files.atomic import part_of


def write_coco(header: ExportHeader, images: Iterable[ExportImage], to: Path) -> Counts:
    """Write one COCO-style JSON file, which `pycocotools.coco.COCO` loads.

    Images carry `attributes` ({name: 1 or 0}, without unknown ones). Annotations are the panoptic
    segments. Each has a run-length `segmentation`, and the `area` and `bbox` of that very mask;
    segments without a mask are left out and counted. Annotation ids count from 1; `segment_id` is
    the id in the panoptic PNG.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    counts = Counts()
    licences = {url: number for number, url in LICENCES.items()}
    annotation_id = 0
    # COCO keeps images and annotations in two lists: spool the second one to disk meanwhile.
    with (
        part_of(to) as part,
        part.open("w", encoding="utf-8") as file,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=to.parent) as spool,
    ):
        head = {
            "info": {
                "description": f"{header.title}: {header.note}",
                "dataset": header.dataset,
                "licence": header.licence,
                "rule_version": header.rule_version,
            },
            "attributes": [
                {"id": k, "name": name, "group": GROUP_OF[name]} for name, k in INDEX.items()
            ],
            "categories": [
                {"id": category_id, "name": name, "isthing": int(thing)}
                for category_id, name, thing in header.categories
            ],
        }
        file.write(json.dumps(head).removesuffix("}") + ',\n"images": [')
        for number, image in enumerate(images):
            counts.add(image)
            file.write(("," if number else "") + "\n")
            file.write(json.dumps(_image(image, _licence_id(licences, image.licence))))
            for segment in image.segments:
                if not segment.rle:
                    counts.unmasked += 1
                    continue
                annotation_id += 1
                spool.write(("," if annotation_id > 1 else "") + "\n")
                spool.write(json.dumps(_annotation(annotation_id, image, segment)))
        file.write('\n],\n"annotations": [')
        spool.seek(0)
        shutil.copyfileobj(spool, file)
        names = [
            {"id": number, "name": url or "not stated", "url": url}
            for url, number in licences.items()
        ]
        file.write(f'\n],\n"licenses": {json.dumps(names)}}}\n')
    return counts


def _licence_id(licences: dict[str, int], url: str) -> int:
    """Return COCO's number of a licence; others are numbered after COCO's, 0 means not stated."""
    return licences.setdefault(url, max(licences.values()) + 1 if url else 0)


def _image(image: ExportImage, licence_id: int) -> dict[str, Any]:
    return {
        "id": image.coco_id,
        "file_name": image.file_name,
        "width": image.width,
        "height": image.height,
        "coco_url": image.url,
        "license": licence_id,
        "split": image.split,
        "attributes": {name: cell for name, cell in image.cells().items() if cell is not None},
    }


def _annotation(number: int, image: ExportImage, segment: ExportSegment) -> dict[str, Any]:
    rle = {"size": [image.height, image.width], "counts": segment.rle}
    return {
        "id": number,
        "image_id": image.coco_id,
        "category_id": segment.category_id,
        "area": int(coco_mask.area(rle)),
        "bbox": [int(side) for side in coco_mask.toBbox(rle)],
        "iscrowd": int(segment.iscrowd),
        "segment_id": segment.segment_id,
        "segmentation": rle,
    }
