"""Ranges of a source's rows, which another process can read by itself: bytes of JSONL, rows of a Parquet row group.

Who cuts a source into ranges reads of JSONL the line ends alone, and of Parquet the footers. The rows of all ranges
are those of `read_rows`, with the same numbers and the same faults.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from infra.errors import InputError
from infra.store.sources import file_system
from tasks.questions.question import SourceRow
from tasks.questions.rows import (
    BYTE_ORDER_MARK,
    JSON,
    LONGEST_ROW,
    PARQUET,
    SourceFile,
    has_lines,
    line_rows,
    parquet_file,
    refuse_table,
    source_files,
    suffix,
)
from tasks.records.table import rows_in

RANGE_BYTES = 8 << 20
_GROUP_BYTES = 256 << 20  # of a row group; in a larger one it takes too long to get to a range


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows that follow each other in one file.

    [start, stop) are bytes of a JSONL file, or rows of the row group `group` of a Parquet file. `first` is the number
    of the first row, for JSONL that of its line. `name` is the file's in errors.
    """

    url: str
    name: str
    group: int | None
    start: int
    stop: int
    first: int


def row_ranges(
    source: str, subset: str | None, split: str, limit: int | None, rows_at_once: int
) -> Iterator[RowRange] | None:
    """The first `limit` rows of a source in ranges of at most `rows_at_once` rows and about RANGE_BYTES.

    None where the source cannot be read in ranges: it is on the hub, a folder of `save_to_disk`, compressed, an array,
    JSONL on another machine (finding the line ends would fetch it twice), a Parquet file of huge row groups, or faulty.
    """
    try:
        files = source_files(source, subset, split)
        if files is None or not all(map(_has_ranges, files)):
            return None
        ranges = _ranges(files, limit, rows_at_once)
        first = next(ranges, None)
    except InputError:  # reading the rows says it
        return None
    return None if first is None else itertools.chain([first], ranges)


def read_range(rows: RowRange) -> Iterator[SourceRow]:
    """The rows of a range. Raises InputError as `read_rows` does."""
    filesystem, path = file_system(rows.url)
    file = SourceFile(filesystem, path, rows.name)
    with file.faults_named():
        if rows.group is not None:
            yield from _rows_of_group(file, rows, rows.group)
            return
        with filesystem.open(path, "rb") as stream:
            stream.seek(rows.start)
            yield from line_rows(stream, rows.name, first=rows.first, size=rows.stop - rows.start)


def _has_ranges(file: SourceFile) -> bool:
    refuse_table(file.name)
    if "::" in file.name:  # an archive's file, which its URL alone does not name
        return False
    with file.faults_named():
        if suffix(file.path) in PARQUET:
            with parquet_file(file, lambda: 0) as parquet:
                return all(size <= _GROUP_BYTES for _, size in _groups(parquet))
        is_plain = file.path.lower().endswith(JSON)
        return is_plain and "file" in file.filesystem.protocol and Path(file.path).is_file() and has_lines(file)


def _ranges(files: Sequence[SourceFile], limit: int | None, rows_at_once: int) -> Iterator[RowRange]:
    left = limit
    for file in files:
        if left is not None and left <= 0:
            return
        of_file = _group_ranges if suffix(file.path) in PARQUET else _line_ranges
        with file.faults_named():
            for rows, count in of_file(file, left, rows_at_once):
                yield rows
                left = None if left is None else left - count


def _line_ranges(file: SourceFile, limit: int | None, rows_at_once: int) -> Iterator[tuple[RowRange, int]]:
    """Ranges of a JSONL file, each with its number of rows."""
    with file.filesystem.open(file.path, "rb") as stream:
        make = partial(RowRange, file.filesystem.unstrip_protocol(file.path), file.name, None)
        start, first, rows, left = 0, 1, 0, limit
        position, number = 0, 1
        for line in _lines(stream):
            position += len(line)
            text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            rows += not (text.isspace() or not text)
            number += 1
            is_last = rows == left
            if rows == rows_at_once or position - start >= RANGE_BYTES or is_last:
                yield make(start, position, first), rows
                if is_last:
                    return
                left = None if left is None else left - rows
                start, first, rows = position, number, 0
        if rows:
            yield make(start, position, first), rows


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file; the last one is the first that is too long, which its reader refuses."""
    while True:
        line = stream.readline(LONGEST_ROW + 1)
        if not line:
            return
        yield line
        if len(line) > LONGEST_ROW:
            return


def _group_ranges(file: SourceFile, limit: int | None, rows_at_once: int) -> Iterator[tuple[RowRange, int]]:
    """Ranges of a Parquet file, each with its number of rows."""
    make = partial(RowRange, file.filesystem.unstrip_protocol(file.path), file.name)
    with parquet_file(file, lambda: 0) as parquet:
        groups = list(_groups(parquet))
    first, left = 1, limit
    for group, (rows, size) in enumerate(groups):
        step = min(rows_at_once, max(1, RANGE_BYTES * rows // max(1, size)))
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            if left is not None:
                stop = min(stop, start + left)
                left -= stop - start
            yield make(group, start, stop, first + start), stop - start
            if left == 0:
                return
        first += rows


def _groups(parquet: Any) -> Iterator[tuple[int, int]]:
    """(rows, bytes when unpacked) of each row group."""
    for index in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(index)
        yield group.num_rows, group.total_byte_size


def _rows_of_group(file: SourceFile, rows: RowRange, group: int) -> Iterator[SourceRow]:
    number = rows.first - 1
    with parquet_file(file, lambda: number) as parquet:
        position = 0
        for batch in parquet.iter_batches(batch_size=rows.stop - rows.start, row_groups=[group]):
            begin, end = max(rows.start - position, 0), min(rows.stop - position, batch.num_rows)
            for values in rows_in(batch.slice(begin, end - begin)) if begin < end else ():
                number += 1
                yield SourceRow(file.name, number, values)
            position += batch.num_rows
            if position >= rows.stop:
                return
