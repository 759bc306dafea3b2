"""Downloads shared by several workers: images are claimed in the database, fetched, and recorded.

A claim is a lease: the images of a dead worker are free again when the lease has run out, or, on
the same machine, when the next worker starts.
"""

import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Engine, Select, delete, func, or_, select, text, update

from coconut_attr.datasets import Dataset
from coconut_attr.download.download import download
from coconut_attr.download.queue import Mode, Outcome, Wanted
from coconut_attr.errors import UserError
from coconut_attr.files.atomic import clear_leftovers, sync_folders
from coconut_attr.files.object_store import object_store
from coconut_attr.settings import Settings
from db.annotations import forget_predictions, mask_paths, set_rule_version
from db.bulk import BATCH, Row, clock, table_of, update_rows, upsert
from db.models import Download, DownloadClaim, Image, now
from db.periodic import every
from db.sql import Rows, persistent, sql

FLUSH_SECONDS = 2.0
MISSING = -1  # length of a file that does not exist
_CLAIM_LOCK = 0x636C61696D  # of PostgreSQL: workers claim one after the other


@dataclass(frozen=True)
class Work:
    """The images of a dataset to fetch: those of a mode whose last attempt was before `since`.

    Attributes:
        last_id: id of the last image to fetch; None: no limit.
    """

    dataset: str
    mode: Mode
    since: datetime
    last_id: int | None = None


@persistent
def plan(
    engine: Engine, dataset: str, settings: Settings, mode: Mode = "new", limit: int | None = None
) -> Work:
    """Return the work that is due now; an image whose file is lost or has changed length is new.

    With an object store, the files are those in it.

    Args:
        limit: cover only the first images of the dataset, this many.

    Raises:
        UserError: the data folder has none of the files.
        ObjectStoreError, UnreachableError: as `ObjectStore`.
    """
    if mode == "new":
        _forget_lost_files(engine, dataset, settings)
    query = (
        select(Image.id)
        .where(Image.dataset == dataset)
        .order_by(Image.id)
        .offset((limit or 1) - 1)
        .limit(1)
    )
    with engine.connect() as connection:
        return Work(
            dataset, mode, clock(connection), connection.execute(query).scalar() if limit else None
        )


@persistent
def pending(engine: Engine, work: Work) -> int:
    """Return how many images are still to be fetched, by whichever worker."""
    with engine.connect() as connection:
        return connection.execute(
            select(func.count()).select_from(_pending(work).subquery())
        ).scalar_one()


def _pending(work: Work) -> Select:
    states = {
        "new": or_(
            Download.state.is_(None), (Download.state == "failed") & Download.permanent.is_not(True)
        ),
        "failed": Download.state == "failed",
        "verify": Download.state == "done",
    }
    query = select(
        Image.id, Image.url, Image.width, Image.height, Image.sha256, Download.etag
    ).outerjoin(Download)
    earlier = or_(Download.updated_at.is_(None), Download.updated_at < work.since)
    query = query.where(Image.dataset == work.dataset, states[work.mode], earlier)
    return query if work.last_id is None else query.where(Image.id <= work.last_id)


@persistent
def claim(
    engine: Engine, work: Work, worker: str, images: int, lease: float, after: int = 0
) -> Rows:
    """Claim for `lease` seconds the first pending images, by id after `after`, that no other holds.

    A worker sees its own claims again only if the reply to an earlier claim was lost.

    Workers claim one after the other (SQLite has one writer, PostgreSQL a lock), and each sees what
    those before it claimed and recorded: no image is claimed twice.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CLAIM_LOCK})
        time_now = clock(connection)
        free = or_(DownloadClaim.expires_at < time_now, DownloadClaim.worker == worker)
        query = (
            _pending(work)
            .outerjoin(DownloadClaim, DownloadClaim.image_id == Image.id)
            .where(Image.id > after, or_(DownloadClaim.image_id.is_(None), free))
            .order_by(Image.id)
            .limit(images)
        )
        rows = connection.execute(query).mappings().all()
        until = time_now + timedelta(seconds=lease)
        claims = [{"image_id": row["id"], "worker": worker, "expires_at": until} for row in rows]
        upsert(connection, DownloadClaim, claims)
    return rows


@persistent
def renew(engine: Engine, worker: str, lease: float) -> None:
    """Extend the leases of a worker to `lease` seconds from now."""
    with engine.begin() as connection:
        until = clock(connection) + timedelta(seconds=lease)
        connection.execute(
            update(DownloadClaim).where(DownloadClaim.worker == worker).values(expires_at=until)
        )


@persistent
def release(engine: Engine, worker: str) -> None:
    """Release all claims of a worker."""
    with engine.begin() as connection:
        connection.execute(delete(DownloadClaim).where(DownloadClaim.worker == worker))


def worker_name() -> str:
    """Return a new, unique name for a worker of this process."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


@persistent
def release_dead(engine: Engine) -> None:
    """Release the claims of this machine's workers whose processes have ended."""
    with engine.connect() as connection:
        workers = connection.execute(select(DownloadClaim.worker).distinct()).scalars().all()
    for worker in workers:
        host, process, _ = worker.split("/")
        if host == socket.gethostname() and not _runs(int(process)):
            release(engine, worker)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        return True
    return True


def _forget_lost_files(engine: Engine, dataset: str, settings: Settings) -> None:
    query = select(Image.id, Image.path, Image.bytes).where(
        Image.dataset == dataset, Image.path.is_not(None)
    )
    with engine.connect() as connection:
        rows = connection.execute(query).tuples().all()
    if store := object_store(settings):
        sizes = store.sizes_of(cast(str, path) for _, path, _ in rows)
        lost = [image_id for image_id, path, size in rows if sizes.get(cast(str, path)) != size]
    else:
        lengths = {
            image_id: _length(settings.data_dir / cast(str, path)) for image_id, path, _ in rows
        }
        if rows and set(lengths.values()) == {MISSING}:
            raise UserError(
                f"none of the {len(rows):,} photos of {dataset} that the database lists as"
                f" downloaded is in {settings.data_dir}: is it a shared folder that is not mounted,"
                " or another COCONUT_ATTR_DATA_DIR? To fetch them again:"
                f" coconut-attr download {dataset} --verify"
            )
        lost = [image_id for image_id, _, size in rows if lengths[image_id] != size]
    forget_downloads(engine, lost)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return MISSING


def upload_masks(engine: Engine, dataset: Dataset, settings: Settings) -> int:
    """Upload the masks of the data folder that the object store lacks, as a new one does.

    Photos are uploaded when they are fetched.

    Returns:
        How many masks were uploaded.

    Raises:
        ObjectStoreError, UnreachableError: as `ObjectStore`.
    """
    store = object_store(settings)
    if store is None:
        return 0
    missing = set(mask_paths(engine, dataset.name)) - store.sizes(dataset.mask_folder).keys()
    local = [path for path in missing if (settings.data_dir / path).is_file()]
    list(store.map(lambda path: store.write(path, (settings.data_dir / path).read_bytes()), local))
    return len(local)


def fetch_claimed(
    engine: Engine,
    dataset: Dataset,
    work: Work,
    settings: Settings,
    on_done: Callable[[Outcome], None] | None = None,
) -> Counter[str]:
    """Fetch a dataset's images as one of its workers, until every image has been fetched.

    At the end it waits for images that other workers hold: they record them, or their leases run
    out and this worker takes over.

    Args:
        on_done: called with the outcome of each image.

    Returns:
        How many images this worker `fetched`, `kept` (their files were already there and intact;
        `uploaded` of these were missing in the object store) and `failed`, and how many of the
        files `replaced` other ones.

    Raises:
        ObjectStoreError, UnreachableError: as `ObjectStore`; earlier outcomes are recorded.
    """
    clear_leftovers(settings.data_dir)
    release_dead(engine)
    worker = worker_name()
    counts: Counter[str] = Counter()
    try:
        with every(settings.lease / 3, lambda: renew(engine, worker, settings.lease), "leases"):
            while True:
                _fetch_all(engine, dataset, work, settings, worker, counts, on_done)
                if not pending(engine, work):
                    return counts
                time.sleep(min(5.0, settings.lease / 4))
    finally:
        release(engine, worker)


def _fetch_all(
    engine: Engine,
    dataset: Dataset,
    work: Work,
    settings: Settings,
    worker: str,
    counts: Counter[str],
    on_done: Callable[[Outcome], None] | None,
) -> None:
    """Fetch all images that can be claimed; a second thread stores rows while images arrive."""
    rows: list[dict[str, Any]] = []
    stored: Future[int] | None = None
    flushed = time.monotonic()
    with ThreadPoolExecutor(1, thread_name_prefix="rows") as recorder:
        try:
            for outcome in download(
                _claimed(engine, work, settings, worker), dataset, settings, work.mode
            ):
                rows.append(_row(outcome))
                counts["kept" if outcome.kept else "fetched" if outcome.ok else "failed"] += 1
                counts["uploaded"] += outcome.uploaded
                if on_done:
                    on_done(outcome)
                if len(rows) >= settings.shard_size or time.monotonic() - flushed > FLUSH_SECONDS:
                    counts["replaced"] += stored.result() if stored else 0
                    stored = recorder.submit(_record, engine, rows, settings.data_dir)
                    rows, flushed = [], time.monotonic()
        finally:
            counts["replaced"] += stored.result() if stored else 0
            counts["replaced"] += _record(engine, rows, settings.data_dir)


def _record(engine: Engine, rows: Sequence[dict[str, Any]], data_dir: Path) -> int:
    sync_folders((data_dir / row["path"]).parent for row in rows if row["path"])
    return record_downloads(engine, rows)


def _claimed(engine: Engine, work: Work, settings: Settings, worker: str) -> Iterator[Wanted]:
    """Yield wanted images, claimed a shard at a time."""
    after = 0
    while True:
        rows = claim(engine, work, worker, settings.shard_size, settings.lease, after)
        if not rows:
            return
        after = rows[-1]["id"]
        for row in rows:
            yield Wanted(
                row["id"],
                row["url"],
                row["width"],
                row["height"],
                row["sha256"] or "",
                row["etag"] or "",
            )


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        "image_id": outcome.image_id,
        "state": "done" if outcome.ok else "failed",
        "attempts": outcome.attempts,
        "seconds": outcome.seconds,
        "error_class": outcome.error_class or None,
        "error": outcome.error or None,
        "permanent": outcome.permanent if outcome.error_class else None,
        "path": outcome.path or None,
        "sha256": outcome.sha256 or None,
        "bytes": outcome.bytes or None,
        "url": outcome.url,
        "etag": outcome.etag or None,
        "verified_at": now() if outcome.decoded else None,
    }


def download_failures(engine: Engine, dataset: str) -> Rows:
    """Return the images that failed by cause, with an example; `permanent` are not tried again."""
    return sql(
        engine,
        "SELECT w.error_class, COUNT(*) AS images, MAX(w.attempts) AS attempts,"
        " MIN(w.error) AS example, SUM(CASE WHEN w.permanent THEN 1 ELSE 0 END) AS permanent"
        " FROM download w JOIN image i ON i.id = w.image_id"
        " WHERE i.dataset = :dataset AND w.state = 'failed'"
        " GROUP BY w.error_class ORDER BY images DESC, w.error_class",
        dataset=dataset,
    )


_FILE = ("path", "sha256", "bytes")  # columns of an image that describe its file


@persistent
def record_downloads(engine: Engine, outcomes: Sequence[Row]) -> int:
    """Store the outcomes of downloads, release their claims, and count the files replaced.

    An image whose file has changed will be labelled again. A failed image has no file.

    Args:
        outcomes: columns of `download`, and for state "done" also `path` and `sha256`. `attempts`,
            `seconds`, `error_class` and `error` are required, the other columns optional.

    Returns:
        How many files replaced another one.
    """
    optional = ("permanent", "url", "etag", "bytes", "verified_at")
    columns = ("image_id", "state", "attempts", "seconds", "error_class", "error")
    rows = [
        {**{c: row[c] for c in columns}, **{c: row.get(c) for c in optional}} for row in outcomes
    ]
    files = [
        {"id": row["image_id"], **{c: row[c] for c in _FILE}}
        for row in outcomes
        if row["state"] == "done"
    ]
    moved = [  # COCO's other folder had the photo: its URL is the one that served it
        {"id": row["image_id"], "url": row["url"]}
        for row in outcomes
        if row["state"] == "done" and row.get("url")
    ]
    lost = [
        {"id": row["image_id"], "path": None, "bytes": None}
        for row in outcomes
        if row["state"] != "done"
    ]
    image_ids = [row["image_id"] for row in outcomes]
    with engine.begin() as connection:
        time_now = clock(connection)
        upsert(connection, Download, [{**row, "updated_at": time_now} for row in rows])
        before: dict[int, str | None] = {}
        for start in range(0, len(image_ids), BATCH):
            batch = image_ids[start : start + BATCH]
            query = select(Image.id, Image.sha256).where(
                Image.id.in_(batch), Image.sha256.is_not(None)
            )
            before.update(connection.execute(query).tuples().all())
            connection.execute(delete(DownloadClaim).where(DownloadClaim.image_id.in_(batch)))
        replaced = [
            row["id"] for row in files if before.get(row["id"], row["sha256"]) != row["sha256"]
        ]
        set_rule_version(connection, replaced, None)
        forget_predictions(connection, replaced)
        update_rows(connection, table_of(Image), files)
        update_rows(connection, table_of(Image), moved)
        update_rows(connection, table_of(Image), lost)
    return len(replaced)


@persistent
def forget_downloads(engine: Engine, image_ids: Sequence[int]) -> None:
    """Mark images as not downloaded, because their files are lost."""
    with engine.begin() as connection:
        for start in range(0, len(image_ids), BATCH):
            batch = image_ids[start : start + BATCH]
            connection.execute(delete(Download).where(Download.image_id.in_(batch)))
            connection.execute(
                update(Image).where(Image.id.in_(batch)).values(path=None, bytes=None)
            )
