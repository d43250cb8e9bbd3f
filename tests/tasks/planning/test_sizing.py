"""GPU hours and bytes of a plan, worked out by hand."""

from pathlib import Path

import pytest

from infra.ledger import Ledger
from infra.store import open_store
from tasks.planning.estimate import estimate
from tasks.planning.make_plan import make_plan
from tasks.planning.sizing import GpuSpeed, sizing
from tasks.reporting.tables import bytes_in_words
from tests.support.planning import pooled_rows, small_recipe


def test_a_prompt_is_read_once_for_its_samples_and_replies_are_written_each(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, pooled_rows(6), sampling={"samples": 4, "max_tokens": 100})
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    with Ledger(store) as ledger:
        estimated = estimate(plan, recipe, store, ledger)
    reading = sum(shard.prompt_tokens for shard in plan.shards)
    assert estimated.input_tokens == 4 * reading
    of_plan = sizing(plan, estimated, recipe, store, policy=GpuSpeed(reading / 3600, 1e12))
    assert of_plan.gpu_hours == {"policy": 1.0}
    of_plan = sizing(plan, estimated, recipe, store, policy=GpuSpeed(1e12, 6 * 4 * 50 / 3600 / 2))
    assert of_plan.gpu_hours == {"policy": 2.0}
    inputs = sum(store.size(path) for shard in plan.shards for path in (shard.examples, shard.contexts))
    assert of_plan.store_bytes == 2 * inputs + 24 * 50 * 4 + 24 * 600


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0.0 MB"), (1_240_000, "1.2 MB"), (2_500_000_000, "2.5 GB"), (140e12, "140 TB")]
)
def test_bytes_are_written_with_the_largest_unit(count: float, words: str) -> None:
    assert bytes_in_words(count) == words
