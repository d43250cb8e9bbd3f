"""Comparing two evaluations: means, missing answers, paired differences, buckets and kinds."""

import json
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
    assert outcome["difference"]["sub_em"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1}


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
