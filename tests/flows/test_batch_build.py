"""Builds whose policy and judge are asked by batches: the dataset of a live build, and steps that wait for others."""

from pathlib import Path
from typing import Any

import pytest

from flows.build import build
from flows.cli.plan_state import plan_status
from flows.shard import shard_recipe
from infra.models.batches.records import BatchLines, BatchRecords, BatchState
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tests.support.batch_stub import BatchStub, running_batches
from tests.support.judged_stub import judge_reply, judged_stub_recipe

pytestmark = pytest.mark.usefixtures("prefect")

BATCH = {"mode": "batch", "batch": {"gather_s": 0.5, "poll_s": 0.05}}


def recipe_for(folder: Path, policy: BatchStub, judge: BatchStub, name: str, **model: Any) -> Recipe:
    """LongReward's four scorers over six questions in two shards, with a store of its own."""
    settings = judged_stub_recipe(folder, policy, judge).model_dump(mode="json")
    settings["store"] = str(folder / name)
    for section in ("policy", "judge"):
        price = {"input_per_million": 2.0, "output_per_million": 8.0}
        settings[section] |= {"price": price, **model}
    return parse_recipe(settings)


@pytest.mark.medium
def test_a_build_by_batches_publishes_what_a_live_one_does(folder: Path) -> None:
    with running_batches() as policy, running_batches(reply=judge_reply) as judge:
        live = build(shard_recipe(recipe_for(folder, policy, judge, "live")))
        live_calls = policy.requests + judge.requests
        recipe = recipe_for(folder, policy, judge, "batch", **BATCH)
        built = build(shard_recipe(recipe))
        assert policy.requests + judge.requests == live_calls  # no further live call
        assert built["dataset"]["sha256"] == live["dataset"]["sha256"]
        assert built["plan_id"] == live["plan_id"]
        assert keys_in(folder / "batch") == keys_in(folder / "live")
        assert sum(policy.sizes) == 18 and len(policy.sizes) <= 2  # one, where both shards begin together
        # Notes, facts and ratings come together; supports, and the rating by notes, wait for them.
        judged = built["calls_by_model"]["judge"]
        assert sum(judge.sizes) == sum(calls["made"] for calls in judged.values())
        assert len(judge.sizes) <= 12, judge.sizes  # six waves, of two shards
        made = (len(policy.sizes), len(judge.sizes))
        again = build(shard_recipe(recipe))
        assert again["dataset"]["sha256"] == built["dataset"]["sha256"]
        assert (len(policy.sizes), len(judge.sizes)) == made
    store = open_store(recipe.store)
    assert store.list("batches") == []
    assert "batches" not in plan_status(recipe.store, "")[0]
    records = BatchRecords(store, "stub", "http://127.0.0.1:9/v1")
    records.begin("a", BatchLines("stub", "main", {}), BatchState("file-1", 0.0, 5, "batch_9", "in_progress", 2))
    (state,) = plan_status(recipe.store, "")
    assert [(batch["batch"], batch["done"], batch["total"]) for batch in state["batches"]] == [("batch_9", 2, 5)]


def keys_in(store: Path) -> set[str]:
    opened = open_store(str(store))
    keys: set[str] = set()
    for path in opened.list("ledger"):
        if path.endswith(".parquet"):
            keys.update(opened.read_table(path, ["key"]).column("key").to_pylist())
    return keys
