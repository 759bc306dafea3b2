"""What each part of the training is worth: val mAP with it and without it, over several seeds.

    COCONUT_ATTR_MIRROR=... python benchmarks/ablation.py [--seeds 3]

Needs the labelled images of val5k in the store that the settings name. Only train and val are read: the test split must
not choose anything. `default` is the default profile; every other line changes one thing. The linear probe on the same
features, its C chosen on the same val split, is the line to beat.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from coconut_attr.data import Samples
from coconut_attr.evaluate import mean_average_precision
from coconut_attr.features import FeatureStore
from coconut_attr.model import AttributeModel
from coconut_attr.predict import choose_device
from coconut_attr.probe import fit_probe, pooled_features
from coconut_attr.settings import settings
from coconut_attr.train import Epoch, TrainConfig, fit, profile, seed_everything
from flows.samples import load_samples

BACKBONE = "efficientnet_lite0"
CHANGES: dict[str, dict[str, object]] = {
    "default": {},
    "no label smoothing": {"label_smoothing": 0.0},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "no contrastive term": {"contrastive_weight": 0.0},
    "learning rate 1e-4": {"learning_rate": 1e-4},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "1 view an image": {"views": 1},
    "20 epochs": {"epochs": 20},
}


def val_map(config: TrainConfig, train: Samples, val: Samples, folder: Path) -> tuple[float, float]:
    """The best and the last epoch's val mAP of a run."""
    seed_everything(config.seed)
    device = choose_device(settings().device)
    model = AttributeModel(config.backbone).to(device)
    epochs: list[Epoch] = []
    fit(
        model, train, val, config, device,
        on_epoch=lambda epoch, _model: epochs.append(epoch),
        mean_average_precision=mean_average_precision,
        features=FeatureStore(folder, model),
    )  # fmt: skip
    return max(epoch.map or 0.0 for epoch in epochs), epochs[-1].map or 0.0


def probe_map(train: Samples, val: Samples, folder: Path) -> float:
    features, cpu = FeatureStore(folder, AttributeModel(BACKBONE)), torch.device("cpu")
    on_val = pooled_features(features, val, cpu)
    probe = fit_probe((pooled_features(features, train, cpu), train.labels), (on_val, val.labels))
    return mean_average_precision(val.labels, probe.predict(on_val))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    _, train = load_samples("val5k", "train")
    _, val = load_samples("val5k", "val")
    title = f"val mAP, {BACKBONE}, {len(train)} train and {len(val)} val images, {seeds} seeds"
    table = Table("", "best epoch", "last epoch", "spread (sd)", title=title)
    with tempfile.TemporaryDirectory() as folder:
        table.add_row("linear probe", f"{probe_map(train, val, Path(folder)):.4f}", "", "")
        for name, changes in CHANGES.items():
            config = replace(profile("default", backbone=BACKBONE), **changes)  # type: ignore[arg-type]
            found = np.array([val_map(replace(config, seed=s), train, val, Path(folder)) for s in range(seeds)])
            best, last = found.mean(0)
            table.add_row(name, f"{best:.4f}", f"{last:.4f}", f"{found[:, 1].std(ddof=1):.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
