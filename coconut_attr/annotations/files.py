"""The annotations of a dataset: which files hold them, their masks on disk, and the captions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from coconut_attr.annotations import caption_zip, hub, kaggle, rows, sample
from coconut_attr.annotations.coco_file import read_coco_file
from coconut_attr.annotations.records import MALFORMED, Caption, ImageInfo, Panoptic, plain_name
from coconut_attr.annotations.upstream import hub_endpoint
from coconut_attr.annotations.version import Version, differs, version_of, with_checksum
from coconut_attr.datasets import Dataset
from coconut_attr.errors import SourceError
from coconut_attr.files.atomic import write_atomically
from coconut_attr.files.object_store import object_store
from coconut_attr.settings import Settings


@dataclass(frozen=True)
class AnnotationFile:
    """A file of panoptic annotations; `read(skip)` yields batches of them after the first `skip`.

    `origin` says where it is read: a mirror may hold other annotations than COCONut's under the same names. `local` is
    its path if it is on this machine.
    """

    name: str
    origin: str
    version: Version
    read: Callable[[int], Iterator[list[Panoptic]]]
    local: Path | None = None

    def checksummed(self) -> Version:
        """Its version with the SHA-256, as the hub states it or computed; empty for a mirror by URL."""
        return with_checksum(self.version, self.local)

    def changed(self, before: Version, origin: str) -> bool:
        """Whether it is another file than that version, which was read from that origin, as far as can be told."""
        return differs(
            before if origin == self.origin else replace(before, etag=""), self.version, self.local
        )


def annotation_files(dataset: Dataset, settings: Settings) -> list[AnnotationFile]:
    """The files that hold a dataset's panoptic annotations: the hub's, or those of a Kaggle-layout folder.

    Raises:
        SourceError: they cannot be listed.
    """
    if not dataset.repos:
        return []
    if settings.annotations_dir:
        path = kaggle.annotation_file(settings.annotations_dir, dataset)
        origin = f"folder {settings.annotations_dir}"
        read = partial(_read_kaggle, settings.annotations_dir, dataset)
        stat = path.stat()
        version = version_of({"size": stat.st_size, "mtime": stat.st_mtime})
        return [AnnotationFile(f"kaggle/{path.name}", origin, version, read, path)]
    origin = f"mirror {settings.mirror}" if settings.mirror else hub_endpoint()
    return [
        AnnotationFile(
            shard.name,
            origin,
            shard.version,
            partial(_read_shard, shard, dataset.coco_files[-1].photos, settings),
            shard.local,
        )
        for shard in hub.list_shards(dataset, settings)
    ]


def _read_shard(
    shard: hub.Shard, image_prefix: str, settings: Settings, skip: int
) -> Iterator[list[Panoptic]]:
    try:
        for batch in hub.read_shard(shard, settings, skip):
            yield [rows.hub_row(row, image_prefix) for row in batch]
    except MALFORMED as error:
        raise SourceError(f"cannot read {shard.name}: {error}") from error


def _read_kaggle(folder: Path, dataset: Dataset, skip: int) -> Iterator[list[Panoptic]]:
    return kaggle.read(folder, dataset, skip=skip)


def captioned_images(dataset: Dataset, settings: Settings) -> tuple[list[ImageInfo], list[Caption]]:
    """The captions of a dataset, and the images that they are of.

    Raises:
        SourceError: the caption file cannot be had or read.
    """
    if not dataset.is_coconut:
        return sample.read()
    images: list[ImageInfo] = []
    texts: list[Caption] = []
    for file in dataset.coco_files:
        if not file.has_captions:
            continue
        path = caption_zip.fetch_member(file.archive, file.member, settings)
        more_images, more_texts = read_coco_file(path, file.photos)
        images += more_images
        texts += more_texts
    return images, texts


def keep_mask(dataset: Dataset, annotation: Panoptic, settings: Settings) -> str:
    """Write an annotation's mask to the data folder; returns its path relative to that folder.

    Raises:
        SourceError: the image's name could leave the folder.
        OSError: it cannot be written.
    """
    name = Path(plain_name(annotation.image.file_name)).with_suffix(".png").name
    relative = f"{dataset.mask_folder}/{name}"
    write_atomically(settings.data_dir / relative, annotation.mask_png)
    return relative


def keep_masks(dataset: Dataset, annotations: Sequence[Panoptic], settings: Settings) -> list[str]:
    """`keep_mask` for several annotations, and their masks put into the image store, if there is one.

    Raises:
        coconut_attr.files.object_store.ObjectStoreError, UnreachableError: as `ObjectStore`.
    """
    paths = [keep_mask(dataset, annotation, settings) for annotation in annotations]
    if store := object_store(settings):
        masks = zip(paths, (annotation.mask_png for annotation in annotations), strict=True)
        list(store.map(lambda mask: store.write(*mask), masks))
    return paths
