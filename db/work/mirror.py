"""The images of a database in the form that the mirror export takes."""

from collections.abc import Iterator

from sqlalchemy import Engine

from coconut_attr.annotations.records import ImageInfo
from coconut_attr.export.mirror import MirrorImage
from coconut_attr.settings import settings
from db.labels import local_images


def mirror_images(engine: Engine, image_ids: list[int]) -> Iterator[MirrorImage]:
    """Yield the downloaded images among these, in the same order, read shard by shard."""
    size, data_dir = settings().shard_size, settings().data_dir
    for start in range(0, len(image_ids), size):
        for item in local_images(engine, image_ids[start : start + size]):
            row = item.image
            if row["state"] == "done":
                names = ("coco_id", "file_name", "width", "height", "url", "licence")
                yield MirrorImage(
                    info=ImageInfo(**{name: row[name] for name in names}),
                    photo=data_dir / row["path"],
                    sha256=row["sha256"],
                    mask=data_dir / row["mask_path"] if row["mask_path"] else None,
                    annotation_file=row["annotation_file"] or "",
                    segments=item.infos,
                )
