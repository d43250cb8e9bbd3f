"""The figures of a dataset, gathered in one pass, a shard at a time.

SubEM uses the reference answers, which nothing else may: it is reported and never used for selection. Of each
question with a usable reference: `greedy` is the greedy answer's, `random` the mean over the samples (what one
drawn at random is expected to have), `mbr` that of the sample with the highest reward (the lowest index of
several), `oracle` the best of the samples, `chosen` and `rejected` the pair's: the mean over its pairs where a
question has several, so that it counts once. Each is a mean with its own n, because not every question has a
greedy answer or a pair. A sample that the server refused is not an answer, and counts in none of them. Memory holds
counts of distinct values and a few numbers a question, not rows.

Leaves out what it takes a model or a person to know: agreement and judging have files of their own.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.metrics import example_sub_em
from tasks.records.dataset import ShardData
from tasks.records.example import Answer, Example
from tasks.reporting.agreement import AgreementTally, gold_preferences
from tasks.reporting.judged import JudgedQuestion, indices_by_question, judged_shard, refused
from tasks.reporting.judging import JudgingTally
from tasks.sampling import GREEDY, STRONG

SIDES = ("chosen", "rejected")
SUBEM = ("greedy", "random", "mbr", "oracle", "chosen", "rejected")
HISTOGRAMS = (
    "margins",
    "chosen_rewards",
    "rejected_rewards",
    "prompt_tokens",
    "sample_tokens",
    "chosen_tokens",
    "rejected_tokens",
)
_DIGITS = 3  # of rewards and margins in histograms

Histogram = tuple[tuple[float, int], ...]  # (value, count) by value


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures over all shards. `drops` are those of the shards alone; token counts are the server's."""

    questions: int
    pairs: int
    drops: Mapping[str, int]  # reason -> questions
    answers: int  # samples, without the greedy answers
    finish_reasons: Mapping[str, int]  # of the samples
    languages: Mapping[str, int]  # questions by language
    kinds: Mapping[str, int]  # questions by kind
    subem: Mapping[str, Mapping[str, Any] | None]  # one of SUBEM -> {"value", "n"}; null when nothing has it
    # scorer -> {"mean", "deviation", "low", "high", "n", "missing", "nulls": {reason: answers}}
    scores: Mapping[str, Mapping[str, Any]]
    histograms: Mapping[str, Histogram]  # one of HISTOGRAMS -> values and counts
    score_histograms: Mapping[str, Mapping[str, Histogram]] = field(default_factory=dict)  # scorer -> one of SIDES
    agreement: Mapping[str, Any] | None = None  # with the references: `AgreementTally.figures`
    judging: Mapping[str, Any] = field(default_factory=dict)  # `JudgingTally.figures`

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Summary":
        """The inverse of `to_json`; of older summaries too, which say less. Raises KeyError or TypeError for a value
        of another shape."""
        subem = {name: value["subem"][name] for name in SUBEM}
        by_scorer = {
            name: {side: _histogram(of_side) for side, of_side in sides.items()}
            for name, sides in value.get("score_histograms", {}).items()
        }
        histograms = {name: _histogram(value["histograms"][name]) for name in HISTOGRAMS}
        return cls(**{**value, "subem": subem, "histograms": histograms, "score_histograms": by_scorer})


class Tally:
    """Gathers a Summary; `add` each shard in order, then ask for the `summary`. `weights` are the scorers'."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._questions = self._pairs = self._answers = 0
        self._counters: dict[str, Counter[str]] = {
            name: Counter() for name in ("drops", "finish_reasons", "languages", "kinds")
        }
        self._subem = {name: _Mean() for name in SUBEM}
        self._scores: dict[str, _Spread] = {}
        self._histograms: dict[str, Counter[float]] = {name: Counter() for name in HISTOGRAMS}
        self._score_histograms: dict[str, dict[str, Counter[float]]] = {}
        self._agreement = AgreementTally(weights)
        self._judging = JudgingTally()

    def add(self, shard: ShardData) -> None:
        """Count one shard."""
        self._questions += len(shard.examples)
        self._pairs += len(shard.pairs)
        self._counters["drops"].update(drop.reason for drop in shard.drops)
        self._counters["languages"].update(example.language for example in shard.examples)
        self._counters["kinds"].update(example.kind for example in shard.examples)
        for judgement in shard.judgements:
            self._scores.setdefault(judgement.scorer, _Spread()).add(judgement.score, judgement.reason)
        answers: dict[str, dict[int, Answer]] = {}
        for answer in shard.answers:
            answers.setdefault(answer.example_id, {})[answer.sample_index] = answer
            if answer.sample_index >= 0:
                self._answers += 1
                self._counters["finish_reasons"][answer.finish_reason] += 1
                self._histograms["sample_tokens"][answer.completion_tokens] += 1
        self._add_pairs(shard, answers)
        self._add_subem(shard, answers)
        for question in judged_shard(shard):
            self._add_scores(question)
            self._agreement.add(question, gold_preferences(question))
            self._judging.add(question)

    def summary(self) -> Summary:
        """The figures of the shards so far."""
        return Summary(
            questions=self._questions,
            pairs=self._pairs,
            answers=self._answers,
            **{name: dict(sorted(counter.items())) for name, counter in self._counters.items()},
            subem={name: mean.to_json() for name, mean in self._subem.items()},
            scores={name: spread.to_json() for name, spread in sorted(self._scores.items())},
            histograms={name: tuple(sorted(counter.items())) for name, counter in self._histograms.items()},
            score_histograms={
                name: {side: tuple(sorted(counter.items())) for side, counter in sides.items()}
                for name, sides in sorted(self._score_histograms.items())
            },
            agreement=self._agreement.figures(),
            judging=self._judging.figures(),
        )

    def _add_pairs(self, shard: ShardData, answers: Mapping[str, Mapping[int, Answer]]) -> None:
        for pair in shard.pairs:
            chosen = answers[pair.example_id][pair.chosen_index]
            rejected = answers[pair.example_id][pair.rejected_index]
            values = {
                "margins": round(pair.margin, _DIGITS),
                "chosen_rewards": round(pair.chosen_reward, _DIGITS),
                "rejected_rewards": round(pair.rejected_reward, _DIGITS),
                "prompt_tokens": chosen.prompt_tokens,
                "chosen_tokens": chosen.completion_tokens,
                "rejected_tokens": rejected.completion_tokens,
            }
            for name, value in values.items():
                self._histograms[name][value] += 1

    def _add_scores(self, question: JudgedQuestion) -> None:
        scores = {answer.index: answer.scores for answer in question.answers}
        for side, index in (each for pair in question.pairs for each in zip(SIDES, pair, strict=True)):
            for name, score in scores.get(index, {}).items():
                sides = self._score_histograms.setdefault(name, {side: Counter() for side in SIDES})
                if score.value is not None:
                    sides[side][round(score.value, _DIGITS)] += 1

    def _add_subem(self, shard: ShardData, answers: Mapping[str, Mapping[int, Answer]]) -> None:
        pairs = indices_by_question((each.example_id, each.chosen_index, each.rejected_index) for each in shard.pairs)
        for example in shard.examples:
            of_example = answers.get(example.example_id, {})
            scores = _sub_ems(of_example.values(), example)
            every = dict(scores)
            scores.pop(STRONG, None)  # no answer of the policy's, though it may be chosen
            greedy = scores.pop(GREEDY, None)
            if greedy is not None:
                self._subem["greedy"].add(greedy)
            if scores:
                self._subem["random"].add(sum(scores.values()) / len(scores))
                self._subem["oracle"].add(max(scores.values()))
            rewards = {index: shard.rewards.get((example.example_id, index)) for index in sorted(scores)}
            rated = [(-reward, index) for index, reward in rewards.items() if reward is not None]
            if rated:
                self._subem["mbr"].add(scores[min(rated)[1]])
            known = [pair for pair in pairs.get(example.example_id, ()) if every.keys() >= set(pair)]
            for side, indices in zip(SIDES, zip(*known, strict=True), strict=False):
                self._subem[side].add(sum(every[index] for index in indices) / len(known))


def _sub_ems(answers: Iterable[Answer], example: Example) -> dict[int, float]:
    """SubEM by sample index; empty without a usable reference. Refused samples are left out."""
    if not example.references:
        return {}
    by_text: dict[str, float | None] = {}
    scores: dict[int, float] = {}
    for answer in answers:
        if refused(answer):
            continue
        if answer.text not in by_text:
            by_text[answer.text] = example_sub_em(answer.text, example)
        score = by_text[answer.text]
        if score is not None:
            scores[answer.sample_index] = score
    return scores


def _histogram(values: Iterable[Sequence[Any]]) -> Histogram:
    return tuple((each[0], each[1]) for each in values)


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    n: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.n += 1

    def to_json(self) -> dict[str, Any] | None:
        return {"value": round(self.total / self.n, 6), "n": self.n} if self.n else None


@dataclass(slots=True)
class _Spread:
    """Mean and population deviation, by Welford's update, and nulls by reason."""

    n: int = 0
    missing: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = field(default=math.inf)
    high: float = field(default=-math.inf)
    nulls: Counter[str] = field(default_factory=Counter)

    def add(self, value: float | None, reason: str | None) -> None:
        if value is None:
            self.missing += 1
            self.nulls[reason or "no_reason"] += 1
            return
        self.n += 1
        step = value - self.mean
        self.mean += step / self.n
        self.squares += step * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)

    def to_json(self) -> dict[str, Any]:
        counts = {"n": self.n, "missing": self.missing, "nulls": dict(sorted(self.nulls.items()))}
        if not self.n:
            return dict.fromkeys(("mean", "deviation", "low", "high")) | counts
        deviation = math.sqrt(self.squares / self.n)
        figures = {"mean": self.mean, "deviation": deviation, "low": self.low, "high": self.high}
        return {name: round(each, 6) for name, each in figures.items()} | counts
