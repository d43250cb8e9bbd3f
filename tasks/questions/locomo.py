"""LoCoMo (Maharana et al., 2024): questions about very long conversations of two people, over many sessions.

    {"sample_id", "conversation": {"speaker_a", "speaker_b", "session_1_date_time", "session_1": [{"speaker", "dia_id",
     "text", "blip_caption"?}, ...], ...}, "qa": [{"question", "answer" | "adversarial_answer", "evidence": ["D1:3"],
     "category": 1-5}, ...], ...}

A row holds all questions about its conversation. The first speaker is the "user", the second the "assistant", with
their names before what they say; a shared picture is its caption. Sessions with evidence are documents. Questions
of the category adversarial have no answer in the conversation and no reference.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.questions.question import (
    QuestionFormat,
    RawQuestion,
    Session,
    SourceRow,
    Turn,
    answers_field,
    fault,
    make_question,
    text_field,
)
from tasks.questions.sessions import session_text
from tasks.records.example import Document

_CATEGORIES = {1: "multi_hop", 2: "temporal", 3: "open_domain", 4: "single_hop", 5: "adversarial"}
_SESSION = re.compile(r"session_(\d+)")
_TURN_ID = re.compile(r"D(\d+):\d+")
_REMEDY = "take the file as LoCoMo publishes it"


def question_rows(row: SourceRow) -> Iterable[SourceRow]:
    """A row for each question about the conversation."""
    questions = row.values.get("qa")
    if not isinstance(questions, (list, tuple)):
        raise fault(row, "qa", "is missing or no list of questions", _REMEDY)
    for number, question in enumerate(questions, 1):
        if not isinstance(question, Mapping):
            raise fault(row, "qa", f"holds {type(question).__name__} instead of a question", _REMEDY)
        sample_id = row.values.get("sample_id")
        name = str(row.number if sample_id is None else sample_id)
        values = {"id": f"{name}-{number}", "conversation": row.values.get("conversation"), **question}
        yield SourceRow(row.file, row.number, values)


def read_locomo(row: SourceRow, language: str) -> RawQuestion:
    """One question of `question_rows`."""
    evidence = set(_TURN_ID.findall(" ".join(map(str, row.values.get("evidence") or ()))))  # numbers of sessions
    sessions: list[Session] = []
    documents: list[Document] = []
    distractors: list[Document] = []
    parts = []
    for number, time, turns in _sessions(row):
        session = Session(time, turns, supports=number in evidence)
        document = Document(time, session_text(session))
        sessions.append(session)
        parts.append(f"{document.title}\n{document.text}")
        (documents if session.supports else distractors).append(document)
    category = row.values.get("category")
    return make_question(
        text_field(row, "id"),
        text_field(row, "question", required=True) or "",
        language,
        context="\n\n".join(parts),
        documents=documents,
        distractors=distractors,
        references=answers_field(row, "answer"),
        kind=_CATEGORIES.get(category, "") if isinstance(category, int) else "",
        metadata={"evidence": row.values.get("evidence") or []},
        sessions=sessions,
    )


def is_history(values: Mapping[str, Any]) -> bool:
    """Whether a row has a conversation as LoCoMo writes it."""
    return isinstance(values.get("conversation"), Mapping)


def history_of(row: SourceRow) -> list[Session]:
    """The sessions of a conversation. Raises InputError."""
    return [Session(time, turns) for _, time, turns in _sessions(row)]


def _sessions(row: SourceRow) -> list[tuple[str, str, tuple[Turn, ...]]]:
    """(number, date, turns) of every session, in their order."""
    conversation = row.values.get("conversation")
    if not isinstance(conversation, Mapping):
        raise fault(row, "conversation", "is missing or no object", _REMEDY)
    numbers = [int(match.group(1)) for match in map(_SESSION.fullmatch, conversation) if match]
    results = []
    for number in sorted(numbers):
        turns = conversation[f"session_{number}"]
        if turns:
            time = str(conversation.get(f"session_{number}_date_time") or "")
            results.append((str(number), time, _turns(row, turns, str(conversation.get("speaker_b") or ""))))
    return results


def _turns(row: SourceRow, turns: Sequence[Any], second_speaker: str) -> tuple[Turn, ...]:
    results = []
    for turn in turns:
        if not isinstance(turn, Mapping) or not isinstance(turn.get("text"), str):
            raise fault(row, "conversation.text", "is missing or no text", _REMEDY)
        text = turn["text"]
        if turn.get("blip_caption"):
            text = f"{text} [{turn['blip_caption']}]".strip()
        speaker = str(turn.get("speaker") or "")
        results.append(Turn("assistant" if speaker == second_speaker else "user", text, speaker))
    return tuple(results)


def _fits(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("qa"), (list, tuple)) and isinstance(values.get("conversation"), Mapping)


FORMAT = QuestionFormat(
    "locomo", read_locomo, "LoCoMo: questions over long conversations of two people", _fits, question_rows
)
