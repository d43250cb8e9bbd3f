"""Documents that are histories: rows of chat messages, dialogues of many sessions or an agent's trajectory.

The rows are those of the question formats `messages`, `longmemeval` and `locomo`; their own questions are left aside.
The text of such a document has its turns one after another, with number and role (tasks/records/history.py); what each
says is what a policy would see of it (`flat_turns`). Its metadata has the sessions, from which turns are made again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.models.tool_calls import json_text
from tasks.documents.document import SourceDocument
from tasks.questions import locomo, longmemeval, messages
from tasks.questions.chat import tools_of
from tasks.questions.question import Session, SourceRow, Turn, language_of
from tasks.questions.sessions import flat_turns, session_text
from tasks.records.history import history_text, turn_heading

_SESSIONS, _LANGUAGE = "sessions", "turn_language"  # in the metadata of a document
_NAMES = ("title", "sample_id", "question_id", "id")


@dataclass(frozen=True, slots=True)
class HistoryTurn:
    """A turn in a document's text. `number` counts from 1, `session` from 0; `heading`, `start` and `end` are offsets:
    of its number and role, and of what it says, [start, end).

    `tool_use` of a turn that calls tools, or is a result, is JSON: {"content": [start, end) in what it says, and the
    further fields of its message in OpenAI's form}.
    """

    number: int
    role: str  # as it was: "user", "assistant", "system" or "tool"
    side: str  # in a policy's prompt: "user" or "assistant"
    session: int
    heading: int
    start: int
    end: int
    tool_use: str = ""


def history_sessions(row: SourceRow) -> list[Session] | None:
    """The sessions of a row of chat messages that say something; None for a row that is something else.

    Raises InputError.
    """
    values = row.values
    for form in (longmemeval, locomo, messages):
        if form.is_history(values):
            return [session for session in form.history_of(row) if session.spoken]
    return None


def history_content(row: SourceRow, sessions: Sequence[Session]) -> tuple[str, str, dict[str, Any]]:
    """(text, title, metadata) of the document that a history is."""
    language = language_of(row, "\n".join(map(session_text, sessions)), "en")
    text, _ = written_turns(sessions, language)
    title = next((str(row.values[name]) for name in _NAMES if row.values.get(name)), "")
    return text, title, {_SESSIONS: [session.to_json() for session in sessions], _LANGUAGE: language}


def written_turns(sessions: Sequence[Session], language: str) -> tuple[str, tuple[HistoryTurn, ...]]:
    """The text of sessions, and their turns in it."""
    spoken: list[dict[str, str]] = []
    sides: list[tuple[str, int, str]] = []
    for number, session in enumerate(sessions):
        time = session.time  # before the first turn
        for turn, flat in zip(session.spoken, flat_turns(session, language), strict=True):
            spoken.append({"role": turn.role, "content": flat.text})
            sides.append((flat.role, number, _tool_use(turn, turn.time or time, flat.text)))
            time = ""
    text, starts, ends = history_text(spoken)
    turns = []
    for number, (message, own, start, end) in enumerate(zip(spoken, sides, starts, ends, strict=True), 1):
        side, session_number, tool_use = own
        heading = start - len(turn_heading(number, message["role"]))
        turns.append(HistoryTurn(number, message["role"], side, session_number, heading, start, end, tool_use))
    return text, tuple(turns)


def _tool_use(turn: Turn, time: str, text: str) -> str:
    """`HistoryTurn.tool_use` of a turn whose text in the document is `text`."""
    if not turn.calls and turn.role != "tool":
        return ""
    start = text.find(turn.text)
    fields: dict[str, Any] = {"content": [start, start + len(turn.text)]}
    if turn.calls:
        fields["tool_calls"] = []
        for call_id, (name, arguments) in zip(turn.call_ids or [""] * len(turn.calls), turn.calls, strict=True):
            function = {"name": name, "arguments": arguments}
            fields["tool_calls"].append({"id": call_id, "type": "function", "function": function})
    else:
        fields["tool_call_id"] = turn.call_id
    return json_text(fields | {"name": turn.name, "timestamp": time})


def silent_turns(document: SourceDocument) -> int:
    """How many messages of a document that is a history say nothing, and are not in its text."""
    return sum(session.silent for session in _sessions_of(document))


def tools_of_document(document: SourceDocument) -> tuple[str, ...]:
    """The tools of a document that is a history, each as JSON."""
    return tuple(map(json_text, tools_of(_sessions_of(document))))


def _sessions_of(document: SourceDocument) -> list[Session]:
    """The sessions of a document; none of one that is no history."""
    return [Session.from_json(session) for session in json.loads(document.metadata).get(_SESSIONS, ())]


def turns_of(document: SourceDocument) -> tuple[HistoryTurn, ...]:
    """The turns of a document; none of one that is no history."""
    metadata = json.loads(document.metadata)
    if _SESSIONS not in metadata or _LANGUAGE not in metadata:
        return ()
    text, turns = written_turns([Session.from_json(session) for session in metadata[_SESSIONS]], metadata[_LANGUAGE])
    return turns if text == document.text else ()
