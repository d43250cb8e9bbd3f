"""Comparing two evaluations: means, missing answers, paired differences, buckets and kinds."""

import json
from dataclasses import replace
from typing import Any

import pytest

from infra.errors import EvaluationError
from tasks.evaluation.compare import EvaluationRow, compare
from tests.support.recipes_for_scoring import recipe_with

RECIPE = recipe_with({"scorer": "consensus"}, evaluation={"buckets": [100, 200], "resamples": 200})


def row(name: str, score: float | None, tokens: int = 50, kind: str = "qa", **more: Any) -> EvaluationRow:
    missing = {} if score is not None else {"sub_em": "prompt_too_long"}
    values: dict[str, Any] = {"cut": False, "answer": "", "finish_reason": "stop", "answered": True, **more}
    return EvaluationRow(name, kind, tokens, scores={"sub_em": score}, missing=missing, **values)


def values(figures: dict[str, Any]) -> tuple[float | None, int]:
    return figures["sub_em"]["value"], figures["sub_em"]["n"]


def test_means_are_over_the_answered_questions_and_the_rest_is_counted_by_reason() -> None:
    outcome = compare([row("a", 1.0), row("b", 0.0), row("c", None)], None, RECIPE)
    assert outcome["questions"] == 3
    assert values(outcome["before"]) == (0.5, 2)
    assert outcome["before"]["sub_em"]["missing"] == {"prompt_too_long": 1}
    assert outcome["after"] is None
    assert outcome["difference"] is None


def test_the_difference_is_over_the_questions_that_both_answered() -> None:
    before = [row("a", 0.0), row("b", 0.0), row("c", None)]
    after = [row("c", 0.5), row("b", None), row("a", 1.0)]
    outcome = compare(before, after, RECIPE)
    assert values(outcome["before"]) == (0.0, 2)
    assert values(outcome["after"]) == (0.75, 2)
    assert outcome["difference"]["sub_em"] == {
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
        "n": 1,
        "p": 1.0,
        "test": "McNemar, exact",
        "detectable": None,
        "words": "with 1 question, no difference can be told from chance",
    }


def test_nothing_answered_has_no_mean() -> None:
    outcome = compare([row("a", None)], [row("a", 1.0)], RECIPE)
    assert values(outcome["before"]) == (None, 0)
    assert values(outcome["difference"]) == (None, 0)


def test_buckets_hold_the_questions_up_to_their_upper_end() -> None:
    rows = [row("a", 1.0, 100), row("b", 0.0, 101), row("c", 1.0, 200), row("d", 0.0, 201, cut=True)]
    outcome = compare(rows, rows, RECIPE)
    assert [(bucket["name"], bucket["questions"], values(bucket["before"])[0]) for bucket in outcome["buckets"]] == [
        ("0-100", 1, 1.0),
        ("101-200", 2, 0.5),
        ("201-", 1, 0.0),
    ]
    assert outcome["buckets"][2]["high"] is None
    assert outcome["cut"] == 1


def test_kinds_stand_apart() -> None:
    rows = [row("a", 1.0, kind="two hops"), row("b", 0.0, kind="list"), row("c", 0.0, kind="list")]
    outcome = compare(rows, None, RECIPE)
    assert [(kind["name"], *values(kind["before"])) for kind in outcome["kinds"]] == [
        ("list", 0.0, 2),
        ("two hops", 1.0, 1),
    ]


def test_the_order_of_the_rows_changes_nothing_and_the_figures_are_json() -> None:
    before = [row(name, float(i % 3 == 0)) for i, name in enumerate("abcdefgh")]
    after = [row(name, float(i % 2 == 0)) for i, name in enumerate("abcdefgh")]
    outcome = compare(before, after, RECIPE)
    assert compare(before[::-1], after, RECIPE) == outcome
    assert json.loads(json.dumps(outcome)) == outcome


def test_evaluations_of_different_questions_are_not_compared() -> None:
    with pytest.raises(EvaluationError, match="same questions"):
        compare([row("a", 1.0)], [row("b", 1.0)], RECIPE)
    with pytest.raises(EvaluationError, match="no evaluated question"):
        compare([], None, RECIPE)


def test_parts_that_are_read_together_have_corrected_p_values() -> None:
    rows_before, rows_after = [], []
    for number in range(40):
        kind = "list" if number % 2 else "two hops"
        rows_before.append(row(f"q{number}", 0.0, tokens=50 if number < 20 else 150, kind=kind))
        rows_after.append(row(f"q{number}", float(number % 2), tokens=50 if number < 20 else 150, kind=kind))
    outcome = compare(rows_before, rows_after, RECIPE)
    changed, unchanged = outcome["kinds"]
    assert changed["difference"]["sub_em"]["p"] == pytest.approx(2 / 2**20)
    # Four parts are read: two kinds and two lengths.
    assert changed["difference"]["sub_em"]["p_corrected"] == pytest.approx(4 * 2 / 2**20)
    assert unchanged["difference"]["sub_em"]["p_corrected"] == 1.0
    assert outcome["buckets"][0]["difference"]["sub_em"]["p_corrected"] == pytest.approx(3 * 2 / 2**10)
    assert "p_corrected" not in outcome["difference"]["sub_em"]
    assert outcome["difference"]["sub_em"]["words"].startswith("with 40 questions, differences under ")


def test_samples_of_one_question_are_one_question() -> None:
    before = [row("a", 0.0), row("a", 1.0), row("a", None), row("b", 1.0)]
    outcome = compare(before, [row("a", 1.0), row("b", 1.0), row("b", 0.0)], RECIPE)
    assert outcome["questions"] == 2
    assert values(outcome["before"]) == (0.75, 2)
    assert values(outcome["difference"]) == (0.0, 2)  # a: 1 - 0.5, b: 0.5 - 1
    assert outcome["difference"]["sub_em"]["test"] == "sign flips, exact"


def test_tasks_are_averaged_before_the_suite() -> None:
    before = [row(f"q{number}", 1.0, suite="long", task="easy") for number in range(9)]
    before += [row("h0", 0.0, suite="long", task="hard"), row("s0", 0.5, suite="short")]
    after = [*before[:9], row("h0", 1.0, suite="long", task="hard"), row("s0", 0.5, suite="short")]
    outcome = compare(before, after, RECIPE)
    assert list(outcome["macro"]) == ["long"]
    macro = outcome["macro"]["long"]["sub_em"]
    assert (macro["tasks"], macro["before"]["value"], macro["after"]["value"]) == (2, 0.5, 1.0)
    assert macro["difference"]["value"] == 0.5
    assert values(outcome["before"]) == (pytest.approx(9.5 / 11, abs=1e-6), 11)
    names = [(part["suite"], part["name"], part["questions"]) for part in outcome["tasks"]]
    assert names == [("long", "easy", 9), ("long", "hard", 1), ("short", "", 1)]


def test_groups_are_read_in_the_order_of_their_values_and_many_numbers_in_tenths() -> None:
    rows = []
    for number in range(100):
        score = float(number < 50)
        rows.append(row(f"q{number:02}", score, groups={"depth": number / 99, "length": 1000 * (1 + number % 3)}))
    rows.append(row("without", 1.0))
    groups = compare(rows, None, RECIPE)["groups"]
    assert [(part["name"], part["value"], part["questions"]) for part in groups["length"]] == [
        ("1000", 1000, 34),
        ("2000", 2000, 33),
        ("3000", 3000, 33),
    ]
    assert [part["value"] for part in groups["depth"]] == [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95]
    assert [values(part["before"])[0] for part in groups["depth"]] == [1.0] * 5 + [0.0] * 5


def test_what_splits_the_questions_as_something_before_it_does_is_left_out() -> None:
    rows = []
    for number in range(12):
        groups = {"length": 100 * (1 + number % 2), "position": 7 * (number % 3), "depth": number % 3 / 2}
        name = ["needle", "list"][number % 2]
        tokens = 90 + 100 * (number % 2)
        rows.append(row(f"q{number:02}", float(number % 2), tokens=tokens, kind=name, task=name, groups=groups))
    after = [replace(one, scores={"sub_em": 1.0}) for one in rows]
    outcome = compare(rows, after, RECIPE)
    assert [part["name"] for part in outcome["tasks"]] == ["list", "needle"]
    # Lengths split as the tasks do, and so do buckets and kinds; depths as positions.
    assert list(outcome["groups"]) == ["position"]
    assert outcome["buckets"] == outcome["kinds"] == []
    # Five parts are read: two tasks and three positions.
    assert outcome["tasks"][1]["difference"]["sub_em"]["p_corrected"] == pytest.approx(5 * 2 / 2**6)
    assert [part["questions"] for part in compare(rows[:1], None, RECIPE)["kinds"]] == [1]  # the whole is no repeat


def test_two_suites_of_different_metrics_stand_side_by_side() -> None:
    first = row("a", 1.0, suite="qa")
    judged = EvaluationRow("a", "qa", 9, False, "", "stop", True, {"rating": 0.5}, {}, suite="chat")
    outcome = compare([first, judged], [first, judged], RECIPE)
    assert outcome["questions"] == 2
    assert (values(outcome["before"]), outcome["before"]["rating"]["n"]) == ((1.0, 1), 1)
