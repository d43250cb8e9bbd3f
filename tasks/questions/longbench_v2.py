"""LongBench v2 (Bai et al., 2024): four options over a long context.

{"_id", "domain", "sub_domain", "difficulty", "length", "question", "choice_A", "choice_B", "choice_C", "choice_D",
 "answer": "D", "context"}
"""

from collections.abc import Mapping
from typing import Any

from tasks.questions.choices import make_choice_question
from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    answers_field,
    id_field,
    language_of,
    metadata_of,
    text_field,
)
from tasks.records.example import Drop

_CHOICES = ("choice_A", "choice_B", "choice_C", "choice_D")
_FIELDS = {"_id", "question", "context", "answer", "language", *_CHOICES}


def read_longbench_v2(row: SourceRow, language: str) -> RawQuestion | Drop:
    """A row of LongBench v2."""
    question = text_field(row, "question", required=True) or ""
    return make_choice_question(
        row,
        id_field(row, "_id"),
        question,
        [text_field(row, name, required=True) or "" for name in _CHOICES],
        answers_field(row, "answer"),
        language_of(row, question, language),
        context=text_field(row, "context", required=True),
        metadata=metadata_of(row, _FIELDS),
    )


def _fits(values: Mapping[str, Any]) -> bool:
    return {"question", "context", *_CHOICES} <= values.keys()


FORMAT = QuestionFormat("longbench_v2", read_longbench_v2, "LongBench v2: four options over a long context", _fits)
