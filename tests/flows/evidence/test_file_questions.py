"""Questions of a file for the evidence: parts without a page in common, exact lengths, the same bytes every time."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.evidence.file_questions import write_file_questions
from infra.errors import InputError
from infra.models.tokens import load_tokenizer
from infra.recipe import Questions
from tasks.library import write_library
from tasks.planning.passages import passage_tokens
from tasks.records.example import Document
from tasks.sub_em import sub_em

COUNT, LENGTHS = 8, (512, 1024)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Questions:
    """The questions of the library's training split."""
    folder = tmp_path_factory.mktemp("library")
    write_library(folder, "train")
    return Questions(source=str(folder / "questions.jsonl"))


@pytest.fixture(scope="module")
def rows(source: Questions, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("questions")
    write_file_questions(folder, 0, source, COUNT, LENGTHS, load_tokenizer("microworld-judge"))
    return {path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in folder.glob("*.jsonl")}


def test_every_part_has_its_questions_and_no_first_page_is_in_two(rows: dict[str, list[dict[str, Any]]]) -> None:
    assert {name: len(part) for name, part in rows.items()} == dict.fromkeys(
        ("train", "held-out", "tune", "short"), COUNT
    )
    titles = {name: {row["documents"][0]["title"] for row in part} for name, part in rows.items()}
    assert titles["short"] == titles["held-out"]
    assert not titles["train"] & titles["held-out"]
    assert not (titles["train"] | titles["held-out"]) & titles["tune"]


def test_contexts_are_as_long_as_they_should_be_and_hold_the_answer_once(
    rows: dict[str, list[dict[str, Any]]],
) -> None:
    tokenizer = load_tokenizer("microworld-judge")
    for name in ("train", "held-out", "tune"):
        for index, row in enumerate(rows[name]):
            documents = [Document(**document) for document in row["documents"] + row["distractors"]]
            tokens = sum(passage_tokens(documents, tokenizer))
            supporting = sum(passage_tokens(documents[: len(row["documents"])], tokenizer))
            assert tokens <= max(LENGTHS[index % 2], supporting)
            for document in row["distractors"]:
                assert not sub_em(document["text"], row["answers"])
    assert all(row["distractors"] == [] for row in rows["short"])


def test_the_same_seed_writes_the_same_and_another_seed_others(source: Questions, tmp_path: Path) -> None:
    tokenizer = load_tokenizer("microworld-judge")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_file_questions(tmp_path / name, seed, source, COUNT, LENGTHS, tokenizer)
    texts = {name: (tmp_path / name / "train.jsonl").read_text() for name in "abc"}
    assert texts["a"] == texts["b"] != texts["c"]


def test_a_file_with_too_few_questions_says_so(source: Questions, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the part train has \d+ questions.*a smaller --count"):
        write_file_questions(tmp_path, 0, source, 1000, LENGTHS, load_tokenizer("microworld-judge"))
