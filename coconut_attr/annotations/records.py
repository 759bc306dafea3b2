"""What every annotation reader yields, and the checks that names and URLs from outside must pass."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from coconut_attr.errors import SourceError

#: What reading raises from a document that is not of the form that was expected.
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class ImageInfo:
    """One image as its annotation describes it. Width and height are pixels; `split` only where a source fixes it."""

    coco_id: int
    file_name: str
    width: int
    height: int
    url: str
    licence: str = ""
    split: str | None = None


@dataclass(frozen=True)
class SegmentInfo:
    """One entry of segments_info. `id` is R + 256 G + 65536 B of the mask's colour; `area` is in pixels."""

    id: int
    category_id: int
    iscrowd: bool
    area: int


@dataclass(frozen=True)
class Panoptic:
    """The panoptic annotation of one image: its mask as PNG bytes, and what the mask's colours mean."""

    image: ImageInfo
    mask_png: bytes
    segments: tuple[SegmentInfo, ...]


@dataclass(frozen=True)
class Caption:
    """One human caption of one image."""

    id: int
    coco_id: int
    text: str


def clean_text(text: str) -> str:
    """Text that every database can hold: without NUL, with lone surrogates replaced, trimmed."""
    return text.replace("\0", "").encode(errors="replace").decode().strip()


#: COCO's licences by the number in an image's `license` field (the same list stands in every COCO 2017 file).
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


def image_info(entry: dict, url_prefix: str) -> ImageInfo:
    """An `images` entry of a COCO file as a record.

    Args:
        entry: has `id`, `file_name`, `width`, `height`, and maybe `coco_url` and `license`.
        url_prefix: folder of the image where `coco_url` is missing or empty.

    Raises:
        SourceError: the file name could leave its folder.
        Exception: one of MALFORMED, where the entry is not of that form.
    """
    name = plain_name(entry["file_name"])
    url = entry.get("coco_url") or url_prefix + name
    if not isinstance(url, str):
        raise TypeError(f"coco_url is {url!r}")
    return ImageInfo(
        coco_id=int(entry["id"]),
        file_name=name,
        width=int(entry["width"]),
        height=int(entry["height"]),
        url=url,
        licence=LICENCES.get(entry.get("license") or 0, ""),
    )


def plain_name(name: str) -> str:
    """The name itself if it is a bare file name.

    Raises:
        SourceError: it has a folder part, or is no name at all.
    """
    if not name or name in {".", ".."} or any(c in name for c in "/\\\0:"):
        raise SourceError(
            f"refused file name {name!r} in an annotation: it must be a bare file name"
        )
    return name


def local_path(url: str, hosts: tuple[str, ...], data_dir: Path) -> Path:
    """Where the image of that URL is kept: the data folder is laid out under the upstream host names.

    Raises:
        SourceError: not http(s), a host that the dataset does not list, or a path that leaves the folder.
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
