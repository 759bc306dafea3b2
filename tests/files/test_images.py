"""Photos as a viewer shows them: modes, transparency, profiles, orientation, damaged metadata."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from coconut_attr.errors import UserError
from coconut_attr.files.images import TRANSPARENT, ImageError, checked_size, decode, to_rgb
from coconut_attr.files.photos import upright
from tests.support import tiny_mirror as tiny
from tests.test_hostile_input import FUZZ, damaged

#: Chromaticities of Adobe RGB (1998), as ICC states them for its D50 white.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def s15(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def icc_profile(space: bytes = b"RGB ", gamma: float = 563 / 256) -> bytes:
    """Return a display profile of Adobe RGB's primaries, or a grey one, with one gamma."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    text = b"a test profile"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(79)
    tags = {b"desc": description, b"wtpt": xyz(0.9642, 1.0, 0.8249), b"cprt": b"text" + bytes(8)}
    if space == b"RGB ":
        for name, primary in zip((b"r", b"g", b"b"), ADOBE_RGB, strict=True):
            tags[name + b"XYZ"] = xyz(*primary)
            tags[name + b"TRC"] = curve
    else:
        tags[b"kTRC"] = curve
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    size = start + len(data)
    header = struct.pack(">I4xI4s4s4s", size, 0x02100000, b"mntr", space, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + s15(0.9642) + s15(1.0) + s15(0.8249)
    return header.ljust(128, bytes(1)) + table + data


def xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + s15(x) + s15(y) + s15(z)


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """Return a PNG with a chunk put in after its header."""
    return png[:33] + chunk(kind, data) + png[33:]


def with_app1(jpeg: bytes, data: bytes) -> bytes:
    """Return a JPEG with a segment put in where EXIF stands."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + jpeg[2:]


def pixel(content: bytes) -> tuple[int, ...]:
    return decode(content).getpixel((0, 0))


@pytest.mark.parametrize(("value", "shown"), [(0, 0), (128 * 257, 128), (65535, 255), (300, 1)])
def test_16_bit_grey_is_scaled(value: int, shown: int) -> None:
    image = Image.fromarray(np.full((2, 3), value, dtype=np.uint16))
    assert image.mode == "I;16"
    assert pixel(encoded(image)) == (shown,) * 3
    assert to_rgb(image).getpixel((0, 0)) == (shown,) * 3
    assert to_rgb(image.convert("I")).getpixel((0, 0)) in {(shown,) * 3, (min(value, 255),) * 3}


def test_16_bit_colour_with_alpha_is_scaled_and_shown_on_white() -> None:
    row = struct.pack(">8H", 65535, 0, 32768, 65535, 65535, 0, 0, 0)
    png = tiny_png(2, 16, 6, row)
    image = decode(png)
    assert image.getpixel((0, 0)) == (255, 0, 128)
    assert image.getpixel((1, 0)) == (255, 255, 255)


def tiny_png(width: int, depth: int, color: int, row: bytes, *between: bytes) -> bytes:
    """Return a PNG of one row from its raw parts."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1) + row))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("png", "colors"),
    [
        (tiny_png(2, 1, 0, b"\x40"), [(0,) * 3, (255,) * 3]),
        (tiny_png(2, 8, 0, b"\x05\x06", chunk(b"tRNS", b"\x00\x05")), [(255,) * 3, (6,) * 3]),
        (
            tiny_png(2, 16, 0, b"\x80\x80\x01\x02", chunk(b"tRNS", b"\x01\x02")),
            [(128,) * 3, (255,) * 3],
        ),
        (
            tiny_png(2, 8, 3, b"\x00\x01", chunk(b"PLTE", b"\1\2\3\4\5\6"), chunk(b"tRNS", b"\0")),
            [(255,) * 3, (4, 5, 6)],
        ),
        (
            tiny_png(2, 8, 2, b"\1\2\3\4\5\6", chunk(b"tRNS", b"\0\1\0\2\0\3")),
            [(255,) * 3, (4, 5, 6)],
        ),
        (tiny_png(2, 8, 4, b"\x09\xff\x09\x00"), [(9,) * 3, (255,) * 3]),
        (tiny_png(2, 8, 6, b"\xff\0\0\x80\xff\0\0\0"), [(255, 127, 127), (255,) * 3]),
    ],
    ids=["1 bit", "grey key", "16-bit key", "palette", "colour key", "grey alpha", "alpha"],
)
def test_every_png_mode_is_shown_as_a_viewer_shows_it(png: bytes, colors: list) -> None:
    image = decode(png)
    assert [image.getpixel((x, 0)) for x in (0, 1)] == colors
    assert (TRANSPARENT in image.info) == (b"tRNS" in png or png[25] in {4, 6})


@pytest.mark.parametrize(
    ("mode", "value", "shown"),
    [("F", 0.5, 128), ("F", 128.0, 128), ("F", 32896.0, 128), ("I", 128, 128), ("I", 32896, 128)],
)
def test_float_and_integer_images_are_scaled(mode: str, value: float, shown: int) -> None:
    assert to_rgb(Image.new(mode, (2, 2), value)).getpixel((1, 1)) == (shown,) * 3


def test_a_profile_is_applied_and_srgb_pixels_stay_equal_to_the_bit() -> None:
    colors = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    image = Image.fromarray(colors)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("PNG", "JPEG"):
        plain = decode(encoded(image, kind))
        assert decode(encoded(image, kind, icc_profile=srgb)).tobytes() == plain.tobytes()
        assert decode(encoded(image, kind, icc_profile=b"no profile")).tobytes() == plain.tobytes()
    green = Image.new("RGB", (8, 8), (0, 200, 0))
    for kind in ("PNG", "JPEG"):
        content = encoded(green, kind, icc_profile=icc_profile(), quality=95)
        for shown in (decode(content), decode(content, min_side=2)):
            # Adobe RGB's green lies outside of sRGB: less red and blue than none, clipped.
            red, value, blue = shown.getpixel((0, 0))
            assert red <= 3 and blue <= 60 and 198 <= value <= 204, shown.getpixel((0, 0))
    red = Image.new("RGB", (8, 8), (150, 50, 50))
    r, g, b = pixel(encoded(red, icc_profile=icc_profile()))
    assert r > 165 and abs(g - 50) < 12 and abs(b - 50) < 12  # Adobe's red is stronger


def test_a_grey_profile_is_applied_to_grey_only() -> None:
    profile = icc_profile(b"GRAY", gamma=1.0)
    grey = pixel(encoded(Image.new("L", (2, 2), 55), icc_profile=profile))
    assert grey == pytest.approx((128, 128, 128), abs=2)  # 55/255 of the light
    color = Image.new("RGB", (2, 2), (10, 20, 30))
    assert pixel(encoded(color, icc_profile=profile)) == (10, 20, 30)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0"]
)
def test_a_photo_with_odd_exif_is_read_without_it(exif: bytes) -> None:
    plain = tiny.jpeg(1)
    assert upright(with_app1(plain, exif)).tobytes() == upright(plain).tobytes()


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_turns_a_photo_as_pillow_does(turn: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = turn
    with Image.open(io.BytesIO(tiny.jpeg(1))) as image:
        content = encoded(image, "JPEG", exif=exif, quality="keep")
    with Image.open(io.BytesIO(content)) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert upright(content).tobytes() == expected.tobytes()
    assert decode(content).size == (tiny.WIDTH, tiny.HEIGHT)  # COCO's masks ignore the orientation


def test_a_png_with_much_text_or_a_broken_chunk_is_read() -> None:
    plain = Image.new("RGB", (5, 4), (1, 2, 3))
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 3_000_000, zip=True)
    late = encoded(plain)
    late = late[:-12] + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 3_000_000)) + late[-12:]
    for content in (
        encoded(plain, pnginfo=text),
        late,
        with_chunk(encoded(plain), b"pHYs", b"x"),
        with_chunk(encoded(plain), b"iCCP", b"x"),
        with_chunk(encoded(plain), b"eXIf", b"MM"),
    ):
        assert pixel(content) == (1, 2, 3)
        assert upright(content).size == checked_size(content) == (5, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JPEG or PNG image"),
        (b"GIF89a", "not a JPEG or PNG image"),
        (tiny.jpeg(1)[:700], "the bytes: "),
        (encoded(Image.new("RGB", (50, 40)))[:-30], "the bytes: "),
    ],
)
def test_what_is_no_image_is_an_image_error(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=message):
        decode(content)
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ImageError, match="x.jpg: "):
        decode(tmp_path / "x.jpg")


def rich_photos() -> list[bytes]:
    """Return photos with EXIF, a profile and text, in which a change can hit any of them."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    text = PngImagePlugin.PngInfo()
    text.add_text("key", "text", zip=True)
    options = {"exif": exif, "icc_profile": icc_profile()}
    color = Image.new("RGB", (9, 7), (1, 200, 3))
    return [
        encoded(color, "JPEG", **options, comment="c", dpi=(72, 72)),
        encoded(color.convert("CMYK"), "JPEG", **options),
        encoded(color.convert("L"), "JPEG", exif=exif, icc_profile=icc_profile(b"GRAY")),
        encoded(color, **options, pnginfo=text, dpi=(72, 72)),
        encoded(color.convert("P"), **options, transparency=1),
        encoded(Image.fromarray(np.eye(4, dtype=np.uint16) * 999), **options),
    ]


@FUZZ
@given(st.sampled_from(rich_photos()).flatmap(damaged))
def test_damaged_metadata_gives_a_photo_or_an_image_error(content: bytes) -> None:
    for turned in (False, True):
        try:
            photo = decode(content, upright=turned, min_side=4)
        except UserError as error:
            assert isinstance(error, ImageError) and str(error)
        else:
            assert photo.mode == "RGB"


@FUZZ
@given(
    st.sampled_from(
        [
            b"tEXt",
            b"zTXt",
            b"iTXt",
            b"iCCP",
            b"eXIf",
            b"pHYs",
            b"gAMA",
            b"cHRM",
            b"acTL",
            b"fcTL",
            b"sRGB",
            b"tIME",
        ]
    ),
    st.binary(max_size=40)
    | st.binary(max_size=40).map(lambda data: b"k\0\0" + zlib.compress(data)),
)
def test_any_chunk_content_leaves_a_png_readable(kind: bytes, data: bytes) -> None:
    png = encoded(Image.new("RGB", (3, 2), (9, 8, 7)))
    assert upright(with_chunk(png, kind, data)).mode == "RGB"


@FUZZ
@given(st.binary(max_size=60).map(lambda data: b"Exif\0\0" + data) | st.binary(max_size=60))
def test_any_app1_content_leaves_a_jpeg_readable(data: bytes) -> None:
    turned = upright(with_app1(tiny.jpeg(1), data))
    assert sorted(turned.size) == [tiny.HEIGHT, tiny.WIDTH]
