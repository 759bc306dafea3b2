"""The offline dataset `sample`: photographs of the scikit-image wheel, not COCONut's."""

import tomllib
from importlib import resources
from pathlib import Path

from PIL import Image

from coconut_attr.annotations.coco_file import CocoContent
from coconut_attr.annotations.records import Caption, ImageInfo

PREFIX = "package:skimage/data/"
LICENCE = "https://github.com/scikit-image/scikit-image/blob/main/LICENSE.txt"


def photo_path(url: str) -> Path:
    """Return the path of a `package:` URL's photograph in the installed scikit-image."""
    return Path(str(resources.files("skimage") / "data" / url.removeprefix(PREFIX)))


def read() -> CocoContent:
    """Return the photographs, each with its declared split, and their captions."""
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
    return CocoContent(images, captions)
