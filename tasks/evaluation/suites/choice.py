"""Multiple choice: the share of answers that choose the right option.

The letter is looked for in what follows the last line that begins with "Answer:", or in the whole answer without one;
an answer that repeats one option's text chooses it too. An answer that chooses nothing is wrong. A question without
options has no accuracy: its value is missing, with the reason `not_multiple_choice`.
"""

from tasks.evaluation.suites import Suite
from tasks.metrics import choice_accuracy
from tasks.records.example import Context, Example


def _accuracy(text: str, example: Example, context: Context) -> float | None:
    return choice_accuracy(text, example)


SUITE = Suite("choice", {"accuracy": _accuracy}, reasons={"accuracy": "not_multiple_choice"})
