"""What a run has cost: every model at its own price, and the sum of all."""

from pathlib import Path

from tasks.reporting.cost import add_counts, run_cost
from tests.support.planning import small_recipe

COUNTS = {
    "made": 1,
    "prompt_tokens": 1_000_000,
    "completion_tokens": 500_000,
    "reused_prompt_tokens": 100_000,
    "reused_completion_tokens": 0,
}


def test_each_model_is_paid_at_its_own_price(tmp_path: Path) -> None:
    judge = {
        "name": "critic",
        "tokenizer": "microworld",
        "endpoints": ["http://127.0.0.1:9/v1"],
        "price": {"input_per_million": 1.0, "output_per_million": 3.0, "currency": "EUR"},
    }
    recipe = small_recipe(tmp_path, judge=judge)  # whose policy costs 2 and 8 EUR a million
    cost = run_cost(recipe, {"policy": {"sample": COUNTS}, "judge": {"notes": COUNTS, "support": COUNTS}})
    assert cost == {
        "amount": 6.0 + 2 * 2.5,
        "reused": 0.4,
        "currency": "EUR",
        "models": {"policy": {"amount": 6.0, "reused": 0.2}, "judge": {"amount": 5.0, "reused": 0.2}},
    }


def test_the_currency_is_that_of_the_model_that_costs_something(tmp_path: Path) -> None:
    free = {"input_per_million": 0.0, "output_per_million": 0.0, "currency": "USD"}
    judge = {
        "name": "critic",
        "tokenizer": "microworld",
        "endpoints": ["http://127.0.0.1:9/v1"],
        "price": {"input_per_million": 1.0, "currency": "CHF"},
    }
    recipe = small_recipe(tmp_path, judge=judge, policy={"price": free})
    assert run_cost(recipe, {"policy": {}, "judge": {"notes": COUNTS}})["currency"] == "CHF"


def test_counts_of_the_same_kind_are_added() -> None:
    assert add_counts({"a": {"made": 1}}, {"a": {"made": 2}, "b": {"made": 3}}) == {"a": {"made": 3}, "b": {"made": 3}}
