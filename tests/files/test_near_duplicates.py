"""Perceptual hashes tell copies of a photo from other photos."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from coconut_attr.files.near_duplicates import group_copies, perceptual_hash


def jpeg(photo: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def crop(photo: Image.Image) -> Image.Image:
    """Cut 1 % off each side."""
    width, height = photo.size
    return photo.crop((width // 100, height // 100, width - width // 100, height - height // 100))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda photo: jpeg(photo, 30),
    "half as large": lambda photo: photo.resize((photo.width // 2, photo.height // 2)),
    "brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.2),
    "less contrast": lambda photo: ImageEnhance.Contrast(photo).enhance(0.6),
    "cropped": crop,
}


@pytest.fixture
def photos(real_mirror: Path) -> list[Image.Image]:
    folder = real_mirror / "images.cocodataset.org" / "val2017"
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))[:40]]


@pytest.mark.parametrize("change", COPIES)
def test_a_copy_is_grouped_with_its_photo_and_no_other(
    photos: list[Image.Image], change: str
) -> None:
    copies = [COPIES[change](photo) for photo in photos]
    hashes = [perceptual_hash(photo) for photo in photos + copies]
    groups = group_copies([""] * len(hashes), hashes)
    assert groups[: len(photos)].tolist() == groups[len(photos) :].tolist()
    assert len(set(groups.tolist())) == len(photos)


def test_equal_content_is_grouped_and_a_flat_photo_only_by_its_content() -> None:
    flat = [perceptual_hash(Image.new("RGB", (64, 48), color)) for color in ("red", "blue", "red")]
    assert flat == ["", "", ""]
    assert group_copies(["a", "b", "a"], flat).tolist() == [0, 1, 0]
    assert group_copies(["", ""], ["", ""]).tolist() == [0, 1]
    assert group_copies([], []).tolist() == []


def test_groups_are_those_of_all_pairs_compared() -> None:
    rng = np.random.default_rng(0)
    content = rng.integers(0, 256, (300, 19), dtype=np.uint8)
    content[:, 16:] = 128
    for k in range(1, 300):  # half of the hashes: up to 16 bits changed in an earlier one
        if k % 2:
            bits = np.unpackbits(content[rng.integers(k), :16])
            bits[rng.choice(128, rng.integers(0, 17), replace=False)] ^= 1
            content[k, :16] = np.packbits(bits)
    words = np.ascontiguousarray(content[:, :16]).view(np.uint64)
    near = np.bitwise_count(words[:, None] ^ words[None]).sum(axis=2) <= 12
    for _ in range(9):
        near = near @ near  # pairs that a chain of near hashes connects
    groups = group_copies([""] * 300, [row.tobytes().hex() for row in content])
    assert np.array_equal(groups[:, None] == groups[None], near)
