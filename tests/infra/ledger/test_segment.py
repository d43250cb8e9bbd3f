"""The file format of a segment, and how rows are found, merged and checked."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.ledger.segment import (
    SCHEMA,
    decode,
    digests_of,
    encode,
    entries_table,
    find_entries,
    merge_tables,
    read_info,
    table_info,
)
from tests.support.ledger_entries import entry, key


def test_the_columns_on_disk_never_change() -> None:
    assert [(field.name, str(field.type), field.nullable) for field in SCHEMA] == [
        ("key", "string", False),
        ("kind", "string", False),
        ("model", "string", False),
        ("revision", "string", False),
        ("status", "int32", False),
        ("reply", "string", False),
        ("prompt_tokens", "int64", False),
        ("completion_tokens", "int64", False),
        ("seconds", "double", False),
        ("created", "double", False),
    ]


def test_the_info_from_the_footer_covers_all_row_groups() -> None:
    entries = [entry(number, "x" * 100, created=1000.0 + number) for number in range(4097)]
    data = encode(entries_table(entries))
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [4096, 1]
    info, digests = read_info("name", io.BytesIO(data))
    assert (info.name, info.rows, info.first_created, len(digests)) == ("name", 4097, 1000.0, 4097)
    assert info.decoded_bytes > 4097 * 100
    assert np.array_equal(digests, digests_of(decode(data)))


def test_a_file_without_statistics_counts_as_the_oldest() -> None:
    sink = io.BytesIO()
    pq.write_table(entries_table([entry(1)]), sink, write_statistics=False)
    info, _ = read_info("name", sink)
    assert info.first_created == 0.0


def test_the_info_of_an_empty_table() -> None:
    info = table_info("name", entries_table([]))
    assert (info.rows, info.first_created) == (0, 0.0)


def test_other_columns_are_refused_from_the_whole_file_and_from_its_footer() -> None:
    sink = io.BytesIO()
    pq.write_table(entries_table([entry(1)]).drop_columns(["kind"]), sink)
    with pytest.raises(ValueError, match="its columns are not those"):
        decode(sink.getvalue())
    with pytest.raises(ValueError, match="its columns are not those"):
        read_info("name", sink)


def test_a_key_that_is_no_sha256_is_refused() -> None:
    with pytest.raises(ValueError, match="not 64 hex digits"):
        digests_of(entries_table([replace(entry(1), key="ab")]))


@pytest.mark.parametrize("part", [0.2, 0.4, 0.6, 0.8])
def test_a_damaged_key_column_is_noticed_without_reading_the_whole_file(part: float) -> None:
    data = bytearray(encode(entries_table(entry(number) for number in range(1000))))
    column = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(0).column(0)
    data[column.data_page_offset + int(part * column.total_compressed_size)] ^= 1
    with pytest.raises(OSError, match=r"CRC|[Cc]hecksum"):
        read_info("name", io.BytesIO(bytes(data)))
    with pytest.raises(OSError, match=r"CRC|[Cc]hecksum"):
        decode(bytes(data))


def test_keys_that_are_not_in_the_segment_find_nothing() -> None:
    table = entries_table(entry(number) for number in range(5))
    digests = digests_of(table)
    absent = [bytes(32), bytes.fromhex(key(99)), b"\xff" * 32]
    present = bytes.fromhex(key(3))
    assert find_entries(table, digests, [*absent, present]) == [entry(3)]
    assert find_entries(table, digests, absent) == []


def test_a_reply_takes_the_place_of_a_refusal_and_a_refusal_that_of_an_earlier_one() -> None:
    replies = [entry(1, "late", 30.0), entry(1, "early", 20.0)]
    refusals = [replace(entry(1, "first", 1.0), status=400), replace(entry(1, "second", 40.0), status=400)]
    for order in itertools.permutations([*replies, *refusals]):
        merged = merge_tables([entries_table([single]) for single in order])
        assert merged.equals(entries_table([replies[1]]))
        assert entries_table(order).equals(merged)
    cut_short = entry(1, '{"choices": [{"finish_reason": "abort"}]}', 5.0)
    for order in itertools.permutations([replies[0], *refusals, cut_short]):
        assert entries_table(order).equals(entries_table([replies[0]]))
    for order in itertools.permutations([*refusals, cut_short]):
        assert entries_table(order).equals(entries_table([cut_short]))
    for order in itertools.permutations(refusals):
        assert entries_table(order).equals(entries_table([refusals[1]]))


def test_a_merge_of_one_key_alone_has_one_row() -> None:
    late, early = entry(1, "late", 20.0), entry(1, "early", 10.0)
    merged = merge_tables([entries_table([late]), entries_table([early])])
    assert merged.equals(entries_table([early]))
    assert isinstance(merged, pa.Table)
