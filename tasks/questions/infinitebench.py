"""InfiniteBench (Zhang et al., 2024): a question over a context of 100k tokens and more.

    {"id", "context", "input", "answer": ["..."], "options": []}

Rows with options are multiple choice. Rows of the summary and dialogue tasks have an empty input and become drops
("empty_question"); `questions.fields` can give them a question.
"""

from collections.abc import Mapping
from typing import Any

from tasks.questions.choices import make_choice_question, options_field
from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    answers_field,
    id_field,
    language_of,
    make_question,
    metadata_of,
    text_field,
)
from tasks.records.example import Drop

_FIELDS = {"id", "context", "input", "answer", "options", "language"}


def read_infinitebench(row: SourceRow, language: str) -> RawQuestion | Drop:
    """A row of InfiniteBench."""
    question_id, question = id_field(row, "id"), text_field(row, "input", required=True) or ""
    context, answers = text_field(row, "context", required=True), answers_field(row, "answer")
    options, language = options_field(row, "options"), language_of(row, question, language)
    metadata = metadata_of(row, _FIELDS)
    if options:
        return make_choice_question(
            row, question_id, question, options, answers, language, context=context, metadata=metadata
        )
    return make_question(question_id, question, language, context=context, references=answers, metadata=metadata)


def _fits(values: Mapping[str, Any]) -> bool:
    return {"input", "context", "answer"} <= values.keys()


FORMAT = QuestionFormat("infinitebench", read_infinitebench, "InfiniteBench, also its options", _fits)
