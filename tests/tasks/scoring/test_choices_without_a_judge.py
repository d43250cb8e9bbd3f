"""Scorers that choose between answers without a judge: by statements, by votes, by likelihood."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import RecipeError
from infra.ledger import Entry
from infra.models.protocol import Request
from tasks.records.example import Answer, Context, Example
from tasks.sampling import sample_requests
from tasks.scoring import AnsweredQuestion, ScoringContext, check_scorers, parse_scorers
from tasks.scoring.run import score_answers
from tests.support.memory_ledger import MemoryLedger
from tests.support.recipes_for_scoring import no_embedder, recipe_with

LIST = (
    "Anna lives in Rome. Bo lives in Rome.\nAnswer: Anna, Bo",
    "Anna lives in Rome. Cleo lives in Rome.\nAnswer: Anna, Cleo",
    "Bo lives in Rome. Cleo lives in Rome.\nAnswer: Bo, Cleo",
    "Dan lives in Rome.\nAnswer: Dan",
    "Anna lives in Rome. Bo lives in Rome! Cleo lives in Rome.\nAnswer: Anna, Bo, Cleo",
)


def question_of(texts: Sequence[str]) -> AnsweredQuestion:
    answers = tuple(
        Answer("e", index, text, "stop", 1, 1, "default", f"key-{index}") for index, text in enumerate(texts)
    )
    example = Example("e", "Who lives in Rome?", "c", (), "qa", "en", "{}")
    return AnsweredQuestion(example, Context("c", "text", 1, (), (), ()), answers)


def scores(name: str, texts: Sequence[str], *scorers: dict[str, Any], ledger: Any = None, **sections: Any) -> list[Any]:
    recipe = recipe_with(*scorers, **sections)
    scoring = ScoringContext(no_embedder, None, recipe, ledger=ledger)
    judgements = score_answers([question_of(texts)], parse_scorers(recipe), scoring)
    return [judgement.score for judgement in judgements if judgement.scorer == name]


def test_the_whole_list_is_best_by_statements_though_no_other_answer_is_like_it() -> None:
    # Of five answers three state each of Anna, Bo, Cleo; one Dan; each final answer is alone.
    assert scores("claims", LIST, {"scorer": "claims", "cost": 0.1}) == pytest.approx(
        [2 * 0.5 + 0.1, 2 * 0.5 + 0.1, 2 * 0.5 + 0.1, 0.1 + 0.1, 3 * 0.5 + 0.1]
    )


def test_sentences_that_are_alike_enough_state_the_same() -> None:
    texts = ("The lamp is red.", "The red lamp it is, surely.", "The lamp is blue.")
    assert scores("claims", texts, {"scorer": "claims", "cost": 0}) == pytest.approx([1 / 3] * 3, abs=1e-6)
    alike = scores("claims", texts, {"scorer": "claims", "cost": 0, "likeness": 0.7})
    assert alike == pytest.approx([2 / 3, 2 / 3, 1 / 3], abs=1e-6)


@pytest.mark.parametrize("likeness", [1.0, 0.9])
@pytest.mark.parametrize(
    ("text", "other", "same"),
    [
        ("Ann beat Bob.", "Bob beat Ann.", False),
        ("Answer: Ann and Bob", "Answer: Bob, and Ann", True),
        ("In 1990, Ann won 1,000 votes.", "Ann won 1,000 votes, in 1990.", True),
        ("甲打败乙。", "乙打败甲。", False),
        ("答案：甲和乙。", "答案：乙和甲。", True),
        ("甲、乙、丙", "丙、甲、乙", True),
    ],
)
def test_the_same_words_in_another_order_state_the_same_in_a_list_alone(
    text: str, other: str, same: bool, likeness: float
) -> None:
    values = scores("claims", [text, other], {"scorer": "claims", "cost": 0, "likeness": likeness})
    assert values == pytest.approx([1.0, 1.0] if same else [0.5, 0.5], abs=1e-6)


def test_chinese_sentences_are_statements_too() -> None:
    """Of three answers all say that Anna lives in Rome, two the final answer; no blank stands between sentences."""
    texts = (
        "安娜住在罗马。博住在罗马！\n答案：安娜",
        "（安娜住在罗马。）克莉奥住在罗马？！\n答案：安娜",
        "“安娜住在罗马。”答案：博",
    )
    expected = [1 + 1 / 3 + 2 / 3, 1 + 1 / 3 + 2 / 3, 1 + 1 / 3]
    assert scores("claims", texts, {"scorer": "claims", "cost": 0}) == pytest.approx(expected, abs=1e-6)


@given(st.permutations(range(len(LIST))))
def test_the_order_of_the_samples_changes_no_score(order: list[int]) -> None:
    straight = scores("claims", LIST, {"scorer": "claims"})
    shuffled = scores("claims", [LIST[place] for place in order], {"scorer": "claims"})
    assert shuffled == [straight[place] for place in order]


VOTES = ("I think.\nAnswer: Rome", "Answer: rome.", "Answer: Oslo", "", "Answer: the Rome")


def test_votes_are_shares_of_final_answers() -> None:
    assert scores("votes", VOTES, {"scorer": "votes"}) == [0.75, 0.75, 0.25, None, 0.75]


def test_votes_weigh_what_another_scorer_says() -> None:
    """Answers of one statement each: claims gives Oslo's two statements more, so that its one vote wins."""
    texts = ("Answer: Rome", "Answer: Rome", "In short. Oslo it is.\nAnswer: Oslo", "In short. Oslo it is.")
    claims = scores("claims", texts, {"scorer": "claims", "cost": 0})
    assert claims == pytest.approx([0.5, 0.5, 1.25, 1.0])
    weighed = {"scorer": "votes", "weigh_by": "claims", "sharpness": 4}
    shares = scores("votes", texts, {"scorer": "claims", "cost": 0, "weight": 0}, weighed)
    rome, oslo, tail = 2 * 2.718281828**-3, 1.0, 2.718281828**-1
    assert shares == pytest.approx([share / (rome + oslo + tail) for share in (rome, rome, oslo, tail)], abs=1e-6)


def test_a_scorer_that_is_not_there_cannot_weigh_votes() -> None:
    for name in ("likelihood", "votes"):
        with pytest.raises(RecipeError, match=f"votes.weigh_by is '{name}', which is no other scorer of the recipe"):
            check_scorers(recipe_with({"scorer": "votes", "weigh_by": name}))


def reply(*logprobs: float) -> str:
    content = [{"token": "t", "logprob": logprob} for logprob in logprobs]
    return json.dumps({"choices": [{"message": {"content": "x"}, "logprobs": {"content": content}}]})


def test_likelihood_is_the_mean_over_the_tokens_of_the_reply_in_the_ledger() -> None:
    ledger = MemoryLedger()
    for key, text in (("key-0", reply(-0.5, -1.5)), ("key-1", reply(-0.25)), ("key-2", reply()), ("key-3", "{}")):
        asyncio.run(ledger.record(Entry(key, "sample", "policy", "main", 200, text, 1, 1, 0.0, 0.0)))
    texts = ("a", "b", "c", "d", "e")
    likelihoods = scores("likelihood", texts, {"scorer": "likelihood"}, ledger=ledger, sampling={"logprobs": True})
    assert likelihoods == [-1.0, -0.25, None, None, None]
    with pytest.raises(RecipeError, match=r"set sampling\.logprobs"):
        scores("likelihood", texts, {"scorer": "likelihood"}, ledger=ledger)


def test_samples_ask_for_log_probabilities_and_a_greedy_answer_does_not() -> None:
    question = question_of(LIST)
    plain, asking = (
        sample_requests(
            question.example,
            question.context,
            recipe_with({"scorer": "claims"}, sampling={"samples": 2, "greedy": True, "logprobs": logprobs}),
        )
        for logprobs in (False, True)
    )
    assert ["logprobs" in request.parameters for request in asking] == [True, True, False]
    assert not any("logprobs" in request.parameters for request in plain)
    assert plain[2].key == asking[2].key
    assert all(isinstance(request, Request) for request in plain)
