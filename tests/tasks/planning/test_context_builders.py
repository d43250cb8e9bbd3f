"""The builders of contexts beside given and pooled: what stands in a context, in which order, within which length."""

import json
from dataclasses import replace
from typing import Any

import pytest

from infra.errors import RecipeError
from infra.models.tokens import load_tokenizer
from infra.recipe import Recipe
from infra.store import open_store
from tasks.contexts import BuiltQuestion, build_batch, context_builders, gather_pool_for, pool_sizes
from tasks.contexts.keychain import METADATA
from tasks.planning.limits import prompt_limits
from tasks.planning.make_plan import make_plan
from tasks.questions import read_questions
from tasks.records.example import Drop
from tests.support.planning import build_examples, pooled_rows, small_recipe, write_rows

LENGTHS = {"min_tokens": 900, "max_tokens": 1024, "step_tokens": 128}


def built_by(recipe: Recipe) -> list[BuiltQuestion]:
    outcomes = list(build_examples(recipe, load_tokenizer(recipe.policy.tokenizer)))
    assert not [outcome for outcome in outcomes if isinstance(outcome, Drop)]
    return [outcome for outcome in outcomes if isinstance(outcome, BuiltQuestion)]


def document_rows(numbers: range) -> list[dict[str, Any]]:
    rows = []
    for number in numbers:
        sentence = "The council of the town met again and heard what the bridge would cost."
        rows.append({"title": f"Chapter {number}", "text": f"Chapter {number}. {sentence} It was meeting {number}."})
    return rows


def test_every_builder_is_listed_and_another_is_an_error(tmp_path) -> None:
    assert set(context_builders()) == {"document", "given", "history", "keychain", "pooled"}
    recipe = small_recipe(tmp_path, pooled_rows(1), contexts={"build": "nothing"})
    with pytest.raises(RecipeError, match="there is no 'nothing'; there are: document, given"):
        make_plan(recipe, open_store(recipe.store))
    recipe = small_recipe(tmp_path, pooled_rows(1), contexts={"build": "pooled", "options": {"links": 3}})
    with pytest.raises(RecipeError, match=r"contexts.options.links: pooled has no such option"):
        make_plan(recipe, open_store(recipe.store))


def test_a_whole_document_stands_between_its_neighbours_in_the_order_of_the_source(tmp_path) -> None:
    chapters = document_rows(range(40))
    write_rows(tmp_path / "chapters.jsonl", chapters)
    rows = [{"id": f"q{n}", "question": "What?", "documents": [chapters[n]]} for n in (0, 17, 39)]
    contexts = {"build": "document", "pool": str(tmp_path / "chapters.jsonl"), "passages": "titled", **LENGTHS}
    for built, own in zip(built_by(small_recipe(tmp_path, rows, contexts=contexts)), (0, 17, 39), strict=True):
        numbers = [int(title.removeprefix("Chapter ")) for title in built.context.span_titles]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert own in numbers
        assert abs((own - numbers[0]) - (numbers[-1] - own)) <= 1 or own in (0, 39)
        assert 700 < built.context.tokens <= 1024


def test_neighbours_come_from_the_recipes_documents(tmp_path) -> None:
    (tmp_path / "book").mkdir()
    chapters = document_rows(range(12))
    for number, chapter in enumerate(chapters):
        (tmp_path / "book" / f"{number:02}.txt").write_text(chapter["text"])
    rows = [{"id": "q", "question": "What?", "documents": [chapters[5]]}]
    documents = {"source": str(tmp_path / "book"), "min_characters": 10, "near_duplicates": None}
    recipe = small_recipe(tmp_path, rows, contexts={"build": "document", **LENGTHS}, documents=documents)
    [built] = built_by(recipe)
    assert built.context.span_titles == ("02", "03", "04", "Chapter 5", "06", "07", "08", "09")


def follow(text: str, key: str) -> str:
    """The question at the end of the chain."""
    values: dict[str, str] = {}
    for line in text.split("\n"):
        if line.startswith('{"'):
            values.update(json.loads(line))
    while key in values:
        key = values[key]
    return key


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_chain_leads_to_the_question_and_decoys_to_others(tmp_path, language) -> None:
    rows = pooled_rows(12)
    for row in rows:
        row["language"] = language
    options = {"links": 3, "decoys": 2}
    contexts = {"build": "keychain", "options": options, **LENGTHS, "max_tokens": 2048}
    recipe = small_recipe(tmp_path, rows, contexts=contexts)
    for built, row in zip(built_by(recipe), rows, strict=True):
        keys = [word.strip(",，") for word in built.example.question.replace("键", " ").split() if word.count("-") == 4]
        assert len(keys) == 1
        assert follow(built.context.text, keys[0]) == row["question"]
        assert json.loads(built.example.metadata)[METADATA] == row["question"]
        assert row["question"] not in built.example.question
        assert row["documents"][0]["text"].strip() in built.context.text
        lines = [line for line in built.context.text.split("\n") if line.startswith('{"')]
        assert len(lines) == 3 * (1 + 2)
        ends = {follow(built.context.text, next(iter(json.loads(line)))) for line in lines}
        assert len(ends) == 3
        assert built.context.tokens <= 2048
        assert list(built.example.references) == row["answers"]


@pytest.mark.parametrize("build", ["document", "keychain"])
def test_a_context_depends_on_the_question_alone(tmp_path, build) -> None:
    recipe = small_recipe(tmp_path, pooled_rows(12), contexts={"build": build, **LENGTHS, "max_tokens": 2048})
    tokenizer = load_tokenizer(recipe.policy.tokenizer)
    pool = gather_pool_for(recipe, recipe.questions)
    pool = replace(pool, tokens=pool_sizes(pool.documents, recipe, tokenizer))
    questions = [question for question in read_questions(recipe.questions, "pooled") if not isinstance(question, Drop)]
    limits = prompt_limits(recipe, tokenizer)
    together = build_batch(questions, recipe, tokenizer, pool, limits)
    alone = [build_batch([question], recipe, tokenizer, pool, limits)[0] for question in questions]
    assert together == alone


@pytest.mark.medium
def test_any_number_of_processes_gives_the_same_keychains(tmp_path, monkeypatch) -> None:
    from tasks.planning import building

    monkeypatch.setattr(building, "SMALL_CHARACTERS", 0)
    monkeypatch.setattr(building, "_BATCH_QUESTIONS", 3)
    contexts = {"build": "keychain", **LENGTHS, "max_tokens": 2048}
    outcomes = []
    for processes in (1, 2):
        execution = {"planning_processes": processes}
        outcomes.append(built_by(small_recipe(tmp_path, pooled_rows(12), contexts=contexts, execution=execution)))
    assert outcomes[0] == outcomes[1]
