"""Training, losses, evaluation and checkpoints."""

import math
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score

from coconut_attr.attributes import ATTRIBUTES, GROUPS
from coconut_attr.evaluation import retrieval
from coconut_attr.evaluation.scores import choose_thresholds, evaluate, mean_average_precision
from coconut_attr.files.images import ImageError
from coconut_attr.files.photos import read_photo
from coconut_attr.model.checkpoint import (
    CheckpointError,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from coconut_attr.model.network import AttributeModel, Output
from coconut_attr.model.predict import DeviceError, choose_device, predict_images
from coconut_attr.settings import Settings
from coconut_attr.training.config import TrainConfig, TrainingError, profile
from coconut_attr.training.data import PLAIN, Samples
from coconut_attr.training.features import FeatureCache
from coconut_attr.training.job import Job, Watcher, feature_store, run_in_processes, run_job
from coconut_attr.training.linear_probe import STRENGTHS, fit_probe
from coconut_attr.training.losses import contrastive, known_bce
from coconut_attr.training.state import restore
from coconut_attr.training.train import Epoch, fit
from tests.support.tiny_mirror import jpeg

CPU = torch.device("cpu")


def test_unknown_cells_count_for_nothing() -> None:
    logits = torch.tensor([[0.3, -2.0, 5.0]], requires_grad=True)
    loss = known_bce(logits, torch.tensor([[1, 0, -1]], dtype=torch.int8))
    expected = -(torch.tensor(0.3).sigmoid().log() + (1 - torch.tensor(-2.0).sigmoid()).log()) / 2
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad[0, 2] == 0
    assert known_bce(logits, torch.full((1, 3), -1)).item() == 0


def test_the_contrastive_loss_is_low_where_images_lie_at_their_attributes() -> None:
    labels = torch.tensor([[1, 0, -1], [0, 1, 0]], dtype=torch.int8)
    attribute = torch.eye(3)
    near = contrastive(Output(torch.zeros(2, 3), torch.eye(3)[:2], attribute), labels)
    far = contrastive(Output(torch.zeros(2, 3), torch.eye(3)[[1, 0]], attribute), labels)
    assert near < 0.01 < far
    assert (
        contrastive(
            Output(torch.zeros(2, 3), torch.eye(3)[:2], attribute), torch.zeros(2, 3)
        ).item()
        == 0
    )


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """Twelve dark or bright pictures, labelled `bright` by what they are; every other attribute is unknown."""

    paths, labels = [], np.full((12, 34), -1, dtype=np.int8)
    for k in range(12):
        path = tmp_path / f"{k}.png"
        Image.new("RGB", (32, 32), (230, 230, 230) if k % 2 else (20, 20, 20)).save(path)
        paths.append(path)
        labels[k, ATTRIBUTES.index("bright")] = k % 2
    return Samples.of_files(paths, labels)


def test_training_learns_and_leaves_the_frozen_part_alone(samples: Samples) -> None:
    config = TrainConfig(backbone="efficientnet_lite0", epochs=3, batch_size=4, learning_rate=1e-3)
    model = AttributeModel(config.backbone)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    statistics = model.encoder._bn0.running_mean.clone()
    epochs: list[Epoch] = []
    fit(
        model, samples, samples, config, CPU,
        on_epoch=lambda epoch, _model: epochs.append(epoch),
        mean_average_precision=mean_average_precision,
    )  # fmt: skip
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
    curves = []
    for _ in range(2):
        config = TrainConfig(backbone="efficientnet_lite0", epochs=1, batch_size=4, seed=3)
        torch.manual_seed(3)
        fit(AttributeModel(config.backbone), samples, samples, config, CPU,
            on_epoch=lambda epoch, _model: curves.append((epoch.loss, epoch.val_loss)))  # fmt: skip
    assert curves[0] == curves[1]


def test_training_without_labels_is_refused(samples: Samples) -> None:
    unknown = Samples.of_files(samples.paths, np.full_like(samples.labels, -1))
    model = AttributeModel("efficientnet_lite0", pretrained=False)
    for train, val, name in (
        (unknown, samples, "train"),
        (samples, unknown, "val"),
        (Samples([], samples.labels[:0], []), samples, "train"),
    ):
        with pytest.raises(
            TrainingError, match=f"the {name} split has no image with a known label"
        ):
            fit(
                model,
                train,
                val,
                TrainConfig(backbone="efficientnet_lite0"),
                CPU,
                on_epoch=lambda *_: None,
            )


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


def random_case(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.integers(-1, 2, (n, 34)).astype(np.int8), rng.random((n, 34))


def test_scores_skip_unknown_cells_and_stand_beside_their_baselines() -> None:
    labels, scores = random_case()
    result = evaluate(labels, scores, labels, probe=scores, resamples=20)
    known = labels >= 0
    overall = result.overall
    assert overall["accuracy"].n == known.sum()
    assert overall["accuracy"].value == pytest.approx(((scores >= 0.5) == labels)[known].mean())
    assert overall["all_absent_accuracy"].value == pytest.approx((labels[known] == 0).mean())
    constant = mean_average_precision(labels, np.full(labels.shape, 0.5))
    assert overall["prior_map"].value == pytest.approx(constant)
    for score in overall.values():
        assert score.low <= score.value <= score.high
    changed = np.where(known, scores, 1 - scores)  # what is said of unknown cells must not matter
    assert evaluate(labels, changed, labels, probe=changed, resamples=20) == result
    assert overall["map_over_probe"].value == 0
    micro = average_precision_score(labels[known], scores[known])
    assert overall["map_micro"].value == pytest.approx(micro)
    assert (
        overall["map color"].n
        == known[:, [ATTRIBUTES.index(name) for name in GROUPS["color"]]].sum()
    )


def test_thresholds_are_those_of_the_best_f1() -> None:
    labels, scores = random_case()
    labels[:, 3] = 1  # never absent
    thresholds = choose_thresholds(labels, scores)
    assert thresholds[3] == 0.5
    known = labels[:, 0] >= 0
    best = f1_score(labels[known, 0], scores[known, 0] >= thresholds[0])
    assert best == max(f1_score(labels[known, 0], scores[known, 0] >= t) for t in scores[known, 0])
    result = evaluate(labels, scores, labels, thresholds=thresholds, resamples=5)
    first = result.attributes[0]
    assert first.f1.value == pytest.approx(best)
    balanced = balanced_accuracy_score(labels[known, 0], scores[known, 0] >= thresholds[0])
    assert first.balanced_accuracy.value == pytest.approx(balanced)
    for score in (first.precision, first.recall, first.f1, first.balanced_accuracy, first.ece):
        assert score.low <= score.value <= score.high
    assert first.f1.low < first.f1.high


def test_the_linear_probe_learns_and_its_strength_is_chosen_on_val() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 8))
    labels = np.full((120, 34), -1, dtype=np.int8)
    labels[:, 0] = features[:, 0] > 0
    labels[:, 1] = 1
    probe = fit_probe((features[:80], labels[:80]), (features[80:], labels[80:]))
    scores = probe.predict(features)
    assert probe.c in STRENGTHS
    assert mean_average_precision(labels, scores) > 0.95
    assert (scores[:, 1] == 1).all()  # training knows one state alone
    assert (scores[:, 2] == 0).all()  # training knows nothing


def test_images_are_found_by_their_attributes() -> None:
    labels = np.full((3, 34), -1, dtype=np.int8)
    labels[0, :2], labels[1, 1:3] = 1, 1  # the third image has no attribute to ask for
    asked, images = retrieval.queries(labels)
    assert images.tolist() == [0, 1]
    attribute = np.eye(34)
    image = (labels == 1) / np.sqrt(2)
    found = retrieval.retrieval(retrieval.embedding_scores(image, attribute, asked), images)
    assert (found.recall[1], found.median_rank, found.queries) == (1.0, 1.0, 2)
    constant = retrieval.retrieval(retrieval.product_scores(np.full((3, 34), 0.5), asked), images)
    assert constant.median_rank == retrieval.chance(3, 2).median_rank == 2


def curve(
    samples: Samples, folder: Path | None, config: TrainConfig, **options
) -> list[tuple[float, float]]:
    torch.manual_seed(0)
    model = AttributeModel(config.backbone)
    store = FeatureCache(folder, model) if folder else None
    epochs: list[tuple[float, float]] = []
    fit(model, samples, samples, config, CPU, features=store,
        on_epoch=lambda epoch, _model: epochs.append((epoch.loss, epoch.val_loss)), **options)  # fmt: skip
    return epochs


def test_stored_features_give_the_curve_of_the_images(samples: Samples, tmp_path: Path) -> None:
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
    model = AttributeModel(config.backbone)
    stored = FeatureCache(tmp_path / "features", model).fill(samples, [0, 1, PLAIN], CPU)
    before = np.frombuffer(values, np.float16).reshape(stored.values.shape)
    assert len(stored.rows) == 6
    for row, line in enumerate(lines):
        key, view = line.split()
        np.testing.assert_allclose(
            stored.values[stored.rows[key, int(view)]], before[row], atol=0.02
        )


@pytest.fixture
def full_disk() -> Iterator[Callable[[], None]]:
    """Has no file grow any more, from when it is called to the end of the test."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("end", ["", "0123"], ids=["whole", "cut off"])
def test_a_full_disk_costs_no_stored_features(
    samples: Samples, tmp_path: Path, full_disk: Callable[[], None], end: str
) -> None:
    store = FeatureCache(tmp_path, AttributeModel("efficientnet_lite0"))
    before = store.fill(samples, [PLAIN], CPU).rows
    with (store.folder / "rows.txt").open("a") as rows:
        rows.write(end)
    full_disk()
    with pytest.raises(OSError, match="too large"):
        store.fill(samples, [0], CPU)
    assert store.open().rows == before


RESUME = """
import sys, torch, numpy as np
from pathlib import Path
from tests.training.test_training import CPU, curve_config, curve
from coconut_attr.training.data import Samples
folder = Path(sys.argv[1])
labels = np.load(folder / "labels.npy")
samples = Samples.of_files(sorted(folder.glob("*.png"), key=lambda path: int(path.stem)), labels)
def report(epoch, step, steps):
    if step == steps:
        print("epoch", epoch, flush=True)
curve(samples, None, curve_config(), state=folder / "state.pt", on_step=report)
"""


def curve_config() -> TrainConfig:
    return TrainConfig(backbone="efficientnet_lite0", epochs=6, batch_size=4, views=2, mixup=0.4)


def test_a_killed_run_goes_on_with_the_same_curve(samples: Samples, tmp_path: Path) -> None:
    whole = curve(samples, None, curve_config())
    np.save(tmp_path / "labels.npy", samples.labels)
    process = subprocess.Popen(
        [sys.executable, "-c", RESUME, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    for line in process.stdout:
        if (
            line == "epoch 4\n"
        ):  # the state of epoch 3 is there; that of epoch 4 may be being written
            process.kill()
    assert process.wait() == -signal.SIGKILL
    rest = curve(samples, None, curve_config(), state=tmp_path / "state.pt")
    assert len(rest) in (2, 3)
    assert rest == pytest.approx(np.array(whole[-len(rest) :]), rel=1e-5)
    other = replace(curve_config(), epochs=7)
    with pytest.raises(TrainingError, match="other settings; delete it"):
        curve(samples, None, other, state=tmp_path / "state.pt")
    (tmp_path / "state.pt").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="cannot be gone on with"):
        curve(samples, None, curve_config(), state=tmp_path / "state.pt")


def test_a_batch_that_memory_does_not_hold_goes_through_in_parts(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(curve_config(), epochs=2)
    whole = curve(samples, None, config)
    forward, sizes, notes = AttributeModel.forward, [], []

    def limited(model: AttributeModel, inputs: torch.Tensor, **options) -> Output:
        if model.training:
            sizes.append(len(inputs))
            if len(inputs) > limit:
                raise torch.OutOfMemoryError("made up")
        return forward(model, inputs, **options)

    monkeypatch.setattr(AttributeModel, "forward", limited)
    limit = 1
    assert curve(samples, None, config, on_note=notes.append) == pytest.approx(
        np.array(whole), rel=1e-4
    )
    assert sizes == [4, 2] + [1] * 24
    assert "parts of 2" in notes[0]
    assert "parts of 1" in notes[1]
    limit = 0
    with pytest.raises(TrainingError, match="choose a smaller batch_size"):
        curve(samples, None, config)


def made_job(samples: Samples, data_dir: Path) -> Job:
    config = replace(
        curve_config(), epochs=3, seed=4, mixup=0.0
    )  # each process mixes its own share
    return Job(9, "val5k", config, samples, samples.first(9), data_dir)


def job_curve(
    samples: Samples, data_dir: Path, run: Callable[..., None], *arguments: object
) -> list[dict]:
    """The epochs of a job, which is run by a function that takes it, the device, a watcher and these arguments."""
    epochs: list[dict] = []
    job = made_job(samples, data_dir)
    run(
        job,
        CPU,
        Watcher(epoch=lambda figures, best: epochs.append(figures | {"best": best})),
        *arguments,
    )
    assert load_checkpoint(job.checkpoint).epoch == max(
        epoch["epoch"] for epoch in epochs if epoch["best"]
    )
    return epochs


@pytest.fixture
def at_startup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has each of the processes of a training run begin with some code."""

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


def test_two_processes_train_as_one_does(
    samples: Samples,
    tmp_path: Path,
    at_startup: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_startup(SECOND_FINDS_THE_DISK_FULL)  # the first one decides
    monkeypatch.setenv(
        "ONEDNN_VERBOSE", "1"
    )  # prints to standard output, as NCCL does at NCCL_DEBUG=INFO
    one = job_curve(samples, tmp_path / "one", run_job)
    two = job_curve(samples, tmp_path / "two", run_in_processes, 2)
    assert [epoch["epoch"] for epoch in two] == [1, 2, 3]
    for name in ("loss", "val_loss", "accuracy"):
        assert [e[name] for e in two] == pytest.approx([e[name] for e in one], rel=0.02)
    assert "onednn_verbose" in (tmp_path / "two" / "runs" / "9" / "torchrun.log").read_text()


def test_processes_are_no_more_than_the_images_of_a_split(samples: Samples, tmp_path: Path) -> None:
    job = made_job(samples, tmp_path)
    job = replace(job, val=samples.first(2), config=replace(job.config, epochs=1))
    notes, epochs, files = [], [], []

    def look() -> None:
        time.sleep(1)  # in which a process that did not wait would write them
        files.append((job.checkpoint.is_file(), job.state.is_file()))

    def on_epoch(figures: dict, _best: bool) -> None:
        epochs.append(figures)
        look()

    run_in_processes(job, CPU, Watcher(claim=look, note=notes.append, epoch=on_epoch), 3)
    assert notes == ["2 of 3 processes train: each needs an image of every batch and of val"]
    assert [epoch["decisions"] for epoch in epochs] == [2]
    assert files == [(False, False), (True, False)], (
        "no file is ahead of what the parent has stored"
    )
    assert job.state.is_file()


def test_only_features_that_are_missing_need_room(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = made_job(samples, tmp_path)
    model = AttributeModel(job.config.backbone)
    notes: list[str] = []
    features = feature_store(job, model, Watcher(note=notes.append))
    features.fill(job.train, job.config.view_numbers, CPU)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=0))
    assert feature_store(job, model, Watcher(note=notes.append)) is None
    assert [note.split(":")[0] for note in notes] == ["features are not kept"]
    features.fill(job.val, [PLAIN], CPU)
    assert feature_store(job, model, Watcher(note=notes.append))
    assert len(notes) == 1


#: With NCCL the end of a process group waits for all processes.
TEARDOWN_IS_SEEN = """
from torch import distributed
distributed.destroy_process_group = lambda: os.write(2, b"torn down")
"""


def test_an_error_in_a_process_is_told(
    samples: Samples, tmp_path: Path, at_startup: Callable[[str], None]
) -> None:
    at_startup(TEARDOWN_IS_SEEN)
    nothing = Samples(samples.paths, np.full_like(samples.labels, -1), samples.hashes)
    with pytest.raises(TrainingError, match="the train split has no image with a known label"):
        job_curve(nothing, tmp_path / "unlabelled", run_in_processes, 2)
    for path in samples.paths:
        path.unlink()
    with pytest.raises(
        TrainingError, match=r"the training processes ended with code 1; see .*torchrun\.log"
    ):
        job_curve(samples, tmp_path, run_in_processes, 2)
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


def test_a_perfect_model_scores_one_and_an_undefined_score_is_nan() -> None:
    labels, _ = random_case()
    labels[:, 3] = -1  # never known
    labels[:, 4] = np.where(labels[:, 4] == 0, 1, labels[:, 4])  # never absent
    result = evaluate(labels, (labels == 1).astype(float), labels, resamples=20)
    assert result.overall["map"].value == 1
    assert result.overall["accuracy"].value == 1
    unknown, present = result.attributes[3], result.attributes[4]
    assert unknown.n == 0
    assert math.isnan(unknown.accuracy.value)
    assert math.isnan(present.ap.value)
    assert present.accuracy.value == 1


def test_the_prior_is_counted_on_the_training_labels() -> None:
    labels = np.zeros((10, 34), dtype=np.int8)
    result = evaluate(labels, np.zeros((10, 34)), np.ones((5, 34), dtype=np.int8))
    assert result.overall["prior_accuracy"].value == 0
    assert result.overall["all_absent_accuracy"].value == 1


def test_a_checkpoint_predicts_as_the_model_did(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AttributeModel("efficientnet_lite0").eval()
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
    with pytest.raises(TrainingError, match="cannot be gone on with"):
        restore(tmp_path / "state.pt", {}, TrainConfig(), CPU)
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


def test_a_device_that_is_not_there_is_told() -> None:
    assert choose_device("cpu") == CPU
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="cuda is not available"):
            choose_device("cuda")


def test_a_photo_of_a_turned_camera_is_set_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_photo(str(tmp_path / "turned.jpg")).size == (20, 40)
