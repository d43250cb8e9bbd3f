"""Every published format of preference pairs becomes the same messages, or a row that is counted by its reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.training.pair_formats import RowError, has_pair, read_pair

SHARED = Path(__file__).parents[4] / "shared/data/formats"


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


CALLS = [{"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}]
NO_JSON = [{"function": {"name": "look", "arguments": "{at"}}]
PAIR = {"prompt": [_user("A text.\n\nWho?")], "chosen": [_assistant("Ann.")], "rejected": [_assistant("Bob.")]}
CONVERSATIONS = {"chosen": [_user("A text.\n\nWho?"), _assistant("Ann.")]}
CONVERSATIONS |= {"rejected": [_user("A text.\n\nWho?"), _assistant("Bob.")]}


@pytest.mark.parametrize(
    "row",
    [
        PAIR,
        {"prompt": "A text.\n\nWho?", "chosen": "Ann.", "rejected": "Bob."},
        {"prompt": None, **CONVERSATIONS, "score_chosen": 8.0, "score_rejected": 6.0},
        {"prompt": "A text.\n\nWho?", "prompt_id": "3f", **CONVERSATIONS, "messages": CONVERSATIONS["chosen"]},
        {"prompt": "A text.\n\nWho?", "chosen": "Ann.", "rejected": "Bob.", "messages": CONVERSATIONS["chosen"]},
        {"idx": 11, "context": "A text.", "query": "Who?", "win_response": "Ann.", "lose_response": "Bob."},
        {"context": "A text.", "query": "Who?", "prompt": None, "chosen": "Ann.", "rejected": "Bob."},
        {
            "chosen": "\n\nHuman: A text.\n\nWho?\n\nAssistant: Ann.",
            "rejected": "\n\nHuman: A text.\n\nWho?\n\nAssistant: Bob.",
        },
    ],
    ids=[
        "conversational",
        "plain",
        "implicit prompt",
        "UltraFeedback",
        "SeaLong",
        "LongReward",
        "context and query",
        "transcripts",
    ],
)
def test_each_format_becomes_the_same_pair(row: dict[str, Any]) -> None:
    assert has_pair(row)
    assert read_pair(row) == PAIR


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": None}, "missing_field"),
        ({"chosen": "b", "rejected": "c"}, "missing_field"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "empty"),
        ({"context": "", "query": "a", "win_response": "b", "lose_response": "c"}, "empty"),
        ({"context": "a", "query": "a", "win_response": None, "lose_response": "c"}, "missing_field"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "same_text"),
        ({**PAIR, "chosen": [_assistant("a"), _user("b"), _assistant("c")]}, "several_turns"),
        ({**PAIR, "prompt": [_user("a"), _assistant("b")]}, "prompt_without_user"),
        ({**PAIR, "chosen": 3}, "not_messages"),
        ({**PAIR, "chosen": [{"role": "king", "content": "b"}]}, "not_messages"),
        ({**PAIR, "chosen": [{"role": "tool", "content": "b"}]}, "several_turns"),
        ({**PAIR, "tools": ["search"]}, "not_tools"),
        ({**PAIR, "tools": "[{"}, "not_tools"),
        ({**PAIR, "chosen": [{"role": "assistant", "content": "Go.", "tool_calls": CALLS}]}, "not_text_alone"),
        ({**PAIR, "prompt": [{"role": "assistant", "tool_calls": NO_JSON}, _user("Who?")]}, "not_messages"),
        ({**PAIR, "images": ["a.png"]}, "not_text_alone"),
    ],
)
def test_what_cannot_be_trained_on_has_a_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        read_pair(row)
    assert caught.value.reason == reason


def test_columns_that_are_empty_change_nothing() -> None:
    assert read_pair({**PAIR, "tools": None, "images": []}) == PAIR


def test_prompts_have_their_tool_calls_with_arguments_as_objects() -> None:
    asks = {"role": "assistant", "content": None, "tool_calls": CALLS, "name": None}
    answers = {"role": "tool", "content": "Ann", "tool_call_id": "c", "tool_calls": None}
    tools = [{"type": "function", "function": {"name": "look"}}]
    pair = read_pair({**PAIR, "prompt": [_user("Who?"), asks, answers], "tools": json.dumps(tools)})
    assert pair["tools"] == tools
    assert pair["prompt"][1]["content"] == ""
    assert pair["prompt"][1]["tool_calls"][0]["function"] == {"arguments": {"at": "it"}, "name": "look"}
    assert pair["prompt"][2] == {"role": "tool", "content": "Ann", "tool_call_id": "c"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the sample files are not part of the repository")
@pytest.mark.parametrize("name", ["longreward-pairs", "sealong-published", "mix-ultrafeedback"])
def test_the_published_files_are_read(name: str) -> None:
    for line in (SHARED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        pair = read_pair(json.loads(line))
        assert [message["role"] for message in pair["prompt"]] == ["user"]
