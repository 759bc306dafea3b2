"""Image files: their structure checked, or decoded to the last byte and turned into RGB."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from coconut_attr.errors import UserError

FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 50_000_000
#: A JPEG marker; a stuffed 0xFF (00) and a restart (D0 to D7) are parts of the scan that they stand in.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


class ImageError(UserError):
    """A file is not a whole image of an accepted format and size."""


class TooManyPixelsError(ImageError):
    """A file would decode to more pixels than are accepted."""


def decode(source: bytes | Path) -> Image.Image:
    """A fully decoded RGB image. Orientation tags are ignored, because COCO's masks ignore them too.

    Args:
        source: an encoded JPEG or PNG, or the path of one.

    Raises:
        ImageError: truncated, of another format, or over 50 million pixels.
    """
    name = str(source) if isinstance(source, Path) else "the bytes"
    with _opened(source, name) as image:
        image.load()
        return image.convert("RGB")


def checked_size(content: bytes) -> tuple[int, int]:
    """Width and height (pixels) of an encoded image that is whole by its structure; its pixels are not decoded.

    A JPEG's segments are followed to the marker that ends it; of a PNG every chunk's checksum is tested. It costs a
    fiftieth of decoding, finds what is cut off or something else, and cannot find changed bytes within a JPEG's scan:
    decoding finds few of those.

    Raises:
        ImageError: as `decode`.
    """
    with _opened(content, "the bytes") as image:
        if image.format == "PNG":
            image.verify()
        elif not _ends(content):
            raise ImageError("the bytes: a JPEG that is cut off")
        return image.size


def _ends(jpeg: bytes) -> bool:
    """Whether a JPEG's markers lead over a scan to the end of the image."""
    place, scanned = 2, False
    while found := _MARKER.search(jpeg, place):
        marker = jpeg[found.end() - 1]
        if marker == _END_OF_IMAGE:
            return scanned
        scanned = scanned or marker == _START_OF_SCAN
        place = found.end() + max(2, int.from_bytes(jpeg[found.end() : found.end() + 2]))
    return False


@contextmanager
def _opened(source: bytes | Path, name: str) -> Iterator[Image.Image]:
    """An image whose header has been read; whatever is wrong with it raises ImageError."""
    try:
        with Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
        ) as image:
            if image.width * image.height > MAX_PIXELS:
                raise TooManyPixelsError(
                    f"{name}: {image.width} x {image.height} pixels are over the limit of {MAX_PIXELS:,}"
                )
            yield image
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a {' or '.join(FORMATS)} image") from error
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(f"{name}: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{name}: {error}") from error
