"""LongMemEval (Wu et al., 2024): questions about what a user once said, over a history of chats.

    {"question_id", "question_type", "question", "answer", "question_date", "haystack_dates", "haystack_session_ids",
     "haystack_sessions": [[{"role", "content"}, ...], ...], "answer_session_ids"}

The context is the whole history in its order, a date before each session. For `contexts.build: pooled` the sessions
that hold the answer are the documents, the others the distractors. The kind is the question's type.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    SourceRow,
    answers_field,
    fault,
    id_field,
    make_question,
    metadata_of,
    question_text,
    text_field,
    texts_field,
)
from tasks.records.example import Document

_HAYSTACK = ("haystack_sessions", "haystack_dates", "haystack_session_ids")
_FIELDS = {"question_id", "question_type", "question", "answer", "question_date", "answer_session_ids", *_HAYSTACK}
_REMEDY = "take the file as LongMemEval publishes it"


def read_longmemeval(row: SourceRow, language: str) -> RawQuestion:
    """A row of LongMemEval's files."""
    question, date = text_field(row, "question", required=True) or "", text_field(row, "question_date")
    if question.strip() and date:
        question = question_text("dated", language, date=date, question=question)
    answer_ids = set(texts_field(row, "answer_session_ids"))
    documents: list[Document] = []
    distractors: list[Document] = []
    parts = []
    for session_id, session in _sessions(row):
        parts.append(f"{session.title}\n{session.text}")
        if session_id in answer_ids:
            documents.append(session)
        else:
            distractors.append(session)
    return make_question(
        id_field(row, "question_id"),
        question,
        language,
        context="\n\n".join(parts),
        documents=documents,
        distractors=distractors,
        references=answers_field(row, "answer"),
        kind=text_field(row, "question_type") or "",
        metadata=metadata_of(row, _FIELDS),
    )


def _sessions(row: SourceRow) -> list[tuple[str, Document]]:
    """(id, document) of every session; its date is the title."""
    sessions, dates, ids = (row.values.get(name) for name in _HAYSTACK)
    if not isinstance(sessions, (list, tuple)):
        raise fault(row, "haystack_sessions", "is missing or no list of sessions", _REMEDY)
    dates, ids = dates or [""] * len(sessions), ids or [""] * len(sessions)
    if not len(sessions) == len(dates) == len(ids):
        raise fault(row, "haystack_sessions", "has not as many sessions as there are dates and ids", _REMEDY)
    documents = []
    for session_id, date, messages in zip(ids, dates, sessions, strict=True):
        documents.append((str(session_id), Document(str(date), _chat(row, messages))))
    return documents


def _chat(row: SourceRow, messages: Sequence[Any]) -> str:
    """A session as text, a line for each message."""
    lines = []
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise fault(row, "haystack_sessions.content", "is missing or no text", _REMEDY)
        lines.append(f"{message.get('role', '')}: {message['content']}")
    return "\n".join(lines)


def _fits(values: Mapping[str, Any]) -> bool:
    return "haystack_sessions" in values and "question" in values


FORMAT = QuestionFormat("longmemeval", read_longmemeval, "LongMemEval: questions over a history of chats", _fits)
