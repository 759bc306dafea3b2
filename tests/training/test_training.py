"""Training: curves, resuming, several processes, cached features, memory."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from coconut_attr.attributes import ATTRIBUTES
from coconut_attr.evaluation.scores import mean_average_precision
from coconut_attr.files.atomic import sha256_of
from coconut_attr.files.photos import read_photo
from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.model.checkpoint import (
    load_checkpoint,
)
from coconut_attr.model.heads import HEADS, Head
from coconut_attr.model.network import AttributeModel, Output
from coconut_attr.model.predict import predict_batches
from coconut_attr.training.config import TrainConfig, TrainingError, profile
from coconut_attr.training.data import (
    PLAIN,
    Samples,
    ViewBatchSampler,
    image_loader,
    plain_views,
)
from coconut_attr.training.features import FeatureCache
from coconut_attr.training.job import Job, feature_cache
from coconut_attr.training.launch import open_training
from coconut_attr.training.state import state_epoch
from coconut_attr.training.train import Epoch, Trainer

CPU = torch.device("cpu")


def samples_of(paths: Sequence[Path], labels: np.ndarray) -> Samples:
    """Samples of files that are in no database."""
    return Samples(range(len(paths)), paths, labels, [sha256_of(path) for path in paths])


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """Twelve pictures, dark or bright, labelled so; every other attribute is unknown."""

    paths, labels = [], np.full((12, 34), -1, dtype=np.int8)
    for k in range(12):
        path = tmp_path / f"{k}.png"
        Image.new("RGB", (32, 32), (230, 230, 230) if k % 2 else (20, 20, 20)).save(path)
        paths.append(path)
        labels[k, ATTRIBUTES.index("bright")] = k % 2
    return samples_of(paths, labels)


@pytest.mark.parametrize("head", HEADS)
def test_training_learns_and_leaves_the_frozen_part_alone(samples: Samples, head: Head) -> None:
    config = TrainConfig("efficientnet_lite0", head, epochs=3, batch_size=4, learning_rate=1e-3)
    model = AttributeModel(config.backbone, config.head).to(CPU)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    statistics = model.encoder._bn0.running_mean.clone()
    trainer = Trainer(model, samples, samples, config, CPU, score=mean_average_precision)
    epochs = list(trainer.epochs())
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert epochs[-1].map == 1.0
    assert epochs[-1].loss < epochs[0].loss
    assert epochs[-1].decisions == 12
    assert epochs[0].best
    assert epochs[0].learning_rate > epochs[-1].learning_rate
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            torch.testing.assert_close(parameter, before[name], rtol=0, atol=0)
    torch.testing.assert_close(model.encoder._bn0.running_mean, statistics, rtol=0, atol=0)
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_same_seed_gives_the_same_curve(samples: Samples) -> None:
    config = TrainConfig(backbone="efficientnet_lite0", epochs=1, batch_size=4, seed=3)
    assert curve(samples, None, config) == curve(samples, None, config)


def test_training_without_labels_is_refused(samples: Samples) -> None:
    unknown = samples_of(samples.paths, np.full_like(samples.labels, -1))
    model = AttributeModel("efficientnet_lite0", pretrained=False)
    for train, val, name in (
        (unknown, samples, "train"),
        (samples, unknown, "val"),
        (samples.subset([]), samples, "train"),
    ):
        with pytest.raises(
            TrainingError, match=f"the {name} split has no image with a known label"
        ):
            Trainer(model, train, val, TrainConfig(backbone="efficientnet_lite0"), CPU)


def test_profiles_are_named_and_changed() -> None:
    report = profile("report")
    assert (report.backbone, report.epochs) == ("resnet50", 10)
    assert profile("report", epochs=2, seed=None).epochs == 2
    with pytest.raises(
        TrainingError, match="unknown profile 'fast'; choose one of: default, report"
    ):
        profile("fast")
    with pytest.raises(TrainingError, match="must be at least 1"):
        profile("report", epochs=0)


def curve(
    samples: Samples,
    features_folder: Path | None,
    config: TrainConfig,
    state: Path | None = None,
    on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> list[tuple[float, float]]:
    """Losses on train and val of each epoch, of a model that starts from seed 0.

    The training continues from `state` if it is there, and saves it after each epoch.
    """
    torch.manual_seed(0)
    model = AttributeModel(config.backbone)
    features = FeatureCache(features_folder, model) if features_folder else None
    trainer = Trainer(model, samples, samples, config, CPU, features=features, on_note=on_note)
    if state and state.is_file():
        trainer.restore(state)
    losses = []
    for epoch in trainer.epochs(on_step):
        losses.append((epoch.loss, epoch.val_loss))
        if state:
            trainer.save(state)
    return losses


def test_cached_features_give_the_curve_of_the_images(samples: Samples, tmp_path: Path) -> None:
    config = replace(curve_config(), epochs=3)
    plain = curve(samples, None, config)
    assert curve(samples, tmp_path / "features", config) == pytest.approx(np.array(plain), abs=0.01)
    (folder,) = (tmp_path / "features").iterdir()
    lines = (folder / "rows.txt").read_text().splitlines()
    assert (
        len(lines) == len(set(lines)) == 2 * 3
    )  # two different pictures, two views and the plain one
    values = (folder / "values.f16").read_bytes()

    # An interruption: the last line is not finished, and values lie there without one.
    (folder / "rows.txt").write_text("\n".join(lines[:4]) + "\n" + lines[4][:-3])
    (folder / "values.f16").write_bytes(values[: len(values) // 6 * 4 + 500])
    model = AttributeModel(config.backbone).to(CPU)
    cached = FeatureCache(tmp_path / "features", model).fill(samples, [0, 1, PLAIN], CPU)
    before = np.frombuffer(values, np.float16).reshape(cached.values.shape)
    assert len(cached.rows) == 6
    for row, line in enumerate(lines):
        sha256, view = line.split()
        values_of_row = cached.values[cached.rows[sha256, int(view)]]
        np.testing.assert_allclose(values_of_row, before[row], atol=0.02)


@contextmanager
def full_disk() -> Iterator[None]:
    """Stop every file from growing while a block runs: no longer, or pytest could not report."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("end", ["", "0123"], ids=["complete", "cut off"])
def test_a_full_disk_costs_no_cached_features(samples: Samples, tmp_path: Path, end: str) -> None:
    cache = FeatureCache(tmp_path, AttributeModel("efficientnet_lite0").to(CPU))
    before = cache.fill(samples, [PLAIN], CPU).rows
    with (cache.folder / "rows.txt").open("a") as rows:
        rows.write(end)
    with full_disk(), pytest.raises(OSError, match="too large"):
        cache.fill(samples, [0], CPU)
    assert cache.open().rows == before


RESUME = """
import sys, numpy as np
from pathlib import Path
from tests.training.test_training import curve, curve_config, samples_of
folder = Path(sys.argv[1])
labels = np.load(folder / "labels.npy")
samples = samples_of(sorted(folder.glob("*.png"), key=lambda path: int(path.stem)), labels)
def report(epoch, step, steps):
    if step == steps:
        print("epoch", epoch, flush=True)
features = folder / "features"
curve(samples, features, curve_config(), state=folder / "state.pt", on_step=report)
"""


def curve_config() -> TrainConfig:
    return TrainConfig(backbone="efficientnet_lite0", epochs=6, batch_size=4, views=2, mixup=0.4)


def test_a_killed_run_is_resumed_with_the_same_curve(samples: Samples, tmp_path: Path) -> None:
    features = tmp_path / "features"  # computed once: what is resumed is the training after them
    uninterrupted = curve(samples, features, curve_config())
    np.save(tmp_path / "labels.npy", samples.labels)
    process = subprocess.Popen(
        [sys.executable, "-c", RESUME, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    for line in process.stdout:
        if line == "epoch 4\n":  # epoch 3's state is there; a later one may be being written
            process.kill()
    assert process.wait() == -signal.SIGKILL
    rest = curve(samples, features, curve_config(), state=tmp_path / "state.pt")
    assert 1 <= len(rest) <= 3
    assert rest == pytest.approx(np.array(uninterrupted[-len(rest) :]), rel=1e-5)
    other = replace(curve_config(), epochs=7)
    with pytest.raises(TrainingError, match="other settings; delete it"):
        curve(samples, None, other, state=tmp_path / "state.pt")
    (tmp_path / "state.pt").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="not a usable training state"):
        curve(samples, None, curve_config(), state=tmp_path / "state.pt")


def test_a_batch_that_does_not_fit_into_memory_is_processed_in_micro_batches(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(curve_config(), epochs=2)
    expected = curve(samples, None, config)
    forward, sizes, notes = AttributeModel.forward, [], []

    def limited(model: AttributeModel, inputs: torch.Tensor, **options) -> Output:
        if model.training:
            sizes.append(len(inputs))
            if len(inputs) > limit:
                raise torch.OutOfMemoryError("made up")
        return forward(model, inputs, **options)

    monkeypatch.setattr(AttributeModel, "forward", limited)
    limit = 1
    losses = curve(samples, None, config, on_note=notes.append)
    assert losses == pytest.approx(np.array(expected), rel=1e-4)
    assert sizes == [4, 2] + [1] * 24
    assert "micro-batches of 2" in notes[0]
    assert "micro-batches of 1" in notes[1]
    limit = 0
    with pytest.raises(TrainingError, match="choose a smaller batch_size"):
        curve(samples, None, config)


def test_a_batch_that_does_not_fit_into_memory_is_predicted_in_parts(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AttributeModel("efficientnet_lite0").to(CPU)
    batches = image_loader(
        samples, get_backbone(model.backbone_name), ViewBatchSampler(plain_views(12), 5)
    )
    expected = predict_batches(model, batches, CPU)
    forward, sizes = AttributeModel.forward, []

    def limited(model: AttributeModel, inputs: torch.Tensor, **options) -> Output:
        sizes.append(len(inputs))
        if len(inputs) > limit:
            raise torch.OutOfMemoryError("made up")
        return forward(model, inputs, **options)

    monkeypatch.setattr(AttributeModel, "forward", limited)
    limit = 2
    torch.testing.assert_close(predict_batches(model, batches, CPU).logits, expected.logits)
    assert sizes == [5, 2, 2, 1, 2, 2, 1, 2]
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        predict_batches(model, batches, CPU)


def make_job(samples: Samples, data_dir: Path, val: int = 9) -> Job:
    # Without mixup, because each process mixes its own share of a batch.
    config = replace(curve_config(), epochs=3, seed=4, mixup=0.0)
    return Job(9, "val5k", config, samples, samples.subset(range(val)), data_dir)


def run_job(job: Job, processes: int = 1) -> list[Epoch]:
    """Train a job to its end with checkpoints and states, as the flow does."""
    epochs = []
    with open_training(job, CPU, processes) as training:
        for epoch in training.epochs():
            if epoch.best:
                training.save_checkpoint()
            training.save_state()
            epochs.append(epoch)
    return epochs


@pytest.fixture
def at_startup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make each of torchrun's processes run some code when it starts."""

    def use(code: str) -> None:
        (tmp_path / "startup").mkdir()
        lines = [
            "import os",
            "if 'RANK' in os.environ:",
            *(f"    {line}" for line in code.splitlines()),
        ]
        (tmp_path / "startup" / "sitecustomize.py").write_text("\n".join(lines))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "startup"), prepend=os.pathsep)

    return use


SECOND_FINDS_THE_DISK_FULL = """
import shutil, types
if os.environ["RANK"] == "1":
    shutil.disk_usage = lambda folder: types.SimpleNamespace(free=0)
"""


def train_an_epoch(
    job: Job, processes: int = 1, on_note: Callable[[str], None] = lambda note: None
) -> Epoch:
    """Train and store the first epoch; no file may be ahead of what the caller has stored."""

    def files() -> set[str]:
        return {path.name for path in (job.checkpoint, job.state) if path.is_file()}

    with open_training(job, CPU, processes, on_note=on_note) as training:
        epochs = training.epochs()
        first = next(epochs)
        time.sleep(1)  # in which processes that did not wait would write files
        assert files() == set()
        training.save_checkpoint()
        assert files() == {job.checkpoint.name}
        training.save_state()
        next(epochs)
    assert load_checkpoint(job.checkpoint).epoch == 1
    assert state_epoch(job.state.read_bytes()) == 1
    return first


def test_no_file_is_ahead_of_what_the_caller_has_stored(samples: Samples, tmp_path: Path) -> None:
    job = make_job(samples, tmp_path)
    train_an_epoch(job)
    assert [epoch.epoch for epoch in run_job(job)] == [2, 3], "it is resumed"


@pytest.mark.server
def test_two_processes_train_and_resume_as_one_does(
    samples: Samples,
    tmp_path: Path,
    at_startup: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More are asked for than val has images."""
    at_startup(SECOND_FINDS_THE_DISK_FULL)  # rank 0 decides
    # Prints to standard output, as NCCL does with NCCL_DEBUG=INFO.
    monkeypatch.setenv("ONEDNN_VERBOSE", "1")
    jobs = [make_job(samples, tmp_path / name, val=2) for name in ("one", "two")]
    one = run_job(jobs[0])
    notes: list[str] = []
    two = [train_an_epoch(jobs[1], 3, notes.append), *run_job(jobs[1], processes=2)]
    assert notes == ["2 of 3 processes train: each needs an image of every batch and of val"]
    assert [epoch.epoch for epoch in two] == [1, 2, 3]
    assert {epoch.decisions for epoch in two} == {2}
    for name in ("loss", "val_loss", "accuracy"):
        expected = [getattr(epoch, name) for epoch in one]
        assert [getattr(epoch, name) for epoch in two] == pytest.approx(expected, rel=0.02)
    for job, epochs in zip(jobs, (one, two), strict=True):
        best = max(epoch.epoch for epoch in epochs if epoch.best)
        assert load_checkpoint(job.checkpoint).epoch == best
    assert "onednn_verbose" in (tmp_path / "two" / "runs" / "9" / "torchrun.log").read_text()


def test_only_features_that_are_missing_need_room(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(samples, tmp_path)
    model = AttributeModel(job.config.backbone).to(CPU)
    notes: list[str] = []
    features = feature_cache(job, model, notes.append)
    features.fill(job.train, job.config.view_numbers, CPU)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=0))
    assert feature_cache(job, model, notes.append) is None
    assert [note.split(":")[0] for note in notes] == ["features are not cached"]
    features.fill(job.val, [PLAIN], CPU)
    assert feature_cache(job, model, notes.append)
    assert len(notes) == 1


#: With NCCL the end of a process group waits for all processes.
TEARDOWN_IS_LOGGED = """
from torch import distributed
distributed.destroy_process_group = lambda: os.write(2, b"torn down")
"""


@pytest.mark.server
def test_an_error_in_a_process_is_reported(
    samples: Samples, tmp_path: Path, at_startup: Callable[[str], None]
) -> None:
    at_startup(TEARDOWN_IS_LOGGED)
    unlabelled = replace(samples, labels=np.full_like(samples.labels, -1))
    with pytest.raises(TrainingError, match="the train split has no image with a known label"):
        run_job(make_job(unlabelled, tmp_path / "unlabelled"), processes=2)
    for path in samples.paths:
        path.unlink()
    with pytest.raises(TrainingError, match=r"ended with code 1; see .*torchrun\.log"):
        run_job(make_job(samples, tmp_path), processes=2)
    log = (tmp_path / "runs" / "9" / "torchrun.log").read_text()
    assert "FileNotFoundError" in log
    assert "torn down" not in log


def test_a_loss_that_is_not_finite_names_its_step_and_images(samples: Samples) -> None:
    config = TrainConfig(backbone="efficientnet_lite0", epochs=3, batch_size=4, learning_rate=1e30)
    with pytest.raises(
        TrainingError,
        match=r"the loss of step \d of epoch 1 is (nan|inf): .*images of that step: \d",
    ):
        curve(samples, None, config)


def test_a_photo_of_a_turned_camera_is_set_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_photo(str(tmp_path / "turned.jpg")).size == (20, 40)


SMALL_SHARED_MEMORY = """
import os, sys
from pathlib import Path
import numpy as np
from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.training.data import ViewBatchSampler, image_loader, plain_views
from tests.training.test_training import samples_of
os.cpu_count = lambda: 8
paths = sorted(Path(sys.argv[1]).glob("*.png")) * 10
samples = samples_of(paths, np.zeros((len(paths), 34), np.int8))
batches = ViewBatchSampler(plain_views(len(samples)), 16)
loader = image_loader(samples, get_backbone("efficientnet_lite0"), batches, print)
print(sum(len(images) for images, _ in loader), "images")
"""


def test_images_are_loaded_with_the_shared_memory_of_a_container(
    samples: Samples, tmp_path: Path
) -> None:
    """Docker gives a container 64 MB; eight workers would need twice that."""
    mount = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    namespace = ["unshare", "--mount", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*namespace, mount], capture_output=True, check=False).returncode
    ):
        pytest.skip("no mount namespace can be made here: a small /dev/shm is not tested")
    program = f'{mount} && exec "$0" "$@"'
    command = [*namespace, program, sys.executable, "-c", SMALL_SHARED_MEMORY, str(tmp_path)]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert result.returncode == 0, result.stderr
    note, images = result.stdout.splitlines()
    assert note.startswith("/dev/shm is small: 1 of 8 worker processes decode images")
    assert images == "120 images"
