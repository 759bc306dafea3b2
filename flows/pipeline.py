"""The flow `pipeline`: the main job, from an empty machine to a scored model."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.download import download
from flows.extract import extract
from flows.parameters import BackboneName, DatasetName, Positive, ProfileName, Seed
from flows.summary import markdown
from flows.train import train


@flow
def pipeline(
    dataset: DatasetName = "val5k",
    limit: Positive | None = None,
    profile: ProfileName = "default",
    backbone: BackboneName | None = None,
    epochs: Positive | None = None,
    seed: Seed | None = None,
    reuse: bool = False,
) -> int:
    """Annotations, images, labels, training and evaluation; returns the run's id.

    Args:
        limit: use this many images (None: all).
        profile, backbone, epochs, seed, reuse: as `train` takes them.
    """
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
        markdown(dataset, run_id), key=f"summary-{dataset}", description="What the run came to"
    )
    return run_id
