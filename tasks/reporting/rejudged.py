"""Two judges on the same answers, or one judge twice: how far they agree beyond chance.

- Preferences: of every two answers to a question that both have rewarded, each judge prefers the first, the second or
  neither. Cohen's kappa (1960): (p_o - p_e) / (1 - p_e), where p_e is what two judges with these shares of first,
  second and tie would agree by chance.
- Ratings: quadratic-weighted kappa (Cohen 1968) by dimension: 1 - Σ w_ij o_ij / Σ w_ij e_ij with w_ij = (i - j)². In
  moments that is 1 - mean((x - y)²) / (var x + var y + (mean x - mean y)²), exact for scores between the whole ones too
  (Lin's concordance coefficient, 1989), so that faithfulness needs no bins.
- Stability: mean |x - y|, and the share of scores that are the same.

Intervals are over questions. An answer is the same when question, sample index and text are.
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
from tasks.reporting.judged import JudgedAnswer, JudgedQuestion
from tasks.reporting.judging import REWARD

_TERMS = 8  # n, Σx, Σy, Σx², Σy², Σ(x - y)², Σ|x - y|, equal


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of an answer for the comparison: its text's hash and its scores, the reward among them."""

    text: str
    scores: Mapping[str, float | None]


Judged = Mapping[tuple[str, int], Kept]  # by example id and sample index


def keep(questions: Iterable[JudgedQuestion]) -> dict[tuple[str, int], Kept]:
    """The answers of a dataset, without their texts."""
    return {
        (question.example.example_id, answer.index): Kept(text_id(answer.text), _scores(answer))
        for question in questions
        for answer in question.answers
    }


class RejudgedTally:
    """Gathers the comparison of a dataset, a question at a time, with another that is `kept`."""

    def __init__(self, other: Judged) -> None:
        self._other = other
        self._common = self._differing = self._missing = 0
        self._preferences = array("d")  # by question: the 3 x 3 table of first, second, tie
        self._ratings: dict[str, array[float]] = {}  # by dimension, by question: _TERMS sums

    def add(self, question: JudgedQuestion) -> None:
        """Compare a question's answers."""
        both: list[tuple[Mapping[str, float | None], Mapping[str, float | None]]] = []
        for answer in question.answers:
            other = self._other.get((question.example.example_id, answer.index))
            if other is None:
                self._missing += 1
            elif other.text != text_id(answer.text):
                self._differing += 1
            else:
                both.append((_scores(answer), other.scores))
        self._common += len(both)
        rewards = [(x, y) for one, two in both if (x := one[REWARD]) is not None and (y := two[REWARD]) is not None]
        table = np.zeros((3, 3))
        for (x, y), (other_x, other_y) in combinations(rewards, 2):
            table[_preference(x, other_x), _preference(y, other_y)] += 1
        if table.any():
            self._preferences.extend(table.ravel())
        for name in dict.fromkeys(name for one, two in both for name in one if name in two):
            known = [
                (x, y) for one, two in both if (x := one.get(name)) is not None and (y := two.get(name)) is not None
            ]
            if known:
                self._ratings.setdefault(name, array("d")).extend(_terms(np.array(known, np.float64)))

    def figures(self) -> dict[str, Any]:
        """What `longmill agreement --with` says.

        {"answers": in both, "differing": the same answer with another text, "missing": only in the first,
        "preferences": {"kappa": {"value", "low", "high", "n": pairs}, "agreed": share, "table": 3 x 3, rows the first
        judge's first / second / tie}, "ratings": {dimension: {"kappa": the same over answers,
        "mean_absolute_difference", "unchanged": share, "n"}}}; preferences are null where no pair is rewarded in both
        """
        return {
            "answers": self._common,
            "differing": self._differing,
            "missing": self._missing,
            "preferences": self._compared() if self._preferences else None,
            "ratings": {name: _rating(values) for name, values in self._ratings.items()},
        }

    def _compared(self) -> dict[str, Any]:
        sums = np.array(self._preferences, np.float64).reshape(-1, 9)
        table = sums.sum(axis=0).reshape(3, 3)
        pairs = round(float(table.sum()))
        return {
            "kappa": asdict(sums_interval(sums, cohens_kappa, pairs, RESAMPLES, SEED)),
            "agreed": round(float(np.trace(table)) / pairs, 6),
            "table": [[round(float(count)) for count in row] for row in table],
        }


def cohens_kappa(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa of tables [draws, k·k] of counts; NaN for an empty one, and where chance alone agrees fully."""
    size = round(tables.shape[1] ** 0.5)
    counts = tables.reshape(-1, size, size)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / counts.sum(axis=(1, 2), keepdims=True)
        observed = np.trace(shares, axis1=1, axis2=2)
        chance = (shares.sum(axis=2) * shares.sum(axis=1)).sum(axis=1)
        return np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)


def quadratic_kappa(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quadratic-weighted kappa of sums [draws, _TERMS]; NaN where neither judge varies and both say the same."""
    with np.errstate(invalid="ignore", divide="ignore"):
        n, x, y, xx, yy, squares = (sums[:, place] for place in range(6))
        mean_x, mean_y = x / n, y / n
        chance = (xx / n - mean_x**2) + (yy / n - mean_y**2) + (mean_x - mean_y) ** 2
        return np.where(chance > 1e-9, 1 - (squares / n) / chance, np.nan)


def _terms(known: NDArray[np.float64]) -> list[float]:
    x, y = known.T
    apart = np.abs(x - y)
    terms = (len(x), x.sum(), y.sum(), x @ x, y @ y, apart @ apart, apart.sum(), (apart == 0).sum())
    return [float(term) for term in terms]


def _rating(values: "array[float]") -> dict[str, Any]:
    sums = np.array(values, np.float64).reshape(-1, _TERMS)
    whole = sums.sum(axis=0)
    n = round(float(whole[0]))
    return {
        "kappa": asdict(sums_interval(sums, quadratic_kappa, n, RESAMPLES, SEED)),
        "mean_absolute_difference": round(float(whole[6]) / n, 6),
        "unchanged": round(float(whole[7]) / n, 6),
        "n": n,
    }


def _preference(first: float, second: float) -> int:
    return 0 if first > second else 1 if first < second else 2


def _scores(answer: JudgedAnswer) -> dict[str, float | None]:
    return {**{name: score.value for name, score in answer.scores.items()}, REWARD: answer.reward}
