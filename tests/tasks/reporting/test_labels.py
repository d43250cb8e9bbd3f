"""People's labels: good rows in both formats, and bad ones named by file, row and field."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import InputError
from tasks.records.example import Example
from tasks.reporting.agreement import Preference
from tasks.reporting.judged import JudgedAnswer, JudgedQuestion
from tasks.reporting.labels import labelled, read_labels

GOOD = {"example_id": "q", "first": 0, "second": 2, "preferred": "second"}


def lines(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_both_formats_say_the_same(tmp_path: Path) -> None:
    rows = [GOOD, {**GOOD, "preferred": "first"}, GOOD]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels.parquet")
    for source in (lines(tmp_path / "labels.jsonl", *rows), str(tmp_path / "labels.parquet")):
        found = [label.preference for label in read_labels(source)["q"]]
        assert found == [Preference(2, 0), Preference(0, 2), Preference(2, 0)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"preferred": "both"}, 'row 2: preferred is \'both\', neither "first" nor "second"'),
        ({"preferred": None}, "row 2: preferred is missing"),
        ({"first": "0"}, "row 2: first is '0', not the index of a sample"),
        ({"second": -1}, "row 2: second is -1"),
        ({"second": True}, "row 2: second is True"),
        ({"second": 0}, "row 2: first and second are both 0"),
        ({"example_id": 7}, "row 2: example_id is 7, not a text"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=r"labels\.jsonl") as caught:
        read_labels(lines(tmp_path / "labels.jsonl", GOOD, {**GOOD, **change}))
    assert told in str(caught.value)


def test_a_label_about_an_answer_that_is_not_there_is_told_apart(tmp_path: Path) -> None:
    labels = read_labels(lines(tmp_path / "labels.jsonl", GOOD, {**GOOD, "second": 9}))
    answers = tuple(JudgedAnswer(index, "", False, None, {}) for index in (0, 2))
    question = JudgedQuestion(Example("q", "?", "c", (), "k", "en", "{}"), answers, ())
    preferences, unknown = labelled(question, labels)
    assert preferences == [Preference(2, 0)]
    assert len(unknown) == 1
    assert unknown[0].endswith("row 2")
