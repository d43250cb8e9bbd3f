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
from tasks.microworld.counting import TOKENIZER, count_tokens
from tasks.microworld.make import Row, Wanted, contexts, people_for, write_contexts
from tasks.microworld.parsing import read_answer, read_fact, read_question, sentences
from tasks.microworld.preferences import FAULTS, INVENTED_FACT, MISSING_ITEM, WRONG_HOP, rejected_answer
from tasks.microworld.questions import KINDS, LIST, ONE_HOP, THREE_HOP, TWO_HOP, Question, make_questions
from tasks.microworld.words import SPLITS
from tasks.microworld.world import Fact, World, documents, make_world
from tasks.planning.make_plan import make_plan
from tasks.planning.passages import render
from tasks.records.example import Document
from tasks.records.plan import load_shard
from tests.support.planning import small_recipe

_REAL = Tokenizer.from_file(str(TOKENIZER))
_SMALL = Wanted(32, 900, hops=3, seed=3)


def real_count(text: str) -> int:
    return len(_REAL.encode(text, add_special_tokens=False).ids)


def facts_of(row: Row) -> list[Fact]:
    return [Fact(*each["fact"]) for each in row["evidence"]]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(contexts(_SMALL))


@given(st.lists(st.sampled_from(["Abrtan", " Abrtan", " 7", "199", " 250", "\n", " ", ".", "é", "xyz ", "🦊"])))
def test_tokens_are_counted_as_the_tokenizer_counts_them(parts: list[str]) -> None:
    assert count_tokens("".join(parts)) == real_count("".join(parts))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tokens=st.integers(300, 6000),
    hops=st.integers(1, 3),
    split=st.sampled_from([*SPLITS, None]),
)
def test_any_dataset_is_exact_and_proves_its_answers(seed: int, tokens: int, hops: int, split: Any) -> None:
    wanted = Wanted(4, tokens, hops, seed, split)
    for row in contexts(wanted):
        text = row["context"]
        assert row["tokens"] == real_count(text)
        assert tokens - 100 < row["tokens"] <= tokens  # the shortest document is shorter than that
        stated = [read_fact(text[each["start"] : each["end"]]) for each in row["evidence"]]
        assert stated == facts_of(row)
        assert set(stated) == set(read_answer(row["chosen"]).facts)
        assert all(answer in text for answer in row["answers"])
        for each in row["evidence"]:
            assert text.rfind("Passage ", 0, each["start"]) == text.find(f"Passage {each['passage']}:")


def test_every_sentence_of_the_context_that_states_a_gold_fact_is_evidence(rows: list[Row]) -> None:
    for row in rows:
        facts = set(facts_of(row))
        said = [each for line in row["context"].splitlines() for each in sentences(line)]
        assert len(row["evidence"]) == sum(read_fact(sentence) in facts for sentence in said)


def test_contexts_have_the_form_in_which_the_factory_shows_documents(rows: list[Row]) -> None:
    for row in rows[:8]:
        passages = [part.split("\n") for part in row["context"].split("\n\n")]
        documents = [Document(head.partition(": ")[2], text) for head, text in passages]
        assert render(documents, "en").text == row["context"]


def test_the_evidence_may_stand_anywhere(rows: list[Row]) -> None:
    places = [each["start"] / len(row["context"]) for row in rows for each in row["evidence"]]
    quarters = Counter(int(4 * place) for place in places)
    assert len(places) > 60
    assert min(quarters[each] for each in range(4)) > len(places) / 8


def worth(row: Row, answer: str) -> float:
    """What the rules say of an answer: 1 when it is complete and all of it is supported."""
    notes = rules.notes(row["context"], row["question"])
    claims = rules.facts(row["question"], answer).splitlines()
    plain = [claim.removeprefix("<statement>").removesuffix("</statement>") for claim in claims]
    supported = sum(rules.support(row["context"], claim) == rules.FULL for claim in plain) / len(plain)
    return (rules.completeness(notes, row["question"], answer) / 10 + supported) / 2


def test_the_chosen_answer_is_right_by_the_rules_and_the_rejected_is_not(rows: list[Row]) -> None:
    for row in rows:
        assert worth(row, row["chosen"]) >= 0.95
        assert worth(row, row["rejected"]) <= 0.92
        assert rules.logicality(row["question"], row["rejected"]) == 10  # the form does not give it away


def test_a_rejected_answer_has_its_one_fault(rows: list[Row]) -> None:
    assert {row["fault"] for row in rows} == set(FAULTS)
    for row in rows:
        right, said = read_answer(row["chosen"]), read_answer(row["rejected"])
        context = {read_fact(each) for line in row["context"].splitlines() for each in sentences(line)}
        false = [fact for fact in said.facts if fact not in context]
        if row["fault"] == MISSING_ITEM:
            assert (row["kind"], false) == (LIST, [])
            assert set(said.final) < set(right.final)
            assert 2 * len(said.final) >= len(right.final)
        else:
            assert len(false) == 1
            assert len(said.facts) == len(right.facts)
            assert set(said.final) != set(right.final)
        if row["fault"] == WRONG_HOP:
            assert row["kind"] in (TWO_HOP, THREE_HOP)
            assert false != [said.facts[-1]]  # a step on the way
        if row["fault"] == INVENTED_FACT and row["kind"] != LIST:
            assert false == [said.facts[-1]]


def test_a_wrong_hop_does_not_come_to_the_right_end() -> None:
    world = make_world(6, 12)
    docs = documents(world)
    rng, titles = random.Random(1), {doc.title for doc in docs}
    wrong = [
        (question, rejected_answer(rng, question, world, titles))
        for question in make_questions(world, docs, 1, 100, {TWO_HOP: 0.5, THREE_HOP: 0.5})
    ]
    assert {rejected.fault for _, rejected in wrong} == {WRONG_HOP, INVENTED_FACT}
    assert [each for each, rejected in wrong if read_answer(rejected.text).final == each.answers] == []


def test_an_answer_that_cannot_be_wrong_is_refused() -> None:
    world = make_world(1, 4)
    lonely = World("x", {**world.entities, "person": ("Abrtan", "Borlena")}, (Fact("Abrtan", "mentor", "Borlena"),))
    question = Question("Who taught Abrtan?", ("Borlena",), ONE_HOP, lonely.facts, ())
    with pytest.raises(InputError, match="more people"):
        rejected_answer(random.Random(1), question, lonely, ())


def test_the_questions_have_the_kinds_and_the_hops_that_were_asked_for(rows: list[Row]) -> None:
    assert set(Counter(row["kind"] for row in rows)) == set(KINDS)
    for row in rows:
        asked = read_question(row["question"])
        assert asked is not None
        assert row["kind"] == LIST if asked.list else (ONE_HOP, TWO_HOP, THREE_HOP)[len(asked.hops) - 1]
    fewer = contexts(Wanted(16, 600, hops=1))
    assert {row["kind"] for row in fewer} == {ONE_HOP, LIST}


def test_a_larger_dataset_begins_with_the_smaller_one_and_a_seed_or_a_split_changes_it(rows: list[Row]) -> None:
    assert list(contexts(Wanted(20, 900, hops=3, seed=3))) == rows[:20]
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["world"] for row in rows}) == 2
    others = [Wanted(1, 900, hops=3, seed=4), Wanted(1, 900, hops=3, seed=3, split="dev")]
    texts = {next(contexts(other))["context"] for other in others} | {rows[0]["context"]}
    assert len(texts) == 3


def test_memory_does_not_grow_with_the_dataset() -> None:
    endless = contexts(Wanted(10**9, 600))
    next(islice(endless, 64, None))
    tracemalloc.start()
    next(islice(endless, 16, None))
    _, few = tracemalloc.get_traced_memory()
    next(islice(endless, 240, None))
    _, many = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert many < few + 300_000


@pytest.mark.parametrize("wanted", [{"questions": 0}, {"hops": 4}, {"hops": 0}, {"people": 6}, {"tokens": 10}])
def test_what_cannot_be_made_is_refused_with_a_remedy(tmp_path: Path, wanted: dict[str, int]) -> None:
    with pytest.raises(InputError, match="ask for"):
        write_contexts(tmp_path, Wanted(**{"questions": 2, "tokens": 4000, **wanted}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_has_names_for_contexts_of_32k_tokens(split: Any) -> None:
    people = people_for(32_000)
    world = make_world(1, people, split)
    assert sum(count_tokens(doc.text) for doc in documents(world)) > 32_000


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
    planned = [load_shard(store, plan, shard.index) for shard in plan.shards]
    examples = {example.example_id: example for each, _ in planned for example in each}
    tokens = {name: context.tokens for _, each in planned for name, context in each.items()}
    for row in rows:
        example = examples[row["id"]]
        assert example.references == tuple(row["answers"])
        assert (example.question, example.kind) == (row["question"], row["kind"])
        assert tokens[example.context_id] == row["tokens"]
        assert json.loads(example.metadata)["evidence"] == row["evidence"]


@pytest.mark.slow
def test_the_chosen_answer_is_what_the_policy_is_taught() -> None:
    from tasks.microworld.lessons import gold_reply
    from tasks.microworld.preferences import chosen_answer

    world = make_world(2, 40)
    for question in make_questions(world, documents(world), 1, 60):
        assert chosen_answer(question) == gold_reply(question, "plan_and_solve")
