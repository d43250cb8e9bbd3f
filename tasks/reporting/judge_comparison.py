"""Two judges on the same answers, or one judge twice: how far they agree beyond chance.

- Preferences: of every two answers to a question that both judges gave a reward, each judge prefers the first, the
  second or neither. Cohen's kappa (1960): (p_o - p_e) / (1 - p_e), where p_e is the agreement by chance of two judges
  with these shares of first, second and tie.
- Ratings: quadratic-weighted kappa (Cohen 1968) by dimension: 1 - Σ w_ij o_ij / Σ w_ij e_ij with w_ij = (i - j)². In
  moments that is 1 - mean((x - y)²) / (var x + var y + (mean x - mean y)²), exact for scores between whole numbers too
  (Lin's concordance coefficient, 1989), so that faithfulness needs no bins.
- Stability: mean |x - y|, and the share of equal scores.

Intervals are over questions; each resample needs its kappa from sums, which no library computes for many tables at
once. Two answers are the same when question, sample index and text are the same.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.canonical import text_id
from tasks.evaluation.statistics import sums_interval
from tasks.reporting.agreement import RESAMPLES, SEED
from tasks.reporting.judge_report import REWARD
from tasks.reporting.judged_questions import JudgedAnswer, JudgedQuestion
from tasks.reporting.verdict_agreement import cohens_kappa

_TERMS = 8  # n, Σx, Σy, Σx², Σy², Σ(x - y)², Σ|x - y|, count of x = y
_PREFERENCES = 3  # first, second, tie
_DIGITS = 6

Scores = Mapping[str, float | None]  # by scorer, the reward among them


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """The part of an answer that a comparison needs: the hash of its text, and its scores."""

    text_id: str
    scores: Scores


def scored_answers(questions: Iterable[JudgedQuestion]) -> dict[tuple[str, int], ScoredAnswer]:
    """The answers of a dataset without their texts, by example id and sample index."""
    answers = {}
    for question in questions:
        for answer in question.answers:
            answers[question.example.example_id, answer.index] = ScoredAnswer(text_id(answer.text), _scores(answer))
    return answers


class JudgeComparison:
    """Compares a dataset, a question at a time, with the `others`: answers of another dataset, in memory."""

    def __init__(self, others: Mapping[tuple[str, int], ScoredAnswer]) -> None:
        self._others = others
        self._common = self._differing = self._missing = 0  # answers
        self._preferences = array("d")  # by question: the 3 x 3 table of first, second, tie
        self._ratings: dict[str, array[float]] = {}  # by dimension, by question: _TERMS sums

    def add(self, question: JudgedQuestion) -> None:
        """Compare the answers of a question."""
        score_pairs: list[tuple[Scores, Scores]] = []
        for answer in question.answers:
            other = self._others.get((question.example.example_id, answer.index))
            if other is None:
                self._missing += 1
            elif other.text_id != text_id(answer.text):
                self._differing += 1
            else:
                score_pairs.append((_scores(answer), other.scores))
        self._common += len(score_pairs)
        table = np.zeros((_PREFERENCES, _PREFERENCES))
        for (x, y), (next_x, next_y) in combinations(_values(score_pairs, REWARD), 2):
            table[_preference(x, next_x), _preference(y, next_y)] += 1
        if table.any():
            self._preferences.extend(table.ravel())
        names: dict[str, None] = {}  # an ordered set
        for scores, other_scores in score_pairs:
            for name in scores:
                if name in other_scores:
                    names[name] = None
        for name in names:
            values = _values(score_pairs, name)
            if values:
                self._ratings.setdefault(name, array("d")).extend(_terms(np.array(values, np.float64)))

    def figures(self) -> dict[str, Any]:
        """The figures that `longmill agreement --with` shows.

        {"answers": in both, "differing": the same answer with another text, "missing": only in the first,
        "preferences": {"kappa": {"value", "low", "high", "n": pairs}, "agreed": share, "table": 3 x 3, rows the first
        judge's first / second / tie}, "ratings": {dimension: {"kappa": the same over answers,
        "mean_absolute_difference", "unchanged": share, "n"}}}; preferences are null where no pair has rewards in both
        """
        ratings = {}
        for name, sums in self._ratings.items():
            ratings[name] = _rating_figures(sums)
        return {
            "answers": self._common,
            "differing": self._differing,
            "missing": self._missing,
            "preferences": self._preference_figures() if self._preferences else None,
            "ratings": ratings,
        }

    def _preference_figures(self) -> dict[str, Any]:
        sums = np.array(self._preferences, np.float64).reshape(-1, _PREFERENCES**2)
        table = sums.sum(axis=0).reshape(_PREFERENCES, _PREFERENCES)
        pairs = round(float(table.sum()))
        return {
            "kappa": asdict(sums_interval(sums, cohens_kappa, pairs, RESAMPLES, SEED)),
            "agreed": round(float(np.trace(table)) / pairs, _DIGITS),
            "table": table.round().astype(int).tolist(),
        }


def quadratic_kappa(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quadratic-weighted kappa of sums [draws, _TERMS]; NaN where all scores of both judges are one number."""
    n, x, y, xx, yy, squares = sums[:, :6].T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = x / n, y / n
        chance = (xx / n - mean_x**2) + (yy / n - mean_y**2) + (mean_x - mean_y) ** 2
        return np.where(chance > 1e-9, 1 - (squares / n) / chance, np.nan)


def _values(score_pairs: Iterable[tuple[Scores, Scores]], name: str) -> list[tuple[float, float]]:
    """Both judges' scores of that name, for the answers that have both."""
    values = []
    for scores, other_scores in score_pairs:
        x, y = scores.get(name), other_scores.get(name)
        if x is not None and y is not None:
            values.append((x, y))
    return values


def _terms(values: NDArray[np.float64]) -> list[float]:
    """The _TERMS of both judges' scores [answers, 2]."""
    x, y = values.T
    apart = np.abs(x - y)
    terms = (len(x), x.sum(), y.sum(), x @ x, y @ y, apart @ apart, apart.sum(), (apart == 0).sum())
    return list(map(float, terms))


def _rating_figures(terms: "array[float]") -> dict[str, Any]:
    sums = np.array(terms, np.float64).reshape(-1, _TERMS)
    total = sums.sum(axis=0)
    n = round(float(total[0]))
    return {
        "kappa": asdict(sums_interval(sums, quadratic_kappa, n, RESAMPLES, SEED)),
        "mean_absolute_difference": round(float(total[6]) / n, _DIGITS),
        "unchanged": round(float(total[7]) / n, _DIGITS),
        "n": n,
    }


def _preference(first: float, second: float) -> int:
    """The row or column of the table: 0 for the first, 1 for the second, 2 for a tie."""
    if first == second:
        return 2
    return 0 if first > second else 1


def _scores(answer: JudgedAnswer) -> dict[str, float | None]:
    scores: dict[str, float | None] = {name: score.value for name, score in answer.scores.items()}
    scores[REWARD] = answer.reward
    return scores
