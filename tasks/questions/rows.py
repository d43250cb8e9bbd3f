"""Raw rows from JSONL, JSON arrays, Parquet, `datasets` folders and the hub, streamed.

A source is a file, a folder or a pattern of files, at a local path or any fsspec URL, compressed or not; a folder
written by `save_to_disk`; or the name of a dataset on the hub. Of a folder with several splits or configurations one
is read (folders.py). Rows come in the order of the files' names and of the
rows in them. A file that cannot be read raises InputError with file, row and remedy; only blank lines are skipped.
Memory holds one row, or a few megabytes of them.
"""

import codecs
import io
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from infra.errors import InputError
from infra.store.sources import file_faults, file_system, open_unpacked, unpacked_name
from tasks.questions.folders import choose_files, without_metadata
from tasks.questions.published import latest_version, published_files
from tasks.questions.question import SourceRow
from tasks.records.table import rows_in

LONGEST_ROW = 1 << 28  # bytes of a JSONL line or characters of an array's element
_BATCH_BYTES = 8 << 20  # of Parquet rows decoded at once
_CHUNK = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
JSON, PARQUET = (".jsonl", ".json", ".ndjson"), (".parquet",)
SAVED = ("dataset_dict.json", "state.json")
_TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".arrow", ".feather")
_FROM_CSV = "python -c \"import pandas; pandas.read_csv('A.csv').to_json('A.jsonl', orient='records', lines=True)\""
_INDENTED = re.compile(rb"\{\s*[\r\n]")  # an object that goes on in the next line
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

_Skip = Callable[[InputError], None] | None  # what gets the fault of a row that is left out; None: a fault is an error


def read_rows(
    source: str, subset: str | None = None, split: str = "train", skip: Callable[[InputError], None] | None = None
) -> Iterator[SourceRow]:
    """All rows of `source`; `subset` and `split` choose within `datasets` folders and hub datasets.

    Raises InputError when the source is missing, holds no row, or a row of it cannot be read. With `skip` a broken line
    of JSONL is given to it, and the rows after it are read.
    """
    rows = _rows(source, subset, split, skip)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{source}: holds no rows; give a file with at least one")
    yield first
    yield from rows


def source_note(source: str, subset: str | None, split: str) -> str:
    """What is read of a folder with several splits or configurations; empty for any other source."""
    filesystem, path = file_system(source)
    try:
        if not filesystem.isdir(path) or filesystem.exists(f"{latest_version(filesystem, path)}/manifest.json"):
            return ""
        if any(filesystem.exists(f"{path}/{name}") for name in SAVED):
            return ""
        files = _files(filesystem, path, True) or []
        return choose_files(filesystem, path, files, source, subset, split)[1]
    except file_faults(filesystem):
        return ""  # reading the rows says it


def _rows(source: str, subset: str | None, split: str, skip: _Skip) -> Iterator[SourceRow]:
    files = source_files(source, subset, split)
    if files is None:
        filesystem, path = file_system(source)
        of_source = _saved_rows(source, split) if filesystem.isdir(path) else _hub_rows(source, subset, split)
        yield from of_source
        return
    for file in files:
        refuse_table(file.name)
        with file.faults_named():
            if suffix(file.path) in PARQUET:
                yield from _parquet_rows(file)
            else:
                yield from _json_rows(file, skip)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source, and its name in errors."""

    filesystem: Any
    path: str
    name: str

    @contextmanager
    def faults_named(self) -> Iterator[None]:
        """Raise InputError naming the file where its file system raises an error of its own."""
        try:
            yield
        except file_faults(self.filesystem) as error:
            raise InputError(f"{self.name}: cannot be read ({error}); check the file and the connection") from error


def source_files(source: str, subset: str | None, split: str) -> list[SourceFile] | None:
    """The files of a source in the order in which they are read; None for a folder of `save_to_disk` and for the hub.

    Raises InputError when there is no file.
    """
    filesystem, path = file_system(source)
    try:
        is_folder = filesystem.isdir(path)
        if is_folder:
            path = latest_version(filesystem, path)
        if is_folder and any(filesystem.exists(f"{path}/{name}") for name in SAVED):
            return None
        files = published_files(filesystem, path, source, split) if is_folder else None
        published = files is not None
        if files is None:
            files = _files(filesystem, path, is_folder)
        if is_folder and files and not published:
            files, _ = choose_files(filesystem, path, files, source, subset, split)
    except file_faults(filesystem) as error:
        raise InputError(f"{source}: cannot be reached ({error}); check the address and the credentials") from error
    if files is None:
        if "://" in source or not HUB_NAME.fullmatch(source) or suffix(source):
            raise InputError(f"{source}: there is no such file or folder; check the name and the folder")
        return None
    if not files:
        raise InputError(f"{source}: holds no {', '.join(JSON + PARQUET)} file; name the file, or convert it")
    results = []
    for file in files:
        name = source if file == path else filesystem.unstrip_protocol(file).removeprefix("file://")
        results.append(SourceFile(filesystem, file, name))
    return results


def _files(filesystem: Any, path: str, is_folder: bool) -> list[str] | None:
    """The data files of a folder or pattern, sorted, or the one file at the path; None when nothing is there."""
    if is_folder:
        return without_metadata(sorted(filter(suffix, filesystem.find(path))), path)
    if filesystem.exists(path):  # before patterns: a name may have brackets in it
        return [path]
    if any(sign in path for sign in "*?["):
        return sorted(filter(suffix, filesystem.glob(path)))
    return None


def refuse_table(name: str) -> None:
    """Raise InputError for a file of a kind that holds no JSON and no Parquet."""
    if unpacked_name(name).endswith(_TABLES):
        raise InputError(
            f"{name}: neither JSON nor Parquet, and a table has no place for lists of answers and documents; write it "
            f"as JSONL, a CSV file with: {_FROM_CSV}"
        )


def suffix(path: str) -> str:
    """The suffix without compression, as ".jsonl" for "a.jsonl.gz"; empty for a file that cannot be read."""
    name = unpacked_name(path)
    for ending in JSON + PARQUET:
        if name.endswith(ending):
            return ending
    return ""


def _json_rows(file: SourceFile, skip: _Skip) -> Iterator[SourceRow]:
    number, name = 0, file.name
    with open_unpacked(file.filesystem, file.path) as opened, io.BufferedReader(opened, _CHUNK) as stream:
        try:
            rows = _reader(file.path, stream.peek())
            for row in rows(stream, name, skip):
                number = row.number
                yield row
        except (EOFError, zlib.error, UnicodeDecodeError) as error:
            if isinstance(error, UnicodeDecodeError):
                raise InputError(f"{name}, after row {number}: not UTF-8 ({error.reason}); convert the file") from error
            problem = "the compressed file is cut off or damaged"
            raise InputError(f"{name}, after row {number}: {problem} ({error}); copy or download it again") from error


def _reader(path: str, start: bytes) -> Callable[[IO[bytes], str, _Skip], Iterator[SourceRow]]:
    """How the rows of a JSON file are read, by how it begins."""
    start = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"["):  # no row is an array, so it is one of rows, whatever the suffix
        return _array_rows
    return _whole_row if suffix(path) == ".json" and _INDENTED.match(start) else line_rows


def has_lines(file: SourceFile) -> bool:
    """Whether a file of JSON that is not compressed has a row on each line."""
    with file.filesystem.open(file.path, "rb") as opened:
        start = opened.read(_CHUNK >> 4)
        return _reader(file.path, start if start.strip() else start + opened.read(_CHUNK)) is line_rows


def _whole_row(stream: IO[bytes], name: str, skip: _Skip) -> Iterator[SourceRow]:
    """The one object of an indented file, as SQuAD's."""
    data = stream.read(LONGEST_ROW + 1)
    if len(data) > LONGEST_ROW:
        raise InputError(f"{name}: one JSON object longer than {LONGEST_ROW:,} bytes; write a row on each line")
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        problem = f"an indented file that is not one JSON object: {error}"
        raise InputError(f"{name}: {problem}; write each row on one line, as `jq -c . FILE` does") from error
    yield SourceRow(name, 1, _object(value, name, 1))


def line_rows(
    stream: IO[bytes], name: str, skip: _Skip = None, first: int = 1, size: int | None = None
) -> Iterator[SourceRow]:
    """The rows of JSONL, numbered by line from `first`, of `size` bytes or to the end; blank lines are no rows."""
    for number in itertools.count(first):
        line = stream.readline(LONGEST_ROW + 1) if size is None or size > 0 else b""
        if not line:
            return
        if size is not None:
            size -= len(line)
        if len(line) > LONGEST_ROW:
            raise InputError(f"{name}, row {number}: longer than {LONGEST_ROW:,} bytes; is it one JSON object a line?")
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not line.strip():
            continue
        try:
            values = _parsed(line, name, number)
        except InputError as error:
            if skip is None:
                raise
            skip(error)
            continue
        yield SourceRow(name, number, values)


def _parsed(line: bytes, name: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        place = f"byte {error.start + 1} of the line ({error.reason})"
        raise InputError(f"{name}, row {number}: not UTF-8 at {place}; convert the file to UTF-8") from error
    except (ValueError, RecursionError) as error:
        hint = "" if line.endswith(b"\n") else " The line has no end: the file may be cut off."
        if _INDENTED.match(line):
            hint = " The file is indented: write each row on one line, as `jq -c . FILE` does."
        elif b"\r" in line.rstrip(b"\r\n"):
            hint = " Its lines end with CR alone: write them with LF."
        raise InputError(f"{name}, row {number}: not valid JSON: {error}; mend the line.{hint}") from error
    return _object(value, name, number)


def _object(value: Any, name: str, number: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise InputError(f'{name}, row {number}: a JSON {kind} instead of an object; write rows as {{"question": ...}}')
    return value


def _array_rows(stream: IO[bytes], name: str, skip: _Skip) -> Iterator[SourceRow]:
    """The elements of a file that is one JSON array, as HotpotQA's, read piece by piece."""
    utf8 = codecs.getincrementaldecoder("utf-8-sig")()
    decoder = json.JSONDecoder()

    def read(size: int) -> str:
        data = stream.read(size)
        return utf8.decode(data, final=not data)

    buffer, position = read(_CHUNK).lstrip(), 1  # after the "["
    for number in itertools.count(1):
        while True:
            while position < len(buffer) and buffer[position] in " \t\r\n,":
                position += 1
            if buffer.startswith("]", position):
                return
            try:
                value, position = decoder.raw_decode(buffer, position)
                break
            except (ValueError, RecursionError) as error:  # the element may go on behind the buffer's end
                more = ""
                if len(buffer) - position < LONGEST_ROW:
                    more = read(max(_CHUNK, len(buffer)))
                if not more:
                    problem = f"not valid JSON: {error}; the file may be cut off, or a row may be broken"
                    raise InputError(f"{name}, row {number}: {problem}") from error
                buffer, position = buffer[position:] + more, 0
        yield SourceRow(name, number, _object(value, name, number))


def _parquet_rows(file: SourceFile) -> Iterator[SourceRow]:
    number = 0
    with parquet_file(file, lambda: number) as parquet:
        for batch in parquet.iter_batches(batch_size=_batch_rows(parquet)):
            for values in rows_in(batch):
                number += 1
                yield SourceRow(file.name, number, values)


@contextmanager
def parquet_file(file: SourceFile, rows_read: Callable[[], int]) -> Iterator[Any]:
    """A Parquet file, opened. Raises InputError for a damaged one, naming the row that was read last."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.filesystem.open(file.path, "rb") as stream:
        try:
            # The buffer keeps pyarrow from reading a whole column of a row group at once.
            with closing(pq.ParquetFile(stream, buffer_size=_CHUNK, pre_buffer=False)) as parquet:
                yield parquet
        except UnicodeDecodeError as error:
            problem = f"not UTF-8 ({error.reason}); write it again"
            raise InputError(f"{file.name}, after row {rows_read()}: {problem}") from error
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            problem = "not Parquet, cut off or damaged"
            raise InputError(
                f"{file.name}, after row {rows_read()}: {problem} ({error}); copy or write it again"
            ) from error


def _batch_rows(parquet: Any) -> int:
    """Rows to decode at once: about _BATCH_BYTES of them, 1 to 1024."""
    row_bytes = 1
    for index in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(index)
        row_bytes = max(row_bytes, group.total_byte_size // max(1, group.num_rows))
    return int(min(1024, max(1, _BATCH_BYTES // row_bytes)))


def _saved_rows(source: str, split: str) -> Iterator[SourceRow]:
    """Rows of a folder that `save_to_disk` wrote; its Arrow files are mapped into memory, not loaded."""
    import datasets

    try:
        saved = datasets.load_from_disk(source)
        if isinstance(saved, datasets.DatasetDict):
            if split not in saved:
                raise InputError(f"{source}: has no split {split!r}; it has {', '.join(sorted(saved))}")
            saved = saved[split]
        for number, values in enumerate(saved, 1):
            yield SourceRow(source, number, values)
    except (OSError, ValueError) as error:
        raise InputError(f"{source}: not a whole `datasets` folder ({error}); save it again") from error


def _hub_rows(source: str, subset: str | None, split: str) -> Iterator[SourceRow]:
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        rows = datasets.load_dataset(source, subset, split=split, streaming=True)
        for number, values in enumerate(rows, 1):
            yield SourceRow(source, number, values)
    except ConnectionError as error:
        problem = f"no file or folder of this name is here, and the hub cannot be reached ({error})"
        remedy = "check the path; or download the dataset where there is a network, and give its folder"
        raise InputError(f"{source}: {problem}; {remedy}") from error
    except (OSError, ValueError, TypeError, DatasetsError) as error:  # TypeError: a column of two types
        where = "the folder" if Path(source).is_dir() else "no file or folder of this name is here, and the hub"
        remedy = "check the name, `subset` and `split`; or give one of its files"
        raise InputError(f"{source}: {where} did not give it ({error}); {remedy}") from error
