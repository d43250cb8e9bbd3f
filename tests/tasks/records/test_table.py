"""A stored table is named by its bytes, and a file that is not as written is one error with a remedy."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import StoreError
from infra.store import Store, open_store, table_bytes
from tasks.records.table import BUILD_AGAIN, StoredTable

TABLE = pa.table({"name": ["a", "b", "c"], "size": [1, 2, 3]})
WITHOUT_FILE: list[Callable[[StoredTable, Store], object]] = [
    lambda table, store: table.read_checked(store),
    lambda table, store: table.check(store),
]


def test_a_table_is_read_as_it_was_put_and_its_json_names_it(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    table = StoredTable.put(store, "shards/answers", TABLE)
    assert table.path == f"shards/answers-{table.sha256[:16]}.parquet"
    assert table.exists(store)
    assert table.read_checked(store).equals(TABLE)
    assert table.read_checked(store, ["size"]).column_names == ["size"]
    assert list(table.rows_of(store, ["name"])) == [{"name": "a"}, {"name": "b"}, {"name": "c"}]
    assert table.to_json() == {"path": table.path, "sha256": table.sha256, "rows": 3}
    assert StoredTable.from_json({**table.to_json(), "bytes": 9, "config": "pairs"}) == table
    assert StoredTable.put(store, "shards/answers", TABLE) == table
    assert store.list() == [table.path]


@pytest.mark.parametrize("use", WITHOUT_FILE, ids=["read", "check"])
def test_a_missing_file_and_other_bytes_are_the_same_error(
    tmp_path: Path, use: Callable[[StoredTable, Store], object]
) -> None:
    store = open_store(str(tmp_path))
    table = StoredTable.put(store, "answers", TABLE)
    data = bytearray(store.read(table.path))
    data[10] ^= 1
    store.write(table.path, bytes(data))
    with pytest.raises(StoreError, match=rf"{table.path}: its bytes are not those that were written .*; remove"):
        use(table, store)
    store.delete(table.path)
    assert not table.exists(store)
    with pytest.raises(StoreError, match=rf"{table.path}: the file is missing; remove"):
        use(table, store)


def test_the_remedy_is_that_of_the_reader(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    gone = StoredTable("plans/36d67029a4c6096a/shards/0007/answers-00.parquet", "0" * 64, 3)
    with pytest.raises(StoreError) as shard_error:
        gone.read_checked(store)
    with pytest.raises(StoreError) as dataset_error:
        gone.read_checked(store, remedy=BUILD_AGAIN)
    command = f"longmill rerun 36d67029a4c6096a --shards 7 --store {tmp_path}"
    assert str(shard_error.value).endswith(f"run its shard again with: {command}")
    assert str(dataset_error.value).endswith(BUILD_AGAIN)


def test_a_file_with_other_rows_or_columns_or_that_is_no_table_is_named(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    table = StoredTable.put(store, "answers", TABLE)
    longer = StoredTable(table.path, table.sha256, 4)
    with pytest.raises(StoreError, match=rf"{table.path}: has 3 rows, but 4 were written"):
        list(longer.rows_of(store))
    with pytest.raises(StoreError, match=rf"{table.path}: there is no column price"):
        list(table.rows_of(store, ["name", "price"]))
    store.write(table.path, b"PAR1 not a table")
    with pytest.raises(StoreError, match=rf"{table.path}: not a Parquet file"):
        list(table.rows_of(store))


def test_long_tables_are_streamed_in_order(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    table = StoredTable.put(store, "long", pa.table({"number": list(range(1000))}))
    assert [row["number"] for row in table.rows_of(store)] == list(range(1000))


def test_some_rows_are_read_of_their_row_groups_alone(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    size = list(range(200))
    data = bytearray(table_bytes(pa.table({"size": size}), rows_per_group=40))
    second = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(1).column(0)
    data[second.data_page_offset + second.total_compressed_size // 2] ^= 1
    store.write("sizes.parquet", bytes(data))
    table = StoredTable("sizes.parquet", "", 200)
    for start, stop in ((0, 1), (39, 40), (80, 81), (80, 200), (90, 170), (119, 121), (5, 5), (200, 201)):
        assert [row["size"] for row in table.rows_between(store, start, stop)] == size[start:stop]
    with pytest.raises(StoreError):
        table.rows_between(store, 39, 41)
