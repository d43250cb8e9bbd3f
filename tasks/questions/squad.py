"""SQuAD (Rajpurkar et al., 2016, 2018): the hub's rows, and the published file with its nested articles.

    {"id", "title", "context", "question", "answers": {"text": ["..."], "answer_start": [25]}}        the hub
    {"version", "data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text"}],
        "is_impossible"?}]}]}]}                                                                       the file

A question without an answer (SQuAD 2.0) is a drop "unanswerable". The contexts are single paragraphs: with
`contexts.build: pooled` others' paragraphs are added.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    fault,
    id_field,
    make_question,
    metadata_of,
    records_field,
    text_field,
)
from tasks.records.example import Document, Drop

_FIELDS = {"id", "title", "context", "question", "answers", "is_impossible", "plausible_answers"}


def rows_of_squad(row: SourceRow) -> Iterator[SourceRow]:
    """A row for each question of the published file; a row of the hub is one already."""
    if "data" not in row.values:
        yield row
        return
    for article in records_field(row, "data"):
        for paragraph in _records(row, article, "paragraphs"):
            for question in _records(row, paragraph, "qas"):
                shared = {"title": article.get("title"), "context": paragraph.get("context")}
                yield SourceRow(row.file, row.number, {**shared, **question})


def read_squad(row: SourceRow, language: str) -> RawQuestion | Drop:
    """One question of SQuAD: its paragraph is the context, and the supporting document."""
    context = text_field(row, "context", required=True) or ""
    references = []
    for answer in records_field(row, "answers", required=True):
        text = answer.get("text")
        if not isinstance(text, str):
            raise fault(row, "answers.text", "is missing or no text", "take the file as SQuAD publishes it")
        references.append(text)
    question = make_question(
        id_field(row, "id"),
        text_field(row, "question", required=True) or "",
        language,
        context=context,
        documents=[Document(text_field(row, "title") or "", context)],
        references=list(dict.fromkeys(references)),
        metadata=metadata_of(row, _FIELDS),
    )
    if not references:
        return Drop(question.example_id, "read", "unanswerable", f"row {row.number} has no answer")
    return question


def _records(row: SourceRow, owner: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return records_field(SourceRow(row.file, row.number, owner), name, required=True)


def _fits(values: Mapping[str, Any]) -> bool:
    answers = values.get("answers")
    is_row = "question" in values and isinstance(answers, Mapping) and "text" in answers
    return is_row or ("data" in values and "version" in values)


FORMAT = QuestionFormat("squad", read_squad, "SQuAD: the hub's rows and the published file", _fits, rows_of_squad)
