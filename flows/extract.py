"""The flow `extract`: labels and evidence for all images that lack labels by the current rules."""

from collections import Counter
from contextlib import suppress
from typing import Any

from prefect import flow, task
from prefect.logging import get_run_logger

from coconut_attr.datasets import get_dataset
from coconut_attr.files.images import ImageError, decode
from coconut_attr.files.near_duplicates import perceptual_hash
from coconut_attr.labels.label_model import labels_version, load_label_model
from coconut_attr.labels.rules import RulesError, load_rules
from coconut_attr.settings import settings
from db import annotations
from db.counts import refresh_counts
from db.duplicates import images_to_hash, record_hashes, unify_splits
from db.judgements import add_gold, truth_states
from db.labels import (
    apply_truth,
    evidence_rows,
    extraction_finding_rows,
    images_to_label,
    label_rows,
    local_images,
    model_probabilities,
    record_labels,
    segment_attribute_rows,
    segment_rows,
)
from db.work.extract import extract_image
from flows.database import engine
from flows.parameters import DatasetName, run_name
from flows.progress import Progress
from flows.retries import RETRY
from flows.shards import over_shards


@flow(flow_run_name=run_name)
def extract(dataset: DatasetName = "val5k") -> int:
    """Label the images of a dataset that have no labels by the current rules.

    Returns:
        The number of images that were labelled.
    """
    name = get_dataset(dataset).name
    model = load_label_model()
    version = labels_version(load_rules(), model)
    if added := add_gold(engine(), name):
        get_run_logger().info("%s judgements of the gold set added", f"{added:,}")
    image_ids = images_to_label(engine(), name, version)
    with Progress(f"{dataset} labels", len(image_ids)) as progress:
        labelled = over_shards(label_images, image_ids, progress, dataset=name, version=version)
    # Images that an older version has labelled.
    if without_hash := images_to_hash(engine(), name):
        with Progress(f"{dataset} hashes", len(without_hash)) as progress:
            over_shards(hash_images, without_hash, progress)
    if moved := unify_splits(engine()):
        get_run_logger().warning("%s copies of photos moved to the split of the other", moved)
    if changed := apply_truth(engine(), truth_states(engine(), name), model):
        get_run_logger().info("%s labels are now what somebody saw in the photo", changed)
    refresh_counts(engine(), name)
    return labelled


@task(task_run_name="hashes from {image_ids[0]}", **RETRY)
def hash_images(image_ids: list[int]) -> int:
    """Store the perceptual hashes of a shard of images that an older version has labelled."""
    hashes = {}
    for item in local_images(engine(), image_ids):
        with suppress(ImageError, OSError):  # the check reports damaged and missing photos
            photo = decode(settings().data_dir / item.image["path"])
            hashes[item.image["id"]] = perceptual_hash(photo)
    record_hashes(engine(), hashes)
    return len(hashes)


@task(task_run_name="labels from {image_ids[0]}", **RETRY)
def label_images(dataset: str, image_ids: list[int], version: str) -> int:
    """Label a shard of images; photos and annotations that cannot be used become findings.

    Returns:
        The number of images that were labelled.

    Raises:
        coconut_attr.labels.rules.RulesError: this process has other rules than the flow.
        coconut_attr.files.object_store.ObjectStoreError, UnreachableError: see `local_images`.
    """
    from coconut_attr.labels.extract import Extractor

    loaded, model = load_rules(), load_label_model()
    if (own := labels_version(loaded, model)) != version:
        raise RulesError(
            f"this worker has the rules and the label model {own}, the flow has {version}: "
            "give it the flow's version of the program, its COCONUT_ATTR_RULES_FILE and its "
            "COCONUT_ATTR_LABEL_MODEL_FILE"
        )
    extractor = Extractor(loaded.rules)
    labels: dict[int, list[dict[str, Any]]] = {}
    evidence: list[dict[str, Any]] = []
    segments: list[dict[str, Any]] = []
    segment_attributes: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    hashes: dict[int, str] = {}
    predictions = model_probabilities(engine(), image_ids)
    for item in local_images(engine(), image_ids):
        image_id = item.image["id"]
        try:
            extraction = extract_image(extractor, item)
        except (ImageError, OSError) as error:
            get_run_logger().warning("image %s is not labelled: %s", item.image["coco_id"], error)
            findings.append({"image_id": image_id, "kind": "image not read", "detail": str(error)})
            continue
        labels[image_id] = label_rows(image_id, extraction, model, predictions.get(image_id))
        evidence += evidence_rows(image_id, extraction)
        segments += segment_rows(image_id, extraction)
        segment_attributes += segment_attribute_rows(image_id, extraction)
        findings += extraction_finding_rows(image_id, extraction)
        hashes[image_id] = extraction.perceptual_hash
    record_hashes(engine(), hashes)
    changed = record_labels(engine(), version, labels, evidence, segments, segment_attributes)
    annotations.record_findings(engine(), dataset, "extract", image_ids, findings)
    if findings:
        kinds = Counter(finding["kind"] for finding in findings)
        counts = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
        get_run_logger().warning("findings (table finding): %s", counts)
    get_run_logger().info(
        "%s images labelled, %s of them for the first time or with a change", len(labels), changed
    )
    return len(labels)
