"""The evidence's questions: none is both trained and measured on, contexts hold the answers and have their lengths."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.evidence.questions import write_questions
from infra.models.tokens import load_tokenizer
from tasks.microworld.parsing import names_in
from tasks.microworld.words import GOODS, JOB, names_of
from tasks.planning.passages import passage_tokens
from tasks.records.example import Document

LENGTHS = (512, 1024)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("questions")
    write_questions(folder, 0, 20, 12, LENGTHS, load_tokenizer("microworld"))
    return {path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in folder.glob("*.jsonl")}


def documents(row: dict[str, Any]) -> list[Document]:
    return [Document(**document) for document in row["documents"] + row["distractors"]]


def test_the_sets_have_their_sizes_and_no_document_in_common(rows: dict[str, list[dict[str, Any]]]) -> None:
    assert {name: len(rows_of_set) for name, rows_of_set in rows.items()} == {"train": 20, "held-out": 12, "short": 12}
    texts: dict[str, set[str]] = {}
    ids = set()
    for name, rows_of_set in rows.items():
        texts[name] = set()
        for row in rows_of_set:
            texts[name].update(document.text for document in documents(row))
            ids.add(row["id"])
    assert not texts["train"] & texts["held-out"]
    assert not texts["train"] & texts["short"]
    assert len(ids) == 44


def test_no_name_is_both_trained_and_measured_on(rows: dict[str, list[dict[str, Any]]]) -> None:
    """No person, place, work or company; jobs and goods are ordinary words."""
    common = {*names_of(JOB), *names_of(GOODS)}

    def names_of_set(rows_of_set: list[dict[str, Any]]) -> set[str]:
        names: set[str] = set()
        for row in rows_of_set:
            names.update(names_in(row["question"]))
            for document in documents(row):
                names.update(names_in(document.text))
        return names - common

    train_names = names_of_set(rows["train"])
    assert len(train_names) > 50
    for name in ("held-out", "short"):
        test_names = names_of_set(rows[name])
        assert len(test_names) > 20
        assert not train_names & test_names


def test_every_kind_of_question_comes_up(rows: dict[str, list[dict[str, Any]]]) -> None:
    for name in ("train", "held-out"):
        assert {row["kind"] for row in rows[name]} == {"one-hop", "two-hop", "three-hop", "list"}


def test_contexts_have_the_shorter_length_in_training_and_both_in_measuring(
    rows: dict[str, list[dict[str, Any]]],
) -> None:
    tokenizer = load_tokenizer("microworld")

    def sizes(name: str) -> list[int]:
        return [sum(passage_tokens(documents(row), tokenizer)) for row in rows[name]]

    assert all(440 < size <= 512 for size in sizes("train"))
    assert all(length - 72 < size <= length for size, length in zip(sizes("held-out"), LENGTHS * 6, strict=True))


def test_one_passage_states_the_whole_answer_of_a_short_question(rows: dict[str, list[dict[str, Any]]]) -> None:
    for row in rows["short"]:
        (passage,) = documents(row)
        assert all(answer in f"{passage.title} {passage.text}" for answer in row["answers"])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_world(tmp_path: Path) -> None:
    tokenizer = load_tokenizer("microworld")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_questions(tmp_path / name, seed, 8, 8, LENGTHS, tokenizer)
    texts = {name: (tmp_path / name / "train.jsonl").read_text() for name in "abc"}
    assert texts["a"] == texts["b"]
    assert not set(texts["a"].splitlines()) & set(texts["c"].splitlines())
