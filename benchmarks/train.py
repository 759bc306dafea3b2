"""Measure training speed from images, from cached features, and from tensors in memory.

    python benchmarks/train.py [--backbone resnet50] [--device cuda] [--compile]

Needs the labelled images of val5k in the database of the settings. Each kind of input trains the
same model for one epoch; the first steps are a warm-up and not counted. Encoders other than
EfficientNet-Lite0 get random weights, which do not change the speed.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.model.network import AttributeModel
from coconut_attr.model.predict import choose_device, to_device
from coconut_attr.training.config import TrainConfig
from coconut_attr.training.data import TrainViewSampler, ViewBatchSampler, image_loader
from coconut_attr.training.features import FeatureCache, feature_loader
from coconut_attr.training.step import Step
from coconut_attr.training.train import seed_everything, train_one_epoch
from flows.samples import load_samples

BATCH = 16
VIEWS = 2


class Timed:
    """A loader that counts and times its batches after a warm-up."""

    def __init__(self, batches: Iterable, device: torch.device, warm_up: int = 3) -> None:
        self.batches, self.device, self.warm_up = batches, device, warm_up
        self.images, self.started = 0, 0.0

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self):
        for step, batch in enumerate(self.batches):
            if step == self.warm_up:
                self.synchronize()
                self.started = time.perf_counter()
            if step >= self.warm_up:
                self.images += len(batch[1])
            yield batch

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def rate(self) -> float:
        """Return the images per second."""
        self.synchronize()
        return self.images / (time.perf_counter() - self.started)


def speed(step: Step, batches: Iterable) -> float:
    """Train one epoch; return the images per second."""
    timed = Timed(batches, step.device)
    optimizer = torch.optim.AdamW([p for p in step.model.parameters() if p.requires_grad], lr=1e-5)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    train_one_epoch(step, timed, optimizer, scheduler, 1, lambda *_: None)  # type: ignore[arg-type]
    return timed.rate()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    config = TrainConfig(backbone=arguments.backbone, batch_size=BATCH, views=VIEWS)
    seed_everything(0)
    model = AttributeModel(
        arguments.backbone, pretrained=arguments.backbone == "efficientnet_lite0"
    ).to(device)
    model.to(memory_format=torch.channels_last)
    samples = load_samples("val5k", "train")
    batches = ViewBatchSampler(TrainViewSampler(len(samples), VIEWS, 0), BATCH)
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder), model)
        started = time.perf_counter()
        features = cache.fill(samples, range(VIEWS), device)
        filling = VIEWS * len(samples) / (time.perf_counter() - started)
        cached = feature_loader(samples, features, batches)
        resident = [(to_device(x, device), y.to(device)) for x, y in cached]
        images = image_loader(samples, get_backbone(arguments.backbone), batches)
        speeds = {
            "images": speed(Step(model, config, device), images),
            "cached features": speed(Step(model, config, device, cached=True), cached),
            "bound: tensors in memory": speed(Step(model, config, device, cached=True), resident),
        }
        if arguments.compile:
            compiled = Step(model, config, device, cached=True)
            compiled.forward = torch.compile(model)
            speeds["cached features, torch.compile"] = speed(compiled, cached)
    table = Table(
        arguments.backbone,
        "images/s",
        "of images",
        "of bound",
        title=f"{device}, batch {BATCH}, 224 pixels",
    )
    for name, value in speeds.items():
        ratios = (
            f"{value / speeds['images']:.2f}",
            f"{value / speeds['bound: tensors in memory']:.2f}",
        )
        table.add_row(name, f"{value:.1f}", *ratios)
    console = Console()
    console.print(table)
    kib = cache.bytes_per_view / 2**10
    console.print(f"features are cached once, at {filling:.1f} views/s; {kib:.1f} KiB per view")
    gib = 118_000 * 9 * kib / 2**20
    console.print(
        f"8 views and the plain one: {9 * kib:.0f} KiB per image, {gib:.1f} GiB for 118,000 images"
    )


if __name__ == "__main__":
    main()
