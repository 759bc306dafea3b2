"""All deployments: FLOW/DATASET for each flow and each dataset of the registry, and upkeep/nightly.

`python -m flows.deployments` registers them with the Prefect server of PREFECT_API_URL; `make up`
and `make run` do so too.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from coconut_attr.datasets import DATASETS
from flows import automations
from flows.check import check
from flows.download import download
from flows.evaluate import evaluate
from flows.extract import extract
from flows.local import dashboard_url, own_folder
from flows.pipeline import pipeline
from flows.train import train
from flows.upkeep import upkeep

#: Concurrent runs of each work pool. The worker of `gpu` uses the GPU if there is one.
POOLS: Final = {"cpu": 2, "gpu": 1}
POOL_OF: Final = {
    "download": "cpu",
    "check": "cpu",
    "extract": "cpu",
    "upkeep": "cpu",
    "train": "gpu",
    "evaluate": "gpu",
    "pipeline": "gpu",
}
NIGHTLY: Final = "17 3 * * *"  # UTC


def register() -> list[str]:
    """Create work pools, deployments and automations, or update them; return FLOW/NAME of each."""
    with get_client(sync_client=True) as client:
        # Without a template, the first worker writes it, and SQLite makes the other ones wait.
        template = ProcessWorker.get_default_base_job_template()
        for pool, limit in POOLS.items():
            with suppress(ObjectAlreadyExists):
                client.create_work_pool(
                    WorkPoolCreate(
                        name=pool,
                        type="process",
                        concurrency_limit=limit,
                        base_job_template=template,
                    )
                )
        names = []
        for flow in (download, check, extract, train, evaluate, pipeline):
            options = {dataset: {"parameters": {"dataset": dataset}} for dataset in DATASETS}
            names += deploy(client, flow, options)
        nightly = DeploymentScheduleCreate(
            schedule=CronSchedule(cron=NIGHTLY, timezone="UTC"), active=True
        )
        # A server that was away for several nights would start as many runs when it is back.
        single = ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
        once = {"schedules": [nightly], "concurrency_limit": 1, "concurrency_options": single}
        names += deploy(client, upkeep, {"nightly": once})
        automations.register(client)
    return names


def deploy(
    client: SyncPrefectClient, flow: Flow, options: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Create or update a flow's deployments from options by name; return FLOW/NAME of each."""
    flow_id = client.create_flow(flow)
    for name, own in options.items():
        client.create_deployment(
            flow_id=flow_id,
            name=name,
            version=flow.version,
            description=f"{flow.description}\n\nResults: [dashboard]({dashboard_url()})",
            work_pool_name=POOL_OF[flow.name],
            entrypoint=f"flows/{flow.name}.py:{flow.name}",
            pull_steps=[{f"{own_folder.__module__}.{own_folder.__name__}": {}}],
            parameter_openapi_schema={
                **parameter_schema(flow).model_dump_for_openapi(),
                "additionalProperties": False,
            },
            enforce_parameter_schema=True,
            tags=[automations.TAG],
            # In the process's environment: a worker in another folder does not read prefect.toml.
            job_variables={
                "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(automations.HEARTBEAT_SECONDS)}
            },
            **own,
        )
    return [f"{flow.name}/{name}" for name in options]


if __name__ == "__main__":
    print("\n".join(register()))
