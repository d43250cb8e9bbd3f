"""How the judge behaved: length and position bias, expected beside sampled ratings, calls that were saved.

- Length: Spearman's rank correlation of a score with the answer's length in characters, within each question, so that
  harder questions with longer answers do not pass for a bias; the mean over questions with three scored answers or
  more of which neither scores nor lengths are all equal. And the share of pairs whose chosen answer is the longer one
  (of equal length counts half), the mean over questions where they have several.
- Position: a pairwise judge sees each two answers in both orders; the share of duels whose verdict is not the same
  answer (or a tie) in both, and the share of its decided verdicts that went to the answer shown first.
- Expected and sampled ratings of the same answers: Pearson's correlation, and the mean of expected - sampled.

Intervals are over questions. Reported, and never used for selection.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.statistics import mean_interval, ratio_intervals
from tasks.judging.pruning import saved_verdicts
from tasks.reporting.agreement import RESAMPLES, SEED
from tasks.reporting.judged import JudgedAnswer, JudgedQuestion

PAIRWISE = "pairwise"
REWARD = "reward"
_FEWEST = 3  # answers, for a rank correlation
_SWAPPED = {"A": "B", "B": "A", "C": "C"}  # the same verdict when the answers change places


class JudgingTally:
    """Gathers the figures; memory is a few numbers a question."""

    def __init__(self) -> None:
        self._lengths: dict[str, array[float]] = {}
        self._longer = array("d")
        self._duels = array("d")  # by question: changed, duels, to the first, decided
        self._ratings: dict[str, array[float]] = {}  # by scorer: expected, sampled, expected, ...
        self._saved: Counter[str] = Counter()

    def add(self, question: JudgedQuestion) -> None:
        """Count a question."""
        self._add_lengths(question)
        self._add_duels(question)
        for answer in question.answers:
            for scorer, score in answer.scores.items():
                both = [score.evidence.get(name) for name in ("expected", "rating")]
                ratings = [float(each) for each in both if isinstance(each, int | float)]
                if len(ratings) == len(both):
                    self._ratings.setdefault(scorer, array("d")).extend(ratings)
                if "facts" in score.evidence:
                    self._saved.update(saved_verdicts(score.evidence))

    def figures(self) -> dict[str, Any]:
        """What the report says of it; a part is null when there is nothing to say.

        {"length": {"correlation": {scorer or "reward": {"value", "low", "high", "n"}}, "longer_chosen": the same},
        "position": {"duels", "changed": {"value", "low", "high", "n"}, "first": the same},
        "expected": {scorer: {"n", "correlation", "mean_difference", "mean_absolute_difference"}},
        "saved": {"shared", "pruned", and "batched" where there are some}: verdicts on facts that cost no call}
        """
        correlation = {name: _mean(values) for name, values in self._lengths.items() if values}
        longer = _mean(self._longer) if self._longer else None
        length = {"correlation": correlation, "longer_chosen": longer} if correlation or longer else None
        return {
            "length": length,
            "position": self._position(),
            "expected": {name: _compared(values) for name, values in sorted(self._ratings.items())} or None,
            "saved": dict(self._saved) if self._saved else None,
        }

    def _add_lengths(self, question: JudgedQuestion) -> None:
        columns = [*dict.fromkeys(name for answer in question.answers for name in answer.scores), REWARD]
        for name in columns:
            known = [
                (value, len(answer.text)) for answer in question.answers if (value := _value(answer, name)) is not None
            ]
            correlation = spearman([value for value, _ in known], [length for _, length in known])
            if correlation is not None:
                self._lengths.setdefault(name, array("d")).append(correlation)
        lengths = {answer.index: len(answer.text) for answer in question.answers}
        both = [(lengths[pair[0]], lengths[pair[1]]) for pair in question.pairs if lengths.keys() >= set(pair)]
        if both:
            longer = sum((chosen > rejected) + 0.5 * (chosen == rejected) for chosen, rejected in both)
            self._longer.append(longer / len(both))

    def _add_duels(self, question: JudgedQuestion) -> None:
        duels = dict(_duels(question))
        if duels:
            firsts = [each for pair in duels.values() for each in pair]
            changed = sum(second != _SWAPPED[first] for first, second in duels.values())
            self._duels.extend((changed, len(duels), firsts.count("A"), len(firsts) - firsts.count("C")))

    def _position(self) -> dict[str, Any] | None:
        if not self._duels:
            return None
        changed, duels, first, decided = np.hsplit(np.array(self._duels, np.float64).reshape(-1, 4), 4)
        intervals = ratio_intervals(np.hstack([changed, first]), np.hstack([duels, decided]), RESAMPLES, SEED)
        return {"duels": intervals[0].n, "changed": asdict(intervals[0]), "first": asdict(intervals[1])}


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values sharing the mean of their ranks; None below three values, or when
    all of one side are equal."""
    if len(first) < _FEWEST or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return _pearson(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, places, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[places]
    return ranks


def _pearson(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Pearson's correlation; None where a side does not vary."""
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return round(float(a @ b) / norm, 6) if norm > 0 else None


def _compared(values: Sequence[float]) -> dict[str, Any]:
    expected, sampled = np.array(values, np.float64).reshape(-1, 2).T
    return {
        "n": len(expected),
        "correlation": _pearson(expected, sampled),
        "mean_difference": round(float((expected - sampled).mean()), 6),
        "mean_absolute_difference": round(float(np.abs(expected - sampled).mean()), 6),
    }


def _mean(values: Sequence[float]) -> dict[str, Any]:
    return asdict(mean_interval(values, RESAMPLES, SEED))


def _value(answer: JudgedAnswer, name: str) -> float | None:
    if name == REWARD:
        return answer.reward
    score = answer.scores.get(name)
    return score.value if score else None


def _duels(question: JudgedQuestion) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Both words on each two texts, once: a duel stands in the evidence of both answers, told from either side, and
    answers with equal text share theirs."""
    texts = {answer.index: answer.text.strip() for answer in question.answers}
    for answer in question.answers:
        score = answer.scores.get(PAIRWISE)
        for duel in _dicts(score.evidence.get("duels") if score else None):
            other = texts.get(duel.get("against", -1))
            first, second = duel.get("first_order"), duel.get("second_order")
            if other is not None and first in _SWAPPED and second in _SWAPPED:
                own = texts[answer.index]
                yield (min(own, other), max(own, other)), (str(first), str(second))


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    yield from (each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()
