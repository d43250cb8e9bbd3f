"""A Parquet table in the store that is named by the hash of its bytes: written once, checked whenever it is read.

The tables of a shard and of a published dataset are such tables, and the records that name them (a shard's result,
a manifest, the result of a Prefect task) hold `StoredTable.to_json()`. A file that is missing, has other bytes, or is
no Parquet file of these rows and columns is one fault with one error: a StoreError that names the file, the fault
and the remedy.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import MissingError, StoreError
from infra.store import Store, table_bytes
from tasks.records.hint import rerun_command

BUILD_AGAIN = "remove the dataset's folder and build it again"

_SHARD_TABLE = re.compile(r"plans/([0-9a-f]+)/shards/(\d+)/")
_PIECE_BYTES = 1 << 20
_BATCH_ROWS = 32


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A Parquet file: its path in the store, the sha256 of its bytes (64 hex digits) and its number of rows."""

    path: str
    sha256: str
    rows: int

    @classmethod
    def put(cls, store: Store, stem: str, table: pa.Table) -> "StoredTable":
        """Write a table to `STEM-HASH.parquet`, HASH being the first 16 digits of the sha256 of its bytes."""
        data = table_bytes(table)
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"{stem}-{sha256[:16]}.parquet"
        store.write(path, data)
        return cls(path, sha256, table.num_rows)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "StoredTable":
        """The table that `to_json` described; other keys (of a manifest) are left out. Raises KeyError, TypeError."""
        return cls(value["path"], value["sha256"], value["rows"])

    def to_json(self) -> dict[str, Any]:
        """{"path", "sha256", "rows"}."""
        return asdict(self)

    def exists(self, store: Store) -> bool:
        """Whether a file is at the path; its bytes are not looked at."""
        return store.exists(self.path)

    def read_checked(self, store: Store, columns: Sequence[str] | None = None, *, remedy: str = "") -> pa.Table:
        """The whole table, or some columns of it, in memory. Raises StoreError for a file that is not as written."""
        return read_checked(store, self.path, self.sha256, columns, remedy=remedy)

    def check(self, store: Store, *, remedy: str = BUILD_AGAIN) -> None:
        """Hash the file piece by piece. Raises StoreError for one that is missing or has other bytes."""
        check_bytes(store, self.path, self.sha256, remedy=remedy)

    def column_names(self, store: Store) -> list[str]:
        """The names of its columns. Raises StoreError as `rows_of`."""
        with store.open(self.path) as stream:
            try:
                return list(pq.read_schema(stream).names)
            except pa.ArrowInvalid as error:
                raise StoreError(f"{store.place(self.path)}: not a Parquet file ({error}); {BUILD_AGAIN}") from error

    def columns_of(self, store: Store, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows, in memory; of the file only these are read, and their pages' checksums compared.

        Columns that the file does not have are left out. Raises StoreError for a missing or damaged file.
        """
        with self._parquet(store, pre_buffer=True) as parquet:
            present = [name for name in columns if name in parquet.schema_arrow.names]
            table = parquet.read(columns=present)
        self._check_rows(store, table.num_rows, BUILD_AGAIN)
        return table

    def rows_between(
        self, store: Store, start: int, stop: int, columns: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """The rows [start, stop), with the checks of `columns_of`; a few others are in memory while they are read."""
        rows: list[dict[str, Any]] = []
        with self._parquet(store, pre_buffer=True) as parquet:
            # Of no other groups, since the bytes of one come whole, at its first batch. `first`: the batch's first row.
            groups, first = _groups_between(parquet.metadata, start, stop)
            for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns and list(columns)):
                if first >= stop:
                    break
                begin = max(0, start - first)
                rows += rows_in(batch.slice(begin, max(0, stop - first - begin)))
                first += batch.num_rows
        return rows

    @contextlib.contextmanager
    def _parquet(self, store: Store, pre_buffer: bool = False) -> Iterator[pq.ParquetFile]:
        """The file, open for reading, with the checksums of its pages compared.

        `pre_buffer`: neighbouring columns are read by one request, and all of a row group before its first batch.
        """
        try:
            with store.open(self.path) as stream:
                yield pq.ParquetFile(stream, page_checksum_verification=True, pre_buffer=pre_buffer)
        except MissingError as error:
            raise _missing(store, self.path, BUILD_AGAIN) from error
        except pa.ArrowInvalid as error:
            place = store.place(self.path)
            raise StoreError(f"{place}: not a whole Parquet file ({error}); {BUILD_AGAIN}") from error

    def _check_rows(self, store: Store, rows: int, remedy: str) -> None:
        if rows != self.rows:
            place = store.place(self.path)
            raise StoreError(f"{place}: has {rows} rows, but {self.rows} were written; {remedy}")

    def rows_of(
        self, store: Store, columns: Sequence[str] | None = None, *, remedy: str = BUILD_AGAIN
    ) -> Iterator[dict[str, Any]]:
        """The rows one after another; a few are in memory at a time. The bytes are not hashed: `check` them first.

        Raises StoreError for a file that is no Parquet file, lacks a column, or has another number of rows.
        """
        place = store.place(self.path)
        rows = 0
        with store.open(self.path) as stream:
            try:
                parquet = pq.ParquetFile(stream, pre_buffer=True)
                missing = set(columns or ()) - set(parquet.schema_arrow.names)
                if missing:
                    raise StoreError(f"{place}: there is no column {', '.join(sorted(missing))}; {remedy}")
                for group in range(parquet.num_row_groups):  # `pre_buffer` has all groups of a call in memory
                    batches = parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns and list(columns))
                    for batch in batches:
                        rows += batch.num_rows
                        yield from rows_in(batch)
            except pa.ArrowInvalid as error:
                raise StoreError(f"{place}: not a Parquet file ({error}); {remedy}") from error
        self._check_rows(store, rows, remedy)


def _groups_between(metadata: pq.FileMetaData, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that have the rows [start, stop), and the place of their first row."""
    groups: list[int] = []
    first = begin = 0
    for group in range(metadata.num_row_groups):
        end = begin + metadata.row_group(group).num_rows
        if begin < stop and start < end:
            if not groups:
                first = begin
            groups.append(group)
        begin = end
    return groups, first


def rows_in(batch: pa.RecordBatch | pa.Table) -> list[dict[str, Any]]:
    """The rows of a batch; a value of Arrow's type JSON, or a list of them, is what the JSON says."""
    rows: list[dict[str, Any]] = batch.to_pylist()
    for field in batch.schema:
        if field.type == pa.json_():
            for row in rows:
                row[field.name] = None if row[field.name] is None else json.loads(row[field.name])
        elif pa.types.is_list(field.type) and field.type.value_type == pa.json_():
            for row in rows:
                row[field.name] = None if row[field.name] is None else list(map(json.loads, row[field.name]))
    return rows


def read_checked(
    store: Store, path: str, sha256: str, columns: Sequence[str] | None = None, *, remedy: str = ""
) -> pa.Table:
    """The table at `path`, whose bytes must have this sha256. Raises StoreError where they are not there or others."""
    remedy = remedy or _run_shard_again(store, path)
    try:
        data = store.read(path)
    except MissingError as error:
        raise _missing(store, path, remedy) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _changed(store, path, sha256, remedy)
    try:
        return pq.ParquetFile(pa.BufferReader(data)).read(columns=columns and list(columns))
    except pa.ArrowInvalid as error:
        raise StoreError(f"{store.place(path)}: not a whole Parquet file ({error}); {remedy}") from error


def _run_shard_again(store: Store, path: str) -> str:
    """The remedy for a table of a shard, whose path names the shard."""
    shard = _SHARD_TABLE.match(path)
    plan_id, index = (shard[1], str(int(shard[2]))) if shard else ("PLAN", "N")
    return f"remove the file and run its shard again with: {rerun_command(store, plan_id, '--shards', index)}"


def check_bytes(store: Store, path: str, sha256: str, *, remedy: str) -> None:
    """Raises StoreError for a file that is missing or whose bytes do not have this sha256; reads it piece by piece."""
    try:
        there = hash_bytes(store, path)
    except MissingError as error:
        raise _missing(store, path, remedy) from error
    if there != sha256:
        raise _changed(store, path, sha256, remedy)


def hash_bytes(store: Store, path: str) -> str:
    """The sha256 of a file's bytes, 64 hex digits; reads it piece by piece. Raises MissingError."""
    digest = hashlib.sha256()
    with store.open(path) as stream:
        piece = stream.read(_PIECE_BYTES)
        while piece:
            digest.update(piece)
            piece = stream.read(_PIECE_BYTES)
    return digest.hexdigest()


def _missing(store: Store, path: str, remedy: str) -> StoreError:
    return StoreError(f"{store.place(path)}: the file is missing; {remedy}")


def _changed(store: Store, path: str, sha256: str, remedy: str) -> StoreError:
    return StoreError(
        f"{store.place(path)}: its bytes are not those that were written (sha256 {sha256[:16]}...): "
        f"the file was changed afterwards; {remedy}"
    )
