"""Which image an annotation is of, and what COCO's own files say of that image.

`image_info` in COCONut's files is made up by its authors' script: one licence for all images, and
a URL that is built from one split's name. Only its id, file name and size are used, and those only
for images that COCO's files do not list.
"""

import io
from dataclasses import replace
from typing import Any

from PIL import Image

from coconut_attr.annotations import objects365
from coconut_attr.annotations.coco_file import CocoImages
from coconut_attr.annotations.records import ImageInfo, OddRow, Panoptic, Row
from coconut_attr.annotations.values import number_of
from coconut_attr.datasets import Dataset
from coconut_attr.findings import Finding

MAX_COLORS = 2**16  # of a mask


def resolve(row: Row, coco: CocoImages, dataset: Dataset) -> Row:
    """Return a row with its image as COCO's own files describe it.

    A mask belongs to the image that segments_info names. Where image_info names another one, the
    mask must also fit that image's size and segments, else nothing tells whose it is.
    """
    if isinstance(row, OddRow):
        return row
    official, stated = coco.get(row.image_id), row.image
    if dataset.has_objects365 and stated and number_of(stated.file_name) != stated.coco_id:
        image = objects365.image(stated)
        return replace(row, image_id=image.coco_id, image=image)
    if official:
        if any(f.kind == "image_info of another image" for f in row.findings) and not fits(
            row, official
        ):
            what = f"segments_info is of image {row.image_id}, whose size or segments do not fit it"
            return OddRow(Finding("mask of another image", f"{row.place}: {what}"))
        return replace(row, image=official)
    if stated is None:
        what = f"image {row.image_id} is in none of COCO's files, and image_info does not tell more"
        return OddRow(Finding("row not read", f"{row.place}: {what}"))
    name = f"{stated.coco_id:012d}.jpg"  # as COCO names it: two images may state one name
    image = replace(stated, file_name=name, url=coco.photos_of_others + name, licence="")
    unlisted = Finding("image not in COCO's files", "its licence is not known")
    return replace(row, image=image, findings=(*row.findings, unlisted))


def fits(row: Panoptic, image: ImageInfo) -> bool:
    """Return whether a mask has an image's size, and just the segments that its row describes."""
    try:
        with Image.open(io.BytesIO(row.mask_png), formats=["PNG"]) as mask:
            if mask.size != (image.width, image.height) or mask.mode not in {"RGB", "RGBA"}:
                return False
            colors: Any = mask.convert("RGB").getcolors(MAX_COLORS)
    except Exception:  # Pillow raises errors of many kinds from a damaged file
        return False
    areas = {r + 256 * g + 65536 * b: pixels for pixels, (r, g, b) in colors or ()}
    stated = {segment.id: segment.area for segment in row.segments}
    return areas.keys() - {0} == stated.keys() - {0} and all(
        area in {None, areas.get(id, 0)} for id, area in stated.items()
    )
