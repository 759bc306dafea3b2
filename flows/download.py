"""The flow `download`: annotations first, then the images that they name."""

from collections import Counter
from typing import Any

from prefect import Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import TaskRun
from prefect.logging import get_run_logger
from prefect.states import State

from coconut_attr.annotations import AnnotationFile, annotation_files, captioned_images, keep_mask
from coconut_attr.download import Wanted
from coconut_attr.download import download as fetch
from coconut_attr.errors import UserError
from coconut_attr.registry import Dataset
from coconut_attr.registry import dataset as registered
from coconut_attr.settings import settings
from coconut_attr.sources.records import ImageInfo, SourceError, UnreachableError
from coconut_attr.splits import split_of
from db import queries
from db import store as writes
from db.counts import refresh_counts
from flows.progress import Progress
from flows.store import store


def may_pass(_task: Task, _run: TaskRun, state: State) -> bool:
    """Whether another attempt at a failed task may help: not where the user has to mend something."""
    try:
        state.result()
    except UserError as error:
        return isinstance(error, UnreachableError)
    except Exception:  # a fault of the machine: a full disk, a lost database connection
        return True
    return False


RETRY: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [5, 30, 120],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": may_pass,
    "cache_policy": NO_CACHE,
}


@flow
def download(dataset: str = "val5k", limit: int | None = None, retry_failed: bool = True) -> dict[str, int]:
    """Fetch a dataset's annotations, captions and images; what is there and whole is not fetched again.

    Args:
        limit: stop at this many images (None: all).
        retry_failed: try those images again that failed before.

    Returns:
        How many images the dataset has, and how many of them are `downloaded` and `failed`.
    """
    entry = registered(dataset)
    read_annotations(entry, limit)
    read_captions(entry, limit)
    refresh_counts(store(), dataset)

    rows = queries.images_to_download(store(), dataset, retry_failed=retry_failed)
    wanted = [Wanted(row["id"], row["url"], row["width"], row["height"]) for row in rows]
    size = settings().shard_size
    with Progress(f"{dataset} images", len(wanted)) as progress:
        for start in range(0, len(wanted), size):
            fetch_images(entry, wanted[start : start + size], progress)
    refresh_counts(store(), dataset)
    return summary(dataset)


def read_annotations(entry: Dataset, limit: int | None) -> None:
    """Read those annotation files that have not been read to their end; a limit may stop it before."""
    known = queries.annotation_files(store(), entry.name)
    try:
        files = annotation_files(entry, settings())
    except SourceError as error:
        if not known or not all(complete for _, complete in known.values()):
            raise
        get_run_logger().warning("%s; all annotation files listed before are complete, so those are used", error)
        return
    for file in files:
        if known.get(file.name, (0, False))[1]:
            continue
        if limit is not None and queries.count_images(store(), entry.name) >= limit:
            break
        read_annotation_file(entry, file, limit)


@task(task_run_name="annotations {file.name}", **RETRY)
def read_annotation_file(entry: Dataset, file: AnnotationFile, limit: int | None) -> None:
    """Store one annotation file batch by batch, so that an interrupted reading goes on where it was."""
    # Asked for here and not by the caller: a retry must go on where the failed attempt came to.
    rows_done, _ = queries.annotation_files(store(), entry.name).get(file.name, (0, False))
    logger = get_run_logger()
    room = None if limit is None else limit - queries.count_images(store(), entry.name)
    for batch in file.read(rows_done):
        part = batch if room is None else batch[:room]
        images = [{**_image_row(entry, a.image), "mask_path": keep_mask(entry, a, settings())} for a in part]
        segments = [
            {
                "coco_id": annotation.image.coco_id,
                "segment_id": segment.id,
                "category_id": segment.category_id,
                "iscrowd": segment.iscrowd,
                "annotated_area": segment.area,
            }
            for annotation in part
            for segment in annotation.segments
        ]
        rows_done += len(part)
        writes.add_panoptic(
            store(), entry.name, images, segments, file=file.name, origin=file.origin, rows_done=rows_done
        )
        logger.info("%s: %s annotations", file.name, rows_done)
        if room is not None:
            room -= len(part)
            if room <= 0:
                return
    writes.finish_file(store(), entry.name, file.name)


@task(task_run_name="captions {entry.name}", **RETRY)
def read_captions(entry: Dataset, limit: int | None) -> None:
    """Store the captions of a dataset's images, and the images that only captions name."""
    infos, captions = captioned_images(entry, settings())
    known = queries.coco_ids(store(), entry.name)
    fresh = [info for info in infos if info.coco_id not in known]
    if limit is not None:
        fresh = fresh[: max(0, limit - len(known))]
    rows = [_image_row(entry, info) for info in fresh]
    texts = [{"coco_id": c.coco_id, "caption_id": c.id, "text": c.text} for c in captions]
    new = writes.add_captions(store(), entry.name, rows, texts)
    get_run_logger().info("%s: %s new captions, %s images known by captions alone", entry.name, new, len(rows))


def _image_row(entry: Dataset, info: ImageInfo) -> dict[str, Any]:
    return {
        "dataset": entry.name,
        "coco_id": info.coco_id,
        "file_name": info.file_name,
        "url": info.url,
        "licence": info.licence,
        "width": info.width,
        "height": info.height,
        "split": info.split or split_of(info.coco_id),
    }


@task(task_run_name="images {entry.name} from {wanted[0].key}", **RETRY)
def fetch_images(entry: Dataset, wanted: list[Wanted], progress: Progress) -> None:
    """Fetch one shard of images; their rows are written together when the shard ends."""
    rows = []
    for outcome in fetch(wanted, entry, settings()):
        rows.append(
            {
                "image_id": outcome.key,
                "state": "done" if outcome.ok else "failed",
                "attempts": outcome.attempts,
                "seconds": outcome.seconds,
                "error_class": outcome.error_class or None,
                "error": outcome.error or None,
                "path": outcome.path,
                "sha256": outcome.sha256,
                "bytes": outcome.bytes,
            }
        )
        progress.advance()
    writes.record_downloads(store(), rows)
    failures = Counter(row["error_class"] for row in rows if row["state"] == "failed")
    if failures:
        causes = ", ".join(f"{count} x {cause}" for cause, count in failures.most_common())
        get_run_logger().warning("%s of %s images failed: %s", failures.total(), len(rows), causes)


def summary(dataset: str) -> dict[str, int]:
    """Images of a dataset, and how many are downloaded and failed."""
    query = "SELECT images, downloaded, failed FROM dataset_summary WHERE dataset = :dataset"
    return dict(queries.sql(store(), query, dataset=dataset)[0])
