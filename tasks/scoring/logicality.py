"""Logicality: does the answer agree with itself, and follow from what it says?

The judge sees question and answer, not the context, and rates 0..10 (LongReward, arXiv 2410.21252).
"""

from collections.abc import Sequence
from functools import partial

from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.rating import RatingSettings, rate_answers, rating_calls, rating_prompts
from tasks.judging.steps import Steps
from tasks.scoring import Scorer

NAME = "logicality"


def score(questions: Sequence[AnsweredQuestion], settings: RatingSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer of each question."""
    return rate_answers(NAME, questions, settings, scoring)


SCORER = Scorer(
    NAME,
    RatingSettings,
    score,
    needs_judge=True,
    calls=partial(rating_calls, NAME),
    prompts=partial(rating_prompts, NAME),
)
