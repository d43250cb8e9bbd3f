"""A needle in a haystack, at every depth of every length: the map of where a model finds what a text says.

`single` has one needle in a text; `multi_key` has several, which differ in their key; of `multi_value` and
`multi_query` all numbers count, so their recall may lie between 0 and 1. See tasks/evaluation/generated/needles.py.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from infra.models.tokens import Tokenizer
from infra.recipe import Recipe
from tasks.evaluation.generated.making import PROMPT, RECALL, HaystackSettings, generated, recall, recall_length
from tasks.evaluation.generated.needles import NEEDLE_TASKS
from tasks.evaluation.suites import Suite, SuiteQuestion

_ANSWER_TOKENS = {"": 64, "multi_value": 128, "multi_query": 128}


class NeedleSettings(HaystackSettings):
    """Which needles."""

    tasks: tuple[Literal["single", "multi_key", "multi_query", "multi_value"], ...] = Field(
        ("single",), min_length=1, description="kinds of needles"
    )


def _generate(settings: NeedleSettings, recipe: Recipe, tokenizer: Tokenizer) -> Iterator[SuiteQuestion]:
    return generated(settings, settings.tasks, NEEDLE_TASKS, _ANSWER_TOKENS, recipe, tokenizer)


SUITE = Suite(
    "needle",
    {RECALL: recall},
    about="needles in a haystack at every depth and length",
    settings=NeedleSettings,
    generate=_generate,
    prompt=lambda example, settings: PROMPT,
    answer_tokens=_ANSWER_TOKENS,
    average="tasks",
    summary=recall_length,
)
