"""Longmill's own format, to write questions in.

    {"id"?, "question", "context"? | "documents"? [{"title"?, "text"}], "distractors"? [{"title"?, "text"}],
     "answers"? ["..."], "kind"?, "language"? "en" | "zh", "metadata"? {...}}

Fields that are not listed here go into the metadata.
"""

from collections.abc import Mapping

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    document_field,
    fault,
    id_field,
    make_question,
    metadata_of,
    records_field,
    text_field,
    texts_field,
)
from tasks.records.example import Document

_FIELDS = {"id", "question", "context", "documents", "distractors", "answers", "kind", "language", "metadata"}


def read_native(row: SourceRow, language: str) -> RawQuestion:
    """A row as described above."""
    metadata = row.values.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise fault(row, "metadata", "is not an object", 'write it as {"name": value}')
    return make_question(
        id_field(row, "id"),
        text_field(row, "question", required=True) or "",
        text_field(row, "language") or language,
        context=text_field(row, "context"),
        documents=_documents(row, "documents"),
        distractors=_documents(row, "distractors"),
        references=texts_field(row, "answers"),
        kind=text_field(row, "kind") or "",
        metadata={**metadata_of(row, _FIELDS), **(metadata or {})},
    )


FORMAT = QuestionFormat("native", read_native)


def _documents(row: SourceRow, name: str) -> list[Document]:
    return [document_field(row, name, record) for record in records_field(row, name)]
