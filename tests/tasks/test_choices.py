"""Which option an answer chooses: letters and texts, in English and Chinese; several options are no choice."""

from dataclasses import replace

import pytest

from tasks.choices import lettered_options, option_lines
from tasks.evaluation.suites import find_suite
from tasks.metrics import CHOICE, choice_accuracy, example_sub_em, gold_value, whole_references
from tasks.records.example import Context, Example

OPTIONS = ["In 1911", "In 1911, by Ann Lee", "A man from Oakmoor", "杭州"]


def example_of(right: str = "B", options: list[str] = OPTIONS, kind: str = CHOICE) -> Example:
    references = (right, options["ABCD".index(right)])
    return Example("x", f"Which?\n\n{option_lines(options)}\n\nChoose.", "c", references, kind, "en", "{}")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B. In 1911, by Ann Lee", "B"),
        ("The correct answer is (B)", "B"),
        ("The correct answer is (B).\nOption A is wrong.", "B"),
        ("Plan: read.\nAnswer: B", "B"),
        ("Answer: A would be too little.\nAnswer: B, by Ann Lee", "B"),
        ("Answer: **B**: by Ann Lee", "B"),
        ("I choose option B, because the text names her.", "B"),
        ("答案：B", "B"),
        ("因此答案是B。", "B"),
        ("应选（B）", "B"),
        ("选项B符合原文", "B"),
        ("【B】", "B"),
        ("It was built in 1911, by Ann Lee.", "B"),
        ("in 1911", "A"),
        ("这座城市是杭州。", "D"),
        ("A man from Oakmoor built it.", "C"),
        ("A man built it.", None),
        ("Both A and B", None),
        ("The answer is A or B", None),
        ("Either (A) or else (B) fits", None),
        ("The text does not say.", None),
        ("The answer is E", None),
        ("", None),
    ],
)
def test_the_chosen_option(text: str, letter: str | None) -> None:
    for right in "ABCD":
        assert choice_accuracy(text, example_of(right)) == float(right == letter)


def test_other_measures_take_a_multiple_choice_answer_as_right_or_wrong() -> None:
    question = example_of("A", ["no", "yes"])
    for metric in (example_sub_em, gold_value):
        assert metric("I know: Plan B, so the answer is (B), yes and no", question) == 0.0
        assert metric("A", question) == 1.0
    assert whole_references(question) == ("no", "A. no")


def test_the_suite_has_no_value_for_a_question_without_options_or_reference() -> None:
    suite, context = find_suite("choice"), Context("c", "text", 1, (0,), (4,), ("",))
    accuracy = suite.metrics["accuracy"]
    assert accuracy("Answer: B", example_of(), context) == 1.0
    assert accuracy("Answer: A", example_of(), context) == 0.0
    assert accuracy("Answer: B", example_of(kind="fact"), context) is None
    assert suite.reasons["accuracy"] == "not_multiple_choice"
    without = replace(example_of(), references=())
    assert accuracy("Answer: B", without, context) is None


def test_options_stand_in_the_text_of_their_question() -> None:
    assert lettered_options(f"A. or B.?\n\n{option_lines(OPTIONS)}\n\nChoose.") == OPTIONS
    assert lettered_options(option_lines(["one\n two", "three"])) == ["one two", "three"]
    assert lettered_options("A. Smith wrote it.\nWho?") == []
