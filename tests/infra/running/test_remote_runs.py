"""Runs on workers, as the Prefect server sees them: the automation for lost runs, pools, and a server that is away."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from infra.errors import PrerequisiteError, RecipeError


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from infra.running import server_away

    monkeypatch.setattr(server_away, "_POLL_S", 0.0)
    yield


def failing(times: int, value: Any) -> Callable[..., Any]:
    """Refuses the connection so many times, then gives the value."""
    left = [times]

    def answer(*_: Any, **__: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise httpx.ConnectError("connection refused")
        return value

    return answer


@pytest.mark.medium
@pytest.mark.usefixtures("prefect")
def test_the_automation_for_lost_runs_is_made_once() -> None:
    from prefect.client.orchestration import get_client

    from infra.running.remote_runs import AUTOMATION, watch_for_lost_runs

    assert watch_for_lost_runs() in ("made", "left")  # the server is that of other tests too
    assert watch_for_lost_runs() == "left"
    with get_client(sync_client=True) as client:
        (automation,) = client.read_automations_by_name(AUTOMATION)
    assert automation.enabled
    trigger = automation.trigger
    assert trigger.within.total_seconds() == 90  # type: ignore[union-attr]
    # Not those of others, who may send a heartbeat every three minutes.
    assert trigger.match_related["prefect.resource.id"] == ["prefect.tag.longmill"]  # type: ignore[union-attr]


@pytest.mark.medium
@pytest.mark.usefixtures("prefect")
def test_what_runs_within_a_run_that_has_crashed_is_closed_with_it() -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.runtime import flow_run
    from prefect.states import Crashed

    from infra.running.remote_runs import run_states

    states: dict[str, Any] = {}

    @flow
    def inner() -> None:
        run_id = uuid.UUID(flow_run.parent_flow_run_id)
        with get_client(sync_client=True) as client:
            run_states([run_id])
            states["before"] = client.read_flow_run(uuid.UUID(flow_run.id)).state.type  # type: ignore[union-attr]
            client.set_flow_run_state(run_id, Crashed(message="no sign of life"), force=True)
            run_states([run_id])
            states["after"] = client.read_flow_run(uuid.UUID(flow_run.id)).state.type  # type: ignore[union-attr]

    @flow
    def outer() -> None:
        inner(return_state=True)

    outer(return_state=True)
    assert states == {"before": StateType.RUNNING, "after": StateType.CRASHED}


@pytest.mark.medium
@pytest.mark.usefixtures("prefect")
def test_a_run_that_was_deleted_is_lost_and_a_deployment_that_is_not_there_is_named() -> None:
    from infra.running.remote_runs import pool_of, run_states, start_run

    run_id = uuid.uuid4()
    state = run_states([run_id])[run_id]
    assert state.is_final
    assert state.is_lost
    with pytest.raises(RecipeError, match="there is no deployment 'shard/nowhere'"):
        pool_of("shard/nowhere")
    with pytest.raises(RecipeError, match="there is no deployment 'shard/nowhere'"):
        start_run("shard/nowhere", {}, "key", "name")


@pytest.mark.medium
@pytest.mark.usefixtures("prefect")
def test_a_run_that_was_taken_and_never_began_is_lost_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker was killed in between: no heartbeat is missed, as none has come."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Pending, Running

    from infra.running import remote_runs

    @flow
    def shard() -> None: ...

    with get_client(sync_client=True) as client:
        taken, running = (client.create_flow_run(shard, state=state).id for state in (Pending(), Running()))
    assert not remote_runs.run_states([taken])[taken].is_final  # it may still begin
    monkeypatch.setattr(remote_runs, "BEGIN_S", -60.0)
    remote_runs.run_states([taken, running])
    states = remote_runs.run_states([taken, running])
    assert (states[taken].is_final, states[taken].is_lost) == (True, True)
    assert "has not begun" in states[taken].message
    assert not states[running].is_final


@pytest.mark.medium
@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize(("pool_type", "is_lost"), [("process", True), ("kubernetes", False)])
def test_a_process_begins_sooner_than_a_container(
    monkeypatch: pytest.MonkeyPatch, pool_type: str, is_lost: bool
) -> None:
    """An image may have to be fetched first."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.states import Pending

    from infra.running import remote_runs

    @flow
    def shard() -> None: ...

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=pool_type, type=pool_type))
        taken = client.create_flow_run(shard, state=Pending(), work_pool_name=pool_type).id
    assert not remote_runs.run_states([taken])[taken].is_final
    monkeypatch.setattr(remote_runs, "PROCESS_BEGIN_S", -60.0)
    remote_runs.run_states([taken])
    assert remote_runs.run_states([taken])[taken].is_lost == is_lost


@pytest.mark.medium
@pytest.mark.usefixtures("prefect")
def test_a_flow_that_does_not_reach_the_server_at_its_beginning_is_begun_again() -> None:
    from prefect.settings import PREFECT_API_URL

    from infra.running.server_away import run_when_server_answers

    request = httpx.Request("POST", f"{PREFECT_API_URL.value()}/flow_runs/")
    failures = [httpx.ConnectError("All connection attempts failed", request=request)] * 3

    def begin(shard: int) -> int:
        if failures:
            raise failures.pop()
        return shard

    assert run_when_server_answers(begin, 7) == 7
    assert not failures


@pytest.mark.medium
@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize("request_of", [httpx.Request("GET", "http://hub.invalid/data"), None])
def test_another_server_that_is_away_is_not_taken_for_prefect(request_of: httpx.Request | None) -> None:
    from infra.running.server_away import run_when_server_answers

    calls = []

    def fetch() -> None:
        calls.append(1)
        raise httpx.ConnectError("All connection attempts failed", request=request_of)

    with pytest.raises(httpx.ConnectError):
        run_when_server_answers(fetch)
    assert len(calls) == 1


def test_a_server_that_is_away_is_asked_again_and_named_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.running import remote_runs, server_away

    class Client:
        read_flow_runs = staticmethod(failing(3, []))

        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(remote_runs, "get_client", lambda sync_client: Client())
    assert remote_runs.run_states([]) == {}
    monkeypatch.setattr(Client, "read_flow_runs", staticmethod(failing(10**6, [])))
    monkeypatch.setattr(server_away, "AWAY_S", 0.0)
    with pytest.raises(PrerequisiteError, match="the Prefect server does not answer"):
        remote_runs.run_states([])
