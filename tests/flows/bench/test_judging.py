"""The benchmark of judging: what its stub simulates has the correlations that its options name."""

import numpy as np
import pytest

from flows.bench.judging import FACTS, judged_questions
from flows.bench.stub_judge import full_reward, judge_reply, part_reward


@pytest.mark.parametrize("completeness", [0.3, 0.6, 0.9])
def test_completeness_correlates_with_the_other_scores_and_the_reward_model_with_the_judge(completeness: float) -> None:
    rows = []
    for question in judged_questions("cascade", 60, 0, 0.95, completeness):
        of_question = np.array([(one.part, one.reward, one.scores[0]) for one in question.candidates], np.float64)
        rows.append(of_question - of_question.mean(axis=0))
    part, reward, number = np.concatenate(rows).T
    assert np.corrcoef(4 * reward - 3 * part, part)[0, 1] == pytest.approx(completeness, abs=0.06)
    assert np.corrcoef(reward, number)[0, 1] == pytest.approx(0.95, abs=0.02)


def test_the_reward_is_the_mean_of_the_stubs_own_replies() -> None:
    answer = "Answer 3 to question 7, quality 6.25."
    ratings = []
    for step in ("helpfulness", "logicality", "completeness"):
        ratings.append(float(judge_reply(f"Task: {step}\n{answer}", FACTS, 0, 0.6).strip("[]")))
    faithfulness = 3 * part_reward(answer, FACTS, 0) - sum(ratings[:2])
    assert full_reward(answer, FACTS, 0, 0.6) == pytest.approx((sum(ratings) + faithfulness) / 4)
