"""Helpfulness: does the answer take up what was asked, usefully and in the form asked for?

The judge sees question and answer, not the context, and rates 0..10 (LongReward, arXiv 2410.21252).
"""

from collections.abc import Sequence
from functools import partial

from tasks.judging.rating import RatingSettings, rate_answers, rating_calls, rating_prompts
from tasks.records.example import Judgement
from tasks.scoring import AnsweredQuestion, Scorer, ScoringContext

NAME = "helpfulness"


def judge(cases: Sequence[AnsweredQuestion], settings: RatingSettings, bench: ScoringContext) -> list[Judgement]:
    """One judgement for each answer of each case."""
    return rate_answers(NAME, cases, settings, bench)


SCORER = Scorer(
    NAME,
    RatingSettings,
    judge,
    needs_judge=True,
    calls=partial(rating_calls, NAME),
    prompts=partial(rating_prompts, NAME),
)
