"""The figures of a dataset, added up from those of its shards (`shard_figures`), in the shards' order.

Sums of floats are made value by value in that order, so figures that come from the parts that shards wrote are, to the
last digit, those that come from the shards' tables. Memory holds counts of distinct values and a few numbers a
question, not rows. SubEM, agreement and the judge's figures are in modules of their own.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.records.dataset import ShardData
from tasks.reporting.agreement import AgreementTally
from tasks.reporting.judge_report import JudgeTally
from tasks.reporting.shard_figures import COUNTERS, HISTOGRAMS, SIDES, shard_figures
from tasks.reporting.subem import SUBEM

_DIGITS = 6  # of means

Histogram = tuple[tuple[float, int], ...]  # (value, count) in the order of values


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures over all shards. `drops` are those of the shards alone; token counts are the server's, of
    answers without their reasoning."""

    questions: int
    pairs: int
    drops: Mapping[str, int]  # reason -> questions
    answers: int  # samples, without the greedy answers
    finish_reasons: Mapping[str, int]  # of the samples
    languages: Mapping[str, int]  # questions by language
    kinds: Mapping[str, int]  # questions by kind
    subem: Mapping[str, Mapping[str, Any] | None]  # one of SUBEM -> {"value", "n"}; null when no question has it
    # scorer -> {"mean", "deviation", "low", "high", "n", "missing", "nulls": {reason: answers}}
    scores: Mapping[str, Mapping[str, Any]]
    histograms: Mapping[str, Histogram]  # one of HISTOGRAMS -> values and counts
    score_histograms: Mapping[str, Mapping[str, Histogram]] = field(default_factory=dict)  # scorer -> one of SIDES
    agreement: Mapping[str, Any] | None = None  # with the references: `AgreementTally.figures`
    judging: Mapping[str, Any] = field(default_factory=dict)  # `JudgeTally.figures`

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Summary":
        """The inverse of `to_json`; older summaries, which have fewer fields, are read too. Raises KeyError or
        TypeError for a value of another shape."""
        score_histograms = {}
        for name, sides in value.get("score_histograms", {}).items():
            score_histograms[name] = _parse_histograms(sides, tuple(sides))
        fields = {
            **value,
            "subem": {name: value["subem"][name] for name in SUBEM},
            "histograms": _parse_histograms(value["histograms"], HISTOGRAMS),
            "score_histograms": score_histograms,
        }
        return cls(**fields)


class SummaryTally:
    """Counts a Summary: `add` or `merge` each shard in order, then take the `summary`. `weights` are the scorers'."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._counts = dict.fromkeys(("questions", "pairs", "answers"), 0)
        self._counters: dict[str, Counter[str]] = {name: Counter() for name in COUNTERS}
        self._subem = {name: _Mean() for name in SUBEM}
        self._scores: dict[str, _Spread] = {}
        self._histograms: dict[str, Counter[float]] = {name: Counter() for name in HISTOGRAMS}
        self._score_histograms: dict[str, dict[str, Counter[float]]] = {}
        self._agreement = AgreementTally(weights)
        self._judge = JudgeTally()

    def add(self, shard: ShardData) -> None:
        """Count one shard."""
        self.merge(shard_figures(shard, self._weights))

    def merge(self, figures: Mapping[str, Any]) -> None:
        """Count one shard by its `shard_figures`, which may have been JSON in between."""
        for name in self._counts:
            self._counts[name] += figures[name]
        for name, counter in self._counters.items():
            counter.update(figures[name])
        for name, values in figures["subem"].items():
            self._subem[name].add(values)
        for name, scores in figures["scores"].items():
            self._scores.setdefault(name, _Spread()).add(scores["values"], scores["nulls"])
        _count(self._histograms, figures["histograms"])
        for name, sides in figures["score_histograms"].items():
            if name not in self._score_histograms:
                self._score_histograms[name] = {side: Counter() for side in SIDES}
            _count(self._score_histograms[name], sides)
        self._agreement.merge(figures["agreement"])
        self._judge.merge(figures["judging"])

    def summary(self) -> Summary:
        """The figures of the shards so far."""
        score_histograms, subem, scores = {}, {}, {}
        for name, sides in sorted(self._score_histograms.items()):
            score_histograms[name] = _histograms(sides)
        for name, mean in self._subem.items():
            subem[name] = mean.to_json()
        for name, spread in sorted(self._scores.items()):
            scores[name] = spread.to_json()
        with ThreadPoolExecutor(1) as pool:  # beside each other: both draw a thousand resamples
            agreement = pool.submit(self._agreement.figures)
            judging = self._judge.figures()
        return Summary(
            questions=self._counts["questions"],
            pairs=self._counts["pairs"],
            answers=self._counts["answers"],
            drops=_sorted(self._counters["drops"]),
            finish_reasons=_sorted(self._counters["finish_reasons"]),
            languages=_sorted(self._counters["languages"]),
            kinds=_sorted(self._counters["kinds"]),
            subem=subem,
            scores=scores,
            histograms=_histograms(self._histograms),
            score_histograms=score_histograms,
            agreement=agreement.result(),
            judging=judging,
        )


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items()))


def _count(counters: Mapping[str, Counter[float]], histograms: Mapping[str, Iterable[tuple[float, int]]]) -> None:
    """Add histograms of [value, count] to counters of the same names."""
    for name, histogram in histograms.items():
        for value, count in histogram:
            counters[name][value] += count


def _histograms(counters: Mapping[str, Counter[float]]) -> dict[str, Histogram]:
    histograms = {}
    for name, counter in counters.items():
        histograms[name] = tuple(sorted(counter.items()))
    return histograms


def _parse_histograms(lists: Mapping[str, Any], names: Sequence[str]) -> dict[str, Histogram]:
    """The histograms of these names from lists of [value, count]."""
    histograms = {}
    for name in names:
        histograms[name] = tuple(map(tuple, lists[name]))
    return histograms


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    n: int = 0

    def add(self, values: Sequence[float]) -> None:
        for value in values:  # one after another: the last digits of a sum depend on it
            self.total += value
        self.n += len(values)

    def to_json(self) -> dict[str, Any] | None:
        return {"value": round(self.total / self.n, _DIGITS), "n": self.n} if self.n else None


@dataclass(slots=True)
class _Spread:
    """Mean and population deviation, by Welford's update, and nulls by reason."""

    n: int = 0
    missing: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared differences from the mean
    low: float = math.inf
    high: float = -math.inf
    nulls: Counter[str] = field(default_factory=Counter)

    def add(self, values: Sequence[float], nulls: Mapping[str, int]) -> None:
        self.nulls.update(nulls)
        self.missing += sum(nulls.values())
        if not values:
            return
        n, mean, squares = self.n, self.mean, self.squares
        for value in values:
            n += 1
            step = value - mean
            mean += step / n
            squares += step * (value - mean)
        self.n, self.mean, self.squares = n, mean, squares
        self.low, self.high = min(self.low, *values), max(self.high, *values)

    def to_json(self) -> dict[str, Any]:
        figures: dict[str, float | None] = dict.fromkeys(("mean", "deviation", "low", "high"))
        if self.n:
            figures["mean"] = round(self.mean, _DIGITS)
            figures["deviation"] = round(math.sqrt(self.squares / self.n), _DIGITS)
            figures["low"], figures["high"] = round(self.low, _DIGITS), round(self.high, _DIGITS)
        return {**figures, "n": self.n, "missing": self.missing, "nulls": dict(sorted(self.nulls.items()))}
