"""`mode: batch` of a model: what it needs, what it costs, and that it is no part of a plan."""

from typing import Any

import pytest

from infra.errors import RecipeError
from infra.recipe import Recipe, parse_recipe

MODEL = {
    "name": "m",
    "tokenizer": "microworld",
    "endpoints": ["http://127.0.0.1:9/v1"],
    "price": {"input_per_million": 2.0, "output_per_million": 8.0},
}


def recipe_of(**policy: Any) -> Recipe:
    return parse_recipe(
        {
            "name": "r",
            "questions": {"source": "questions.jsonl"},
            "policy": MODEL | policy,
            "judge": MODEL,
            "scoring": {"scorers": [{"scorer": "helpfulness"}]},
            "dataset": {"name": "d", "licence": "mit"},
        }
    )


def test_a_batch_costs_half_of_the_stated_price_or_what_is_said() -> None:
    live, batch = recipe_of().policy, recipe_of(mode="batch").policy
    assert live.call_price == live.price
    assert (batch.call_price.input_per_million, batch.call_price.output_per_million) == (1.0, 4.0)
    assert recipe_of(mode="batch", batch={"price_factor": 1.0}).policy.call_price == live.price


def test_the_mode_is_no_part_of_a_plan() -> None:
    batch = recipe_of(mode="batch", batch={"poll_s": 5, "completion_window": "7d"})
    assert batch.identity() == recipe_of().identity()
    assert batch.sends_batches() and not recipe_of().sends_batches()


@pytest.mark.parametrize(
    "policy",
    [
        {"mode": "batch", "endpoints": ["http://127.0.0.1:9/v1", "http://127.0.0.1:8/v1"]},
        {"mode": "batch", "endpoints": [], "serve": {"model_path": "microworld"}},
        {"mode": "batch", "batch": {"completion_window": "soon"}},
        {"mode": "batch", "batch": {"poll_s": 0}},
    ],
)
def test_what_cannot_be_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"policy"):
        recipe_of(**policy)
