"""How the judge behaved: bias of length and of position, expected and sampled ratings, calls that were saved, verdicts
beside the judge's own.

- Length: Spearman's rank correlation of a score with the answer's length in characters, within each question, so that
  harder questions with longer answers do not look like a bias; the mean over questions with three scored answers or
  more of which neither scores nor lengths are all equal. And the share of pairs whose chosen answer is the longer one
  (equal length counts half), the mean over questions where they have several.
- Position: a pairwise judge sees two answers in both orders; the share of duels whose verdict is not the same answer
  (or a tie) in both orders, and the share of its decided verdicts that went to the answer that stood first.
- Expected and sampled ratings of the same answers: Pearson's correlation, and the mean of expected - sampled.

Intervals are over questions. The figures are reported and never used to select.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.statistics import mean_intervals, ratio_intervals
from tasks.judging.embedding_fit import EmbeddedTexts
from tasks.judging.pruning import saved_verdicts
from tasks.reporting.agreement import RESAMPLES, SEED
from tasks.reporting.cascade_tally import CascadeTally
from tasks.reporting.judged_questions import JudgedAnswer, JudgedQuestion, Score
from tasks.reporting.verdict_agreement import VerdictAgreement, control_pairs

PAIRWISE = "pairwise"  # the scorer that holds duels
REWARD = "reward"
_MIN_ANSWERS = 3  # for a rank correlation
_SWAPPED = {"A": "B", "B": "A", "C": "C"}  # the same verdict when the answers change places; C is a tie
_DIGITS = 6


class JudgeTally:
    """Counts what a judge did, a question at a time; memory is a few numbers a question."""

    def __init__(self) -> None:
        self._correlations: dict[str, array[float]] = {}  # by scorer: one of each question
        self._longer_chosen = array("d")  # one of each question
        self._duels = array("d")  # by question: changed, duels, decided for the first answer, decided
        self._ratings: dict[str, array[float]] = {}  # by scorer: expected, sampled, expected, ...
        self._saved: Counter[str] = Counter()
        self._embedded = EmbeddedTexts()
        self._control = VerdictAgreement()
        self._cascade = CascadeTally()

    def add(self, question: JudgedQuestion) -> None:
        """Count a question."""
        self._add_correlations(question)
        self._add_longer_chosen(question)
        self._add_duels(question)
        self._add_controls(question)
        self._cascade.add(question)
        for answer in question.answers:
            for scorer, score in answer.scores.items():
                self._add_ratings(scorer, score)
                if isinstance(size := score.evidence.get("embedded"), dict):
                    self._embedded.add(size)
                if "facts" in score.evidence:
                    self._saved.update(saved_verdicts(score.evidence))

    def state(self) -> dict[str, Any]:
        """What has been counted, as JSON values, for `merge`. The order of the scorers matters."""
        control, cascade = self._control.state(), self._cascade.state()
        return {
            **({"control": control} if control else {}),  # the figures of earlier datasets have neither
            **({"cascade": cascade} if cascade else {}),
            "correlations": {name: values.tolist() for name, values in self._correlations.items()},
            "longer_chosen": self._longer_chosen.tolist(),
            "duels": self._duels.tolist(),
            "ratings": {name: values.tolist() for name, values in self._ratings.items()},
            "saved": dict(self._saved),
            "embedded": asdict(self._embedded),
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """Count what another tally has counted, after what is counted here."""
        for name, values in state["correlations"].items():
            self._correlations.setdefault(name, array("d")).extend(values)
        self._longer_chosen.extend(state["longer_chosen"])
        self._duels.extend(state["duels"])
        for name, values in state["ratings"].items():
            self._ratings.setdefault(name, array("d")).extend(values)
        self._saved.update(state["saved"])
        self._embedded.merge(EmbeddedTexts(**state["embedded"]))
        self._control.merge(state.get("control", {}))
        self._cascade.merge(state.get("cascade", {}))

    def figures(self) -> dict[str, Any]:
        """The figures of the report; a part is null when there is nothing to report.

        {"length": {"correlation": {scorer or "reward": {"value", "low", "high", "n"}}, "longer_chosen": the same},
        "position": {"duels", "changed": {"value", "low", "high", "n"}, "first": the same},
        "expected": {scorer: {"n", "correlation", "mean_difference", "mean_absolute_difference"}},
        "saved": {"shared", "pruned", and "batched" and "verified" where there are some}: verdicts on facts that cost no
        call, "embedded": `EmbeddedTexts` of the answers, only where they were counted, "control":
        `VerdictAgreement.figures` by way and by way and language, only with a control sample, "cascade":
        `CascadeTally.figures`, only with a cascade}
        """
        *intervals, of_longer = mean_intervals([*self._correlations.values(), self._longer_chosen], RESAMPLES, SEED)
        correlation = {}
        for name, interval in zip(self._correlations, intervals, strict=True):
            correlation[name] = asdict(interval)
        longer = asdict(of_longer) if self._longer_chosen else None
        length = {"correlation": correlation, "longer_chosen": longer} if correlation or longer else None
        expected = {}
        for name, values in sorted(self._ratings.items()):
            expected[name] = _compare_ratings(values)
        figures: dict[str, Any] = {
            "length": length,
            "position": self._position_figures(),
            "expected": expected or None,
            "saved": dict(self._saved) if self._saved else None,
        }
        if self._embedded.texts:  # the figures of earlier datasets do not have it
            figures["embedded"] = asdict(self._embedded)
        if control := self._control.figures():
            figures["control"] = control
        if cascade := self._cascade.figures():
            figures["cascade"] = cascade
        return figures

    def _add_correlations(self, question: JudgedQuestion) -> None:
        names: dict[str, None] = {}  # an ordered set
        for answer in question.answers:
            names.update(dict.fromkeys(answer.scores))
        for name in (*names, REWARD):
            values, lengths = [], []
            for answer in question.answers:
                value = _score_value(answer, name)
                if value is not None:
                    values.append(value)
                    lengths.append(len(answer.text))
            correlation = spearman(values, lengths)
            if correlation is not None:
                self._correlations.setdefault(name, array("d")).append(correlation)

    def _add_longer_chosen(self, question: JudgedQuestion) -> None:
        lengths = {answer.index: len(answer.text) for answer in question.answers}
        longer, pairs = 0.0, 0
        for chosen, rejected in question.pairs:
            if chosen in lengths and rejected in lengths:
                longer += (lengths[chosen] > lengths[rejected]) + 0.5 * (lengths[chosen] == lengths[rejected])
                pairs += 1
        if pairs:
            self._longer_chosen.append(longer / pairs)

    def _add_duels(self, question: JudgedQuestion) -> None:
        duels = dict(_duels(question))  # of answers with equal texts there is one duel
        if not duels:
            return
        changed = first_won = decided = 0
        for first_order, second_order in duels.values():
            changed += second_order != _SWAPPED[first_order]
            for verdict in (first_order, second_order):
                first_won += verdict == "A"
                decided += verdict != "C"
        self._duels.extend((changed, len(duels), first_won, decided))

    def _add_controls(self, question: JudgedQuestion) -> None:
        """Count the facts that were judged alone as well, by the way in which their verdict was given."""
        pairs: dict[str, list[tuple[float, float]]] = {}
        for answer in question.answers:
            for score in answer.scores.values():
                for way, of_way in control_pairs(score.evidence).items():
                    pairs.setdefault(way, []).extend(of_way)
        for way, of_way in pairs.items():
            self._control.add(way, of_way)
            self._control.add(f"{way}, {question.example.language}", of_way)

    def _add_ratings(self, scorer: str, score: Score) -> None:
        """Add the expected and the sampled rating of an answer that has both."""
        expected, sampled = score.evidence.get("expected"), score.evidence.get("rating")
        if isinstance(expected, int | float) and isinstance(sampled, int | float):
            self._ratings.setdefault(scorer, array("d")).extend((float(expected), float(sampled)))

    def _position_figures(self) -> dict[str, Any] | None:
        if not self._duels:
            return None
        sums = np.array(self._duels, np.float64).reshape(-1, 4)
        parts, wholes = sums[:, [0, 2]], sums[:, [1, 3]]
        changed, first = ratio_intervals(parts, wholes, RESAMPLES, SEED)
        return {"duels": changed.n, "changed": asdict(changed), "first": asdict(first)}


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None below three values, or when all values of one side are equal."""
    if len(first) < _MIN_ANSWERS or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    # Not by scipy, as every shard computes some hundred: its function takes thirty times as long for a few values.
    return round(float(np.corrcoef(_ranks(first), _ranks(second))[0, 1]), _DIGITS)


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def _pearson(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Pearson's correlation; None where the values of a side are all equal."""
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return round(float(a @ b) / norm, _DIGITS) if norm > 0 else None


def _compare_ratings(values: Sequence[float]) -> dict[str, Any]:
    """Figures of expected, sampled, expected, ... ratings."""
    expected, sampled = np.array(values, np.float64).reshape(-1, 2).T
    differences = expected - sampled
    return {
        "n": len(expected),
        "correlation": _pearson(expected, sampled),
        "mean_difference": round(float(differences.mean()), _DIGITS),
        "mean_absolute_difference": round(float(np.abs(differences).mean()), _DIGITS),
    }


def _score_value(answer: JudgedAnswer, name: str) -> float | None:
    if name == REWARD:
        return answer.reward
    score = answer.scores.get(name)
    return score.value if score else None


def _duels(question: JudgedQuestion) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """The two texts of each duel in sorted order, and the verdicts in both orders.

    A duel may come up several times: it stands in the evidence of both answers, and of answers with equal texts.
    """
    texts = {answer.index: answer.text.strip() for answer in question.answers}
    for answer in question.answers:
        score = answer.scores.get(PAIRWISE)
        duels = score.evidence.get("duels") if score else None
        for duel in duels if isinstance(duels, list) else ():
            if not isinstance(duel, dict):
                continue
            opponent = texts.get(duel.get("against", -1))
            first_order, second_order = duel.get("first_order"), duel.get("second_order")
            if opponent is not None and first_order in _SWAPPED and second_order in _SWAPPED:
                own = texts[answer.index]
                yield (min(own, opponent), max(own, opponent)), (str(first_order), str(second_order))
