"""The records of all annotation readers, and the checks of names and URLs from outside."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from coconut_attr.errors import SourceError
from coconut_attr.findings import Finding

#: What reading raises from a document that is not of the form that was expected.
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class ImageInfo:
    """One image. Width and height are pixels; `split` is set only where a source fixes it."""

    coco_id: int
    file_name: str
    width: int
    height: int
    url: str
    licence: str = ""
    split: str | None = None


@dataclass(frozen=True)
class SegmentInfo:
    """One entry of segments_info.

    Attributes:
        id: R + 256 G + 65536 B of the segment's colour in the mask.
        area: pixels by the annotation; None where it states none.
    """

    id: int
    category_id: int
    iscrowd: bool
    area: int | None


@dataclass(frozen=True)
class Panoptic:
    """The panoptic annotation of one image.

    Attributes:
        image_id: the image that the mask and the segments are of.
        image: that image. Readers give what the row states, or None where the row describes
            another image or none; `identity.resolve` puts COCO's own entry here.
        mask_png: the mask as PNG bytes.
        place: file and row, for findings.
        findings: what is odd in the row, though it is used.
    """

    image_id: int
    image: ImageInfo | None
    mask_png: bytes
    segments: tuple[SegmentInfo, ...]
    place: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class OddRow:
    """A row of an annotation file that gives no annotation, and why."""

    finding: Finding


Row = Panoptic | OddRow


@dataclass(frozen=True)
class Caption:
    """One human caption of one image."""

    id: int
    coco_id: int
    text: str


def clean_text(text: str) -> str:
    """Return text that every database can hold: trimmed, without NUL and lone surrogates."""
    return text.replace("\0", "").encode(errors="replace").decode().strip()


#: COCO's licences by the number in an image's `license` field, the same in every COCO 2017 file.
LICENCES = {
    1: "http://creativecommons.org/licenses/by-nc-sa/2.0/",
    2: "http://creativecommons.org/licenses/by-nc/2.0/",
    3: "http://creativecommons.org/licenses/by-nc-nd/2.0/",
    4: "http://creativecommons.org/licenses/by/2.0/",
    5: "http://creativecommons.org/licenses/by-sa/2.0/",
    6: "http://creativecommons.org/licenses/by-nd/2.0/",
    7: "http://flickr.com/commons/usage/",
    8: "http://www.usa.gov/copyright.shtml",
}


def plain_name(name: str) -> str:
    """Return the name if it is a bare file name.

    Raises:
        SourceError: it has a folder part, or is no name at all.
    """
    if not name or name in {".", ".."} or any(c in name for c in "/\\\0:"):
        raise SourceError(
            f"refused file name {name!r} in an annotation: it must be a bare file name"
        )
    return name


def local_path(url: str, hosts: tuple[str, ...], data_dir: Path) -> Path:
    """Return where the image of a URL is stored: data_dir/HOST/PATH.

    Raises:
        SourceError: not http(s), a host that the dataset does not list, or a path that leaves
            the folder.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SourceError(f"refused image URL {url}: {error}") from error
    path = PurePosixPath(parts.path)
    if parts.scheme not in {"http", "https"} or parts.netloc not in hosts:
        raise SourceError(
            f"refused image URL {url}: only http(s) on {', '.join(hosts) or 'no host'} is allowed"
        )
    if ".." in path.parts or "\\" in parts.path or "%" in parts.path or not path.name:
        raise SourceError(f"refused image URL {url}: its path is not a plain one")
    return data_dir / parts.netloc / path.relative_to("/")
