"""Figures on held-out contexts, by hand."""

import pytest

from tasks.training.reward.card import held_out_rows
from tasks.training.reward.figures import ScoredQuestion, held_out_figures


def question(
    judged: list[float | None], predicted: list[float], tokens: list[int], prompt: int = 900, context: str = "c"
) -> ScoredQuestion:
    """Of a model with one head, which is the reward."""
    heads = tuple((value,) for value in predicted)
    return ScoredQuestion(context, prompt, tuple(tokens), tuple((value,) for value in judged), tuple(judged), heads)


QUESTIONS = [
    question([9, 5, 1], [2.0, 1.0, 0.0], [10, 20, 30]),
    question([8, 7.75, None], [0.1, 0.1, 9.0], [10, 10, 5], prompt=1025, context="d"),
    question([3, 5, 4], [0.3, 0.1, 0.2], [30, 20, 10], prompt=2048, context="e"),
]


def test_accuracy_is_that_of_questions_by_margin_and_by_length() -> None:
    figures = held_out_figures(QUESTIONS, ["reward"])
    assert (figures["questions"], figures["answers"], figures["pairs"]) == (3, 9, 7)
    assert figures["accuracy"]["value"] == pytest.approx((1 + 0.5 + 0) / 3, abs=1e-6)
    margins = {(row["above"], row["up_to"]): (row["value"], row["pairs"]) for row in figures["accuracy_by_margin"]}
    assert margins == {(0.0, 0.5): (0.5, 1), (0.5, 1.0): (0.0, 2), (1.0, 2.0): (0.0, 1), (2.0, 4.0): (1.0, 2)} | {
        (4.0, None): (1.0, 1)
    }
    lengths = {row["up_to"]: (row["value"], row["questions"]) for row in figures["accuracy_by_prompt_tokens"]}
    assert lengths == {1024: (1.0, 1), 2048: (0.25, 2)}


def test_correlations_are_within_questions_and_nulls_take_no_part() -> None:
    figures = held_out_figures(QUESTIONS, ["reward"])
    assert figures["spearman"]["reward"] == {"value": 0.0, "low": -1.0, "high": 1.0, "n": 2}
    bias = figures["length_bias"]
    assert bias["judged"]["value"] == pytest.approx((-1 + 0) / 2, abs=0.3)
    assert bias["reward"]["n"] == 3
    assert figures["best_of_n"]["picked"]["value"] == pytest.approx((9 + 8 + 3) / 3, abs=1e-6)
    assert figures["best_of_n"]["best"]["value"] == pytest.approx((9 + 8 + 5) / 3, abs=1e-6)


def test_a_model_that_says_what_the_judge_says_is_right_without_bias_or_error() -> None:
    questions = []
    for number in range(40):
        judged = [float((3 * number + 7 * place) % 11) for place in range(5)]
        questions.append(question(list(judged), judged, [9, 4, 6, 7, 3], context=str(number)))
    figures = held_out_figures(questions, ["helpfulness"])
    assert figures["accuracy"]["value"] == figures["spearman"]["helpfulness"]["value"] == 1.0
    assert figures["error"]["helpfulness"]["mean_absolute"] == 0.0
    calibration = figures["calibration"]
    assert calibration["reward"] == {"slope": 1.0, "intercept": 0.0, "spread": 0.0, "answers": 200}
    assert calibration["expected_error"] < 0.01 and calibration["brier"] < 0.01
    names = [row[0] for row in held_out_rows(figures)[1]]
    assert "mean error: helpfulness" in names and "(the longer answer is the better one)" in names


def test_a_model_that_is_right_three_times_in_four_says_so() -> None:
    questions = []
    for number in range(400):
        right = number % 4 != 0
        questions.append(question([9.0, 1.0], [5.0, 0.0] if right else [0.0, 5.0], [5, 5], context=str(number)))
    calibration = held_out_figures(questions, ["reward"])["calibration"]
    assert calibration["expected_error"] < 0.05
    assert calibration["temperature"] == pytest.approx(5 / 1.0986, rel=0.05)  # sigmoid(5 / T) = 3/4


def test_without_held_out_questions_there_are_no_figures() -> None:
    assert held_out_figures([], ["reward"]) == {}
    assert held_out_rows({})[1][0][0] == "no held-out question"
