"""The processes of a training run (torchrun's): who this one is among them, and what they tell each other."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import distributed


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    """How many processes train together; 1 outside torchrun."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@cache
def _patient() -> Any:
    """All processes, for what may have them wait for hours: that the first one stores features, or another training."""
    return distributed.new_group(backend="gloo", timeout=timedelta(days=1))


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started; gives the device of this one.

    After an error the group stays: its end may wait for processes that wait for this one's gradients, so that this one
    has to be ended at once, by `os._exit`.
    """
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    # The first one waits for its parent, which may wait for minutes for a database or an image store that is away.
    distributed.init_process_group(backend, timeout=timedelta(hours=1))
    _patient()
    yield device
    distributed.destroy_process_group()


def barrier() -> None:
    """Wait until all processes have come here."""
    if count() > 1:
        distributed.barrier(_patient())


def broadcast(value: Any) -> Any:
    """What the first process has for a value, in all of them."""
    if count() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, group=_patient())
    return values[0]


def mean(values: torch.Tensor) -> torch.Tensor:
    """The mean over the processes of a tensor that each of them has."""
    if count() > 1:
        distributed.all_reduce(values)
        values = values / count()
    return values


def shard(items: Sequence[Any]) -> list[Any]:
    """This process's part of some items: every so manieth of them."""
    return list(items[rank() :: count()])


def gather(part: torch.Tensor) -> torch.Tensor:
    """What all processes have for their `shard` of some items, on the CPU: rows in the order of the items."""
    if count() == 1:
        return part
    parts: list[Any] = [None] * count()
    distributed.all_gather_object(parts, part)
    rows = part.new_empty(sum(len(p) for p in parts), *part.shape[1:])
    for number, p in enumerate(parts):
        rows[number :: count()] = p
    return rows
