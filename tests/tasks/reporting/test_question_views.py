"""What `longmill inspect` shows of a dataset of questions: kinds, difficulty, and the proof with its places."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from flows.cli.inspecting import question_page, questions_page
from infra.errors import InputError
from tasks.asking.publishing import HISTORY_ROWS
from tasks.records import example as records
from tasks.records.example import Drop
from tasks.records.reader import PublishedDataset, read_dataset
from tasks.reporting.question_views import question_list, question_view

TEXT = "[1] user: We take the old mill.\n\n[2] assistant: Noted, the old mill it is."


def row(number: int, **changes: Any) -> dict[str, Any]:
    sentence = "We take the old mill."
    start = TEXT.index(sentence)
    proof = {"document": 0, "start": start, "end": start + len(sentence), "sentence": sentence, "page": None}
    values = {
        "id": f"{number:02d}abcdef",
        "question": f"Which building did the user take for office {number}?",
        "answers": ["the old mill"],
        "kind": "decision",
        "language": "en",
        "documents": [{"title": "Chat", "text": TEXT}],
        "evidence": [{**proof, "turn": 1, "role": "user"}],
        "sources": [{"document_id": "d", "title": "Chat", "start": 0, "page": None}],
        "difficulty": 0.25,
        "tries": 4,
        "model": "writer",
        "plan_id": "p",
        "sessions": None,
    }
    return values | changes


@pytest.fixture
def dataset(tmp_path: Path) -> PublishedDataset:
    rows = [row(1), row(2, kind="unanswerable", answers=[], evidence=[], difficulty=None, tries=0), row(3)]
    drops = [Drop("04abcdef", "ask", "declined", "the passages hold no such question")]
    tables = {
        "questions": pa.Table.from_pylist(rows, schema=HISTORY_ROWS),
        "drops": records.to_table(drops, records.DROP),
    }
    files = []
    for config, table in tables.items():
        path = tmp_path / f"{config}.parquet"
        pq.write_table(table, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append({"path": path.name, "sha256": digest, "rows": table.num_rows, "config": config, "split": "train"})
    counts = {"planned": 4, "questions": 3, "drops": {"declined": 1}}
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 1, "files": files, "counts": counts}))
    return read_dataset(str(tmp_path))


def printed(parts: Iterator[Any]) -> str:
    console = Console(file=io.StringIO(), width=160)
    for part in parts:
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_list_has_kind_answer_and_difficulty_and_counts_of_all(dataset: PublishedDataset) -> None:
    view = question_list(dataset, 2)
    assert (view["questions"], view["more"]) == (3, 1)
    assert view["kinds"] == {"decision": 2, "unanswerable": 1}
    page = printed(questions_page(view))
    for part in ("01abcdef", "decision", "the old mill", "0.25", "—", "1 of them are not shown", "declined"):
        assert part in page
    assert "03abcdef" not in page


def test_a_question_is_shown_with_its_proof_its_turn_and_its_documents(dataset: PublishedDataset) -> None:
    page = printed(question_page(question_view(dataset, "01")))
    for part in ("the policy is wrong in 1 of 4 tries", "turn 1 of the user", "We take the old mill.", "Chat"):
        assert part in page
    assert "the documents do not say it" in printed(question_page(question_view(dataset, "02abcdef")))


@pytest.mark.parametrize(
    ("name", "message"),
    [("0", "3 questions begin with '0'"), ("04abcdef", "dropped: declined"), ("nobody", "no question 'nobody'")],
)
def test_an_id_that_names_none_is_refused(dataset: PublishedDataset, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        question_view(dataset, name)
