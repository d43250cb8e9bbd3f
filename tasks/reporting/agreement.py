"""Agreement: how often the answer with the higher score is the one that is known to be better.

What is known comes from references (gold values: SubEM, of a list question the share of its items) or from people's
labels. Of two answers to a question with different gold values the one with the higher is preferred. A score agrees
when it is higher for the preferred answer; an equal score counts half. A pair in which a score is null is left out
of that score's accuracy, and counted by the reason: "pruned" when nothing but pruning is the cause, because those
answers were left unjudged on purpose. So accuracies may rest on different pairs; `gain`, what a dimension adds to the
mean, compares the mean with and without it on the pairs that have both.

Accuracy is over pairs, its interval over questions (percentile bootstrap). Reported, and never used for selection.
"""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.statistics import Interval, ratio_intervals
from tasks.judging.pruning import PRUNED
from tasks.metrics import gold_value
from tasks.reporting.judged import JudgedAnswer, JudgedQuestion

RESAMPLES = 1000
SEED = 0
_DIGITS = 6  # of a mean: as of a reward


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers of a question by sample index: `better` is preferred."""

    better: int
    worse: int


def gold_preferences(question: JudgedQuestion) -> list[Preference]:
    """All pairs of the question's answers that the references tell apart; answers that were refused are none."""
    if not question.example.references:
        return []
    by_text: dict[str, float | None] = {}
    for answer in question.answers:
        if answer.text not in by_text:
            by_text[answer.text] = gold_value(answer.text, question.example)
    valued = [
        (answer.index, value)
        for answer in question.answers
        if not answer.refused and (value := by_text[answer.text]) is not None
    ]
    return [Preference(first, second) for first, high in valued for second, low in valued if high > low]


class AgreementTally:
    """Gathers the agreement of every dimension, of the mean, and of the mean without each; `weights` by scorer.

    Memory is a few numbers for each question that has a known preference.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = dict(weights)
        part_of_mean = [name for name, weight in weights.items() if weight > 0]
        self._parts = part_of_mean if len(part_of_mean) > 1 else []  # a mean without its only part is none
        self._columns = [*weights, "", *self._parts]  # "" is the mean
        # By question: what agreed and what was compared, of every column; then the mean's of both, beside each part.
        self._sums = array("d")
        self._missing: list[Counter[str]] = [Counter() for _ in self._columns]
        self._questions = self._pairs = 0

    def add(self, question: JudgedQuestion, preferences: Sequence[Preference]) -> None:
        """Count the known preferences of a question."""
        if not preferences:
            return
        self._questions += 1
        self._pairs += len(preferences)
        answers = {answer.index: answer for answer in question.answers}
        values = {index: np.array(self._values(answer), np.float64) for index, answer in answers.items()}
        better = np.stack([values[each.better] for each in preferences])
        worse = np.stack([values[each.worse] for each in preferences])
        agreed, known = _agreed(better, worse)
        self._sums.extend(agreed.sum(axis=0))
        self._sums.extend(known.sum(axis=0))
        mean, both = agreed[:, [len(self._weights)]], known[:, len(self._weights) + 1 :]
        both = both & known[:, [len(self._weights)]]
        self._sums.extend(((mean - agreed[:, len(self._weights) + 1 :]) * both).sum(axis=0))
        self._sums.extend(both.sum(axis=0))
        for pair, column in np.argwhere(~known):
            each = preferences[pair]
            self._missing[column][self._reason(column, answers[each.better], answers[each.worse])] += 1

    def figures(self) -> dict[str, Any] | None:
        """What the report says of it; null when nothing is known.

        {"pairs", "questions", "dimensions": {name: figure}, "mean": figure, "leave_one_out": {name: figure}}, a figure
        {"accuracy", "low", "high", "pairs", "missing": {reason: pairs}}, and in leave_one_out "gain": {"value",
        "low", "high", "pairs"}, the accuracy of the mean less that of the mean without the dimension.
        """
        if not self._pairs:
            return None
        width = 2 * len(self._columns) + 2 * len(self._parts)
        sums = np.array(self._sums, np.float64).reshape(-1, width)
        agreed, known, gained, both = np.split(sums, self._edges(), axis=1)
        intervals = ratio_intervals(agreed, known, RESAMPLES, SEED)
        found = [_figure(*each) for each in zip(intervals, self._missing, strict=True)]
        without = found[len(self._weights) + 1 :]
        for figure, gain in zip(without, ratio_intervals(gained, both, RESAMPLES, SEED), strict=True):
            figure["gain"] = _gain(gain)
        return {
            "pairs": self._pairs,
            "questions": self._questions,
            "dimensions": dict(zip(self._weights, found, strict=False)),
            "mean": found[len(self._weights)],
            "leave_one_out": dict(zip(self._parts, without, strict=True)),
        }

    def by_question(self) -> list[dict[str, tuple[float, float]]]:
        """Of each question, by score: pairs that agree and pairs compared. A score is a dimension, "mean", or
        "mean without DIMENSION"."""
        names = [*self._weights, "mean", *(f"mean without {part}" for part in self._parts)]
        width = 2 * len(self._columns) + 2 * len(self._parts)
        sums = np.array(self._sums, np.float64).reshape(-1, width)
        agreed, known, *_ = np.split(sums, self._edges(), axis=1)
        return [
            dict(zip(names, zip(*each, strict=True), strict=True))
            for each in zip(agreed.tolist(), known.tolist(), strict=True)
        ]

    def _edges(self) -> list[int]:
        columns, parts = len(self._columns), len(self._parts)
        return [columns, 2 * columns, 2 * columns + parts]

    def _values(self, answer: JudgedAnswer) -> list[float]:
        """An answer's value in every column, NaN for null."""
        scores = {name: _value(answer, name) for name in self._weights}
        means = [self._mean_without(scores, part) for part in self._parts]
        return [*scores.values(), np.nan if answer.reward is None else answer.reward, *means]

    def _mean_without(self, scores: Mapping[str, float], left_out: str) -> float:
        others = [name for name in self._parts if name != left_out]
        total = sum(self._weights[name] * scores[name] for name in others)
        return round(total / sum(self._weights[name] for name in others), _DIGITS)

    def _reason(self, column: int, better: JudgedAnswer, worse: JudgedAnswer) -> str:
        """Why a column has no value for one of two answers."""
        names = self._needed(column)
        found = [
            score.reason if score else "not_judged"
            for answer in (better, worse)
            for name in names
            if (score := answer.scores.get(name)) is None or score.value is None
        ]
        return next((reason for reason in found if reason and reason != PRUNED), PRUNED if found else "no_reward")

    def _needed(self, column: int) -> list[str]:
        if column < len(self._weights):
            return [self._columns[column]]
        left_out = self._columns[column]
        return [name for name, weight in self._weights.items() if weight > 0 and name != left_out]


def _value(answer: JudgedAnswer, name: str) -> float:
    score = answer.scores.get(name)
    return np.nan if score is None or score.value is None else score.value


def _agreed(better: NDArray[np.float64], worse: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """1 where the preferred answer scores higher, 0.5 where equal, else 0; and where both have a score."""
    known = ~(np.isnan(better) | np.isnan(worse))
    with np.errstate(invalid="ignore"):
        agreed = (better > worse) + 0.5 * (better == worse)
    return np.where(known, agreed, 0.0), known


def _figure(interval: Interval, missing: Counter[str]) -> dict[str, Any]:
    bounds = {"accuracy": interval.value, "low": interval.low, "high": interval.high, "pairs": interval.n}
    return bounds | {"missing": dict(sorted(missing.items()))}


def _gain(interval: Interval) -> dict[str, Any]:
    figures = asdict(interval)
    return {**{name: figures[name] for name in ("value", "low", "high")}, "pairs": interval.n}
