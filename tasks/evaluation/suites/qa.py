"""Question answering with short reference answers: SubEM, token F1, ROUGE-L, each best over references.

SubEM looks through the whole answer, as SeaLong's figures do. F1 and ROUGE-L compare what follows the last line
that begins with "Answer:", or the whole answer without one: over a plan and its steps they would measure length.
"""

from dataclasses import replace
from typing import Any

from tasks.evaluation.suites import Suite, SuiteQuestion
from tasks.metrics import example_sub_em, final_answer, rouge_l, token_f1, whole_references
from tasks.records.example import Context, Example


def _sub_em(text: str, example: Example, context: Context) -> float | None:
    return example_sub_em(text, example)


def _token_f1(text: str, example: Example, context: Context) -> float | None:
    return token_f1(final_answer(text), whole_references(example))


def _rouge_l(text: str, example: Example, context: Context) -> float | None:
    return rouge_l(final_answer(text), whole_references(example))


def _by_kind(question: SuiteQuestion, settings: Any, seed: int) -> SuiteQuestion:
    return replace(question, task=question.example.kind)


SUITE = Suite(
    "qa",
    {"sub_em": _sub_em, "token_f1": _token_f1, "rouge_l": _rouge_l},
    about="answers to questions with short references: SubEM, token F1, ROUGE-L, by kind of question",
    prepare=_by_kind,
)
