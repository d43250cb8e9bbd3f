"""The ledger: every reply that was paid for, found again by the key of its request, by any worker.

`record` waits until its entry is in the store. Entries that wait are committed together, as one segment, so
after a kill at most the calls in flight are paid for again. `lookup` keeps an index of keys in memory and reads
a segment when a row of it is wanted. A damaged segment is set aside and the rest is used; a fault of the store
stops the run with LedgerError, because a miss would pay again.

Segments may be written and merged by many machines at once. A merge writes the whole before it removes the
parts, so a reader that finds a part gone lists again and finds the whole; an entry that stands twice is harmless.
Leaves out: removal of entries.
"""

import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import pyarrow as pa

from infra.errors import LedgerError
from infra.ledger.group_commit import GroupCommit
from infra.ledger.index import LedgerIndex
from infra.ledger.segment import Digests, Entry, Segment, digests_of, entries_of, merged, precedence, table_of
from infra.ledger.segment_store import FOLDER, SegmentGoneError, SegmentStore
from infra.store import Store

__all__ = ["Entry", "Ledger"]

_log = logging.getLogger(__name__)
_KEY = re.compile(r"[0-9a-f]{64}")
_SMALL = 8 << 20  # decoded bytes below which a segment is worth merging
_MERGED = 32 << 20  # decoded bytes that a merge stops at
_OWN_SEGMENTS = 128  # this ledger's small segments, above which they are merged while it works
_READERS = 16
_REFRESH_S = 5.0
_ATTEMPTS = 8


class Ledger:
    """The calls of one store. Thread-safe; `record` may be awaited on any event loop."""

    def __init__(self, store: Store) -> None:
        """Read the keys of every segment. Raises LedgerError when the store cannot be read."""
        self._place = store.show(FOLDER)
        self._shelf = SegmentStore(store)
        self._index = LedgerIndex()
        self._own: dict[str, Segment] = {}
        self._lock = threading.Lock()  # over the index and the own segments
        self._refreshing = threading.Lock()
        self._merging = threading.Lock()
        self._next_refresh = 0.0
        self._writer = GroupCommit(self._commit, self._merge_own_when_many)
        self.refresh()

    @property
    def set_aside(self) -> int:
        """Damaged segments that this ledger has met."""
        return self._shelf.set_aside

    @property
    def entries(self) -> int:
        """Entries in all segments; one that stands in two segments, until they are merged, counts twice."""
        with self._lock:
            return self._index.rows

    async def record(self, entry: Entry) -> None:
        """Write an entry; returns when it is in the store. Raises LedgerError when it could not be written.

        When the awaiting task is cancelled the entry is written all the same: it is paid for.
        """
        _digest(entry.key)
        entry.reply.encode()  # what cannot be stored fails here, alone, not with the others of its commit
        await self._writer.submit(entry)

    def lookup(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The entries that there are, by key. Raises LedgerError when the store cannot be read."""
        digests = {_digest(key): key for key in keys}
        found = self._collect(list(digests))
        missing = [digest for digest in digests if digest not in found]
        if missing and self.refresh(when_due=True):
            found |= self._collect(missing)
        return {key: found[digest] for digest, key in digests.items() if digest in found}

    def holds(self, keys: Sequence[str]) -> set[str]:
        """The keys that have an entry, without reading the entries. Raises LedgerError."""
        digests = {_digest(key): key for key in keys}
        found = self._find(list(digests))
        if len(found) < len(digests) and self.refresh(when_due=True):
            found = self._find(list(digests))
        return {digests[digest] for digest in found}

    def refresh(self, *, when_due: bool = False) -> bool:
        """Take up what other workers have written and merged since. Raises LedgerError.

        `when_due` leaves it be within five seconds of the last time; False says that it was left.
        """
        with self._refreshing:
            started = time.monotonic()
            if when_due and started < self._next_refresh:
                return False
            attempts = 0
            while not self._take_up():
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise LedgerError(f"{self._place}: segments keep vanishing while they are read; run again")
            now = time.monotonic()
            self._next_refresh = now + max(_REFRESH_S, 10 * (now - started))
            return True

    def compact(self, all: bool = False) -> None:
        """Merge this ledger's own small segments, or with `all` those of every worker. Raises LedgerError.

        Holds about 150 MB at most. No entry is ever out of reach, whoever merges at the same time.
        """
        if all:
            self.refresh()
        with self._merging:
            with self._lock:
                candidates = self._index.segments() if all else list(self._own.values())
            for bucket in _buckets(candidates):
                self._merge(bucket)

    def close(self) -> None:
        """Commit what waits, then merge this ledger's small segments. Reading goes on working."""
        self._writer.close()
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

    def _collect(self, digests: Sequence[bytes]) -> dict[bytes, Entry]:
        """The entries of these keys, segment by segment; again from the start when a segment has gone."""
        for _ in range(_ATTEMPTS):
            by_segment: dict[str, list[bytes]] = {}
            for digest, names in self._find(digests).items():
                for name in names:
                    by_segment.setdefault(name, []).append(digest)
            best: dict[bytes, Entry] = {}
            try:
                for name, wanted in by_segment.items():
                    for entry in entries_of(*self._shelf.rows(name), wanted):
                        digest = bytes.fromhex(entry.key)
                        rival = best.get(digest)
                        if rival is None or precedence(entry) < precedence(rival):
                            best[digest] = entry
            except SegmentGoneError:
                self.refresh()
                continue
            return best
        raise LedgerError(f"{self._place}: segments keep vanishing while they are read; run again")

    def _take_up(self) -> bool:
        """Bring the index in step with the store; False when a segment went while it was read."""
        with self._lock:
            before = self._index.names()
        sizes = self._shelf.sizes()
        with self._lock:
            self._index.drop(before - sizes.keys())
            new = sorted(sizes.keys() - self._index.names())
        whole = True

        def survey(name: str) -> tuple[Segment, Digests] | None:
            try:
                return self._shelf.survey(name, sizes[name])
            except SegmentGoneError:
                return None

        with ThreadPoolExecutor(_READERS) as pool:
            for surveyed in pool.map(survey, new):
                if surveyed is None:
                    whole = False
                    continue
                with self._lock:
                    self._index.add(*surveyed)
        return whole

    def _commit(self, entries: Sequence[Entry]) -> None:
        table = table_of(entries)
        segment = self._shelf.put(table)
        with self._lock:
            self._index.add(segment, digests_of(table))
            if segment.decoded_bytes < _SMALL:
                self._own[segment.name] = segment

    def _merge_own_when_many(self) -> None:
        if len(self._own) < _OWN_SEGMENTS:
            return
        try:
            self.compact()
        except LedgerError as error:
            _log.warning("the ledger's segments stay unmerged for now: %s", error)

    def _merge(self, bucket: Sequence[Segment]) -> None:
        """Write several segments as one, then remove them. Segments that have gone meanwhile are left out."""
        tables: dict[str, pa.Table] = {}
        for segment in bucket:
            try:
                tables[segment.name], _ = self._shelf.rows(segment.name)
            except SegmentGoneError:
                with self._lock:
                    self._own.pop(segment.name, None)
        if len(tables) < 2:
            return
        table = merged(list(tables.values()))
        whole = self._shelf.put(table)
        parts = [name for name in tables if name != whole.name]
        with self._lock:
            self._index.add(whole, digests_of(table))
            if self._own.keys() & tables.keys() and whole.decoded_bytes < _SMALL:
                self._own[whole.name] = whole
            for name in parts:
                self._own.pop(name, None)
            self._index.drop(parts)
        self._shelf.remove(parts)


def _buckets(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Small segments in groups that are worth merging, oldest first, each of a bounded size in memory."""
    bucket: list[Segment] = []
    size = 0
    for segment in sorted(segments, key=lambda segment: (segment.first_created, segment.name)):
        if segment.decoded_bytes >= _SMALL:
            continue
        bucket.append(segment)
        size += segment.decoded_bytes
        if size >= _MERGED:
            yield bucket
            bucket, size = [], 0
    if len(bucket) > 1:
        yield bucket


def _digest(key: str) -> bytes:
    """A key as bytes. Raises LedgerError for one that is no sha256 in hex."""
    if not _KEY.fullmatch(key):
        raise LedgerError(f"{key[:80]!r} is not a ledger key; a key is a sha256 in 64 lower-case hex digits")
    return bytes.fromhex(key)
