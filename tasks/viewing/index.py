"""The small columns of a table of a dataset, copied to this machine's disk: what lists are filtered and sorted by.

A dataset of a million pairs is thousands of Parquet files in an object store, with long prompts beside the few numbers
that a list needs. A thread reads those columns alone, file after file in the dataset's order, some files ahead, and
appends them to Arrow files in a temporary folder, which are mapped into memory: what is in use is the page cache, not
the process. A list without a filter needs the first rows alone, so it is there before the rest is read.

Plain pyarrow does all of it; duckdb would read the same footers of the same files, and needs the same copy to answer
the second question quickly.
"""

import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import LongmillError
from infra.store import Store
from tasks.records.table import StoredTable

FILE, ROW = "file", "row"  # columns of every index: the place of a row's table among the tables, and the row in it

_READERS = 4  # files that are read at once
_READERS_FAR = 16  # the same of a store in a bucket, where reading is mostly waiting for replies
_PAUSE_S = 1.0  # after the first rows, so that the page that asked for them comes first
_CHUNK_ROWS = 1 << 16  # rows of an Arrow file, of all but the first ones
_MOST_CHOICES = 200

Columns = Callable[[pa.Table], pa.Table]  # of the columns read, with FILE and ROW: those of the index


def warm_up() -> None:
    """Let pyarrow import pandas, which it does at its first scalar: a second that no page should wait for."""
    pc.equal(pa.array([""]), "")


class TableIndex:
    """The index of some tables. It grows in a thread that `start` begins; `close` ends it and removes its files."""

    def __init__(
        self,
        store: Store,
        tables: Sequence[StoredTable],
        names: Sequence[str],
        columns: Columns,
        narrow: Columns | None = None,
    ) -> None:
        """`names`: the columns that are read of each table, which `columns` turns into those of the index.

        `narrow` is applied to each table as it is read, where its columns are too large to be gathered.
        """
        self.tables = tuple(tables)
        self.rows = sum(table.rows for table in tables)
        self._store, self._names, self._columns, self._narrow = store, tuple(names), columns, narrow
        self._folder = tempfile.TemporaryDirectory(prefix="longmill-view-")
        self._lock = threading.Condition()
        self._chunks: list[pa.Table] = []
        self._read = 0
        self._needed = 0  # rows that somebody waits for
        self._choices: dict[str, list[str]] = {}
        self._error: LongmillError | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Begin to read, unless that was done before."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._fill, name="longmill-view-index", daemon=True)
                self._thread.start()
        return self

    def table(self, rows: int, timeout_s: float) -> pa.Table | None:
        """What is there when the first `rows` rows are, or all; else what is there after `timeout_s` seconds.

        None where nothing is there yet. Raises the StoreError of the file that could not be read.
        """
        enough = min(rows, self.rows)
        with self._lock:
            self._needed = max(self._needed, enough)
            self._lock.notify_all()
            self._lock.wait_for(lambda: self._read >= enough or self._error is not None, timeout_s)
            if self._error is not None:
                raise self._error
            return pa.concat_tables(self._chunks) if self._chunks else None

    def choices(self, column: str) -> list[str]:
        """The values of a column of text so far, sorted, for a person to choose from; none where there is no such."""
        table = self.table(0, 0.0)
        if table is None or column not in table.schema.names:
            return []
        if column in self._choices:
            return self._choices[column]
        values = sorted(value for value in pc.unique(table.column(column)).to_pylist() if value)[:_MOST_CHOICES]
        if self.complete:
            self._choices[column] = values
        return values

    @property
    def complete(self) -> bool:
        """Whether all rows are there."""
        return self._read == self.rows

    def close(self) -> None:
        """End the reading and remove the files."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
            self._chunks.clear()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self._folder.cleanup()

    def _fill(self) -> None:
        try:
            parts: list[pa.Table] = []
            rows = 0
            for number, part in enumerate(self._parts(), 1):
                parts.append(part)
                rows += part.num_rows
                # Small files first, so that the first page does not wait; then larger ones, so that there are few.
                if rows >= min(_CHUNK_ROWS, max(1, self._read)) or number == len(self.tables):
                    self._append(pa.concat_tables(parts))
                    parts, rows = [], 0
                    if len(self._chunks) == 1:
                        with self._lock:
                            self._lock.wait_for(lambda: self._needed > self._read or self._closed, _PAUSE_S)
                if self._closed:
                    return
        except LongmillError as error:
            with self._lock:
                self._error = error
                self._lock.notify_all()

    def _parts(self) -> Iterator[pa.Table]:
        """The columns of each table in turn; some are read ahead."""
        readers = _READERS if self._store.local_path("") else _READERS_FAR
        with ThreadPoolExecutor(readers) as pool:
            ahead: deque[Future[pa.Table]] = deque()
            try:
                for place in range(len(self.tables)):
                    ahead.append(pool.submit(self._part, place))
                    if place == 0 or len(ahead) > 2 * readers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _part(self, place: int) -> pa.Table:
        columns = self.tables[place].columns_of(self._store, self._names)
        if self._narrow is not None:
            columns = self._narrow(columns)
        rows = columns.num_rows
        columns = columns.append_column(FILE, pa.array(np.full(rows, place, np.int32)))
        return columns.append_column(ROW, pa.array(np.arange(rows, dtype=np.int32)))

    def _append(self, read: pa.Table) -> None:
        """Write rows to a file of their own, in one piece, and take them from there."""
        table = self._columns(read.combine_chunks()).combine_chunks()
        path = Path(self._folder.name) / f"{len(self._chunks):05d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        with self._lock:
            if self._closed:
                return
            self._chunks.append(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
            self._read += table.num_rows
            self._lock.notify_all()
