"""Folders with several splits or configurations, odd names, odd suffixes: one split is read, or there is a remedy."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import InputError
from infra.store import open_store
from tasks.planning.make_plan import make_plan
from tasks.questions.rows import read_rows, source_note
from tests.support.planning import small_recipe, write_rows


def names(source: Path | str, subset: str | None = None, split: str = "train") -> list[Any]:
    return [row.values["id"] for row in read_rows(str(source), subset, split)]


def write_parquet(path: Path, *ids: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": list(ids)}), path)


def write_clone(folder: Path) -> None:
    """A clone of a hub dataset with two configurations, as its card says."""
    configs = []
    for config in ("default", "hard"):
        for split in ("train", "test"):
            write_parquet(folder / config / f"{split}-00000-of-00001.parquet", f"{config}-{split}")
        files = "".join(f"  - split: {split}\n    path: {config}/{split}-*\n" for split in ("train", "test"))
        configs.append(f"- config_name: {config}\n  data_files:\n{files}")
    card = f"---\nlicense: cc0-1.0\nconfigs:\n{''.join(configs)}---\n# A dataset\n"
    (folder / "README.md").write_text(card)


def test_a_clone_with_configurations_is_read_as_its_card_says(tmp_path: Path) -> None:
    write_clone(tmp_path)
    assert names(tmp_path) == ["default-train"]
    assert names(tmp_path, "hard", "test") == ["hard-test"]
    note = source_note(str(tmp_path), None, "train")
    assert "configurations default, hard: default is read (questions.subset)" in note
    assert "splits test, train: train is read (questions.split)" in note
    with pytest.raises(InputError, match=r"'nope' not found\. Available: \['default', 'hard'\]"):
        names(tmp_path, "nope")
    with pytest.raises(InputError, match=r"has no split 'extra'; it has test, train"):
        names(tmp_path, "hard", "extra")


def test_splits_are_told_by_the_names_of_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", "a")
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", "b")
    write_parquet(tmp_path / "data" / "dev.parquet", "c")
    assert names(tmp_path) == ["a", "b"]
    assert names(tmp_path, split="validation") == names(tmp_path, split="dev") == ["c"]
    with pytest.raises(InputError, match="has no split 'test'; it has train, validation"):
        names(tmp_path, split="test")
    with pytest.raises(InputError, match="has no configuration 'hard'"):
        names(tmp_path, "hard")
    write_parquet(tmp_path / "extra.parquet", "d")
    with pytest.raises(InputError, match=r"splits train, validation and others, as extra\.parquet; name the files"):
        names(tmp_path)


def test_a_folder_of_one_split_is_read_whole_without_a_note(tmp_path: Path) -> None:
    write_parquet(tmp_path / "part-1.parquet", "a")
    write_rows(tmp_path / "part-2.jsonl", [{"id": "b"}])
    write_rows(tmp_path / "dataset_infos.json", [{"default": {}}])
    (tmp_path / ".cache").mkdir()
    write_rows(tmp_path / ".cache" / "x.jsonl", [{"id": "hidden"}])
    assert names(tmp_path) == ["a", "b"]
    assert source_note(str(tmp_path), None, "train") == ""
    write_parquet(tmp_path / "train.parquet", "c")  # one split alone says nothing of the other files
    assert names(tmp_path) == ["a", "b", "c"]


def test_a_plan_says_which_split_it_reads(tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    folder.mkdir()
    for split in ("train", "test"):
        write_rows(folder / f"{split}.jsonl", [{"id": split, "question": "What?", "context": "It is Paris."}])
    recipe = small_recipe(tmp_path, questions={"source": str(folder)})
    plan = make_plan(recipe, open_store(recipe.store))
    assert plan.questions == 1
    assert any("splits test, train: train is read" in warning for warning in plan.warnings)


@pytest.mark.parametrize("name", ["questions [1]", "100% done #2", "äö 问题", "what?", "a*b", "[draft] set"])
def test_names_with_special_characters_are_names(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / f"{name}.jsonl", [{"id": "a"}])
    assert names(tmp_path / f"{name}.jsonl") == ["a"]
    (tmp_path / name).mkdir()
    write_rows(tmp_path / name / "a.jsonl", [{"id": "b"}])
    assert names(tmp_path / name) == ["b"]
    write_rows(tmp_path / "plain-1.jsonl", [{"id": "c"}])
    assert names(tmp_path / "plain-[0-9].jsonl") == ["c"]


def test_zstandard_files_are_unpacked(tmp_path: Path) -> None:
    frames = []
    for name in ("a", "b"):
        frames.append(pa.Codec("zstd").compress(json.dumps({"id": name}).encode() + b"\n", asbytes=True))
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(frames))
    assert names(tmp_path / "a.jsonl.zst") == ["a", "b"]
    (tmp_path / "cut.jsonl.zst").write_bytes(b"".join(frames)[:-9])
    with pytest.raises(InputError, match=r"cut\.jsonl\.zst: cannot be read \(Truncated compressed stream\)"):
        names(tmp_path / "cut.jsonl.zst")


def test_an_array_is_one_of_rows_whatever_the_suffix_and_an_indented_object_is_a_row(tmp_path: Path) -> None:
    rows = [{"id": "a"}, {"id": "b"}]
    for suffix in (".json", ".jsonl", ".ndjson"):
        (tmp_path / f"rows{suffix}").write_text(json.dumps(rows, indent=1))
        assert names(tmp_path / f"rows{suffix}") == ["a", "b"], suffix
    (tmp_path / "one.json").write_text(json.dumps(rows[0], indent=1))
    assert names(tmp_path / "one.json") == ["a"]
    (tmp_path / "two.json").write_text(json.dumps(rows[0], indent=1) + json.dumps(rows[1], indent=1))
    with pytest.raises(InputError, match=r"two\.json: an indented file that is not one JSON object.*jq -c"):
        names(tmp_path / "two.json")
    (tmp_path / "one.jsonl").write_text(json.dumps(rows[0], indent=1))
    with pytest.raises(InputError, match=r"row 1: not valid JSON.*The file is indented.*jq -c"):
        names(tmp_path / "one.jsonl")


@pytest.mark.parametrize("name", ["table.csv", "table.TSV.gz", "book.xlsx", "a.arrow"])
def test_tables_get_a_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("id,question\n1,What?\n")
    with pytest.raises(InputError, match=r"neither JSON nor Parquet.*write it as JSONL.*to_json"):
        names(tmp_path / name)
