"""Tasks after RULER (Hsieh et al., 2024), with texts of our own: needles, variables, common words, documents.

Recall is the share of the right items, the headline the mean over the tasks, and the effective length the longest one
whose mean reaches `threshold`. Figures are not those of RULER: no example precedes a question, and no beginning of an
answer is given.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from infra.models.tokens import Tokenizer
from infra.recipe import Recipe
from tasks.evaluation.generated.common_words import COMMON, common_words
from tasks.evaluation.generated.documents import DISTRACTORS, distractors
from tasks.evaluation.generated.making import PROMPT, RECALL, HaystackSettings, generated, recall, recall_length
from tasks.evaluation.generated.needles import NEEDLE_TASKS
from tasks.evaluation.generated.tracking import TRACKING, variable_tracking
from tasks.evaluation.suites import Suite, SuiteQuestion

_TASKS = {**NEEDLE_TASKS, TRACKING: variable_tracking, COMMON: common_words, DISTRACTORS: distractors}
_ANSWER_TOKENS = {"": 64, "multi_value": 128, "multi_query": 128, TRACKING: 128, COMMON: 128}

TaskName = Literal["single", "multi_key", "multi_query", "multi_value", "variable_tracking", "common_words", "qa"]


class RulerSettings(HaystackSettings):
    """Which tasks."""

    tasks: tuple[TaskName, ...] = Field(
        ("single", "multi_key", "multi_query", "multi_value", "variable_tracking", "common_words", "qa"),
        min_length=1,
        description="tasks",
    )


def _generate(settings: RulerSettings, recipe: Recipe, tokenizer: Tokenizer) -> Iterator[SuiteQuestion]:
    return generated(settings, settings.tasks, _TASKS, _ANSWER_TOKENS, recipe, tokenizer)


SUITE = Suite(
    "ruler",
    {RECALL: recall},
    about="RULER's tasks: needles, variables, common words, documents among others",
    settings=RulerSettings,
    generate=_generate,
    prompt=lambda example, settings: PROMPT,
    answer_tokens=_ANSWER_TOKENS,
    average="tasks",
    summary=recall_length,
)
