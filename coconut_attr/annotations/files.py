"""The annotations of a dataset: the files that hold them, their masks, and COCO's own files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from coconut_attr.annotations import caption_zip, hub, kaggle, sample, tar
from coconut_attr.annotations.categories import coco_categories, refuse_other_numbering
from coconut_attr.annotations.coco_file import CocoContent, CocoImages, read_coco_file
from coconut_attr.annotations.records import Panoptic, Row
from coconut_attr.annotations.rows import hub_row
from coconut_attr.annotations.upstream import hub_endpoint
from coconut_attr.annotations.version import Version, differs, version_of, with_checksum
from coconut_attr.datasets import CocoFile, Dataset
from coconut_attr.errors import SourceError, UnreachableError
from coconut_attr.files.atomic import write_atomically
from coconut_attr.files.object_store import object_store
from coconut_attr.settings import Settings


@dataclass(frozen=True)
class AnnotationFile:
    """A file of panoptic annotations.

    Attributes:
        origin: where it is read: a mirror may hold other annotations than COCONut's.
        read: yields its rows in batches, after the first `skip` of them.
        local: its path if it is on this machine.
    """

    name: str
    origin: str
    version: Version
    read: Callable[[int], Iterator[list[Row]]]
    local: Path | None = None

    def checksummed(self) -> Version:
        """Return its version with the SHA-256, stated by the hub or computed from a local file.

        A mirror by URL states none.
        """
        return with_checksum(self.version, self.local)

    def changed(self, before: Version, origin: str) -> bool:
        """Return whether it is another file than that version, as far as can be told."""
        return differs(
            before if origin == self.origin else replace(before, etag=""), self.version, self.local
        )


def annotation_files(dataset: Dataset, settings: Settings) -> list[AnnotationFile]:
    """Return the files of a dataset's panoptic annotations: a Kaggle-layout folder's or the hub's.

    Raises:
        SourceError: they cannot be listed, or the folder has no masks of the dataset.
    """
    if not dataset.has_masks:
        return []
    if settings.annotations_dir:
        return [_kaggle_file(settings.annotations_dir, dataset)]
    origin = f"mirror {settings.mirror}" if settings.mirror else hub_endpoint()
    shards = hub.list_shards(dataset, settings) if dataset.repos else []
    archives = [
        archive for repo in dataset.tar_repos for archive in tar.list_archives(repo, settings)
    ]
    return [
        AnnotationFile(
            shard.name, origin, shard.version, partial(_read_shard, shard, settings), shard.local
        )
        for shard in shards
    ] + [
        AnnotationFile(
            archive.tar.name,
            origin,
            archive.tar.version,
            partial(tar.read_archive, archive, settings),
            archive.tar.local,
        )
        for archive in archives
    ]


def _kaggle_file(folder: Path, dataset: Dataset) -> AnnotationFile:
    path = kaggle.annotation_file(folder, dataset)
    kaggle.mask_folder(folder, dataset)
    stat = path.stat()
    return AnnotationFile(
        f"kaggle/{path.name}",
        f"folder {folder}",
        version_of({"size": stat.st_size, "mtime": stat.st_mtime}),
        partial(kaggle.read, folder, dataset),
        path,
    )


def _read_shard(shard: hub.Shard, settings: Settings, skip: int) -> Iterator[list[Row]]:
    number = skip
    for batch in hub.read_shard(shard, settings, skip):
        try:
            refuse_other_numbering(_numbering(batch), coco_categories())
        except SourceError as error:
            raise SourceError(f"{shard.name} is refused: {error}") from error
        yield [hub_row(row, f"{shard.name} row {k}") for k, row in enumerate(batch, number + 1)]
        number += len(batch)


def _numbering(batch: list[Any]) -> Iterator[tuple[Any, Any]]:
    infos = (row.get("segments_info") for row in batch)
    annotations = [info.get("segments_info") for info in infos if isinstance(info, dict)]
    return kaggle.numbering([{"segments_info": segments} for segments in annotations])


def coco_images(dataset: Dataset, settings: Settings) -> CocoImages:
    """Return the images of COCO's files about a dataset.

    Raises:
        SourceError: a file cannot be had or read. A mirror may lack one that has no captions: its
            images then have no licence.
    """
    images = CocoImages(dataset.coco_files[-1].photos if dataset.coco_files else "")
    for file in dataset.coco_files:
        try:
            content = _read_file(file, settings)
        except UnreachableError:
            raise
        except SourceError:
            if file.has_captions or not settings.mirror:
                raise
            continue
        images.by_id.update({image.coco_id: image for image in content.images})
    return images


def captioned_images(dataset: Dataset, settings: Settings) -> CocoContent:
    """Return the captions of a dataset, and the images that they are of.

    Raises:
        SourceError: the caption file cannot be had or read.
    """
    if not dataset.is_coconut:
        return sample.read()
    found = CocoContent()
    for file in dataset.coco_files:
        if file.has_captions:
            content = _read_file(file, settings)
            found.images += content.images
            found.captions += content.captions
            found.findings += content.findings
    return found


def _read_file(file: CocoFile, settings: Settings) -> CocoContent:
    path = caption_zip.fetch_member(file.archive, file.member, settings)
    return read_coco_file(path, file.photos, file.has_captions)


def store_mask(dataset: Dataset, annotation: Panoptic, settings: Settings) -> str:
    """Write an annotation's mask to the data folder; return its path relative to that folder.

    It is named by the image id: two images may have one file name, or a.jpg and a.png.

    Raises:
        OSError: it cannot be written.
    """
    relative = f"{dataset.mask_folder}/{annotation.image_id:012d}.png"
    write_atomically(settings.data_dir / relative, annotation.mask_png)
    return relative


def store_masks(dataset: Dataset, annotations: Sequence[Panoptic], settings: Settings) -> list[str]:
    """Write masks to the data folder and, if there is one, to the object store.

    Raises:
        coconut_attr.files.object_store.ObjectStoreError, UnreachableError: as `ObjectStore`.
    """
    paths = [store_mask(dataset, annotation, settings) for annotation in annotations]
    if store := object_store(settings):
        masks = zip(paths, (annotation.mask_png for annotation in annotations), strict=True)
        list(store.map(lambda mask: store.write(*mask), masks))
    return paths
