"""A needle in a haystack, at every depth of every length: the map of where a model finds what a text says.

`single` has one needle in a text; `multi_key` has several, which differ in their key; of `multi_value` and
`multi_query` all numbers count, so their recall may lie between 0 and 1. See tasks/evaluation/generated/needles.py.
"""

from typing import Literal

from pydantic import Field

from tasks.evaluation.generated.making import RECALL, HaystackSettings, generated_suite
from tasks.evaluation.generated.needles import NEEDLE_ANSWER_TOKENS, NEEDLE_TASKS


class NeedleSettings(HaystackSettings):
    """Which needles."""

    tasks: tuple[Literal["single", "multi_key", "multi_query", "multi_value"], ...] = Field(
        ("single",), min_length=1, description="kinds of needles"
    )


SUITE = generated_suite(
    "needle",
    RECALL,
    about="needles in a haystack at every depth and length",
    settings=NeedleSettings,
    tasks=NEEDLE_TASKS,
    names=lambda settings: settings.tasks,
    answer_tokens=NEEDLE_ANSWER_TOKENS,
    average="tasks",
)
