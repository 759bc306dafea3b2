"""One row of an annotation file as a record, whatever the file's format."""

from typing import Any

from coconut_attr.annotations.records import Panoptic, SegmentInfo, image_info


def hub_row(row: dict[str, Any], image_prefix: str) -> Panoptic:
    """Return the annotation in a row of the hub's parquet files (mask, segments_info, image_info).

    Args:
        image_prefix: URL folder of the photo where the row names no URL.

    Raises:
        SourceError: the photo's name could leave its folder.
        Exception: one of MALFORMED, where the row is not of that form.
    """
    mask = row["mask"]["bytes"]
    if not isinstance(mask, bytes):
        raise TypeError(f"a mask is no bytes but {type(mask).__name__}")
    return Panoptic(
        image=image_info(row["image_info"], image_prefix),
        mask_png=mask,
        segments=tuple(
            SegmentInfo(int(s["id"]), int(s["category_id"]), bool(s["iscrowd"]), int(s["area"]))
            for s in row["segments_info"]["segments_info"]
        ),
    )
