"""Names of photos: folders, links, hidden files, odd characters; none is skipped in silence."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pillow_heif import register_heif_opener

from coconut_attr.errors import UserError, printable
from coconut_attr.files.images import TRANSPARENT
from coconut_attr.files.photos import find_photos, read_photo
from tests.support.tiny_mirror import jpeg

ODD = ["[bold]x[/].jpg", "a\nb.jpg", "\x1b[31mred.JPG", "e\u0301\u202egpj.jpeg", "-h.Jpg", " .png"]


def write(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(1))
    return str(path)


def test_names_of_any_characters_are_found_and_read(tmp_path: Path) -> None:
    expected = {write(tmp_path / name) for name in ODD}
    no_text = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg"))
    expected.add(write(Path(no_text)))
    found = find_photos([str(tmp_path)])
    assert set(found.photos) == expected
    assert (found.failures, found.left_out) == ([], [])
    for name in found.photos:
        assert read_photo(name).mode == "RGB"
        printable(name).encode("ascii", "strict" if name.isascii() else "ignore")
        assert printable(name).isprintable()


def test_links_are_followed_and_go_round_once(tmp_path: Path) -> None:
    photo = write(tmp_path / "elsewhere" / "x.jpg")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file.jpg").symlink_to(photo)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    (folder / "dead.jpg").symlink_to(tmp_path / "nothing")
    found = find_photos([str(folder)])
    assert found.photos == [str(folder / "file.jpg"), str(folder / "linked" / "x.jpg")]
    assert found.failures == [f"{folder / 'dead.jpg'}: a link to nothing"]


def test_hidden_photos_count_and_resource_files_are_left_out_by_name(tmp_path: Path) -> None:
    hidden = write(tmp_path / ".hidden.jpg")
    real = write(tmp_path / "._real.jpg")
    (tmp_path / "._x.jpg").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
    (tmp_path / "x.gif").write_bytes(b"GIF89a")
    found = find_photos([str(tmp_path)])
    assert found.photos == sorted([hidden, real])
    resource, others = found.left_out
    assert "._x.jpg" in resource and "macOS" in resource
    assert "1 files" in others and "x.gif" in others
    assert found.failures == []


def test_what_is_no_file_is_a_failure_beside_the_photos(tmp_path: Path) -> None:
    photo = write(tmp_path / "x.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = find_photos([str(tmp_path / "typo.jpg"), str(tmp_path), "HTTP://h/[x].jpg", photo])
    assert found.photos == [photo, "HTTP://h/[x].jpg"]
    assert [message.split(": ")[-1] for message in found.failures] == [
        f"{tmp_path / 'typo.jpg'} is not a file, a folder or an http(s) URL",
        "not a regular file",
    ]
    with pytest.raises(
        UserError,
        match="typo.jpg is not a file.*; there is no JPEG.* or HEIC file in",
    ):
        (tmp_path / "empty").mkdir()
        find_photos([str(tmp_path / "typo.jpg"), str(tmp_path / "empty")])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202egpj", r"\u202egpj"),
        ("\udce9", r"\udce9"),
        ("[bold]é 中", "[bold]é 中"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_16_bit_photo_is_read_as_grey(tmp_path: Path) -> None:
    Image.new("I;16", (2, 2), 128 * 257).save(tmp_path / "x.png")
    assert read_photo(str(tmp_path / "x.png")).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("suffix", ["webp", "avif", "heic"])
def test_photos_of_phones_and_browsers_are_read(suffix: str, tmp_path: Path) -> None:
    register_heif_opener()
    name = str(tmp_path / f"photo.{suffix}")
    Image.new("RGB", (64, 48), (200, 30, 40)).save(name, quality=95)
    assert find_photos([str(tmp_path)]).photos == [name]
    photo = read_photo(name)
    assert (photo.mode, photo.size) == ("RGB", (64, 48))
    assert np.abs(np.asarray(photo, int) - (200, 30, 40)).max() < 12
    (tmp_path / f"half.{suffix}").write_bytes(Path(name).read_bytes()[:-9])
    with pytest.raises(UserError, match=rf"half\.{suffix}"):
        read_photo(str(tmp_path / f"half.{suffix}"))


def test_transparency_of_a_turned_photo_is_said(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGBA", (4, 2), (0, 0, 0, 0)).save(tmp_path / "x.png", exif=exif)
    photo = read_photo(str(tmp_path / "x.png"))
    assert photo.size == (2, 4) and TRANSPARENT in photo.info
