"""Measure training on one GPU: correctness, speed, memory, interruption, several processes.

    python benchmarks/gpu.py export DATA           # where the database of val5k is
    sh benchmarks/gpu.sh DATA OUT [--only PART]    # on the GPU machine; the table is OUT/gpu.md

The parts run one after the other, in the order of their worth. Each is a process of its own, so
that an error or a time limit ends only that part, and prints its rows as they come. ResNet50 has
random weights, which do not change speed and memory.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

from coconut_attr.model import predict
from coconut_attr.model.backbones.catalogue import get_backbone
from coconut_attr.model.checkpoint import load_checkpoint, save_checkpoint
from coconut_attr.model.network import AttributeModel
from coconut_attr.training import step as step_module
from coconut_attr.training.config import TrainConfig, profile
from coconut_attr.training.data import TrainViewSampler, ViewBatchSampler, image_loader, plain_views
from coconut_attr.training.features import BATCH, FeatureCache, feature_loader
from coconut_attr.training.job import Job
from coconut_attr.training.launch import open_training
from coconut_attr.training.step import Step
from coconut_attr.training.train import Trainer, seed_everything, train_one_epoch

ROOT = Path(__file__).resolve().parents[1]
LITE, RESNET = "efficientnet_lite0", "resnet50"
CPU = torch.device("cpu")
FIGURES = ("loss", "val_loss", "map")
Row = tuple[str, str]


@dataclass(frozen=True)
class Bench:
    """What the parts share: photos, folders, device, and the size of what is measured."""

    data: Path
    work: Path
    out: Path
    device: torch.device
    steps: int
    epochs: int
    batch: int

    def job(self, folder: str, run: int = 1, **changes: object) -> Job:
        """Return a job of the default profile on the exported photos."""
        exported = Job.load(self.data / "runs" / "0")
        train, val = (
            replace(samples, paths=[self.data / path for path in samples.paths])
            for samples in (exported.train, exported.val)
        )
        given = {"backbone": LITE, "epochs": self.epochs} | changes
        config = profile("default", **given)
        return Job(run, "val5k", config, train, val, self.work / folder)


def export(data: Path, train: int, val: int) -> None:
    """Write that many labelled photos of the splits of val5k, and their labels."""
    from flows.samples import load_samples

    (data / "photos").mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, count in (("train", train), ("val", val)):
        samples = load_samples("val5k", split)
        samples = samples.subset(range(min(count, len(samples))))
        for path in samples.paths:
            shutil.copyfile(path, data / "photos" / path.name)
        splits[split] = replace(samples, paths=[Path("photos", p.name) for p in samples.paths])
        print(split, len(samples), "photos,", (samples.labels >= 0).sum(), "known cells")
    Job(0, "val5k", profile("default", backbone=LITE), **splits, data_dir=data).save()


# --- what several parts use


def use_fp32() -> None:
    """Train and predict in fp32 from now on, without bf16 and TF32."""
    torch.backends.cudnn.allow_tf32 = False
    for module in (step_module, predict):
        module.autocast = lambda device: torch.autocast(device.type, enabled=False)


def make_model(name: str, device: torch.device) -> AttributeModel:
    seed_everything(0)
    model = AttributeModel(name, pretrained=name == LITE).to(device)
    return model.to(memory_format=torch.channels_last)


def run_steps(step: Step, batches: Iterable, fused: bool | None = None) -> float:
    """Train on the batches with AdamW; return the seconds."""
    trainable = [p for p in step.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-5, fused=fused)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    wait = torch.cuda.synchronize if step.device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    train_one_epoch(step, batches, optimizer, scheduler, 1, lambda *_: None)
    wait()
    return time.perf_counter() - started


def rates(cases: dict[str, tuple], images: int, passes: int = 3) -> dict[str, float]:
    """Return images per second of `run_steps` by case: medians, turn by turn, after a warm-up."""
    seconds = [{name: run_steps(*case) for name, case in cases.items()} for _ in range(passes + 1)]
    return {name: images / statistics.median(s[name] for s in seconds[1:]) for name in cases}


def peak_memory(device: torch.device) -> float:
    """Return the peak of the memory in MiB since the last call."""
    if device.type != "cuda":
        return 0
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return peak / 2**20


def start_training(job: Job, device: torch.device, kind: str) -> subprocess.Popen:
    """Start a process that trains a job, prints its steps and appends to its `curve.jsonl`."""
    job.save()
    command = [sys.executable, __file__, "train", "--device", device.type, "--precision", kind]
    command += ["--data", str(job.folder)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE)


def train(folder: Path, device: torch.device, kind: str) -> None:
    """Train a job, from its state if there is one."""
    if kind == "fp32":
        use_fp32()
    with open_training(Job.load(folder), device) as training:
        for epoch in training.epochs(lambda epoch, step, _: print("step", epoch, step, flush=True)):
            training.save_state()
            with (folder / "curve.jsonl").open("a") as file:
                print(json.dumps(epoch.figures()), file=file)


def curve(job: Job, process: subprocess.Popen) -> list[dict]:
    """Wait for the process that trains a job; return the figures of the job's epochs."""
    process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a training process ended with code {process.returncode}")
    return [json.loads(line) for line in (job.folder / "curve.jsonl").read_text().splitlines()]


def largest(one: list[dict], other: list[dict]) -> str:
    """Return the largest difference of two curves, by figure."""
    pairs = list(zip(one, other, strict=True))
    return ", ".join(f"{n} {max(abs(a[n] - b[n]) for a, b in pairs):.1e}" for n in FIGURES)


# --- the parts, in the order of their worth


def checks(bench: Bench) -> Iterator[Row]:
    """Compare the device with the CPU, micro-batches with batches, a checkpoint with its model."""
    job, device = bench.job("checks"), bench.device
    model, paths = make_model(LITE, device), job.val.paths[:16]
    expected = predict.predict_images(make_model(LITE, CPU), paths, CPU)
    size = min(64, len(job.train))
    batches = ViewBatchSampler(plain_views(size), size)
    images, labels = next(iter(image_loader(job.train, get_backbone(LITE), batches)))
    for kind in ("bf16", "fp32"):
        if kind == "fp32":
            use_fp32()
        error = abs(predict.predict_images(model, paths, device) - expected).max()
        yield f"{kind}: probabilities against the CPU's, largest difference", f"{error:.1e}"
        step, gradients = Step(model, job.config, device), []
        for part in (size, size, size // 2, 7):
            step.micro_batch = part
            model.zero_grad(set_to_none=True)
            seed_everything(1)  # the same mixup
            model.train()
            step(images, labels)
            parameters = [p for p in model.parameters() if p.requires_grad]
            gradients.append(torch.cat([p.grad.flatten() for p in parameters]))
            error = (gradients[-1] - gradients[0]).norm() / gradients[0].norm()
            if len(gradients) > 1:
                yield f"{kind}: gradients of {size} images, by {part}: error", f"{error:.1e}"
    path = bench.work / "checks.safetensors"
    save_checkpoint(path, model, run=1, dataset="val5k", epoch=1, thresholds=np.full(34, 0.5))
    error = abs(predict.predict_images(load_checkpoint(path).model, paths, CPU) - expected).max()
    yield "checkpoint read on the CPU: largest difference", f"{error:.1e}"


def speed(bench: Bench, name: str) -> Iterator[Row]:
    """Train from cached features and from images, against tensors on the device (the bound)."""
    device, cuda = bench.device, bench.device.type == "cuda"
    job = bench.job("", backbone=name, batch_size=bench.batch, views=2, epochs=4)
    # Photos over and over, so that an epoch is long enough to be timed.
    indices = np.resize(np.arange(len(job.train)), bench.batch * bench.steps)
    samples, model = job.train.subset(indices), make_model(name, device)
    cache = FeatureCache(bench.work / "features", model)
    features = cache.fill(job.train, job.config.view_numbers, device)
    peak_memory(device)
    trainer = Trainer(model, samples, job.val, job.config, device, features=cache)
    epochs = [epoch.images_per_second for epoch in trainer.epochs()]
    found = {"Trainer": statistics.median(epochs[1:])}
    yield "Trainer: peak memory", f"{peak_memory(device):.0f} MiB" if cuda else "needs cuda"
    views = TrainViewSampler(len(samples), job.config.views, seed=0)
    cached = feature_loader(samples, features, ViewBatchSampler(views, bench.batch))
    resident = [(predict.to_device(inputs, device), labels.to(device)) for inputs, labels in cached]
    step = Step(model, job.config, device, cached=True)
    cases = {"bound": (step, resident), "cached features": (step, cached)}
    fused = {"bound with AdamW(fused=True)": (step, resident, True)} if cuda else {}
    found |= rates(cases | fused, len(samples))
    for what, rate in found.items():
        yield f"{what}: images/s, of bound", f"{rate:.0f}, {rate / found['bound']:.2f}"
    few = samples.subset(range(max(1, len(samples) // 2)))
    batches = ViewBatchSampler(TrainViewSampler(len(few), job.config.views, seed=0), bench.batch)
    images = image_loader(few, get_backbone(name), batches)
    rate = rates({"": (Step(model, job.config, device), images)}, len(few), passes=1)[""]
    yield "images: images/s, of bound", f"{rate:.0f}, {rate / found['bound']:.2f}"
    if cuda:
        with torch.profiler.profile() as profiled:
            run_steps(step, cached)
        events = profiled.key_averages()
        host = events.table(sort_by="self_cpu_time_total", row_limit=40)
        (bench.out / f"host-{name}.txt").write_text(host)
        seconds = sum(event.self_device_time_total for event in events) / 1e6
        share = seconds * found["bound"] / len(samples)
        yield "share of the bound's time in which the GPU computes", f"{share:.2f}"
    for mode in ("default", "reduce-overhead") if cuda else ("default",):
        torch._dynamo.reset()
        step.forward = torch.compile(model, mode=mode)
        seconds = run_steps(step, resident[:2])
        for what, rate in rates(cases, len(samples)).items():
            yield f"{what}, torch.compile({mode})", f"{rate:.0f}, {rate / found['bound']:.2f}"
        yield f"first two steps, torch.compile({mode})", f"{seconds:.0f} s"


def prefix(bench: Bench) -> Iterator[Row]:
    """Fill the feature cache; decode alone."""
    train, views = bench.job("").train, range(8)
    for name in (LITE, RESNET):
        cache = FeatureCache(bench.work / "prefix", make_model(name, bench.device))
        batches = ViewBatchSampler(cache.missing(train, views), BATCH, split=False)
        times = [time.perf_counter()]
        cache.fill(train, views, bench.device)
        times.append(time.perf_counter())
        for _ in image_loader(train, get_backbone(name), batches):
            pass
        times.append(time.perf_counter())
        fill, decode = len(train) * len(views) / np.diff(times)
        yield f"{name}: views/s of fill, of decoding alone", f"{fill:.0f}, {decode:.0f}"
        yield f"{name}: size of a view's features", f"{cache.bytes_per_view / 1024:.1f} KiB"


def curves(bench: Bench) -> Iterator[Row]:
    """Train the default profile on the device in bf16 and fp32, and on the CPU, side by side."""
    jobs = {kind: bench.job(f"curve-{kind}") for kind in ("bf16", "fp32", "cpu")}
    running = {
        kind: start_training(job, *((CPU, "fp32") if kind == "cpu" else (bench.device, kind)))
        for kind, job in jobs.items()
    }
    found = {kind: curve(jobs[kind], process) for kind, process in running.items()}
    (bench.out / "curves.json").write_text(json.dumps(found))
    for number in sorted({1, 5, 10, bench.epochs} & set(range(bench.epochs + 1))):
        maps = ", ".join(f"{epochs[number - 1]['map']:.4f}" for epochs in found.values())
        yield f"epoch {number}: val mAP of {', '.join(found)}", maps
    for kind in ("fp32", "bf16"):
        yield f"{kind} against cpu: largest difference", largest(found[kind], found["cpu"])


def killed(bench: Bench) -> Iterator[Row]:
    """Kill a training process in the middle of an epoch, and resume its run in another."""
    epochs = min(10, bench.epochs)
    cut, uncut = (bench.job("killed", run, epochs=epochs) for run in (1, 2))
    process = start_training(cut, bench.device, "bf16")
    for line in process.stdout or ():
        if line.strip() == f"step {epochs // 2 + 1} 1":
            process.kill()
    stored = len(curve(cut, process))
    yield "killed: code, epochs stored", f"{process.returncode}, {stored} of {epochs}"
    other = start_training(uncut, bench.device, "bf16")
    resumed = curve(cut, start_training(cut, bench.device, "bf16"))
    yield "epochs of both processes", ", ".join(str(epoch["epoch"]) for epoch in resumed)
    yield "against an uninterrupted run: largest difference", largest(resumed, curve(uncut, other))


def out_of_memory(bench: Bench) -> Iterator[Row]:
    """Cap the device's memory, so that CUDA itself refuses the batches of train and val."""
    train, fraction = bench.job("").train, 1.0
    config = TrainConfig(RESNET, pretrained=False, epochs=2, batch_size=len(train), views=0)
    for what in ("uncapped", "capped"):
        notes: list[str] = []
        model = make_model(RESNET, bench.device)
        trainer = Trainer(model, train, train, config, bench.device, on_note=notes.append)
        torch.cuda.empty_cache()
        peak_memory(bench.device)
        torch.cuda.set_per_process_memory_fraction(fraction)
        losses = ", ".join(f"{e.loss:.4f} {e.val_loss:.4f}" for e in trainer.epochs())
        peak = peak_memory(bench.device)
        fraction = 0.7 * peak * 2**20 / torch.cuda.get_device_properties(bench.device).total_memory
        row = f"{peak:.0f}; {losses}; {' / '.join(notes) or '-'}"
        yield f"batch {len(train)}, {what}: peak MiB; loss and val loss; notes", row
        del model, trainer


def two_processes(bench: Bench) -> Iterator[Row]:
    """Train with two processes of torchrun on one GPU, against one."""
    found = []
    for processes in (1, 2):
        # Without mixup, because each process mixes its own share of a batch.
        job = bench.job(f"processes-{processes}", mixup=0.0, epochs=min(6, bench.epochs))
        started = time.monotonic()
        with open_training(job, bench.device, processes) as training:
            found.append([epoch.figures() for epoch in training.epochs()])
        rate = statistics.median(epoch["images_per_second"] for epoch in found[-1])
        row = f"{found[-1][-1]['map']:.4f}; {rate:.0f}; {time.monotonic() - started:.0f} s"
        yield f"{processes}: last val mAP; images/s; whole run", row
    yield "largest difference", largest(*found)


def tests(bench: Bench) -> Iterator[Row]:
    """Run the tests of training on the device, without those that start processes of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "benchmarks.gpu"]
    command += ["-p", "no:cacheprovider", "-n", "4", "tests/training/test_training.py"]
    command += ["-k", "not killed and not stored and not a_process and not processes"]
    env = os.environ | {"GPU_TESTS": bench.device.type}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    (bench.out / "pytest.txt").write_text(result.stdout + result.stderr)
    yield "tests/training/test_training.py", (result.stdout.splitlines() or ["see pytest.txt"])[-1]


def pytest_collection_modifyitems(items: list) -> None:
    """Move the tests to the device, in fp32: pytest loads this file as a plugin."""
    if device := os.environ.get("GPU_TESTS"):
        for module in {item.module for item in items}:
            module.CPU = torch.device(device)
        use_fp32()


NEED_CUDA = ("out of memory", "tests")
#: Parts in the order in which they run, each with its time limit in seconds.
PARTS: dict[str, tuple[Callable[[Bench], Iterator[Row]], int]] = {
    "checks": (checks, 80),
    f"speed {LITE}": (lambda bench: speed(bench, LITE), 150),
    f"speed {RESNET}": (lambda bench: speed(bench, RESNET), 150),
    "prefix": (prefix, 60),
    "curves": (curves, 100),
    "killed": (killed, 80),
    "out of memory": (out_of_memory, 60),
    "two processes": (two_processes, 100),
    "tests": (tests, 80),
}


def write_row(bench: Bench, part: str, what: str, value: str) -> None:
    line = "| " + " | ".join(text.replace("|", "/") for text in (part, what, value)) + " |"
    print(line, flush=True)
    with (bench.out / "gpu.md").open("a") as file:
        print(line, file=file)


def run_part(bench: Bench, part: str) -> None:
    """Run one part in this process; an error is a row too."""
    if part in NEED_CUDA and bench.device.type != "cuda":
        write_row(bench, part, "not run", "needs cuda")
        return
    try:
        for row in PARTS[part][0](bench):
            write_row(bench, part, *row)
    except Exception as error:
        traceback.print_exc()
        text = " ".join(f"{type(error).__name__}: {error}".split())
        write_row(bench, part, "**error**", text[:300])


def run_all(bench: Bench, parts: list[str], until: float, options: list[str]) -> None:
    """Run each part in a process of its own, as long as there is time."""
    job = bench.job("")
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "CPU"
    heading = f"{date.today()}: {name}, {os.cpu_count()} CPUs, torch {torch.__version__}, "
    heading += f"{len(job.train)} and {len(job.val)} photos of train and val"
    print(heading, flush=True)
    (bench.out / "gpu.md").write_text(f"{heading}\n\n| part | what | value |\n|-|-|-|\n")
    for part in parts:
        limit = min(PARTS[part][1], until - time.time())
        if limit < 10:
            write_row(bench, part, "not run", "no time left")
            continue
        started = time.monotonic()
        command = [sys.executable, __file__, "part", *options, "--only", part]
        with (bench.out / f"{part}.log").open("wb") as log:
            process = subprocess.Popen(command, stderr=log, start_new_session=True)
            try:
                code = process.wait(limit)
                ended = f"code {code}" if code else ""
            except subprocess.TimeoutExpired:
                ended = f"stopped at its limit of {limit:.0f} s"
            with suppress(ProcessLookupError):  # its children too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        write_row(bench, part, "seconds", f"{time.monotonic() - started:.0f} {ended}".strip())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["export", "all", "part", "train"])
    parser.add_argument("folder", nargs="?", type=Path, help="export: the folder to write")
    parser.add_argument("--train", type=int, default=192, help="export: photos of train")
    parser.add_argument("--val", type=int, default=47, help="export: photos of val")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--steps", type=int, default=120, help="steps of a timed epoch")
    parser.add_argument("--batch", type=int, default=16, help="images of a timed step")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--limit", type=float, default=540, help="seconds for all parts")
    parser.add_argument("--started", type=float, default=time.time(), help="the limit's begin")
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS))
    options = parser.parse_args()
    if options.action == "export":
        export(options.folder, options.train, options.val)
        return
    device = predict.choose_device(options.device)
    sizes = options.steps, options.epochs, options.batch
    bench = Bench(options.data, options.work, options.out, device, *sizes)
    if options.action == "train":
        train(options.data, device, options.precision)
    elif options.action == "part":
        run_part(bench, options.only[0])
    else:
        run_all(bench, options.only, options.started + options.limit, sys.argv[2:])


if __name__ == "__main__":
    main()
