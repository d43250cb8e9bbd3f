"""Some samples see the parts that hold the answer alone; pairs have both prompts, and the plan counts both."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import RecipeError
from infra.models.tokens import load_tokenizer, prompt_tokens
from infra.recipe import Recipe
from infra.store import open_store
from tasks.evaluation.heldout import heldout_questions
from tasks.pairing import pair_example
from tasks.planning.make_plan import make_plan
from tasks.planning.wire import outcomes_from_json, outcomes_to_json
from tasks.published_rows import evidence_rows, further_columns, pair_rows
from tasks.records.dataset import PAIRS, ShardData, Split, published_schema
from tasks.records.plan import Plan, load_plan, load_shard
from tests.support.drawing import InMemoryPolicy, drawn
from tests.support.planning import pooled_rows, small_recipe, write_rows

POOLED = {"build": "pooled", "min_tokens": 600, "max_tokens": 900, "step_tokens": 100}


def evidence_recipe(folder: Path, rows: list[dict[str, Any]], **sections: dict[str, Any]) -> Recipe:
    sampling = {"context": "evidence", "samples": 4, **sections.pop("sampling", {})}
    contexts = sections.pop("contexts", POOLED)
    pairing = {"rule": "short_over_full"}
    return small_recipe(folder, rows, sampling=sampling, contexts=contexts, pairing=pairing, **sections)


def test_half_of_the_samples_see_the_supporting_documents_alone(tmp_path: Path) -> None:
    recipe = evidence_recipe(tmp_path, pooled_rows(6), sampling={"greedy": True})
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    policy = InMemoryPolicy(lambda request: request.prompt.messages[-1]["content"])
    examples, contexts, answers = drawn(store, plan, recipe, policy)
    assert len(policy.rounds) == 1
    for example in examples:
        of_example = [answer for answer in answers if answer.example_id == example.example_id]
        assert [answer.sample_index for answer in of_example] == [0, 1, 2, 3, -1]
        assert [answer.seen for answer in of_example] == [None, "evidence", None, "evidence", None]
        number = example.example_id.removeprefix("q")
        for answer in of_example:
            assert f"Fact {number}:" in answer.text
            assert answer.text.count("Fact ") == (1 if answer.seen else len(contexts[example.context_id].span_starts))
    tokens = [
        prompt_tokens(load_tokenizer(recipe.policy.tokenizer), [request.prompt.messages], ())[0]
        for request in policy.rounds[0]
        if request.kind == "sample"
    ]
    assert plan.shards[0].sample_tokens == sum(tokens)
    assert plan.shards[0].sample_tokens < 4 * plan.shards[0].prompt_tokens
    assert load_plan(store, plan.plan_id) == plan


def test_more_samples_leave_the_first_as_they_are(tmp_path: Path) -> None:
    keys: list[list[str]] = []
    for samples in (4, 7):
        recipe = evidence_recipe(tmp_path, pooled_rows(4), sampling={"samples": samples})
        store = open_store(recipe.store)
        policy = InMemoryPolicy(lambda request: "x")
        drawn(store, make_plan(recipe, store), recipe, policy)
        keys.append([request.key for request in policy.rounds[0] if request.sample_index < 4])
    assert keys[0] == keys[1]


def test_a_pair_is_published_with_the_whole_prompt_and_the_short_one_beside_it(tmp_path: Path) -> None:
    recipe = evidence_recipe(tmp_path, pooled_rows(6))
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    policy = InMemoryPolicy(lambda request: f"{request.sample_index} of {len(request.prompt.encoded)}")
    examples, contexts, answers = drawn(store, plan, recipe, policy)
    pairs: list[Any] = []
    for example in examples:
        of_example = [answer for answer in answers if answer.example_id == example.example_id]
        outcome = pair_example(example, of_example, {}, recipe.pairing, recipe.seed)
        assert isinstance(outcome, list)
        pairs += outcome
    shard = ShardData(examples, contexts, answers, [], pairs, [], {})
    rows = pair_rows(shard, recipe, plan.plan_id, Split(0, 0.0), plan.special_tokens)["train"]
    assert len(rows) == len(examples)
    for row, example in zip(rows, examples, strict=True):
        assert (row["chosen_index"] % 2, row["rejected_index"] % 2) == (1, 0)
        short = row["short_prompt"]
        assert short is not None
        assert row["prompt"][0]["content"].count("Fact ") > short[0]["content"].count("Fact ") == 1
        assert row["prompt_tokens"] == example.whole_prompt_tokens
    columns = further_columns(recipe, plan)
    assert "short_prompt" in published_schema(PAIRS, False, columns).names
    seen = {row["seen"] for row in evidence_rows(shard, plan.plan_id, Split(0, 0.0))["train"]}
    assert seen == {None, "evidence"}


LINES = [f"line {number} says nothing of it." for number in range(120)]
PROOF = "The key is under the third stone."


def long_row(**changes: Any) -> dict[str, Any]:
    text = "\n".join([*LINES[:60], PROOF, *LINES[60:]])
    proof = {"document": 0, "start": 0, "end": 1, "sentence": PROOF}
    return {"id": "a", "question": "Where?", "context": text, "evidence": [proof], "answers": ["stone"], **changes}


def plan_of(folder: Path, rows: list[dict[str, Any]], **sections: dict[str, Any]) -> tuple[Plan, Any, Recipe]:
    recipe = evidence_recipe(folder, rows, contexts={"build": "given"}, **sections)
    store = open_store(recipe.store)
    return make_plan(recipe, store), store, recipe


@pytest.mark.parametrize("proof", [[PROOF], [{"sentence": PROOF}]])
def test_a_long_document_is_cut_to_whole_lines_around_its_proof(tmp_path: Path, proof: list[Any]) -> None:
    sampling = {"options": {"document_tokens": 300}}
    plan, store, recipe = plan_of(tmp_path, [long_row(evidence=proof)], sampling=sampling)
    policy = InMemoryPolicy(lambda request: request.prompt.messages[-1]["content"])
    _, _, answers = drawn(store, plan, recipe, policy)
    short = next(answer.text for answer in answers if answer.seen)
    assert PROOF in short
    own_lines = [line for line in short.splitlines() if line.startswith("line ")]
    assert set(own_lines) <= set(LINES)  # none is cut within
    assert 4 <= len(own_lines) <= 10


@pytest.mark.parametrize(
    "change", [{"evidence": []}, {"evidence": ["not in the text"]}, {"context": PROOF, "evidence": [PROOF]}]
)
def test_a_question_without_a_shorter_part_is_a_drop_of_the_plan(tmp_path: Path, change: dict[str, Any]) -> None:
    plan, _, _ = plan_of(tmp_path, [long_row(), long_row(id="b", **change)])
    assert plan.drop_counts == {"no_evidence": 1}
    assert plan.shards[0].questions == 1


def test_of_a_history_the_evidence_is_turns(tmp_path: Path) -> None:
    turns = []
    for number in range(8):
        turns.append({"role": "user", "content": f"Question {number}?"})
        turns.append({"role": "assistant", "content": f"Answer {number}."})
    row = {"id": "h", "question": "What was answer 5?", "messages": turns, "evidence": ["Answer 5."]}
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    recipe = evidence_recipe(tmp_path, [row], contexts={"build": "history"}, questions={"format": "messages"})
    store = open_store(recipe.store)
    policy = InMemoryPolicy(lambda request: json.dumps(request.prompt.messages))
    _, _, answers = drawn(store, make_plan(recipe, store), recipe, policy)
    short = json.loads(next(answer.text for answer in answers if answer.seen))
    assert [message["role"] for message in short] == ["user", "assistant", "user"]
    assert [message["content"] for message in short[:2]] == ["Question 5?", "Answer 5."]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"sampling": {"samples": 1}}, "some must, and some not"),
        ({"sampling": {"options": {"shares": 0.5}}}, "evidence has no such option"),
        ({"sampling": {"context": "half"}}, "there is no 'half'; there are: "),
        ({"sampling": {"context": "full"}}, "pairing.rule: short_over_full takes answers over the evidence alone"),
        ({"contexts": {**POOLED, "build": "keychain"}}, "does not go with contexts.build: keychain"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_anything_is_read(
    tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    recipe = evidence_recipe(tmp_path, pooled_rows(2), **sections)
    with pytest.raises(RecipeError) as caught:
        make_plan(recipe, open_store(recipe.store))
    assert message in str(caught.value)


def test_the_loss_longpo_takes_evidence(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, pooled_rows(2), contexts=POOLED, training={"loss": "longpo"})
    with pytest.raises(RecipeError, match=r"training\.loss: longpo takes answers over the evidence alone"):
        make_plan(recipe, open_store(recipe.store))


def test_held_out_questions_are_seen_whole_and_none_is_dropped_for_want_of_evidence(tmp_path: Path) -> None:
    recipe = evidence_recipe(tmp_path, pooled_rows(2), evaluation={"contexts": {"build": "given"}})
    plain = [{"id": "e", "question": "Where?", "context": "It is in Oslo.", "answers": ["Oslo"]}]
    source = str(write_rows(tmp_path / "held-out.jsonl", plain))
    evaluation = recipe.evaluation
    assert evaluation is not None
    questions = recipe.questions.model_copy(update={"source": source})
    recipe = recipe.model_copy(update={"evaluation": evaluation.model_copy(update={"questions": questions})})
    ((example, context),) = heldout_questions(recipe, open_store(recipe.store), None)
    assert (example.example_id, context.text) == ("e", "It is in Oslo.")


def test_what_workers_build_comes_back_whole(tmp_path: Path) -> None:
    from tests.support.planning import build_examples

    recipe = evidence_recipe(tmp_path, pooled_rows(3))
    built = list(build_examples(recipe, load_tokenizer(recipe.policy.tokenizer)))
    assert outcomes_from_json(json.loads(json.dumps(outcomes_to_json(built)))) == built
    plan = make_plan(recipe, open_store(recipe.store))
    examples, _ = load_shard(open_store(recipe.store), plan, 0)
    assert examples == [outcome.example for outcome in built]  # type: ignore[union-attr]
