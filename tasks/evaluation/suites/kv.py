"""Key-value pairs, after "Lost in the Middle" (Liu et al., 2023): accuracy by the position of the pair asked for.

An answer is right when it holds the value. See tasks/evaluation/generated/key_values.py.
"""

from tasks.evaluation.generated.key_values import PAIRS, key_values
from tasks.evaluation.generated.making import LengthSettings, generated_suite
from tasks.records.example import Context, Example
from tasks.sub_em import sub_em


def _accuracy(text: str, example: Example, context: Context) -> float | None:
    return sub_em(text, example.references)


SUITE = generated_suite(
    "kv",
    ("accuracy", _accuracy),
    about="one of many key-value pairs, by its position",
    settings=LengthSettings,
    tasks={PAIRS: key_values},
    names=lambda settings: (PAIRS,),
    answer_tokens={"": 128},  # a model may repeat the key, and a UUID has up to 40 tokens
    average="questions",
)
