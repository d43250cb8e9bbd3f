"""`longmill bench training` measures both ways of reading a pair, over trainers that agree on the loss."""

import pytest


@pytest.mark.slow
def test_both_ways_are_measured_and_agree() -> None:
    from flows.benchmarks.training import measure

    figures = measure([(64, 16)], steps=2)["64/16"]
    assert set(figures["stock"]) == set(figures["shared"]) >= {"step_s", "tokens_per_s"}
    assert figures["stock"]["step_s"] > 0 and figures["shared"]["tokens_per_s"] > 0
    assert figures["speedup"] > 0 and figures["predicted_speedup"] > 1
    assert figures["losses_differ_by"] < 1e-4
