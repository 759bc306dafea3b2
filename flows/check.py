"""The flow `check`: do a dataset's photos, masks, annotations and counts fit together?"""

from collections import Counter

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from coconut_attr.datasets import Dataset, get_dataset
from db import annotations
from db.work import check as checks
from flows.database import engine
from flows.parameters import DatasetName, run_name
from flows.progress import Progress
from flows.retries import RETRY
from flows.shards import over_shards


@flow(flow_run_name=run_name)
def check(dataset: DatasetName = "val5k") -> dict[str, int]:
    """Check a dataset and replace its rows of the table `finding`.

    Returns:
        How many findings there are of each kind.
    """
    entry = get_dataset(dataset)
    image_ids = annotations.image_ids(engine(), dataset)
    with Progress(f"{dataset} check", len(image_ids)) as progress:
        over_shards(check_images, image_ids, progress, entry=entry)
    checks.check_whole(engine(), entry)
    report = checks.check_report(engine(), dataset)
    for row in report:
        get_run_logger().warning("%s x %s, e.g. %s", row["findings"], row["kind"], row["example"])
    create_table_artifact(
        report, key=f"check-{dataset}", description=f"What does not fit together in {dataset}"
    )
    kinds: Counter[str] = Counter()
    for row in report:
        kinds[row["kind"]] += row["findings"]
    return dict(kinds)


@task(task_run_name="check from {image_ids[0]}", **RETRY)
def check_images(entry: Dataset, image_ids: list[int]) -> int:
    """Check one shard of images and return how many findings there are."""
    return checks.check_images(engine(), entry, image_ids)
