"""Which questions models are compared on: none that was trained on, and none without a reference."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli.plan_state import plan_status
from infra.errors import EvaluationError, RecipeError, YieldError
from infra.recipe import Recipe
from infra.running import progress
from infra.store import Store, open_store
from tasks.evaluation.heldout import heldout_questions, is_heldout
from tasks.evaluation.suite_questions import read_suite_questions
from tasks.planning.make_plan import make_plan
from tasks.records.dataset import Split
from tasks.records.plan import load_plan, load_shard
from tests.support.planning import pooled_rows, small_recipe, write_rows
from tests.support.published import fake_plan, fake_recipe

POOLED = {"build": "pooled", "min_tokens": 64, "max_tokens": 128, "step_tokens": 64}


def published(folder: Path) -> tuple[Recipe, Store, str, Split]:
    """A plan, and a manifest that splits it."""
    recipe, store, split = fake_recipe(folder), open_store(str(folder)), Split(3, 0.4)
    plan, _ = fake_plan(store, recipe, questions=20)
    path = "datasets/fake/1/manifest.json"
    store.write(path, json.dumps({"plan_id": plan.plan_id, "split": split.to_json()}).encode())
    return recipe, store, path, split


def with_questions(folder: Path, rows: list[dict[str, Any]], **evaluation: Any) -> Recipe:
    write_rows(folder / "held-out.jsonl", rows)
    questions = {"source": str(folder / "held-out.jsonl")}
    return small_recipe(
        folder, pooled_rows(4), contexts=POOLED, evaluation={"questions": questions, "contexts": POOLED, **evaluation}
    )


def test_without_questions_of_its_own_the_test_side_of_the_dataset_is_asked(folder: Path) -> None:
    recipe, store, manifest, split = published(folder)
    cases = heldout_questions(recipe, store, manifest)
    assert cases
    assert all(split.side(context.context_id) == "test" for _, context in cases)
    assert all(example.context_id == context.context_id for example, context in cases)
    assert all(example.references for example, _ in cases)


def test_every_test_question_with_a_reference_is_asked_pair_or_not(folder: Path) -> None:
    recipe, store, manifest, split = published(folder)
    plan = load_plan(store, json.loads(store.read(manifest))["plan_id"])
    expected: list[str] = []
    for shard in plan.shards:
        for example in load_shard(store, plan, shard.index)[0]:
            if split.side(example.context_id) == "test" and example.references:
                expected.append(example.example_id)
    assert [example.example_id for example, _ in heldout_questions(recipe, store, manifest)] == expected


def test_questions_of_the_recipe_come_before_the_test_side(folder: Path) -> None:
    recipe = with_questions(folder, [{**row, "id": f"held-{number}"} for number, row in enumerate(pooled_rows(5))])
    cases = heldout_questions(recipe, open_store(recipe.store), "datasets/nowhere/manifest.json")
    assert [example.example_id for example, _ in cases] == [f"held-{number}" for number in range(5)]


def test_a_question_that_is_too_long_for_the_window_is_kept(folder: Path) -> None:
    rows = [{"id": "long", "question": "What is it?", "context": "word " * 4000, "answers": ["it"]}]
    recipe = with_questions(folder, rows, contexts={"build": "given"})
    assert recipe.policy.context_window < 4000 * 5
    ((example, context),) = heldout_questions(recipe, open_store(recipe.store), None)
    assert (example.example_id, len(context.text)) == ("long", 20_000)


def test_the_plan_of_held_out_questions_is_told_apart_and_not_shown_as_waiting(folder: Path) -> None:
    recipe = with_questions(folder, pooled_rows(3))
    store = open_store(recipe.store)
    built = make_plan(recipe, store)
    heldout_questions(recipe, store, None)
    plans = {path.split("/")[1] for path in store.list("plans")}
    (other,) = plans - {built.plan_id}
    assert is_heldout(load_plan(store, other))
    assert not is_heldout(built)
    assert [state["plan_id"] for state in plan_status(recipe.store, "")] == [built.plan_id]


def test_with_neither_questions_nor_a_dataset_there_is_nothing_to_ask(folder: Path) -> None:
    recipe = fake_recipe(folder)
    with pytest.raises(EvaluationError, match="or the manifest of a dataset"):
        heldout_questions(recipe, open_store(str(folder)), None)


def rows_to_read(bad: int) -> list[dict[str, Any]]:
    """Ten questions, some of which have no text to be asked about."""
    rows = []
    for number in range(10):
        context = "" if number < bad else f"A text about {number}. "
        rows.append({"id": f"q{number}", "question": f"Q{number}?", "context": context * 30, "answers": ["text"]})
    return rows


def suite_questions(folder: Path, rows: list[dict[str, Any]], **evaluation: Any) -> Any:
    questions = {"source": str(write_rows(folder / "asked.jsonl", rows))}
    recipe = small_recipe(folder, pooled_rows(4), evaluation={"questions": questions, **evaluation})
    return read_suite_questions(recipe, open_store(recipe.store), None)


def test_rows_that_cannot_be_asked_are_counted_and_too_many_stop_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(progress, "say", notes.append)
    ((_, questions),) = suite_questions(folder, rows_to_read(2))
    assert len(questions) == 8
    assert "asked.jsonl: 2 of 10 questions are left out. Most often empty_context (2), as of q0" in notes[0]
    with pytest.raises(YieldError, match=r"3 of 10 questions \(30%\) cannot be asked.*max_drop_share=0.3.*No call"):
        suite_questions(folder, rows_to_read(3))


def test_questions_without_a_reference_are_counted_and_a_file_without_any_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(progress, "say", notes.append)
    rows = rows_to_read(0)
    del rows[4]["answers"]
    suite_questions(folder, rows)
    assert notes[0].startswith("1 of 10 evaluation questions have no reference")
    bare = [{name: value for name, value in row.items() if name != "answers"} for row in rows]
    with pytest.raises(EvaluationError, match=r"asked.jsonl: no question has a reference answer, and the suite qa"):
        suite_questions(folder, bare)


def test_answers_that_fill_the_window_are_an_error_before_a_call(folder: Path) -> None:
    with pytest.raises(RecipeError, match="answers of up to 4,096 tokens leave no room for a prompt"):
        suite_questions(folder, rows_to_read(0), max_tokens=4096)
