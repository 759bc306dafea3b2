"""Prefect automations that notice a flow run whose process died, and run it again.

Every flow resumes where it was interrupted: downloads and labels with the missing images, training
after its last epoch.
"""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterParentTaskRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events import emit_event
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import (
    AutomationCore,
    EventTrigger,
    Posture,
    ResourceSpecification,
)
from prefect.states import Scheduled

#: The tag of every deployment. Automations act on it alone: the server may have others' flows.
TAG: Final = "coconut-attr"
HEARTBEAT_SECONDS: Final = 30  #: the minimum that Prefect allows
#: A run is dead after three missing heartbeats.
SILENCE: Final = timedelta(seconds=3 * HEARTBEAT_SECONDS)
ATTEMPTS: Final = 3
#: Prefect's worker reports a crash twice, the second time after importing the flow for its hooks.
#: A run rescheduled in between would be seen as crashed again and started a third time.
RESTART_DELAY: Final = timedelta(seconds=60)
#: The time that a run's process has to start: it imports torch, perhaps from a slow disk.
START_LIMIT: Final = timedelta(minutes=10)
#: The automation queues a crashed run within this time, or a server that was away forgot it.
FORGOTTEN: Final = timedelta(minutes=5)
STALE: Final = timedelta(days=2)  #: older crashed runs are not queued again
_RESUMES: Final = "its process died: it resumes"
_HEARTBEAT: Final = "prefect.flow-run.heartbeat"


def _states(*names: str) -> set[str]:
    return {f"prefect.flow-run.{name}" for name in names}


def register(client: SyncPrefectClient) -> None:
    """Create or update the automations, and recover the runs that the server has forgotten."""
    registered = {automation.name: automation for automation in client.read_automations()}
    for automation in (_notice_dead_runs(), _run_again(), _start_again()):
        present = registered.get(automation.name)
        if present is None:
            client.create_automation(automation)
        # An update makes the server forget the events that it waits for.
        elif AutomationCore(**present.model_dump(exclude={"id"})) != automation:
            client.update_automation(present.id, automation)
    recover_runs(client)


def recover_runs(client: SyncPrefectClient) -> list[UUID]:
    """Watch and queue the runs that automations missed, because the server was away.

    Returns:
        The runs queued by this call: crashed ones, and those taken by a worker and never started.
    """
    _watch_running(client)
    return _queue_again(client)


def queue_stopped(client: SyncPrefectClient) -> list[str]:
    """Queue the flow runs again whose workers have all been stopped; return their names.

    A server that starts anew would notice them, but only after a quarter of an hour.
    """
    stopped = _runs(client, StateType.RUNNING) + _runs(client, StateType.PENDING)
    for run in stopped:
        message = "its worker was stopped: it resumes"
        client.set_flow_run_state(run.id, Scheduled(message=message), force=True)
    return [run.name for run in stopped]


def _runs(
    client: SyncPrefectClient, state: StateType, ended: FlowRunFilterEndTime | None = None
) -> list[FlowRun]:
    """Return our flow runs in a state, without subflows."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[TAG]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state])),
            parent_task_run_id=FlowRunFilterParentTaskRunId(is_null_=True),
            end_time=ended,
        )
    )


def _watch_running(client: SyncPrefectClient) -> None:
    """Emit a heartbeat of every run in state Running, so that the next ones are expected."""
    for run in _runs(client, StateType.RUNNING):
        emit_event(
            _HEARTBEAT,
            resource={
                "prefect.resource.id": f"prefect.flow-run.{run.id}",
                "prefect.resource.name": run.name,
            },
            related=[{"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}],
        )


def _queue_again(client: SyncPrefectClient) -> list[UUID]:
    """Queue the runs that the automations missed, by the same rules; return their ids."""
    now = datetime.now(UTC)
    pending = _runs(client, StateType.PENDING)
    crashed = _runs(
        client, StateType.CRASHED, FlowRunFilterEndTime(after_=now - STALE, before_=now - FORGOTTEN)
    )
    queued = [run.id for run in crashed if 0 < run.run_count < ATTEMPTS]
    queued += [run.id for run in pending if run.state and run.state.timestamp < now - START_LIMIT]
    for flow_run in queued:
        client.set_flow_run_state(flow_run, Scheduled(message=_RESUMES))
    return queued


def _notice_dead_runs() -> AutomationCore:
    """Mark a silent run as Crashed: its worker, which would report it, may be dead as well."""
    return _automation(
        "notice dead runs",
        after={_HEARTBEAT},
        expect={_HEARTBEAT, *_states("Completed", "Failed", "Cancelled", "Crashed")},
        within=SILENCE,
        action=ChangeFlowRunState(
            state=StateType.CRASHED, message="no heartbeat: its process has died"
        ),
    )


def _run_again() -> AutomationCore:
    """Queue a crashed run again, unless it never started or has used all its attempts."""
    return _automation(
        "run dead runs again",
        after=_states("Crashed"),
        expect=_states("Scheduled", "Pending", "Running", "Completed"),
        within=RESTART_DELAY,
        action=ChangeFlowRunState(state=StateType.SCHEDULED, message=_RESUMES),
        run_counts=[str(attempt) for attempt in range(1, ATTEMPTS)],
    )


def _start_again() -> AutomationCore:
    """Queue a run that stays Pending: its worker died before starting it, so it blocks the pool."""
    return _automation(
        "begin runs again",
        after=_states("Pending"),
        expect=_states(
            "Running", "Scheduled", "Completed", "Failed", "Cancelling", "Cancelled", "Crashed"
        ),
        within=START_LIMIT,
        action=ChangeFlowRunState(
            state=StateType.SCHEDULED, message="its process did not start: another will"
        ),
    )


def _automation(
    name: str,
    *,
    after: set[str],
    expect: set[str],
    within: timedelta,
    action: ChangeFlowRunState,
    run_counts: list[str] | None = None,
) -> AutomationCore:
    """Return an automation for our flow runs.

    Args:
        after: the events that start the clock of a run.
        expect: the events that stop it.
        within: the time after which the action is taken.
        run_counts: act only on events with one of these run counts (None: all).
    """
    match: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.flow-run.*"}
    if run_counts is not None:
        match["prefect.run-count"] = run_counts
    return AutomationCore(
        name=f"coconut-attr: {name}",
        trigger=EventTrigger(
            after=after,
            expect=expect,
            match=ResourceSpecification(match),
            match_related=ResourceSpecification({"prefect.resource.id": f"prefect.tag.{TAG}"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[action],
    )
