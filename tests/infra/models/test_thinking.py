"""Thinking in replies: taken out where a model thinks, left where an answer only writes about the tags."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.ledger import Entry
from infra.models.protocol import Reply, parse_reply
from infra.models.thinking import UNFINISHED, Parts, Reasoning, split_thinking


def split(text: str, field: str = "", *, cut: bool = False, always: bool = False) -> Parts:
    return split_thinking(text, field, cut, always)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>\nTwo and two.\n</think>\n\nFour.", Parts("Two and two.", "Four.")),
        (" \n<think>Two.</think>Four.", Parts("Two.", "Four.")),
        ("<think>\n\n</think>\n\nFour.", Parts("", "Four.")),
        ("<think>\n好的，二加二。\n</think>\n\n答案：四。", Parts("好的，二加二。", "答案：四。")),
        ("Two and two.\n</think>\n\nFour.", Parts("Two and two.", "Four.")),
        ("好的，二加二。\n  </think>\r\n答案：四。", Parts("好的，二加二。", "答案：四。")),
        ("</think>\nFour.", Parts("", "Four.")),
        ("<think>Is it </think> or not?", Parts("Is it", "or not?")),
        ("<think>Two.</think>Models write <think> and </think>.", Parts("Two.", "Models write <think> and </think>.")),
    ],
)
def test_thinking_before_the_answer_is_taken_out(text: str, parts: Parts) -> None:
    assert split(text) == parts
    assert split(text, cut=True) == parts
    assert split(text, always=True) == parts


@pytest.mark.parametrize(
    "text",
    [
        "Four.",
        "",
        "  Four.\n",
        "A block begins with <think> and ends with </think>.",
        "思考写在 <think> 与 </think> 之间。",
        "The tag </think> ends it.",
        "First <think>\nthen\n</think>\nthen the answer.",  # an opening tag comes before the closing one
        "`<think>`\n</think>\n",
        "It is </think>, and alone:\n</think>\nFour.",
    ],
)
def test_an_answer_about_the_tags_stays_as_it_is(text: str) -> None:
    assert split(text) == Parts("", text)


@pytest.mark.parametrize("text", ["<think>\nTwo and", " <think>", "<think>\n好的，"])
def test_a_block_that_never_ends_has_no_answer(text: str) -> None:
    for always in (False, True):
        parts = split(text, cut=True, always=always)
        assert (parts.answer, parts.finished) == ("", False)
        assert parts.thinking == text.strip().removeprefix("<think>").strip()


def test_of_a_model_that_always_thinks_the_first_closing_tag_ends_it_and_a_cut_text_without_one_is_thinking() -> None:
    assert split("Two.</think>Four.", always=True) == Parts("Two.", "Four.")
    assert split("I write <think> first.</think>Four.", always=True) == Parts("I write <think> first.", "Four.")
    assert split("Two and", cut=True, always=True) == Parts("Two and", "", finished=False)
    assert split("Four.", always=True) == Parts("", "Four.")  # it ended by itself: this once it did not think
    assert split("Two and", cut=True) == Parts("", "Two and")  # not declared: an answer that was cut


def test_a_field_of_its_own_is_thinking_and_the_content_is_the_answer() -> None:
    assert split("Four.", "Two.") == Parts("Two.", "Four.")
    assert split("Four", "Two.", cut=True, always=True) == Parts("Two.", "Four")
    assert split("", "Two and", cut=True) == Parts("Two and", "", finished=False)
    assert split("<think>Two.</think>Four.", "Two.") == Parts("Two.\nTwo.", "Four.")
    assert split("Four.", " ") == Parts("", "Four.")


@given(st.text(), st.booleans())
def test_a_text_without_a_tag_is_never_changed(text: str, cut: bool) -> None:
    if "think>" not in text:
        assert split(text, cut=cut) == Parts("", text)


# --- replies ---


def reply(message: dict[str, Any], finish: str = "stop", reasoning: Reasoning = "auto", **usage: Any) -> Reply:
    counts = {"prompt_tokens": 9, "completion_tokens": 30, **usage}
    raw = json.dumps({"choices": [{"message": message, "finish_reason": finish}], "usage": counts})
    outcome = parse_reply(Entry("ab" * 32, "sample", "m", "main", 200, raw, 9, 30, 0.1, 0.0), reasoning)
    assert isinstance(outcome, Reply)
    return outcome


THOUGHTFUL = {"content": "<think>Two.</think>\n\nFour."}
SPLIT = {"content": "Four.", "reasoning": "Two."}


def test_a_reply_is_its_answer_and_the_recipe_may_keep_the_thinking() -> None:
    assert (reply(THOUGHTFUL).text, reply(THOUGHTFUL).thinking) == ("Four.", "Two.")
    assert reply(THOUGHTFUL, reasoning="keep").text == "<think>Two.</think>\n\nFour."
    for field in ("reasoning", "reasoning_content"):
        message = {"content": "Four.", field: "Two."}
        assert (reply(message).text, reply(message).thinking) == ("Four.", "Two.")
        assert reply(message, reasoning="keep").text == "<think>\nTwo.\n</think>\n\nFour."


def test_a_reply_that_ended_while_it_thought_says_so() -> None:
    for message in ({"content": "<think>Two"}, {"content": None, "reasoning": "Two"}):
        cut = reply(message, "length")
        assert (cut.text, cut.finish_reason) == ("", UNFINISHED)
    cut = reply({"content": "Two and"}, "length", "always")
    assert (cut.text, cut.finish_reason, cut.thinking) == ("", UNFINISHED, "Two and")
    whole = reply({"content": "<think>Two"}, "length", "keep")
    assert (whole.text, whole.finish_reason) == ("<think>Two", "length")
    filtered = reply({"content": None, "reasoning": "Two"}, "content_filter")
    assert filtered.finish_reason == "content_filter"


def test_the_servers_count_of_thinking_is_read() -> None:
    assert reply(SPLIT, completion_tokens_details={"reasoning_tokens": 20}).reasoning_tokens == 20
    for details in (None, {}, {"reasoning_tokens": None}):
        assert reply(SPLIT, completion_tokens_details=details).reasoning_tokens == 0
