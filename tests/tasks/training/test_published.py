"""Training reads exactly the bytes that were published."""

import itertools
from pathlib import Path

import pytest

from infra.errors import MissingError, StoreError
from infra.store import open_store
from tasks.publishing import publish
from tasks.training.gate import gate
from tasks.training.published import read_train_split
from tests.support.published import fake_plan, fake_recipe
from tests.support.tiny_model import pair_rows, publish_rows, tiny_tokenizer


def test_rows_come_in_their_order_from_the_train_split_alone(tmp_path: Path) -> None:
    rows = pair_rows(5)
    store, path = open_store(str(tmp_path)), publish_rows(tmp_path, rows)
    published = read_train_split(store, path)
    published.check()
    assert (published.name, published.licence, published.rows) == ("tiny", "cc-by-4.0", 5)
    read = list(published.pairs())
    assert [row["example_id"] for row in read] == [row["example_id"] for row in rows]
    assert read[3]["chosen"] == rows[3]["chosen"]


@pytest.mark.medium
def test_the_pairs_of_a_question_come_one_after_another_with_the_same_prompt(tmp_path: Path) -> None:
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path, pairs=3, test_fraction=0.0)
    published = read_train_split(
        store, publish(*fake_plan(store, recipe, texts=tuple("abcde")), recipe, store).manifest
    )
    rows = list(published.pairs())
    questions = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row["example_id"])]
    assert published.rows == 21
    assert [len(group) for group in questions] == [1 + n % 3 for n in range(12) if n % 5 != 4]
    assert all(row["prompt"] == group[0]["prompt"] for group in questions for row in group)
    lengths = gate(rows, tiny_tokenizer(), 2000)
    assert (lengths.rows, lengths.pairs) == (len(questions), 21)


def test_pairs_of_one_question_are_counted_once_across_files(tmp_path: Path) -> None:
    rows = pair_rows(3)
    repeated = [rows[0], rows[0], rows[1], rows[1], rows[1], rows[2]]  # example 1 goes on in the second file
    published = read_train_split(open_store(str(tmp_path)), publish_rows(tmp_path, repeated))
    assert (published.rows, published.count_questions()) == (6, 3)


def test_a_file_that_was_changed_after_publishing_is_named(tmp_path: Path) -> None:
    store, path = open_store(str(tmp_path)), publish_rows(tmp_path, pair_rows(4))
    file = read_train_split(store, path).files[1]
    target = tmp_path / file.path
    data = bytearray(target.read_bytes())
    data[10] ^= 1
    target.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=f"{target.name}: its bytes are not those.*sha256 .*build it again"):
        read_train_split(store, path).check()
    target.unlink()
    with pytest.raises(StoreError, match=f"{target.name}: the file is missing.*build it again"):
        read_train_split(store, path).check()


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    (tmp_path / "manifest.json").write_text('{"files": [{"path": 3}]}')
    with pytest.raises(StoreError, match="not a manifest"):
        read_train_split(store, "manifest.json")
    files = '[{"path": 3, "config": "pairs", "split": "train"}]'
    (tmp_path / "manifest.json").write_text(f'{{"schema_version": 1, "name": "tiny", "files": {files}}}')
    with pytest.raises(StoreError, match="not a manifest"):
        read_train_split(store, "manifest.json")
    with pytest.raises(MissingError):
        read_train_split(store, "datasets/none/v1/manifest.json")
