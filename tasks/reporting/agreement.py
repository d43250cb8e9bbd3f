"""Agreement: how often a score prefers the same of two answers as the references or people's labels do.

A `Preference` names the better and the worse of two answers to a question. It comes from the references (the answer
with the higher gold value is better: SubEM, or for a list question the share of its items), or from a file of labels.
A label is a row {"example_id": ..., "first": sample index, "second": sample index, "preferred": "first" | "second" |
"same"}, in JSONL or Parquet. Every row counts: two people who judge the same pair give two labels. One that says "same"
is no preference, and is left out, as are two answers that the references do not tell apart.

A score agrees with a preference when it is higher for the better answer; an equal score counts half. A pair in which
a score is null is left out of that score's accuracy and counted by its reason. The reason is "pruned" only when
pruning is the only cause, because those answers were left unjudged on purpose. So accuracies may be over different
pairs. `gain`, what a dimension adds to the mean, compares the mean with and without the dimension on the pairs that
have both.

Accuracy is over pairs, its interval over questions (percentile bootstrap). It is reported and never used to select.
"""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError
from tasks.evaluation.statistics import Interval, ratio_intervals
from tasks.judging.pruning import PRUNED
from tasks.metrics import gold_value
from tasks.questions.question import SourceRow
from tasks.questions.rows import read_rows
from tasks.reporting.judged_questions import JudgedAnswer, JudgedQuestion

RESAMPLES = 1000  # of the bootstrap
SEED = 0
SAME = "same"  # of a label: neither answer is better
_DIGITS = 6  # of a mean, as of a reward
_REMEDY = 'write rows as {"example_id": "q1", "first": 0, "second": 3, "preferred": "first"}'


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers of a question by sample index: `better` is preferred."""

    better: int
    worse: int


@dataclass(frozen=True, slots=True)
class Label:
    """A row of a file of labels. `location` is its file and row, for messages."""

    location: str
    preference: Preference


Labels = Mapping[str, list[Label]]  # by example id


def gold_preferences(question: JudgedQuestion) -> list[Preference]:
    """All pairs of the question's answers whose gold values differ; refused answers are left out."""
    if not question.example.references:
        return []
    value_of_text: dict[str, float | None] = {}
    values: list[tuple[int, float]] = []  # sample index, gold value
    for answer in question.answers:
        if answer.text not in value_of_text:
            value_of_text[answer.text] = gold_value(answer.text, question.example)
        value = value_of_text[answer.text]
        if value is not None and not answer.refused:
            values.append((answer.index, value))
    preferences = []
    for better, high in values:
        for worse, low in values:
            if high > low:
                preferences.append(Preference(better, worse))
    return preferences


def read_labels(source: str) -> Labels:
    """The labels of a file. Raises InputError with file, row, field and remedy at the first row that is not a label."""
    labels: dict[str, list[Label]] = {}
    for row in read_rows(source):
        example_id, label = _parse_label(row)
        if label is not None:
            labels.setdefault(example_id, []).append(label)
    return labels


def label_preferences(question: JudgedQuestion, labels: Labels) -> tuple[list[Preference], list[str]]:
    """The preferences of a question's labels, and the locations of labels about answers that are not there."""
    indices = {answer.index for answer in question.answers}
    preferences, unknown = [], []
    for label in labels.get(question.example.example_id, []):
        if {label.preference.better, label.preference.worse} <= indices:
            preferences.append(label.preference)
        else:
            unknown.append(label.location)
    return preferences, unknown


class AgreementTally:
    """Counts the agreement of every dimension, of their mean, and of the mean without each dimension.

    `weights` are the weights in the mean, by scorer. Memory is a few numbers for each question with a preference.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = dict(weights)
        weighted = [name for name, weight in weights.items() if weight > 0]
        self._parts = weighted if len(weighted) > 1 else []  # without its only dimension there is no mean
        # A column for each dimension, for the mean, and for the mean without each of its dimensions.
        self._columns = [*weights, "mean"]
        self._required = [[name] for name in weights]  # by column: the dimensions that it needs
        self._required.append(weighted)
        for part in self._parts:
            self._columns.append(f"mean without {part}")
            self._required.append([name for name in weighted if name != part])
        self._sums = array("d")  # by question: see `_sums_by_question`
        self._missing: list[Counter[str]] = [Counter() for _ in self._columns]
        self._questions = self._pairs = 0

    def add(self, question: JudgedQuestion, preferences: Sequence[Preference]) -> None:
        """Count the preferences of a question."""
        if not preferences:
            return
        self._questions += 1
        self._pairs += len(preferences)
        answers, values = {}, {}
        for answer in question.answers:
            answers[answer.index] = answer
            values[answer.index] = self._values(answer)
        better_values, worse_values = [], []
        for preference in preferences:
            better_values.append(values[preference.better])
            worse_values.append(values[preference.worse])
        better, worse = np.array(better_values, np.float64), np.array(worse_values, np.float64)
        agreed, compared = _agreement(better, worse)  # [preferences, columns]
        mean = len(self._weights)  # the column of the mean
        both_compared = compared[:, [mean]] & compared[:, mean + 1 :]
        gained = (agreed[:, [mean]] - agreed[:, mean + 1 :]) * both_compared
        for values_by_pair in (agreed, compared, gained, both_compared):
            self._sums.extend(values_by_pair.sum(axis=0))
        for place, column in np.argwhere(~compared):
            preference = preferences[place]
            reason = self._missing_reason(column, answers[preference.better], answers[preference.worse])
            self._missing[column][reason] += 1

    def state(self) -> dict[str, Any]:
        """What has been counted, as JSON values, for `merge`."""
        return {
            "questions": self._questions,
            "pairs": self._pairs,
            "sums": self._sums.tolist(),
            "missing": [dict(missing) for missing in self._missing],
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """Count what another tally of the same weights has counted, after what is counted here."""
        self._questions += state["questions"]
        self._pairs += state["pairs"]
        self._sums.extend(state["sums"])
        for missing, more in zip(self._missing, state["missing"], strict=True):
            missing.update(more)

    def figures(self) -> dict[str, Any] | None:
        """The figures of the report; null when there is no preference.

        {"pairs", "questions", "dimensions": {name: figure}, "mean": figure, "leave_one_out": {name: figure}}, a figure
        {"accuracy", "low", "high", "pairs", "missing": {reason: pairs}}, and in leave_one_out "gain": {"value",
        "low", "high", "pairs"}, the accuracy of the mean less that of the mean without the dimension.
        """
        if not self._pairs:
            return None
        agreed, compared, gained, both_compared = self._sums_by_question()
        parts, wholes = np.hstack([agreed, gained]), np.hstack([compared, both_compared])
        intervals = ratio_intervals(parts, wholes, RESAMPLES, SEED)
        gains = intervals[len(self._columns) :]
        figures = []
        for interval, missing in zip(intervals, self._missing, strict=False):  # the first are of the columns
            figures.append(_accuracy_figure(interval, missing))
        mean = len(self._weights)
        without = figures[mean + 1 :]
        for figure, gain in zip(without, gains, strict=True):
            figure["gain"] = {"value": gain.value, "low": gain.low, "high": gain.high, "pairs": gain.n}
        return {
            "pairs": self._pairs,
            "questions": self._questions,
            "dimensions": dict(zip(self._weights, figures[:mean], strict=True)),
            "mean": figures[mean],
            "leave_one_out": dict(zip(self._parts, without, strict=True)),
        }

    def by_question(self) -> list[dict[str, tuple[float, float]]]:
        """For each question, by score: pairs that agree and pairs that were compared.

        A score is a dimension, "mean", or "mean without DIMENSION".
        """
        agreed, compared, _, _ = self._sums_by_question()
        questions = []
        for agreed_row, compared_row in zip(agreed.tolist(), compared.tolist(), strict=True):
            counts = zip(agreed_row, compared_row, strict=True)
            questions.append(dict(zip(self._columns, counts, strict=True)))
        return questions

    def _sums_by_question(self) -> list[NDArray[np.float64]]:
        """The sums over each question's pairs: agreed and compared [questions, columns]; then the gain of the mean
        over the mean without each part, and the pairs that have both means [questions, parts]."""
        columns, parts = len(self._columns), len(self._parts)
        sums = np.array(self._sums, np.float64).reshape(-1, 2 * columns + 2 * parts)
        return np.split(sums, [columns, 2 * columns, 2 * columns + parts], axis=1)

    def _values(self, answer: JudgedAnswer) -> list[float]:
        """An answer's value in every column, NaN for null."""
        scores = {name: _score_value(answer, name) for name in self._weights}
        values = [*scores.values(), np.nan if answer.reward is None else answer.reward]
        for part in self._parts:
            values.append(self._mean_without(scores, part))
        return values

    def _mean_without(self, scores: Mapping[str, float], left_out: str) -> float:
        total = weights = 0.0
        for name in self._parts:
            if name != left_out:
                total += self._weights[name] * scores[name]
                weights += self._weights[name]
        return round(total / weights, _DIGITS)

    def _missing_reason(self, column: int, better: JudgedAnswer, worse: JudgedAnswer) -> str:
        """Why a column has no value for one of two answers."""
        reasons: list[str | None] = []
        for answer in (better, worse):
            for name in self._required[column]:
                score = answer.scores.get(name)
                if score is None:
                    reasons.append("not_judged")
                elif score.value is None:
                    reasons.append(score.reason)
        for reason in reasons:
            if reason and reason != PRUNED:
                return reason
        return PRUNED if reasons else "no_reward"


def _score_value(answer: JudgedAnswer, name: str) -> float:
    score = answer.scores.get(name)
    return np.nan if score is None or score.value is None else score.value


def _agreement(
    better: NDArray[np.float64], worse: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """1 where the better answer has the higher score, 0.5 where they are equal, else 0; and where both have a score."""
    compared = ~(np.isnan(better) | np.isnan(worse))
    with np.errstate(invalid="ignore"):
        agreed = (better > worse) + 0.5 * (better == worse)
    return np.where(compared, agreed, 0.0), compared


def _accuracy_figure(interval: Interval, missing: Counter[str]) -> dict[str, Any]:
    return {
        "accuracy": interval.value,
        "low": interval.low,
        "high": interval.high,
        "pairs": interval.n,
        "missing": dict(sorted(missing.items())),
    }


def _parse_label(row: SourceRow) -> tuple[str, Label | None]:
    """The example id of a row, and its label; None where neither answer is preferred."""
    location = f"{row.file}, row {row.number}"
    example_id = row.values.get("example_id")
    if not isinstance(example_id, str) or not example_id:
        raise InputError(f"{location}: example_id is {_value_text(example_id)}, not a text; {_REMEDY}")
    first = _sample_index(row, location, "first")
    second = _sample_index(row, location, "second")
    if first == second:
        raise InputError(f"{location}: first and second are both {first}; an answer is not preferred to itself")
    preferred = row.values.get("preferred")
    if preferred == SAME:
        return example_id, None
    if preferred not in ("first", "second"):
        raise InputError(
            f'{location}: preferred is {_value_text(preferred)}, not "first", "second" or "same"; {_REMEDY}'
        )
    preference = Preference(first, second) if preferred == "first" else Preference(second, first)
    return example_id, Label(location, preference)


def _sample_index(row: SourceRow, location: str, field: str) -> int:
    value = row.values.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(
            f"{location}: {field} is {_value_text(value)}, not the index of a sample (0, 1, ...); {_REMEDY}"
        )
    return value


def _value_text(value: Any) -> str:
    """A value as an error message shows it."""
    return "missing" if value is None else repr(value)[:60]
