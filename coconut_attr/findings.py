"""Findings: what in a dataset could not be used or does not fit together."""

from dataclasses import dataclass
from typing import Final

AT_SOURCE: Final = "report it upstream; the rest of the image is used"
FETCH: Final = "to fetch what differs: coconut-attr download DATASET --verify"
RE_READ: Final = "to use the new one: coconut-attr download DATASET --refresh"

#: What each kind of finding means, and what to do about it.
KINDS: Final[dict[str, tuple[str, str]]] = {
    "image count differs": (
        "upstream states about another number of images",
        "finish or repeat the download",
    ),
    "segment count differs": (
        "upstream states about another number of segments",
        "finish or repeat the download",
    ),
    "annotation file unfinished": (
        "reading it was interrupted or limited",
        "run download again without a limit",
    ),
    "annotation file changed": ("upstream replaced a file after it was read", RE_READ),
    "annotation file gone": ("a file that was read is no longer listed", RE_READ),
    "image without annotation": (
        "the image has captions but no mask",
        "finish the download; otherwise nothing is lost",
    ),
    "annotation without image": (
        "the photo could not be fetched",
        "coconut-attr download DATASET --retry-failed",
    ),
    "image not asked for": (
        "the download was interrupted or limited",
        "run download again without a limit",
    ),
    "image file missing": ("the photo is no longer in the data folder", FETCH),
    "image file changed": ("the photo's SHA-256 is not the downloaded one's", FETCH),
    "transparent pixels": (
        "what lies under them is hidden, and viewers differ in the background",
        "nothing, if white is right; else give the photo a background",
    ),
    "photo occurs again": (
        "another image shows the same photo",
        "nothing is lost: after extraction both are in one split, and do not inflate scores",
    ),
    "not in the image store": (
        "this machine has the file, other machines cannot get it",
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
    "row not read": (
        "a row of an annotation file has no usable id, size or segments",
        "the other rows are used; report it upstream",
    ),
    "mask of another image": (
        "names, ids or size contradict that the mask is this image's",
        "it is not used; report it upstream",
    ),
    "image_info of another image": (
        "the row's image_info names another image than its mask",
        "the image is as COCO's own file describes it; report it upstream",
    ),
    "image_info not read": (
        "the row's image_info has no usable id, name or size",
        "the image is as COCO's own file describes it; report it upstream",
    ),
    "image not in COCO's files": (
        "COCO's own files do not list the image",
        "its licence is unknown; its size and name are the annotation's",
    ),
    "segment not read": ("an entry of segments_info has no usable id or category", AT_SOURCE),
    "isthing differs": (
        "a segment's isthing contradicts its category",
        "the category counts; report it upstream",
    ),
    "entry not read": (
        "an image or caption of COCO's file has no usable id, name, size or text",
        "the other entries are used; report it upstream",
    ),
    "mask of two images": (
        "two images have one mask file, stored by an earlier version",
        "to store them apart: coconut-attr download DATASET --refresh",
    ),
    "pancap text not read": (
        "a PanCap file names no image, or is too long",
        "it is not used; report it upstream",
    ),
    "duplicate pancap text": (
        "an image has several PanCap texts",
        "the first is used; report it upstream",
    ),
    "duplicate caption id": ("two captions have one id", "the first is used; report it upstream"),
}


@dataclass(frozen=True)
class Finding:
    """Something in an image's files or annotations that is wrong; `kind` is a key of KINDS."""

    kind: str
    detail: str
