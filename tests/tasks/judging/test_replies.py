"""A judge's reply is read as it was asked for, or by its only label, or not at all; manners: test_manners.py."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.judging.replies import Unusable, read_duel, read_facts, read_notes, read_rating, read_support


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("[[7]]", 7),
        ("Good, but short.\n[[ 0 ]]", 0),
        ("Not a [[3]], rather better: [[10]].", 10),
        ("好。\n[[8]]。", 8),
        ("**[[4]]**", 4),
        ("[[6]]\n\nIt names the year, but not the place.", 6),
        ("<think>Perhaps [[2]], as it says.</think>\n[[9]]", 9),
        ("One could open with [[ and end so: [[5]]", 5),
        ("Echo: the answer says [ [10] ].\n[[1]]", 1),
    ],
)
def test_the_last_rating_counts_and_ends_the_reply(text: str, rating: int) -> None:
    assert read_rating(text) == rating


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("A fine answer.", "no_rating"),
        ("[[100]]", "off_scale"),
        ("[[11]]", "off_scale"),
        ("[[-1]]", "off_scale"),
        ("[[10.5]]", "off_scale"),
        ("[[4]]/5", "off_scale"),
        ("[[٧]]", "off_scale"),
        ("[[seven]]", "off_scale"),
        ("[[n]]", "off_scale"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("The prompt was filtered by the content management policy.", "content_filter"),
        ("[[07]]", "off_scale"),
        ("[[8/100]]", "off_scale"),
        ("[[10]] is what the answer demands. I give it a 2.", "several_labels"),
        ("[[8]]\nBut for style [[3]] and that is all.", "several_labels"),
        ("Rating: 7-8", "no_rating"),
        ("Rating: 7 or 8", "no_rating"),
        ("A score of 10 would need the year as well.", "no_rating"),
        ("It gives 3/10 of the items.", "no_rating"),
        ("I give it 2 points for the year.", "no_rating"),
        ("<think>It may be [[8]]", "cut_off"),
        ("<think>It may be [[8]].</think>", "empty"),
        ("[ [10] ]", "no_rating"),
        ("It has [[10] of them", "no_rating"),
        ("抱歉，我无法评分。", "refused"),
    ],
)
def test_what_is_no_rating_is_told_apart(text: str, reason: str) -> None:
    with pytest.raises(Unusable) as fault:
        read_rating(text)
    assert fault.value.reason == reason


@pytest.mark.parametrize(
    ("text", "support"),
    [
        ("[[Fully supported]]", 1.0),
        ("The passage says half of it.\n[[partially  supported]].", 0.5),
        ("[[No support]]", 0.0),
        ("[[完全支持]]", 1.0),
        ("部分内容一致。[[部分支持]]。", 0.5),
        ("[[不支持]]", 0.0),
    ],
)
def test_the_three_labels_in_both_languages(text: str, support: float) -> None:
    assert read_support(text) == support


@pytest.mark.parametrize(
    "text", ["[[Not fully supported]]", "[[Supported]]", "[[Fully supported by passage 2]]", "[[]]", "[[未完全支持]]"]
)
def test_another_label_is_never_taken_for_support(text: str) -> None:
    with pytest.raises(Unusable) as fault:
        read_support(text)
    assert fault.value.reason == "unknown_label"


def test_statements_are_listed_once_each_in_their_order() -> None:
    text = "Here:\n<statement>B is.</statement>\n<statement> A\nis  red. </statement><statement>B is.</statement>"
    assert read_facts(text) == ("B is.", "A is red.")


@pytest.mark.parametrize("text", ["No factual statements", " no factual statements. ", "“没有事实性陈述”。"])
def test_no_facts_is_an_outcome_of_its_own(text: str) -> None:
    assert read_facts(text) == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("The answer says that A is red.", "no_statements"),
        ("<statement>A is red.</statement>\n<statement>B is", "cut_off"),
        ("<statement>  </statement>", "no_statements"),
        ("Sorry, I can't do that.", "refused"),
        ("<statement>A is red.</statement> <statement>B is <statement>C is.</statement>", "cut_off"),
    ],
)
def test_a_list_that_is_no_list_is_unusable(text: str, reason: str) -> None:
    with pytest.raises(Unusable) as fault:
        read_facts(text)
    assert fault.value.reason == reason


def test_notes_are_taken_as_they_are() -> None:
    assert (
        read_notes(" - A is red.\n - No relevant information on B. ") == "- A is red.\n - No relevant information on B."
    )


@pytest.mark.parametrize(
    "text", ["No relevant information", '"No relevant information."', "没有相关信息。", "NO RELEVANT INFORMATION"]
)
def test_nothing_relevant_is_no_note(text: str) -> None:
    assert read_notes(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("I'm sorry, I cannot assist.", "refused"),
        ("The content was filtered.", "content_filter"),
        ("The response was filtered due to the prompt triggering the content management policy.", "content_filter"),
        ("I cannot find anything on that.", "refused"),
        ("很抱歉，我无法提供。".removeprefix("很"), "refused"),
    ],
)
def test_a_refusal_is_never_taken_for_notes(text: str, reason: str) -> None:
    with pytest.raises(Unusable) as fault:
        read_notes(text)
    assert fault.value.reason == reason


def test_a_duel_has_three_outcomes() -> None:
    assert [read_duel(f"[[{each}]]") for each in "AbC"] == ["A", "B", "C"]
    with pytest.raises(Unusable):
        read_duel("[[A or B]]")


@pytest.mark.parametrize(
    "text",
    [
        "Sorry, Wrong Number is a film of 1948.",
        "I cannot leave the harbour, wrote the captain on 3 May.",
        "The response of the council was a loan of 4.8 million.",
        "我不能离开港口，船长写道。",
        "I'm sorry, he wrote. " + "The log goes on: wind from the west, 4 knots. " * 12,
    ],
)
def test_notes_that_begin_like_a_refusal_are_notes(text: str) -> None:
    assert read_notes(text) == text.strip()


def test_a_list_whose_only_statement_is_that_there_is_none_claims_no_fact() -> None:
    assert read_facts("<statement>No factual statements.</statement>") == ()


def test_thoughts_are_no_part_of_a_reply() -> None:
    assert read_notes("<think>Is it relevant? Yes.</think>\nA is red.") == "A is red."
    assert read_facts("<think><statement>B.</statement></think><statement>A.</statement>") == ("A.",)


@given(st.text(alphabet="[]07 1.\nab", max_size=24))
def test_a_rating_is_read_on_the_scale_or_not_at_all(text: str) -> None:
    try:
        rating = read_rating(text)
    except Unusable as fault:
        assert fault.reason in ("empty", "no_rating", "off_scale", "not_last", "several_labels")
    else:
        assert 0 <= rating <= 10 and re.search(r"\d", text)
