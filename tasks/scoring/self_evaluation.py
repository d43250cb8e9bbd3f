"""Self-evaluation: the policy itself rates its answer 0..10, with the context before it and no reference.

A baseline of LongReward and SeaLong. With `asked: judge` the recipe's judge is asked the same instead, which shows
what reading the whole context at once is worth. Every call reads the context, so N ratings cost about what N samples
do; answers of one context are sent together, and the context stands before them. A prompt that does not fit the
model's window is a score that is null. Leaves out: self-evaluation with a reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from infra.errors import RecipeError
from infra.recipe import Judge, Positive, Recipe, RecipeSection
from tasks.judging.plain_rating import rate_plainly
from tasks.records.example import Judgement
from tasks.scoring import AnsweredQuestion, Scorer, ScoringContext

NAME = "self_evaluation"
_HOW = {"prompts", "temperature", "retry_temperature", "replies", "structured"}  # a judge is asked


class SelfEvaluationSettings(RecipeSection):
    """Who rates, and how it is asked."""

    asked: Literal["policy", "judge"] = Field(
        "policy", description="policy: the model that answered rates its answers; judge: the recipe's judge does"
    )
    max_tokens: Positive = Field(64, description="longest reply, in tokens: the rating stands alone")


def judge(
    cases: Sequence[AnsweredQuestion], settings: SelfEvaluationSettings, bench: ScoringContext
) -> list[Judgement]:
    """One judgement for each answer of each case; evidence {"rating", "reply"}."""
    return rate_plainly(
        NAME,
        cases,
        lambda case, answer: {"context": case.context.text, "question": case.example.question, "answer": answer.text},
        settings.max_tokens,
        _own_judge(bench) if settings.asked == "policy" else bench,
    )


def as_judge(recipe: Recipe) -> Judge:
    """The policy in the place of a judge; how a judge is asked stays as the recipe's judge section has it."""
    how = recipe.judge.model_dump(include=_HOW) if recipe.judge else {}
    return Judge.model_validate(recipe.policy.model_dump() | how)


def _own_judge(bench: ScoringContext) -> ScoringContext:
    recipe = bench.recipe.model_copy(update={"judge": as_judge(bench.recipe)})
    return replace(bench, recipe=recipe, judge=bench.client)


def calls(settings: SelfEvaluationSettings, recipe: Recipe, context_tokens: int) -> Mapping[str, float]:
    """Calls for one question, by kind; they go to the policy unless the judge is asked."""
    return {NAME: float(recipe.sampling.samples)}


def prompts(settings: SelfEvaluationSettings, recipe: Recipe) -> tuple[str, ...]:
    """The prompt file that is used. Raises RecipeError when a judge is to be asked and there is none."""
    if settings.asked == "judge" and recipe.judge is None:
        raise RecipeError("scoring.scorers: self_evaluation has asked: judge, and the recipe has no `judge` section")
    return (f"judge-{as_judge(recipe).prompts}-self-evaluation",)


SCORER = Scorer(NAME, SelfEvaluationSettings, judge, calls=calls, prompts=prompts)
