"""The one place where photos are decoded: sRGB pixels as a viewer shows them, or an ImageError."""

import io
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from coconut_attr.errors import UserError

T = TypeVar("T")

# Pillow warns on stderr of EXIF that it cannot read; such EXIF is ignored here.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL.")

FORMATS = ("JPEG", "PNG")
#: What people may ask about, besides the datasets' own formats; `photos.upright` opens HEIF.
PHOTO_FORMATS = (*FORMATS, "WEBP", "AVIF", "HEIF")
MAX_PIXELS = 50_000_000
#: A JPEG marker. A stuffed 0xFF (00) and a restart (D0 to D7) belong to the scan around them.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
#: JPEG segments that hold metadata only: all APPn but APP0 (JFIF) and APP14 (Adobe's colour model).
_JPEG_METADATA = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: PNG chunks that decide about pixels; the rest is metadata.
_PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
#: Largest change of an 8-bit colour by a profile that is still sRGB: profiles of that name change
#: colours by at most 1, all others of the photos that we looked at by 19 and more.
_SRGB_TOLERANCE = 2
#: Key in the `info` of a decoded image whose transparent pixels show white.
TRANSPARENT = "transparent on white"
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(UserError):
    """A file is not a complete image of an accepted format and size."""


class TooManyPixelsError(ImageError):
    """A file would decode to more pixels than are accepted."""


def decode(
    source: bytes | Path,
    *,
    upright: bool = False,
    min_side: int | None = None,
    formats: tuple[str, ...] = FORMATS,
) -> Image.Image:
    """Return a fully decoded sRGB image; see `to_rgb` for what becomes of other modes.

    Metadata that cannot be read (EXIF, profile, text) is ignored, as viewers do.

    Args:
        source: an encoded image, or the path of one.
        upright: turn the image by its EXIF orientation. COCO's masks ignore it.
        min_side: decode a JPEG at the smallest scale with both sides at least this long (pixels),
            to save time.
        formats: those that are accepted, by Pillow's names.

    Raises:
        ImageError: truncated, of another format, or over 50 million pixels.
        OSError: the file cannot be read.
    """

    def use(image: Image.Image) -> Image.Image:
        if min_side:
            image.draft("RGB", (min_side, min_side))
        image.load()
        turn = _UPRIGHT.get(_orientation(image)) if upright else None
        image = to_rgb(image)
        if turn is None:
            return image
        turned = image.transpose(turn)
        turned.info = image.info
        return turned

    return read_image(source, use, formats=formats)


def checked_size(content: bytes) -> tuple[int, int]:
    """Return width and height (pixels) of an encoded image whose structure is complete.

    A JPEG's segments are followed to the marker that ends it; of a PNG every chunk's checksum is
    tested. Pixels are not decoded, which takes a fiftieth of the time. This finds truncated and
    mistaken files but not changed bytes within a JPEG's scan; decoding finds few of those.

    Raises:
        ImageError: as `decode`.
    """
    size = read_image(content, lambda image: image.size)
    if not (_png_ends(content) if content.startswith(_PNG_SIGNATURE) else _jpeg_ends(content)):
        raise ImageError("the bytes: an image that is cut off or damaged")
    return size


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as 8-bit sRGB, as a viewer shows it.

    16-bit grey is scaled to 8 bits, transparent pixels show a white background (the result's `info`
    then has the key `TRANSPARENT`), and colours of an embedded ICC profile become sRGB. An image in
    sRGB keeps its pixels to the bit. Floats are taken as shares of white if they are at most 1,
    else as 8-bit or 16-bit grey.
    """
    icc = image.info.get("icc_profile")
    grey = Image.getmodebase(image.mode) == "L"
    transparent = False
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        transparent = layers.getchannel("A").getextrema() != (255, 255)
        background = Image.new("RGBA", image.size, "white")
        background.alpha_composite(layers)
        image = background.convert("RGB")
    if icc:
        # A profile that is damaged, or that is not of the image's colour model, is ignored.
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            image = _in_srgb(image, icc, grey)
    image = image.convert("RGB")
    image.info = {TRANSPARENT: True} if transparent else {}
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return 16-bit, 32-bit or float grey in mode L, or LA if one level is transparent."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    highest = values.max(initial=0)
    if image.mode == "F" and highest <= 1:
        white = 1.0
    elif image.mode in {"I", "F"} and highest <= 255 and image.format != "PNG":
        white = 255.0
    else:
        white = max(65535.0, highest)
    grey = Image.fromarray(np.rint(values.clip(0, white) * (255 / white)).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _in_srgb(image: Image.Image, icc: bytes, grey: bool) -> Image.Image:
    """Return an image in sRGB; unchanged if its profile is sRGB or of another colour model."""
    mode, transform = _srgb_transform(icc)
    mismatch = (mode == "CMYK") != (image.mode == "CMYK") or (mode == "L" and not grey)
    if transform is None or mismatch:
        return image
    return transform.apply(image.convert(mode))


@lru_cache(maxsize=32)
def _srgb_transform(icc: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return a profile's image mode and its transform to sRGB, None if it is sRGB itself."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(profile.profile.xcolor_space.strip())
    if mode is None:
        return "", None
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "CMYK":
        return mode, transform
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    every = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    swatch = Image.fromarray(every if mode == "RGB" else levels[None])
    shown = np.asarray(transform.apply(swatch)).astype(int)
    change = np.abs(shown - np.asarray(swatch.convert("RGB"))).max()
    return mode, None if change <= _SRGB_TOLERANCE else transform


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow's EXIF parser raises whatever it meets; without EXIF, no turn
        return 1


def read_image(
    source: bytes | Path,
    use: Callable[[Image.Image], T],
    *,
    name: str = "",
    formats: tuple[str, ...] = FORMATS,
) -> T:
    """Return what `use` makes of an opened image.

    An image whose metadata stops Pillow is read again without its metadata.

    Args:
        name: what error messages call it; by default its path.

    Raises:
        ImageError: whatever is wrong with the image.
        OSError: the file cannot be read.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    name = name or ("the bytes" if isinstance(source, bytes) else str(source))
    try:
        return _open(content, name, use, formats)
    except ImageError:
        raise
    except Exception as error:  # Pillow's parsers raise struct.error, TypeError, KeyError, ...
        with suppress(Exception):
            return _open(_without_metadata(content), name, use, formats)
        if isinstance(error, UnidentifiedImageError):
            *others, last = formats
            raise ImageError(f"{name}: not a {', '.join(others)} or {last} image") from error
        raise ImageError(f"{name}: {error or type(error).__name__}") from error


def _open(
    content: bytes, name: str, use: Callable[[Image.Image], T], formats: tuple[str, ...]
) -> T:
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise TooManyPixelsError(
                    f"{name}: {image.width} x {image.height} pixels are over the limit of "
                    f"{MAX_PIXELS:,}"
                )
            return use(image)
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(f"{name}: {error}") from error


def _without_metadata(content: bytes) -> bytes:
    """Return a JPEG or PNG with only the parts that decide about its pixels."""
    if content.startswith(_PNG_SIGNATURE):
        return _PNG_SIGNATURE + b"".join(
            chunk for chunk in _png_chunks(content) if chunk[4:8] in _PNG_PIXELS
        )
    parts, place = [content[:2]], 2
    while content[place : place + 1] == b"\xff" and content[place + 1] != _START_OF_SCAN:
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4])
        if content[place + 1] not in _JPEG_METADATA:
            parts.append(content[place:end])
        place = end
    return b"".join([*parts, content[place:]])


def _png_chunks(png: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG: length, type, data, checksum."""
    place = len(_PNG_SIGNATURE)
    while place < len(png):
        end = place + 12 + int.from_bytes(png[place : place + 4])
        yield png[place:end]
        place = end


def _png_ends(png: bytes) -> bool:
    """Return whether all chunks of a PNG are intact up to the one that ends it."""
    for chunk in _png_chunks(png):
        if len(chunk) < 12 or zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]):
            return False
        if chunk[4:8] == b"IEND":
            return True
    return False


def _jpeg_ends(jpeg: bytes) -> bool:
    """Return whether a JPEG's markers lead over a scan to the end of the image."""
    place, scanned = 2, False
    while match := _MARKER.search(jpeg, place):
        marker = jpeg[match.end() - 1]
        if marker == _END_OF_IMAGE:
            return scanned
        scanned = scanned or marker == _START_OF_SCAN
        place = match.end() + max(2, int.from_bytes(jpeg[match.end() : match.end() + 2]))
    return False
