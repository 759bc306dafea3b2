"""A JSON of COCO's (captions, or the images of unlabeled2017) as records."""

import json
from pathlib import Path

from coconut_attr.annotations.records import MALFORMED, Caption, ImageInfo, clean_text, image_info
from coconut_attr.errors import SourceError


def read_coco_file(path: Path, image_prefix: str) -> tuple[list[ImageInfo], list[Caption]]:
    """Return the images and captions of a COCO file.

    Raises:
        SourceError: the file is not of that form.
    """
    try:
        content = json.loads(path.read_bytes())
        images = [image_info(entry, image_prefix) for entry in content["images"]]
        captions = [
            Caption(int(entry["id"]), int(entry["image_id"]), clean_text(entry["caption"] or ""))
            for entry in content["annotations"]
        ]
    except MALFORMED as error:
        raise SourceError(
            f"{path} is not a COCO caption file ({error!r}); delete it to fetch it again"
        ) from error
    return images, captions
