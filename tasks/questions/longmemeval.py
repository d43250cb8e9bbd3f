"""LongMemEval (Wu et al., 2024): questions about what a user once said, over a history of chats.

    {"question_id", "question_type", "question", "answer", "question_date", "haystack_dates", "haystack_session_ids",
     "haystack_sessions": [[{"role", "content"}, ...], ...], "answer_session_ids"}

The context is the whole history in its order, a date before each session; for `contexts.build: history` it stays
messages. For `contexts.build: pooled` the sessions
that hold the answer are the documents, the others the distractors. The kind is the question's type.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    Session,
    SourceRow,
    Turn,
    answers_field,
    fault,
    id_field,
    make_question,
    metadata_of,
    question_text,
    text_field,
    texts_field,
)
from tasks.questions.sessions import session_text
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
    sessions = []
    for session_id, date, turns in _sessions(row):
        session = Session(date, turns, supports=session_id in answer_ids)
        document = Document(date, session_text(session))
        sessions.append(session)
        parts.append(f"{document.title}\n{document.text}")
        if session.supports:
            documents.append(document)
        else:
            distractors.append(document)
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
        sessions=sessions,
    )


def is_history(values: Mapping[str, Any]) -> bool:
    """Whether a row has LongMemEval's sessions."""
    return isinstance(values.get("haystack_sessions"), (list, tuple))


def history_of(row: SourceRow) -> list[Session]:
    """The sessions of a row. Raises InputError."""
    return [Session(date, turns) for _, date, turns in _sessions(row)]


def _sessions(row: SourceRow) -> list[tuple[str, str, tuple[Turn, ...]]]:
    """(id, date, turns) of every session."""
    sessions, dates, ids = (row.values.get(name) for name in _HAYSTACK)
    if not isinstance(sessions, (list, tuple)):
        raise fault(row, "haystack_sessions", "is missing or no list of sessions", _REMEDY)
    dates, ids = dates or [""] * len(sessions), ids or [""] * len(sessions)
    if not len(sessions) == len(dates) == len(ids):
        raise fault(row, "haystack_sessions", "has not as many sessions as there are dates and ids", _REMEDY)
    results = []
    for session_id, date, messages in zip(ids, dates, sessions, strict=True):
        results.append((str(session_id), str(date), _turns(row, messages)))
    return results


def _turns(row: SourceRow, messages: Sequence[Any]) -> tuple[Turn, ...]:
    turns = []
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise fault(row, "haystack_sessions.content", "is missing or no text", _REMEDY)
        turns.append(Turn(str(message.get("role", "")), message["content"]))
    return tuple(turns)


def _fits(values: Mapping[str, Any]) -> bool:
    return "haystack_sessions" in values and "question" in values


FORMAT = QuestionFormat("longmemeval", read_longmemeval, "LongMemEval: questions over a history of chats", _fits)
