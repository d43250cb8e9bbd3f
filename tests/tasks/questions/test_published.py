"""A published dataset of questions as a source: the latest version, one version, one split; no dataset of pairs."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import InputError
from tasks.questions import read_rows
from tasks.questions.rows import source_note


def write_version(folder: Path, version: str, config: str = "questions", **rows: list[str]) -> None:
    """A version of a dataset with the rows of each split."""
    files: list[dict[str, Any]] = []
    for split, questions in rows.items():
        path = folder / version / "data" / split / "0000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"question": questions}), path)
        files.append({"path": f"data/{split}/0000.parquet", "config": config, "split": split})
    manifest = {"schema_version": 1, "files": files}
    (folder / version / "manifest.json").write_text(json.dumps(manifest))
    (folder / "latest.json").write_text(json.dumps({"version": version}))


def questions_of(source: Path, split: str = "train") -> list[str]:
    return [row.values["question"] for row in read_rows(str(source), split=split)]


def test_the_latest_version_is_read_or_the_one_that_is_named(tmp_path: Path) -> None:
    write_version(tmp_path, "v1", train=["old"])
    write_version(tmp_path, "v2", train=["new", "newer"], test=["held out"])
    assert questions_of(tmp_path) == ["new", "newer"]
    assert questions_of(tmp_path / "v1") == ["old"]
    assert questions_of(tmp_path, "test") == ["held out"]
    assert source_note(str(tmp_path), None, "train") == ""


def test_a_split_that_is_not_there_and_a_dataset_of_pairs_are_errors(tmp_path: Path) -> None:
    write_version(tmp_path / "questions", "v1", train=["one"])
    with pytest.raises(InputError, match="has no questions in the split 'test'; it has train"):
        questions_of(tmp_path / "questions", "test")
    write_version(tmp_path / "pairs", "v1", config="pairs", train=["one"])
    with pytest.raises(InputError, match="a dataset of pairs"):
        questions_of(tmp_path / "pairs")
