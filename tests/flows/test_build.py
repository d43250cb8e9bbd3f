"""The build flow, whole, against the stub model server: what it keeps, pays for, and publishes."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.bench.common import stub_recipe, write_questions
from infra.errors import BudgetReached, LongmillError
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


def recipe_for(folder: Path, stub: StubServer, **sections: dict[str, Any]) -> Recipe:
    if not (folder / "questions.jsonl").exists():
        write_questions(folder / "questions.jsonl", 12, 600)
    sections = {
        "execution": {"shard_size": 5, "batch_calls": 8, "attempts": 2, "task_retries": 0},
        "sampling": {"samples": 4},
    } | sections
    return stub_recipe(folder, stub.url, **sections)


def build(recipe: Recipe, **which: Any) -> dict[str, Any]:
    from flows.build import build as build_flow
    from flows.shard import shard_recipe

    return build_flow(shard_recipe(recipe), **which)


def test_a_build_publishes_and_the_same_command_again_calls_nothing(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub)
    first = build(recipe)
    assert first["calls"]["sample"]["made"] == 48
    counts = first["dataset"]["counts"]
    assert counts["questions"] == 12 == counts["pairs"] + sum(counts["drops"].values())
    assert counts["pairs"] > 0
    asked = stub.stats()["requests"]
    again = build(recipe)
    assert stub.stats()["requests"] == asked
    assert sum(calls["made"] for calls in again["calls"].values()) == 0
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]


def test_raising_the_sample_count_pays_only_for_the_difference(folder: Path, stub: StubServer) -> None:
    build(recipe_for(folder, stub))
    more = build(recipe_for(folder, stub, sampling={"samples": 8}))
    assert (more["calls"]["sample"]["made"], more["calls"]["sample"]["reused"]) == (48, 48)
    assert stub.stats()["requests"] == stub.stats()["distinct"] == 96


def test_two_stores_get_the_same_bytes(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub)
    other = recipe.model_copy(update={"store": str(folder / "other")})
    first, second = build(recipe), build(other)
    assert first["dataset"]["sha256"] == second["dataset"]["sha256"]
    paths = sorted(path.relative_to(folder / "store") for path in (folder / "store" / "datasets").rglob("*.*"))
    assert len(paths) > 4
    for path in paths:
        assert (folder / "store" / path).read_bytes() == (folder / "other" / path).read_bytes(), path


def test_a_failed_shard_leaves_the_others_and_can_be_run_again(folder: Path, stub: StubServer) -> None:
    from flows.cli.plan_state import plan_status
    from flows.rerun import rerun

    recipe = recipe_for(folder, stub)
    stub.options.script = ["ok"] * 20 + ["500"] * 1000
    with pytest.raises(LongmillError, match="longmill rerun"):
        build(recipe)
    (state,) = plan_status(recipe.store, "")
    states = {each["state"] for each in state["shards"]}
    assert "failed" in states
    assert all(each["error"] for each in state["shards"] if each["state"] == "failed")
    stub.options.script.clear()
    built = rerun(state["plan_id"][:6], store=recipe.store, train=False)
    assert built["dataset"]["counts"]["questions"] == 12
    assert {each["state"] for each in plan_status(recipe.store, "")[0]["shards"]} == {"done"}
    assert stub.stats()["answered"] == 48


def test_a_named_shard_is_run_again_from_the_ledger(folder: Path, stub: StubServer) -> None:
    from flows.rerun import rerun

    first = build(recipe_for(folder, stub))
    again = rerun(first["plan_id"], store=str(folder / "store"), failed=False, shards="0,2", train=False)
    assert stub.stats()["requests"] == 48
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]


def test_a_spent_budget_stops_cleanly_and_a_raised_one_goes_on(folder: Path, stub: StubServer) -> None:
    with pytest.raises(BudgetReached, match=r"budget\.calls"):
        build(recipe_for(folder, stub, budget={"calls": 17}))
    assert stub.stats()["requests"] == 17
    with pytest.raises(BudgetReached):
        build(recipe_for(folder, stub, budget={"calls": 17}))
    assert stub.stats()["requests"] == 17
    built = build(recipe_for(folder, stub))
    assert built["calls"]["sample"]["made"] == 48 - 17
    assert stub.stats()["requests"] == 48


def test_shards_run_as_children_of_the_build_with_readable_names(folder: Path, stub: StubServer) -> None:
    from prefect.client.orchestration import get_client

    build(recipe_for(folder, stub))
    with get_client(sync_client=True) as client:
        names = {run.name for run in client.read_flow_runs(limit=200)}
    assert "shard 0002 · bench" in names
    assert "build bench · 12 questions" in names


def test_results_of_tasks_are_json_references(folder: Path, stub: StubServer) -> None:
    from prefect.settings import get_current_settings

    build(recipe_for(folder, stub))
    storage = Path(str(get_current_settings().results.local_storage_path))
    kept = [path for path in storage.iterdir() if path.name.startswith("longmill-")]
    assert kept
    for path in kept:
        assert json.loads(path.read_text())["metadata"]["serializer"]["type"] == "json"


def test_cached_references_whose_tables_are_gone_are_made_again(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub)
    first = build(recipe)
    store = open_store(recipe.store)
    for path in store.list(f"plans/{first['plan_id']}/shards"):
        store.delete(path)
    again = build(recipe)
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]
    assert stub.stats()["requests"] == 48


def test_an_interrupted_build_ends_its_threads(folder: Path, stub: StubServer) -> None:
    before = threading.active_count()
    stub.options.script = ["ok"] * 10 + ["500"] * 1000
    with pytest.raises(LongmillError):
        build(recipe_for(folder, stub))
    assert threading.active_count() <= before + 3


def test_the_recipe_beside_a_plan_is_the_one_it_was_built_with(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub)
    built = build(recipe)
    kept = json.loads(open_store(recipe.store).read(f"plans/{built['plan_id']}/recipe.json"))
    assert parse_recipe(kept) == recipe
