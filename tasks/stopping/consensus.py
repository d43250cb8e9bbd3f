"""`consensus`: no more samples when it is clear which final answer most of them will have.

Answers are grouped by their final answers (tasks/judging/answer_groups.py). A question is decided when the chance that
another group catches up with the largest one, if all of `sampling.samples` were drawn, is at most 1 - `confidence`.
For a group with b answers beside the largest with a, and r samples left, that is the chance that k of the r go to it
and r - k to the largest, with b + k >= a + r - k, where k is Beta-binomial with b + 1 and a + 1 (a uniform prior): all
that are left are taken to go to one of the two, which errs on the side of drawing more. The chances of all groups are
added up, and that of a group which no sample has had yet (b = 0) is among them. With confidence 1 no more samples can
change it. After Adaptive-Consistency (Aggarwal et al. 2023, arXiv 2305.11860), which looks at the two largest groups
and knows no end.

A question whose answers are all of one group has no answer to reject, so it goes on.
"""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from infra.recipe import Recipe
from infra.recipe.models import Fraction
from tasks.judging.answer_groups import group_answers
from tasks.records.example import Answer, Example
from tasks.stopping import StopRule, StopSettings

_DIGITS = 9  # of a chance: beyond them, machines differ


class ConsensusStop(StopSettings):
    """Settings of the rule `consensus`."""

    confidence: Fraction = Field(0.95, description="chance that all samples would have the same largest group")
    likeness: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="final answers are of one group from this token F1 on; 1: the same words in any order"
    )


def is_decided(example: Example, answers: Sequence[Answer], settings: ConsensusStop, recipe: Recipe) -> bool:
    """Whether the largest group will stay so."""
    sizes = sorted(map(len, group_answers(answers, settings.likeness)), reverse=True)
    if len(sizes) < 2:
        return False
    left = recipe.sampling.samples - len(answers)
    largest, *others = sizes
    risk = sum(overtaking_chance(largest, size, left) for size in (*others, 0))
    return round(risk, _DIGITS) <= round(1 - settings.confidence, _DIGITS)


def overtaking_chance(largest: int, other: int, left: int) -> float:
    """The chance that a group of `other` answers has as many as one of `largest` after `left` more samples."""
    first = max(0, math.ceil((largest - other + left) / 2))
    chance = 0.0
    for count in range(first, left + 1):
        chance += math.comb(left, count) * math.exp(
            _log_beta(count + other + 1, left - count + largest + 1) - _log_beta(other + 1, largest + 1)
        )
    return chance if left else float(other >= largest)


def _log_beta(first: float, second: float) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)


RULE = StopRule("consensus", ConsensusStop, is_decided)
