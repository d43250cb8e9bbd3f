"""The segments of a ledger in the store: list, read and check, write, set damaged ones aside.

The bytes of a segment are compared with its name before one of its rows is used. Bytes that do not match are read
a second time; if they still do not match, the file is moved to `ledger-set-aside/`, where a person can look at it.
Faults of the store are raised as LedgerError. Decoded segments are cached in memory, up to 64 MiB.
"""

import contextlib
import logging
import re
import threading
import time

import pyarrow as pa
from cachetools import LRUCache

from infra.errors import LedgerError, MissingError, StoreError
from infra.ledger.segment import (
    Digests,
    SegmentInfo,
    decode,
    digests_of,
    encode,
    read_info,
    segment_name,
    table_info,
)
from infra.store import Store

FOLDER = "ledger"
SET_ASIDE_FOLDER = "ledger-set-aside"

_log = logging.getLogger(__name__)
_SEGMENT_NAME = re.compile(r"[0-9a-f]{64}\.parquet")
_SMALL_FILE_BYTES = 1 << 20  # a new segment up to this size is read whole and checked at once
_CACHE_BYTES = 64 << 20
_WRITE_RETRY_PAUSES_S = (0.2, 1.0)  # the store's own client has retried before


class SegmentGoneError(Exception):
    """The segment is no longer there: merged by another worker, or set aside because it is damaged."""


class SegmentStore:
    """The segments in one store. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()  # guards the fields below
        self._cache: LRUCache[str, tuple[pa.Table, Digests]] = LRUCache(_CACHE_BYTES, getsizeof=_table_bytes)
        self._unmovable: set[str] = set()  # damaged segments that the store refused to move
        self.damaged_segments = 0  # number met so far

    def sizes(self) -> dict[str, int]:
        """Stored bytes by segment name, from the first listing that has all names of the listing before it.

        One listing alone could pass the place of a merged segment before that is written, and the places of its
        parts after they are removed, and so miss both.
        """
        previous = self._list()
        while True:
            current = self._list()
            if previous.keys() <= current.keys():
                break
            previous = current
        with self._lock:
            for name in self._unmovable:
                current.pop(name, None)
        return current

    def _list(self) -> dict[str, int]:
        try:
            sizes_by_path = self._store.sizes(FOLDER)
        except StoreError as error:
            raise LedgerError(f"the ledger cannot be listed: {error}") from error
        sizes: dict[str, int] = {}
        for path, size in sizes_by_path.items():
            name = path.removeprefix(f"{FOLDER}/")
            if _SEGMENT_NAME.fullmatch(name):
                sizes[name] = size
        return sizes

    def info(self, name: str, size: int) -> tuple[SegmentInfo, Digests]:
        """The info and the keys of a segment of `size` stored bytes. Raises SegmentGoneError and LedgerError.

        Of a large segment only a part is read.
        """
        if size > _SMALL_FILE_BYTES:
            with contextlib.suppress(StoreError, ValueError, OSError), self._store.open(f"{FOLDER}/{name}") as file:
                return read_info(name, file)
        table, digests = self.read(name)  # after a fault above this decides: store, missing or damaged
        return table_info(name, table), digests

    def read(self, name: str) -> tuple[pa.Table, Digests]:
        """The rows of a segment, checked, and their keys. Raises SegmentGoneError and LedgerError."""
        with self._lock:
            rows = self._cache.get(name)
        if rows is not None:
            return rows
        table = self._read_checked(name)
        return self._add_to_cache(name, table)

    def write(self, table: pa.Table) -> SegmentInfo:
        """Write a segment; tries three times. Raises LedgerError.

        A segment of this name that exists already is written again with the same bytes: it may be damaged.
        """
        data = encode(table)
        name = segment_name(data)
        for pause_s in (*_WRITE_RETRY_PAUSES_S, None):
            try:
                self._store.write(f"{FOLDER}/{name}", data)
                break
            except StoreError as error:
                if pause_s is None:
                    raise LedgerError(f"{table.num_rows} replies cannot be written to the ledger: {error}") from error
                time.sleep(pause_s)
        with self._lock:
            self._unmovable.discard(name)
        self._add_to_cache(name, table)
        return table_info(name, table)

    def remove(self, names: list[str]) -> None:
        """Remove segments whose entries are in other segments too. Raises LedgerError."""
        with self._lock:
            for name in names:
                self._cache.pop(name, None)
        try:
            self._store.delete(*[f"{FOLDER}/{name}" for name in names])
        except StoreError as error:
            raise LedgerError(f"merged segments cannot be removed, which loses nothing: {error}") from error

    def _add_to_cache(self, name: str, table: pa.Table) -> tuple[pa.Table, Digests]:
        rows = table, digests_of(table)
        if _table_bytes(rows) <= _CACHE_BYTES:
            with self._lock:
                self._cache[name] = rows
        return rows

    def _read_checked(self, name: str) -> pa.Table:
        data = self._read_bytes(name)
        if segment_name(data) != name:
            data = self._read_bytes(name)  # perhaps the transfer was damaged, and not the file
        if segment_name(data) != name:
            self._set_aside(name, len(data))
            raise SegmentGoneError(name)
        try:
            return decode(data)
        except (ValueError, OSError) as error:
            raise LedgerError(
                f"{self._store.place(f'{FOLDER}/{name}')}: whole, but not a ledger segment of this version ({error}); "
                "use the version of Longmill that wrote it, or move the file away"
            ) from error

    def _read_bytes(self, name: str) -> bytes:
        try:
            return self._store.read(f"{FOLDER}/{name}")
        except MissingError as error:
            raise SegmentGoneError(name) from error
        except StoreError as error:
            raise LedgerError(
                f"the ledger cannot be read, and a call is not paid for again because of that: {error}"
            ) from error

    def _set_aside(self, name: str, size: int) -> None:
        """Move a damaged segment to its own folder; where that fails, ignore it from now on."""
        with self._lock:
            self.damaged_segments += 1
        place = self._store.place(f"{SET_ASIDE_FOLDER}/{name}")
        _log.warning("a ledger segment of %d bytes does not fit its checksum; it is set aside as %s", size, place)
        try:
            self._store.move(f"{FOLDER}/{name}", f"{SET_ASIDE_FOLDER}/{name}")
        except MissingError:
            pass  # another worker has moved it
        except StoreError as error:
            with self._lock:
                self._unmovable.add(name)
            _log.warning("it could not be moved, and is passed over where it is: %s", error)


def _table_bytes(rows: tuple[pa.Table, Digests]) -> int:
    return int(rows[0].nbytes)
