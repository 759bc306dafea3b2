"""The offline dataset `sample`: photographs that the scikit-image wheel ships. They are not COCONut's."""

import tomllib
from importlib import resources
from pathlib import Path

from PIL import Image

from coconut_attr.annotations.records import Caption, ImageInfo

PREFIX = "package:skimage/data/"
LICENCE = "https://github.com/scikit-image/scikit-image/blob/main/LICENSE.txt"


def photo_path(url: str) -> Path:
    """Where the photograph of a `package:` URL lies in the installed scikit-image."""
    return Path(str(resources.files("skimage") / "data" / url.removeprefix(PREFIX)))


def read() -> tuple[list[ImageInfo], list[Caption]]:
    """The photographs and their captions, each with the split that it is declared in."""
    entries = tomllib.loads(
        (resources.files("coconut_attr.annotations") / "sample.toml").read_text()
    )["image"]
    images, captions = [], []
    for number, entry in enumerate(entries, start=1):
        url = PREFIX + entry["file"]
        with Image.open(photo_path(url)) as photo:
            width, height = photo.size
        images.append(ImageInfo(number, entry["file"], width, height, url, LICENCE, entry["split"]))
        captions += [
            Caption(number * 100 + k, number, text) for k, text in enumerate(entry["captions"])
        ]
    return images, captions
