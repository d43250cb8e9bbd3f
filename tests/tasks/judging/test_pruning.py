"""Who is asked next, and who is left alone, by hand. That no pair changes is proved in test_prune.py."""

from typing import Any

import pytest

from infra.recipe import Pairing
from tasks.judging.pruning import PruningBounds, ScoreBounds, verdicts_needed
from tasks.records.example import Answer

CLOSED, OPEN = 0, 10  # verdicts missing of ten


def wanted(*prospects: tuple[float, float, int], cut: tuple[int, ...] = (), **pairing: Any) -> dict[int, int]:
    """Each answer is (others' score, what is sure of its own, verdicts missing of ten); both weigh the same."""
    answers = [
        Answer("e", index, "text", "length" if index in cut else "stop", 1, 1, "x", "k")
        for index in range(len(prospects))
    ]
    others = {("e", index): others for index, (others, _, _) in enumerate(prospects)}
    standing = PruningBounds(others, 1.0, 2.0, Pairing(rule="best_vs_worst", **pairing))
    return verdicts_needed(
        [
            ScoreBounds(answer, sure, sure + missing, missing, 10 - missing)
            for answer, (_, sure, missing) in zip(answers, prospects, strict=True)
        ],
        standing,
    )


def test_the_best_and_the_worst_by_what_others_say_come_first_half_of_what_they_lack_a_round() -> None:
    found = wanted((9, 0, OPEN), (2, 0, OPEN), (5, 0, OPEN))
    assert found[0] == found[1] == 5
    assert found.get(2, 0) < 5
    assert wanted((9, 4, 5), (2, 1, 3), (5, 2, 5)) == {0: 3, 1: 3}


def test_an_answer_between_full_scores_is_left_alone() -> None:
    assert wanted((9, 9, CLOSED), (1, 0, CLOSED), (5, 4, 3)) == {}  # 9 > (5 + 7) / 2, 0.5 < (5 + 4) / 2


@pytest.mark.parametrize("bounds", [(5, 6, 3), (5, 0, 3)])
def test_an_answer_that_can_still_be_an_extreme_is_judged(bounds: tuple[float, float, int]) -> None:
    # (5 + 9) / 2 = 7 is not below the best, 7; (5 + 0) / 2 = 2.5 is not above the worst, 2.5
    assert 2 in wanted((7, 7, CLOSED), (4, 1, CLOSED), bounds)


def test_scores_that_are_not_full_put_nobody_out() -> None:
    # The third would be out if the first's nine sure verdicts were all: the first is completed before that is said.
    assert wanted((9, 8, 1), (1, 0, CLOSED), (5, 4, 1)) == {0: 1}
    assert wanted((9, 8, CLOSED), (1, 0, CLOSED), (5, 4, 1)) == {}


def test_enough_answers_are_completed_by_the_fewest_verdicts() -> None:
    prospects = ((9, 9, CLOSED), (1, 0, CLOSED), (5, 3, 4), (5, 4, 2), (5, 4, 3))
    assert wanted(*prospects) == {}
    assert wanted(*prospects, min_scored=4) == {3: 2, 4: 3}


def test_a_cut_off_answer_that_may_not_be_chosen_does_not_put_others_out() -> None:
    prospects = ((9, 9, CLOSED), (1, 0, CLOSED), (5, 4, 3))
    assert wanted(*prospects, cut=(0,)) == {2: 3}
    assert wanted(*prospects, cut=(0,), cut_off_as_chosen=True) == {}


def test_nothing_is_wanted_when_all_is_known() -> None:
    assert wanted() == {}
    assert wanted((9, 9, CLOSED), (9, 9, CLOSED)) == {}


@pytest.mark.parametrize(("best", "worst"), [((6.5, 6), (3, 4)), ((6.5, 7), (3.5, 4))])
def test_an_answer_in_the_middle_gets_as_many_verdicts_as_should_show_it(
    best: tuple[float, float], worst: tuple[float, float]
) -> None:
    # The third: one of two verdicts supports it and the others' opinion is 0.5, so support is (1 + 4 * 0.5) / 6 = 0.5.
    # Its reward is from 3 to 7, half a point a verdict. To fall to 6.25: 0.75 / (0.5 * 0.5) = 3 verdicts, to rise to
    # 3.5: 2. Then to 6.75: 1, and to 3.75: 3. One round has 4.
    assert wanted((*best, CLOSED), (*worst, CLOSED), (5, 1, 8)) == {2: 3}


def test_the_opinion_of_the_others_weighs_as_much_as_four_verdicts() -> None:
    # Both of two verdicts support the third, so support is (2 + 4 * 0.5) / 6 = 2 / 3, and its reward is at most 7.5.
    # To fall to 7.155: 0.345 / (0.5 / 3) = 2.07 verdicts.
    assert wanted((7.31, 7, CLOSED), (1, 0, CLOSED), (5, 2, 8)) == {2: 3}


def test_four_missing_verdicts_take_two_rounds_and_three_take_one() -> None:
    assert wanted((9, 4, 4), (2, 1, 3)) == {0: 2, 1: 3}


def test_where_no_answer_may_be_chosen_all_are_judged_at_once() -> None:
    assert wanted((9, 0, 8), (2, 1, 5), (5, 2, 6), cut=(0, 1, 2)) == {0: 8, 1: 5, 2: 6}


def test_when_no_verdict_is_expected_to_matter_one_answer_is_completed() -> None:
    # Both may still equal the best, 10, and neither is expected to: the one with fewer missing verdicts is completed.
    assert wanted((10, 10, CLOSED), (1, 0, CLOSED), (10, 5, 5), (10, 6, 4)) == {3: 4}


def test_rewards_and_opinions_by_hand() -> None:
    answers = [Answer("e", index, "text", "stop", 1, 1, "x", "k") for index in range(2)]
    bounds = PruningBounds({("e", 0): 12.0, ("e", 1): None}, 2.0, 5.0, Pairing())
    assert bounds.reward(answers[0], 4.0) == 4.0  # (12 + 2 * 4) / 5
    assert bounds.opinion(answers[0]) == pytest.approx(0.4)  # 12 / (5 - 2) of 10
    assert bounds.opinion(answers[1]) == 0.0
    alone = PruningBounds({("e", 0): 0.0}, 2.0, 2.0, Pairing())
    assert alone.opinion(answers[0]) == 0.7  # there is no other scorer
