"""Key-value pairs, after "Lost in the Middle" (Liu et al., 2023): accuracy by the position of the pair asked for.

An answer is right when it holds the value. See tasks/evaluation/generated/key_values.py.
"""

from collections.abc import Iterator

from infra.models.tokens import Tokenizer
from infra.recipe import Recipe
from tasks.evaluation.generated.key_values import PAIRS, key_values
from tasks.evaluation.generated.making import ACCURACY, PROMPT, LengthSettings, accuracy_length, generated
from tasks.evaluation.suites import Suite, SuiteQuestion
from tasks.metrics import sub_em
from tasks.records.example import Context, Example

_ANSWER_TOKENS = {"": 128}  # a model may repeat the key, and a UUID has up to 40 tokens


def _accuracy(text: str, example: Example, context: Context) -> float | None:
    return sub_em(text, example.references)


def _generate(settings: LengthSettings, recipe: Recipe, tokenizer: Tokenizer) -> Iterator[SuiteQuestion]:
    return generated(settings, (PAIRS,), {PAIRS: key_values}, _ANSWER_TOKENS, recipe, tokenizer)


SUITE = Suite(
    "kv",
    {ACCURACY: _accuracy},
    about="one of many key-value pairs, by its position",
    settings=LengthSettings,
    generate=_generate,
    prompt=lambda example, settings: PROMPT,
    answer_tokens=_ANSWER_TOKENS,
    summary=accuracy_length,
)
