"""Self-evaluation as SeaLong has it: an explained rating of 1 to 5, and by the other samples as references."""

import json
from dataclasses import replace
from typing import Any

import pytest

from infra.models.client import Failure, Request
from tasks.judging.replies import Unusable, read_rating, read_same
from tasks.records.example import Judgement
from tasks.scoring import AnsweredQuestion, known_scorers
from tasks.scoring.self_evaluation import SelfEvaluationSettings
from tests.support.scripted_judge import (
    ScriptedJudge,
    case_of,
    inside,
    judge_with,
    judged_recipe,
    prompt_of,
    scoring_with,
)

RECIPE = judged_recipe({"scorer": "self_evaluation"}, sampling={"samples": 3})


def nobody(request: Request) -> str:
    raise AssertionError("the judge was asked")


def judged(policy: ScriptedJudge, form: str, case: AnsweredQuestion) -> list[Judgement]:
    context = replace(scoring_with(ScriptedJudge(nobody), RECIPE), policy=policy)  # type: ignore[arg-type]
    settings = SelfEvaluationSettings.model_validate({"form": form})
    return judge_with(known_scorers()["self_evaluation"], [case], settings, context)


def same_last_word(request: Request) -> str:
    first, second = inside(request, "first_answer"), inside(request, "second_answer")
    return "[[True]]" if first.split()[-1] == second.split()[-1] else "[[False]]"


def test_the_score_by_reference_is_the_share_of_samples_with_the_same_answer_itself_included() -> None:
    policy = ScriptedJudge(same_last_word)
    judgements = judged(policy, "reference", case_of("It is Kiel", "So: Kiel", "It is Bonn", "It is Kiel"))
    assert [judgement.score for judgement in judgements] == [0.75, 0.75, 0.25, 0.75]
    # three different texts: 3 x 2 ordered pairs, and no call for equal texts
    assert dict(policy.calls) == {"self_evaluation_reference": 6}
    assert json.loads(judgements[0].evidence) == {"samples": 4, "same": 3, "missing": 0}
    assert len(judgements[0].keys) == 2


def test_the_reference_stands_first_and_the_context_is_not_read() -> None:
    policy = ScriptedJudge(same_last_word)
    judged(policy, "reference", case_of("one a", "two b", context="The moon is round."))
    pairs = [(inside(request, "first_answer"), inside(request, "second_answer")) for request in policy.asked]
    assert sorted(pairs) == [("one a", "two b"), ("two b", "one a")]
    assert not any("The moon" in prompt_of(request) for request in policy.asked)


def test_a_pair_without_a_verdict_takes_no_part_and_without_any_there_is_no_score() -> None:
    def says(request: Request) -> str | Failure:
        if inside(request, "first_answer") == "three c":
            return "I cannot tell."
        return "[[False]]" if inside(request, "second_answer") != "three c" else "[[True]]"

    judgements = judged(ScriptedJudge(says), "reference", case_of("one a", "two b", "three c", ""))
    assert [judgement.score for judgement in judgements] == [0.5, 0.5, 1.0, None]
    assert [judgement.reason for judgement in judgements] == [None, None, None, "empty_answer"]
    assert json.loads(judgements[0].evidence)["missing"] == 1
    too_long = Failure("", "prompt_too_long", "too long", True)
    refused = judged(ScriptedJudge(lambda request: too_long), "reference", case_of("one a", "two b", "two b"))
    assert [(judgement.score, judgement.reason) for judgement in refused] == [(None, "prompt_too_long")] * 3


def test_one_sample_alone_agrees_with_itself_without_a_call() -> None:
    policy = ScriptedJudge(nobody)
    assert [judgement.score for judgement in judged(policy, "reference", case_of("a", "a"))] == [1.0, 1.0]
    assert policy.asked == []


def test_the_explained_rating_reads_the_context_and_is_one_to_five() -> None:
    policy = ScriptedJudge(lambda request: "It agrees with the document.\nRating: [[4]]")
    (judgement,) = judged(policy, "explained", case_of("an answer", context="The moon is round."))
    assert (judgement.score, judgement.reason) == (4.0, None)
    assert "The moon is round." in prompt_of(policy.asked[0])
    assert policy.asked[0].kind == "self_evaluation_explained"
    assert policy.asked[0].parameters["max_tokens"] == 64 + 512


@pytest.mark.parametrize(("reply", "reason"), [("[[0]]", "off_scale"), ("[[6]]", "off_scale"), ("Good.", "no_rating")])
def test_an_explained_rating_off_its_scale_is_null(reply: str, reason: str) -> None:
    (judgement,) = judged(ScriptedJudge(lambda request: reply), "explained", case_of("an answer"))
    assert (judgement.score, judgement.reason) == (None, reason)


def test_expected_calls_are_those_that_are_made() -> None:
    scorer = known_scorers()["self_evaluation"]
    for form, kind, calls in (
        ("rating", "self_evaluation", 3),
        ("explained", "self_evaluation_explained", 3),
        ("reference", "self_evaluation_reference", 6),
    ):
        settings = SelfEvaluationSettings.model_validate({"form": form})
        policy = ScriptedJudge(lambda request: "[[1]]" if "[[n]]" in prompt_of(request) else "[[True]]")
        judged(policy, form, case_of("a", "b", "c"))
        assert scorer.calls(settings, RECIPE, 9) == dict(policy.calls) == {kind: calls}
        prompt_name = f"judge-terse-{kind.replace('_', '-')}"
        assert scorer.prompts(settings, RECIPE) == (prompt_name,)


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("[[True]]", True),
        ("True", True),
        ("**False**", False),
        ("The first says Kiel, the second Bonn.\n[[False]]", False),
        ("Verdict: true.", True),
        ("【相同】", True),
        ("[[不同]]。", False),
        ("结论：相同", True),
        ("<think>maybe [[False]]</think>\n[[TRUE]]", True),
    ],
)
def test_words_for_the_same_answer_are_read_in_a_judges_own_manner(reply: str, value: bool) -> None:
    assert read_same(reply) is value


@pytest.mark.parametrize("reply", ["", "It is true that both exist.", "[[Maybe]]", "Verdict: true\nVerdict: false"])
def test_other_replies_give_no_verdict(reply: str) -> None:
    with pytest.raises(Unusable):
        read_same(reply)


def test_an_echo_of_the_judged_answer_is_no_verdict() -> None:
    with pytest.raises(Unusable):
        read_same("True", material="Is it so?\nTrue\nFalse")


@pytest.mark.parametrize(
    ("reply", "rating"), [("[[5]]", 5), ("Rating: 3", 3), ("4/5", 4), ("Rating: 4/5", 4), ("7", None), ("7/10", None)]
)
def test_a_rating_is_read_on_the_scale_that_was_asked_for(reply: str, rating: Any) -> None:
    if rating is None:
        with pytest.raises(Unusable):
            read_rating(reply, lowest=1, highest=5)
    else:
        assert read_rating(reply, lowest=1, highest=5) == rating
