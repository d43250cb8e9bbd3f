"""Pruning: which answers of a question still have to be judged by the last scorer, and how far.

A pairing rule that looks at the best and the worst answer alone needs no more verdicts on an answer that can be
neither. That is decided by exact bounds: a fully scored answer that may be chosen has a reward above the highest that
the answer can still get, another fully scored answer has one below the lowest, and enough answers are fully scored
(`pairing.min_scored`). Only full scores decide, because an open score may turn out to be null.

Which verdict comes next is decided by expectation. A wrong expectation costs calls and never changes a pair: the
answers that look best and worst get all their verdicts, half and half; every other answer gets as many as should show
that it is neither.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.recipe import Pairing
from tasks.judging.verifier_settings import VERIFIER
from tasks.pairing import may_be_chosen
from tasks.records.example import Answer, AnswerId, Judgement

PRUNED = "pruned"  # reason of a score, and of a fact, that was not judged because it could change no pair
_TOLERANCE = 2e-6  # scores and rewards are rounded to six decimals
_TYPICAL_SUPPORT = 0.7  # share of an answer's facts that are supported, before anything is known
_LAST_FACTS = 3  # so few missing verdicts are judged in one round
_PRIOR_VERDICTS = 4  # the other scorers' opinion weighs as much as so many verdicts


@dataclass(frozen=True, slots=True)
class PruningBounds:
    """The other scorers' part of each reward: the sum of weight times score, None where a needed score is null."""

    others: Mapping[AnswerId, float | None]
    weight: float  # of the last scorer
    total: float  # of all weights
    pairing: Pairing
    earlier: Mapping[str, Sequence["ScoreBounds"]] = field(default_factory=dict)  # by example: judged before, exact

    def reward(self, answer: Answer, score: float) -> float:
        """The answer's reward if the last scorer gave it this score. Its other scores must not be null."""
        others = self.others[answer.id]
        assert others is not None
        return (others + self.weight * score) / self.total

    def opinion(self, answer: Answer) -> float:
        """What the other scorers think of the answer, from 0 to 1."""
        others = self.others[answer.id]
        rest = self.total - self.weight
        return (others or 0.0) / rest / 10 if rest > _TOLERANCE else _TYPICAL_SUPPORT


@dataclass(frozen=True, slots=True)
class ScoreBounds:
    """Between what the last scorer's score of one answer can still be, 0 to 10; exact when no verdict is missing."""

    answer: Answer
    low: float
    high: float
    missing: int  # verdicts
    judged: int = 0  # verdicts
    may_win: bool = True  # False for an answer that is never chosen, whatever its reward


@dataclass(frozen=True, slots=True)
class _RewardBounds:
    """The same in rewards."""

    score: ScoreBounds
    low: float
    high: float
    support: float  # expected value of a missing verdict, within (0, 1)

    @property
    def index(self) -> int:
        return self.score.answer.sample_index

    @property
    def missing(self) -> int:
        return self.score.missing

    @property
    def expected(self) -> float:
        return self.low + self.support * (self.high - self.low)

    @property
    def round_size(self) -> int:
        """The most verdicts of one round: half of the missing ones, so that the next round can use what they say."""
        return self.missing if self.missing <= _LAST_FACTS else math.ceil(self.missing / 2)

    def may_be_chosen(self, pairing: Pairing) -> bool:
        return self.score.may_win and may_be_chosen(self.score.answer.finish_reason, pairing)

    def verdicts_until(self, best: float, worst: float) -> int:
        """Verdicts that should bring the answer below `best` and above `worst`; those of one round at most."""
        per_verdict = max(self.high - self.low, _TOLERANCE) / self.missing
        to_fall = (self.high - best) / (per_verdict * (1 - self.support))
        to_rise = (worst - self.low) / (per_verdict * self.support)
        return math.ceil(min(max(to_fall, to_rise, 0.0), self.round_size))


def verdicts_needed(scores: Sequence[ScoreBounds], bounds: PruningBounds) -> dict[int, int]:
    """How many more verdicts each answer of a question gets now, by sample index; empty when the pair is decided.

    `scores`: of all answers that can have a reward, those whose score is exact included.
    """
    answers = [_reward_bounds(score, bounds) for score in scores]
    undecided = _undecided(answers, bounds.pairing)
    if not undecided:
        return {}
    scored = [answer for answer in answers if not answer.missing]
    eligible = []
    for answer in (*scored, *undecided):
        if answer.may_be_chosen(bounds.pairing):
            eligible.append(answer)
    if not eligible:  # there will be no pair, but the drop says why
        return {answer.index: answer.missing for answer in undecided}
    best = max(eligible, key=lambda answer: answer.expected)
    worst = min((*scored, *undecided), key=lambda answer: answer.expected)
    counts = {}
    for answer in undecided:
        if answer in (best, worst):
            counts[answer.index] = answer.round_size
        else:
            counts[answer.index] = answer.verdicts_until(best.expected, worst.expected)
    if not any(counts.values()):  # all should be out, but too few are scored: complete those that lack the least
        lacking = max(1, bounds.pairing.min_scored - len(scored))
        nearest = sorted(undecided, key=lambda answer: answer.missing)[:lacking]
        counts = {answer.index: answer.missing for answer in nearest}
    return {index: count for index, count in counts.items() if count}


def _undecided(answers: Sequence[_RewardBounds], pairing: Pairing) -> list[_RewardBounds]:
    """The answers with missing verdicts that can still be best or worst."""
    waiting = [answer for answer in answers if answer.missing]
    scored = [answer for answer in answers if not answer.missing]
    eligible = [answer.low for answer in scored if answer.may_be_chosen(pairing)]
    if len(scored) < pairing.min_scored or not eligible:
        return waiting
    best = max(eligible) - _TOLERANCE
    worst = min(answer.low for answer in scored) + _TOLERANCE
    return [answer for answer in waiting if not worst < answer.low <= answer.high < best]


def _reward_bounds(score: ScoreBounds, bounds: PruningBounds) -> _RewardBounds:
    supported = score.low / 10 * (score.judged + score.missing)  # in verdicts, when any is missing
    prior = _PRIOR_VERDICTS * bounds.opinion(score.answer)
    support = (supported + prior) / (score.judged + _PRIOR_VERDICTS)
    low = bounds.reward(score.answer, score.low)
    high = bounds.reward(score.answer, score.high)
    return _RewardBounds(score, low, high, min(max(support, 0.05), 0.95))


def saved_calls(judgements: Iterable[Judgement]) -> dict[str, int]:
    """Verdicts on facts that cost no call, counted from the evidence alone.

    "shared" with an equal fact, "pruned"; where several facts were judged in a call, "batched": all but the first of
    each call; where there is a verifier, "verified" by it. What the ledger saved is not in the evidence.
    """
    saved = Counter({"shared": 0, "pruned": 0})
    for judgement in judgements:
        saved.update(saved_verdicts(json.loads(judgement.evidence)))
    return dict(saved)


def saved_verdicts(evidence: Mapping[str, Any]) -> dict[str, int]:
    """The same of one judgement's evidence."""
    shared = pruned = batched = verified = 0
    for fact in evidence.get("facts", ()):
        shared += fact["shared"]
        pruned += fact["reason"] == PRUNED
        batched += fact.get("number", 1) > 1 and not fact["shared"]
        verified += fact.get("by") == VERIFIER and not fact["shared"]
    further = {"batched": batched, "verified": verified}
    return {"shared": shared, "pruned": pruned, **{way: count for way, count in further.items() if count}}
