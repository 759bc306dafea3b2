"""Made-up rows of a database: UNIT-TEST INPUT, which shows only that pages show what is stored."""

from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from coconut_attr.attributes import ATTRIBUTES, GROUP_OF, OURS
from coconut_attr.judgements.gold import load_gold
from coconut_attr.model.checkpoint import FILE_NAME, save_checkpoint
from coconut_attr.model.network import AttributeModel
from db import annotations, bulk, downloads, reference, runs, sql
from db.counts import refresh_counts
from db.judgements import add_judgements, truth_of_part
from db.labels import record_labels
from db.models import Segment
from tests.support import tiny_mirror as tiny
from tests.support.rows import NO_ESTIMATE
from tests.support.runs import change_run, lease_of, start_run

LICENCE = "unit-test input"
GOLD = (724, 776)  # in the gold set; both of its readings say "absent" of person in both
UNLABELLED = 872  # in the gold set, too
DATASETS = (
    ("val5k", "unit-test rows", True, 5_000),
    ("sample", "unit-test stand-in", False, None),
    ("gold", "unit-test gold images", True, None),
)


def fill_reference(engine: Engine) -> None:
    """Store three datasets, the attributes and one category."""
    reference.sync_reference(
        engine,
        datasets=[
            {
                "name": name,
                "title": title,
                "is_coconut": real,
                "licence": LICENCE,
                "expected_images": expected,
                "expected_segments": None,
            }
            for name, title, real, expected in DATASETS
        ],
        attributes=[
            {"id": k, "name": name, "group_name": GROUP_OF[name], "ours": name in OURS}
            for k, name in enumerate(ATTRIBUTES)
        ],
        categories=[{"id": 1, "name": "person", "isthing": True}],
    )


def fill_images(engine: Engine, dataset: str, count: int = 20) -> None:
    """Store images 0 to `count` - 1 with labels.

    Every fifth image is in val, every third of the others in test. The last one failed to download.
    Attribute k is present in image i where k + 2 divides i; every third attribute of an odd image
    is unknown.
    """
    splits = ["val" if i % 5 == 0 else "test" if i % 3 == 1 else "train" for i in range(count)]
    ids = _add_images(engine, dataset, dict(enumerate(splits)), masks=True)
    failed = {
        "image_id": ids[-1],
        "state": "failed",
        "attempts": 5,
        "seconds": 9.0,
        "error_class": "timeout",
        "error": "unit-test failure",
    }
    done = [_downloaded(key, f"{key}.jpg") for key in ids[:-1]]
    downloads.record_downloads(engine, [*done, failed])

    def state(i: int, k: int) -> str:
        if i % 2 and k % 3 == 0:
            return "unknown"
        return "present" if i % (k + 2) == 0 else "absent"

    labels = {
        key: [_label(key, k, state(i, k)) for k in range(len(ATTRIBUTES))]
        for i, key in enumerate(ids[:-1])
    }
    record_labels(engine, "unit-test", labels, [], [])
    refresh_counts(engine, dataset)


def fill_gold(engine: Engine) -> None:
    """Store three gold images, and two of them labelled as judged, but for a person in one."""
    images = dict.fromkeys((*GOLD, UNLABELLED), "train")
    *ids, _unlabelled = _add_images(engine, "gold", images, masks=False)
    add_judgements(engine, "gold", load_gold())
    truth = truth_of_part(engine, "gold", "dev")
    downloads.record_downloads(engine, [_downloaded(key, f"missing/{key}.jpg") for key in ids])
    names = {1: "present", 0: "absent", -1: "unknown"}
    labels = {
        key: [_label(key, k, names[code]) for k, code in enumerate(truth[coco_id])]
        for key, coco_id in zip(ids, GOLD, strict=True)
    }
    labels[ids[0]][0]["state"] = "present"
    evidence = [
        {
            "image_id": ids[0],
            "attribute_id": 0,
            "segment_id": None,
            "caption_id": None,
            "source": source,
            "state": state,
            "confidence": confidence,
            "detail": detail,
        }
        for source, state, confidence, detail in (
            ("caption", "present", 0.8, "unit-test words"),
            ("panoptic", "absent", 0.4, "unit-test segments"),
        )
    ]
    record_labels(engine, "unit-test", labels, evidence, [])
    refresh_counts(engine, "gold")


def _add_images(engine: Engine, dataset: str, splits: dict[int, str], *, masks: bool) -> list[int]:
    """Store the images of one annotation file; return their ids, in order."""
    images = [
        {
            "dataset": dataset,
            "coco_id": coco_id,
            "file_name": f"{coco_id}.jpg",
            "url": f"http://images.invalid/{coco_id}.jpg",
            "licence": LICENCE,
            "width": 8,
            "height": 8,
            "mask_path": f"{coco_id}.png" if masks else None,
            "split": split,
        }
        for coco_id, split in splits.items()
    ]
    file = "unit-test.parquet"
    annotations.add_panoptic(
        engine,
        dataset,
        images,
        [],
        file=file,
        origin="mirror of unit tests",
        rows_done=len(images),
    )
    annotations.finish_file(engine, dataset, file, len(images))
    return image_ids(engine, "dataset = :name", name=dataset)


def image_ids(engine: Engine, where: str, **parameters: object) -> list[int]:
    """Return the ids of the images that meet a condition, in order."""
    rows = sql.sql(engine, f"SELECT id FROM image WHERE {where} ORDER BY id", **parameters)
    return [row["id"] for row in rows]


def _downloaded(image_id: int, path: str) -> dict[str, object]:
    return {
        "image_id": image_id,
        "state": "done",
        "attempts": 1,
        "seconds": 0.1,
        "error_class": None,
        "error": None,
        "path": path,
        "sha256": f"{image_id}",
        "bytes": 1_000,
    }


def _label(image_id: int, attribute_id: int, state: str) -> dict[str, object]:
    return {
        "image_id": image_id,
        "attribute_id": attribute_id,
        "state": state,
        "confidence": 1.0,
        "conflict": False,
        **NO_ESTIMATE,
    }


def add_run(engine: Engine, dataset: str, epochs: int, status: str) -> int:
    """Store a run with some epochs; return its id."""
    lease = start_run(
        engine,
        dataset=dataset,
        total_parameters=100,
        trainable_parameters=60,
        train_images=13,
        val_images=4,
        val_all_absent_accuracy=0.52,
        val_prior_accuracy=0.61,
        val_prior_map=0.33,
        seed=0,
        config={"epochs": 3, "contrastive_weight": 0.1},
        environment={"device": "cpu"},
        rule_version="unit-test",
        data_fingerprint="0" * 64,
    )
    for epoch in range(1, epochs + 1):
        add_epoch(engine, lease.run_id, epoch)
    if status != "running":
        lease.finish(status)
    return lease.run_id


def add_epoch(engine: Engine, run: int, epoch: int) -> None:
    """Store one epoch of a run."""
    row = {
        "epoch": epoch,
        "loss": 0.8 / epoch,
        "val_loss": 0.7 / epoch,
        "accuracy": 0.5 + epoch / 20,
        "map": 0.4,
        "decisions": 136,
        "learning_rate": 1e-4 / epoch,
        "images_per_second": 10.0,
        "seconds": 1.0,
    }
    lease_of(engine, run).record_epoch(row)


def score(engine: Engine, run: int, dataset: str, *, by_eyes: bool = False) -> None:
    """Store test scores of a run in which `person` has no known cell and `vehicle` only present.

    Args:
        by_eyes: store scores by eyes too, each 0.1 lower; of `food`, hardly any absent is found.
    """
    gains = {"map_over_probe": -0.02, "map_over_prior": 0.3, "accuracy_over_prior": 0.05}
    overall = {
        "accuracy": 0.8,
        "balanced_accuracy": 0.65,
        "all_absent_accuracy": 0.7,
        "prior_accuracy": 0.75,
        "map": 0.6,
        "prior_map": 0.3,
        "probe_map": 0.62,
        "ece": 0.1,
        "retrieval product recall@1": 0.5,
        "retrieval embedding recall@1": 0.2,
        "retrieval chance recall@1": 0.1,
    }
    images = image_ids(engine, "dataset = :dataset AND split = 'test'", dataset=dataset)
    probabilities = np.random.default_rng(0).random((len(images), len(ATTRIBUTES)))
    targets: list[tuple[runs.Against, float]] = [("labels", 0.0)]
    for against, lower in [*targets, *[("eyes", 0.1)] * by_eyes]:
        runs.record_evaluation(
            engine,
            run,
            dataset,
            "test",
            against,
            [
                {
                    "name": name,
                    "value": value - lower,
                    "low": value - lower - 0.1,
                    "high": value - lower + 0.1,
                    "n": 660,
                    "images": 20,
                    "attributes": 32 if "map" in name else None,
                }
                for name, value in overall.items()
            ]
            + [
                {
                    "name": name,
                    "value": gain,
                    "low": gain - 0.03,
                    "high": gain + 0.03,
                    "n": 660,
                    "images": 20,
                    "attributes": None,
                }
                for name, gain in gains.items()
            ],
            [
                {
                    **_attribute_score(k),
                    "specificity": 0.1 if lower and name == "food" else 0.8,
                }
                for k, name in enumerate(ATTRIBUTES)
            ],
            judged_by="ai" if lower else None,
        )
    runs.record_predictions(
        engine,
        run,
        [
            {"image_id": key, "attribute_id": k, "probability": float(probability)}
            for key, row in zip(images, probabilities, strict=True)
            for k, probability in enumerate(row)
        ],
    )


def _attribute_score(attribute_id: int) -> dict[str, object]:
    value = None if attribute_id == 0 else 0.8
    ap = None if attribute_id < 2 else 0.6
    gain = {2: -0.3, 7: 0.05}.get(attribute_id, 0.3)
    return {
        "attribute_id": attribute_id,
        "n": 0 if attribute_id == 0 else 20,
        "positives": {0: 0, 1: 20}.get(attribute_id, 6),
        "accuracy": value,
        "accuracy_low": value and 0.6,
        "accuracy_high": value and 0.9,
        "all_absent_accuracy": value and 0.7,
        "prior_accuracy": value and 0.7,
        "ap": ap,
        "ap_low": ap and 0.4,
        "ap_high": ap and 0.8,
        "prior_ap": value and 0.3,
        "precision": value,
        "recall": value,
        "f1": value,
        "threshold": 0.5,
        "balanced_accuracy": value,
        "ece": 0.1,
        "probe_ap": ap and 0.5,
        # Of `animal` the model is worse than the prior, of `small` it is not told apart.
        "over_prior": ap and gain,
        "over_prior_low": ap and gain - 0.1,
        "over_prior_high": ap and gain + 0.1,
        "over_probe": ap and 0.1,
        "over_probe_low": ap and -0.1,
        "over_probe_high": ap and 0.3,
        "label_present": 8,
        "label_present_right": 6,
        "label_absent": 8,
        "label_absent_right": 8,
    }


def add_files(engine: Engine, data_dir: Path, run: int) -> None:
    """Write a generated photo and a mask of two segments of val5k's image 7, and a checkpoint.

    The checkpoint is an untrained model, stored as that of `run`.
    """
    image = sql.sql(
        engine, "SELECT id, path, mask_path FROM image WHERE dataset = 'val5k' AND coco_id = 7"
    )[0]
    (data_dir / image["path"]).write_bytes(tiny.jpeg(7))
    segments = np.full((tiny.HEIGHT, tiny.WIDTH), 300)
    segments[:, : tiny.WIDTH // 2] = 301
    (data_dir / image["mask_path"]).write_bytes(tiny.mask_png(segments))
    rows = [
        {
            "image_id": image["id"],
            "segment_id": segment,
            "category_id": 1,
            "iscrowd": False,
            "annotated_area": 9,
            "area": 9,
        }
        for segment in (300, 301)
    ]
    with engine.begin() as connection:
        bulk.replace_rows(connection, Segment, [image["id"]], rows)
    checkpoint = f"runs/{run}/{FILE_NAME}"
    save_checkpoint(
        data_dir / checkpoint,
        AttributeModel("efficientnet_lite0", pretrained=False),
        run=run,
        dataset="val5k",
        epoch=1,
        thresholds=np.full(len(ATTRIBUTES), 0.5),
    )
    change_run(engine, run, checkpoint=checkpoint)
