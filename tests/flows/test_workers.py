"""Shards on workers: how they are cut into runs, what each run may do, and what becomes of the shards of a lost run."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows import workers
from flows.bench.common import stub_recipe, write_questions
from flows.workers import Workers, group_size, with_share
from infra.errors import BusyError
from infra.running.remote_runs import Pool, RunState
from infra.store import Store
from tasks.planning.make_plan import make_plan
from tasks.records.plan import Plan
from tasks.records.shard import write_failure
from tasks.resources import RunResources, open_resources
from tests.support.stub_server import running_stub

DONE = RunState("Completed", "", is_final=True, is_lost=False)
GOING = RunState("Running", "", is_final=False, is_lost=False)
FAILED = RunState("Failed", "", is_final=True, is_lost=False)
LOST = RunState("Crashed", "no sign of life", is_final=True, is_lost=True)
SHARDS = 8


@dataclass
class FakeServer:
    """In place of the Prefect server and its workers: what it does with each run is up to the test."""

    store: Store
    plan: Plan
    workers: int = 2
    outcomes: list[RunState] = field(default_factory=list)  # of the runs in their order; then all are done
    started: list[dict[str, Any]] = field(default_factory=list)
    states: dict[uuid.UUID, RunState] = field(default_factory=dict)
    most_at_once: int = 0
    most_concurrency: int = 0

    def start_run(self, deployment: str, parameters: dict[str, Any], key: str, name: str) -> uuid.UUID:
        self.started.append(parameters)
        run_id = uuid.uuid4()
        self.states[run_id] = GOING
        going = [run for run, state in self.states.items() if not state.is_final]
        runs = dict(zip(self.states, self.started, strict=True))
        self.most_at_once = max(self.most_at_once, len(going))
        concurrency = sum(runs[run]["recipe"]["execution"]["concurrency"] for run in going)
        self.most_concurrency = max(self.most_concurrency, concurrency)
        return run_id

    def run_states(self, run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, RunState]:
        """The oldest run that goes on ends now."""
        order = list(self.states)
        run_id = next(run for run in order if run in run_ids)
        number = order.index(run_id)
        state = self.outcomes[number] if number < len(self.outcomes) else DONE
        if state == DONE:
            for index in self.started[number]["indices"]:
                self.store.write(f"plans/{self.plan.plan_id}/shards/{index:04d}.json", b"{}")
            self.report(self.started[number]["report"])
        self.states[run_id] = state
        return {run: self.states[run] for run in run_ids}

    def report(self, path: str) -> None:
        calls = {"policy": {"sample": {"made": 5, "prompt_tokens": 7}}}
        self.store.write(path, json.dumps({"calls": calls}).encode())

    def pool_of(self, deployment: str) -> Pool:
        return Pool("longmill", self.workers, self.workers)


@pytest.fixture
def build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RunResources, Plan, FakeServer]]:
    write_questions(folder / "questions.jsonl", SHARDS, 200)
    with running_stub() as stub:
        recipe = stub_recipe(
            folder,
            stub.url,
            execution={"shard_size": 1, "concurrency": 9, "shard_deployment": "shard/longmill-shard"},
        )
        with open_resources(recipe) as resources:
            plan = make_plan(recipe, resources.store)
            server = FakeServer(resources.store, plan)
            monkeypatch.setattr(workers, "POLL_S", 0.0)
            monkeypatch.setattr(workers, "STILL_S", 0.0)
            for name in ("start_run", "run_states", "pool_of"):
                monkeypatch.setattr(workers, name, getattr(server, name))
            monkeypatch.setattr(workers, "watch_for_lost_runs", lambda: None)
            monkeypatch.setattr(workers, "cancel_runs", lambda run_ids: None)

            def finished(store: Store, plan_id: str, index: int) -> object:
                return store.exists(f"plans/{plan_id}/shards/{index:04d}.json") or None

            monkeypatch.setattr(workers, "read_shard_result", finished)
            yield resources, plan, server


def work(build: tuple[RunResources, Plan, FakeServer]) -> tuple[Workers, FakeServer]:
    resources, plan, server = build
    run = Workers(resources, plan, range(SHARDS))
    run.work()
    return run, server


def test_runs_get_fewer_shards_towards_the_end() -> None:
    waiting, sizes = 100, []
    while waiting:
        sizes.append(group_size(waiting, runs=4, most=8))
        waiting -= sizes[-1]
    assert sizes[:4] == [8, 8, 8, 8]
    assert sizes[-4:] == [1, 1, 1, 1]
    assert sorted(sizes, reverse=True) == sizes
    assert len(sizes) < 40  # starts that are paid for 100 shards


def test_eight_shards_go_to_both_workers_and_every_shard_once(
    build: tuple[RunResources, Plan, FakeServer],
) -> None:
    run, server = work(build)
    assert run.failures == {}
    assert sorted(index for each in server.started for index in each["indices"]) == list(range(SHARDS))
    assert server.most_at_once == 2
    assert len(server.started[0]["indices"]) == 2


def test_the_limit_of_calls_in_flight_holds_over_all_runs(build: tuple[RunResources, Plan, FakeServer]) -> None:
    build[2].workers = 4
    _, server = work(build)
    assert server.most_at_once == 4
    assert server.most_concurrency <= 9
    build[2].workers = 100  # more workers than calls: each run has one
    assert all(each["recipe"]["execution"]["concurrency"] >= 1 for each in server.started)


@pytest.mark.parametrize("trace", ["", "00-the-build-01"])
def test_a_run_is_part_of_the_trace_of_its_build(
    build: tuple[RunResources, Plan, FakeServer], monkeypatch: pytest.MonkeyPatch, trace: str
) -> None:
    monkeypatch.setattr(workers, "current_trace", lambda: trace)
    _, server = work(build)
    assert {each.get("trace_parent", "") for each in server.started} == {trace}


def test_a_share_of_the_calls_has_a_share_of_the_contexts(build: tuple[RunResources, Plan, FakeServer]) -> None:
    recipe = build[0].recipe
    assert with_share(recipe, 9).execution == recipe.execution
    share = with_share(recipe, 3).execution
    assert (share.concurrency, share.contexts_in_flight) == (3, recipe.execution.contexts_in_flight // 3)


def test_shards_of_a_lost_run_are_taken_over_one_by_one(build: tuple[RunResources, Plan, FakeServer]) -> None:
    build[2].outcomes = [LOST]
    run, server = work(build)
    assert run.failures == {}
    first = server.started[0]["indices"]
    later = [each["indices"] for each in server.started[1:] if set(each["indices"]) & set(first)]
    assert later == [[index] for index in first]  # in their order


def test_a_shard_whose_runs_are_always_lost_fails_and_the_others_do_not(
    build: tuple[RunResources, Plan, FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = build[2]
    ends = server.run_states

    def lose_shard_0(run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, RunState]:
        for run_id, parameters in zip(server.states, server.started, strict=True):
            if run_id in run_ids and 0 in parameters["indices"]:
                server.states[run_id] = LOST
                return {run: server.states[run] for run in run_ids}
        return ends(run_ids)

    monkeypatch.setattr(workers, "run_states", lose_shard_0)
    run, _ = work(build)
    assert list(run.failures) == [0]
    assert "Crashed (no sign of life)" in str(run.failures[0])
    assert sum(0 in each["indices"] for each in server.started) == 2 + workers.MOST_LOSSES  # the first had two shards


@pytest.mark.medium
def test_a_lost_run_that_still_reports_is_not_succeeded(
    build: tuple[RunResources, Plan, FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, server = build
    monkeypatch.setattr(workers, "STILL_S", 0.3)
    monkeypatch.setattr(workers, "REPORT_S", 0.01)
    ends, looks = server.run_states, 0

    def lose_the_first(run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, RunState]:
        nonlocal looks
        first = next(iter(server.states))
        if first not in run_ids:
            return ends(run_ids)
        looks += 1
        if looks < 50:  # the server says that it is lost, and it is at work
            server.store.write(server.started[0]["report"], str(looks).encode())
            time.sleep(0.02)
            return {run: LOST if run == first else GOING for run in run_ids}
        return {run: LOST if run == first else GOING for run in run_ids}

    monkeypatch.setattr(workers, "run_states", lose_the_first)
    start = time.monotonic()
    run, _ = work(build)
    assert run.failures == {}
    assert looks >= 50
    assert time.monotonic() - start > 50 * 0.02 + 0.3


def test_a_shard_that_failed_is_not_run_again_and_says_why(
    build: tuple[RunResources, Plan, FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    resources, plan, server = build
    server.outcomes = [FAILED]
    start = server.start_run

    def start_and_fail(deployment: str, parameters: dict[str, Any], key: str, name: str) -> uuid.UUID:
        run_id = start(deployment, parameters, key, name)
        if len(server.started) == 1:
            for index in parameters["indices"]:
                write_failure(resources.store, plan.plan_id, index, ValueError("no such context"))
        return run_id

    monkeypatch.setattr(workers, "start_run", start_and_fail)
    run, _ = work(build)
    assert set(run.failures) == set(server.started[0]["indices"])
    assert "no such context" in str(run.failures[0])


def test_the_build_counts_the_calls_of_its_runs(build: tuple[RunResources, Plan, FakeServer]) -> None:
    _, server = work(build)
    counts = build[0].counts()["sample"]
    assert counts.made == 5 * len(server.started)
    assert build[0].counts_by_model()["policy"]["sample"]["prompt_tokens"] == 7 * len(server.started)
    assert build[0].store.list(f"plans/{build[1].plan_id}/runs") == []


def test_runs_are_told_to_retry_drops_only_where_that_is_asked_for(
    build: tuple[RunResources, Plan, FakeServer],
) -> None:
    _, server = work(build)
    assert all("retry_drops" not in parameters for parameters in server.started)
    for index in range(SHARDS):
        server.store.delete(f"plans/{build[1].plan_id}/shards/{index:04d}.json")
    count = len(server.started)
    build[0].refusals.retry = True
    _, server = work(build)
    assert all(parameters["retry_drops"] is True for parameters in server.started[count:])


def test_a_build_whose_plan_was_taken_over_stops_waiting(build: tuple[RunResources, Plan, FakeServer]) -> None:
    build[0].stop(BusyError("taken over"))
    with pytest.raises(BusyError, match="taken over"):
        work(build)
