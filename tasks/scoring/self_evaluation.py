"""Self-evaluation: the policy itself rates its answer 0..10, with the context before it and no reference.

A baseline of LongReward and SeaLong. With `asked: judge` the recipe's judge is asked the same instead, which shows
what reading the whole context at once is worth. Every call reads the context, so N ratings cost about what N samples
do; answers of one context are sent together, and the context stands before them. A prompt that does not fit the
model's window is a score that is null. Leaves out: self-evaluation with a reference.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from infra.errors import RecipeError
from infra.recipe import Positive, Recipe, RecipeSection
from tasks.judging.asking import policy_as_judge
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.rating import rate_plainly
from tasks.judging.steps import Steps
from tasks.records.example import Answer
from tasks.scoring import Scorer

NAME = "self_evaluation"


class SelfEvaluationSettings(RecipeSection):
    """Who rates, and how it is asked."""

    asked: Literal["policy", "judge"] = Field(
        "policy", description="policy: the model that answered rates its answers; judge: the recipe's judge does"
    )
    max_tokens: Positive = Field(64, description="longest reply, in tokens: the rating stands alone")


def score(questions: Sequence[AnsweredQuestion], settings: SelfEvaluationSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer of each question; evidence {"rating", "reply"}."""

    def values(question: AnsweredQuestion, answer: Answer) -> Mapping[str, str]:
        return {"context": question.context.text, "question": question.example.question, "answer": answer.text}

    return rate_plainly(NAME, questions, values, settings.max_tokens, scoring, settings.asked)


def calls(settings: SelfEvaluationSettings, recipe: Recipe, context_tokens: int) -> Mapping[str, float]:
    """Calls for one question, by kind; they go to the policy unless the judge is asked."""
    return {NAME: float(recipe.sampling.samples)}


def prompts(settings: SelfEvaluationSettings, recipe: Recipe) -> tuple[str, ...]:
    """The prompt file that is used. Raises RecipeError when a judge is to be asked and there is none."""
    if settings.asked == "judge" and recipe.judge is None:
        raise RecipeError("scoring.scorers: self_evaluation has asked: judge, and the recipe has no `judge` section")
    return (f"judge-{policy_as_judge(recipe).prompts}-self-evaluation",)


SCORER = Scorer(NAME, SelfEvaluationSettings, score, calls=calls, prompts=prompts)
