"""Question answering with short reference answers: SubEM, token F1, ROUGE-L, each best over references.

SubEM looks through the whole answer, as SeaLong's figures do. F1 and ROUGE-L compare what follows the last line
that begins with "Answer:", or the whole answer without one: over a plan and its steps they would measure length.
"""

from tasks.evaluation.suites import Suite
from tasks.metrics import final_answer, rouge_l, sub_em, token_f1
from tasks.nouns import Example


def _sub_em(text: str, example: Example) -> float | None:
    return sub_em(text, example.references)


def _token_f1(text: str, example: Example) -> float | None:
    return token_f1(final_answer(text), example.references)


def _rouge_l(text: str, example: Example) -> float | None:
    return rouge_l(final_answer(text), example.references)


SUITE = Suite("qa", {"sub_em": _sub_em, "token_f1": _token_f1, "rouge_l": _rouge_l})
