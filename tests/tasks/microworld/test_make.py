"""What must hold of ready contexts: exact in tokens and evidence, right where chosen, wrong where rejected."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from infra.errors import InputError
from infra.store import open_store
from tasks.microworld import rules
from tasks.microworld.answers import FAULTS, INVENTED_FACT, MISSING_ITEM, WRONG_HOP, rejected_answer
from tasks.microworld.make import DatasetSettings, Row, context_rows, people_for, write_contexts
from tasks.microworld.parsing import read_answer, read_fact, read_facts, read_question, sentences
from tasks.microworld.questions import KINDS, LIST, ONE_HOP, THREE_HOP, TWO_HOP, Question, make_questions
from tasks.microworld.tokenizer import TOKENIZER_FILE, count_tokens
from tasks.microworld.words import SPLITS
from tasks.microworld.world import Fact, World, make_world, write_documents
from tasks.planning.make_plan import make_plan
from tasks.planning.passages import render
from tasks.records.example import Document
from tasks.records.plan import load_shard
from tests.support.planning import small_recipe

_TOKENIZER = Tokenizer.from_file(str(TOKENIZER_FILE))
_SMALL = DatasetSettings(32, 900, hops=3, seed=3)


def tokenizer_count(text: str) -> int:
    return len(_TOKENIZER.encode(text, add_special_tokens=False).ids)


def facts_of(row: Row) -> list[Fact]:
    return [Fact(*sentence["fact"]) for sentence in row["evidence"]]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(context_rows(_SMALL))


@given(st.lists(st.sampled_from(["Abrtan", " Abrtan", " 7", "199", " 250", "\n", " ", ".", "é", "xyz ", "🦊"])))
def test_tokens_are_counted_as_the_tokenizer_counts_them(parts: list[str]) -> None:
    assert count_tokens("".join(parts)) == tokenizer_count("".join(parts))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tokens=st.integers(300, 6000),
    hops=st.integers(1, 3),
    split=st.sampled_from([*SPLITS, None]),
)
def test_any_dataset_is_exact_and_proves_its_answers(seed: int, tokens: int, hops: int, split: Any) -> None:
    for row in context_rows(DatasetSettings(4, tokens, hops, seed, split)):
        text = row["context"]
        assert row["tokens"] == tokenizer_count(text)
        assert tokens - 100 < row["tokens"] <= tokens  # the shortest document is shorter than that
        stated = [read_fact(text[sentence["start"] : sentence["end"]]) for sentence in row["evidence"]]
        assert stated == facts_of(row)
        assert set(stated) == set(read_answer(row["chosen"]).facts)
        assert all(answer in text for answer in row["answers"])
        for sentence in row["evidence"]:
            assert text.rfind("Passage ", 0, sentence["start"]) == text.find(f"Passage {sentence['passage']}:")


def test_every_sentence_of_the_context_that_states_a_gold_fact_is_evidence(rows: list[Row]) -> None:
    for row in rows:
        facts = set(facts_of(row))
        assert len(row["evidence"]) == sum(read_fact(sentence) in facts for sentence in sentences(row["context"]))


def test_contexts_have_the_form_in_which_the_factory_shows_documents(rows: list[Row]) -> None:
    for row in rows[:8]:
        passages = [part.split("\n") for part in row["context"].split("\n\n")]
        docs = [Document(heading.partition(": ")[2], text) for heading, text in passages]
        assert render(docs, "en").text == row["context"]


def test_the_evidence_may_stand_anywhere(rows: list[Row]) -> None:
    quarters: list[int] = []
    for row in rows:
        quarters += [int(4 * sentence["start"] / len(row["context"])) for sentence in row["evidence"]]
    assert len(quarters) > 60
    assert min(quarters.count(quarter) for quarter in range(4)) > len(quarters) / 8


def score(row: Row, answer: str) -> float:
    """The score of an answer by the rules: 1 when it is complete and all of it is supported."""
    notes = rules.notes(row["context"], row["question"])
    lines = rules.facts(row["question"], answer).splitlines()
    statements = [line.removeprefix("<statement>").removesuffix("</statement>") for line in lines]
    supported = [rules.support(row["context"], statement) == rules.FULL for statement in statements]
    return (rules.completeness(notes, row["question"], answer) / 10 + sum(supported) / len(supported)) / 2


def test_the_chosen_answer_is_right_by_the_rules_and_the_rejected_is_not(rows: list[Row]) -> None:
    for row in rows:
        assert score(row, row["chosen"]) >= 0.95
        assert score(row, row["rejected"]) <= 0.92
        assert rules.logicality(row["question"], row["rejected"]) == 10  # the form does not give it away


def test_a_rejected_answer_has_its_one_fault(rows: list[Row]) -> None:
    assert {row["fault"] for row in rows} == set(FAULTS)
    for row in rows:
        chosen, rejected = read_answer(row["chosen"]), read_answer(row["rejected"])
        stated = read_facts(row["context"])
        false = [fact for fact in rejected.facts if fact not in stated]
        if row["fault"] == MISSING_ITEM:
            assert (row["kind"], false) == (LIST, [])
            assert set(rejected.final) < set(chosen.final)
            assert 2 * len(rejected.final) >= len(chosen.final)
        else:
            assert len(false) == 1
            assert len(rejected.facts) == len(chosen.facts)
            assert set(rejected.final) != set(chosen.final)
        if row["fault"] == WRONG_HOP:
            assert row["kind"] in (TWO_HOP, THREE_HOP)
            assert false != [rejected.facts[-1]]  # a step on the way
        if row["fault"] == INVENTED_FACT and row["kind"] != LIST:
            assert false == [rejected.facts[-1]]


def test_a_wrong_hop_does_not_come_to_the_right_end() -> None:
    world = make_world(6, 12)
    docs = write_documents(world)
    rng, titles = random.Random(1), {document.title for document in docs}
    faults = set()
    for question in make_questions(world, docs, 1, 100, {TWO_HOP: 0.5, THREE_HOP: 0.5}):
        rejected = rejected_answer(rng, question, world, titles)
        faults.add(rejected.fault)
        assert read_answer(rejected.text).final != question.answers
    assert faults == {WRONG_HOP, INVENTED_FACT}


def test_an_answer_that_cannot_be_wrong_is_refused() -> None:
    world = make_world(1, 4)
    lonely = World("x", {**world.entities, "person": ("Abrtan", "Borlena")}, (Fact("Abrtan", "mentor", "Borlena"),))
    question = Question("Who taught Abrtan?", ("Borlena",), ONE_HOP, lonely.facts, ())
    with pytest.raises(InputError, match="more people"):
        rejected_answer(random.Random(1), question, lonely, ())


def test_the_questions_have_the_kinds_and_the_hops_that_were_asked_for(rows: list[Row]) -> None:
    assert set(Counter(row["kind"] for row in rows)) == set(KINDS)
    for row in rows:
        parsed = read_question(row["question"])
        assert parsed is not None
        assert row["kind"] == (LIST if parsed.is_list else (ONE_HOP, TWO_HOP, THREE_HOP)[len(parsed.hops) - 1])
    fewer = context_rows(DatasetSettings(16, 600, hops=1))
    assert {row["kind"] for row in fewer} == {ONE_HOP, LIST}


def test_a_larger_dataset_begins_with_the_smaller_one_and_a_seed_or_a_split_changes_it(rows: list[Row]) -> None:
    assert list(context_rows(DatasetSettings(20, 900, hops=3, seed=3))) == rows[:20]
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["world"] for row in rows}) == 2
    others = [DatasetSettings(1, 900, hops=3, seed=4), DatasetSettings(1, 900, hops=3, seed=3, split="dev")]
    texts = {next(context_rows(other))["context"] for other in others} | {rows[0]["context"]}
    assert len(texts) == 3


def test_memory_does_not_grow_with_the_dataset() -> None:
    endless = context_rows(DatasetSettings(10**9, 600))
    next(islice(endless, 64, None))
    tracemalloc.start()
    next(islice(endless, 16, None))
    _, few = tracemalloc.get_traced_memory()
    next(islice(endless, 240, None))
    _, many = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert many < few + 300_000


@pytest.mark.parametrize("impossible", [{"questions": 0}, {"hops": 4}, {"hops": 0}, {"people": 6}, {"tokens": 10}])
def test_what_cannot_be_made_is_refused_with_a_remedy(tmp_path: Path, impossible: dict[str, int]) -> None:
    with pytest.raises(InputError, match="ask for"):
        write_contexts(tmp_path, DatasetSettings(**{"questions": 2, "tokens": 4000, **impossible}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_has_names_for_contexts_of_32k_tokens(split: Any) -> None:
    people = people_for(32_000)
    world = make_world(1, people, split)
    assert sum(count_tokens(document.text) for document in write_documents(world)) > 32_000


def test_the_factory_plans_the_dataset_as_it_stands(tmp_path: Path, rows: list[Row]) -> None:
    made = write_contexts(tmp_path, _SMALL)
    written = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert written == rows
    assert (made.questions, made.worlds, made.tokens) == (32, 2, sum(row["tokens"] for row in rows))
    assert (sum(made.kinds.values()), sum(made.faults.values())) == (32, 32)
    recipe = small_recipe(tmp_path, policy={"tokenizer": "microworld"})
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    assert plan.drop_counts == {}
    examples, tokens = {}, {}
    for shard in plan.shards:
        shard_examples, shard_contexts = load_shard(store, plan, shard.index)
        examples |= {example.example_id: example for example in shard_examples}
        tokens |= {context_id: context.tokens for context_id, context in shard_contexts.items()}
    for row in rows:
        example = examples[row["id"]]
        assert example.references == tuple(row["answers"])
        assert (example.question, example.kind) == (row["question"], row["kind"])
        assert tokens[example.context_id] == row["tokens"]
        assert json.loads(example.metadata)["evidence"] == row["evidence"]


@pytest.mark.slow
def test_the_chosen_answer_is_what_the_policy_is_taught() -> None:
    from tasks.microworld.answers import chosen_answer
    from tasks.microworld.policy_lessons import gold_reply

    world = make_world(2, 40)
    for question in make_questions(world, write_documents(world), 1, 60):
        assert chosen_answer(question) == gold_reply(question, "plan_and_solve")
