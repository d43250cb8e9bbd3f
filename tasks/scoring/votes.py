"""Votes: an answer is as good as the share of the answers that end with the same final answer. No judge is asked.

Self-consistency (Wang et al. 2022, arXiv 2203.11171) over what follows the last line that says "Answer:"; a text
without such a line is its own final answer. Answers of one group (tasks/judging/answer_groups.py) score the same. With
`weigh_by` a vote counts by what another scorer of the recipe says of the answer: exp(sharpness x its score), so that a
group of likely answers, or of answers with a high reward, beats a larger one. An answer that the other scorer gave no
score has no vote, and gets its group's share all the same; where it gave none to any, votes are equal.

An answer without text has no score. The evidence has the size of the answer's group and the number of answers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from infra.recipe import RecipeSection
from tasks.judging.answer_groups import group_answers
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion, ScoringContext
from tasks.judging.steps import Steps, judgements_of
from tasks.records.example import AnswerId, Judgement
from tasks.scoring import Scorer

NAME = "votes"


class VotesSettings(RecipeSection):
    """Which answers are of one group, and what their votes weigh."""

    likeness: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="final answers are of one group from this token F1 on; 1: the same words in any order"
    )
    weigh_by: str | None = Field(
        None, description="scorer of the recipe whose scores weigh the votes, as `likelihood` or `reward_model`"
    )
    sharpness: Annotated[float, Field(gt=0)] = Field(
        1.0, description="weigh_by: a vote weighs exp(sharpness x score), so it depends on the scale of these scores"
    )


def score(questions: Sequence[AnsweredQuestion], settings: VotesSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer of each question."""
    scores: Mapping[AnswerId, Judgement] = {}
    if settings.weigh_by is not None:
        scores = yield from judgements_of(settings.weigh_by)
    judgements = []
    for question in questions:
        votes = _votes(question, scores, settings.sharpness)
        for places in group_answers(question.answers, settings.likeness):
            share = sum(votes[place] for place in places) / sum(votes)
            evidence = {"samples": len(question.answers), "group": len(places)}
            for place in places:
                judgements.append(question.answers[place].judged(NAME, round(share, SCORE_DIGITS), None, evidence))
    return judgements


def _votes(question: AnsweredQuestion, scores: Mapping[AnswerId, Judgement], sharpness: float) -> list[float]:
    """The vote of each answer, the heaviest 1."""
    values = []
    for answer in question.answers:
        judgement = scores.get(answer.id)
        values.append(None if judgement is None else judgement.score)
    highest = max((value for value in values if value is not None), default=None)
    if highest is None:
        return [1.0] * len(values)
    return [0.0 if value is None else math.exp(sharpness * (value - highest)) for value in values]


SCORER = Scorer(NAME, VotesSettings, score, compares=True)
