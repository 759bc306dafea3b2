"""Checkpoints, and prediction by them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from coconut_attr.files.images import ImageError
from coconut_attr.model.checkpoint import (
    CheckpointError,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from coconut_attr.model.heads import HEADS, Head
from coconut_attr.model.network import AttributeModel
from coconut_attr.model.predict import DeviceError, choose_device, predict_images
from coconut_attr.settings import Settings
from coconut_attr.training.config import TrainConfig, TrainingError
from coconut_attr.training.state import load_state
from tests.support.tiny_mirror import jpeg

CPU = torch.device("cpu")


@pytest.mark.parametrize("head", HEADS)
def test_a_checkpoint_predicts_as_the_model_did(tmp_path: Path, head: Head) -> None:
    torch.manual_seed(0)
    model = AttributeModel("efficientnet_lite0", head).eval()
    if head == "linear":
        torch.nn.init.normal_(model.classifier.weight, std=0.1)
    path = tmp_path / "runs" / "5" / "best.safetensors"
    save_checkpoint(path, model, run=5, dataset="val5k", epoch=3, thresholds=np.full(34, 0.3))
    assert newest_checkpoint(Settings(data_dir=tmp_path)) == path
    loaded = load_checkpoint(path)
    assert (loaded.run, loaded.dataset, loaded.epoch) == (5, "val5k", 3)
    assert loaded.thresholds.tolist() == [0.3] * 34
    images = [jpeg(1, 300, 200), jpeg(2, 40, 90)]
    np.testing.assert_allclose(
        predict_images(loaded.model, images, CPU), predict_images(model, images, CPU), atol=1e-6
    )
    with pytest.raises(ImageError):
        predict_images(model, [b"no image"], CPU)


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_a_hostile_checkpoint_runs_no_code(tmp_path: Path) -> None:
    hostile = Hostile()
    hostile.path = str(tmp_path / "ran")
    path = tmp_path / "best.safetensors"
    path.write_bytes(pickle.dumps(hostile))
    with pytest.raises(CheckpointError, match="not a usable checkpoint"):
        load_checkpoint(path)
    torch.save(hostile, tmp_path / "state.pt")
    with pytest.raises(TrainingError, match="not a usable training state"):
        load_state(tmp_path / "state.pt", {}, TrainConfig())
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a usable checkpoint"):
        load_checkpoint(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(CheckpointError, match="train first"):
        load_checkpoint(tmp_path / "none")
    with pytest.raises(CheckpointError, match="train first"):
        newest_checkpoint(Settings(data_dir=tmp_path))


def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu") == CPU
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="cuda is not available"):
            choose_device("cuda")
