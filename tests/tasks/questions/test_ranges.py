"""Ranges of a source: the same rows, numbers and faults as when it is read in one go, wherever the borders are."""

import gzip
import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import InputError
from tasks.questions import ranges as ranges_module
from tasks.questions.question import SourceRow
from tasks.questions.ranges import RowRange, read_range, row_ranges
from tasks.questions.rows import read_rows

LINES = st.lists(
    st.sampled_from(
        [
            '{"id": 1}\n',
            "\n",
            " \t\r\n",
            '{"text": "城市的名字。\u2028“x”"}\r\n',
            f'{{"text": "{"漢" * 60}"}}\n',
            "\x0b\n",
        ]
    ),
    min_size=1,
    max_size=12,
)


def in_ranges(source: object, limit: int | None = None, at_once: int = 2) -> list[SourceRow]:
    ranges = row_ranges(str(source), None, "train", limit, at_once)
    assert ranges is not None
    rows: list[SourceRow] = []
    for row_range in ranges:
        part = list(read_range(RowRange(**json.loads(json.dumps(asdict(row_range))))))
        assert 0 < len(part) <= at_once
        rows += part
    return rows


@settings(deadline=None, max_examples=60)
@given(LINES, st.booleans(), st.sampled_from([b"", b"\xef\xbb\xbf"]), st.integers(1, 4), st.integers(1, 9))
def test_lines_are_the_same_wherever_the_borders_are(tmp_path_factory, lines, ends, mark, at_once, limit) -> None:
    path = tmp_path_factory.mktemp("lines") / "a [1].jsonl"
    text = "".join(lines)
    path.write_bytes(mark + (text if ends else text.rstrip("\n")).encode())
    try:
        rows = list(read_rows(str(path)))
    except InputError:
        assert row_ranges(str(path), None, "train", None, at_once) is None
        return
    assert in_ranges(path, None, at_once) == rows
    assert in_ranges(path, limit, at_once) == rows[:limit]


def test_files_of_a_folder_are_read_in_turn(tmp_path: Path) -> None:
    for name in ("a", "b"):
        values = [{"n": f"{name}{number}", "城": [{"x": number}], "none": None} for number in range(11)]
        pq.write_table(pa.Table.from_pylist(values), tmp_path / f"{name}.parquet", row_group_size=5)
    (tmp_path / "c.jsonl").write_text("".join(f'{{"n": "c{number}"}}\n' for number in range(5)))
    rows = list(read_rows(str(tmp_path)))
    assert [row.number for row in rows][9:13] == [10, 11, 1, 2]
    for at_once in (1, 2, 3, 5, 100):
        assert in_ranges(tmp_path, None, at_once) == rows
        for limit in (1, 10, 11, 12, 22, 23):
            assert in_ranges(tmp_path, limit, at_once) == rows[:limit]


def test_long_rows_make_small_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges_module, "RANGE_BYTES", 100)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "x" * 60}) + "\n" for _ in range(9)))
    ranges = row_ranges(str(path), None, "train", None, 50)
    assert ranges is not None
    assert [row_range.stop - row_range.start for row_range in ranges] == [146, 146, 146, 146, 73]


def test_a_broken_row_has_the_same_fault_in_its_range(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n\n{"n": 3}\n{"n": 4}\n{"n": \n{"n": 6}\n')
    with pytest.raises(InputError) as of_all:
        list(read_rows(str(path)))
    with pytest.raises(InputError) as of_range:
        in_ranges(path)
    assert str(of_range.value) == str(of_all.value)
    assert "a.jsonl, row 5: not valid JSON" in str(of_all.value)
    assert [row.number for row in in_ranges(path, 3)] == [1, 3, 4]


def test_other_sources_are_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "array.json").write_text('[{"n": 1}]')
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(b'{"n": 1}\n'))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        packed.writestr("a.jsonl", '{"n": 1}\n')
    assert [row.values for row in read_rows(str(tmp_path / "packed.zip"))] == [{"n": 1}]
    (tmp_path / "table.csv").write_text("n\n1\n")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    for name in ("array.json", "packed.jsonl.gz", "packed.zip", "table.csv", "cut.parquet", "nothing.jsonl"):
        assert row_ranges(str(tmp_path / name), None, "train", None, 2) is None
    pq.write_table(pa.table({"n": [1, 2]}), tmp_path / "huge.parquet")
    assert in_ranges(tmp_path / "huge.parquet")
    monkeypatch.setattr(ranges_module, "_GROUP_BYTES", 1)
    assert row_ranges(str(tmp_path / "huge.parquet"), None, "train", None, 2) is None
