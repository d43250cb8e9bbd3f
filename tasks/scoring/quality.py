"""Quality: a stand-in for a reward model that does not see the context. A baseline, not a dimension of LongReward.

The judge rates 0..10 how good an answer is overall, from question and answer alone, as the short-context reward
models do that LongReward is compared with (arXiv 2410.21252). A trained one is the scorer `reward_model`.
"""

from collections.abc import Mapping, Sequence

from pydantic import Field

from infra.recipe import Positive, Recipe, RecipeSection
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.rating import rate_plainly
from tasks.judging.steps import Steps
from tasks.records.example import Answer
from tasks.scoring import Scorer

NAME = "quality"


class QualitySettings(RecipeSection):
    """How overall quality is asked for."""

    max_tokens: Positive = Field(64, description="longest reply of the judge, in tokens: the rating stands alone")


def score(questions: Sequence[AnsweredQuestion], settings: QualitySettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer of each question; evidence {"rating", "reply"}."""

    def values(question: AnsweredQuestion, answer: Answer) -> Mapping[str, str]:
        return {"question": question.example.question, "answer": answer.text}

    return rate_plainly(NAME, questions, values, settings.max_tokens, scoring)


def calls(settings: QualitySettings, recipe: Recipe, context_tokens: int) -> Mapping[str, float]:
    """Judge calls for one question, by kind."""
    return {NAME: float(recipe.sampling.samples)}


def prompts(settings: QualitySettings, recipe: Recipe) -> tuple[str, ...]:
    """The prompt file that is used."""
    return (f"judge-{recipe.judge.prompts}-quality",) if recipe.judge else ()


SCORER = Scorer(NAME, QualitySettings, score, needs_judge=True, calls=calls, prompts=prompts)
