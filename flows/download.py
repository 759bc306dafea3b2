"""The flow `download`: annotations first, then the images that they name."""

from collections.abc import Mapping
from dataclasses import asdict

from prefect import flow, task
from prefect.logging import get_run_logger
from sqlalchemy import RowMapping

from coconut_attr.annotations import objects365
from coconut_attr.annotations.coco_file import CocoImages
from coconut_attr.annotations.duplicates import unique_annotations, unique_captions
from coconut_attr.annotations.files import (
    AnnotationFile,
    annotation_files,
    captioned_images,
    coco_images,
    store_masks,
)
from coconut_attr.annotations.identity import resolve
from coconut_attr.annotations.records import OddRow, Panoptic
from coconut_attr.annotations.version import Version
from coconut_attr.datasets import TRAIN2017, Dataset, get_dataset
from coconut_attr.download.failures import hint
from coconut_attr.download.fetcher import require_image_hosts
from coconut_attr.download.queue import mode_of
from coconut_attr.errors import SourceError
from coconut_attr.settings import settings
from db import annotations, downloads
from db import annotations as writes
from db.annotations import finding_rows, image_row, panoptic_segment_rows
from db.counts import refresh_counts
from db.downloads import Work, fetch_claimed, pending, plan, upload_masks
from db.sql import sql
from flows.database import engine
from flows.pancap import read_pancap
from flows.parameters import DatasetName, Positive, run_name
from flows.progress import Progress
from flows.retries import RETRY


@flow(flow_run_name=run_name)
def download(
    dataset: DatasetName = "val5k",
    limit: Positive | None = None,
    retry_failed: bool = False,
    verify: bool = False,
    refresh: bool = False,
) -> dict[str, int]:
    """Fetch a dataset's annotations, captions and images; intact files are not fetched again.

    Images with a transient failure are tried again. Several runs, on one machine or many, share the
    work if they share the database and either the data folder or an object store.

    Args:
        limit: stop at this many images (None: all).
        retry_failed: try only the images that failed before, whatever the cause.
        verify: only re-read every file, compare it with its SHA-256 and with upstream, and fetch
            what differs.
        refresh: re-read complete annotation files that upstream has changed.

    Returns:
        How many images the dataset has, and how many of them are `downloaded` and `failed`.
    """
    entry = get_dataset(dataset)
    mode = mode_of(retry_failed=retry_failed, verify=verify)
    if entry.has_objects365 and not settings().objects365_dir:
        get_run_logger().warning("%s: %s", dataset, objects365.HOW)
    if mode == "new":
        require_image_hosts(entry, settings())
        coco = read_coco_files(entry)
        read_annotations(entry, coco, limit, refresh)
        read_captions(entry, coco, limit)
        if settings().pancap and TRAIN2017 in entry.coco_files:
            read_pancap(entry, refresh)
        refresh_counts(engine(), dataset)
        if uploaded := upload_masks(engine(), entry, settings()):
            get_run_logger().info("%s: %s masks uploaded to the object store", dataset, uploaded)

    work = plan(engine(), dataset, settings(), mode, limit)
    with Progress(f"{dataset} images", pending(engine(), work)) as progress:
        fetch_images(entry, work, progress)
    refresh_counts(engine(), dataset)
    return summary(dataset)


@task(task_run_name="COCO's files {entry.name}", **RETRY)
def read_coco_files(entry: Dataset) -> CocoImages:
    """Return the images that COCO's own files list: their names, sizes, licences and URLs."""
    return coco_images(entry, settings())


def read_annotations(entry: Dataset, coco: CocoImages, limit: int | None, refresh: bool) -> None:
    """Read the annotation files that are not complete, up to a number of images."""
    known = annotations.annotation_files(engine(), entry.name)
    try:
        files = annotation_files(entry, settings())
    except SourceError as error:
        if not known or not all(row["complete"] for row in known.values()):
            raise
        get_run_logger().warning(
            "%s; all annotation files that were listed before are complete: using them", error
        )
        return
    note_changes(entry, files, known, refresh)
    known = annotations.annotation_files(engine(), entry.name)
    for file in files:
        if file.name in known and known[file.name]["complete"]:
            continue
        if limit is not None and annotations.count_images(engine(), entry.name) >= limit:
            break
        read_annotation_file(entry, coco, file, limit)


def note_changes(
    entry: Dataset, files: list[AnnotationFile], known: Mapping[str, RowMapping], refresh: bool
) -> None:
    """Compare annotation files with the versions that were read.

    A changed file that was read in part is re-read from its start. A complete one is only
    reported, because labels and runs rest on it; `refresh` re-reads it.

    Args:
        known: rows of `annotation_file` by name: what was read.
    """
    listed = {file.name: file for file in files}
    findings = []
    for name, row in known.items():
        before = Version(row["size"] or 0, row["sha256"] or "", row["etag"] or "")
        is_former = any(name.startswith(f"{repo}/") for repo in entry.former_repos)
        if is_former and row["complete"]:
            continue
        if name not in listed:
            kind = "annotation file gone"
        elif listed[name].changed(before, row["origin"]):
            kind = "annotation file changed"
        else:
            continue
        if refresh or not row["complete"]:
            rows = f"{row['rows_done']} rows of it were read"
            get_run_logger().warning("%s: %s; %s, reading it from its start", kind, name, rows)
            writes.forget_file(engine(), entry.name, name)
        else:
            get_run_logger().warning(
                "%s: %s; what was read is used (download --refresh re-reads it)", kind, name
            )
            findings.append({"image_id": None, "kind": kind, "detail": name})
    kinds = ("annotation file gone", "annotation file changed")
    writes.record_findings(engine(), entry.name, "annotations", None, findings, kinds)


@task(task_run_name="annotations {file.name}", **RETRY)
def read_annotation_file(
    entry: Dataset, coco: CocoImages, file: AnnotationFile, limit: int | None
) -> None:
    """Store one annotation file batch by batch; an interrupted reading resumes where it was.

    If several downloads read the file at the same time, the first that reaches a row stores it.

    Raises:
        SourceError: the file cannot be read, or another download re-reads it from its start.
    """

    def stored() -> int:
        row = annotations.annotation_files(engine(), entry.name).get(file.name)
        return row["rows_done"] if row else 0

    start = stored()  # read here, not by the caller: a retry resumes where the attempt had failed
    superseded = annotations.superseded_ids(engine(), entry)
    annotated = annotations.annotated_ids(engine(), entry.name)
    version = asdict(file.checksummed())
    logger = get_run_logger()
    for unresolved in file.read(start):
        batch = [resolve(row, coco, entry) for row in unresolved]
        end = start + len(batch)
        while (done := stored()) < end:
            if done < start:
                raise SourceError(
                    f"another download re-reads {file.name} from its start: run this one again"
                )
            room = (
                len(batch)
                if limit is None
                else limit - annotations.count_images(engine(), entry.name)
            )
            if room <= 0:
                return
            rows = batch[done - start :][:room]
            usable = [row for row in rows if isinstance(row, Panoptic)]
            odd = [row.finding for row in rows if isinstance(row, OddRow)]
            part, findings = unique_annotations(usable, annotated, superseded, file.name)
            masks = store_masks(entry, part, settings())
            images = [
                {**image_row(entry, a.image), "mask_path": mask}
                for a, mask in zip(part, masks, strict=True)
                if a.image
            ]
            if not writes.add_panoptic(
                engine(),
                entry.name,
                images,
                panoptic_segment_rows(part),
                file=file.name,
                origin=file.origin,
                rows_before=done,
                rows_done=done + len(rows),
                version=version,
                findings=finding_rows(findings, odd),
            ):
                continue
            annotated.update(a.image_id for a in part)
            for finding in odd:
                logger.warning("%s: %s", finding.kind, finding.detail)
            logger.info("%s: %s annotations", file.name, done + len(rows))
        annotated.update(row.image_id for row in batch if isinstance(row, Panoptic))
        start = end
    writes.finish_file(engine(), entry.name, file.name, start)


@task(task_run_name="captions {entry.name}", **RETRY)
def read_captions(entry: Dataset, coco: CocoImages, limit: int | None) -> None:
    """Store the captions of a dataset's images, and the images that only captions name.

    Images that are stored already get the licence, URL, name and size of COCO's own files, which
    earlier versions took from the annotations.
    """
    if mended := writes.mend_images(engine(), entry.name, coco.by_id.values()):
        get_run_logger().info("%s: %s images described as in COCO's files", entry.name, mended)
    content = captioned_images(entry, settings())
    infos, captions, findings = unique_captions(content.images, content.captions)
    known = annotations.coco_ids(engine(), entry.name)
    fresh = [info for info in infos if info.coco_id not in known]
    if limit is not None:
        fresh = fresh[: max(0, limit - len(known))]
    rows = [image_row(entry, info) for info in fresh]
    texts = [{"coco_id": c.coco_id, "caption_id": c.id, "text": c.text} for c in captions]
    new = writes.add_captions(
        engine(), entry.name, rows, texts, finding_rows(findings, content.findings)
    )
    get_run_logger().info(
        "%s: %s new captions, %s images known by captions alone", entry.name, new, len(rows)
    )


@task(task_run_name="images {entry.name}", **RETRY)
def fetch_images(entry: Dataset, work: Work, progress: Progress) -> None:
    """Fetch the images shard by claimed shard, and record each outcome."""
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
    """Return how many images a dataset has, and how many are downloaded and failed."""
    query = "SELECT images, downloaded, failed FROM dataset_summary WHERE dataset = :dataset"
    return dict(sql(engine(), query, dataset=dataset)[0])
