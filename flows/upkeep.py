"""The flow `upkeep`: what is worth doing every night, for each dataset that is there."""

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger

from coconut_attr.errors import UserError
from db import counts, runs
from db.admin.integrity import database_problems
from flows.automations import see_to_forgotten
from flows.check import check
from flows.database import engine
from flows.download import download


@flow
def upkeep() -> dict[str, int]:
    """Try failed downloads again, check datasets and the store's integrity, and see to runs that have died.

    Returns:
        How many findings each dataset has.

    Raises:
        UserError: the store is damaged, or a dataset could not be seen to; the others were.
    """
    runs.end_silent(engine())
    with get_client(sync_client=True) as client:
        for flow_run in see_to_forgotten(client):
            get_run_logger().warning(
                "flow run %s had died and was not queued again: it is now", flow_run
            )
    faults = database_problems(engine())
    found = {}
    for row in counts.dataset_summaries(engine()):
        if not row["images"]:
            continue
        try:
            download(row["dataset"], retry_failed=True)
            found[row["dataset"]] = sum(check(row["dataset"]).values())
        except UserError as error:
            faults.append(f"{row['dataset']}: {error}")
    get_run_logger().info("findings: %s", found)
    if faults:
        raise UserError("; ".join(faults))
    return found
