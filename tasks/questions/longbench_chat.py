"""LongBench-Chat (Bai et al., 2024, "LongAlign"): real questions about long documents, with a person's answer.

    {"idx", "query", "prompt", "answer", "length"}

`prompt` is the document with the query before or after it; the context is the prompt without the query.
"""

from collections.abc import Mapping
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    answers_field,
    fault,
    id_field,
    language_of,
    make_question,
    metadata_of,
    text_field,
)

_FIELDS = {"idx", "id", "query", "prompt", "answer", "language"}


def read_longbench_chat(row: SourceRow, language: str) -> RawQuestion:
    """A row of LongBench-Chat."""
    query = text_field(row, "query", required=True) or ""
    prompt = text_field(row, "prompt", required=True) or ""
    before, separator, after = prompt.rpartition(query.strip()) if query.strip() else (prompt, "", "")
    if query.strip() and not separator:
        raise fault(row, "prompt", "does not hold the query", "take the file as LongBench-Chat publishes it")
    return make_question(
        id_field(row, "idx", "id"),
        query,
        language_of(row, query, language),
        context="\n\n".join(filter(None, (before.strip(), after.strip()))),
        references=answers_field(row, "answer"),
        metadata=metadata_of(row, _FIELDS),
    )


def _fits(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("query"), str) and isinstance(values.get("prompt"), str) and "context" not in values


FORMAT = QuestionFormat("longbench_chat", read_longbench_chat, "LongBench-Chat's test cases", _fits)
