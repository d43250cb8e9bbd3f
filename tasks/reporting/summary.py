"""The figures of a dataset, counted in one pass, a shard at a time.

SubEM uses the reference answers, which nothing else may: it is reported and never used to select. For each question
with a usable reference: `greedy` is the greedy answer's, `random` the mean over the samples (the expectation of one
drawn at random), `mbr` that of the sample with the highest reward (the lowest index of several), `oracle` the best of
the samples, `chosen` and `rejected` the pair's: the mean over its pairs where a question has several, so that it
counts once. Each is a mean with its own n, because not every question has a greedy answer or a pair. A sample that
the server refused is not an answer and counts in none of them. Memory holds counts of distinct values and a few
numbers a question, not rows.

Agreement and the judge's figures are in modules of their own.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.metrics import example_sub_em
from tasks.records.dataset import ShardData
from tasks.records.example import Answer, Example
from tasks.refused_answers import is_refused
from tasks.reporting.agreement import AgreementTally, gold_preferences
from tasks.reporting.judge_report import JudgeTally
from tasks.reporting.judged_questions import (
    JudgedQuestion,
    PairIndices,
    pairs_of_shard,
    questions_of_shard,
)
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
_HISTOGRAM_DIGITS = 3  # of rewards, margins and scores
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
    """Counts a Summary: `add` each shard in order, then take the `summary`. `weights` are the scorers'."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._questions = self._pairs = self._answers = 0
        self._drops: Counter[str] = Counter()
        self._finish_reasons: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._subem = {name: _Mean() for name in SUBEM}
        self._scores: dict[str, _Spread] = {}
        self._histograms: dict[str, Counter[float]] = {name: Counter() for name in HISTOGRAMS}
        self._score_histograms: dict[str, dict[str, Counter[float]]] = {}
        self._agreement = AgreementTally(weights)
        self._judge = JudgeTally()

    def add(self, shard: ShardData) -> None:
        """Count one shard."""
        self._questions += len(shard.examples)
        self._pairs += len(shard.pairs)
        for drop in shard.drops:
            self._drops[drop.reason] += 1
        for example in shard.examples:
            self._languages[example.language] += 1
            self._kinds[example.kind] += 1
        for judgement in shard.judgements:
            self._scores.setdefault(judgement.scorer, _Spread()).add(judgement.score, judgement.reason)
        answers: dict[str, dict[int, Answer]] = {}  # by example id, by sample index
        for answer in shard.answers:
            answers.setdefault(answer.example_id, {})[answer.sample_index] = answer
            if answer.sample_index >= 0:
                self._answers += 1
                self._finish_reasons[answer.finish_reason] += 1
                self._histograms["sample_tokens"][answer.answer_tokens] += 1
        self._add_pairs(shard, answers)
        for picks in subem_by_question(shard).values():
            for name, score in picks.items():
                self._subem[name].add(score)
        for question in questions_of_shard(shard):
            self._add_scores(question)
            self._agreement.add(question, gold_preferences(question))
            self._judge.add(question)

    def summary(self) -> Summary:
        """The figures of the shards so far."""
        score_histograms, subem, scores = {}, {}, {}
        for name, sides in sorted(self._score_histograms.items()):
            score_histograms[name] = _histograms(sides)
        for name, mean in self._subem.items():
            subem[name] = mean.to_json()
        for name, spread in sorted(self._scores.items()):
            scores[name] = spread.to_json()
        return Summary(
            questions=self._questions,
            pairs=self._pairs,
            answers=self._answers,
            drops=dict(sorted(self._drops.items())),
            finish_reasons=dict(sorted(self._finish_reasons.items())),
            languages=dict(sorted(self._languages.items())),
            kinds=dict(sorted(self._kinds.items())),
            subem=subem,
            scores=scores,
            histograms=_histograms(self._histograms),
            score_histograms=score_histograms,
            agreement=self._agreement.figures(),
            judging=self._judge.figures(),
        )

    def _add_pairs(self, shard: ShardData, answers: Mapping[str, Mapping[int, Answer]]) -> None:
        for pair in shard.pairs:
            chosen = answers[pair.example_id][pair.chosen_index]
            rejected = answers[pair.example_id][pair.rejected_index]
            values = {
                "margins": round(pair.margin, _HISTOGRAM_DIGITS),
                "chosen_rewards": round(pair.chosen_reward, _HISTOGRAM_DIGITS),
                "rejected_rewards": round(pair.rejected_reward, _HISTOGRAM_DIGITS),
                "prompt_tokens": chosen.prompt_tokens,
                "chosen_tokens": chosen.answer_tokens,
                "rejected_tokens": rejected.answer_tokens,
            }
            for name, value in values.items():
                self._histograms[name][value] += 1

    def _add_scores(self, question: JudgedQuestion) -> None:
        """Count the scores of the answers in pairs, by scorer and side."""
        scores = {answer.index: answer.scores for answer in question.answers}
        for pair in question.pairs:
            for side, index in zip(SIDES, pair, strict=True):
                for name, score in scores.get(index, {}).items():
                    if name not in self._score_histograms:
                        self._score_histograms[name] = {"chosen": Counter(), "rejected": Counter()}
                    if score.value is not None:
                        self._score_histograms[name][side][round(score.value, _HISTOGRAM_DIGITS)] += 1


def subem_by_question(shard: ShardData) -> dict[str, dict[str, float]]:
    """The SubEM of each way of picking an answer (of `SUBEM`, those that there are) by example, of those with any."""
    answers: dict[str, list[Answer]] = {}
    for answer in shard.answers:
        answers.setdefault(answer.example_id, []).append(answer)
    pairs = pairs_of_shard(shard)
    subem = {}
    for example in shard.examples:
        name = example.example_id
        scores = _sub_em_by_index(answers.get(name, ()), example)
        picks = _subem_of_picks(scores, {index: shard.rewards.get((name, index)) for index in scores})
        picks |= _subem_of_pairs(pairs.get(name, ()), scores)
        if picks:
            subem[name] = picks
    return subem


def _subem_of_picks(scores: Mapping[int, float], rewards: Mapping[int, float | None]) -> dict[str, float]:
    """SubEM of the greedy answer and of picks from the samples, from SubEM and reward by sample index."""
    picks = {}
    if GREEDY in scores:
        picks["greedy"] = scores[GREEDY]
    # A stronger model's answer may be chosen, but it is not a sample of the policy.
    samples = {index: score for index, score in scores.items() if index not in (GREEDY, STRONG)}
    if samples:
        picks["random"] = sum(samples.values()) / len(samples)
        picks["oracle"] = max(samples.values())
    best = _highest_reward({index: rewards[index] for index in samples})
    if best is not None:
        picks["mbr"] = samples[best]
    return picks


def _subem_of_pairs(pairs: Iterable[PairIndices], scores: Mapping[int, float]) -> dict[str, float]:
    """The means over a question's pairs; a pair with a refused answer is left out."""
    chosen_scores, rejected_scores = [], []
    for chosen, rejected in pairs:
        if chosen in scores and rejected in scores:
            chosen_scores.append(scores[chosen])
            rejected_scores.append(scores[rejected])
    if not chosen_scores:
        return {}
    return {
        "chosen": sum(chosen_scores) / len(chosen_scores),
        "rejected": sum(rejected_scores) / len(rejected_scores),
    }


def _sub_em_by_index(answers: Iterable[Answer], example: Example) -> dict[int, float]:
    """SubEM by sample index; empty without a usable reference. Refused samples are left out."""
    if not example.references:
        return {}
    score_of_text: dict[str, float | None] = {}
    scores: dict[int, float] = {}
    for answer in answers:
        if is_refused(answer):
            continue
        if answer.text not in score_of_text:
            score_of_text[answer.text] = example_sub_em(answer.text, example)
        score = score_of_text[answer.text]
        if score is not None:
            scores[answer.sample_index] = score
    return scores


def _highest_reward(rewards: Mapping[int, float | None]) -> int | None:
    """The index with the highest reward, the lowest of several; None when no index has a reward."""
    best, highest = None, -math.inf
    for index in sorted(rewards):
        reward = rewards[index]
        if reward is not None and reward > highest:
            best, highest = index, reward
    return best


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

    def add(self, value: float) -> None:
        self.total += value
        self.n += 1

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
        figures: dict[str, float | None] = dict.fromkeys(("mean", "deviation", "low", "high"))
        if self.n:
            figures["mean"] = round(self.mean, _DIGITS)
            figures["deviation"] = round(math.sqrt(self.squares / self.n), _DIGITS)
            figures["low"], figures["high"] = round(self.low, _DIGITS), round(self.high, _DIGITS)
        return {**figures, "n": self.n, "missing": self.missing, "nulls": dict(sorted(self.nulls.items()))}
