"""MuSiQue (Trivedi et al., 2022): multi-hop questions over 20 paragraphs, in the published JSONL.

    {"id", "question", "answer", "answer_aliases", "answerable",
     "paragraphs": [{"idx", "title", "paragraph_text", "is_supporting"}], "question_decomposition"}

The kind is the number of hops, which is the part of the id before its first "__". A row that says `answerable: false`
(MuSiQue-Full has a twin of every question, with the same id, that lacks a paragraph) is a drop "unanswerable".
"""

from collections.abc import Mapping
from typing import Any

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
from tasks.records.example import Document, Drop

_FIELDS = {"id", "question", "answer", "answer_aliases", "answerable", "paragraphs"}


def read_musique(row: SourceRow, language: str) -> RawQuestion | Drop:
    """A row of MuSiQue: supporting paragraphs are the documents, the other paragraphs the distractors."""
    documents: list[Document] = []
    distractors: list[Document] = []
    for paragraph in records_field(row, "paragraphs", required=True):
        supporting = paragraph.get("is_supporting")
        if not isinstance(supporting, bool):
            raise fault(
                row, "paragraphs.is_supporting", "is not true or false", "take the file as MuSiQue publishes it"
            )
        document = document_field(row, "paragraphs", paragraph, "paragraph_text")
        if supporting:
            documents.append(document)
        else:
            distractors.append(document)
    answer = text_field(row, "answer")
    references = [answer] if answer else []
    references.extend(texts_field(row, "answer_aliases"))
    question = make_question(
        id_field(row, "id"),
        text_field(row, "question", required=True) or "",
        language,
        documents=documents,
        distractors=distractors,
        references=list(dict.fromkeys(references)),
        metadata=metadata_of(row, _FIELDS),
        kind=_hops(id_field(row, "id")),
    )
    if row.values.get("answerable") is False:
        return Drop(question.example_id, "read", "unanswerable", f"row {row.number} says answerable: false")
    return question


def _fits(values: Mapping[str, Any]) -> bool:
    return "paragraphs" in values and "question" in values


FORMAT = QuestionFormat("musique", read_musique, "MuSiQue: multi-hop questions over 20 paragraphs", _fits)


def _hops(question_id: str | None) -> str:
    hops, separator, _ = (question_id or "").partition("__")
    return hops if separator else ""
