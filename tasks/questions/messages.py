"""Conversations and agents' trajectories as chat messages: OpenAI's form, or ShareGPT's.

    {"id"?, "messages": [{"role", "content", "tool_calls"?, "tool_call_id"?, "name"?, "timestamp"?}, ...],
     "tools"?: [{"type": "function", "function": {"name", "description", "parameters"}}, ...],
     "question"?, "answer"? | "answers"?, "kind"?, "language"?, "metadata"?}
    {"id"?, "conversations": [{"from": "human" | "gpt" | "system" | "tool", "value"}, ...], ...}
    {"id"?, "sessions": [{"time"?, "messages": [...], "supports"?, "tools"?}, ...] | [[...], ...], "question", ...}

Without a question, the last message of the user is the question, what came after it is the reference, and all before it
is the history.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    language_of,
    make_question,
    metadata_of,
    text_field,
    texts_field,
)
from tasks.questions.sessions import read_tools, read_turns, session_text
from tasks.records.example import Document, Drop

_MESSAGES = ("messages", "conversations", "conversation", "trajectory")
_FIELDS = {"id", "question", "answer", "answers", "kind", "language", "metadata", "sessions", *_MESSAGES}
_FEWEST_MESSAGES = 3  # of a conversation whose last question has a history
_REMEDY = 'write {"messages": [{"role": "user", "content": "..."}, ...]}, and a "question" where there is one'


def read_messages(row: SourceRow, language: str) -> RawQuestion | Drop:
    """A row as described above."""
    sessions = history_of(row)
    question = text_field(row, "question") or ""
    references = texts_field(row, "answers") or answers_field(row, "answer")
    if not question.strip():
        sessions, question, reply = _without_last_question(sessions)
        references = references or ((reply,) if reply.strip() else ())
        if not sessions:
            detail = f"row {row.number} has no message before the last question"
            return Drop(id_field(row, "id") or f"row-{row.number}", "read", "no_messages", detail)
    own_language = language_of(row, question, language)
    documents: list[Document] = []
    distractors: list[Document] = []
    parts: list[str] = []
    for session in sessions:
        document = Document(session.time, session_text(session, own_language))
        parts.append(f"{document.title}\n{document.text}" if document.title else document.text)
        (documents if session.supports or len(sessions) == 1 else distractors).append(document)
    metadata = row.values.get("metadata")
    return make_question(
        id_field(row, "id"),
        question,
        own_language,
        context="\n\n".join(parts),
        documents=documents,
        distractors=distractors,
        references=references,
        kind=text_field(row, "kind") or "",
        metadata={**metadata_of(row, _FIELDS), **(metadata if isinstance(metadata, Mapping) else {})},
        sessions=sessions,
    )


def is_history(values: Mapping[str, Any]) -> bool:
    """Whether a row has chat messages, whatever else it has."""
    return any(isinstance(values.get(name), (list, tuple)) for name in ("sessions", *_MESSAGES))


def history_of(row: SourceRow) -> list[Session]:
    """The sessions of a row; messages without sessions are one. Raises InputError."""
    listed = row.values.get("sessions")
    tools = read_tools(row.values.get("tools"))
    if isinstance(listed, (list, tuple)):
        sessions = []
        for value in listed:
            if isinstance(value, Mapping):
                time, supports = str(value.get("time") or value.get("date") or ""), value.get("supports") is True
                turns = read_turns(row, "sessions.messages", value.get("messages"))
                sessions.append(Session(time, turns, supports, read_tools(value.get("tools")) or tools))
            else:
                sessions.append(Session("", read_turns(row, "sessions", value), tools=tools))
        return [session for session in sessions if session.spoken]
    for name in _MESSAGES:
        if row.values.get(name) is not None:
            session = Session("", read_turns(row, name, row.values[name]), tools=tools)
            return [session] if session.spoken else []
    raise fault(row, "messages", "is missing", _REMEDY)


def _without_last_question(sessions: Sequence[Session]) -> tuple[list[Session], str, str]:
    """(the sessions before the user's last message, that message, the assistant's text after it)."""
    before = list(sessions)
    while before:
        last = before.pop()
        for place in range(len(last.turns) - 1, -1, -1):
            turn = last.turns[place]
            if turn.role != "user" or not turn.says_something:
                continue
            earlier = last.turns[:place]
            if any(other.role == "user" and other.says_something for other in earlier):
                before.append(replace(last, turns=earlier))
            return before, turn.text, _reply(last.turns[place + 1 :])
    return [], "", ""


def _reply(turns: Sequence[Turn]) -> str:
    texts = [turn.text for turn in turns if turn.role == "assistant" and turn.text.strip()]
    return texts[-1] if texts else ""


def _fits(values: Mapping[str, Any]) -> bool:
    if isinstance(values.get("question"), str) and isinstance(values.get("sessions"), (list, tuple)):
        return True
    for name in _MESSAGES:
        messages = values.get(name)
        if isinstance(messages, (list, tuple)) and all(isinstance(message, Mapping) for message in messages):
            return len(messages) >= _FEWEST_MESSAGES or (bool(messages) and bool(values.get("question")))
    return False


FORMAT = QuestionFormat(
    "messages", read_messages, "chat messages of OpenAI's or ShareGPT's form: dialogues, agents' trajectories", _fits
)
