"""Run a task on shards of a dataset's images, in threads of this process or on Dask workers.

Prefect also has a runner for Ray. Tasks take ids and return a number, so Ray's object store would
stay empty; and Dask's wheels are 3 MB of Python, while Ray's is 79 MB of servers in C++.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

from prefect import Task
from prefect.futures import as_completed
from prefect.logging import get_run_logger
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from coconut_attr.errors import UserError
from coconut_attr.settings import settings
from flows.database import engine
from flows.progress import Progress

THREADS = 2  # SQLite lets one write at a time, so more would only wait
CONNECT_SECONDS = 10


class DaskError(UserError):
    """A Dask scheduler that cannot be used or was lost; the message says why and what to do."""


def over_shards(
    task: Task[..., int], image_ids: Sequence[int], progress: Progress, **parameters: Any
) -> int:
    """Run a task on every shard of the images, and return the sum of its results.

    Dask gives the shard of a dead worker to another, so the task must be idempotent.

    Args:
        task: takes a shard as its parameter `image_ids`.
        parameters: the task's other parameters.

    Raises:
        DaskError: `COCONUT_ATTR_DASK` is set and cannot be used.
    """
    size = settings().shard_size
    total = 0
    with task_runner(task) as runner:
        shards = {}
        for start in range(0, len(image_ids), size):
            shard = image_ids[start : start + size]
            shards[runner.submit(task, {**parameters, "image_ids": shard})] = len(shard)
        for future in as_completed(list(shards)):
            try:
                total += future.result()
            except CancelledError as error:
                raise DaskError(
                    f"the Dask scheduler at {settings().dask} was lost: start it and its workers "
                    "again, then the flow, which resumes with the missing images"
                ) from error
            progress.advance(shards[future])
    return total


def task_runner(task: Task[..., Any]) -> TaskRunner[Any]:
    """Return the task runner of the settings: threads, or the Dask scheduler.

    Raises:
        DaskError: as `over_shards`.
    """
    address = settings().dask
    if not address:
        return ThreadPoolTaskRunner(max_workers=THREADS)
    if engine().dialect.name == "sqlite":
        raise DaskError(
            "Dask's workers cannot write to a SQLite file, which is on one machine: set "
            "COCONUT_ATTR_DATABASE_URL to a PostgreSQL on all machines (coconut-attr db copy fills "
            "it), or unset COCONUT_ATTR_DASK"
        )
    try:
        from cloudpickle import register_pickle_by_value
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise DaskError(
            "COCONUT_ATTR_DASK needs prefect-dask: pip install -c constraints.txt -e '.[dask]'"
        ) from error
    # A deployment loads the flow's file by path, as a module that Dask's workers cannot import.
    if "." not in task.fn.__module__:
        register_pickle_by_value(sys.modules[task.fn.__module__])
    runner = DaskTaskRunner(address=address, client_kwargs={"timeout": CONNECT_SECONDS})
    try:
        workers = runner.client.scheduler_info()["workers"]
    except (OSError, ValueError) as error:
        raise DaskError(
            f"no Dask scheduler answers at {address} (COCONUT_ATTR_DASK), such as tcp://host:8786: "
            f"{error}; start it with: dask scheduler"
        ) from error
    if not workers:
        get_run_logger().warning(
            "no worker has joined %s yet; start some: dask worker %s", address, address
        )
    return runner
