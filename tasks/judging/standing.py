"""What is known of the answers' rewards before the last scorer has spoken, and who is out of the running.

Where a pairing rule looks at the best and the worst answer alone, an answer need not be judged any further once it
can be neither. The bounds are exact: a fully scored answer that may be chosen stands above the most that the
answer can still get, another fully scored one below the least; and enough answers are fully scored already
(`pairing.min_scored`). Only full scores decide, because a score that is still open may turn out to be null.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.recipe import Pairing
from tasks.nouns import Answer

AnswerId = tuple[str, int]  # example_id, sample_index

_GUARD = 2e-6  # rewards are rounded to six decimals
CUT_OFF = ("length", "content_filter")


@dataclass(frozen=True, slots=True)
class Standing:
    """The other scorers' part of each reward: Σ weight·score, null where a score that it needs is null."""

    others: Mapping[AnswerId, float | None]
    weight: float  # of the scorer that is asked last
    total: float  # of all weights
    pairing: Pairing

    def reward(self, answer: AnswerId, score: float) -> float | None:
        """The answer's reward if the last scorer gave it this score."""
        others = self.others[answer]
        return None if others is None else (others + self.weight * score) / self.total


@dataclass(frozen=True, slots=True)
class Prospect:
    """What the last scorer's score of one answer can still be. Equal bounds: it is fully scored."""

    answer: Answer
    low: float
    high: float
    scored: bool


def out_of_the_running(prospects: Iterable[Prospect], standing: Standing) -> set[int]:
    """Sample indices, of one question, that need no further judging: neither chosen nor rejected can they be."""
    known = [
        (each, low, high)
        for each in prospects
        if (low := standing.reward(_id(each), each.low)) is not None
        and (high := standing.reward(_id(each), each.high)) is not None
    ]
    scored = [(each.answer, low) for each, low, _ in known if each.scored]
    hopeless = {each.answer.sample_index for each in prospects if standing.others[_id(each)] is None}
    eligible = [
        reward for answer, reward in scored if standing.pairing.cut_off_as_chosen or answer.finish_reason not in CUT_OFF
    ]
    if len(scored) < standing.pairing.min_scored or not eligible:
        return hopeless
    best, worst = max(eligible), min(reward for _, reward in scored)
    between = {
        each.answer.sample_index
        for each, low, high in known
        if not each.scored and high < best - _GUARD and low > worst + _GUARD
    }
    return hopeless | between


def _id(prospect: Prospect) -> AnswerId:
    return prospect.answer.example_id, prospect.answer.sample_index
