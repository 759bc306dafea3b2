"""The task that reads COCONut-PanCap texts, a part of the flow `download`."""

from itertools import islice

from prefect import task
from prefect.logging import get_run_logger

from coconut_attr.annotations.pancap import read_texts
from coconut_attr.datasets import Dataset
from coconut_attr.findings import Finding
from coconut_attr.settings import settings
from db.annotations import add_pancap_texts, record_findings
from flows.database import engine
from flows.retries import RETRY

BATCH = 5000  # texts


@task(task_run_name="pancap {dataset.name}", **RETRY)
def read_pancap(dataset: Dataset, refresh: bool) -> None:
    """Store the COCONut-PanCap texts of a dataset's images.

    Args:
        refresh: fetch the files of the hub again.

    Raises:
        SourceError: see `read_texts`.
    """
    texts = changed = 0
    findings: list[dict[str, str | None]] = []
    items = read_texts(settings(), refresh=refresh)
    while batch := list(islice(items, BATCH)):
        rows = []
        for item in batch:
            if isinstance(item, Finding):
                findings.append({"image_id": None, "kind": item.kind, "detail": item.detail})
            else:
                rows.append({"coco_id": item.coco_id, "text": item.text})
        texts += len(rows)
        changed += add_pancap_texts(engine(), dataset.name, rows)
    record_findings(engine(), dataset.name, "pancap", None, findings)
    get_run_logger().info(
        "%s: %s PanCap texts read, %s of them new or changed, %s findings",
        dataset.name,
        texts,
        changed,
        len(findings),
    )
