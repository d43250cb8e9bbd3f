"""Length and position bias, expected ratings and saved calls, against figures computed by hand."""

import random
from typing import Any

import pytest

from tasks.records.example import Example
from tasks.reporting.judge_report import JudgeTally, spearman
from tasks.reporting.judged_questions import JudgedAnswer, JudgedQuestion, Score
from tasks.reporting.tables import embedded_rows

EXAMPLE = Example("q", "Who?", "c", (), "count", "en", "{}")


def answer(index: int, text: str, score: float | None, scorer: str = "h", **evidence: Any) -> JudgedAnswer:
    reason = None if score is not None else "pruned"
    return JudgedAnswer(index, text, False, score, {scorer: Score(score, reason, evidence)})


def figures(*questions: JudgedQuestion) -> dict[str, Any]:
    tally = JudgeTally()
    for question in questions:
        tally.add(question)
    return tally.figures()


def question(*answers: JudgedAnswer, pair: tuple[int, int] | None = None) -> JudgedQuestion:
    return JudgedQuestion(EXAMPLE, answers, (pair,) if pair else ())


def test_spearman_by_hand() -> None:
    assert spearman([1, 2, 3], [10, 20, 90]) == 1.0
    assert spearman([1, 2, 3], [3, 2, 1]) == -1.0
    # Ranks (1, 2.5, 2.5, 4) and (1, 2, 3, 4): covariance 4.5, squares 4.5 and 5: 4.5 / sqrt(22.5)
    assert spearman([0, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(0.948683, abs=1e-6)
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_length_bias_is_within_questions() -> None:
    """Within both questions longer answers score lower, though the question with long answers scores higher."""
    short = [answer(index, "x" * (index + 1), 3.0 - index) for index in range(3)]
    long = [answer(index, "x" * (index + 50), 9.0 - index) for index in range(3)]
    length = figures(question(*short, pair=(0, 2)), question(*long, pair=(2, 0)))["length"]
    assert length["correlation"]["h"] == {"value": -1.0, "low": -1.0, "high": -1.0, "n": 2}
    assert length["correlation"]["reward"]["value"] == -1.0
    assert length["longer_chosen"]["value"] == 0.5


def test_a_duel_that_follows_the_order_has_changed_its_verdict() -> None:
    """0 beats 1 in both orders and 2 beats 1 in both; of 0 and 2 whoever stands first is preferred."""
    duels_by_answer = {
        0: [(1, "A", "B"), (2, "A", "A")],
        1: [(0, "B", "A"), (2, "B", "A")],
        2: [(0, "A", "A"), (1, "A", "B"), (7, "A", "A"), (0, None, "A")],
    }
    answers = []
    for index, duels in duels_by_answer.items():
        evidence = []
        for opponent, first_order, second_order in duels:
            evidence.append({"against": opponent, "first_order": first_order, "second_order": second_order})
        answers.append(answer(index, f"answer {index}", 1.0, "pairwise", duels=evidence))
    position = figures(question(*answers))["position"]
    # A duel counts once, though it is in the evidence of both answers; there is no answer 7, and no verdict None.
    assert position["duels"] == 3
    assert position["changed"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert (position["first"]["value"], position["first"]["n"]) == (pytest.approx(4 / 6, abs=1e-6), 6)


def test_a_tie_in_one_order_is_a_change_and_decides_nothing() -> None:
    duels = [
        {"against": 1, "first_order": "C", "second_order": "B"},
        {"against": 2, "first_order": "C", "second_order": "C"},
    ]
    answers = [answer(0, "a", 1.0, "pairwise", duels=duels), *(answer(index, f"b{index}", 1.0) for index in (1, 2))]
    position = figures(question(*answers))["position"]
    assert (position["changed"]["value"], position["first"]["value"], position["first"]["n"]) == (0.5, 0.0, 1)


def test_answers_with_equal_text_share_their_duels() -> None:
    evidence = {"duels": [{"against": 2, "first_order": "A", "second_order": "B"}]}
    answers = [answer(0, "same", 1.0, "pairwise", **evidence), answer(1, "same", 1.0, "pairwise", **evidence)]
    assert figures(question(*answers, answer(2, "other", 1.0, "pairwise")))["position"]["duels"] == 1


def test_expected_beside_sampled_ratings() -> None:
    answers = [
        answer(0, "a", 7.0, rating=7, expected=6.5),
        answer(1, "b", 5.0, rating=5, expected=5.5),
        answer(2, "c", 3.0, rating=3, expected=1.5),
        answer(3, "d", 3.0, rating=3),
        answer(4, "e", None, rating=None, expected=4.0),
    ]
    expected = figures(question(*answers))["expected"]["h"]
    # Differences -0.5, +0.5, -1.5; deviations (2, 0, -2) and (2, 1, -3): 10 / sqrt(8 * 14)
    assert expected == {
        "n": 3,
        "correlation": pytest.approx(0.944911, abs=1e-6),
        "mean_difference": -0.5,
        "mean_absolute_difference": 0.833333,
    }


def test_saved_verdicts_are_counted_and_nothing_is_null() -> None:
    facts = [
        {"reason": None, "shared": True},
        {"reason": "pruned", "shared": False},
        {"reason": "pruned", "shared": False},
    ]
    assert figures(question(answer(0, "a", None, "faithfulness", facts=facts)))["saved"] == {"shared": 1, "pruned": 2}
    assert figures(question(answer(0, "a", 1.0))) == {
        "length": None,
        "position": None,
        "expected": None,
        "saved": None,
    }


def test_the_sizes_of_embedded_answers_are_counted_and_too_many_unknown_tokens_are_a_warning() -> None:
    def embedded(tokens: int, unknown: int, windows: int) -> JudgedAnswer:
        size = {"tokens": tokens, "unknown": unknown, "windows": windows, "cut": 0}
        return answer(0, "a", None, "consensus", embedded=size)

    counted = figures(question(embedded(600, 0, 2)), question(embedded(200, 200, 1)))
    assert counted["embedded"] == {"texts": 2, "in_windows": 1, "cut": 0, "tokens": 800, "unknown": 200}
    _, rows = embedded_rows(counted)
    assert rows[:4] == [
        ["answers", "2"],
        ["in several windows", "50.0%"],
        ["cut", "0.0%"],
        ["tokens unknown to the model", "25.0%"],
    ]
    assert rows[4][0] == "warning" and "multilingual-e5-small" in rows[4][1]
    assert embedded_rows(figures(question(embedded(600, 0, 2))))[1][-1][0] != "warning"
    assert embedded_rows({})[1] == []


def test_the_rank_correlation_is_that_of_scipy() -> None:
    from scipy.stats import spearmanr

    rng = random.Random(0)
    compared = 0
    for _ in range(300):
        answers = rng.randint(2, 12)
        scores = [rng.randint(0, 6) / 3 for _ in range(answers)]
        lengths = [rng.randint(0, 20) for _ in range(answers)]
        correlation = spearman(scores, lengths)
        if correlation is None:
            assert answers < 3 or len(set(scores)) < 2 or len(set(lengths)) < 2
        else:
            assert correlation == round(float(spearmanr(scores, lengths).statistic), 6)
            compared += 1
    assert compared > 200
