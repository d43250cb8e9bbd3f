"""Soft faults are counted drops with a reason; every row is accounted for, in order."""

import json
from collections import Counter

import pytest

from infra.errors import InputError
from infra.recipe import Questions
from tasks.questions import read_questions
from tasks.records.example import Drop

NASTY = [
    {"id": "ok", "question": "Who? 🦊", "context": "Some text.\x00 NUL stays."},
    {"id": "zh", "question": "谁？", "context": "文字", "language": "zh-CN"},
    {"id": "right-to-left", "question": "من؟", "context": "نص", "language": "English"},
    {"id": "ok", "question": "Who? 🦊", "context": "Some text.\x00 NUL stays."},
    {"id": "ok", "question": "Who else?", "context": "Other text."},
    {"id": "blank", "question": " \n", "context": "C"},
    {"id": "null", "question": None, "context": "C"},
    {"id": "no-context", "question": "Q", "context": "  "},
    {"id": "nothing", "question": "Q"},
    {"id": "fr", "question": "Qui?", "context": "C", "language": "fr"},
    {"id": "half", "question": "Q \ud83e", "context": "C"},
    {"id": "half-\ud83e", "question": "Q", "context": "C"},
    {"id": "half-doc", "question": "Q", "documents": [{"text": "\udc00"}]},
]


def read(tmp_path, rows, build="given", **settings):
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_questions(Questions(source=str(path), **settings), build))


def test_every_row_is_a_question_or_a_drop_with_a_reason(tmp_path):
    outcomes = read(tmp_path, NASTY)
    assert len(outcomes) == len(NASTY)
    drops = [outcome for outcome in outcomes if isinstance(outcome, Drop)]
    assert Counter(drop.reason for drop in drops) == {
        "duplicate_id": 2,
        "empty_question": 2,
        "empty_context": 2,
        "language": 1,
        "invalid_text": 3,
    }
    assert [question.example_id for question in outcomes[:3]] == ["ok", "zh", "right-to-left"]
    assert [question.language for question in outcomes[:3]] == ["en", "zh", "en"]
    assert all(drop.stage == "read" for drop in drops)


def test_a_drop_can_be_written_whatever_the_row_held(tmp_path):
    for drop in read(tmp_path, NASTY)[3:]:
        (drop.example_id + drop.detail).encode("utf-8")
        assert "questions.jsonl" in drop.detail
        assert str(tmp_path) not in drop.detail  # a plan's bytes do not depend on the folder


def test_a_repeated_id_says_whether_the_row_is_the_same(tmp_path):
    outcomes = read(tmp_path, NASTY)
    assert "repeats row 1" in outcomes[3].detail
    assert "has the id of row 1, which says something else" in outcomes[4].detail


def test_the_same_row_in_two_files_is_a_duplicate(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(NASTY[0]) + "\n")
    outcomes = list(read_questions(Questions(source=str(tmp_path))))
    assert [isinstance(outcome, Drop) for outcome in outcomes] == [False, True]


def test_pooled_contexts_need_supporting_documents(tmp_path):
    rows = [
        {"question": "Q", "context": "C"},
        {"question": "Q", "documents": [{"text": " "}]},
        {"question": "Q", "documents": [{"text": "D"}]},
    ]
    outcomes = read(tmp_path, rows, "pooled")
    assert [getattr(outcome, "reason", "read") for outcome in outcomes] == ["no_supporting_documents"] * 2 + ["read"]


def test_the_recipes_language_holds_for_rows_that_state_none(tmp_path):
    assert read(tmp_path, [{"question": "Q", "context": "C"}], language="zh")[0].language == "zh"


def test_the_limit_counts_rows_from_the_first(tmp_path):
    assert len(read(tmp_path, NASTY, limit=4)) == 4


def test_a_hard_fault_in_a_later_row_stops_the_reading(tmp_path):
    with pytest.raises(InputError, match=r"questions\.jsonl, row 14, field 'question'"):
        read(tmp_path, [*NASTY, {"question": ["Q"]}])


def test_musique_twins_do_not_take_each_others_id(tmp_path):
    paragraph = [{"title": "t", "paragraph_text": "p", "is_supporting": True}]
    rows = [
        {"id": "2hop__1", "question": "Q", "paragraphs": paragraph, "answerable": answerable}
        for answerable in (False, True)
    ]
    outcomes = read(tmp_path, rows, "pooled", format="musique")
    assert [getattr(outcome, "reason", "read") for outcome in outcomes] == ["unanswerable", "read"]
