"""Training of a job in this process, or with torchrun in several.

`TorchrunTraining` starts
`python -m torch.distributed.run --nproc-per-node N -m coconut_attr.training.launch FOLDER DEVICE`.
Rank 0 writes events to its standard output, a JSON list per line, and after each epoch does what
the parent asks on its standard input, so that no file is ahead of what the parent has stored.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch

from coconut_attr.errors import UserError
from coconut_attr.training import distributed
from coconut_attr.training.config import TrainingError
from coconut_attr.training.job import Job, Training
from coconut_attr.training.train import Epoch, OnStep

GRACE_SECONDS: Final = 20.0
NEXT: Final = "next"  # the command to train the next epoch


@contextmanager
def open_training(
    job: Job,
    device: torch.device,
    processes: int = 1,
    *,
    on_fill: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Iterator["Training | TorchrunTraining"]:
    """Yield a job's training: `epochs`, and `save_checkpoint` and `save_state` after each of them.

    Args:
        processes: number of training processes on this machine, each with a GPU if the device is
            one; fewer are used if a batch or a split has fewer images.
        on_fill, on_note: as `Training` takes them.

    Raises:
        TrainingError: as `Training`, or a process died; what the processes printed is in
            `torchrun.log` in the job's folder.
    """
    if processes == 1:
        yield Training(job, device, on_fill=on_fill, on_note=on_note)
        return
    most = max(1, min(job.config.batch_size, len(job.train), len(job.val)))
    if processes > most:
        on_note(
            f"{most} of {processes} processes train: each needs an image of every batch and of val"
        )
    training = TorchrunTraining(job, device, min(processes, most), on_fill, on_note)
    try:
        yield training
    finally:
        training.stop()


class TorchrunTraining:
    """The training of a job in several processes of this machine; used as `Training` is."""

    def __init__(
        self,
        job: Job,
        device: torch.device,
        processes: int,
        on_fill: Callable[[int, int], None],
        on_note: Callable[[str], None],
    ) -> None:
        job.save()
        self.handlers: dict[str, Callable[..., None]] = {"fill": on_fill, "note": on_note}
        self.log = job.folder / "torchrun.log"
        torchrun = ("torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
        module = ("coconut_attr.training.launch", str(job.folder), device.type)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *torchrun, "-m", *module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def epochs(self, on_step: OnStep = lambda epoch, step, steps: None) -> Iterator[Epoch]:
        """Yield each epoch's figures; the next epoch begins when the caller asks for it."""
        self.handlers["step"] = on_step
        while figures := self._read_until("epoch"):
            yield Epoch(**figures[0])
            self._send(NEXT)
        if code := self.process.wait():
            raise TrainingError(f"the training processes ended with code {code}; see {self.log}")

    def save_checkpoint(self) -> None:
        """Write the model after the last epoch, as `Training.save_checkpoint` does."""
        self._ask("save_checkpoint")

    def save_state(self) -> None:
        """Write the state after the last epoch, as `Training.save_state` does."""
        self._ask("save_state")

    def stop(self) -> None:
        """End the processes, if they have not ended."""
        self.process.terminate()
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _ask(self, command: str) -> None:
        self._send(command)
        if self._read_until("done") is None:
            code = self.process.wait()
            raise TrainingError(f"the training processes ended with code {code}; see {self.log}")

    def _send(self, command: str) -> None:
        with suppress(BrokenPipeError):  # they died: reading the next event says so
            print(command, file=self.process.stdin, flush=True)

    def _read_until(self, wanted: str) -> list[Any] | None:
        """Handle events up to a wanted one; return its arguments, or None at the end."""
        assert self.process.stdout
        for line in self.process.stdout:
            name, *arguments = json.loads(line)
            if name == wanted:
                return arguments
            if name == "error":
                raise TrainingError(*arguments)
            self.handlers[name](*arguments)
        return None


def main(folder: Path, device: torch.device) -> None:
    """Train in one of torchrun's processes.

    What libraries print to standard output, such as NCCL's log, goes to standard error.
    """
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(name: str, *arguments: object) -> None:
        print(json.dumps([name, *arguments]), file=events, flush=True)

    def send_from_rank_0(name: str) -> Callable[..., None]:
        return lambda *arguments: send(name, *arguments) if distributed.rank() == 0 else None

    try:
        with distributed.process_group(device) as own_device:
            training = Training(
                Job.load(folder),
                own_device,
                on_fill=send_from_rank_0("fill"),
                on_note=send_from_rank_0("note"),
            )
            for epoch in training.epochs(send_from_rank_0("step")):
                if distributed.rank() == 0:
                    send("epoch", asdict(epoch))
                    obey(training, send)
    except BaseException as error:
        try:
            traceback.print_exc()
            sys.stdout.flush()
            if isinstance(error, UserError):
                send("error", str(error))
        finally:
            # See `process_group`. torchrun then ends the others, which may wait for this one.
            os._exit(1)


def obey(training: Training, send: Callable[..., None]) -> None:
    """Execute the parent's commands, until it asks for the next epoch."""
    while command := sys.stdin.readline().strip():
        if command == NEXT:
            return
        getattr(training, command)()
        send("done")
    raise TrainingError("the process that started the training is gone")


if __name__ == "__main__":
    main(Path(sys.argv[1]), torch.device(sys.argv[2]))
