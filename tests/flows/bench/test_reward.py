"""The benchmark of a reward model measures both ways, which give the same logits."""

import pytest

from flows.bench.reward import measure

pytestmark = pytest.mark.medium


def test_both_ways_are_measured_and_agree() -> None:
    figures = measure(prompt=64, rounds=1)
    for name in ("scoring", "training"):
        assert set(figures[name]["seconds"]) == {"shared", "one by one"}
        assert figures[name]["logits_differ_by"] < 1e-4
