"""Which segments have a key: key files on disk, sorted numpy arrays for what is newer, a dictionary of the newest.

Keys are digests of 32 bytes. A row takes no memory in a key file (key_files.py), 36 bytes in the arrays. A key may be
in several segments. Removing a segment is cheap: its rows stay where they are, are ignored, and leave with the next
merge of the arrays or the next key file. Not thread-safe; the ledger uses a lock.
"""

from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np

from infra.ledger.key_files import KeyFile, Numbers, Prefixes, prefixes_of
from infra.ledger.segment import Digests, SegmentInfo

_RECENT_ROWS = 1 << 16  # rows that the dictionary holds at most; a row there takes far more memory than in the arrays


class LedgerIndex:
    """Finds the segments of a key, among the segments that were added and not removed."""

    def __init__(self) -> None:
        self._segments: dict[int, SegmentInfo] = {}  # by number; a number is never used twice
        self._numbers: dict[str, int] = {}  # of segments, by name
        self._next_number = 0
        self._digests: Digests = np.empty(0, dtype="S32")  # sorted
        self._digest_segments = np.empty(0, dtype=np.int32)  # the segment number of each digest above
        self._recent: dict[bytes, tuple[int, ...]] = {}  # segment numbers by digest
        self._recent_segments: list[tuple[int, Digests]] = []  # the segments in `_recent`
        self._pending_segments: list[tuple[int, Digests]] = []  # added since the last search
        self._pending_rows = 0
        self._files: list[tuple[KeyFile, dict[int, int]]] = []  # with the number here of each segment of the file
        self._loose: dict[int, int] = {}  # rows of the segments that no file covers, by number

    @property
    def rows(self) -> int:
        """Rows of all segments; a key in two segments counts twice."""
        return sum(segment.rows for segment in self._segments.values())

    def names(self) -> set[str]:
        """The names of the segments."""
        return set(self._numbers)

    def segments(self) -> list[SegmentInfo]:
        """The segments, in the order in which they were added."""
        return list(self._segments.values())

    def add(self, segment: SegmentInfo, digests: Digests) -> None:
        """Add a segment. One that is in the index already changes nothing."""
        if segment.name in self._numbers:
            return
        self._numbers[segment.name] = self._next_number
        self._segments[self._next_number] = segment
        self._pending_segments.append((self._next_number, digests))
        self._pending_rows += len(digests)
        self._loose[self._next_number] = segment.rows
        self._next_number += 1

    def add_file(self, file: KeyFile, present: Container[str]) -> None:
        """Add the segments of a key file that are among those `present` and not in the index yet."""
        numbers: dict[int, int] = {}
        for position, segment in enumerate(file.segments):
            if segment.name in present and segment.name not in self._numbers:
                self._numbers[segment.name] = numbers[position] = self._next_number
                self._segments[self._next_number] = segment
                self._next_number += 1
        if numbers:
            self._files.append((file, numbers))

    def loose(self) -> tuple[int, int]:
        """How many segments no key file covers, and their rows."""
        return len(self._loose), sum(self._loose.values())

    def file_rows(self) -> tuple[list[SegmentInfo], Prefixes, Numbers]:
        """What a key file over all segments holds: these by name, and in any order the prefix and segment of each row.

        As if they were read now: the rows of removed segments are left out.
        """
        self._merge_arrays()
        segments = sorted(self._segments.items(), key=lambda item: item[1].name)
        positions = {number: position for position, (number, _) in enumerate(segments)}
        prefixes = [prefixes_of(self._digests)]
        numbers = [_renumbered(self._digest_segments, positions)]
        for file, own_numbers in self._files:
            of_file = {}
            for position, number in own_numbers.items():
                if number in positions:
                    of_file[position] = positions[number]
            prefixes.append(file.prefixes)
            numbers.append(_renumbered(file.numbers, of_file))
        all_prefixes, all_numbers = np.concatenate(prefixes), np.concatenate(numbers)
        present = all_numbers >= 0
        return [segment for _, segment in segments], all_prefixes[present], all_numbers[present]

    def remove(self, names: Iterable[str]) -> None:
        """Remove segments. A name that is not in the index changes nothing."""
        for name in names:
            number = self._numbers.pop(name, None)
            if number is not None:
                del self._segments[number]
                self._loose.pop(number, None)

    def find(self, digests: Sequence[bytes]) -> dict[bytes, list[str]]:
        """The names of the segments that have a key, by key. A key that no segment has is left out."""
        self._index_pending()
        targets = np.array(list(digests), dtype="S32")
        starts = np.searchsorted(self._digests, targets, side="left").tolist()
        stops = np.searchsorted(self._digests, targets, side="right").tolist()
        names_by_digest: dict[bytes, list[str]] = {}
        for digest, start, stop in zip(digests, starts, stops, strict=True):
            numbers = [*self._digest_segments[start:stop].tolist(), *self._recent.get(digest, ())]
            for number in numbers:
                if number in self._segments:
                    names_by_digest.setdefault(digest, []).append(self._segments[number].name)
        self._find_in_files(digests, targets, names_by_digest)
        return names_by_digest

    def _find_in_files(self, digests: Sequence[bytes], targets: Digests, names: dict[bytes, list[str]]) -> None:
        if not self._files:
            return
        prefixes = prefixes_of(targets)
        for file, own_numbers in self._files:
            starts = np.searchsorted(file.prefixes, prefixes, side="left")
            stops = np.searchsorted(file.prefixes, prefixes, side="right")
            for position in np.flatnonzero(stops > starts).tolist():
                for in_file in file.numbers[starts[position] : stops[position]].tolist():
                    segment = self._segments.get(own_numbers.get(in_file, -1))
                    if segment is not None:
                        names.setdefault(digests[position], []).append(segment.name)

    def _index_pending(self) -> None:
        """Bring the pending segments into the dictionary, or everything into the arrays when it gets too large."""
        if not self._pending_segments:
            return
        if self._pending_rows + len(self._recent) > _RECENT_ROWS:
            self._merge_arrays()
            return
        for number, digests in self._pending_segments:
            for digest in _split(digests):
                self._recent[digest] = (*self._recent.get(digest, ()), number)
        self._recent_segments += self._pending_segments
        self._pending_segments, self._pending_rows = [], 0

    def _merge_arrays(self) -> None:
        """Sort the rows of all segments into the arrays, without the rows of removed segments."""
        present = np.fromiter(self._segments, dtype=np.int32, count=len(self._segments))
        remaining = np.isin(self._digest_segments, present)
        digest_arrays = [self._digests[remaining]]
        number_arrays = [self._digest_segments[remaining]]
        for number, digests in [*self._recent_segments, *self._pending_segments]:
            if number in self._segments:
                digest_arrays.append(digests)
                number_arrays.append(np.full(len(digests), number, dtype=np.int32))
        all_digests = np.concatenate(digest_arrays)
        order = np.argsort(all_digests, kind="stable")
        self._digests = all_digests[order]
        self._digest_segments = np.concatenate(number_arrays)[order]
        self._recent, self._recent_segments = {}, []
        self._pending_segments, self._pending_rows = [], 0


def _renumbered(numbers: Numbers, positions: Mapping[int, int]) -> Numbers:
    """Numbers of segments replaced by their positions; -1 where there is none."""
    table = np.full(int(numbers.max(initial=-1)) + 1, -1, dtype=np.int32)
    for number, position in positions.items():
        if number < len(table):
            table[number] = position
    return table[numbers]


def _split(digests: Digests) -> list[bytes]:
    """The digests as bytes, 32 each: numpy's own conversion would strip zero bytes from the end."""
    data = digests.tobytes()
    return [data[start : start + 32] for start in range(0, len(data), 32)]
