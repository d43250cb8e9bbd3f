"""Macro averages: the mean of the tasks' means, as benchmarks of several tasks are reported.

Questions are resampled within their task, so that every resample has as many of each as the suite has.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.significance import detectable_spread, sign_flip, visible_words
from tasks.evaluation.statistics import LEVEL, Interval, interval_of_draws, resampled_means

Scores = Mapping[str, Sequence[float]]  # of one metric, by task


def macro_interval(scores: Scores, resamples: int, seed: int) -> Interval:
    """The mean of the tasks' means with its interval; a task without a score does not count. `n` counts questions."""
    columns = _columns(scores)
    if not columns:
        return Interval(None, None, None, 0)
    drawn = np.zeros(resamples)
    for place, values in enumerate(columns):
        drawn += resampled_means(values, resamples, seed + place) / len(columns)
    mean = np.mean([values.mean() for values in columns])
    return interval_of_draws(np.float64(mean), drawn, sum(values.size for values in columns), LEVEL)


def macro_difference(differences: Scores, resamples: int, seed: int) -> dict[str, Any]:
    """The macro average of paired differences, with interval, test (sign flips) and what could be seen."""
    interval = macro_interval(differences, resamples, seed)
    columns = _columns(differences)
    shares = [value / (len(columns) * values.size) for values in columns for value in values.tolist()]
    p, exact = sign_flip(shares, resamples, seed)
    detectable = None
    if columns and min(values.size for values in columns) > 1:
        variance = sum(float(values.var(ddof=1)) / values.size for values in columns)
        detectable = detectable_spread(math.sqrt(variance) / len(columns), interval.n)
    test = "sign flips, exact" if exact else "sign flips"
    words = visible_words(interval.n, detectable)
    return asdict(interval) | {"p": p, "test": test, "detectable": detectable, "words": words}


def _columns(scores: Scores) -> list[NDArray[np.float64]]:
    return [np.asarray(values, np.float64) for _, values in sorted(scores.items()) if len(values)]
