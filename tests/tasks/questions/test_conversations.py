"""Formats of dialogues: sessions with their times, roles and evidence; the last question of a plain conversation."""

import json
from pathlib import Path

import pytest

from infra.errors import InputError
from infra.recipe import Questions
from tasks.questions import RawQuestion, SourceRow, question_format, question_formats, read_questions
from tasks.questions.chat import chat_turns, tools_of
from tasks.questions.guess import guess_format
from tasks.questions.question import Turn
from tasks.records.example import Drop

CONVERSATION = {
    "speaker_a": "Ann",
    "speaker_b": "Ben",
    "session_10_date_time": "9 May, 2023",
    "session_10": [{"speaker": "Ben", "dia_id": "D10:1", "text": "I moved to Oslo."}],
    "session_2_date_time": "8 May, 2023",
    "session_2": [
        {"speaker": "Ann", "dia_id": "D2:1", "text": "Hello!", "blip_caption": "a photo of a bridge"},
        {"speaker": "Ben", "dia_id": "D2:2", "text": "Hi."},
    ],
}
LOCOMO = {
    "sample_id": "conv-1",
    "conversation": CONVERSATION,
    "qa": [
        {"question": "Where did Ben move?", "answer": "Oslo", "evidence": ["D10:1"], "category": 4},
        {"question": "When?", "answer": 2023, "evidence": ["D10:1", "D2:1"], "category": 2},
        {"question": "Who flew?", "adversarial_answer": "Ann", "evidence": [], "category": 5},
    ],
}
SHAREGPT = {
    "id": "s1",
    "conversations": [
        {"from": "human", "value": "My name is Ann."},
        {"from": "gpt", "value": "Hello Ann."},
        {"from": "human", "value": "What is my name?"},
        {"from": "gpt", "value": "Ann."},
    ],
}


def read(tmp_path: Path, form: str, *rows: dict) -> list[RawQuestion | Drop]:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_questions(Questions(source=str(file), format=form), "history"))


def test_locomo_has_a_question_for_each_of_a_conversation(tmp_path: Path) -> None:
    one, two, three = read(tmp_path, "locomo", LOCOMO)
    assert (one.example_id, one.kind, one.references) == ("conv-1-1", "single_hop", ("Oslo",))
    assert (two.example_id, two.kind, two.references) == ("conv-1-2", "temporal", ("2023",))
    assert (three.kind, three.references) == ("adversarial", ())
    assert [(session.time, session.supports) for session in one.sessions] == [
        ("8 May, 2023", False),
        ("9 May, 2023", True),
    ]
    assert one.sessions[0].turns == (
        Turn("user", "Hello! [a photo of a bridge]", "Ann"),
        Turn("assistant", "Hi.", "Ben"),
    )
    assert [document.text for document in one.documents] == ["Ben: I moved to Oslo."]
    assert (
        one.context == "8 May, 2023\nAnn: Hello! [a photo of a bridge]\nBen: Hi.\n\n9 May, 2023\nBen: I moved to Oslo."
    )


def test_the_last_question_of_a_conversation_has_the_rest_as_its_history(tmp_path: Path) -> None:
    [question] = read(tmp_path, "messages", SHAREGPT)
    assert (question.question, question.references) == ("What is my name?", ("Ann.",))
    assert [turn.text for turn in question.sessions[0].turns] == ["My name is Ann.", "Hello Ann."]
    short = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    [drop] = read(tmp_path, "messages", short)
    assert (drop.reason, drop.example_id) == ("no_messages", "row-1")


def test_function_calls_of_sharegpt_are_tool_calls(tmp_path: Path) -> None:
    call = {"name": "search", "arguments": {"q": "桥"}}
    conversation = [
        {"from": "human", "value": "How old is the bridge?"},
        {"from": "function_call", "value": json.dumps(call, ensure_ascii=False)},
        {"from": "observation", "value": "built in 1901"},
        {"from": "function_call", "value": json.dumps([call, {"name": "now", "arguments": "{}"}])},
        {"from": "observation", "value": ""},
        {"from": "observation", "value": "2026"},
        {"from": "function_call", "value": "I call search"},
        {"from": "function_call", "value": '{"name": "", "arguments": {}}'},
        {"from": "human", "value": "So how old?"},
        {"from": "gpt", "value": "125 years."},
    ]
    tools = json.dumps([{"name": "search", "description": "Finds", "parameters": {"type": "object"}}])
    [question] = read(tmp_path, "messages", {"conversations": conversation, "tools": tools})
    [session] = question.sessions
    assert [turn.calls for turn in session.turns] == [
        (),
        (("search", '{"q": "桥"}'),),
        (),
        (("search", '{"q": "桥"}'), ("now", "{}")),
        (),
        (),
        (),
        (),
    ]
    assert [turn.text for turn in session.turns[-2:]] == ["I call search", '{"name": "", "arguments": {}}']
    messages = [turn.message for turn in chat_turns(session, "en", with_tools=True)]
    assert [message["role"] for message in messages[:6]] == ["user", "assistant", "tool", "assistant", "tool", "tool"]
    assert messages[1]["tool_calls"][0]["function"] == {"name": "search", "arguments": {"q": "桥"}}
    assert [message["content"] for message in messages[4:6]] == ["", "2026"]
    assert [tool["function"]["name"] for tool in tools_of([session])] == ["search"]


def test_sessions_of_a_row_have_times_and_say_which_the_answer_needs(tmp_path: Path) -> None:
    messages = SHAREGPT["conversations"][:2]
    sessions = [{"time": "1 May", "messages": messages, "supports": True}, {"time": "2 May", "messages": messages}]
    [question] = read(tmp_path, "messages", {"question": "Who?", "answer": "Ann", "sessions": sessions})
    assert [(session.time, session.supports) for session in question.sessions] == [("1 May", True), ("2 May", False)]
    assert len(question.documents) == len(question.distractors) == 1


@pytest.mark.parametrize(
    ("messages", "problem"),
    [("text", "is no list of messages"), ([1], "instead of a message"), ([{"role": "king", "content": "x"}], "'king'")],
)
def test_messages_of_another_shape_are_errors(messages: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        question_format("messages").read(SourceRow("f.jsonl", 1, {"question": "Q?", "messages": messages}), "en")


def test_formats_of_conversations_are_guessed() -> None:
    formats = question_formats().values()
    for row, form in ((LOCOMO, "locomo"), (SHAREGPT, "messages")):
        guess = guess_format(row, formats)
        assert guess is not None
        assert guess.settings == (f"questions.format={form}",)
