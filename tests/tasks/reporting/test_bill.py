"""The bill beside the plan's expectation."""

from pathlib import Path
from typing import Any

import pytest

from infra.recipe import Recipe
from infra.store import open_store
from tasks.planning.make_plan import make_plan
from tasks.reporting.bill import bill_view, planned_amounts
from tasks.reporting.tables import bill_rows, build_rows, usage_words
from tests.support.planning import small_recipe

PRICE = {"input_per_million": 1.0, "output_per_million": 2.0}
MODEL = {"name": "stub", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"], "price": PRICE}


def counts(calls: int, prompt_tokens: int, completion_tokens: int, **more: int) -> dict[str, int]:
    names = ("reused", "reused_prompt_tokens", "reused_completion_tokens")
    own = {"made": calls, "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return own | dict.fromkeys(names, 0) | more


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    changes = {
        "policy": MODEL,
        "judge": MODEL,
        "strong": MODEL,
        "sampling": {"samples": 3, "max_tokens": 100, "greedy": True},
        "scoring": {"scorers": [{"scorer": "helpfulness"}]},
    }
    rows = [{"id": f"q{number}", "question": "Who?", "context": f"Fact {number}."} for number in range(6)]
    return small_recipe(tmp_path, rows, **changes)


def test_every_model_is_planned_and_billed(recipe: Recipe) -> None:
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    shards = [shard.index for shard in plan.shards]
    examples = plan.planned_questions
    prompts = sum(shard.prompt_tokens for shard in plan.shards)
    planned = planned_amounts(plan, recipe, store, shards, shards)
    assert (planned["policy"].calls, planned["policy"].prompt_tokens) == (4 * examples, 4 * prompts)
    assert planned["policy"].completion_tokens == 4 * examples * 50  # half of max_tokens
    assert (planned["strong"].calls, planned["strong"].prompt_tokens) == (examples, prompts)
    assert planned["judge"].calls >= 3 * examples  # a rating of each answer
    assert planned_amounts(plan, recipe, store, shards, [])["judge"].calls == 0  # scored by an earlier run

    calls: dict[str, Any] = {
        "policy": {"sample": counts(2 * examples, 2 * prompts, 100, reused=examples, reused_prompt_tokens=prompts)},
        "judge": {"helpfulness": counts(9, 10**9, 7, counted_here=4)},
    }
    bill = bill_view(plan, recipe, store, calls, shards, shards)
    policy = bill["models"]["policy"]
    assert policy["calls"] == {"planned": 4 * examples, "billed": 3 * examples, "ratio": 0.75}
    assert policy["prompt_tokens"]["ratio"] == 0.75
    money = policy["money"]
    assert money["billed"] == pytest.approx((3 * prompts + 2 * 100) / 1e6)
    assert bill["models"]["strong"]["calls"]["billed"] == 0
    assert bill["counted_here"] == {"replies": 4, "of": 3 * examples + 9}
    assert usage_words(bill) == f"4 of {3 * examples + 9:,} replies had no usage"
    (warning,) = bill["warnings"]
    assert warning.startswith("the judge costs 1000.00 USD, ")
    lines = build_rows({"dataset": None, "calls": {}, "seconds": {}, "bill": bill})[1]
    assert ["warning", warning] in lines and any(line[0] == "bill: policy" for line in lines)
    assert ["policy: calls", str(4 * examples), str(3 * examples), "0.75"] in bill_rows(bill)[1]


def test_a_model_without_a_price_is_warned_of_by_its_tokens(recipe: Recipe) -> None:
    free = recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"price": type(recipe.policy.price)()})})
    store = open_store(free.store)
    plan = make_plan(free, store)
    shards = [shard.index for shard in plan.shards]
    bill = bill_view(plan, free, store, {"policy": {"sample": counts(9, 10**8, 7)}}, shards, shards)
    assert bill["warnings"][0].startswith("the policy has 100,000,007 tokens")
    assert not any("USD" in row[0] for row in bill_rows(bill)[1] if row[0].startswith("policy"))
    assert bill_rows(None)[1] == [] and usage_words(None) == ""
