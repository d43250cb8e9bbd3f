"""Where the answers of a question stand before the last scorer has spoken, and what it still has to be asked.

Where a pairing rule looks at the best and the worst answer alone, an answer need not be judged any further once it
can be neither. That is decided by exact bounds: a fully scored answer that may be chosen stands above the most that
the answer can still get, another fully scored one below the least, and enough answers are fully scored
(`pairing.min_scored`). Only full scores decide, because a score that is still open may turn out to be null.

What to ask next is decided by expectation, which costs calls when it errs but never changes a pair: the answers that
look best and worst get all their verdicts, half and half; every other as many as should put it out of the running.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.recipe import Pairing
from tasks.pairing import may_be_chosen
from tasks.records.example import Answer

AnswerId = tuple[str, int]  # example_id, sample_index

_GUARD = 2e-6  # scores and rewards are rounded to six decimals
_TYPICAL = 0.7  # share of an answer's facts that are supported, before anything is known
_LAST = 3  # missing verdicts that are asked for in one round
_TRUST = 4  # verdicts that weigh as much as what the other scorers said


@dataclass(frozen=True, slots=True)
class PruningBounds:
    """The other scorers' part of each reward: Σ weight·score, null where a score that it needs is null."""

    others: Mapping[AnswerId, float | None]
    weight: float  # of the scorer that is asked last
    total: float  # of all weights
    pairing: Pairing

    def reward(self, answer: Answer, score: float) -> float:
        """The answer's reward if the last scorer gave it this score; others must not be null."""
        others = self.others[answer.example_id, answer.sample_index]
        assert others is not None
        return (others + self.weight * score) / self.total

    def quality(self, answer: Answer) -> float:
        """What the other scorers think of it, as a share of 10."""
        others = self.others[answer.example_id, answer.sample_index]
        rest = self.total - self.weight
        return (others or 0.0) / rest / 10 if rest > _GUARD else _TYPICAL


@dataclass(frozen=True, slots=True)
class ScoreBounds:
    """What the last scorer's score of one answer, in 0..10, can still be. No verdict missing: it is the score."""

    answer: Answer
    low: float
    high: float
    missing: int  # verdicts
    judged: int = 0  # verdicts


@dataclass(frozen=True, slots=True)
class _Runner:
    """A prospect in rewards."""

    prospect: ScoreBounds
    low: float
    high: float
    hope: float  # expected share of support in a missing verdict, within (0, 1)

    @property
    def index(self) -> int:
        return self.prospect.answer.sample_index

    @property
    def missing(self) -> int:
        return self.prospect.missing

    @property
    def expected(self) -> float:
        return self.low + self.hope * (self.high - self.low)

    @property
    def step(self) -> int:
        """The most verdicts of one round: half of what is missing, so that the next can go by what they said."""
        return self.missing if self.missing <= _LAST else math.ceil(self.missing / 2)

    def verdicts_until(self, best: float, worst: float) -> int:
        """Missing verdicts that should bring it below `best` and above `worst`; one round's at most."""
        each = max(self.high - self.low, _GUARD) / self.missing
        needed = max((self.high - best) / (each * (1 - self.hope)), (worst - self.low) / (each * self.hope), 0.0)
        return math.ceil(min(needed, self.step))


def verdicts_wanted(prospects: Sequence[ScoreBounds], standing: PruningBounds) -> dict[int, int]:
    """How many more verdicts each answer of a question gets now, by sample index; empty when the pair is decided.

    `prospects`: of the answers that can have a reward, those whose score is known included.
    """
    runners = [_runner(each, standing) for each in prospects]
    racing = _racing(runners, standing.pairing)
    if not racing:
        return {}
    scored = [each for each in runners if not each.missing]
    eligible = [each for each in (*scored, *racing) if may_be_chosen(each.prospect.answer, standing.pairing)]
    if not eligible:  # there will be no pair, but the drop says why
        return {each.index: each.missing for each in racing}
    best = max(eligible, key=lambda each: each.expected)
    worst = min((*scored, *racing), key=lambda each: each.expected)
    wanted = {
        each.index: each.step if each in (best, worst) else each.verdicts_until(best.expected, worst.expected)
        for each in racing
    }
    if not any(wanted.values()):  # all should be out, but too few are scored: complete those that lack the least
        short = max(1, standing.pairing.min_scored - len(scored))
        wanted = {each.index: each.missing for each in sorted(racing, key=lambda each: each.missing)[:short]}
    return {index: count for index, count in wanted.items() if count}


def _racing(runners: Sequence[_Runner], pairing: Pairing) -> list[_Runner]:
    """Those with verdicts missing that can still be best or worst."""
    waiting = [each for each in runners if each.missing]
    scored = [each for each in runners if not each.missing]
    eligible = [each.low for each in scored if may_be_chosen(each.prospect.answer, pairing)]
    if len(scored) < pairing.min_scored or not eligible:
        return waiting
    best, worst = max(eligible) - _GUARD, min(each.low for each in scored) + _GUARD
    return [each for each in waiting if not worst < each.low <= each.high < best]


def _runner(prospect: ScoreBounds, standing: PruningBounds) -> _Runner:
    answer, judged = prospect.answer, prospect.judged
    supported = prospect.low / 10 * (judged + prospect.missing)  # in verdicts, when any is missing
    hope = (supported + _TRUST * standing.quality(answer)) / (judged + _TRUST)
    low, high = (standing.reward(answer, score) for score in (prospect.low, prospect.high))
    return _Runner(prospect, low, high, min(max(hope, 0.05), 0.95))
