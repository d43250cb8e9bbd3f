"""The segments of a ledger as they lie in the store: listing, reading with a check, writing, setting aside.

A segment's bytes are checked against its name before a row of them is believed. Bytes that do not fit are read
once more, and then moved to `ledger-set-aside/`, where a person can look at them. Faults of the store are
raised as LedgerError. Decoded segments are kept in memory up to 64 MiB.
"""

import contextlib
import logging
import re
import threading
import time
from collections import OrderedDict

import pyarrow as pa

from infra.errors import LedgerError, MissingError, StoreError
from infra.ledger.segment import Digests, Segment, decode, describe, digests_of, encode, name_of, survey
from infra.store import Store

FOLDER = "ledger"
SET_ASIDE = "ledger-set-aside"

_log = logging.getLogger(__name__)
_SEGMENT = re.compile(r"[0-9a-f]{64}\.parquet")
_READ_WHOLE = 1 << 20  # stored bytes up to which a new segment is read and checked at once
_CACHE_BYTES = 64 << 20
_WRITE_AGAIN_S = (0.2, 1.0)


class SegmentGoneError(Exception):
    """A segment is no longer there: merged by another worker, or set aside."""


class SegmentStore:
    """The segments under one store. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, tuple[pa.Table, Digests]] = OrderedDict()
        self._cached_bytes = 0
        self._immovable: set[str] = set()  # damaged, and the store refused to move them
        self.set_aside = 0  # damaged segments met so far

    def sizes(self) -> dict[str, int]:
        """Stored bytes by segment name. Two listings must agree that nothing vanished between them.

        A single listing could pass the place of a merged segment before it is written and the places of its
        parts after they are removed, and so miss both.
        """
        seen = self._list()
        while True:
            now = self._list()
            if seen.keys() <= now.keys():
                return {name: size for name, size in now.items() if name not in self._immovable}
            seen = now

    def _list(self) -> dict[str, int]:
        try:
            found = self._store.sizes(FOLDER)
        except StoreError as error:
            raise LedgerError(f"the ledger cannot be listed: {error}") from error
        return {name: size for path, size in found.items() if _SEGMENT.fullmatch(name := path[len(FOLDER) + 1 :])}

    def survey(self, name: str, size: int) -> tuple[Segment, Digests]:
        """A segment's facts and keys; a large one is not read whole for it. Raises GoneError and LedgerError."""
        if size > _READ_WHOLE:
            with contextlib.suppress(StoreError, ValueError, OSError), self._store.open(f"{FOLDER}/{name}") as file:
                return survey(name, file)
        table, keys = self.rows(name)  # which tells a fault, a vanished segment and a damaged one apart
        return describe(name, table), keys

    def rows(self, name: str) -> tuple[pa.Table, Digests]:
        """A segment's rows, checked, and their keys. Raises GoneError and LedgerError."""
        with self._lock:
            if name in self._cache:
                self._cache.move_to_end(name)
                return self._cache[name]
        return self._keep(name, self._read(name))

    def put(self, table: pa.Table) -> Segment:
        """Write a segment; tries three times. Raises LedgerError.

        A segment of this name that stands there already is written over with the same bytes, because it may
        be damaged.
        """
        data = encode(table)
        name = name_of(data)
        for pause in (*_WRITE_AGAIN_S, None):
            try:
                self._store.write(f"{FOLDER}/{name}", data)
            except StoreError as error:
                if pause is None:
                    raise LedgerError(f"{table.num_rows} replies cannot be written to the ledger: {error}") from error
                time.sleep(pause)
            else:
                break
        with self._lock:
            self._immovable.discard(name)
        self._keep(name, table)
        return describe(name, table)

    def remove(self, names: list[str]) -> None:
        """Remove segments whose entries stand elsewhere. Raises LedgerError."""
        with self._lock:
            for name in names:
                if (rows := self._cache.pop(name, None)) is not None:
                    self._cached_bytes -= rows[0].nbytes
        try:
            self._store.delete(*[f"{FOLDER}/{name}" for name in names])
        except StoreError as error:
            raise LedgerError(f"merged segments cannot be removed, which loses nothing: {error}") from error

    def _keep(self, name: str, table: pa.Table) -> tuple[pa.Table, Digests]:
        rows = table, digests_of(table)
        with self._lock:
            if name not in self._cache:
                self._cache[name] = rows
                self._cached_bytes += table.nbytes
            while self._cached_bytes > _CACHE_BYTES:
                self._cached_bytes -= self._cache.popitem(last=False)[1][0].nbytes
        return rows

    def _read(self, name: str) -> pa.Table:
        data = self._bytes(name)
        if name_of(data) != name:
            data = self._bytes(name)  # a transfer may fail without a word; the store's own copy may be whole
        if name_of(data) != name:
            self._put_aside(name, len(data))
            raise SegmentGoneError(name)
        try:
            return decode(data)
        except (ValueError, OSError) as error:
            raise LedgerError(
                f"{self._store.show(f'{FOLDER}/{name}')}: whole, but not a ledger segment of this version ({error}); "
                "use the version of Longmill that wrote it, or move the file away"
            ) from error

    def _bytes(self, name: str) -> bytes:
        try:
            return self._store.read(f"{FOLDER}/{name}")
        except MissingError as error:
            raise SegmentGoneError(name) from error
        except StoreError as error:
            raise LedgerError(
                f"the ledger cannot be read, and a call is not paid for again because of that: {error}"
            ) from error

    def _put_aside(self, name: str, size: int) -> None:
        with self._lock:
            self.set_aside += 1
        place = self._store.show(f"{SET_ASIDE}/{name}")
        _log.warning("a ledger segment of %d bytes does not fit its checksum; it is set aside as %s", size, place)
        try:
            self._store.move(f"{FOLDER}/{name}", f"{SET_ASIDE}/{name}")
        except MissingError:
            pass  # another worker was first
        except StoreError as error:
            with self._lock:
                self._immovable.add(name)
            _log.warning("it could not be moved, and is passed over where it is: %s", error)
