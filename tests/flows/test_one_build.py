"""Two builds of one plan: the second waits, pays nothing, and goes on in the place of one that dies."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.bench.common import stub_recipe, write_questions
from flows.cli.plan_state import plan_status
from infra.errors import BusyError
from infra.models.tokens import load_tokenizer
from infra.recipe import Recipe
from infra.running import progress
from infra.store import Store, open_store
from infra.store.lease import Holder, Lease, LeaseTimes
from tests.support.command import Command
from tests.support.s3 import store_url
from tests.support.stub_server import StubServer, running_stub

pytestmark = pytest.mark.slow

QUICK = LeaseTimes(beat_s=0.1, silent_s=1.0, look_s=0.1)


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, prefect: None) -> None:
    """Leases whose times are short."""
    monkeypatch.setattr("infra.store.lease.LeaseTimes", lambda: QUICK)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the runs have said."""
    texts: list[str] = []
    progress.watch(lambda step: texts.append(step.note or "") if step.says else None)
    yield texts
    progress.watch(None)


def recipe_for(folder: Path, stub: StubServer, store: str = "", **sections: dict[str, Any]) -> Recipe:
    write_questions(folder / "questions.jsonl", 12, 600)
    execution = {"shard_size": 5, "batch_calls": 8, "concurrency": 4, "attempts": 2, "task_retries": 0}
    execution |= sections.pop("execution", {})
    recipe = stub_recipe(folder, stub.url, execution=execution, sampling={"samples": 4}, **sections)
    return recipe.model_copy(update={"store": store}) if store else recipe


def recipe_file(folder: Path, recipe: Recipe) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    return str(path)


def build(recipe: Recipe, **options: Any) -> dict[str, Any]:
    from flows.build import build as build_flow

    built: dict[str, Any] = build_flow(recipe, **options)
    return built


def other_lease(store: Store, plan_id: str) -> Lease:
    """A claim of a build on another machine."""
    holder = replace(Holder.this_process("build there"), machine="another machine", host="there")
    return Lease(store, f"leases/{plan_id}", holder, QUICK)


def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["file", "s3"])
def test_of_two_builds_at_once_one_pays_and_both_end_with_the_dataset(
    folder: Path, stub: StubServer, kind: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_tokenizer("microworld")  # transformers cannot be imported in two threads at once
    stub.hold()  # so that the first cannot end before the second is there
    with store_url(kind, folder, monkeypatch) as url, ThreadPoolExecutor(2) as pool:
        recipe = recipe_for(folder, stub, url)
        builds = [pool.submit(build, recipe) for _ in range(2)]
        until(lambda: bool(lines))
        stub.release()
        first, second = (future.result() for future in builds)
        assert first["dataset"] == second["dataset"]
        made = sorted(built["calls"]["sample"]["made"] for built in (first, second))
        assert made == [0, 48]
        assert stub.stats()["requests"] == 48
        assert [("wait" in built["seconds"]) for built in (first, second)].count(True) == 1
        assert lines[0].startswith(
            f"plan {first['plan_id']} is being built by 'build bench', process {os.getpid()} on "
        )
        assert lines[-1] == f"plan {first['plan_id']}: the other build has ended; this one goes on"
        left = [path for path in open_store(url).list("leases") if path.endswith(".json")]
        assert len(left) == 1


@pytest.mark.usefixtures("quick")
def test_a_build_that_waits_takes_over_from_one_that_falls_silent(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub)
    plan_id = build(recipe)["plan_id"]
    store = open_store(recipe.store)
    assert other_lease(store, plan_id).try_to_take() is None  # and no beat ever follows
    built = build(recipe)
    assert built["seconds"]["wait"] >= 1
    assert stub.stats()["requests"] == 48


@pytest.mark.usefixtures("quick")
def test_a_build_that_will_not_wait_names_the_other(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub, execution={"wait_s": 0})
    plan_id = build(recipe)["plan_id"]
    other = other_lease(open_store(recipe.store), plan_id)
    assert other.try_to_take() is None
    with pytest.raises(BusyError, match=r"being built by 'build there', process \d+ on there.*execution\.wait_s = 0"):
        build(recipe)
    other.check()


@pytest.mark.usefixtures("quick")
def test_a_build_whose_lease_is_lost_pays_and_publishes_no_more(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub)
    store = open_store(recipe.store)
    arrived = threading.Event()

    def lose() -> None:
        if stub.requests == 20:
            plan_id = store.list("leases")[0].split("/")[1]
            claim = other_lease(store, plan_id)._holder.to_bytes()
            assert store.put_if_absent(f"leases/{plan_id}/0002.json", claim)
            arrived.set()
            time.sleep(0.5)

    stub.witness = lose
    with pytest.raises(BusyError, match=r"taken over by 'build there'.*waits for the other build"):
        build(recipe)
    assert arrived.is_set()
    paid = stub.stats()["answered"]
    assert paid <= 24
    assert store.list("datasets") == []
    (state,) = plan_status(recipe.store, "")
    assert "failed" not in {shard["state"] for shard in state["shards"]}
    stub.witness = lambda: None
    assert build(recipe)["dataset"]["counts"]["questions"] == 12
    assert (stub.stats()["answered"], stub.stats()["paid_twice"]) == (48, 0)


@pytest.mark.usefixtures("quick")
def test_shards_are_run_again_only_once_the_other_build_has_ended(folder: Path, stub: StubServer) -> None:
    from flows.rerun import rerun

    recipe = recipe_for(folder, stub, execution={"wait_s": 0})
    plan_id = build(recipe)["plan_id"]
    store = open_store(recipe.store)
    before = store.list(f"plans/{plan_id}")
    other = other_lease(store, plan_id)
    assert other.try_to_take() is None
    with pytest.raises(BusyError):
        rerun(plan_id, store=recipe.store, failed=False, shards="0", train=False)
    assert store.list(f"plans/{plan_id}") == before
    other.release()
    assert rerun(plan_id, store=recipe.store, failed=False, shards="0", train=False)["dataset"]


@pytest.mark.usefixtures("quick")
def test_builds_of_different_plans_run_at_the_same_time(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub)
    plan_id = build(recipe)["plan_id"]
    assert other_lease(open_store(recipe.store), plan_id).try_to_take() is None
    assert "wait" not in build(recipe.model_copy(update={"seed": 1}))["seconds"]


@pytest.mark.timeout(600)
def test_two_commands_at_the_same_second_in_a_new_store(folder: Path, stub: StubServer) -> None:
    stub.options.latency = 0.5
    path = recipe_file(folder, recipe_for(folder, stub))
    commands = [Command(folder, folder, "build", path, "--json") for _ in range(2)]
    ends = [command.ended() for command in commands]
    assert [ended.status for ended in ends] == [0, 0], ends
    assert "Traceback" not in "".join(ended.out + ended.err for ended in ends)
    first, second = (json.loads(ended.out) for ended in ends)
    assert first["dataset"] == second["dataset"]
    assert stub.stats()["requests"] == 48


@pytest.mark.timeout(600)
def test_a_command_goes_on_in_the_place_of_one_that_is_killed(folder: Path, stub: StubServer) -> None:
    path = recipe_file(folder, recipe_for(folder, stub))
    homes = [folder / "first", folder / "second"]
    for home in homes:
        home.mkdir()
    stub.options.latency = 0.2
    first = Command(folder, homes[0], "build", path).when(lambda: stub.requests >= 5)
    stub.hold()
    second = Command(folder, homes[1], "build", path)
    second.when(lambda: any("is being built by" in log.read_text() for log in homes[1].glob("*.err")))
    first.signal(signal.SIGKILL).ended()
    stub.release()
    ended = second.ended()
    assert ended.status == 0, ended
    assert "the other build has ended; this one goes on" in ended.err
    assert stub.stats()["distinct"] == 48
    assert stub.stats()["paid_twice"] <= 4  # those in flight
