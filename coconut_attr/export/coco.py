"""TODO."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from coconut_attr.annotations.records import LICENCES
from coconut_attr.attributes import GROUP_OF, INDEX
from coconut_attr.export.records import Counts, ExportHeader, ExportImage, ExportSegment
from coconut_attr.files.atomic import part_of


def write_coco(header: ExportHeader, images: Iterable[ExportImage], to: Path) -> Counts:
    """Write one COCO-style JSON file, which `pycocotools.coco.COCO` loads.

    Images carry `attributes` ({name: 1 or 0}, unknown ones left out); annotations are the panoptic segments, with a
    run-length `segmentation` where the segment has one. Annotation ids count from 1; `segment_id` is the mask's.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    counts = Counts()
    licences = {url: number for number, url in LICENCES.items()}
    annotation_id = 0
    # COCO keeps images and annotations in two lists: the second one is spooled to disk while the first is written.
    with (
        part_of(to) as part,
        part.open("w", encoding="utf-8") as file,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=to.parent) as spool,
    ):
        info = {"description": f"{header.title}: {header.note}", "dataset": header.dataset, "licence": header.licence,
                "rule_version": header.rule_version}  # fmt: skip
        attributes = [{"id": k, "name": name, "group": GROUP_OF[name]} for name, k in INDEX.items()]
        categories = [
            {"id": key, "name": name, "isthing": int(thing)}
            for key, name, thing in header.categories
        ]
        for key, value in (("info", info), ("attributes", attributes), ("categories", categories)):
            file.write(f"{'{' if key == 'info' else ''}{json.dumps(key)}: {json.dumps(value)},\n")
        file.write('"images": [')
        for number, image in enumerate(images):
            counts.add(image)
            entry = {
                "id": image.coco_id, "file_name": image.file_name, "width": image.width, "height": image.height,
                "coco_url": image.url, "license": _licence_id(licences, image.licence), "split": image.split,
                "attributes": {name: cell for name, cell in image.cells().items() if cell is not None},
            }  # fmt: skip
            file.write(("," if number else "") + "\n" + json.dumps(entry))
            for segment in image.segments:
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
    """COCO's number of a licence; others are numbered after COCO's, and 0 is: not stated."""
    return licences.setdefault(url, max(licences.values()) + 1 if url else 0)


def _annotation(number: int, image: ExportImage, segment: ExportSegment) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": number, "image_id": image.coco_id, "category_id": segment.category_id, "area": segment.area,
        "bbox": list(segment.bbox), "iscrowd": int(segment.iscrowd), "segment_id": segment.segment_id,
    }  # fmt: skip
    if segment.rle:
        entry["segmentation"] = {"size": [image.height, image.width], "counts": segment.rle}
    return entry
