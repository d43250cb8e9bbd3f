"""Training reads exactly the bytes that were published."""

from pathlib import Path

import pytest

from infra.errors import InputError, MissingError
from infra.store import open_store
from tasks.training.published import check_hashes, count_questions, read_train_split, train_rows
from tests.support.tiny_model import pair_rows, publish_rows


def test_rows_come_in_their_order_from_the_train_split_alone(tmp_path: Path) -> None:
    rows = pair_rows(5)
    store, path = open_store(str(tmp_path)), publish_rows(tmp_path, rows)
    published = read_train_split(store, path)
    check_hashes(store, published)
    assert (published.name, published.licence, published.rows) == ("tiny", "cc-by-4.0", 5)
    read = list(train_rows(store, published))
    assert [row["example_id"] for row in read] == [row["example_id"] for row in rows]
    assert read[3]["chosen"] == rows[3]["chosen"]


def test_pairs_of_one_question_are_counted_once_across_files(tmp_path: Path) -> None:
    rows = pair_rows(3)
    repeated = [rows[0], rows[0], rows[1], rows[1], rows[1], rows[2]]  # example 1 goes on in the second file
    published = read_train_split(store := open_store(str(tmp_path)), publish_rows(tmp_path, repeated))
    assert (published.rows, count_questions(store, published)) == (6, 3)


def test_a_file_that_was_changed_after_publishing_is_named(tmp_path: Path) -> None:
    store, path = open_store(str(tmp_path)), publish_rows(tmp_path, pair_rows(4))
    file = read_train_split(store, path).files[1]
    target = tmp_path / file.path
    data = bytearray(target.read_bytes())
    data[10] ^= 1
    target.write_bytes(bytes(data))
    with pytest.raises(InputError, match=f"{target.name}: its sha256.*build it again"):
        check_hashes(store, read_train_split(store, path))


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    (tmp_path / "manifest.json").write_text('{"files": [{"path": 3}]}')
    with pytest.raises(InputError, match="not a manifest"):
        read_train_split(store, "manifest.json")
    with pytest.raises(MissingError):
        read_train_split(store, "datasets/none/v1/manifest.json")
