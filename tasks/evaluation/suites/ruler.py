"""Tasks after RULER (Hsieh et al., 2024), with texts of our own: needles, variables, common words, documents.

Recall is the share of the right items, the headline the mean over the tasks, and the effective length the longest one
whose mean reaches `threshold`. Figures are not those of RULER: no example precedes a question, and no beginning of an
answer is given.
"""

from typing import Literal

from pydantic import Field

from tasks.evaluation.generated.common_words import COMMON, common_words
from tasks.evaluation.generated.documents import DISTRACTORS, distractors
from tasks.evaluation.generated.making import RECALL, HaystackSettings, generated_suite
from tasks.evaluation.generated.needles import NEEDLE_ANSWER_TOKENS, NEEDLE_TASKS
from tasks.evaluation.generated.tracking import TRACKING, variable_tracking

_TASKS = {**NEEDLE_TASKS, TRACKING: variable_tracking, COMMON: common_words, DISTRACTORS: distractors}
_ANSWER_TOKENS = {**NEEDLE_ANSWER_TOKENS, TRACKING: 128, COMMON: 128}

TaskName = Literal["single", "multi_key", "multi_query", "multi_value", "variable_tracking", "common_words", "qa"]


class RulerSettings(HaystackSettings):
    """Which tasks."""

    tasks: tuple[TaskName, ...] = Field(
        ("single", "multi_key", "multi_query", "multi_value", "variable_tracking", "common_words", "qa"),
        min_length=1,
        description="tasks",
    )


SUITE = generated_suite(
    "ruler",
    RECALL,
    about="RULER's tasks: needles, variables, common words, documents among others",
    settings=RulerSettings,
    tasks=_TASKS,
    names=lambda settings: settings.tasks,
    answer_tokens=_ANSWER_TOKENS,
    average="tasks",
)
