"""TODO."""

from dataclasses import dataclass
from typing import Final

AT_SOURCE: Final = "the source has it so: report it upstream; the rest of the image is used"
FETCH: Final = "to fetch what differs: coconut-attr download DATASET --verify"
READ_ANEW: Final = "to take the new one: coconut-attr download DATASET --refresh"

#: What each kind of finding means, and what to do about it.
KINDS: Final[dict[str, tuple[str, str]]] = {
    "image count differs": (
        "upstream states another number of images",
        "finish or repeat the download",
    ),
    "segment count differs": (
        "upstream states another number of segments",
        "finish or repeat the download",
    ),
    "annotation file unfinished": (
        "its reading was interrupted, or limited",
        "run download again without a limit",
    ),
    "annotation file changed": ("upstream replaced a file after it was read", READ_ANEW),
    "annotation file gone": ("a file that was read is listed no more", READ_ANEW),
    "image without annotation": (
        "captions name the image, no mask does",
        "finish the download; else nothing is lost",
    ),
    "annotation without image": (
        "the photo could not be fetched",
        "coconut-attr download DATASET --retry-failed",
    ),
    "image not asked for": (
        "the download was interrupted, or limited",
        "run download again without a limit",
    ),
    "image file missing": ("the photo is no longer in the data folder", FETCH),
    "image file changed": ("the photo's SHA-256 is not the downloaded one's", FETCH),
    "not in the image store": (
        "this machine has the file, others get none",
        "coconut-attr download DATASET",
    ),
    "mask without annotation": (
        "no annotation names the mask file",
        "it is not used; report it upstream",
    ),
    "mask not read": (
        "the mask is missing, damaged, or no RGB PNG",
        "restore it from a copy, or report it upstream",
    ),
    "mask size differs": ("mask and photo differ in width or height", AT_SOURCE),
    "ids not in segments_info": ("the mask has ids that nothing describes", AT_SOURCE),
    "segment not in mask": ("segments_info lists an id that has no pixel", AT_SOURCE),
    "segment area differs": (
        "segments_info and the mask's pixels disagree",
        "the pixels count; report it upstream",
    ),
    "unknown category": (
        "the rules have no such category",
        "add it to the rules, or report it upstream",
    ),
    "duplicate segment id": (
        "segments_info lists an id more than once",
        "the first is used; report it upstream",
    ),
    "duplicate COCO id": (
        "an image is annotated or listed more than once",
        "the first is used; report it upstream",
    ),
    "duplicate caption id": ("two captions have one id", "the first is used; report it upstream"),
}


@dataclass(frozen=True)
class Finding:
    """Something in an image's files or annotations that could not be used; `kind` is one of a few fixed phrases."""

    kind: str
    detail: str
