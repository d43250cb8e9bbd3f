"""The ledger: the reply of every paid call, found by the key of its request, on any machine.

`record` returns when its entry is in the store. Entries that wait are committed together, as one segment, so after a
kill at most the calls in flight are paid for again. `lookup` searches an index of all keys, in key files and for newer
segments in memory, and reads the segments that have an entry. A damaged segment is set aside and the others are used. A
fault of the store raises LedgerError and stops the run: to take it for a missing entry would pay again.

Many machines may write and merge segments at the same time. A merge writes the merged segment before it removes
its parts. A reader that finds a part missing lists the segments again and finds the merged one. An entry that is in
two segments does no harm, and a refusal is replaced by recording what came when the call was made again
(`segment.precedence`).
Leaves out: removal of entries.
"""

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import pyarrow as pa

from infra.errors import LedgerError, StoreError
from infra.ledger.group_commit import GroupCommit
from infra.ledger.index import LedgerIndex
from infra.ledger.key_files import key_file_paths, open_key_file, write_key_file
from infra.ledger.segment import (
    Digests,
    Entry,
    SegmentInfo,
    digests_of,
    entries_table,
    find_entries,
    merge_tables,
    precedence,
)
from infra.ledger.segment_store import FOLDER, SegmentGoneError, SegmentStore
from infra.store import Store

__all__ = ["Entry", "Ledger"]

_log = logging.getLogger(__name__)
_KEY = re.compile(r"[0-9a-f]{64}")
_SMALL_SEGMENT_BYTES = 8 << 20  # decoded; a segment below this size is worth merging
_MERGE_BYTES = 32 << 20  # decoded; a merge takes no further segment when it has this much
_MAX_OWN_SEGMENTS = 128  # small segments of this ledger; when there are so many they are merged during the run
_READ_THREADS = 16
_FEW_SEGMENTS = 8  # that no key file covers: they are read one by one
_MANY_SEGMENTS = 256  # a key file is written for these, however few rows they have
_LEAST_ROWS = 50_000  # in no key file: with fewer, none is worth writing
_LOOSE_SHARE = 0.2  # of all rows, in no key file: another one is written for these
_REFRESH_INTERVAL_S = 5.0
_ATTEMPTS = 8  # to read a set of segments that other workers are merging


class Ledger:
    """The paid calls of one store. Thread-safe; `record` may be awaited on any event loop."""

    def __init__(self, store: Store) -> None:
        """Read the keys of the segments that no key file covers. Raises LedgerError when the store cannot be read."""
        self._store = store
        self._location = store.place(FOLDER)
        self._segments = SegmentStore(store)
        self._index = LedgerIndex()
        self._key_files: set[str] = set()  # paths of those in the index
        self._own_segments: dict[str, SegmentInfo] = {}  # small ones that this ledger has written, by name
        self._lock = threading.Lock()  # guards the index and the own segments
        self._refresh_lock = threading.Lock()
        self._merge_lock = threading.Lock()
        self._next_refresh = 0.0  # time.monotonic
        self._group_commit = GroupCommit(self._commit, self._merge_own_segments_when_many)
        self.refresh()

    @property
    def damaged_segments(self) -> int:
        """Damaged segments that this ledger has met and set aside."""
        return self._segments.damaged_segments

    @property
    def entries(self) -> int:
        """Entries in all segments; one that is in two segments counts twice until they are merged."""
        with self._lock:
            return self._index.rows

    async def record(self, entry: Entry) -> None:
        """Write an entry; returns when it is in the store. Raises LedgerError when it could not be written.

        When the awaiting task is cancelled the entry is written all the same: it is paid for.
        """
        _digest(entry.key)
        entry.reply.encode()  # a text that cannot be encoded fails here, and not the whole commit that it joins
        await self._group_commit.submit(entry)

    def lookup(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The entries with these keys, by key and in their order; a key without an entry is left out.

        Raises LedgerError when the store cannot be read.
        """
        digests = {_digest(key): key for key in keys}
        entries = self._read_entries(list(digests))
        missing = [digest for digest in digests if digest not in entries]
        if missing and self.refresh(when_due=True):
            entries |= self._read_entries(missing)
        entries_by_key = {}
        for digest, key in digests.items():
            if digest in entries:
                entries_by_key[key] = entries[digest]
        return entries_by_key

    def holds(self, keys: Sequence[str]) -> set[str]:
        """The keys that have an entry, without reading the entries. Raises LedgerError."""
        digests = {_digest(key): key for key in keys}
        present = self._find(list(digests))
        if len(present) < len(digests) and self.refresh(when_due=True):
            present = self._find(list(digests))
        return {digests[digest] for digest in present}

    def refresh(self, *, when_due: bool = False) -> bool:
        """Bring the index up to date with what other workers have written and merged. Raises LedgerError.

        With `when_due` nothing is done within five seconds of the last refresh. Returns whether it was done.
        """
        with self._refresh_lock:
            start = time.monotonic()
            if when_due and start < self._next_refresh:
                return False
            attempts = 0
            while not self._update_index():
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise LedgerError(f"{self._location}: segments keep vanishing while they are read; run again")
            end = time.monotonic()
            self._next_refresh = end + max(_REFRESH_INTERVAL_S, 10 * (end - start))
            return True

    def compact(self, all: bool = False) -> None:
        """Merge this ledger's own small segments, or with `all` those of every worker. Raises LedgerError.

        Takes about 150 MB of memory at most. Every entry can be found at all times, also when others merge too.
        """
        if all:
            self.refresh()
        with self._merge_lock:
            with self._lock:
                candidates = self._index.segments() if all else list(self._own_segments.values())
            for group in _merge_groups(candidates):
                self._merge(group)
        self._write_key_file_when_due()

    def close(self) -> None:
        """Commit the entries that wait, then merge this ledger's small segments. Reading still works afterwards."""
        self._group_commit.close()
        try:
            self.compact()
        except LedgerError as error:
            _log.warning("the ledger's segments stay unmerged, which loses nothing: %s", error)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, digests: Sequence[bytes]) -> dict[bytes, list[str]]:
        with self._lock:
            return self._index.find(digests)

    def _read_entries(self, digests: Sequence[bytes]) -> dict[bytes, Entry]:
        """The entries with these keys, by key; starts again when a segment has gone."""
        for _ in range(_ATTEMPTS):
            digests_by_segment: dict[str, list[bytes]] = {}
            for digest, names in self._find(digests).items():
                for name in names:
                    digests_by_segment.setdefault(name, []).append(digest)
            try:
                return self._read_from_segments(digests_by_segment)
            except SegmentGoneError:
                self.refresh()
        raise LedgerError(f"{self._location}: segments keep vanishing while they are read; run again")

    def _read_from_segments(self, digests_by_segment: dict[str, list[bytes]]) -> dict[bytes, Entry]:
        """The entries by key; the one that comes first where several segments have one. Raises SegmentGoneError."""
        entries: dict[bytes, Entry] = {}
        for name, digests in digests_by_segment.items():
            table, table_digests = self._segments.read(name)
            for entry in find_entries(table, table_digests, digests):
                digest = bytes.fromhex(entry.key)
                other = entries.get(digest)
                if other is None or precedence(entry) < precedence(other):
                    entries[digest] = entry
        return entries

    def _update_index(self) -> bool:
        """Add new segments to the index and remove those that are gone; False when one went while it was read."""
        with self._lock:
            names_before = self._index.names()
        sizes = self._segments.sizes()
        with self._lock:
            # a segment that this ledger has written since the listing began is in neither set, and stays
            self._index.remove(names_before - sizes.keys())
            new_names = sorted(sizes.keys() - self._index.names())
        if len(new_names) >= _FEW_SEGMENTS:
            self._add_key_files(sizes)
            with self._lock:
                new_names = sorted(sizes.keys() - self._index.names())

        def read_info(name: str) -> tuple[SegmentInfo, Digests] | None:
            try:
                return self._segments.info(name, sizes[name])
            except SegmentGoneError:
                return None

        complete = True
        with ThreadPoolExecutor(_READ_THREADS) as pool:
            for info_and_digests in pool.map(read_info, new_names):
                if info_and_digests is None:
                    complete = False
                    continue
                with self._lock:
                    self._index.add(*info_and_digests)
        return complete

    def _add_key_files(self, sizes: Mapping[str, int]) -> None:
        """Take what key files know of the segments that are not in the index yet: the largest file first."""
        files = []
        self._key_files = set(key_file_paths(self._store))
        for path in self._key_files:
            file = open_key_file(self._store, path)
            if file is not None:
                files.append(file)
        with self._lock:
            for file in sorted(files, key=lambda file: len(file.prefixes), reverse=True):
                self._index.add_file(file, sizes)

    def _write_key_file_when_due(self) -> None:
        """Write a key file over all segments where many are in none, and remove those before it."""
        with self._lock:
            segments, rows = self._index.loose()
            all_rows = self._index.rows
        if segments < _MANY_SEGMENTS and (segments < _FEW_SEGMENTS or rows < max(_LEAST_ROWS, all_rows * _LOOSE_SHARE)):
            return
        earlier = key_file_paths(self._store)
        if not self._key_files.issuperset(earlier):
            return  # another process has just written one
        with self._lock:
            contents = self._index.file_rows()
        path = write_key_file(self._store, *contents)
        self._key_files = {path}
        try:
            self._store.delete(*(other for other in earlier if other != path))
        except StoreError as error:
            _log.warning("earlier key files stay, which does no harm: %s", error)

    def _commit(self, entries: Sequence[Entry]) -> None:
        table = entries_table(entries)
        segment = self._segments.write(table)
        with self._lock:
            self._index.add(segment, digests_of(table))
            if segment.decoded_bytes < _SMALL_SEGMENT_BYTES:
                self._own_segments[segment.name] = segment

    def _merge_own_segments_when_many(self) -> None:
        if len(self._own_segments) < _MAX_OWN_SEGMENTS:
            return
        try:
            self.compact()
        except LedgerError as error:
            _log.warning("the ledger's segments stay unmerged for now: %s", error)

    def _merge(self, segments: Sequence[SegmentInfo]) -> None:
        """Write several segments as one, then remove them. Segments that are gone meanwhile are left out."""
        tables: dict[str, pa.Table] = {}
        for segment in segments:
            try:
                tables[segment.name], _ = self._segments.read(segment.name)
            except SegmentGoneError:
                with self._lock:
                    self._own_segments.pop(segment.name, None)
        if len(tables) < 2:
            return
        table = merge_tables(list(tables.values()))
        merged = self._segments.write(table)
        parts = [name for name in tables if name != merged.name]
        with self._lock:
            self._index.add(merged, digests_of(table))
            if self._own_segments.keys() & tables.keys() and merged.decoded_bytes < _SMALL_SEGMENT_BYTES:
                self._own_segments[merged.name] = merged
            for name in parts:
                self._own_segments.pop(name, None)
            self._index.remove(parts)
        self._segments.remove(parts)


def _merge_groups(segments: Sequence[SegmentInfo]) -> Iterator[list[SegmentInfo]]:
    """Groups of small segments to merge, oldest first; the size of a group in memory is bounded."""
    group: list[SegmentInfo] = []
    group_bytes = 0
    for segment in sorted(segments, key=lambda segment: (segment.first_created, segment.name)):
        if segment.decoded_bytes >= _SMALL_SEGMENT_BYTES:
            continue
        group.append(segment)
        group_bytes += segment.decoded_bytes
        if group_bytes >= _MERGE_BYTES:
            yield group
            group, group_bytes = [], 0
    if len(group) > 1:
        yield group


def _digest(key: str) -> bytes:
    """The key as 32 bytes. Raises LedgerError for a text that is not a sha256 in hex."""
    if not _KEY.fullmatch(key):
        raise LedgerError(f"{key[:80]!r} is not a ledger key; a key is a sha256 in 64 lower-case hex digits")
    return bytes.fromhex(key)
