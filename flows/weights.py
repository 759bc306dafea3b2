"""Weights of image encoders, fetched before a dataset is."""

from contextlib import ExitStack

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.model.backbones.names import BackboneError
from coconut_attr.training.config import AUTO
from db.runs import run_of_flow
from flows.database import engine
from flows.progress import Progress

PREFERRED = "resnet50"
INSTALLED = "efficientnet_lite0"  # its weights come with the package


def resolve_backbone(name: str) -> str:
    """Return the backbone to train, with its weights on this machine.

    `auto` is the backbone of the run that this flow run had started before its process died,
    perhaps on another machine; else PREFERRED, or INSTALLED if the weights of that cannot be had.

    Raises:
        BackboneError: the backbone is unknown, or its weights cannot be had.
    """
    if name == AUTO and (own_run := run_of_flow(engine(), flow_run.root_flow_run_id)):
        name = own_run["backbone"]
    if name != AUTO:
        fetch_weights(name)
        return name
    try:
        fetch_weights(PREFERRED)
    except BackboneError as error:
        get_run_logger().warning("training %s, NOT %s: %s", INSTALLED, PREFERRED, error)
        return INSTALLED
    return PREFERRED


def fetch_weights(name: str) -> None:
    """Fetch the weights of a backbone, if they are not on this machine; errors as its `fetch`."""
    with ExitStack() as stack:
        progress: list[Progress] = []

        def on_bytes(done: int, total: int) -> None:
            if not progress:
                bar = Progress(f"{name} weights (MB)", total // 10**6)
                progress.append(stack.enter_context(bar))
            progress[0].reach(done // 10**6)

        get_backbone(name).fetch(on_bytes)
