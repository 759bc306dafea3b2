"""Out-of-fold predictions: no image is predicted by a probe that was trained on it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from coconut_attr.files.atomic import sha256_of
from coconut_attr.training.data import Samples
from coconut_attr.training.out_of_fold import PROBES, out_of_fold

CPU = torch.device("cpu")


def noise(folder: Path, count: int) -> Samples:
    """Return pictures of noise with random labels: what can be learnt of one is of use for it."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    paths = [folder / f"{k}.png" for k in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(path)
    labels = rng.integers(0, 2, (count, 34)).astype(np.int8)
    return Samples(range(count), paths, labels, [sha256_of(path) for path in paths])


def test_neither_an_image_nor_its_copy_is_in_the_probe_that_predicts_it(tmp_path: Path) -> None:
    pictures = noise(tmp_path / "pictures", 20)
    steps: list[int] = []
    # Copies of train in val choose the C that learns by heart.
    predicted = out_of_fold(
        "efficientnet_lite0", *[pictures] * 3, CPU, tmp_path / "features", steps.append
    )
    assert steps == list(range(1, PROBES + 1))
    assert predicted.shape == (60, 34)
    right = ((predicted >= 0.5) == np.tile(pictures.labels, (3, 1))).mean(1)
    assert right[:40].mean() < 0.6, "chance"
    assert right[40:].mean() > 0.9, "given as test, they are predicted by what was trained on them"
