"""What each part of the training is worth: mAP with it and without it, cross-validated over train and val.

    COCONUT_ATTR_MIRROR=... python benchmarks/ablation.py [--seeds 3] [--only NAME ...] > docs/ablation.md

Needs the labelled images of val5k in the store that the settings name. The test split is not read: it must not choose
anything. Train and val are cut into five folds; each is predicted by the last epoch of a model that was trained on the
other four, so that the figures rest on all their images. `default` is the default profile; every other line changes one
thing. The linear probe on the same folds, with the C that is best on them (which favours it), is the line to beat; the
gain over it is that of the seed in the middle, with its 95 % interval (paired bootstrap over images).
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
from coconut_attr.training.data import Samples
from coconut_attr.training.features import FeatureCache
from coconut_attr.training.linear_probe import STRENGTHS, fit_probe, pooled_features
from coconut_attr.training.train import Epoch, fit, seed_everything
from flows.samples import load_samples

BACKBONE = "efficientnet_lite0"
FOLDS = 5
CHANGES: dict[str, dict[str, object]] = {
    "default": {},
    "no mixup": {"mixup": 0.0},
    "10 epochs": {"epochs": 10},
    "no mixup, 10 epochs": {"mixup": 0.0, "epochs": 10},
    "no label smoothing": {"label_smoothing": 0.0},
    "no contrastive term": {"contrastive_weight": 0.0},
    "learning rate 1e-4": {"learning_rate": 1e-4},
    "1 view an image": {"views": 1},
}


def of(samples: Samples, rows: np.ndarray) -> Samples:
    return Samples(
        [samples.paths[k] for k in rows], samples.labels[rows], [samples.hashes[k] for k in rows]
    )


def cross_predicted(
    samples: Samples, predict: Callable[[Samples, Samples], np.ndarray]
) -> np.ndarray:
    """Probabilities [n, 34] of every image, by `predict(others, fold)` for each fold."""
    fold = np.random.default_rng(0).permutation(len(samples)) % FOLDS
    found = np.empty((len(samples), samples.labels.shape[1]))
    for k in range(FOLDS):
        found[fold == k] = predict(
            of(samples, np.flatnonzero(fold != k)), of(samples, np.flatnonzero(fold == k))
        )
    return found


def trained(config: TrainConfig, folder: Path, train: Samples, held_out: Samples) -> np.ndarray:
    """What the last epoch of a training run says of the images held out."""
    seed_everything(config.seed)
    device = choose_device(settings().device)
    model = AttributeModel(config.backbone).to(device)
    epochs: list[Epoch] = []
    fit(model, train, held_out, config, device, on_epoch=lambda epoch, _model: epochs.append(epoch),
        features=FeatureCache(folder, model))  # fmt: skip
    return epochs[-1].probabilities


def probed(samples: Samples, folder: Path) -> tuple[float, np.ndarray]:
    """The best C of the linear probe, and its cross-predicted probabilities."""
    store, cpu = FeatureCache(folder, AttributeModel(BACKBONE)), torch.device("cpu")
    features = dict(zip(samples.hashes, pooled_features(store, samples, cpu), strict=True))

    def predict(train: Samples, held_out: Samples, c: float) -> np.ndarray:
        x, y = (np.stack([features[key] for key in part.hashes]) for part in (train, held_out))
        return fit_probe((x, train.labels), (y, held_out.labels), [c]).predict(y)

    found = {
        c: cross_predicted(samples, lambda train, part, c=c: predict(train, part, c))
        for c in STRENGTHS
    }
    best = max(found, key=lambda c: mean_average_precision(samples.labels, found[c]))
    return best, found[best]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(CHANGES), default=list(CHANGES))
    arguments = parser.parse_args()
    train, val = (load_samples("val5k", split)[1] for split in ("train", "val"))
    samples = Samples([*train.paths, *val.paths], np.concatenate([train.labels, val.labels]),
                      [*train.hashes, *val.hashes])  # fmt: skip
    command = f"python benchmarks/ablation.py --seeds {arguments.seeds}"
    print(f"`{command}`: {BACKBONE}, {len(samples)} images of val5k's train and val splits in {FOLDS} folds, "
          f"{(samples.labels >= 0).sum():,} known cells, {arguments.seeds} seeds.\n")  # fmt: skip
    print(
        "| | mAP, mean over seeds | spread (sd) | gain of the median seed over the linear probe | 95 % interval |\n"
        + "| --- " * 5
        + "|"
    )
    with tempfile.TemporaryDirectory() as folder:
        c, probe = probed(samples, Path(folder))
        print(
            f"| linear probe (C = {c}) | {mean_average_precision(samples.labels, probe):.4f} | | | |",
            flush=True,
        )
        for name in track(arguments.only, "ablation", disable=not sys.stderr.isatty()):
            config = replace(profile("default", backbone=BACKBONE), **CHANGES[name])  # type: ignore[arg-type]
            found = []
            for seed in range(arguments.seeds):
                run = partial(trained, replace(config, seed=seed), Path(folder))
                found.append(cross_predicted(samples, run))
            scores = [
                mean_average_precision(samples.labels, probabilities) for probabilities in found
            ]
            spread = f"{np.std(scores, ddof=1):.4f}" if len(scores) > 1 else ""
            median = found[int(np.argsort(scores)[len(scores) // 2])]
            gain = evaluate(samples.labels, median, train.labels, probe=probe).overall[
                "map_over_probe"
            ]
            print(f"| {name} | {np.mean(scores):.4f} | {spread} | {gain.value:+.4f} | {gain.low:+.4f} to "
                  f"{gain.high:+.4f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
