"""Measure what each part of the training is worth, cross-validated over train and val.

    python benchmarks/ablation.py [--seeds 3] [--only NAME ...]

Needs the labelled images of val5k in the database of the settings. The test split is not read: it
must not choose anything. Train and val are cut into five folds; each is predicted by the last epoch
of a model trained on the other four. Scores are by eyes: on the judged cells. `default` is the
default profile; every other line changes one thing, or the head. The linear probe on the same
folds, with the C that is best on them (which favours it), is the line to beat; the gain over it is
that of the median seed, with its 95 % interval (paired bootstrap over images).
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from coconut_attr.evaluation.scores import evaluate, mean_average_precision
from coconut_attr.model.network import AttributeModel
from coconut_attr.model.predict import choose_device
from coconut_attr.settings import settings
from coconut_attr.training.config import TrainConfig, profile
from coconut_attr.training.data import Samples, prior
from coconut_attr.training.features import FeatureCache
from coconut_attr.training.linear_probe import STRENGTHS, fit_probe, pooled_features
from coconut_attr.training.train import Trainer, seed_everything
from flows.samples import load_samples

BACKBONE = "efficientnet_lite0"
FOLDS = 5
ATTENTION = {"head": "attention", "learning_rate": 3e-4, "contrastive_weight": 0.1}
CHANGES: dict[str, dict[str, object]] = {
    "default": {},
    "attention": ATTENTION,
    "attention, no contrastive term": ATTENTION | {"contrastive_weight": 0.0},
    "no mixup": {"mixup": 0.0},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "learning rate 3e-4": {"learning_rate": 3e-4},
    "10 epochs": {"epochs": 10},
    "40 epochs": {"epochs": 40},
    "1 view per image": {"views": 1},
}


def train_and_val() -> Samples:
    """Return the labelled images of val5k's train and val splits."""
    train, val = (load_samples("val5k", split) for split in ("train", "val"))
    return Samples(
        [*train.image_ids, *val.image_ids],
        [*train.paths, *val.paths],
        np.concatenate([train.labels, val.labels]),
        [*train.hashes, *val.hashes],
        np.concatenate([train.probabilities, val.probabilities]),
        np.concatenate([train.judged, val.judged]),
    )


def seen(samples: Samples) -> np.ndarray:
    """Return what was seen in the photos: int8 [n, 34]; 1 present, 0 absent, -1 unknown."""
    return np.where(samples.judged, samples.probabilities >= 0.5, -1).astype(np.int8)


def cross_predict(
    samples: Samples, predict: Callable[[Samples, Samples], np.ndarray]
) -> np.ndarray:
    """Predict every image by `predict(other folds, its fold)`: probabilities float [n, 34]."""
    fold = np.random.default_rng(0).permutation(len(samples)) % FOLDS
    probabilities = np.empty(samples.labels.shape)
    for k in range(FOLDS):
        others, own = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        probabilities[own] = predict(samples.subset(others), samples.subset(own))
    return probabilities


def train_and_predict(
    config: TrainConfig, folder: Path, train: Samples, held_out: Samples
) -> np.ndarray:
    """Train a model; return its last epoch's probabilities for the images held out."""
    seed_everything(config.seed)
    device = choose_device(settings().device)
    model = AttributeModel(config.backbone, config.head).to(device)
    features = FeatureCache(folder, model)
    trainer = Trainer(model, train, held_out, config, device, features=features)
    for _ in trainer.epochs():
        pass
    return trainer.probabilities


def probe_and_predict(samples: Samples, folder: Path) -> tuple[float, np.ndarray]:
    """Return the best C of the linear probe, and its cross-predicted probabilities."""
    cache, cpu = FeatureCache(folder, AttributeModel(BACKBONE)), torch.device("cpu")
    features = dict(zip(samples.hashes, pooled_features(cache, samples, cpu), strict=True))

    def predict(train: Samples, held_out: Samples, c: float) -> np.ndarray:
        x, y = (np.stack([features[sha] for sha in part.hashes]) for part in (train, held_out))
        return fit_probe((x, train.targets), (y, held_out.targets), [c]).predict(y)

    by_c = {
        c: cross_predict(samples, lambda train, part, c=c: predict(train, part, c))
        for c in STRENGTHS
    }
    best = max(by_c, key=lambda c: mean_average_precision(seen(samples), by_c[c]))
    return best, by_c[best]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(CHANGES), default=list(CHANGES))
    arguments = parser.parse_args()
    samples = train_and_val()
    states = seen(samples)
    print(
        f"`python benchmarks/ablation.py --seeds {arguments.seeds}`: {BACKBONE}, {len(samples)} "
        f"images of val5k's train and val splits in {FOLDS} folds, "
        f"{(states >= 0).sum():,} judged cells, {arguments.seeds} seeds.\n"
    )
    print(
        "| | mAP by eyes, mean over seeds | spread (sd) | gain of the median seed over the linear "
        "probe | 95 % interval |\n" + "| --- " * 5 + "|"
    )
    with tempfile.TemporaryDirectory() as folder:
        c, probe = probe_and_predict(samples, Path(folder))
        probe_map = mean_average_precision(states, probe)
        print(f"| linear probe (C = {c}) | {probe_map:.4f} | | | |", flush=True)
        for name in track(arguments.only, "ablation", disable=not sys.stderr.isatty()):
            config = replace(profile("default", backbone=BACKBONE), **CHANGES[name])  # type: ignore[arg-type]
            predictions = []
            for seed in range(arguments.seeds):
                run = partial(train_and_predict, replace(config, seed=seed), Path(folder))
                predictions.append(cross_predict(samples, run))
            maps = [mean_average_precision(states, p) for p in predictions]
            spread = f"{np.std(maps, ddof=1):.4f}" if len(maps) > 1 else ""
            median = predictions[int(np.argsort(maps)[len(maps) // 2])]
            scores = evaluate(states, median, prior(samples), probe=probe).overall
            gain = scores["map_over_probe"]
            print(
                f"| {name} | {np.mean(maps):.4f} | {spread} | {gain.value:+.4f} "
                f"| {gain.low:+.4f} to {gain.high:+.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
