"""Flow runs on other workers: started once per key, looked at all together, and closed when their process is gone.

A worker that is killed leaves its flow run "Running". The automation that `watch_for_lost_runs` keeps on the server
marks a run as crashed when no heartbeat came for `LOST_AFTER_S` seconds. It looks at runs with the tag `longmill`
alone, since others may send one every three minutes, which is Prefect's default; ours do so every 30 seconds
(prefect.yaml and `local_server`). The shards' own places in a run are closed with it. A server that is away for a while
(a restart, its database) is waited for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from uuid import UUID

import httpx
from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkerStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import TagsContext
from prefect.deployments import run_deployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Crashed

from infra.errors import RecipeError
from infra.running.prefect import TAG
from infra.running.server_away import when_server_answers

BEGIN_S = 600.0  # from a worker's taking of a run until it begins, where an image may have to be fetched
PROCESS_BEGIN_S = 120.0  # the same, where the worker starts a process
LOST_AFTER_S = 90  # without a heartbeat; a process sends one every 30 s
AUTOMATION = "longmill-lost-runs"
_WATCHED = {"prefect.resource.id": [f"prefect.tag.{TAG}"], "prefect.resource.role": ["tag"]}
_LOST_LOOKED_AT = 50  # of the runs that crashed last
_ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "Paused", "AwaitingRetry")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class RunState:
    """What the server says of a flow run. `lost`: its process or its worker has gone, and it can be run again."""

    name: str
    message: str
    is_final: bool
    is_lost: bool
    is_running: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    """Where the runs of a deployment go: its work pool, the workers that are online, and the most runs at once."""

    name: str
    workers: int
    most_runs: int
    type: str = "process"


def start_run(deployment: str, parameters: dict[str, Any], key: str, name: str) -> UUID:
    """Start a flow run, once per key, with the tags of the caller's. Raises RecipeError without such a deployment."""
    current_tags = TagsContext.get().current_tags
    try:
        return _run_once(deployment, parameters, key, flow_run_name=name, tags=current_tags).id
    except ObjectNotFound as error:
        raise _no_deployment(deployment) from error


def request_run(deployment: str, parameters: dict[str, Any], key: str) -> str | None:
    """Start a deployment's flow run, once per key, and do not wait for it.

    Returns the state of the run, new or old; None where there is no such deployment.
    """
    try:
        state = _run_once(deployment, parameters, key).state
    except ObjectNotFound:
        return None
    return state.name if state else "Unknown"


def _run_once(deployment: str, parameters: dict[str, Any], key: str, **settings: Any) -> FlowRun:
    """The one run of a key, new or old, without waiting for its end. Raises ObjectNotFound without a deployment."""

    def start() -> FlowRun:
        return run_deployment(  # type: ignore[return-value]  # a coroutine in asynchronous code alone
            deployment, parameters=parameters, idempotency_key=key, timeout=0, **settings
        )

    return when_server_answers(start)


def run_states(run_ids: Sequence[UUID]) -> dict[UUID, RunState]:
    """The states of flow runs; one that was deleted is lost.

    A run that a worker took and that does not begin is closed as crashed: its worker was killed in between, or the
    server was away. No heartbeat is missed there, as none has come.
    """

    def read() -> list[FlowRun]:
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(run_ids))))
            for run in runs:
                if run.state is not None and _does_not_begin(client, run, run.state):
                    message = f"a worker took it {_age_s(run.state):.0f} s ago, and it has not begun"
                    client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            _close_children(client, runs)
            return runs

    states = dict.fromkeys(run_ids, RunState("deleted", "its flow run was deleted", is_final=True, is_lost=True))
    for run in when_server_answers(read):
        if run.state is not None:
            lost = run.state.type == StateType.CRASHED
            ended, running = run.state.is_final(), run.state.is_running()
            states[run.id] = RunState(run.state.name or "", run.state.message or "", ended, lost, running)
    return states


def _does_not_begin(client: SyncPrefectClient, run: FlowRun, state: State) -> bool:
    """Whether a worker took a run so long ago that it must be dead."""
    if state.type != StateType.PENDING:
        return False
    age_s = _age_s(state)
    if age_s > BEGIN_S:
        return True
    if age_s <= PROCESS_BEGIN_S or run.work_pool_name is None:
        return False
    return client.read_work_pool(run.work_pool_name).type == "process"


def _close_children(client: SyncPrefectClient, runs: Sequence[FlowRun]) -> None:
    """Mark as crashed what still runs within runs that have crashed: its process is theirs."""
    crashed = [run.id for run in runs if run.state is not None and run.state.type == StateType.CRASHED]
    if not crashed:
        return
    running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
    within = FlowRunFilterParentFlowRunId(any_=crashed)
    for child in client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=within, state=running)):
        if child.deployment_id is None:  # else it has a process of its own
            client.set_flow_run_state(child.id, Crashed(message="the process of its run was lost"), force=True)


def _age_s(state: State) -> float:
    """Seconds since a run came into its state, by the clocks of the server and of this host."""
    return (datetime.now(UTC) - state.timestamp).total_seconds()


def cancel_runs(run_ids: Sequence[UUID]) -> None:
    """Ask for the end of flow runs that have not ended; a server that is away is not waited for."""
    from prefect.states import Cancelling

    with get_client(sync_client=True) as client:
        for run_id in run_ids:
            try:
                client.set_flow_run_state(run_id, Cancelling())
            except PrefectException:  # it has just ended
                continue
            except (httpx.HTTPError, OSError):
                return


def pool_of(deployment: str) -> Pool:
    """The pool of a deployment. Raises RecipeError where there is no such deployment.

    A worker for processes takes one run at a time (`--limit 1`), so there are as many as workers. Where each run gets a
    container, one worker starts many: the limit of the pool holds, without one a run for each worker.
    """

    def read() -> Pool:
        with get_client(sync_client=True) as client:
            name = client.read_deployment_by_name(deployment).work_pool_name
            if name is None:
                raise RecipeError(f"execution: the deployment {deployment!r} has no work pool; run `longmill deploy`")
            pool = client.read_work_pool(name)
            workers = client.read_workers_for_work_pool(name)
        online = sum(worker.status == WorkerStatus.ONLINE for worker in workers)
        limit = pool.concurrency_limit
        runs = online if pool.type == "process" or limit is None else limit
        return Pool(name, online, min(runs, limit) if limit else runs, pool.type)

    try:
        return when_server_answers(read)
    except ObjectNotFound as error:
        raise _no_deployment(deployment) from error


def watch_for_lost_runs() -> Literal["made", "changed", "left"]:
    """Have the server mark runs of killed processes as crashed. Returns what became of the automation.

    What still runs within those that have crashed is closed.
    """
    ended = {f"prefect.flow-run.{state}" for state in _ENDED}
    automation = AutomationCore(
        name=AUTOMATION,
        description="A flow run whose process or worker was killed: no heartbeat for 90 seconds.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ended},
            for_each={"prefect.resource.id"},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            match_related=_WATCHED,
            threshold=1,
            within=timedelta(seconds=LOST_AFTER_S),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"no sign of life for {LOST_AFTER_S} s")],
    )

    def create() -> Literal["made", "changed", "left"]:
        with get_client(sync_client=True) as client:
            outcome: Literal["made", "changed", "left"] = "left"
            there = client.read_automations_by_name(AUTOMATION)
            if not there:
                client.create_automation(automation)
                outcome = "made"
            elif not isinstance(there[0].trigger, EventTrigger) or TAG not in str(there[0].trigger.match_related):
                client.update_automation(there[0].id, automation)  # an earlier version watched the runs of all
                outcome = "changed"
            lost = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED]))
            _close_children(
                client,
                client.read_flow_runs(
                    flow_run_filter=FlowRunFilter(state=lost), sort=FlowRunSort.END_TIME_DESC, limit=_LOST_LOOKED_AT
                ),
            )
        return outcome

    return when_server_answers(create)


def _no_deployment(deployment: str) -> RecipeError:
    return RecipeError(f"execution: there is no deployment {deployment!r}; run `longmill deploy`")
