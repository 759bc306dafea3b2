"""Extraction of an image whose rows are in the database and whose files are in the data folder."""

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from coconut_attr.annotations.records import Caption
from coconut_attr.files.images import ImageError
from coconut_attr.labels.rules import load_rules
from coconut_attr.settings import settings
from db.labels import AnnotatedImage, local_images

if TYPE_CHECKING:
    from coconut_attr.labels.extract import Extraction, Extractor
    from coconut_attr.labels.signals import Signals


def extract_image(extractor: "Extractor", item: AnnotatedImage) -> "Extraction":
    """Extract the evidence about an image.

    Raises:
        ImageError, OSError: see `Extractor.extract`.
    """
    data_dir, mask = settings().data_dir, item.image["mask_path"]
    captions = [Caption(c["caption_id"], item.image["coco_id"], c["text"]) for c in item.captions]
    return extractor.extract(
        data_dir / item.image["path"],
        data_dir / mask if mask else None,
        item.infos,
        captions,
        item.pancap,
    )


def signals_of(engine: Engine, image_ids: list[int]) -> "dict[int, Signals]":
    """Measure the signals of images; those whose photo is not there or cannot be read are left out.

    Raises:
        coconut_attr.files.object_store.ObjectStoreError, UnreachableError: see `local_images`.
    """
    from coconut_attr.labels.extract import Extractor

    extractor = Extractor(load_rules().rules)
    signals = {}
    size = settings().shard_size
    for start in range(0, len(image_ids), size):
        for item in local_images(engine, image_ids[start : start + size]):
            with suppress(ImageError, OSError):  # the check names them
                if item.image["path"]:
                    signals[item.image["id"]] = extract_image(extractor, item).signals
    return signals
