"""The flow `download`: annotations first, then the images that they name."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from prefect import flow, task
from prefect.logging import get_run_logger
from sqlalchemy import RowMapping

from coconut_attr.annotations import AnnotationFile, annotation_files, captioned_images, keep_masks
from coconut_attr.check import unique_annotations, unique_captions
from coconut_attr.download import hint
from coconut_attr.errors import UserError
from coconut_attr.evidence import Problem
from coconut_attr.registry import Dataset
from coconut_attr.registry import dataset as registered
from coconut_attr.settings import settings
from coconut_attr.sources.records import ImageInfo, Panoptic, SourceError
from coconut_attr.sources.version import Version
from coconut_attr.splits import split_of
from db import queries
from db import store as writes
from db.counts import refresh_counts
from db.downloads import Work, fetch_claimed, pending, plan, upload_masks
from flows.parameters import DatasetName, Positive
from flows.progress import Progress
from flows.retries import RETRY
from flows.store import store


@flow
def download(
    dataset: DatasetName = "val5k",
    limit: Positive | None = None,
    retry_failed: bool = False,
    verify: bool = False,
    refresh: bool = False,
) -> dict[str, int]:
    """Fetch a dataset's annotations, captions and images; what is there and whole is not fetched again.

    Images that failed before are tried again if the cause may pass. Several runs, on one machine or many, share the
    work where they share the store, and the data folder or an image store.

    Args:
        limit: stop at this many images (None: all).
        retry_failed: try just those images that failed before, whatever the cause.
        verify: just read every file again, compare it with its SHA-256 and with upstream, and fetch what differs.
        refresh: read those annotation files anew that upstream has changed since they were read to their end.

    Returns:
        How many images the dataset has, and how many of them are `downloaded` and `failed`.
    """
    entry = registered(dataset)
    if retry_failed and verify:
        raise UserError("retry_failed and verify exclude each other: a failed image has no file to verify")
    if not (retry_failed or verify):
        read_annotations(entry, limit, refresh)
        read_captions(entry, limit)
        refresh_counts(store(), dataset)
        if uploaded := upload_masks(store(), entry, settings()):
            get_run_logger().info("%s: %s masks put into the image store", dataset, uploaded)

    work = plan(store(), dataset, settings(), "failed" if retry_failed else "verify" if verify else "new", limit)
    with Progress(f"{dataset} images", pending(store(), work)) as progress:
        fetch_images(entry, work, progress)
    refresh_counts(store(), dataset)
    return summary(dataset)


def read_annotations(entry: Dataset, limit: int | None, refresh: bool) -> None:
    """Read those annotation files that have not been read to their end; a limit may stop it before."""
    known = queries.annotation_files(store(), entry.name)
    try:
        files = annotation_files(entry, settings())
    except SourceError as error:
        if not known or not all(row["complete"] for row in known.values()):
            raise
        get_run_logger().warning("%s; all annotation files listed before are complete, so those are used", error)
        return
    note_changes(entry, files, known, refresh)
    known = queries.annotation_files(store(), entry.name)
    for file in files:
        if file.name in known and known[file.name]["complete"]:
            continue
        if limit is not None and queries.count_images(store(), entry.name) >= limit:
            break
        read_annotation_file(entry, file, limit)


def note_changes(entry: Dataset, files: list[AnnotationFile], known: Mapping[str, RowMapping], refresh: bool) -> None:
    """Compare annotation files with what was read of them.

    One that changed when it was half read is begun anew. One that was read to its end is told and kept, for labels and
    runs rest on it; `refresh` begins it anew.

    Args:
        known: rows of `annotation_file` by name: what was read.
    """
    listed = {file.name: file for file in files}
    findings = []
    for name, row in known.items():
        before = Version(row["size"] or 0, row["sha256"] or "", row["etag"] or "")
        if name not in listed:
            kind = "annotation file gone"
        elif listed[name].changed(before, row["origin"]):
            kind = "annotation file changed"
        else:
            continue
        if refresh or not row["complete"]:
            rows = f"{row['rows_done']} rows of it were read"
            get_run_logger().warning("%s: %s; %s, it is begun anew", kind, name, rows)
            writes.forget_file(store(), entry.name, name)
        else:
            get_run_logger().warning("%s: %s; what was read is kept (download --refresh reads it anew)", kind, name)
            findings.append({"image_id": None, "kind": kind, "detail": name})
    writes.record_findings(store(), entry.name, "annotations", None, findings)


@task(task_run_name="annotations {file.name}", **RETRY)
def read_annotation_file(entry: Dataset, file: AnnotationFile, limit: int | None) -> None:
    """Store one annotation file batch by batch, so that an interrupted reading goes on where it was.

    Where several downloads read the file at the same time, each row is stored by the first that comes to it.

    Raises:
        SourceError: the file cannot be read, or another download begins it anew.
    """

    def stored() -> int:
        row = queries.annotation_files(store(), entry.name).get(file.name)
        return row["rows_done"] if row else 0

    # Asked for here and not by the caller: a retry must go on where the failed attempt came to.
    start = stored()
    seen = queries.annotated_ids(store(), entry.name)
    version = asdict(file.checksummed())
    logger = get_run_logger()
    for batch in file.read(start):
        end = start + len(batch)
        while (done := stored()) < end:
            if done < start:
                raise SourceError(f"{file.name} has been begun anew by another download: run this one again")
            room = len(batch) if limit is None else limit - queries.count_images(store(), entry.name)
            if room <= 0:
                return
            rows = batch[done - start :][:room]
            part, problems = unique_annotations(rows, seen, file.name)
            masks = keep_masks(entry, part, settings())
            images = [{**_image_row(entry, a.image), "mask_path": mask} for a, mask in zip(part, masks, strict=True)]
            if not writes.add_panoptic(
                store(), entry.name, images, _segment_rows(part), file=file.name, origin=file.origin,
                rows_before=done, rows_done=done + len(rows), version=version, findings=_finding_rows(problems),
            ):  # fmt: skip
                continue
            seen.update(a.image.coco_id for a in part)
            logger.info("%s: %s annotations", file.name, done + len(rows))
        seen.update(a.image.coco_id for a in batch)
        start = end
    writes.finish_file(store(), entry.name, file.name, start)


def _segment_rows(annotations: list[Panoptic]) -> list[dict[str, Any]]:
    return [
        {
            "coco_id": annotation.image.coco_id,
            "segment_id": segment.id,
            "category_id": segment.category_id,
            "iscrowd": segment.iscrowd,
            "annotated_area": segment.area,
        }
        for annotation in annotations
        for segment in annotation.segments
    ]


def _finding_rows(problems: list[tuple[int, Problem]]) -> list[dict[str, Any]]:
    return [{"coco_id": coco_id, "kind": problem.kind, "detail": problem.detail} for coco_id, problem in problems]


@task(task_run_name="captions {entry.name}", **RETRY)
def read_captions(entry: Dataset, limit: int | None) -> None:
    """Store the captions of a dataset's images, and the images that only captions name."""
    infos, captions, problems = unique_captions(*captioned_images(entry, settings()))
    known = queries.coco_ids(store(), entry.name)
    fresh = [info for info in infos if info.coco_id not in known]
    if limit is not None:
        fresh = fresh[: max(0, limit - len(known))]
    rows = [_image_row(entry, info) for info in fresh]
    texts = [{"coco_id": c.coco_id, "caption_id": c.id, "text": c.text} for c in captions]
    new = writes.add_captions(store(), entry.name, rows, texts, _finding_rows(problems))
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


@task(task_run_name="images {entry.name}", **RETRY)
def fetch_images(entry: Dataset, work: Work, progress: Progress) -> None:
    """Fetch images, a claimed shard after the other without a pause between them; rows are stored as it goes."""
    counts = fetch_claimed(store(), entry, work, settings(), on_done=lambda _outcome: progress.advance())
    get_run_logger().info("%s: %s", entry.name, ", ".join(f"{n} {what}" for what, n in sorted(counts.items()) if n))
    for row in queries.download_failures(store(), entry.name):
        get_run_logger().warning(
            "%s: %s x %s: %s", entry.name, row["images"], row["error_class"], hint(row["error_class"])
        )


def summary(dataset: str) -> dict[str, int]:
    """Images of a dataset, and how many are downloaded and failed."""
    query = "SELECT images, downloaded, failed FROM dataset_summary WHERE dataset = :dataset"
    return dict(queries.sql(store(), query, dataset=dataset)[0])
