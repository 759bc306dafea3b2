"""The flow `extract`: labels, with their evidence, for every image that has none by the present rules."""

from collections import Counter
from typing import Any

from prefect import flow, task
from prefect.logging import get_run_logger

from coconut_attr.attributes import INDEX
from coconut_attr.extract import Extraction, Extractor
from coconut_attr.images import ImageError
from coconut_attr.registry import dataset as registered
from coconut_attr.rules import RulesError, load_rules
from coconut_attr.settings import settings
from coconut_attr.sources.records import Caption
from db import queries
from db import store as writes
from db.counts import refresh_counts
from db.images import images_at_hand
from flows.parameters import DatasetName
from flows.progress import Progress
from flows.retries import RETRY
from flows.shards import over_shards
from flows.store import store


@flow
def extract(dataset: DatasetName = "val5k") -> int:
    """Label the images of a dataset; those that have labels by the present rules are left alone.

    Returns:
        The number of images that were labelled.
    """
    name = registered(dataset).name
    version = load_rules().version
    image_ids = queries.images_to_label(store(), name, version)
    with Progress(f"{dataset} labels", len(image_ids)) as progress:
        labelled = over_shards(label_images, image_ids, progress, dataset=name, version=version)
    refresh_counts(store(), name)
    return labelled


@task(task_run_name="labels from {image_ids[0]}", **RETRY)
def label_images(dataset: str, image_ids: list[int], version: str) -> int:
    """Label one shard of images; returns how many could be. What could not be used becomes findings.

    Raises:
        coconut_attr.rules.RulesError: this process, on another machine, has other rules.
        coconut_attr.image_store.ImageStoreError, UnreachableError: as `images_at_hand`.
    """
    loaded = load_rules()
    if loaded.version != version:
        raise RulesError(
            f"this worker has the rules {loaded.version}, the flow {version}: it needs the same version of the program "
            "and the same COCONUT_ATTR_RULES_FILE"
        )
    extractor = Extractor(loaded.rules)
    labels: dict[int, list[dict[str, Any]]] = {}
    evidence: list[dict[str, Any]] = []
    segments: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    for item in images_at_hand(store(), image_ids):
        key = item.image["id"]
        try:
            found = extract_image(extractor, item)
        except (ImageError, OSError) as error:
            get_run_logger().warning("image %s is not labelled: %s", item.image["coco_id"], error)
            findings.append({"image_id": key, "kind": "image not read", "detail": str(error)})
            continue
        labels[key] = label_rows(key, found)
        evidence += evidence_rows(key, found)
        segments += segment_rows(key, found)
        findings += [{"image_id": key, "kind": p.kind, "detail": p.detail} for p in found.problems]
    changed = writes.record_labels(store(), version, labels, evidence, segments)
    writes.record_findings(store(), dataset, "extract", image_ids, findings)
    if findings:
        kinds = Counter(finding["kind"] for finding in findings)
        causes = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
        get_run_logger().warning("findings (table finding): %s", causes)
    get_run_logger().info("%s images labelled, %s of them anew or otherwise than before", len(labels), changed)
    return len(labels)


def extract_image(extractor: Extractor, item: queries.Annotated) -> Extraction:
    """Evidence and labels of one image whose files are in the data folder; errors as `Extractor.extract`."""
    data_dir, mask = settings().data_dir, item.image["mask_path"]
    captions = [Caption(c["caption_id"], item.image["coco_id"], c["text"]) for c in item.captions]
    return extractor.extract(data_dir / item.image["path"], data_dir / mask if mask else None, item.infos, captions)


def label_rows(key: int, found: Extraction) -> list[dict[str, Any]]:
    """Rows of the table `image_attribute` for the image with this key."""
    return [
        {
            "image_id": key,
            "attribute_id": INDEX[label.attribute],
            "state": label.state,
            "confidence": label.confidence,
            "conflict": label.conflict,
        }
        for label in found.labels
    ]


def evidence_rows(key: int, found: Extraction) -> list[dict[str, Any]]:
    """Rows of the table `attribute_evidence` for the image with this key."""
    return [
        {
            "image_id": key,
            "attribute_id": INDEX[piece.attribute],
            "source": piece.source,
            "state": piece.state,
            "confidence": piece.confidence,
            "detail": piece.detail,
            "segment_id": piece.segment_id,
            "caption_id": piece.caption_id,
        }
        for piece in found.evidence
    ]


def segment_rows(key: int, found: Extraction) -> list[dict[str, Any]]:
    """Rows of the table `segment` for the image with this key; of a segment, what was measured."""
    boxes = ("bbox_x", "bbox_y", "bbox_width", "bbox_height")
    means = ("mean_l", "mean_a", "mean_b")
    colors = found.colors
    return [
        {
            "image_id": key,
            "segment_id": segment.id,
            "area": segment.area,
            **dict(zip(boxes, segment.bbox, strict=True)),
            **dict(zip(means, colors[segment.id].lab if segment.id in colors else (None,) * 3, strict=True)),
            "color": colors[segment.id].name if segment.id in colors else None,
            "rle": segment.rle or None,
        }
        for segment in found.segments
    ]
