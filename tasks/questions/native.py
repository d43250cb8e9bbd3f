"""Longmill's own format, to write questions in.

    {"id"?, "question", "context"? | "documents"? [{"title"?, "text"}], "distractors"? [{"title"?, "text"}],
     "answers"? ["..."] | "answer"? "...", "choices"? ["...", "..."], "kind"?, "language"? "en" | "zh",
     "sessions"? [{"time"?, "messages": [{"role", "content"}], "supports"?}], "metadata"? {...}}

`answer` is one reference or a list of them; where a row has `answers` too, these are the references. `choices` (or
`options`) make it a multiple-choice question (choices.py). `sessions` are the documents once more, as chat messages,
for contexts.build: history. Fields that are not listed here go into the metadata.
"""

import re
from collections.abc import Mapping
from typing import Any

from tasks.questions.choices import make_choice_question, options_field
from tasks.questions.messages import history_of
from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    answers_field,
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

_SOURCES = {"context", "documents", "distractors", "sessions"}
_FIELDS = {"id", "question", "answers", "kind", "language", "metadata"} | _SOURCES
_SINGLE_OPTION = re.compile(r"(?:choice|option)[_ ]?[A-Za-z0-9]")


def read_native(row: SourceRow, language: str) -> RawQuestion | Drop:
    """A row as described above."""
    metadata = row.values.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise fault(row, "metadata", "is not an object", 'write it as {"name": value}')
    fields = set(_FIELDS)
    options = options_field(row, "choices", "options")
    if options:
        fields |= {"choices", "options"}
    single = sorted(filter(_SINGLE_OPTION.fullmatch, row.values))
    if len(single) > 1:
        remedy = f"name them: questions.fields.choices: [{', '.join(single)}], or write the options as a list `choices`"
        raise fault(row, single[0], "is an option in a field of its own", remedy)
    references = texts_field(row, "answers")
    if not references:
        references = answers_field(row, "answer")
        fields.add("answer")
    question_id, question = id_field(row, "id"), text_field(row, "question", required=True) or ""
    language = text_field(row, "language") or language
    kind = text_field(row, "kind") or ""
    sources: dict[str, Any] = {
        "context": text_field(row, "context"),
        "documents": _documents(row, "documents"),
        "distractors": _documents(row, "distractors"),
        "metadata": {**metadata_of(row, fields), **(metadata or {})},
    }
    if row.values.get("sessions"):
        sources["sessions"] = history_of(row)
    if options:
        if kind:
            sources["metadata"]["kind"] = kind
        return make_choice_question(row, question_id, question, options, references, language, **sources)
    return make_question(question_id, question, language, references=references, kind=kind, **sources)


def _fits(values: Mapping[str, Any]) -> bool:
    has_text = isinstance(values.get("context"), str) or isinstance(values.get("documents"), list)
    answers = values.get("answers") or []
    plain = isinstance(answers, (list, tuple)) and all(isinstance(answer, str) for answer in answers)
    return isinstance(values.get("question"), str) and has_text and plain and "choice_A" not in values


FORMAT = QuestionFormat("native", read_native, "Longmill's own rows: question, context or documents, answers", _fits)


def _documents(row: SourceRow, name: str) -> list[Document]:
    return [document_field(row, name, record) for record in records_field(row, name)]
