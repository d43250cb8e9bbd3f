"""What one shard adds to the figures of a dataset, as JSON values: counts, and a few numbers a question.

A worker computes them when its shard is finished, so that publishing adds up small files in place of reading all
answers again. Where a figure is a mean or has an interval, its values are here one by one: a sum of sums would end in
other digits.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.records.dataset import ShardData
from tasks.records.example import Answer
from tasks.reporting.agreement import AgreementTally, gold_preferences
from tasks.reporting.judge_report import JudgeTally
from tasks.reporting.judged_questions import JudgedQuestion, questions_of_shard
from tasks.reporting.subem import subem_by_question

SIDES = ("chosen", "rejected")
COUNTERS = ("drops", "finish_reasons", "languages", "kinds")
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


@dataclass(slots=True)
class _Scores:
    """The scores of one scorer in the order of its judgements, and the nulls by reason."""

    values: list[float] = field(default_factory=list)
    nulls: Counter[str] = field(default_factory=Counter)


def shard_figures(shard: ShardData, weights: Mapping[str, float]) -> dict[str, Any]:
    """The figures of a shard, for `SummaryTally.merge`; `weights` are the scorers'. The order of keys matters."""
    answers: dict[str, dict[int, Answer]] = {}  # by example id, by sample index
    samples = []
    for answer in shard.answers:
        answers.setdefault(answer.example_id, {})[answer.sample_index] = answer
        if answer.sample_index >= 0:
            samples.append(answer)
    histograms = _pair_histograms(shard, answers)
    histograms["sample_tokens"].update(sample.answer_tokens for sample in samples)
    subem: dict[str, list[float]] = {}
    for picks in subem_by_question(shard).values():
        for name, score in picks.items():
            subem.setdefault(name, []).append(score)
    agreement, judge = AgreementTally(weights), JudgeTally()
    score_histograms: dict[str, dict[str, Counter[float]]] = {}
    for question in questions_of_shard(shard):
        _add_scores(score_histograms, question)
        agreement.add(question, gold_preferences(question))
        judge.add(question)
    return {
        "questions": len(shard.examples),
        "pairs": len(shard.pairs),
        "answers": len(samples),
        "drops": Counter(drop.reason for drop in shard.drops),
        "finish_reasons": Counter(sample.finish_reason for sample in samples),
        "languages": Counter(example.language for example in shard.examples),
        "kinds": Counter(example.kind for example in shard.examples),
        "subem": subem,
        "scores": _scores(shard),
        "histograms": _pairs_of(histograms),
        "score_histograms": {name: _pairs_of(sides) for name, sides in score_histograms.items()},
        "agreement": agreement.state(),
        "judging": judge.state(),
    }


def _scores(shard: ShardData) -> dict[str, dict[str, Any]]:
    """{"values", "nulls": {reason: answers}} by scorer."""
    scores: dict[str, _Scores] = {}
    for judgement in shard.judgements:
        of_scorer = scores.setdefault(judgement.scorer, _Scores())
        if judgement.score is None:
            of_scorer.nulls[judgement.reason or "no_reason"] += 1
        else:
            of_scorer.values.append(judgement.score)
    return {name: {"values": of_scorer.values, "nulls": of_scorer.nulls} for name, of_scorer in scores.items()}


def _pair_histograms(shard: ShardData, answers: Mapping[str, Mapping[int, Answer]]) -> dict[str, Counter[float]]:
    histograms: dict[str, Counter[float]] = {name: Counter() for name in HISTOGRAMS}
    whole_prompts = {example.example_id: example.whole_prompt_tokens for example in shard.examples}
    for pair in shard.pairs:
        chosen = answers[pair.example_id][pair.chosen_index]
        rejected = answers[pair.example_id][pair.rejected_index]
        values = {
            "margins": round(pair.margin, _HISTOGRAM_DIGITS),
            "chosen_rewards": round(pair.chosen_reward, _HISTOGRAM_DIGITS),
            "rejected_rewards": round(pair.rejected_reward, _HISTOGRAM_DIGITS),
            "prompt_tokens": whole_prompts[pair.example_id] or chosen.prompt_tokens,
            "chosen_tokens": chosen.answer_tokens,
            "rejected_tokens": rejected.answer_tokens,
        }
        for name, value in values.items():
            histograms[name][value] += 1
    return histograms


def _add_scores(histograms: dict[str, dict[str, Counter[float]]], question: JudgedQuestion) -> None:
    """Count the scores of the answers in pairs, by scorer and side."""
    scores = {answer.index: answer.scores for answer in question.answers}
    for pair in question.pairs:
        for side, index in zip(SIDES, pair, strict=True):
            for name, score in scores.get(index, {}).items():
                if name not in histograms:
                    histograms[name] = {side: Counter() for side in SIDES}
                if score.value is not None:
                    histograms[name][side][round(score.value, _HISTOGRAM_DIGITS)] += 1


def _pairs_of(counters: Mapping[str, Counter[float]]) -> dict[str, list[Iterable[float]]]:
    """Each counter as a list of (value, count)."""
    return {name: list(counter.items()) for name, counter in counters.items()}
