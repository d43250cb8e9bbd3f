"""Every case of a reply: as an answer, as a judge's rating, and in the ledger."""

import json
import time

import pytest

from infra.ledger import Entry
from infra.models.client import Failure, Reply
from infra.models.protocol import parse_reply
from infra.recipe import Pairing
from tasks.judging.asking import ask_judge
from tasks.pairing import pair_example
from tasks.records.example import Drop, Example
from tasks.refused_answers import is_refused, refusal_words, with_words
from tasks.sampling import answer_from
from tests.providers.reply_cases import REFUSAL, REPLIES, ReplyCase, reply
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import requests
from tests.support.scripted_judge import ScriptedJudge, judged_recipe, scoring_with
from tests.tasks.judging.test_asking import ask

EXAMPLE = Example("e", "Why?", "c", (), "", "en", "{}")


def entry(key: str, status: int, raw: str) -> Entry:
    return Entry(key, "sample", "m", "main", status, raw, 0, 0, 0.1, time.time())


def outcome_of(case: ReplyCase) -> Reply:
    outcome = parse_reply(entry("ab" * 32, 200, case.raw))
    assert isinstance(outcome, Reply)
    return outcome


@pytest.mark.parametrize("case", REPLIES, ids=lambda case: case.name)
def test_a_reply_is_an_answer_or_an_outcome_with_a_name(case: ReplyCase) -> None:
    outcome = outcome_of(case)
    (request,) = requests(1, 1)
    answer = answer_from("e", request, outcome, "default")
    assert (answer.finish_reason, answer.text) == (case.ending, case.text)
    assert (answer.prompt_tokens, answer.completion_tokens) == case.tokens
    assert (outcome.thinking, outcome.special_tokens) == (case.thinking, case.cut)


@pytest.mark.parametrize("case", REPLIES, ids=lambda case: case.name)
def test_only_a_finished_reply_is_a_rating(case: ReplyCase) -> None:
    outcome = outcome_of(case)
    judge = ScriptedJudge(lambda request: (outcome.text, outcome.finish_reason))
    verdict = ask_judge([ask()], scoring_with(judge, judged_recipe()))[0]
    if "[[7]]" in case.text:
        assert verdict.value == 7
    else:
        assert verdict.value is None
        assert verdict.reason == (case.ending if case.ending not in ("stop", "length") else "empty")


def test_a_question_with_fragments_alone_is_a_drop_with_the_words_of_the_server() -> None:
    bodies = [reply(None, "stop", refusal=REFUSAL)] * 2
    ledger, answers = MemoryLedger(), []
    for request, body in zip(requests(1, 2), bodies, strict=True):
        recorded = entry(request.key, 200, json.dumps(body))
        ledger.entries[request.key] = recorded
        answers.append(answer_from("e", request, parse_reply(recorded), "default"))
    words = refusal_words(answers, ledger)
    drop = pair_example(EXAMPLE, answers, {}, Pairing(), 1, words=words)
    assert drop == Drop("e", "sample", "refused", f"refused: 2; “{REFUSAL}”")
    (judgement,) = with_words([answers[0].judged("consensus", None, "refused", {"samples": 0})], words)
    assert json.loads(judgement.evidence) == {"samples": 0, "refusal": REFUSAL}


def test_the_words_of_a_refused_prompt_are_short_and_have_no_key() -> None:
    (request,) = requests(1, 1)
    ledger = MemoryLedger()
    message = "prompt is too long for sk-secret1234567890: " + "x" * 900
    ledger.entries[request.key] = entry(request.key, 400, json.dumps({"error": {"message": message}}))
    outcome = parse_reply(ledger.entries[request.key])
    assert isinstance(outcome, Failure)
    answer = answer_from("e", request, outcome, "default")
    assert is_refused(answer)
    (words,) = refusal_words([answer], ledger).values()
    assert len(words) <= 300
    assert "secret" not in words
