"""The task that joins an image model's out-of-fold predictions to the labels."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from coconut_attr.attributes import SPLITS
from coconut_attr.labels.label_model import load_label_model
from coconut_attr.model.backbones.names import BackboneError
from coconut_attr.settings import settings
from db.counts import refresh_counts
from db.labels import record_model_probabilities
from db.runs import get_run
from flows.database import engine
from flows.progress import Progress
from flows.samples import load_samples


@task(task_run_name="second pass of {dataset} after run {run_id}", cache_policy=NO_CACHE)
def second_pass(dataset: str, run_id: int) -> int:
    """Predict each image by a model that was trained without it, and label the images again.

    The model is a linear probe on the run's encoder, trained on the labels of the first pass, as
    the run was: folds of the run's own training would take its time once for each fold.

    Returns:
        The number of labels whose state changed.
    """
    from coconut_attr.model.predict import choose_device
    from coconut_attr.training.out_of_fold import MIN_IMAGES, PROBES, out_of_fold

    run = get_run(engine(), run_id)
    if not settings().second_pass or run is None:
        return 0
    logger = get_run_logger()
    parts = [load_samples(dataset, split) for split in SPLITS]
    train, val, test = parts
    if len(train) + len(val) < MIN_IMAGES:
        logger.info(
            "no second pass of the labels: %s images of train and val are fewer than %s",
            len(train) + len(val),
            MIN_IMAGES,
        )
        return 0
    device = choose_device(settings().device)
    folder = settings().data_dir / "features"
    try:
        with Progress(f"{dataset} second pass", PROBES) as progress:
            predictions = out_of_fold(
                run["backbone"], train, val, test, device, folder, progress.reach
            )
    except BackboneError as error:
        logger.warning("no second pass of the labels: %s", error)
        return 0
    image_ids = [image_id for part in parts for image_id in part.image_ids]
    by_image = dict(zip(image_ids, predictions.tolist(), strict=True))
    changed = record_model_probabilities(engine(), run_id, by_image, load_label_model())
    refresh_counts(engine(), dataset)
    logger.info(
        "second pass: %s of %s labels have another state, with what a model predicts that was "
        "trained without the image (source `model` of the view `evidence`)",
        f"{changed:,}",
        f"{predictions.size:,}",
    )
    return changed
