"""Documents that are histories: rows of chat messages, dialogues of many sessions or an agent's trajectory.

The rows are those of the question formats `messages`, `longmemeval` and `locomo`; their own questions are left aside.
The text of such a document has its turns one after another, with number and role (tasks/records/history.py); what each
says is what a policy would see of it (`flat_turns`). Its metadata has the sessions, from which turns are made again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.documents.document import SourceDocument
from tasks.questions import locomo, longmemeval, messages
from tasks.questions.question import Session, SourceRow, language_of
from tasks.questions.sessions import flat_turns, session_text
from tasks.records.history import history_text, turn_heading

_SESSIONS, _LANGUAGE = "sessions", "turn_language"  # in the metadata of a document
_NAMES = ("title", "sample_id", "question_id", "id")


@dataclass(frozen=True, slots=True)
class HistoryTurn:
    """A turn in a document's text. `number` counts from 1, `session` from 0; `heading`, `start` and `end` are offsets:
    of its number and role, and of what it says, [start, end)."""

    number: int
    role: str  # as it was: "user", "assistant", "system" or "tool"
    side: str  # in a policy's prompt: "user" or "assistant"
    session: int
    heading: int
    start: int
    end: int


def history_sessions(row: SourceRow) -> list[Session]:
    """The sessions of a row of chat messages; none of a row that is something else. Raises InputError."""
    values = row.values
    for form in (longmemeval, locomo, messages):
        if form.is_history(values):
            return [session for session in form.history_of(row) if session.turns]
    return []


def history_content(row: SourceRow, sessions: Sequence[Session]) -> tuple[str, str, dict[str, Any]]:
    """(text, title, metadata) of the document that a history is."""
    language = language_of(row, "\n".join(map(session_text, sessions)), "en")
    text, _ = written_turns(sessions, language)
    title = next((str(row.values[name]) for name in _NAMES if row.values.get(name)), "")
    return text, title, {_SESSIONS: [session.to_json() for session in sessions], _LANGUAGE: language}


def written_turns(sessions: Sequence[Session], language: str) -> tuple[str, tuple[HistoryTurn, ...]]:
    """The text of sessions, and their turns in it."""
    spoken: list[dict[str, str]] = []
    sides: list[tuple[str, int]] = []
    for number, session in enumerate(sessions):
        for turn, flat in zip(session.spoken, flat_turns(session, language), strict=True):
            spoken.append({"role": turn.role, "content": flat.text})
            sides.append((flat.role, number))
    text, starts, ends = history_text(spoken)
    turns = []
    for number, (message, (side, session_number), start, end) in enumerate(
        zip(spoken, sides, starts, ends, strict=True), 1
    ):
        heading = start - len(turn_heading(number, message["role"]))
        turns.append(HistoryTurn(number, message["role"], side, session_number, heading, start, end))
    return text, tuple(turns)


def turns_of(document: SourceDocument) -> tuple[HistoryTurn, ...]:
    """The turns of a document; none of one that is no history."""
    metadata = json.loads(document.metadata)
    if _SESSIONS not in metadata or _LANGUAGE not in metadata:
        return ()
    text, turns = written_turns([Session.from_json(session) for session in metadata[_SESSIONS]], metadata[_LANGUAGE])
    return turns if text == document.text else ()
