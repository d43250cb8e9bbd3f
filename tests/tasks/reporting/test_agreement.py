"""Agreement with references and with labels, against figures computed by hand; bad rows of labels by name."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import InputError
from tasks.metrics import gold_value
from tasks.records.example import Example
from tasks.reporting.agreement import AgreementTally, Preference, gold_preferences, label_preferences, read_labels
from tasks.reporting.judged_questions import JudgedAnswer, JudgedQuestion, Score

EXAMPLE = Example("q", "Who, and when?", "c", ("Brandt", "1931"), "list", "en", "{}")
ALTERNATIVES = Example("q", "Who?", "c", ("Brandt", "Ilse B."), "count", "en", "{}")
LABEL = {"example_id": "q", "first": 0, "second": 2, "preferred": "second"}


def answer(index: int, text: str, reward: float | None, **scores: float | str | None) -> JudgedAnswer:
    """An answer with these scores by scorer. A text instead of a score is the reason why the score is null."""
    by_scorer = {}
    for name, score in scores.items():
        by_scorer[name] = Score(None, score, {}) if isinstance(score, str) else Score(score, None, {})
    return JudgedAnswer(index, text, False, reward, by_scorer)


def figures_of(question: JudgedQuestion, weights: Mapping[str, float], preferences: list[Preference]) -> Any:
    tally = AgreementTally(weights)
    tally.add(question, preferences)
    return tally.figures()


def short(figure: Mapping[str, Any]) -> tuple[float | None, int, dict[str, int]]:
    return figure["accuracy"], figure["pairs"], figure["missing"]


def test_gold_values_are_subem_and_of_a_list_the_share_of_its_items() -> None:
    assert gold_value("Brandt, in 1931", EXAMPLE) == 1.0
    assert gold_value("in 1931", EXAMPLE) == 0.5
    assert gold_value("Brandt alone", ALTERNATIVES) == 1.0  # references of other kinds are alternatives
    assert gold_value("nobody", ALTERNATIVES) == 0.0
    assert gold_value("x", Example("q", "?", "c", (), "count", "en", "{}")) is None
    assert gold_value("x", Example("q", "?", "c", ("The",), "list", "en", "{}")) is None


def test_preferences_are_the_pairs_whose_gold_values_differ() -> None:
    texts = ["Brandt 1931", "1931", "Brandt", "nobody", ""]
    answers = [answer(index, text, 1.0) for index, text in enumerate(texts)]
    answers[4] = JudgedAnswer(4, "", True, None, {})
    preferences = gold_preferences(JudgedQuestion(EXAMPLE, tuple(answers), ()))
    expected = {Preference(0, 1), Preference(0, 2), Preference(0, 3), Preference(1, 3), Preference(2, 3)}
    assert set(preferences) == expected
    assert len(preferences) == 5  # 1931 and Brandt have equal gold values; the refused answer has none


def test_accuracy_nulls_and_leave_one_out_by_hand() -> None:
    """Preferences 0 > 1, 0 > 2, 2 > 1 over h and f; f of answer 2 is pruned, h of answer 1 unreadable.

    h: 0 > 2 agrees (6 > 4), the others are null. f: 0 > 1 is a tie (8, 8), the others are pruned.
    Answer 0 alone has a mean; where one of two was pruned and the other unreadable, pruning is not the reason.
    """
    answers = (
        answer(0, "a", 7.0, h=6.0, f=8.0),
        answer(1, "b", None, h="no_rating", f=8.0),
        answer(2, "c", None, h=4.0, f="pruned"),
    )
    preferences = [Preference(0, 1), Preference(0, 2), Preference(2, 1)]
    figures = figures_of(JudgedQuestion(ALTERNATIVES, answers, ()), {"h": 1.0, "f": 1.0}, preferences)
    assert (figures["pairs"], figures["questions"]) == (3, 1)
    assert short(figures["dimensions"]["h"]) == (1.0, 1, {"no_rating": 2})
    assert short(figures["dimensions"]["f"]) == (0.5, 1, {"pruned": 2})
    assert short(figures["mean"]) == (None, 0, {"no_rating": 2, "pruned": 1})
    assert short(figures["leave_one_out"]["h"]) == (0.5, 1, {"pruned": 2})  # the mean without h is f
    assert short(figures["leave_one_out"]["f"]) == (1.0, 1, {"no_rating": 2})
    assert figures["leave_one_out"]["f"]["gain"] == {"value": None, "low": None, "high": None, "pairs": 0}


def test_the_gain_of_a_dimension_is_over_the_pairs_that_have_both_means() -> None:
    """Mean of (h, l, f) by weights 1, 2, 1 for 0 > 1: (9 + 2*2 + 8) / 4 = 5.25 against (1 + 2*6 + 4) / 4 = 4.25.

    Without h: (2*2 + 8) / 3 = 4 against (12 + 4) / 3 = 5.33: wrong, so h adds 1. Without l: 8.5 against 2.5: right.
    Without f: (9 + 4) / 3 = 4.33 against (1 + 12) / 3 = 4.33: a tie, so f adds a half.
    """
    answers = (answer(0, "a", 5.25, h=9.0, l=2.0, f=8.0, x=0.0), answer(1, "b", 4.25, h=1.0, l=6.0, f=4.0, x=1.0))
    weights = {"h": 1.0, "l": 2.0, "f": 1.0, "x": 0.0}
    figures = figures_of(JudgedQuestion(ALTERNATIVES, answers, ()), weights, [Preference(0, 1)])
    gains = {name: figure["gain"]["value"] for name, figure in figures["leave_one_out"].items()}
    assert gains == {"h": 1.0, "l": 0.0, "f": 0.5}  # x has no part in the mean
    accuracies = {name: figure["accuracy"] for name, figure in figures["dimensions"].items()}
    assert accuracies == {"h": 1, "l": 0, "f": 1, "x": 0}
    assert figures["mean"]["accuracy"] == 1.0


def test_accuracy_is_over_pairs_and_its_interval_over_questions() -> None:
    """Two questions: three pairs, all agreeing, and one pair that does not: 3/4; a resample has all, none or 3/4."""
    answers = (answer(0, "a", 2.0, h=2.0), answer(1, "b", 1.0, h=1.0))
    question = JudgedQuestion(ALTERNATIVES, answers, ())
    tally = AgreementTally({"h": 1.0})
    tally.add(question, [Preference(0, 1)] * 3)
    tally.add(question, [Preference(1, 0)])
    figures = tally.figures()
    assert figures is not None
    assert figures["mean"] == {"accuracy": 0.75, "low": 0.0, "high": 1.0, "pairs": 4, "missing": {}}
    assert figures["leave_one_out"] == {}  # without its only part there is no mean


def test_without_a_preference_there_are_no_figures() -> None:
    tally = AgreementTally({"h": 1.0})
    tally.add(JudgedQuestion(ALTERNATIVES, (answer(0, "a", 1.0, h=1.0),), ()), [])
    assert tally.figures() is None


@given(st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from([1.0, 2.0, 3.0])), min_size=2, max_size=6))
def test_reversed_preferences_have_the_opposite_accuracy(scores: list[tuple[float, float]]) -> None:
    answers = tuple(answer(index, str(index), h + f, h=h, f=f) for index, (h, f) in enumerate(scores))
    question = JudgedQuestion(ALTERNATIVES, answers, ())
    pairs = list(itertools.combinations(range(len(scores)), 2))
    forth = figures_of(question, {"h": 1.0, "f": 1.0}, [Preference(i, j) for i, j in pairs])
    back = figures_of(question, {"h": 1.0, "f": 1.0}, [Preference(j, i) for i, j in pairs])
    for name in ("h", "f"):
        both = forth["dimensions"][name]["accuracy"] + back["dimensions"][name]["accuracy"]
        assert both == pytest.approx(1.0, abs=2e-6)


def test_by_question_counts_agreeing_and_compared_pairs() -> None:
    answers = (
        answer(0, "a", 2.0, h=2.0, f=1.0),
        answer(1, "b", 1.0, h=1.0, f=1.0),
        answer(2, "c", None, h=0.0, f="pruned"),
    )
    tally = AgreementTally({"h": 1.0, "f": 1.0})
    tally.add(JudgedQuestion(ALTERNATIVES, answers, ()), [Preference(0, 1), Preference(2, 1)])
    assert tally.by_question() == [
        {"h": (1, 2), "f": (0.5, 1), "mean": (1, 1), "mean without h": (0.5, 1), "mean without f": (1, 2)}
    ]


def label_file(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_labels_are_the_same_in_both_formats(tmp_path: Path) -> None:
    rows = [LABEL, {**LABEL, "preferred": "first"}, LABEL]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels.parquet")
    for source in (label_file(tmp_path / "labels.jsonl", *rows), str(tmp_path / "labels.parquet")):
        preferences = [label.preference for label in read_labels(source)["q"]]
        assert preferences == [Preference(2, 0), Preference(0, 2), Preference(2, 0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preferred": "both"}, 'row 2: preferred is \'both\', not "first", "second" or "same"'),
        ({"preferred": None}, "row 2: preferred is missing"),
        ({"first": "0"}, "row 2: first is '0', not the index of a sample"),
        ({"second": -1}, "row 2: second is -1"),
        ({"second": True}, "row 2: second is True"),
        ({"second": 0}, "row 2: first and second are both 0"),
        ({"example_id": 7}, "row 2: example_id is 7, not a text"),
    ],
)
def test_a_bad_label_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=r"labels\.jsonl") as caught:
        read_labels(label_file(tmp_path / "labels.jsonl", LABEL, {**LABEL, **change}))
    assert message in str(caught.value)


def test_a_label_about_an_answer_that_is_not_there_is_reported(tmp_path: Path) -> None:
    labels = read_labels(label_file(tmp_path / "labels.jsonl", LABEL, {**LABEL, "second": 9}))
    answers = tuple(JudgedAnswer(index, "", False, None, {}) for index in (0, 2))
    question = JudgedQuestion(Example("q", "?", "c", (), "k", "en", "{}"), answers, ())
    preferences, unknown = label_preferences(question, labels)
    assert preferences == [Preference(2, 0)]
    assert len(unknown) == 1
    assert unknown[0].endswith("row 2")
