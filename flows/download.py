"""The flow `download`: annotations first, then the images that they name."""

from collections.abc import Mapping
from dataclasses import asdict

from prefect import flow, task
from prefect.logging import get_run_logger
from sqlalchemy import RowMapping

from coconut_attr.annotations.duplicates import unique_annotations, unique_captions
from coconut_attr.annotations.files import (
    AnnotationFile,
    annotation_files,
    captioned_images,
    keep_masks,
)
from coconut_attr.annotations.version import Version
from coconut_attr.datasets import Dataset, get_dataset
from coconut_attr.download.failures import hint
from coconut_attr.download.queue import Mode
from coconut_attr.errors import SourceError, UserError
from coconut_attr.settings import settings
from db import annotations, downloads
from db import annotations as writes
from db.annotations import finding_rows, image_row, panoptic_segment_rows
from db.counts import refresh_counts
from db.downloads import Work, fetch_claimed, pending, plan, upload_masks
from db.sql import sql
from flows.database import engine
from flows.parameters import DatasetName, Positive
from flows.progress import Progress
from flows.retries import RETRY


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
    entry = get_dataset(dataset)
    if retry_failed and verify:
        raise UserError(
            "retry_failed and verify exclude each other: a failed image has no file to verify"
        )
    mode: Mode = "failed" if retry_failed else "verify" if verify else "new"
    if mode == "new":
        read_annotations(entry, limit, refresh)
        read_captions(entry, limit)
        refresh_counts(engine(), dataset)
        if uploaded := upload_masks(engine(), entry, settings()):
            get_run_logger().info("%s: %s masks put into the image store", dataset, uploaded)

    work = plan(engine(), dataset, settings(), mode, limit)
    with Progress(f"{dataset} images", pending(engine(), work)) as progress:
        fetch_images(entry, work, progress)
    refresh_counts(engine(), dataset)
    return summary(dataset)


def read_annotations(entry: Dataset, limit: int | None, refresh: bool) -> None:
    """Read those annotation files that have not been read to their end; a limit may stop it before."""
    known = annotations.annotation_files(engine(), entry.name)
    try:
        files = annotation_files(entry, settings())
    except SourceError as error:
        if not known or not all(row["complete"] for row in known.values()):
            raise
        get_run_logger().warning(
            "%s; all annotation files listed before are complete, so those are used", error
        )
        return
    note_changes(entry, files, known, refresh)
    known = annotations.annotation_files(engine(), entry.name)
    for file in files:
        if file.name in known and known[file.name]["complete"]:
            continue
        if limit is not None and annotations.count_images(engine(), entry.name) >= limit:
            break
        read_annotation_file(entry, file, limit)


def note_changes(
    entry: Dataset, files: list[AnnotationFile], known: Mapping[str, RowMapping], refresh: bool
) -> None:
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
            writes.forget_file(engine(), entry.name, name)
        else:
            get_run_logger().warning(
                "%s: %s; what was read is kept (download --refresh reads it anew)", kind, name
            )
            findings.append({"image_id": None, "kind": kind, "detail": name})
    writes.record_findings(engine(), entry.name, "annotations", None, findings)


@task(task_run_name="annotations {file.name}", **RETRY)
def read_annotation_file(entry: Dataset, file: AnnotationFile, limit: int | None) -> None:
    """Store one annotation file batch by batch, so that an interrupted reading goes on where it was.

    Where several downloads read the file at the same time, each row is stored by the first that comes to it.

    Raises:
        SourceError: the file cannot be read, or another download begins it anew.
    """

    def stored() -> int:
        row = annotations.annotation_files(engine(), entry.name).get(file.name)
        return row["rows_done"] if row else 0

    # Asked for here and not by the caller: a retry must go on where the failed attempt came to.
    start = stored()
    seen = annotations.annotated_ids(engine(), entry.name)
    version = asdict(file.checksummed())
    logger = get_run_logger()
    for batch in file.read(start):
        end = start + len(batch)
        while (done := stored()) < end:
            if done < start:
                raise SourceError(
                    f"{file.name} has been begun anew by another download: run this one again"
                )
            room = (
                len(batch)
                if limit is None
                else limit - annotations.count_images(engine(), entry.name)
            )
            if room <= 0:
                return
            rows = batch[done - start :][:room]
            part, problems = unique_annotations(rows, seen, file.name)
            masks = keep_masks(entry, part, settings())
            images = [
                {**image_row(entry, a.image), "mask_path": mask}
                for a, mask in zip(part, masks, strict=True)
            ]
            if not writes.add_panoptic(
                engine(), entry.name, images, panoptic_segment_rows(part), file=file.name, origin=file.origin,
                rows_before=done, rows_done=done + len(rows), version=version, findings=finding_rows(problems),
            ):  # fmt: skip
                continue
            seen.update(a.image.coco_id for a in part)
            logger.info("%s: %s annotations", file.name, done + len(rows))
        seen.update(a.image.coco_id for a in batch)
        start = end
    writes.finish_file(engine(), entry.name, file.name, start)


@task(task_run_name="captions {entry.name}", **RETRY)
def read_captions(entry: Dataset, limit: int | None) -> None:
    """Store the captions of a dataset's images, and the images that only captions name."""
    infos, captions, problems = unique_captions(*captioned_images(entry, settings()))
    known = annotations.coco_ids(engine(), entry.name)
    fresh = [info for info in infos if info.coco_id not in known]
    if limit is not None:
        fresh = fresh[: max(0, limit - len(known))]
    rows = [image_row(entry, info) for info in fresh]
    texts = [{"coco_id": c.coco_id, "caption_id": c.id, "text": c.text} for c in captions]
    new = writes.add_captions(engine(), entry.name, rows, texts, finding_rows(problems))
    get_run_logger().info(
        "%s: %s new captions, %s images known by captions alone", entry.name, new, len(rows)
    )


@task(task_run_name="images {entry.name}", **RETRY)
def fetch_images(entry: Dataset, work: Work, progress: Progress) -> None:
    """Fetch images, a claimed shard after the other without a pause between them; rows are stored as it goes."""
    counts = fetch_claimed(
        engine(), entry, work, settings(), on_done=lambda _outcome: progress.advance()
    )
    get_run_logger().info(
        "%s: %s", entry.name, ", ".join(f"{n} {what}" for what, n in sorted(counts.items()) if n)
    )
    for row in downloads.download_failures(engine(), entry.name):
        get_run_logger().warning(
            "%s: %s x %s: %s",
            entry.name,
            row["images"],
            row["error_class"],
            hint(row["error_class"]),
        )


def summary(dataset: str) -> dict[str, int]:
    """Images of a dataset, and how many are downloaded and failed."""
    query = "SELECT images, downloaded, failed FROM dataset_summary WHERE dataset = :dataset"
    return dict(sql(engine(), query, dataset=dataset)[0])
