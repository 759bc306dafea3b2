"""When a failed task is tried again."""

from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import TaskRun
from prefect.states import State

from coconut_attr.errors import UnreachableError, UserError


def is_transient(_task: Task, _run: TaskRun, state: State) -> bool:
    """Return whether a failed task may succeed when tried again: not if the user has to act."""
    try:
        state.result()
    except UserError as error:
        return isinstance(error, UnreachableError)
    except Exception:  # the machine's, such as a full disk or a lost database connection
        return True
    return False


#: Retry options for idempotent tasks.
RETRY: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [5, 30, 120],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transient,
    "cache_policy": NO_CACHE,
}
