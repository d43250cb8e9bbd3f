"""What must hold of the generated world: it is consistent, its documents state all of it, and it is reproducible."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import InputError
from tasks.microworld.make import write_pool
from tasks.microworld.parsing import names_in, read_fact
from tasks.microworld.questions import (
    KINDS,
    LIST,
    ONE_HOP,
    SHARES,
    SHARES_BY_HOPS,
    THREE_HOP,
    TWO_HOP,
    Question,
    in_reading_order,
    join_words,
    make_questions,
)
from tasks.microworld.words import ABOUT, FILLER, GOODS, JOB, LEADS, NAMES, RELATIONS, SPLITS, names_of
from tasks.microworld.world import Fact, World, WorldDocument, make_world, write_documents

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(3, 40)


@pytest.fixture(scope="module")
def docs(world: World) -> list[WorldDocument]:
    return write_documents(world)


@pytest.fixture(scope="module")
def questions(world: World, docs: list[WorldDocument]) -> list[Question]:
    return make_questions(world, docs, 1, 200)


def all_words() -> list[str]:
    words: list[str] = []
    for names in NAMES.values():
        words += [name.lower() for name in names]
    return words


def stated_facts(docs: list[WorldDocument]) -> list[Fact]:
    facts: list[Fact] = []
    for document in docs:
        facts += document.facts
    return facts


def test_no_word_is_contained_in_another() -> None:
    words = all_words()
    assert len(words) == len(set(words))
    for word in words:
        assert [other for other in words if word in other] == [word]


def test_no_phrase_or_prompt_names_an_answer() -> None:
    phrases = [*ABOUT, *FILLER, *LEADS]
    for relation in RELATIONS.values():
        phrases += [*relation.statements, *relation.echoes, *relation.questions, *relation.list_questions]
    phrases += [path.read_text(encoding="utf-8") for path in (ROOT / "tasks/prompts/en").glob("sample-*.txt")]
    words = {word.strip(".,:?\"'").lower() for word in " ".join(phrases).split()}
    assert not words & set(all_words())


def test_every_fact_is_stated_by_the_text_that_claims_it(docs: list[WorldDocument]) -> None:
    for document in docs:
        sentences = document.text.split(". ")
        for fact in document.facts:
            assert any(fact.subject in sentence and fact.value in sentence for sentence in sentences)


def test_documents_state_nothing_beyond_their_facts(docs: list[WorldDocument]) -> None:
    for document in docs:
        names = {document.title, *(fact.subject for fact in document.facts), *(fact.value for fact in document.facts)}
        assert not [other.title for other in docs if other.title in document.text and other.title not in names]


def test_no_two_documents_contradict_each_other(world: World, docs: list[WorldDocument]) -> None:
    values: dict[tuple[str, str], str] = {}
    for fact in stated_facts(docs):
        assert values.setdefault((fact.subject, fact.relation), fact.value) == fact.value
    assert len(values) == len(world.facts)


def test_some_facts_are_stated_by_two_documents(docs: list[WorldDocument]) -> None:
    facts = stated_facts(docs)
    assert len(facts) > len(set(facts))


def test_supports_are_all_documents_that_state_a_fact(docs: list[WorldDocument], questions: list[Question]) -> None:
    for question in questions:
        stating = [i for i, document in enumerate(docs) if set(document.facts) & set(question.facts)]
        assert list(question.supports) == stating


def test_hops_chain_from_the_question_to_the_answer(questions: list[Question]) -> None:
    hops = [question for question in questions if question.kind in (ONE_HOP, TWO_HOP)]
    assert hops
    for question in hops:
        assert len(question.facts) == (1 if question.kind == ONE_HOP else 2)
        assert question.facts[0].subject in question.question
        assert question.facts[-1].value == question.answer
        assert question.answer not in question.question
        if question.kind == TWO_HOP:
            assert question.facts[0].value == question.facts[1].subject


def test_list_answers_are_complete(docs: list[WorldDocument], questions: list[Question]) -> None:
    facts = set(stated_facts(docs))
    lists = [question for question in questions if question.kind == LIST]
    assert lists
    for question in lists:
        first = question.facts[0]
        if first.subject in question.question:  # what the text says about one entity
            assert set(question.answers) == {fact.value for fact in facts if fact.subject == first.subject}
            assert not [fact for fact in facts if fact.value == first.subject]
        else:
            same_value = [fact for fact in facts if (fact.relation, fact.value) == (first.relation, first.value)]
            assert set(question.answers) == {fact.subject for fact in same_value}


def test_reading_order_keeps_the_answers(docs: list[WorldDocument], questions: list[Question]) -> None:
    for question in questions:
        context = [docs[index] for index in reversed(question.supports)]
        ordered = in_reading_order(question, context)
        assert sorted(ordered.answers) == sorted(question.answers)
        assert ordered.kind != LIST or ordered.facts[0] in context[0].facts


def test_questions_are_distinct_and_of_every_kind(questions: list[Question]) -> None:
    assert len({(question.kind, question.facts) for question in questions}) == len(questions) == 200
    assert {question.kind for question in questions} == set(SHARES) == set(KINDS) - {THREE_HOP}


def test_lists_are_written_in_english() -> None:
    assert [join_words("A"), join_words("AB"), join_words("ABC")] == ["A", "A and B", "A, B and C"]


def test_a_world_beyond_the_words_pairs_them() -> None:
    large = make_world(0, 2000)
    people = large.entities["person"]
    assert len(set(people)) == 2000
    assert all(len(name.split()) == 2 for name in people)


@pytest.mark.parametrize("people", [20, 200, 420])  # names of one word, of two, of three
def test_no_name_and_so_no_question_is_in_two_splits(people: int) -> None:
    names_by_split, words_by_split, questions_by_split = [], [], []
    for split in SPLITS:
        world = make_world(1, people, split)
        names = set().union(*world.entities.values())
        words = set(" ".join(names).split())
        made = make_questions(world, write_documents(world), 1, 30, SHARES_BY_HOPS[3])
        questions = {question.question for question in made}
        for question in questions:
            assert set(" ".join(names_in(question)).split()) <= words
        names_by_split.append(names)
        words_by_split.append(words)
        questions_by_split.append(questions)
    for sets in (names_by_split, words_by_split, questions_by_split):
        assert sum(map(len, sets)) == len(set().union(*sets))


def test_the_splits_share_out_all_words_but_those_of_closed_classes() -> None:
    for kind, words in NAMES.items():
        parts = [names_of(kind, split) for split in SPLITS]
        assert (parts == [words] * 3) == (kind in (JOB, GOODS))
        assert kind in (JOB, GOODS) or sorted(sum(parts, start=())) == sorted(words)
        assert names_of(kind) == words


def test_names_of_three_words_are_distinct_and_read_back() -> None:
    large = make_world(0, 500, "test")
    companies = large.entities["company"]
    assert len(set(companies)) == 125
    assert [names_in(f"{name} was founded.") for name in companies] == [(name,) for name in companies]
    assert {len(name.split()) for name in companies} == {3}


@pytest.mark.parametrize("people", [12, 400])
def test_a_span_is_the_sentence_that_states_its_fact(people: int) -> None:
    for document in write_documents(make_world(9, people)):
        sentences = [document.text[start:end] for start, end in document.spans]
        assert [read_fact(sentence) for sentence in sentences] == list(document.facts)


def test_three_hops_go_on_without_turning_back() -> None:
    world = make_world(8, 60)
    questions = make_questions(world, write_documents(world), 1, 300, {THREE_HOP: 1})
    for question in questions:
        first, second, third = question.facts
        assert (first.value, second.value) == (second.subject, third.subject)
        subjects = {first.subject, second.subject, third.subject}
        assert len(subjects) == 3
        assert third.value not in subjects
        assert names_in(question.question) == (first.subject,)
        assert question.answers == (third.value,)
    assert {question.kind for question in questions} == {THREE_HOP}


def test_three_hops_are_asked_for_in_english() -> None:
    made = make_world(8, 60)
    chain = (
        Fact("Hexalon", "founder", "Abrtan"),
        Fact("Abrtan", "mentor", "Borlena"),
        Fact("Borlena", "home", "Oakmoor"),
    )
    world = World("8", made.entities, chain)
    docs = [WorldDocument(fact.subject, fact.sentence, (fact,)) for fact in chain]
    questions = {make_questions(world, docs, seed, 1, {THREE_HOP: 1})[0].question for seed in range(40)}
    expected = set()
    for template in RELATIONS["home"].questions:
        for phrase in ("the mentor of the founder of Hexalon", "the mentor of Hexalon's founder"):
            expected.add(template.format(s=phrase))
    assert questions == expected


def test_a_chain_that_comes_back_is_not_asked_for() -> None:
    made = make_world(8, 60)
    circle = (
        Fact("Abrtan", "mentor", "Borlena"),
        Fact("Borlena", "mentor", "Caswyn"),
        Fact("Caswyn", "mentor", "Abrtan"),
    )
    world = World("8", made.entities, circle)
    docs = [WorldDocument(fact.subject, fact.sentence, (fact,)) for fact in world.facts]
    with pytest.raises(InputError, match="only 0 questions"):
        make_questions(world, docs, 1, 1, {THREE_HOP: 1})


@pytest.mark.parametrize(
    ("questions", "seed", "sums"),
    [(160, 11, ("4d246040e1384eb6", "93ea529e61fb0a02")), (96, 12, ("fe0bf76c9897bc84", "ae173daf3c9f3aa5"))],
)
def test_the_demos_questions_stay_as_they_are(
    tmp_path: Path, questions: int, seed: int, sums: tuple[str, str]
) -> None:  # or its transcripts, its ledgers and the policy's training would no longer be those of the README
    write_pool(tmp_path, questions, seed, 60)
    files = [(tmp_path / name).read_bytes() for name in ("questions.jsonl", "pool.jsonl")]
    assert tuple(hashlib.sha256(file).hexdigest()[:16] for file in files) == sums


@pytest.mark.parametrize("people", [0, 3, 10**8])
def test_impossible_worlds_are_refused(people: int) -> None:
    with pytest.raises(InputError):
        make_world(0, people)


def test_too_many_questions_are_refused(world: World, docs: list[WorldDocument]) -> None:
    with pytest.raises(InputError, match="add people"):
        make_questions(world, docs, 0, 100_000)


@pytest.mark.medium
def test_the_same_seed_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    options = ["--questions", "60", "--people", "30", "--seed", "5", "--pool"]
    for hash_seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", "flows.cli", "microworld", "make", *options, "--out", str(tmp_path / hash_seed)],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
    write_pool(tmp_path / "other", 60, 6, 30, split="train")
    for name in ("questions.jsonl", "pool.jsonl"):
        one, two, other = ((tmp_path / folder / name).read_bytes() for folder in ("1", "2", "other"))
        assert one == two != other


def test_the_dataset_has_the_input_format(tmp_path: Path) -> None:
    write_pool(tmp_path, 50, 7, 30)
    pool = [json.loads(line) for line in (tmp_path / "pool.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == 50
    for row in rows:
        assert list(row) == ["id", "question", "answer", "answers", "kind", "language", "documents"]
        assert all(document in pool for document in row["documents"])
        context = " ".join(document["text"] for document in row["documents"])
        assert all(answer in context and answer in row["answer"] for answer in row["answers"])
