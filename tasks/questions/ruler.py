"""RULER (Hsieh et al., 2024): generated tasks; the question is the last line of the input.

    {"index", "input", "outputs": ["..."], "length", "answer_prefix"?}

All outputs must stand in an answer (kind "list"), but for RULER's question answering, where one is enough.
"""

from collections.abc import Mapping
from typing import Any

from tasks.metrics import LIST
from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    answers_field,
    make_question,
    metadata_of,
    text_field,
)

_FIELDS = {"input", "outputs"}
_QA = "Answer the question based on the given documents"
_LABEL = "Question:"


def read_ruler(row: SourceRow, language: str) -> RawQuestion:
    """A row of RULER. Its id is derived: an index repeats from task to task."""
    text = (text_field(row, "input", required=True) or "").rstrip()
    context, _, question = text.rpartition("\n")
    references = answers_field(row, "outputs")
    kind = LIST if len(references) > 1 and _QA not in text else ""
    return make_question(
        None,
        question.strip().removeprefix(_LABEL).strip(),
        language,
        context=context,
        references=references,
        kind=kind,
        metadata=metadata_of(row, _FIELDS),
    )


def _fits(values: Mapping[str, Any]) -> bool:
    return {"input", "outputs"} <= values.keys() and "instructions" not in values and "context" not in values


FORMAT = QuestionFormat("ruler", read_ruler, "RULER: the question is the last line of the input", _fits)
