"""What a plan says of the evaluation is what the evaluation then asks of its servers."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flows.cli.views import plan_view
from flows.evaluate import evaluation_rows, policy_rows
from infra.canonical import text_id
from infra.ledger import Ledger
from infra.models.tokens import load_tokenizer, prompt_tokens
from infra.recipe import Recipe
from infra.store import open_store
from tasks.evaluation.preparing import prepare
from tasks.evaluation.suite_questions import read_suite_questions
from tasks.planning.evaluation_share import EvaluationShare, evaluation_share
from tasks.planning.expected import Range
from tasks.planning.make_plan import make_plan
from tasks.planning.sizing import GpuSpeed
from tasks.reporting.tables import plan_rows
from tests.support.judge_replies import running_judge
from tests.support.planning import small_recipe, write_rows
from tests.support.stub_server import StubServer, running_stub

QUESTIONS = 4
REPLIES = 5  # that a judge is asked for at most, by default
PRICE = {"input_per_million": 1000.0, "output_per_million": 2000.0, "currency": "EUR"}
NEEDLE = {"name": "needle", "lengths": [1500, 2000], "depths": [0, 1], "texts": 1, "samples": 2}


@pytest.fixture
def servers() -> Iterator[tuple[StubServer, StubServer, Any]]:
    """The policy, the trained model and the judge."""
    with ExitStack() as stack:
        policy = stack.enter_context(running_stub())
        trained = stack.enter_context(running_judge(_another_answer, model="trained"))
        yield policy, trained, stack.enter_context(running_judge(_word))


def _word(body: dict[str, Any]) -> str:
    return "[[A]]" if "[[A]]" in str(body["messages"]) else "[[2]]"


def _another_answer(body: dict[str, Any]) -> str:
    return f"trained {text_id(str(body['messages']))[:8]} {body['seed']}"


def recipe_for(folder: Path, servers: tuple[StubServer, StubServer, Any], *suites: Any, **sections: Any) -> Recipe:
    rows = []
    for number in range(QUESTIONS):
        context = f"kappa lambda sigma omega {number} " * 20
        references = ["kappa", "lambda", "lambda"][: 1 + number]
        rows.append({"id": f"q{number}", "question": f"Q{number}?", "context": context, "answers": references})
    source = {"source": str(write_rows(folder / "held-out.jsonl", rows)), "format": "native"}
    judge = {"name": "stub", "tokenizer": "microworld", "endpoints": [servers[2].url], "structured": "never"}
    kinds = [{**row, "kind": "hotpotqa", "context": f"Another {row['context']}"} for row in rows]
    longbench = {"source": str(write_rows(folder / "longbench.jsonl", kinds)), "format": "native"}
    named = {"longbench": {"name": "longbench", "questions": longbench}}
    return small_recipe(
        folder,
        [{**row, "id": f"train {row['id']}", "context": f"Other {row['context']}"} for row in rows],
        policy={"endpoints": [servers[0].url]},
        scoring={"scorers": [{"scorer": "consensus", "similarity": "rouge_l"}]},
        judge={**judge, "price": PRICE},
        evaluation={"questions": source, "suites": [named.get(str(suite), suite) for suite in suites], "resamples": 20},
        **sections,
    )


def share_of(recipe: Recipe) -> EvaluationShare:
    store = open_store(recipe.store)
    with Ledger(store) as ledger:
        share = evaluation_share(make_plan(recipe, store), recipe, store, ledger)
    assert share is not None
    return share


def evaluated(recipe: Recipe, servers: tuple[StubServer, StubServer, Any]) -> None:
    trained = {"name": "trained", "revision": "1", "kind": "endpoint", "endpoint": servers[1].url}
    evaluation_rows(read_suite_questions(recipe, open_store(recipe.store), None), recipe, trained)


@pytest.mark.medium
def test_answers_and_judgements_are_those_that_an_evaluation_asks_for(folder: Path, servers: Any) -> None:
    recipe = recipe_for(folder, servers, NEEDLE, "qa", "longbench", "longbench_chat", "judged_pairs")
    share = share_of(recipe)
    assert [server.requests for server in servers] == [0, 0, 0]
    evaluated(recipe, servers)
    answers = [of_suite.answers for of_suite in share.suites.values()]
    # needle: 2 lengths at 2 depths, one greedy answer and two samples; of the others one answer a question
    assert [part.calls.total for part in answers] == [2 * 2 * 2 * 3, *[2 * QUESTIONS] * 4]
    # judged_pairs asks as qa does: these answers are there already
    assert [part.calls.to_make for part in answers] == [24, 8, 8, 8, 0]
    assert servers[0].requests + servers[1].requests == sum(part.calls.to_make for part in answers)
    judged: Counter[str] = Counter()
    for of_suite in share.suites.values():
        judged.update({kind: part.calls.to_make for kind, part in of_suite.judgements.items()})
    # Equal references are graded once; the first model's answers are no pairs.
    assert judged == {
        "evaluate_rate_answer": 2 * (1 + 2 + 2 + 2),
        "evaluate_rate_by_examples": 2 * QUESTIONS,
        "evaluate_pairwise": 2 * QUESTIONS,
    }
    assert servers[2].requests == judged.total()


def test_input_tokens_are_exact_and_money_follows_from_the_prices(folder: Path, servers: Any) -> None:
    recipe = recipe_for(folder, servers, "longbench")
    share = share_of(recipe)
    evaluated(recipe, servers)
    part = share.suites["longbench"].answers
    tokenizer, tokens = load_tokenizer(recipe.policy.tokenizer), 0
    ((suite, questions),) = read_suite_questions(recipe, open_store(recipe.store), None)
    for question in questions:
        form = prepare(question, suite, recipe, tokenizer).forms[0]
        tokens += prompt_tokens(tokenizer, [form.requests[0].prompt.messages])[0]
    assert part.input_tokens == 2 * tokens
    assert part.output_tokens == Range(2 * QUESTIONS * 4.0, 2 * QUESTIONS * 16.0, 2 * QUESTIONS * 32.0)  # hotpotqa
    assert part.cost.high == pytest.approx((2.0 * part.input_tokens + 8.0 * part.output_tokens.high) / 1e6)
    judging = share.suites["longbench"].judgements["evaluate_rate_answer"]
    assert judging.cost.high == pytest.approx((1000 * judging.input_tokens + 2000 * judging.output_tokens.high) / 1e6)
    again = share_of(recipe).suites["longbench"].answers  # the policy's answers are in the ledger now
    assert (again.calls.in_ledger, again.calls.to_make) == (QUESTIONS, QUESTIONS)
    assert again.input_tokens == tokens


@pytest.mark.medium
def test_what_the_ledger_has_is_subtracted_and_its_answers_are_judged_as_they_are(folder: Path, servers: Any) -> None:
    cited = "<statement>Kappa.<cite>[0-0]</cite></statement>"
    suites = "longbench", {"name": "citations", "max_tokens": 80}
    with running_judge(lambda body: cited) as policy:
        recipe = recipe_for(folder, (policy, *servers[1:]), *suites)
        alone = recipe.model_copy(update={"training": None})
        policy_rows(read_suite_questions(recipe, open_store(recipe.store), None), alone, None, in_tasks=False)
    requests = servers[2].requests
    share = share_of(alone)
    for of_suite in share.suites.values():
        for part in (of_suite.answers, *of_suite.judgements.values()):
            assert part.calls.in_ledger >= QUESTIONS and part.calls.to_make == 0
            assert (part.input_tokens, part.read_tokens, part.cost.high) == (0, 0, 0.0)
    # one statement with one citation in each answer; a judge's "[[2]]" is no support, and so it was asked again
    judgements = share.suites["citations"].judgements
    assert {kind: part.calls.total for kind, part in judgements.items()} == {
        "evaluate_cite_relevance": QUESTIONS * REPLIES,
        "evaluate_cite_support": QUESTIONS * REPLIES,
    }
    grades = share.suites["longbench"].judgements["evaluate_rate_answer"].calls
    assert requests == grades.in_ledger + 2 * QUESTIONS * REPLIES
    # the trained model's answers are to come
    both = share_of(recipe).suites["longbench"].judgements["evaluate_rate_answer"].calls
    assert (both.in_ledger, both.to_make) == (grades.in_ledger, grades.in_ledger)
    assert servers[2].requests == requests


def test_gpu_hours_are_those_of_the_speeds_and_a_question_s_samples_share_its_prompt(
    folder: Path, servers: Any
) -> None:
    recipe = recipe_for(folder, servers, {"name": "longbench_chat", "samples": 3})
    view = share_of(recipe).to_json(GpuSpeed(100, 10), GpuSpeed(1000, 100))
    of_suite = view["suites"]["longbench_chat"]
    answers, (judgements,) = of_suite["answers"]["tokens"], of_suite["judgements"].values()
    hours = (answers["input"] / 4 / 100 + answers["output"]["expected"] / 10) / 3600
    judged = judgements["tokens"]
    judging = (judged["input"] / 1000 + judged["output"]["expected"] / 100) / 3600
    assert view["gpu_hours"] == {"policy": round(hours, 2), "judge": round(judging, 2)}
    assert view["gpu_hours"]["policy"] > 0


def test_citations_are_expected_and_a_recipe_that_does_not_train_asks_one_model(folder: Path, servers: Any) -> None:
    recipe = recipe_for(folder, servers, {"name": "citations", "max_tokens": 80}).model_copy(update={"training": None})
    share = share_of(recipe)
    assert share.models == ("base",)
    of_suite = share.suites["citations"]
    assert of_suite.expected
    # 40 tokens of an answer are one statement with one citation
    assert {kind: part.calls.total for kind, part in of_suite.judgements.items()} == {
        "evaluate_cite_relevance": QUESTIONS,
        "evaluate_cite_support": QUESTIONS,
    }


def test_the_plan_shows_the_price_of_the_whole_night(folder: Path, servers: Any) -> None:
    view = plan_view(recipe_for(folder, servers, "longbench_chat"))
    rows = dict(plan_rows(view)[1])
    words = rows["evaluation: longbench_chat"]
    assert words.startswith("4 questions, 2 models: 8 answers (0 in the ledger), at most 8 judgements; about ")
    whole = view["cost"]["expected"] + view["evaluation"]["cost"]["expected"]
    assert rows["cost with evaluation"].endswith(f"EUR, about {whole:.2f}")
    assert whole > view["cost"]["expected"]
    hours = view["sizing"]["gpu_hours"]["policy"] + view["evaluation"]["gpu_hours"]["policy"]
    assert rows["GPU hours with evaluation"].startswith(f"about policy {hours:.2f}")


def test_without_a_question_to_evaluate_on_the_plan_warns_and_without_evaluation_it_is_silent(folder: Path) -> None:
    rows = [{"id": "a", "question": "Q?", "context": "A context.", "answers": ["b"]}]
    recipe = small_recipe(folder, rows, dataset={"test_fraction": 0.0})
    view = plan_view(recipe)
    assert view["evaluation"] is None
    assert any("cannot evaluate: there is no held-out question" in note for note in view["warnings"])
    view = plan_view(recipe.model_copy(update={"evaluation": None}))
    assert view["evaluation"] is None
    assert not any("cannot evaluate" in note for note in view["warnings"])
