"""What Prefect does by itself: a flow run whose process has died is noticed, and run again.

Every flow goes on where it was interrupted: downloads and labels with those that are missing, training with its last
epoch.
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

#: Of every deployment, so that the automations leave alone what others run on the same server.
TAG: Final = "coconut-attr"
HEARTBEAT_SECONDS: Final = 30  #: the least that Prefect allows
ATTEMPTS: Final = 3
#: The worker tells of a death twice, the second time when it has imported the flow for its hooks; a run that is begun
#: again before that would be taken for dead, and begun a third time beside itself.
SETTLED: Final = timedelta(seconds=60)
#: In which the process of a run has begun: it imports torch first, from a slow disk perhaps.
BEGUN: Final = timedelta(minutes=10)
OVERDUE: Final = timedelta(
    minutes=5
)  #: after which the automation will not queue a crashed run any more
STALE: Final = timedelta(days=2)  #: after which a crashed run is not worth queueing
_GOES_ON: Final = "its process died: it goes on"
_HEARTBEAT: Final = "prefect.flow-run.heartbeat"


def _states(*names: str) -> set[str]:
    return {f"prefect.flow-run.{name}" for name in names}


def register(client: SyncPrefectClient) -> None:
    """Create or update the automations, and see to what a server that was away has forgotten."""
    present = {found.name: found for found in client.read_automations()}
    for automation in (_notice_dead_runs(), _run_again(), _begin_again()):
        found = present.get(automation.name)
        if found is None:
            client.create_automation(automation)
        elif (
            AutomationCore(**found.model_dump(exclude={"id"})) != automation
        ):  # an update forgets what it waits for
            client.update_automation(found.id, automation)
    see_to_forgotten(client)


def see_to_forgotten(client: SyncPrefectClient) -> list[UUID]:
    """See to the runs whose events a server that was away has forgotten or holds back.

    Returns:
        The runs that are queued again only now: crashed ones, and those that were taken and have not begun.
    """
    _watch_running(client)
    return _queue_again(client)


def _runs(
    client: SyncPrefectClient, state: StateType, ended: FlowRunFilterEndTime | None = None
) -> list[FlowRun]:
    """Our flow runs in a state, without those that are part of another."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[TAG]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state])),
            parent_task_run_id=FlowRunFilterParentTaskRunId(is_null_=True),
            end_time=ended,
        )
    )


def _watch_running(client: SyncPrefectClient) -> None:
    """Expect a heartbeat of every run that is said to go on."""
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
    """Queue the runs that the automations did not, by their rules; returns their ids."""
    now = datetime.now(UTC)
    pending = _runs(client, StateType.PENDING)
    crashed = _runs(
        client, StateType.CRASHED, FlowRunFilterEndTime(after_=now - STALE, before_=now - OVERDUE)
    )
    found = [run.id for run in crashed if 0 < run.run_count < ATTEMPTS]
    found += [run.id for run in pending if run.state and run.state.timestamp < now - BEGUN]
    for flow_run in found:
        client.set_flow_run_state(flow_run, Scheduled(message=_GOES_ON))
    return found


def _notice_dead_runs() -> AutomationCore:
    """Three heartbeats are missing: the worker is gone with its machine, and nobody else will tell."""
    return _automation(
        "notice dead runs",
        after={_HEARTBEAT},
        expect={_HEARTBEAT, *_states("Completed", "Failed", "Cancelled", "Crashed")},
        within=timedelta(seconds=3 * HEARTBEAT_SECONDS),
        action=ChangeFlowRunState(
            state=StateType.CRASHED, message="no heartbeat: its process has died"
        ),
    )


def _run_again() -> AutomationCore:
    """A run that had begun is put into the queue again; one that dies at each attempt stays `Crashed`."""
    return _automation(
        "run dead runs again",
        after=_states("Crashed"),
        expect=_states("Scheduled", "Pending", "Running", "Completed"),
        within=SETTLED,
        action=ChangeFlowRunState(state=StateType.SCHEDULED, message=_GOES_ON),
        run_counts=[str(attempt) for attempt in range(1, ATTEMPTS)],
    )


def _begin_again() -> AutomationCore:
    """A worker that dies between taking a run and the run's begin leaves it `Pending`, with its place in the pool."""
    return _automation(
        "begin runs again",
        after=_states("Pending"),
        expect=_states(
            "Running", "Scheduled", "Completed", "Failed", "Cancelling", "Cancelled", "Crashed"
        ),
        within=BEGUN,
        action=ChangeFlowRunState(
            state=StateType.SCHEDULED, message="its process did not begin: another will"
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
    """Acts on each of our flow runs of which, after one event, none of the expected ones has come in time.

    Args:
        run_counts: only for events that tell one of these (None: all).
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
