"""Communication between the processes of a training run that torchrun started.

Without torchrun there is one process, and the functions return at once.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import distributed


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@cache
def _patient_group() -> Any:
    """Return a group of all processes for waits of hours, such as for rank 0's features."""
    return distributed.new_group(backend="gloo", timeout=timedelta(days=1))


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started; yield this one's device. Processes may share a GPU.

    After an error the group is not destroyed: that may wait for processes that wait for this one's
    gradients. End the process with `os._exit`.
    """
    backend = "gloo"
    if device.type == "cuda":
        gpus = torch.cuda.device_count()
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % gpus)
        torch.cuda.set_device(device)
        if int(os.environ["LOCAL_WORLD_SIZE"]) <= gpus:  # NCCL refuses two processes on one GPU
            backend = "nccl"
    # Rank 0 waits for its parent, and that perhaps for minutes for a database that is away.
    distributed.init_process_group(backend, timeout=timedelta(hours=1))
    _patient_group()
    yield device
    distributed.destroy_process_group()


def barrier() -> None:
    """Wait until all processes have called this."""
    if world_size() > 1:
        distributed.barrier(_patient_group())


def broadcast(value: Any) -> Any:
    """Return rank 0's value on every rank."""
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, group=_patient_group())
    return values[0]


def mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean over all ranks of a tensor that each of them has."""
    if world_size() > 1:
        distributed.all_reduce(values)
        values = values / world_size()
    return values


def shard(items: Sequence[Any]) -> list[Any]:
    """Return every world_size-th item, starting at this rank."""
    return list(items[rank() :: world_size()])


def gather(part: torch.Tensor) -> torch.Tensor:
    """Return the rows that all ranks computed for their `shard` of some items, in their order.

    Args:
        part: this rank's rows, on the CPU.
    """
    if world_size() == 1:
        return part
    parts: list[Any] = [None] * world_size()
    distributed.all_gather_object(parts, part)
    rows = part.new_empty(sum(len(p) for p in parts), *part.shape[1:])
    for first, p in enumerate(parts):
        rows[first :: world_size()] = p
    return rows
