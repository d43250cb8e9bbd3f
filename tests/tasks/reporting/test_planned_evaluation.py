"""The words of a plan's cost."""

from tasks.reporting.planned_evaluation import cost_words

FREE = {"low": 0.0, "high": 0.0, "expected": 0.0}


def test_a_plan_without_prices_does_not_say_that_it_costs_nothing() -> None:
    assert cost_words(FREE, "USD", 1000) == "no price in the recipe"
    assert cost_words(FREE, "USD", 0) == "0.00 to 0.00 USD, about 0.00", "all of it is in the ledger"
    priced = {"low": 0.07, "high": 0.1, "expected": 0.09}
    assert cost_words(priced, "USD", 1000) == "0.07 to 0.10 USD, about 0.09"
