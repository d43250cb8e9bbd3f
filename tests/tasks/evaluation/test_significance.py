"""Tests of differences against scipy and against distributions worked out by hand."""

import itertools
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test, t

from tasks.evaluation.significance import (
    Significance,
    crossed_interval,
    detectable_difference,
    holm,
    mcnemar,
    paired_interval,
    sign_flip,
    significance,
    t_quantile,
    visible_words,
)
from tasks.evaluation.statistics import Interval, mean_interval


@pytest.mark.parametrize(
    ("better", "worse"), [(0, 0), (1, 0), (6, 0), (9, 2), (2, 9), (5, 5), (400, 340), (3000, 2800)]
)
def test_mcnemar_is_the_binomial_test_of_the_changed_questions(better: int, worse: int) -> None:
    before = [0.0] * better + [1.0] * worse + [1.0, 0.0] * 10
    after = [1.0] * better + [0.0] * worse + [1.0, 0.0] * 10
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert mcnemar(before, after) == pytest.approx(expected, rel=1e-9, abs=1e-11)


def test_sign_flips_of_few_questions_are_scipys_permutation_test() -> None:
    differences = np.random.default_rng(5).normal(0.4, 1, 11).round(2)
    p, exact = sign_flip(differences.tolist(), 10, seed=0)
    theirs = permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert exact
    assert p == pytest.approx(theirs.pvalue)


def test_sign_flips_of_many_questions_are_drawn_and_near_the_exact_ones() -> None:
    differences = [0.5, -0.25, 0.75, 1.0, -0.5, 0.25] * 4
    p, exact = sign_flip(differences, 20_000, seed=1)
    t_statistic = np.mean(differences) / (np.sqrt(np.mean(np.square(differences))) / np.sqrt(len(differences)))
    assert not exact
    assert p == pytest.approx(2 * (1 - NormalDist().cdf(t_statistic)), abs=0.01)
    assert sign_flip(differences, 20_000, seed=1) == (p, False)


def test_nothing_changed_is_chance_and_nothing_compared_has_no_p() -> None:
    assert sign_flip([0.0, 0.0], 10, seed=0) == (1.0, True)
    assert sign_flip([], 10, seed=0)[0] is None
    assert mcnemar([], []) is None
    assert significance([0.0] * 6, [1.0] * 6, 10, 0) == Significance(0.03125, "McNemar, exact", 1.0)
    assert significance([0.5], [0.5], 10, 0).test == "sign flips, exact"


def test_the_interval_of_few_questions_is_that_of_every_resample() -> None:
    differences = [0.1, -0.4, 0.9, 0.3, 0.0]
    means = sorted(np.mean(draw) for draw in itertools.product(differences, repeat=5))
    low, high = means[int(np.ceil(0.025 * len(means))) - 1], means[int(np.ceil(0.975 * len(means))) - 1]
    interval = paired_interval(differences, 7, seed=3)
    assert (interval.low, interval.high, interval.n) == (pytest.approx(low), pytest.approx(high), 5)
    drawn = mean_interval(differences, 200_000, seed=3)
    assert interval.low == pytest.approx(drawn.low, abs=0.021)  # two means of a resample are 0.02 apart
    assert interval.high == pytest.approx(drawn.high, abs=0.021)


def test_more_questions_are_drawn_as_before() -> None:
    differences = [0.1 * number % 1 - 0.3 for number in range(17)]
    assert paired_interval(differences, 777, seed=7) == mean_interval(differences, 777, seed=7)
    assert paired_interval([], 10, seed=0) == Interval(None, None, None, 0)
    assert paired_interval([0.25], 10, seed=0) == Interval(0.25, 0.25, 0.25, 1)


def test_seeds_that_disagree_widen_the_interval_and_seeds_that_agree_do_not() -> None:
    questions = np.random.default_rng(1).normal(0.1, 0.2, 60)
    alone = crossed_interval([questions], 2000, seed=2)
    agreeing = crossed_interval([questions] * 5, 2000, seed=2)
    apart = crossed_interval([questions + shift for shift in (-0.4, -0.2, 0.0, 0.2, 0.4)], 2000, seed=2)
    assert agreeing.value == apart.value == alone.value
    width = alone.high - alone.low
    assert agreeing.high - agreeing.low == pytest.approx(width, rel=0.15)
    assert apart.high - apart.low > 3 * width
    # By theory the seeds' part has the variance of their mean: their population variance (0.08) over 5.
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * (0.08 / 5 + (width / 3.92) ** 2) ** 0.5, rel=0.15)


def test_a_missing_answer_of_one_seed_leaves_the_others_of_its_question() -> None:
    nan = float("nan")
    interval = crossed_interval([[0.5, nan, nan], [0.5, 0.1, nan]], 200, seed=0)
    assert interval.n == 2
    assert interval.value == pytest.approx(1.1 / 3, abs=1e-6)
    assert crossed_interval([[nan]], 10, seed=0) == Interval(None, None, None, 0)


def test_holm_is_that_of_a_worked_example() -> None:
    # Four tests: 0.005·4, 0.01·3, 0.03·2 and, as corrected p values never fall, 0.06 again for 0.04·1.
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == [0.03, 0.06, None, 0.06, 0.02]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("degrees", [5, 10, 95])
def test_quantiles_of_t_are_scipys(degrees: int) -> None:
    for share in (0.8, 0.975):
        assert t_quantile(share, degrees) == pytest.approx(t.ppf(share, degrees), rel=2e-3)


def test_a_difference_of_the_detectable_size_is_found_in_about_80_of_100_comparisons() -> None:
    random = np.random.default_rng(8)
    pilot = random.choice([-1.0, 0.0, 1.0], 96, p=[0.1, 0.8, 0.1])
    detectable = detectable_difference(pilot.tolist(), right_or_wrong=False)
    assert detectable is not None
    spread, found = np.std(pilot, ddof=1), 0
    for _ in range(400):
        differences = random.normal(detectable, spread, 96)
        p, _ = sign_flip(differences.tolist(), 400, seed=1)
        found += p is not None and p < 0.05
    assert found / 400 == pytest.approx(0.8, abs=0.07)


def test_what_cannot_be_seen_is_stated_in_words() -> None:
    differences = [1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0] * 12
    detectable = detectable_difference(differences, right_or_wrong=True)
    assert visible_words(96, detectable) == "with 96 questions, differences under 15 points can't be seen"
    assert detectable_difference([0.0] * 300, right_or_wrong=True) == pytest.approx(0.02, abs=0.001)  # six changes
    assert detectable_difference([1.0] * 5, right_or_wrong=True) is None
    assert visible_words(1, None) == "with 1 question, no difference can be told from chance"
    assert "nothing is compared" in visible_words(0, None)
    assert visible_words(90_000, 0.0042) == "with 90,000 questions, differences under 0.4 points can't be seen"
