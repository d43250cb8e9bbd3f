"""The library: what is true of it, and that each fault would be found."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from infra.recipe import Questions
from tasks.library import (
    COMPARISON,
    KINDS,
    LANGUAGES,
    LIST,
    NUMBER,
    ONE_HOP,
    TWO_HOP,
    UNANSWERABLE,
    Article,
    Evidence,
    LibraryQuestion,
    library_articles,
    library_questions,
    write_library,
)
from tasks.library.check import faults
from tasks.metrics import example_sub_em
from tasks.questions import RawQuestion, read_questions
from tasks.records.example import Example


@pytest.mark.medium
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_library_has_no_fault(language: str) -> None:
    assert list(faults(language, library_articles(language), library_questions(language))) == []


def test_the_library_is_as_large_as_is_promised() -> None:
    assert {language: len(library_articles(language)) for language in LANGUAGES} == {"en": 120, "zh": 40}
    for language, count in {"en": 240, "zh": 80}.items():
        questions = library_questions(language)
        assert len(questions) == count
        kinds = Counter(question.kind for question in questions)
        assert set(kinds) == set(KINDS) and min(kinds.values()) >= 9
        splits = Counter(question.split for question in questions)
        assert splits == {"train": 3 * count // 4, "test": count // 4}


GAP = "Nothing else is recorded of it, and so this sentence only adds some words to the length of the text. "
ARTICLES = {
    "mira": Article("mira", "Mira", "rivers", "train", f"The Mira is a river. It flows into Lake Oss.\n\n{GAP * 8}"),
    "oss": Article("oss", "Lake Oss", "rivers", "train", f"Lake Oss is 40 metres deep. Three boats sail.\n\n{GAP * 8}"),
}
QUESTION = LibraryQuestion(
    "mira-1", "Into which water does the Mira flow?", ("Lake Oss",), ONE_HOP, "train", (Evidence("mira", 21, 44),)
)


def faults_of(question: LibraryQuestion, articles: Mapping[str, Article] = ARTICLES) -> str:
    return "\n".join(faults("en", articles, [question]))


def test_a_sound_question_has_no_fault() -> None:
    assert ARTICLES["mira"].text[21:44] == "It flows into Lake Oss."
    assert faults_of(QUESTION) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evidence": (Evidence("mira", 24, 44),)}, "not whole sentences"),
        ({"evidence": (Evidence("mira", 21, 60),)}, "not whole sentences"),
        ({"evidence": (Evidence("nile", 0, 3),)}, "names no article"),
        ({"evidence": ()}, "names no article"),
        ({"kind": "riddle"}, "kind that is not in KINDS"),
        ({"split": "test"}, "is in the split test, its article mira is not"),
        ({"answers": ("Lake Como",)}, "no answer is in the evidence"),
        ({"answers": ("Mira",)}, "stands in the question"),
        ({"answers": ("the",)}, "empty answer"),
        ({"kind": LIST}, "three items or more"),
        ({"kind": LIST, "answers": ("Lake Oss", "x", "y")}, "the item 'x' is not in the evidence"),
        ({"kind": NUMBER}, "its number stands in mira"),
        ({"kind": COMPARISON}, "names what it compares"),
        ({"kind": UNANSWERABLE}, "its span is [0, 0)"),
    ],
)
def test_every_fault_of_a_question_is_found(change: dict[str, object], message: str) -> None:
    assert message in faults_of(replace(QUESTION, **change))  # type: ignore[arg-type]


def test_a_rival_article_and_wrong_lengths_are_found() -> None:
    rival = replace(ARTICLES["oss"], text=ARTICLES["oss"].text + "\n\nThe Mira flows into Lake Oss from the north.")
    assert "oss seems to answer it too: 'The Mira flows" in faults_of(QUESTION, {**ARTICLES, "oss": rival})
    short = replace(ARTICLES["oss"], text="Lake Oss is 40 metres deep.")
    assert "oss: has 6 words" in faults_of(QUESTION, {**ARTICLES, "oss": short})
    assert "is the id of two questions" in "\n".join(faults("en", ARTICLES, [QUESTION, QUESTION]))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_is_written_in_the_factorys_format(language: str, split: str, tmp_path: Path) -> None:
    write_library(tmp_path, split, language)
    first = (tmp_path / "questions.jsonl").read_bytes()
    write_library(tmp_path, split, language)
    assert (tmp_path / "questions.jsonl").read_bytes() == first
    questions = {question.id: question for question in library_questions(language)}
    rows = list(read_questions(Questions(source=str(tmp_path / "questions.jsonl")), "pooled"))
    answerable = [q for q in questions.values() if q.split == split and q.kind != UNANSWERABLE]
    assert len(rows) == len(answerable)
    for row in rows:
        assert isinstance(row, RawQuestion)
        assert row.language == language
        question = questions[row.example_id]
        assert len(row.documents) == (2 if question.kind == TWO_HOP else len({e.article for e in question.evidence}))
        # What proves the answer, said as an answer, is right by the metric that the demo reports.
        proof = " ".join(evidence["text"] for evidence in json.loads(row.metadata)["evidence"])
        example = Example(row.example_id, row.question, "", row.references, row.kind, language, "{}")
        if question.kind in (ONE_HOP, LIST):
            assert example_sub_em(proof, example) == 1.0
    pool = [json.loads(line) for line in (tmp_path / "pool.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(pool) == {"train": 3, "test": 1}[split] * len(library_articles(language)) // 4
