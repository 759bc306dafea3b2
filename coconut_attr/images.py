"""Image files: decoded to the last byte, checked, and turned into RGB."""

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from coconut_attr.errors import UserError

FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 50_000_000


class ImageError(UserError):
    """A file is not a whole image of an accepted format and size."""


def decode(source: bytes | Path) -> Image.Image:
    """A fully decoded RGB image. Orientation tags are ignored, because COCO's masks ignore them too.

    Args:
        source: an encoded JPEG or PNG, or the path of one.

    Raises:
        ImageError: truncated, of another format, or over 50 million pixels.
    """
    name = source if isinstance(source, Path) else "the bytes"
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"{name}: {image.width} x {image.height} pixels are over the limit of {MAX_PIXELS:,}")
            image.load()
            return image.convert("RGB")
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a {' or '.join(FORMATS)} image") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{name}: {error}") from error
