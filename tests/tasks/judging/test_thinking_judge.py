"""A judge that thinks: its verdict is read after its thinking, and it gets the tokens that thinking takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from infra.errors import RecipeError
from infra.models.client import Prompt
from infra.models.thinking import UNFINISHED
from infra.recipe import Judge
from tasks.judging.asking import ask_judge, policy_as_judge, query_identity, verdict_from_ledger
from tasks.judging.replies import read_facts, read_notes, read_rating
from tasks.judging.steps import JudgeQuery, ReplyForm
from tasks.planning.estimate import size_of_call
from tasks.scoring import ScoringContext, check_scorers
from tests.support.judge_replies import JudgeServer, running_judge
from tests.support.memory_ledger import MemoryLedger
from tests.support.recipes_for_scoring import no_embedder
from tests.support.requests import client_of
from tests.support.scripted_judge import judged_recipe

RATING = ReplyForm("regex", r"\[\[[0-9]\]\]")


def query(read: Any = read_rating, **more: Any) -> JudgeQuery[Any]:
    return JudgeQuery("helpfulness", Prompt(({"role": "user", "content": "rate it"},)), "c", read, 64, **more)


@contextmanager
def judging(server: JudgeServer, ledger: MemoryLedger | None = None, **settings: Any) -> Iterator[ScoringContext]:
    own = {"name": "stub", "tokenizer": "microworld", "endpoints": (server.url,), "structured": "never", "replies": 2}
    judge = Judge.model_validate(own | settings)
    with client_of(ledger or MemoryLedger(), server, reasoning=judge.reasoning) as client:
        yield ScoringContext(no_embedder, None, judged_recipe().model_copy(update={"judge": judge}), client)


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        ("<think>At first [[2]].</think>\nGood. [[9]]", read_rating, 9),
        ("<think>\n先给 [[2]]。\n</think>\n\n很好。[[9]]", read_rating, 9),
        ("At first [[2]].\n</think>\n\nGood. [[9]]", read_rating, 9),
        ("<think><statement>B.</statement></think><statement>A.</statement>", read_facts, ("A.",)),
        ("<think>Is it relevant?</think>\nA is red.", read_notes, "A is red."),
    ],
)
def test_a_verdict_and_its_evidence_come_after_the_thinking(text: str, read: Any, value: Any) -> None:
    ledger = MemoryLedger()
    with running_judge(lambda body: text) as server, judging(server, ledger) as scoring:
        question_of_judge = query(read)
        (verdict,) = ask_judge([question_of_judge], scoring)
        assert verdict.value == value
        assert "think" not in verdict.reply
        assert "first" not in verdict.reply
        assert scoring.recipe.judge is not None
        assert verdict_from_ledger(question_of_judge, verdict.keys, ledger.entries, scoring.recipe.judge) == verdict
    (entry,) = ledger.entries.values()
    assert "think" in entry.reply


@pytest.mark.parametrize(("text", "reasoning"), [("<think>It may be [[8]]", "auto"), ("It may be [[8]]", "always")])
def test_thinking_that_never_ended_is_a_null_of_its_own_after_all_tries(text: str, reasoning: str) -> None:
    with running_judge(lambda body: (text, "length")) as server, judging(server, reasoning=reasoning) as scoring:
        (verdict,) = ask_judge([query()], scoring)
    assert (verdict.value, verdict.reason, verdict.reply) == (None, UNFINISHED, "")
    assert len(verdict.keys) == 2


def test_thinking_that_the_recipe_keeps_stands_in_the_evidence_and_is_not_read() -> None:
    text = "<think>At first [[2]].</think>\nGood. [[9]]"
    with running_judge(lambda body: text) as server, judging(server, reasoning="keep") as scoring:
        (verdict,) = ask_judge([query()], scoring)
    assert (verdict.value, verdict.reply) == (9, text)


def test_a_judge_that_thinks_gets_tokens_for_it_in_every_reply_and_in_the_probe() -> None:
    with running_judge(lambda body: "[[9]]", "obeys") as server:
        with judging(server, structured="auto", reasoning_tokens=1000) as scoring:
            ask_judge([query(form=RATING), query(form=RATING, variant=1)], scoring)
            ask_judge([query(lambda raw: 1, reads="raw", parameters=(("logprobs", True),))], scoring)
        limits = [body["max_tokens"] for body in server.bodies]
        assert limits == [1032, 1064, 1064, 64]  # logprobs are those of the first token
        with judging(server) as scoring:
            ask_judge([query()], scoring)
        assert server.bodies[-1]["max_tokens"] == 64


def test_what_becomes_of_the_thinking_is_part_of_a_querys_identity_only_where_it_is_set() -> None:
    identities = []
    for settings in ({}, {"reasoning": "auto"}, {"reasoning": "always"}, {"reasoning_tokens": 9}):
        judge = {"name": "stub", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"], **settings}
        scoring = ScoringContext(no_embedder, None, judged_recipe(judge=judge))
        identities.append(query_identity(query(), scoring, "judge"))
    assert identities[0] == identities[1]
    assert identities[0][-1] == 5  # judge.replies, as before there was thinking
    assert len({str(identity) for identity in identities}) == 3


def test_the_policy_as_judge_thinks_as_the_policy_does_and_is_asked_as_the_judge() -> None:
    recipe = judged_recipe(
        policy={"name": "p", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"], "reasoning": "always"},
        judge={"name": "j", "tokenizer": "x", "endpoints": ["http://127.0.0.1:9/v1"], "reasoning_tokens": 7},
    )
    judge = policy_as_judge(recipe)
    assert (judge.name, judge.reasoning, judge.reasoning_tokens) == ("p", "always", 7)


def test_an_expected_rating_of_a_judge_that_thinks_is_refused_before_it_is_paid_for() -> None:
    own = {"name": "j", "tokenizer": "x", "endpoints": ["http://127.0.0.1:9/v1"]}
    for settings in ({"reasoning": "always"}, {"reasoning_tokens": 9}):
        recipe = judged_recipe({"scorer": "helpfulness", "expected": "beside"}, judge=own | settings)
        with pytest.raises(RecipeError, match=r"helpfulness\.expected reads the first token"):
            check_scorers(recipe)
    check_scorers(judged_recipe({"scorer": "helpfulness", "expected": "beside"}, judge=own))
    check_scorers(judged_recipe({"scorer": "helpfulness"}, judge=own | {"reasoning": "always"}))


def test_the_estimate_has_room_for_thinking() -> None:
    own = {"name": "j", "tokenizer": "x", "endpoints": ["http://127.0.0.1:9/v1"]}

    def size(**settings: Any) -> Any:
        recipe = judged_recipe({"scorer": "helpfulness"}, judge=own | settings)
        return size_of_call("helpfulness", check_scorers(recipe)[0].settings, recipe, 1000, 100.0).reply

    plain, thinking = size(), size(reasoning_tokens=1000)
    assert (thinking.low - plain.low, thinking.expected - plain.expected, thinking.high - plain.high) == (0, 500, 1000)
