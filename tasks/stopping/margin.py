"""`margin`: no more samples when best and worst are far enough apart: when there is a pair with such a margin.

All answers of a round are scored before the next one is drawn, so scorers that compare answers do not go with it. The
pair is the one that pairing would make of the answers so far. More samples could still find a better best or a worse
worst; the smaller `margin` is, the more often they would. What it costs can be told from a dataset with all samples:
the rewards there are those that the rule would have seen.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from infra.recipe import Recipe
from tasks.pairing import pair_example
from tasks.records.example import Answer, Drop, Example
from tasks.stopping import Rewarded, StopRule, StopSettings


class MarginStop(StopSettings):
    """Settings of the rule `margin`."""

    margin: Annotated[float, Field(gt=0)] = Field(description="difference in reward of a pair that is good enough")


def is_decided(
    example: Example, answers: Sequence[Answer], rewarded: Rewarded, settings: MarginStop, recipe: Recipe
) -> bool:
    """Whether there is such a pair."""
    pairing = recipe.pairing.model_copy(update={"min_margin": max(settings.margin, recipe.pairing.min_margin)})
    outcome = pair_example(example, list(answers), rewarded.rewards, pairing, recipe.seed, rewarded.never_chosen)
    return not isinstance(outcome, Drop)


RULE = StopRule("margin", MarginStop, is_decided_by=is_decided)
