"""Bootstrap confidence intervals of means, and of the difference between two models on the same questions.

Percentile bootstrap (Efron 1979): questions are drawn with replacement, `resamples` times; the interval spans
the middle `level` of the means. Two models are compared in pairs: the resampled unit is the question with both
its scores, so what makes a question hard for both cancels out. Seeded, so the same scores give the same interval.

Leaves out: several questions over one context count as independent; tests of significance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
DIGITS = 6
_DRAWS_AT_ONCE = 4_000_000  # bounds the memory of a block of resamples


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds of its confidence interval; all three are null when `n`, the questions, is 0."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def mean_interval(scores: Sequence[float], resamples: int, seed: int, level: float = LEVEL) -> Interval:
    """The mean of one score a question, with its interval."""
    values = np.asarray(scores, np.float64)
    if values.size == 0:
        return Interval(None, None, None, 0)
    edge = (1 - level) / 2
    low, high = np.quantile(_resampled_means(values, resamples, seed), [edge, 1 - edge])
    return Interval(_rounded(values.mean()), _rounded(low), _rounded(high), values.size)


def difference_interval(
    before: Sequence[float], after: Sequence[float], resamples: int, seed: int, level: float = LEVEL
) -> Interval:
    """The mean of after - before over paired questions, with its interval. Raises ValueError at unequal lengths."""
    return mean_interval([b - a for a, b in zip(before, after, strict=True)], resamples, seed, level)


def _resampled_means(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of `resamples` draws with replacement, [resamples]."""
    random = np.random.default_rng(seed)
    block = max(1, _DRAWS_AT_ONCE // values.size)
    means = [
        values[random.integers(0, values.size, (min(block, resamples - start), values.size))].mean(axis=1)
        for start in range(0, resamples, block)
    ]
    return np.concatenate(means)


def _rounded(value: np.float64) -> float:
    return round(float(value), DIGITS)
