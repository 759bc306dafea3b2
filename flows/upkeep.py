"""The flow `upkeep`: nightly maintenance of every dataset in the database."""

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger

from coconut_attr.errors import UserError
from db import counts, lease
from db.admin.integrity import database_problems
from flows.automations import recover_runs
from flows.check import check
from flows.database import engine
from flows.download import download


@flow(flow_run_name="upkeep")
def upkeep() -> dict[str, int]:
    """Retry failed downloads, check datasets and the database, and queue dead runs again.

    Returns:
        The number of findings of each dataset.

    Raises:
        UserError: the database is damaged, or a dataset's images could not be fetched or checked.
            It is raised after all datasets were tried.
    """
    lease.fail_abandoned(engine())
    with get_client(sync_client=True) as client:
        for flow_run in recover_runs(client):
            get_run_logger().warning(
                "flow run %s had died and was not queued again; queued now", flow_run
            )
    problems = database_problems(engine())
    findings = {}
    for row in counts.dataset_summaries(engine()):
        if not row["images"]:
            continue
        try:
            download(row["dataset"], retry_failed=True)
            findings[row["dataset"]] = sum(check(row["dataset"]).values())
        except UserError as error:
            problems.append(f"{row['dataset']}: {error}")
    get_run_logger().info("findings: %s", findings)
    if problems:
        raise UserError("; ".join(problems))
    return findings
