"""Bootstrap intervals against distributions worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from tasks.evaluation.statistics import (
    Interval,
    difference_interval,
    mean_interval,
    mean_intervals,
    nested_interval,
    ratio_intervals,
    sums_interval,
)

SCORES = st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=20)


def test_the_interval_of_three_questions_is_the_binomials() -> None:
    # The mean of a resample of (0, 0, 1) is k/3 with P = 8/27, 12/27, 6/27, 1/27: 2.5% is at 0, 97.5% at 1,
    # and the 95th per cent, above 26/27 - 6/27 = 20/27 and below 26/27, at 2/3.
    assert mean_interval([0, 0, 1], 4000, seed=1) == Interval(0.333333, 0.0, 1.0, 3)
    assert mean_interval([0, 0, 1], 4000, seed=1, level=0.9) == Interval(0.333333, 0.0, 0.666667, 3)


def test_intervals_are_those_of_earlier_versions() -> None:
    """Reports and evidence are compared byte by byte, so the draws of a seed must stay the same."""
    scores = [0.1 * number % 1 for number in range(17)]
    assert mean_interval(scores, 777, seed=7) == Interval(0.388235, 0.270588, 0.517647, 17)
    assert mean_interval([0.0, 0.25, 1.0, 0.5, 0.5], 500, seed=11, level=0.8) == Interval(0.45, 0.25, 0.65, 5)


@pytest.mark.parametrize("count", [2, 96, 5000])
def test_means_have_the_intervals_of_scipy_to_the_last_digit(count: int) -> None:
    scores = np.random.default_rng(count).normal(size=count)
    ours = mean_intervals([scores.tolist()] * 2, 300, seed=7)
    theirs = bootstrap((scores,), np.mean, n_resamples=300, method="percentile", rng=np.random.default_rng(7))
    low, high = theirs.confidence_interval
    assert [(interval.low, interval.high) for interval in ours] == [(round(low, 6), round(high, 6))] * 2


def test_the_interval_of_many_questions_is_near_the_normal_one() -> None:
    interval = mean_interval([0.0, 1.0] * 200, 4000, seed=3)
    half = 1.96 * (0.25 / 400) ** 0.5
    assert interval.low == pytest.approx(0.5 - half, abs=0.005)
    assert interval.high == pytest.approx(0.5 + half, abs=0.005)


def test_no_question_has_no_mean_and_one_has_no_width() -> None:
    assert mean_interval([], 100, seed=0) == Interval(None, None, None, 0)
    assert mean_interval([0.4], 100, seed=0) == Interval(0.4, 0.4, 0.4, 1)


def test_the_difference_is_taken_question_by_question() -> None:
    before = [0.0, 1.0] * 50
    after = [0.1, 1.1] * 50
    # Every question gained 0.1, so that the paired interval has no width, wide as each mean's own is.
    assert difference_interval(before, after, 500, seed=0) == Interval(0.1, 0.1, 0.1, 100)
    with pytest.raises(ValueError, match="zip"):
        difference_interval([1.0], [1.0, 2.0], 10, seed=0)


@given(SCORES, st.integers(0, 3))
def test_the_mean_lies_within_its_bounds_and_the_same_seed_gives_the_same(scores: list[float], seed: int) -> None:
    interval = mean_interval(scores, 200, seed)
    assert interval == mean_interval(scores, 200, seed)
    assert interval.low is not None
    assert interval.high is not None
    assert min(scores) <= interval.low <= interval.high <= max(scores)
    assert interval.value == round(float(np.mean(scores)), 6)


def test_blocks_of_resamples_bound_the_memory_and_change_nothing_in_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mean_interval([0.0, 1.0] * 20, 2000, seed=1)
    monkeypatch.setattr("tasks.evaluation.statistics._DRAWS_AT_ONCE", 100)
    parts = mean_interval([0.0, 1.0] * 20, 2000, seed=1)
    assert parts.low == pytest.approx(whole.low, abs=0.03)
    assert parts.high == pytest.approx(whole.high, abs=0.03)


def test_a_ratio_is_of_sums_and_its_interval_over_questions() -> None:
    # 3 of 3 and 0 of 1: 3/4. A resample holds the first question twice (1), both (3/4) or the second twice (0).
    first, second = ratio_intervals([[3, 0], [0, 0]], [[3, 0], [1, 0]], 2000, seed=1)
    assert first == Interval(0.75, 0.0, 1.0, 4)
    assert second == Interval(None, None, None, 0)
    assert ratio_intervals(np.zeros((0, 1)), np.zeros((0, 1)), 10, seed=0) == [Interval(None, None, None, 0)]


def test_a_ratio_over_equal_wholes_is_the_mean() -> None:
    scores = [0.0, 1.0, 1.0, 0.5, 0.0, 1.0] * 10
    (interval,) = ratio_intervals([[score] for score in scores], [[1.0]] * 60, 4000, seed=2)
    mean = mean_interval(scores, 4000, seed=3)
    assert (interval.value, interval.n) == (mean.value, 60)
    assert interval.low == pytest.approx(mean.low, abs=0.02)
    assert interval.high == pytest.approx(mean.high, abs=0.02)


def test_draws_without_a_figure_are_left_out_of_its_interval() -> None:
    interval = sums_interval(
        [[1.0, 1.0], [0.0, 0.0]], lambda sums: np.where(sums[:, 1] > 0, 1.0, np.nan), 7, 200, seed=0
    )
    assert interval == Interval(1.0, 1.0, 1.0, 7)
    assert sums_interval([[0.0]], lambda sums: np.full(len(sums), np.nan), 7, 20, 0) == Interval(None, None, None, 7)


def test_a_nested_interval_spans_what_another_run_would_change() -> None:
    """Two runs of 100 equal questions, all 0 and all 1: a draw of two runs has a mean of 0, ½ or 1, by ¼, ½, ¼."""
    groups = [[(0.0, 1.0)] * 100, [(1.0, 1.0)] * 100]
    assert nested_interval(groups, 2000, seed=0) == Interval(0.5, 0.0, 1.0, 200)
    assert nested_interval(groups, 2000, seed=0, level=0.4) == Interval(0.5, 0.5, 0.5, 200)


def test_a_nested_interval_of_one_run_is_that_of_its_questions() -> None:
    scores = [0.0, 1.0] * 200
    nested = nested_interval([[(score, 1.0) for score in scores]], 4000, seed=3)
    plain = mean_interval(scores, 4000, seed=3)
    assert nested.value == plain.value
    assert nested.low == pytest.approx(plain.low, abs=0.01)
    assert nested.high == pytest.approx(plain.high, abs=0.01)


def test_a_nested_share_weighs_by_its_wholes_and_counts_questions_that_have_one() -> None:
    assert nested_interval([[(3.0, 3.0)], [], [(0.0, 0.0), (0.0, 1.0)]], 50, seed=0).value == 0.75
    assert nested_interval([[(3.0, 3.0)], [(0.0, 0.0)]], 50, seed=0).n == 1
    assert nested_interval([[], []], 50, seed=0) == Interval(None, None, None, 0)
