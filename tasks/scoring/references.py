"""References: how well an answer meets the row's reference answers. No model is asked.

The score is the mean of SubEM (over the whole answer) and token F1 (of what follows the last line that says "Answer:"),
in [0, 1], best over references: LongMab-PO's reward (arXiv 2508.13993). Of a list question SubEM is the share of its
items. It takes questions with references; of one without, no answer has a score, and the question gives no pair.
Figures that compare pairs with references (SubEM, agreement) say nothing of pairs that were made by them.
"""

from collections.abc import Sequence

from infra.recipe import RecipeSection
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.metrics import reference_reward
from tasks.records.example import Judgement
from tasks.scoring import Scorer

NAME = "references"


class ReferencesSettings(RecipeSection):
    """Nothing can be set."""


def score(
    questions: Sequence[AnsweredQuestion], settings: ReferencesSettings, scoring: ScoringContext
) -> list[Judgement]:
    """One judgement for each answer of each question."""
    judgements = []
    for question in questions:
        for answer in question.answers:
            value = reference_reward(answer.text, question.example)
            judgements.append(answer.judged(NAME, value, None if value is not None else "no_reference"))
    return judgements


SCORER = Scorer(NAME, ReferencesSettings, score)
