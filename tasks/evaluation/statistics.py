"""Bootstrap confidence intervals of means, and of the difference between two models on the same questions.

Percentile bootstrap (Efron 1979): questions are drawn with replacement, `resamples` times; the interval spans
the middle `level` of the means. Two models are compared in pairs: the resampled unit is the question with both
its scores, so a question that is hard for both models does not widen the interval. A figure that is computed from sums
over questions (a share of pairs, a kappa) is computed again from the sums of each resample, so that all numbers of one
question are drawn together. Seeded, so the same scores give the same interval.

Intervals of means are those of scipy.stats.bootstrap to the last digit, without its import, which takes a second. Of
sums over questions one matrix product gives those of a whole block of resamples.

Leaves out: several questions over one context count as independent; tests of significance (significance.py).
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
DIGITS = 6
_DRAWS_AT_ONCE = 1_000_000  # of a block of resamples: half as fast where they do not fit the processor's cache


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
    mean = _rounded(values.mean())
    if values.size == 1:
        return Interval(mean, mean, mean, 1)
    edge = 100 * (1 - level) / 2
    low, high = np.percentile(resampled_means(values, resamples, seed), [edge, 100 - edge])
    return Interval(mean, _rounded(low), _rounded(high), values.size)


def mean_intervals(columns: Sequence[Sequence[float]], resamples: int, seed: int) -> list[Interval]:
    """`mean_interval` of each column, in threads: a dataset of 10,000 shards has half a million questions."""
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        return list(pool.map(lambda scores: mean_interval(scores, resamples, seed), columns))


def difference_interval(
    before: Sequence[float], after: Sequence[float], resamples: int, seed: int, level: float = LEVEL
) -> Interval:
    """The mean of after - before over paired questions, with its interval. Raises ValueError at unequal lengths."""
    differences = []
    for value_before, value_after in zip(before, after, strict=True):
        differences.append(value_after - value_before)
    return mean_interval(differences, resamples, seed, level)


def sums_interval(
    sums: ArrayLike,
    figure: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    n: int,
    resamples: int,
    seed: int,
    level: float = LEVEL,
) -> Interval:
    """A figure of sums over questions, with its interval; `n` is returned as the number that it rests on.

    `sums` is [questions, terms]: what each question adds. `figure` maps sums [draws, terms] to figures [draws], NaN
    where it is not defined; such draws are left out of the interval.
    """
    values = np.asarray(sums, np.float64)
    if not len(values):
        return Interval(None, None, None, n)
    whole = figure(values.sum(axis=0, keepdims=True))
    return interval_of_draws(whole[0], figure(_resampled_sums(values, resamples, seed)), n, level)


def nested_interval(groups: Sequence[ArrayLike], resamples: int, seed: int, level: float = LEVEL) -> Interval:
    """Σ parts / Σ wholes over the questions of several runs, with its interval; a mean where every whole is 1.

    A group is a run's [questions, 2], part and whole. Runs are drawn with replacement, then the questions of each
    (Davison & Hinkley 1997, 3.8), so the interval spans what another seed would change too. With few runs it is
    narrow: draws of 3 runs hold but two thirds of the variance between runs. `n` is the number of questions with a
    whole above 0.
    """
    runs: list[NDArray[np.float64]] = []
    for group in groups:
        values = np.asarray(group, np.float64).reshape(-1, 2)
        if len(values):
            runs.append(values)
    if not runs:
        return Interval(None, None, None, 0)
    random = np.random.default_rng(seed)
    times = random.multinomial(len(runs), [1 / len(runs)] * len(runs), resamples)  # [resamples, runs]
    drawn = np.zeros((resamples, 2))
    for place, values in enumerate(runs):
        for draw in range(times[:, place].max()):
            chosen = times[:, place] > draw  # the resamples that draw this run more than `draw` times
            drawn[chosen] += _resampled_sums(values, int(chosen.sum()), int(random.integers(2**31)))
    whole = np.concatenate(runs)
    return interval_of_draws(_share(whole.sum(axis=0)[None])[0], _share(drawn), int((whole[:, 1] > 0).sum()), level)


def _share(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan)


def ratio_intervals(
    parts: ArrayLike, wholes: ArrayLike, resamples: int, seed: int, level: float = LEVEL
) -> list[Interval]:
    """Σ parts / Σ wholes over questions, with its interval, for each column of [questions, columns]; n is Σ wholes."""
    upper, lower = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    columns = upper.shape[1]
    if not len(upper):
        return [Interval(None, None, None, 0)] * columns
    sums = np.concatenate([upper, lower], axis=1)
    whole, drawn = sums.sum(axis=0, keepdims=True), _resampled_sums(sums, resamples, seed)
    intervals: list[Interval] = []
    for place in range(columns):
        n = round(float(whole[0, columns + place]))
        intervals.append(interval_of_draws(_ratio(whole, place)[0], _ratio(drawn, place), n, level))
    return intervals


def _ratio(sums: NDArray[np.float64], place: int) -> NDArray[np.float64]:
    upper, lower = sums[:, place], sums[:, sums.shape[1] // 2 + place]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lower > 0, upper / lower, np.nan)


def interval_of_draws(value: np.float64, drawn: NDArray[np.float64], n: int, level: float) -> Interval:
    """The percentile interval of a figure that was drawn again; NaN draws are left out."""
    if np.isnan(value):
        return Interval(None, None, None, n)
    edge = (1 - level) / 2
    low, high = np.nanquantile(drawn, [edge, 1 - edge]) if not np.isnan(drawn).all() else (value, value)
    return Interval(_rounded(value), _rounded(low), _rounded(high), n)


def resampled_means(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of as many values as there are, drawn with replacement, [resamples]."""
    random = np.random.default_rng(seed)
    block = max(1, _DRAWS_AT_ONCE // values.size)
    means = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        means.append(values[random.integers(0, values.size, (size, values.size))].mean(axis=-1))
    return np.concatenate(means)


def _resampled_sums(sums: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Sums over as many questions as there are, drawn with replacement, [resamples, terms]."""
    random = np.random.default_rng(seed)
    count = len(sums)
    block = max(1, _DRAWS_AT_ONCE // count)
    drawn = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        places = random.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        drawn.append(np.bincount(places.ravel(), minlength=size * count).reshape(size, count) @ sums)
    return np.concatenate(drawn)


def _rounded(value: np.float64) -> float:
    return round(float(value), DIGITS)
