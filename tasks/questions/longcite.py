"""LongCite-45k (Zhang et al., 2024): answers with citations, over a document whose sentences are numbered.

    {"messages": [{"role": "user", "content": "... [Document Start]\\n<C0>...<C1>...\\n[Document End]\\n\\nQUESTION"},
                  {"role": "assistant", "content": "<statement>...<cite>[0-0]</cite></statement>"}]}

The context is the document without its numbers, the question what follows it. The answer is a model's, so it is no
reference: it goes into the metadata.
"""

import re
from collections.abc import Mapping
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    fault,
    id_field,
    language_of,
    make_question,
    metadata_of,
    records_field,
)

_FIELDS = {"idx", "id", "messages", "language"}
_PARTS = re.compile(r"\[Document Start\]\s*(.*)\[Document End\]\s*(.*)", re.DOTALL)
_NUMBER = re.compile(r"<C\d+>")


def read_longcite(row: SourceRow, language: str) -> RawQuestion:
    """A row of LongCite-45k."""
    messages = records_field(row, "messages", required=True)
    content = messages[0].get("content") if messages else None
    parts = _PARTS.search(content) if isinstance(content, str) else None
    if parts is None:
        problem = "the first holds no [Document Start] and [Document End]"
        raise fault(row, "messages", problem, "name its parts with `questions.fields`")
    context, question = parts.groups()
    metadata = metadata_of(row, _FIELDS)
    if len(messages) > 1:
        metadata["answer"] = messages[1].get("content")
    return make_question(
        id_field(row, "idx", "id"),
        question.strip(),
        language_of(row, question, language),
        context=_NUMBER.sub("", context).strip(),
        metadata=metadata,
    )


def _fits(values: Mapping[str, Any]) -> bool:
    messages = values.get("messages")
    first = messages[0] if isinstance(messages, (list, tuple)) and messages else None
    return isinstance(first, Mapping) and _PARTS.search(str(first.get("content"))) is not None


FORMAT = QuestionFormat("longcite", read_longcite, "LongCite-45k: documents with numbered sentences", _fits)
