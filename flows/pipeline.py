"""The flow `pipeline`: the main job, from an empty machine to a scored model."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from coconut_attr.training.config import profile as named_profile
from flows.download import download
from flows.extract import extract
from flows.parameters import BackboneName, DatasetName, Positive, ProfileName, Seed, run_name
from flows.summary import markdown
from flows.train import train
from flows.weights import resolve_backbone


@flow(flow_run_name=run_name)
def pipeline(
    dataset: DatasetName = "val5k",
    limit: Positive | None = None,
    profile: ProfileName = "default",
    backbone: BackboneName | None = None,
    epochs: Positive | None = None,
    seed: Seed | None = None,
    reuse: bool = False,
) -> int:
    """Fetch annotations and images, label, train and evaluate; return the run's id.

    Args:
        limit: use this many images (None: all).
        profile, backbone, epochs, seed, reuse: as for `train`.
    """
    config = named_profile(profile, backbone=backbone)
    backbone = resolve_backbone(config.backbone)  # before any data is fetched
    download(dataset, limit=limit)
    extract(dataset)
    run_id = train(
        dataset,
        profile=profile,
        backbone=backbone,
        epochs=epochs,
        seed=seed,
        prepare=False,
        reuse=reuse,
    )
    create_markdown_artifact(
        markdown(dataset, run_id),
        key=f"summary-{dataset}",
        description="Scores, epochs and sources of the run",
    )
    return run_id
