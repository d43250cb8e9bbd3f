"""A judge whose replies cannot be used is tried, and the run stops before more is spent on it."""

import threading

import pytest

from infra.errors import JudgeError
from infra.models.client import Failure, Prompt, Request
from tasks.judging.asking import ask_judge
from tasks.judging.context import ScoringContext
from tasks.judging.replies import read_rating
from tasks.judging.steps import JudgeQuery
from tasks.judging.trial import JudgeTrial
from tests.support.scripted_judge import ScriptedJudge, judged_recipe, prompt_of, scoring_with

SIZE = 32


def queries(count: int, kind: str = "helpfulness") -> list[JudgeQuery[int]]:
    made = []
    for number in range(count):
        prompt = Prompt(({"role": "user", "content": f"{kind} {number}"},))
        made.append(JudgeQuery(kind, prompt, "context", read_rating, 64))
    return made


def scoring(judge: ScriptedJudge) -> ScoringContext:
    return scoring_with(judge, judged_recipe())


def number_of(request: Request) -> int:
    return int(prompt_of(request).split()[-1])


def test_a_judge_that_gives_no_rating_is_left_after_32_replies() -> None:
    judge = ScriptedJudge(lambda request: f"Well, well, answer {number_of(request)}.")
    context = scoring(judge)
    with pytest.raises(JudgeError) as error:
        ask_judge(queries(500), context)
    assert len(judge.asked) == SIZE  # 2,500 without the trial
    message = str(error.value)
    assert "32 of its first 32 replies to helpfulness cannot be used (32 no_rating)" in message
    assert message.count("“Well, well, answer") == 3
    assert "judge.prompts" in message and "execution.judge_trial: 0" in message
    with pytest.raises(JudgeError):  # of another kind: the judge is the same
        ask_judge(queries(1, "logicality"), context)
    assert len(judge.asked) == SIZE


def test_a_judge_that_fails_less_than_half_goes_on() -> None:
    judge = ScriptedJudge(lambda request: "no idea" if number_of(request) < 15 else "[[7]]")
    verdicts = ask_judge(queries(100), scoring(judge))
    assert sum(verdict.value == 7 for verdict in verdicts) == 85
    assert len(judge.asked) == 100 + 15 * 4


def test_half_is_enough_to_stop() -> None:
    judge = ScriptedJudge(lambda request: "no idea" if number_of(request) % 2 else "[[7]]")
    with pytest.raises(JudgeError, match="16 of its first 32 replies"):
        ask_judge(queries(100), scoring(judge))
    assert len(judge.asked) == SIZE


def test_kinds_with_few_calls_are_tried_together_but_notes_prove_nothing() -> None:
    judge = ScriptedJudge(lambda request: "The tower is 40 m high.")
    context = scoring(judge)
    ask_judge([JudgeQuery("notes", query.prompt, "c", len, 64) for query in queries(100)], context)
    for kind in ("helpfulness", "logicality", "completeness"):
        ask_judge(queries(10, kind), context)
    with pytest.raises(JudgeError, match="to all kinds"):
        ask_judge(queries(10, "quality"), context)


def test_each_kind_has_a_trial_of_its_own() -> None:
    judge = ScriptedJudge(lambda request: "[[7]]" if request.kind == "helpfulness" else "no idea")
    context = scoring(judge)
    ask_judge(queries(100), context)
    with pytest.raises(JudgeError, match="to logicality"):
        ask_judge(queries(100, "logicality"), context)
    assert judge.calls["logicality"] == SIZE


def test_calls_without_a_reply_say_nothing_of_the_judge() -> None:
    judge = ScriptedJudge(lambda request: Failure("", "prompt_too_long", "too long", True))
    assert {verdict.reason for verdict in ask_judge(queries(100), scoring(judge))} == {"prompt_too_long"}


def test_without_a_trial_all_is_asked() -> None:
    judge = ScriptedJudge(lambda request: "no idea")
    context = ScoringContext(lambda: None, None, judged_recipe(), judge, trial=JudgeTrial(0))  # type: ignore[arg-type]
    assert {verdict.reason for verdict in ask_judge(queries(40), context)} == {"no_rating"}
    assert len(judge.asked) == 200


def test_a_trial_lets_no_more_than_its_size_be_in_flight() -> None:
    trial = JudgeTrial(4)
    assert trial.begin("helpfulness", 3) == 3
    assert trial.begin("helpfulness", 3) == 1
    later: list[int] = []
    waiting = threading.Thread(target=lambda: later.append(trial.begin("helpfulness", 9)))
    waiting.start()
    trial.end("helpfulness", 1, 0, [])  # a call that failed gives its place back
    waiting.join(5)
    assert later == [1]
    trial.end("helpfulness", 3, 3, [])
    trial.end("helpfulness", 1, 1, [("no_rating", "x")])
    assert trial.begin("helpfulness", 9) == 9
