"""Evaluation against a stub server: what is asked, what is measured, what is missing."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from infra.canonical import text_id
from infra.errors import EvaluationError, ModelError, RecipeError
from infra.models.client import ModelClient, Outcome, Request
from infra.recipe import Recipe
from tasks.evaluation.evaluate import EvaluationRow, evaluate_model
from tasks.evaluation.heldout import HeldOutQuestion
from tasks.evaluation.suite_questions import as_suite_questions
from tasks.evaluation.suites import find_suite, parse_suites
from tasks.judging.context import ScoringContext
from tasks.records.example import Context, Example
from tests.support.memory_ledger import MemoryLedger
from tests.support.recipes_for_scoring import no_embedder, recipe_with
from tests.support.stub_server import StubServer, running_stub
from tests.support.tokenizer import TEMPLATE_TOKENS, save_byte_tokenizer

EASY = "kappa lambda sigma omega "  # the stub answers with words of the prompt


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_byte_tokenizer(tmp_path_factory.mktemp("bytes"))


def held_out(name: str, text: str, *references: str) -> HeldOutQuestion:
    example = Example(name, f"question {name}?", text_id(text), references, "qa", "en", "{}")
    return example, Context(text_id(text), text, len(text), (), (), ())


def recipe_for(stub: StubServer, tokenizer: str, window: int = 4000, **evaluation: Any) -> Recipe:
    return recipe_with(
        {"scorer": "consensus", "similarity": "rouge_l"},
        policy={"name": "stub", "tokenizer": tokenizer, "endpoints": [stub.url], "context_window": window},
        evaluation={"max_tokens": 100, **evaluation},
    )


def evaluated(
    recipe: Recipe, cases: list[HeldOutQuestion], ledger: MemoryLedger | None = None, **client: Any
) -> list[EvaluationRow]:
    model = ModelClient(recipe.policy.endpoints, None, ledger or MemoryLedger(), backoff_s=0.001, **client)
    questions = [(suite, as_suite_questions(cases)) for suite in parse_suites(recipe)]
    try:
        return evaluate_model(questions, ScoringContext(no_embedder, model, recipe))
    finally:
        model.close()


def test_each_question_is_answered_once_greedily_and_measured(stub: StubServer, tokenizer: str) -> None:
    recipe = recipe_for(stub, tokenizer)
    (first,) = evaluated(recipe, [held_out("a", EASY, "unknown")])
    cases = [held_out("a", EASY, first.answer), held_out("b", EASY, "zzz")]
    ledger = MemoryLedger()
    rows = evaluated(recipe, cases, ledger)
    assert [row.example_id for row in rows] == ["a", "b"]
    assert rows[0].answer == first.answer != ""
    assert rows[0].scores == {"rouge_l": 1.0, "sub_em": 1.0, "token_f1": 1.0}
    assert rows[1].scores == {"rouge_l": 0.0, "sub_em": 0.0, "token_f1": 0.0}
    assert [row.missing for row in rows] == [{}, {}]
    assert {entry.kind for entry in ledger.entries.values()} == {"evaluate"}
    assert len(ledger.entries) == 2


def test_an_answer_that_the_server_refuses_is_missing_and_never_a_number(stub: StubServer, tokenizer: str) -> None:
    stub.options.filter_word = "forbidden"
    rows = evaluated(recipe_for(stub, tokenizer), [held_out("a", EASY, "x"), held_out("b", "forbidden", "x")])
    assert rows[0].answered
    assert not rows[1].answered
    assert set(rows[1].scores.values()) == {None}
    assert rows[1].missing == dict.fromkeys(("rouge_l", "sub_em", "token_f1"), "content_filter")


def test_a_question_without_a_usable_reference_is_missing(stub: StubServer, tokenizer: str) -> None:
    (row,) = evaluated(recipe_for(stub, tokenizer), [held_out("a", EASY, "?!")])
    assert row.answered
    assert row.missing == dict.fromkeys(("rouge_l", "sub_em", "token_f1"), "no_reference")


def test_an_empty_answer_is_an_answer_and_scores_nothing(stub: StubServer, tokenizer: str) -> None:
    stub.options.empty_word = "silence"
    (row,) = evaluated(recipe_for(stub, tokenizer), [held_out("a", "silence", "x")])
    assert row.answered
    assert set(row.scores.values()) == {0.0}


def test_a_passing_fault_stops_the_evaluation(stub: StubServer, tokenizer: str) -> None:
    stub.options.fail_every = 1
    with pytest.raises(ModelError):
        evaluated(recipe_for(stub, tokenizer), [held_out("a", EASY, "x")], attempts=2)


def test_no_answer_at_all_is_an_error(stub: StubServer, tokenizer: str) -> None:
    stub.options.filter_word = "question"
    with pytest.raises(EvaluationError, match=r"stub answered none of 1 questions.*'content_filter'"):
        evaluated(recipe_for(stub, tokenizer), [held_out("a", EASY, "x")])
    with pytest.raises(EvaluationError, match="no question"):
        evaluated(recipe_for(stub, tokenizer), [])


def test_an_overlong_context_loses_its_middle_so_that_the_prompt_fits(
    stub: StubServer, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    complete = ModelClient.complete

    def noted(self: ModelClient, requests: Sequence[Request]) -> list[Outcome]:
        sent.extend(request.prompt.messages[0]["content"] for request in requests)
        return complete(self, requests)

    monkeypatch.setattr(ModelClient, "complete", noted)
    cases = [held_out("a", "begin " + "middle " * 200 + "end", "x"), held_out("b", EASY, "x")]
    rows = evaluated(recipe_for(stub, tokenizer, window=800), cases)
    assert [row.cut for row in rows] == [True, False]
    assert rows[0].prompt_tokens > 1400
    assert len(sent[0].encode()) + TEMPLATE_TOKENS == 700  # the window less max_tokens, to the token
    assert "begin middle" in sent[0]
    assert "middle end" in sent[0]


def test_samples_bring_the_metrics_of_the_consensus_pick(stub: StubServer, tokenizer: str) -> None:
    recipe = recipe_for(stub, tokenizer, samples=5)
    ledger = MemoryLedger()
    cases = [held_out("a", EASY, "x"), held_out("b", EASY, "x")]
    rows = evaluated(recipe, cases, ledger)
    assert sorted(rows[0].scores) == ["mbr_rouge_l", "mbr_sub_em", "mbr_token_f1", "rouge_l", "sub_em", "token_f1"]
    kinds = [entry.kind for entry in ledger.entries.values()]
    assert (kinds.count("evaluate"), kinds.count("evaluate_sample")) == (2, 10)
    before = stub.requests
    assert evaluated(recipe, cases, ledger) == rows
    assert stub.requests == before


def test_the_consensus_pick_is_the_commonest_answer(stub: StubServer, tokenizer: str, monkeypatch: Any) -> None:
    answers = {1: "red fox", 2: "blue dog", 3: "red fox", 4: "red fox ran"}
    drawn = iter([0, 1, 2, 3, 4])
    monkeypatch.setattr(
        "tests.support.stub_server.stub_answer", lambda content, seed: answers.get(next(drawn), "greedy answer")
    )
    recipe = recipe_for(stub, tokenizer, samples=4)
    (row,) = evaluated(recipe, [held_out("a", EASY, "red fox")], concurrency=1)
    assert (row.scores["sub_em"], row.scores["mbr_sub_em"], row.scores["mbr_token_f1"]) == (0.0, 1.0, 1.0)


def test_a_suite_that_there_is_not_is_named() -> None:
    with pytest.raises(RecipeError, match=r"evaluation\.suites: .*'nobody'.*qa"):
        find_suite("nobody")


def test_a_question_is_measured_after_its_last_answer_line_save_for_sub_em() -> None:
    metrics = find_suite("qa").metrics
    example, context = held_out("a", "text", "Paris")
    text = "Plan: not Rome but Paris.\nAnswer: Paris"
    assert {name: metric(text, example, context) for name, metric in metrics.items()} == {
        "sub_em": 1.0,
        "token_f1": 1.0,
        "rouge_l": 1.0,
    }
    wrong = "Plan: Paris or Rome.\nAnswer: Rome"
    assert {name: metric(wrong, example, context) for name, metric in metrics.items()} == {
        "sub_em": 1.0,
        "token_f1": 0.0,
        "rouge_l": 0.0,
    }
