"""Whether a difference between two models is more than chance, and which differences could be seen at all.

A question is the unit: its scores of several samples or seeds are averaged first, because they are no independent
questions. Where questions are few, everything is exact: the bootstrap's distribution is enumerated up to 8 questions,
the signs of a sign-flip test up to 20 changed questions, and McNemar's test (Edwards 1948; the binomial form) always.

Leaves out: questions over one context count as independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.evaluation.statistics import DIGITS, LEVEL, Interval, mean_interval

POWER = 0.8  # of the smallest difference that counts as visible
_FEWEST = 6  # changed questions: fewer give no p below 5%, as 2 / 2^5 is 6%
_ENUMERATED = 8  # questions: 6,435 different resamples
_FLIPPED = 20  # changed questions: a million signs
_FLIPS_AT_ONCE = 2_000_000
_P_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Significance:
    """A test of no difference. `p` is two-sided, null where nothing is compared; `detectable` is the smallest
    difference that such questions would show in 80 of 100 comparisons, null where they are too few to show any."""

    p: float | None
    test: str  # "McNemar, exact", "sign flips, exact" or "sign flips"
    detectable: float | None


def paired_interval(differences: Sequence[float], resamples: int, seed: int, level: float = LEVEL) -> Interval:
    """The mean difference over questions with its bootstrap interval: exact up to 8 questions, drawn above."""
    if not 1 < len(differences) <= _ENUMERATED:
        return mean_interval(differences, resamples, seed, level)
    means, weights = _all_resamples(np.asarray(differences, np.float64))
    order = np.argsort(means, kind="stable")
    below = np.cumsum(weights[order])
    edge = (1 - level) / 2
    low, high = (means[order][np.searchsorted(below, share - 1e-12)] for share in (edge, 1 - edge))
    return Interval(_rounded(float(np.mean(differences))), _rounded(low), _rounded(high), len(differences))


def crossed_interval(differences: ArrayLike, resamples: int, seed: int, level: float = LEVEL) -> Interval:
    """The mean difference over [seeds, questions], where every seed has answered the same questions; NaN is missing.

    Seeds and questions are drawn with replacement, each for itself (Owen 2007, the pigeonhole bootstrap): the interval
    spans what other seeds and what other questions would change. With few seeds it is narrow. One seed alone is
    `paired_interval`. `n` is the number of questions that have a difference.
    """
    values = np.atleast_2d(np.asarray(differences, np.float64))
    there = ~np.isnan(values)
    values, there = values[:, there.any(axis=0)], there[:, there.any(axis=0)]
    seeds, questions = values.shape
    if not questions:
        return Interval(None, None, None, 0)
    if seeds == 1:
        return paired_interval(values[0].tolist(), resamples, seed, level)
    filled = np.where(there, values, 0.0)
    random = np.random.default_rng(seed)
    seed_times = random.multinomial(seeds, [1 / seeds] * seeds, resamples)
    drawn = np.empty(resamples)
    for place in range(resamples):
        question_times = np.bincount(random.integers(0, questions, questions), minlength=questions)
        weights = seed_times[place][:, None] * question_times * there
        total = weights.sum()
        drawn[place] = (weights * filled).sum() / total if total else np.nan
    edge = (1 - level) / 2
    low, high = np.nanquantile(drawn, [edge, 1 - edge])
    return Interval(_rounded(filled.sum() / there.sum()), _rounded(low), _rounded(high), questions)


def significance(before: Sequence[float], after: Sequence[float], resamples: int, seed: int) -> Significance:
    """The test of two models' scores on the same questions: McNemar's where every score is right (1) or wrong (0),
    else sign flips of the differences. Raises ValueError at unequal lengths."""
    differences = [value_after - value_before for value_before, value_after in zip(before, after, strict=True)]
    right_or_wrong = {*before, *after} <= {0.0, 1.0}
    if right_or_wrong:
        p, test = mcnemar(before, after), "McNemar, exact"
    else:
        p, exact = sign_flip(differences, resamples, seed)
        test = "sign flips, exact" if exact else "sign flips"
    return Significance(p, test, detectable_difference(differences, right_or_wrong))


def mcnemar(before: Sequence[float], after: Sequence[float]) -> float | None:
    """The two-sided exact p of McNemar's test: of the questions that changed, as many got better as got worse.

    1 where none changed; None without a question.
    """
    better = sum(value_after > value_before for value_before, value_after in zip(before, after, strict=True))
    worse = sum(value_after < value_before for value_before, value_after in zip(before, after, strict=True))
    if not len(before):
        return None
    changed, fewer = better + worse, min(better, worse)
    logs = [_log_binomial(changed, count) for count in range(fewer + 1)]
    return round(min(1.0, 2 * math.fsum(map(math.exp, logs))), _P_DIGITS)


def sign_flip(differences: Sequence[float], resamples: int, seed: int) -> tuple[float | None, bool]:
    """(p, whether it is exact) of the paired permutation test of the mean (Fisher 1935): how often the mean of the
    differences is as far from 0 when the two models' names are exchanged by chance, question by question."""
    values = np.asarray(differences, np.float64)
    if not values.size:
        return None, True
    values = values[values != 0]
    limit = abs(values.sum()) * (1 - 1e-12) - 1e-12
    if values.size <= _FLIPPED:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums + value, sums - value])
        return round(float((np.abs(sums) >= limit).mean()), _P_DIGITS), True
    random = np.random.default_rng(seed)
    block, as_far = max(1, _FLIPS_AT_ONCE // values.size), 0
    for start in range(0, resamples, block):
        flips = random.integers(0, 2, (min(block, resamples - start), values.size), np.int8)
        as_far += int((np.abs((2.0 * flips - 1.0) @ values) >= limit).sum())
    return round((1 + as_far) / (1 + resamples), _P_DIGITS), False


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The p values corrected for being read together (Holm 1979); null ones stay null and do not count."""
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[place] = round(largest, _P_DIGITS)
    return corrected


def detectable_difference(differences: Sequence[float], right_or_wrong: bool) -> float | None:
    """The smallest mean difference that a two-sided test at 5% finds with a power of 80%, from the differences' spread.

    (t(0.975) + t(0.8)) · s / √n, with t quantiles of n - 1 degrees. Where nothing changed, s is that of the most
    changes that n questions may hide (3 in n, at 95%). Right-or-wrong scores need six changes: never under 6 / n.
    Null with fewer than six questions.
    """
    count = len(differences)
    if count < _FEWEST:
        return None
    spread = float(np.std(differences, ddof=1)) or math.sqrt(3 / count)
    smallest = detectable_spread(spread / math.sqrt(count), count)
    return max(smallest, round(_FEWEST / count, DIGITS)) if smallest and right_or_wrong else smallest


def detectable_spread(error: float, count: int) -> float | None:
    """The same of a mean over `count` questions whose standard error is `error`, at most 1."""
    if count < _FEWEST:
        return None
    quantiles = t_quantile((1 + LEVEL) / 2, count - 1) + t_quantile(POWER, count - 1)
    return round(min(1.0, quantiles * error), DIGITS)


def visible_words(questions: int, detectable: float | None) -> str:
    """What so many questions can show, in words."""
    if not questions:
        return "no question has a score of both, so nothing is compared"
    amount = f"with {questions:,} question{'' if questions == 1 else 's'}"
    if detectable is None or detectable >= 1:
        return f"{amount}, no difference can be told from chance"
    points = 100 * detectable
    return (
        f"{amount}, differences under {points:.0f} points can't be seen"
        if points >= 2
        else (f"{amount}, differences under {points:.1f} points can't be seen")
    )


def t_quantile(share: float, degrees: int) -> float:
    """A quantile of Student's t, by its expansion around the normal one (Abramowitz & Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(share)
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )


def _all_resamples(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of every different resample, and its probability: how often each value is drawn is multinomial."""
    count = values.size
    means: list[float] = []
    weights: list[float] = []

    def draw(place: int, left: int, total: float, ways: float) -> None:
        if place == count - 1:
            means.append((total + left * values[place]) / count)
            weights.append(ways / math.factorial(left))
            return
        for times in range(left + 1):
            draw(place + 1, left - times, total + times * values[place], ways / math.factorial(times))

    draw(0, count, 0.0, math.factorial(count) / count**count)
    return np.asarray(means), np.asarray(weights)


def _log_binomial(trials: int, successes: int) -> float:
    """The logarithm of the chance of so many successes at 1/2."""
    ways = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return ways - trials * math.log(2)


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
