"""When a failed task is tried again."""

from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import TaskRun
from prefect.states import State

from coconut_attr.errors import UnreachableError, UserError


def may_pass(_task: Task, _run: TaskRun, state: State) -> bool:
    """Whether another attempt at a failed task may help: not where the user has to mend something."""
    try:
        state.result()
    except UserError as error:
        return isinstance(error, UnreachableError)
    except Exception:  # a fault of the machine: a full disk, a lost database connection
        return True
    return False


#: Options of a task that leaves the same behind when it is run again.
RETRY: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [5, 30, 120],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": may_pass,
    "cache_policy": NO_CACHE,
}
