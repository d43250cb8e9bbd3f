"""What must hold of the generated world: one truth, told completely, the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import InputError
from infra.microworld.make import write_dataset
from infra.microworld.phrases import ABOUT, FILLER, LEADS, RELATIONS
from infra.microworld.questions import (
    KINDS,
    LIST,
    ONE_HOP,
    TWO_HOP,
    Question,
    in_reading_order,
    join_words,
    make_questions,
)
from infra.microworld.words import NAMES
from infra.microworld.world import Document, World, documents, make_world

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(3, 40)


@pytest.fixture(scope="module")
def docs(world: World) -> list[Document]:
    return documents(world)


@pytest.fixture(scope="module")
def asked(world: World, docs: list[Document]) -> list[Question]:
    return make_questions(world, docs, 1, 200)


def test_no_word_is_contained_in_another() -> None:
    words = [word.lower() for kind in NAMES.values() for word in kind]
    assert len(words) == len(set(words))
    assert not [(a, b) for a in words for b in words if a != b and a in b]


def test_no_phrase_or_prompt_names_an_answer() -> None:
    words = {word.lower() for kind in NAMES.values() for word in kind}
    phrases = [*ABOUT, *FILLER, *LEADS]
    for relation in RELATIONS.values():
        phrases += [*relation.statements, *relation.echoes, *relation.questions, *relation.list_questions]
    phrases += [path.read_text(encoding="utf-8") for path in (ROOT / "tasks/prompts/en").glob("sample-*.txt")]
    said = {word.strip(".,:?\"'").lower() for phrase in phrases for word in phrase.split()}
    assert not said & words


def test_every_fact_is_stated_by_the_text_that_claims_it(docs: list[Document]) -> None:
    for document in docs:
        sentences = document.text.split(". ")
        for fact in document.facts:
            assert any(fact.subject in sentence and fact.value in sentence for sentence in sentences)


def test_documents_state_nothing_beyond_their_facts(docs: list[Document]) -> None:
    names = [name for document in docs for name in (document.title,)]
    for document in docs:
        known = {document.title, *(f.subject for f in document.facts), *(f.value for f in document.facts)}
        assert not [name for name in names if name in document.text and name not in known]


def test_no_two_documents_contradict_each_other(world: World, docs: list[Document]) -> None:
    told: dict[tuple[str, str], str] = {}
    for document in docs:
        for fact in document.facts:
            assert told.setdefault((fact.subject, fact.relation), fact.value) == fact.value
    assert len(told) == len(world.facts)


def test_some_facts_are_told_by_two_documents(docs: list[Document]) -> None:
    told = [fact for document in docs for fact in document.facts]
    assert len(told) > len(set(told))


def test_supports_are_all_documents_that_state_a_fact(docs: list[Document], asked: list[Question]) -> None:
    for question in asked:
        stating = [i for i, document in enumerate(docs) if set(document.facts) & set(question.facts)]
        assert list(question.supports) == stating


def test_hops_chain_from_the_question_to_the_answer(asked: list[Question]) -> None:
    hops = [question for question in asked if question.kind in (ONE_HOP, TWO_HOP)]
    assert hops
    for question in hops:
        assert len(question.facts) == (1 if question.kind == ONE_HOP else 2)
        assert question.facts[0].subject in question.question
        assert question.facts[-1].value == question.answer
        assert question.answer not in question.question
        if question.kind == TWO_HOP:
            assert question.facts[0].value == question.facts[1].subject


def test_list_answers_are_complete(docs: list[Document], asked: list[Question]) -> None:
    everything = list(dict.fromkeys(fact for document in docs for fact in document.facts))
    lists = [question for question in asked if question.kind == LIST]
    assert lists
    for question in lists:
        first = question.facts[0]
        if first.subject in question.question:  # what the text says about one entity
            assert set(question.answers) == {f.value for f in everything if f.subject == first.subject}
            assert not [f for f in everything if f.value == first.subject]
        else:
            same = {f.subject for f in everything if (f.relation, f.value) == (first.relation, first.value)}
            assert set(question.answers) == same


def test_reading_order_keeps_the_answers(docs: list[Document], asked: list[Question]) -> None:
    for question in asked:
        shown = [docs[index] for index in reversed(question.supports)]
        ordered = in_reading_order(question, shown)
        assert sorted(ordered.answers) == sorted(question.answers)
        assert ordered.kind != LIST or ordered.facts[0] in shown[0].facts


def test_questions_are_distinct_and_of_every_kind(asked: list[Question]) -> None:
    assert len({(question.kind, question.facts) for question in asked}) == len(asked) == 200
    assert {question.kind for question in asked} == set(KINDS)


def test_lists_are_written_in_english() -> None:
    assert [join_words("A"), join_words("AB"), join_words("ABC")] == ["A", "A and B", "A, B and C"]


def test_a_world_beyond_the_words_pairs_them() -> None:
    large = make_world(0, 2000)
    people = large.entities["person"]
    assert len(set(people)) == 2000
    assert all(len(name.split()) == 2 for name in people)


@pytest.mark.parametrize("people", [0, 3, 10**6])
def test_impossible_worlds_are_refused(people: int) -> None:
    with pytest.raises(InputError):
        make_world(0, people)


def test_too_many_questions_are_refused(world: World, docs: list[Document]) -> None:
    with pytest.raises(InputError, match="add people"):
        make_questions(world, docs, 0, 100_000)


def test_the_same_seed_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    for hash_seed in ("1", "2"):
        subprocess.run(
            [
                sys.executable,
                "-m",
                "infra.microworld.make",
                "--questions",
                "60",
                "--seed",
                "5",
                "--people",
                "30",
                "--out",
                str(tmp_path / hash_seed),
            ],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
    write_dataset(tmp_path / "other", 60, 6, 30)
    for name in ("questions.jsonl", "pool.jsonl"):
        one, two, other = ((tmp_path / folder / name).read_bytes() for folder in ("1", "2", "other"))
        assert one == two != other


def test_the_dataset_has_the_input_format(tmp_path: Path) -> None:
    write_dataset(tmp_path, 50, 7, 30)
    pool = [json.loads(line) for line in (tmp_path / "pool.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == 50
    for row in rows:
        assert list(row) == ["id", "question", "answer", "answers", "kind", "language", "documents"]
        assert all(document in pool for document in row["documents"])
        shown = " ".join(document["text"] for document in row["documents"])
        assert all(answer in shown and answer in row["answer"] for answer in row["answers"])
