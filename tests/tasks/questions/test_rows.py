"""Rows from every kind of source, and a clear error for every kind of damage."""

import gzip
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import InputError
from tasks.questions import rows
from tasks.questions.rows import read_rows
from tests.support.s3 import s3_bucket

ROWS = [{"question": "wer?", "n": 1}, {"question": "谁？🦊", "n": 2}, {"question": "", "n": 3}]


def lines(some=ROWS) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in some)


def values(source, **options):
    return [row.values for row in read_rows(str(source), **options)]


def test_jsonl_plain_packed_and_with_byte_order_mark(tmp_path):
    plain, packed, marked = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz", tmp_path / "c.jsonl"
    plain.write_bytes(lines())
    packed.write_bytes(gzip.compress(lines()))
    marked.write_bytes(b"\xef\xbb\xbf" + lines())
    assert values(plain) == values(packed) == values(marked) == ROWS


def test_rows_are_numbered_by_line_and_blank_lines_are_no_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n" + lines(ROWS[:1]) + b"  \r\n" + lines(ROWS[1:]).rstrip(b"\n"))
    assert [row.number for row in read_rows(str(path))] == [2, 4, 5]


def test_an_array_of_rows_is_read_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "_CHUNK", 7)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS, ensure_ascii=False, indent=1), encoding="utf-8")
    assert values(path) == ROWS
    path.write_bytes(lines())  # the same suffix is also used for one object a line
    assert values(path) == ROWS


def test_parquet_and_a_folder_of_files_in_the_order_of_names(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS[:2]), tmp_path / "part-1.parquet")
    (tmp_path / "part-2.jsonl").write_bytes(lines(ROWS[2:]))
    (tmp_path / "README.md").write_text("not data")
    assert values(tmp_path / "part-1.parquet") == ROWS[:2]
    assert values(tmp_path) == ROWS
    assert values(tmp_path / "part-*.parquet") == ROWS[:2]


@pytest.mark.parametrize("whole", [True, False])
def test_a_saved_datasets_folder_with_and_without_splits(tmp_path, whole):
    saved = datasets.Dataset.from_list(ROWS)
    (saved if whole else datasets.DatasetDict(test=saved)).save_to_disk(tmp_path / "saved")
    assert values(tmp_path / "saved", split="test") == ROWS
    if not whole:
        with pytest.raises(InputError, match="no split 'train'; it has test"):
            values(tmp_path / "saved")


@pytest.mark.medium
def test_rows_from_s3(monkeypatch):
    import fsspec

    with s3_bucket(monkeypatch) as bucket:
        filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
        filesystem.pipe(f"{bucket}/in/a.jsonl.gz", gzip.compress(lines()))
        filesystem.pipe(f"{bucket}/in/b.jsonl", lines(ROWS[:1]))
        assert values(f"{bucket}/in/a.jsonl.gz") == ROWS
        assert [row.file for row in read_rows(f"{bucket}/in")][-1] == f"{bucket}/in/b.jsonl"
        with pytest.raises(InputError, match="no such file"):
            values(f"{bucket}/missing.jsonl")


def test_a_row_of_ten_megabytes(tmp_path):
    text = "ten megabytes. " * 700_000
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"question": text}]))
    assert values(path) == [{"question": text}]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lines() + b'{"question": "cut of', r"row 4: not valid JSON.*cut off"),
        (lines() + b'{"question": nope}\n', r"row 4: not valid JSON"),
        (lines() + b'["a", "list"]\n', r"row 4: a JSON list instead of an object"),
        (lines() + b'{"question": "\xff\xfe"}\n', r"row 4: not UTF-8 at byte 15"),
        (b"", "holds no rows"),
        (b"\n\n", "holds no rows"),
        (b"[" * 100_000, r"row 1: not valid JSON"),
    ],
)
def test_damaged_jsonl_is_an_error_that_names_file_and_row(tmp_path, damage, message):
    path = tmp_path / "questions.jsonl"
    path.write_bytes(damage)
    with pytest.raises(InputError, match=rf"questions\.jsonl.*{message}"):
        values(path)


def test_a_cut_off_gzip_or_parquet_file_is_an_error(tmp_path):
    packed = gzip.compress(lines([{"question": f"{number} {'x' * 50}"} for number in range(5000)]))
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match=r"cut\.jsonl\.gz, after row \d+: the compressed file is cut off"):
        values(tmp_path / "cut.jsonl.gz")
    (tmp_path / "fake.jsonl.gz").write_bytes(lines())
    with pytest.raises(InputError, match=r"fake\.jsonl\.gz: cannot be read"):
        values(tmp_path / "fake.jsonl.gz")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"cut\.parquet, after row 0: not Parquet, cut off or damaged"):
        values(tmp_path / "cut.parquet")


def test_a_cut_off_array_is_an_error(tmp_path):
    (tmp_path / "a.json").write_bytes(json.dumps(ROWS).encode()[:-5])
    with pytest.raises(InputError, match=r"a\.json, row 3: not valid JSON.*cut off"):
        values(tmp_path / "a.json")


def test_parquet_with_text_that_is_not_utf8_is_an_error(tmp_path):
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    pq.write_table(pa.table({"question": broken}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet, after row 0: not UTF-8"):
        values(tmp_path / "a.parquet")


def test_nothing_there_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file or folder"):
        values(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match=r"holds no .*parquet file"):
        values(tmp_path)
    with pytest.raises(InputError, match="no file system for this address"):
        values("nope://bucket/a.jsonl")
    with pytest.raises(InputError, match="user or password") as refused:
        values("s3://key:hidden@bucket/a.jsonl")
    assert "hidden" not in str(refused.value)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"nobody/nothing: .*the hub cannot be reached.*give its folder"):
        values("nobody/nothing")


def test_a_line_without_end_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LONGEST_ROW", 50)
    (tmp_path / "a.jsonl").write_bytes(lines() + b"x" * 200)
    with pytest.raises(InputError, match="row 4: longer than 50 bytes"):
        values(tmp_path / "a.jsonl")
