"""Kappa and stability of two judges, against figures computed by hand and against the definition."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.records.example import Example
from tasks.reporting.judge_comparison import JudgeComparison, quadratic_kappa, scored_answers
from tasks.reporting.judged_questions import JudgedAnswer, JudgedQuestion, Score
from tasks.reporting.verdict_agreement import cohens_kappa

RATINGS = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=12)


def question(*scores: float | None, name: str = "q", texts: str = "abcdef") -> JudgedQuestion:
    answers = []
    for index, score in enumerate(scores):
        reason = "no_rating" if score is None else None
        answers.append(JudgedAnswer(index, texts[index], False, score, {"h": Score(score, reason, {})}))
    return JudgedQuestion(Example(name, "?", "c", (), "k", "en", "{}"), tuple(answers), ())


def figures(first: list[JudgedQuestion], second: list[JudgedQuestion]) -> dict[str, Any]:
    comparison = JudgeComparison(scored_answers(second))
    for judged_question in first:
        comparison.add(judged_question)
    return comparison.figures()


def test_cohens_kappa_of_a_table_by_hand() -> None:
    # 50 cases: 20 + 15 agree, p_o = 0.7; p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa = 0.2 / 0.5
    assert cohens_kappa(np.array([[20.0, 5.0, 10.0, 15.0]]))[0] == pytest.approx(0.4)
    assert cohens_kappa(np.array([[0.0, 5.0, 5.0, 0.0]]))[0] == pytest.approx(-1.0)
    assert np.isnan(cohens_kappa(np.array([[9.0, 0.0, 0.0, 0.0], [0.0] * 4]))).all()


def test_preferences_of_two_judges_by_hand() -> None:
    """Scores (3, 2, 1) against (3, 2, 2): first, first, first against first, first, tie; then (1, 2) against (1, 2).

    Table rows first: 2 agree, 1 is a tie for the other; second: 1. p_o = 3/4; shares first (3/4, 1/4, 0) and
    (2/4, 1/4, 1/4): p_e = 6/16 + 1/16 = 7/16; kappa = (12 - 7) / (16 - 7) = 5/9.
    """
    first = [question(3.0, 2.0, 1.0), question(1.0, 2.0, name="p")]
    second = [question(3.0, 2.0, 2.0), question(1.0, 2.0, name="p")]
    preferences = figures(first, second)["preferences"]
    assert preferences["table"] == [[2, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert preferences["agreed"] == 0.75
    assert preferences["kappa"]["value"] == pytest.approx(5 / 9, abs=1e-6)
    assert preferences["kappa"]["n"] == 4


def test_ratings_and_stability_by_hand() -> None:
    """(1, 2, 3) against (1, 2, 5): mean square apart 4/3; by chance 2/3 + 26/9 + (8/3 - 2)² = 4."""
    rating = figures([question(1.0, 2.0, 3.0, None)], [question(1.0, 2.0, 5.0, 4.0)])["ratings"]["h"]
    assert rating["kappa"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert rating["mean_absolute_difference"] == pytest.approx(2 / 3, abs=1e-6)
    assert rating["unchanged"] == pytest.approx(2 / 3, abs=1e-6)
    assert rating["n"] == 3


@given(RATINGS)
def test_quadratic_kappa_is_the_definition_over_eleven_categories(ratings: list[tuple[int, int]]) -> None:
    x, y = np.array(ratings, float).T
    weights = (np.arange(11)[:, None] - np.arange(11)[None, :]) ** 2.0
    observed = np.zeros((11, 11))
    for a, b in ratings:
        observed[a, b] += 1 / len(ratings)
    chance = np.outer(observed.sum(axis=1), observed.sum(axis=0))
    terms = np.array([[len(x), x.sum(), y.sum(), x @ x, y @ y, ((x - y) ** 2).sum(), 0.0, 0.0]])
    kappa = quadratic_kappa(terms)[0]
    if (weights * chance).sum() < 1e-9:
        assert np.isnan(kappa)
    else:
        assert kappa == pytest.approx(1 - (weights * observed).sum() / (weights * chance).sum())


def test_the_same_judge_twice_agrees_fully_and_other_answers_are_not_compared() -> None:
    first = [question(3.0, 2.0, 1.0), question(5.0, name="only here")]
    second = [question(3.0, 2.0, 1.0, texts="abX")]
    comparison = figures(first, second)
    assert (comparison["answers"], comparison["differing"], comparison["missing"]) == (2, 1, 1)
    assert comparison["preferences"]["table"][0][0] == 1
    assert comparison["preferences"]["kappa"]["value"] is None  # with one category chance alone agrees fully
    assert comparison["ratings"]["h"]["kappa"]["value"] == 1.0
    assert comparison["ratings"]["h"]["unchanged"] == 1.0


def test_judges_who_share_no_rewarded_pair_have_no_kappa() -> None:
    assert figures([question(1.0, None)], [question(None, 2.0)])["preferences"] is None
