"""Agreement with what is known to be better, against figures worked out by hand."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics import gold_value
from tasks.records.example import Example
from tasks.reporting.agreement import AgreementTally, Preference, gold_preferences
from tasks.reporting.judged import JudgedAnswer, JudgedQuestion, Score

EXAMPLE = Example("q", "Who, and when?", "c", ("Brandt", "1931"), "list", "en", "{}")
ONE = Example("q", "Who?", "c", ("Brandt", "Ilse B."), "count", "en", "{}")


def answer(index: int, text: str, reward: float | None, **scores: float | str | None) -> JudgedAnswer:
    """A score that is a text is null, for that reason."""
    told = {
        name: Score(None, score, {}) if isinstance(score, str) else Score(score, None, {})
        for name, score in scores.items()
    }
    return JudgedAnswer(index, text, False, reward, told)


def figures_of(question: JudgedQuestion, weights: Mapping[str, float], preferences: list[Preference]) -> Any:
    tally = AgreementTally(weights)
    tally.add(question, preferences)
    return tally.figures()


def short(figure: Mapping[str, Any]) -> tuple[float | None, int, dict[str, int]]:
    return figure["accuracy"], figure["pairs"], figure["missing"]


def test_gold_values_are_subem_and_of_a_list_the_share_of_its_items() -> None:
    assert gold_value("Brandt, in 1931", EXAMPLE) == 1.0
    assert gold_value("in 1931", EXAMPLE) == 0.5
    assert gold_value("Brandt alone", ONE) == 1.0  # references of other kinds are alternatives
    assert gold_value("nobody", ONE) == 0.0
    assert gold_value("x", Example("q", "?", "c", (), "count", "en", "{}")) is None
    assert gold_value("x", Example("q", "?", "c", ("The",), "list", "en", "{}")) is None


def test_preferences_are_the_pairs_whose_gold_values_differ() -> None:
    texts = ["Brandt 1931", "1931", "Brandt", "nobody", ""]
    answers = [answer(index, text, 1.0) for index, text in enumerate(texts)]
    answers[4] = JudgedAnswer(4, "", True, None, {})
    found = gold_preferences(JudgedQuestion(EXAMPLE, tuple(answers), ()))
    assert {(each.better, each.worse) for each in found} == {(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)}
    assert len(found) == 5  # 1931 and Brandt are worth the same; a refused answer is none


def test_accuracy_nulls_and_leave_one_out_by_hand() -> None:
    """Preferences 0 > 1, 0 > 2, 2 > 1 over h and f; f of answer 2 is pruned, h of answer 1 unreadable.

    h: 0 > 2 agrees (6 > 4), the others are null. f: 0 > 1 is a tie (8, 8), the others are pruned.
    The mean is known for answer 0 alone; where one of two was pruned and the other unreadable, pruning is no excuse.
    """
    answers = (
        answer(0, "a", 7.0, h=6.0, f=8.0),
        answer(1, "b", None, h="no_rating", f=8.0),
        answer(2, "c", None, h=4.0, f="pruned"),
    )
    preferences = [Preference(0, 1), Preference(0, 2), Preference(2, 1)]
    found = figures_of(JudgedQuestion(ONE, answers, ()), {"h": 1.0, "f": 1.0}, preferences)
    assert (found["pairs"], found["questions"]) == (3, 1)
    assert short(found["dimensions"]["h"]) == (1.0, 1, {"no_rating": 2})
    assert short(found["dimensions"]["f"]) == (0.5, 1, {"pruned": 2})
    assert short(found["mean"]) == (None, 0, {"no_rating": 2, "pruned": 1})
    assert short(found["leave_one_out"]["h"]) == (0.5, 1, {"pruned": 2})  # the mean without h is f
    assert short(found["leave_one_out"]["f"]) == (1.0, 1, {"no_rating": 2})
    assert found["leave_one_out"]["f"]["gain"] == {"value": None, "low": None, "high": None, "pairs": 0}


def test_what_a_dimension_adds_is_told_on_the_pairs_that_both_means_have() -> None:
    """Mean of (h, l, f) by weights 1, 2, 1 for 0 > 1: (9 + 2*2 + 8) / 4 = 5.25 against (1 + 2*6 + 4) / 4 = 4.25.

    Without h: (2*2 + 8) / 3 = 4 against (12 + 4) / 3 = 5.33: wrong, so h adds 1. Without l: 8.5 against 2.5: right.
    Without f: (9 + 4) / 3 = 4.33 against (1 + 12) / 3 = 4.33: a tie, so f adds a half.
    """
    answers = (answer(0, "a", 5.25, h=9.0, l=2.0, f=8.0, x=0.0), answer(1, "b", 4.25, h=1.0, l=6.0, f=4.0, x=1.0))
    weights = {"h": 1.0, "l": 2.0, "f": 1.0, "x": 0.0}
    found = figures_of(JudgedQuestion(ONE, answers, ()), weights, [Preference(0, 1)])
    gains = {name: each["gain"]["value"] for name, each in found["leave_one_out"].items()}
    assert gains == {"h": 1.0, "l": 0.0, "f": 0.5}  # x has no part in the mean
    assert {name: each["accuracy"] for name, each in found["dimensions"].items()} == {"h": 1, "l": 0, "f": 1, "x": 0}
    assert found["mean"]["accuracy"] == 1.0


def test_accuracy_is_over_pairs_and_its_interval_over_questions() -> None:
    """Two questions: three pairs, all agreeing, and one pair that does not: 3/4; a resample has all, none or 3/4."""
    answers = (answer(0, "a", 2.0, h=2.0), answer(1, "b", 1.0, h=1.0))
    question = JudgedQuestion(ONE, answers, ())
    tally = AgreementTally({"h": 1.0})
    tally.add(question, [Preference(0, 1)] * 3)
    tally.add(question, [Preference(1, 0)])
    found = tally.figures()
    assert found is not None
    assert found["mean"] == {"accuracy": 0.75, "low": 0.0, "high": 1.0, "pairs": 4, "missing": {}}
    assert found["leave_one_out"] == {}  # without its only part there is no mean


def test_nothing_known_is_null() -> None:
    tally = AgreementTally({"h": 1.0})
    tally.add(JudgedQuestion(ONE, (answer(0, "a", 1.0, h=1.0),), ()), [])
    assert tally.figures() is None


@given(st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from([1.0, 2.0, 3.0])), min_size=2, max_size=6))
def test_turning_every_preference_round_turns_the_accuracy_round(scores: list[tuple[float, float]]) -> None:
    answers = tuple(answer(index, str(index), h + f, h=h, f=f) for index, (h, f) in enumerate(scores))
    question = JudgedQuestion(ONE, answers, ())
    pairs = [(i, j) for i in range(len(scores)) for j in range(i)]
    forth = figures_of(question, {"h": 1.0, "f": 1.0}, [Preference(i, j) for i, j in pairs])
    back = figures_of(question, {"h": 1.0, "f": 1.0}, [Preference(j, i) for i, j in pairs])
    for name in ("h", "f"):
        both = forth["dimensions"][name]["accuracy"] + back["dimensions"][name]["accuracy"]
        assert both == pytest.approx(1.0, abs=2e-6)


def test_what_each_question_adds_makes_up_the_accuracies() -> None:
    answers = (
        answer(0, "a", 2.0, h=2.0, f=1.0),
        answer(1, "b", 1.0, h=1.0, f=1.0),
        answer(2, "c", None, h=0.0, f="pruned"),
    )
    tally = AgreementTally({"h": 1.0, "f": 1.0})
    tally.add(JudgedQuestion(ONE, answers, ()), [Preference(0, 1), Preference(2, 1)])
    assert tally.by_question() == [
        {"h": (1, 2), "f": (0.5, 1), "mean": (1, 1), "mean without h": (0.5, 1), "mean without f": (1, 2)}
    ]
