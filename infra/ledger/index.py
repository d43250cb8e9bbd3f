"""Which segments hold a key: 36 bytes a call, in sorted numpy arrays, with a small dictionary of the newest.

Keys are 32-byte digests. A key may stand in several segments. Dropping a segment is cheap: its rows are passed
over and leave with the next merge of the arrays. Not thread-safe by itself; the ledger holds a lock.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from infra.ledger.segment import Digests, Segment

_NEW_ROWS = 1 << 16


class LedgerIndex:
    """Segments by key, of the segments that were added and not dropped."""

    def __init__(self) -> None:
        self._segments: dict[int, Segment] = {}
        self._numbers: dict[str, int] = {}
        self._next = 0
        self._keys: Digests = np.empty(0, dtype="S32")
        self._places = np.empty(0, dtype=np.int32)
        self._loose: list[tuple[int, Digests]] = []
        self._loose_rows = 0
        self._new: dict[bytes, tuple[int, ...]] = {}
        self._settled: list[tuple[int, Digests]] = []  # what `_new` was made of

    @property
    def rows(self) -> int:
        """Rows of all segments; a key in two segments counts twice."""
        return sum(segment.rows for segment in self._segments.values())

    def names(self) -> set[str]:
        """The segments' names."""
        return set(self._numbers)

    def segments(self) -> list[Segment]:
        """The segments, oldest first."""
        return sorted(self._segments.values(), key=lambda segment: (segment.first_created, segment.name))

    def add(self, segment: Segment, digests: Digests) -> None:
        """Take up a segment; one that is known already changes nothing."""
        if segment.name in self._numbers:
            return
        self._numbers[segment.name] = self._next
        self._segments[self._next] = segment
        self._loose.append((self._next, digests))
        self._loose_rows += len(digests)
        self._next += 1

    def drop(self, names: Iterable[str]) -> None:
        """Forget segments."""
        for name in names:
            number = self._numbers.pop(name, None)
            if number is not None:
                del self._segments[number]

    def find(self, digests: Sequence[bytes]) -> dict[bytes, list[str]]:
        """The segments that hold each key; keys that stand nowhere are left out."""
        self._settle()
        wanted = np.array(list(digests), dtype="S32")
        lefts = np.searchsorted(self._keys, wanted, side="left").tolist()
        rights = np.searchsorted(self._keys, wanted, side="right").tolist()
        found: dict[bytes, list[str]] = {}
        for digest, left, right in zip(digests, lefts, rights, strict=True):
            numbers = [*self._places[left:right].tolist(), *self._new.get(digest, ())]
            names = [self._segments[number].name for number in numbers if number in self._segments]
            if names:
                found[digest] = names
        return found

    def _settle(self) -> None:
        """Bring segments that were added since the last search into the dictionary, or all into the arrays."""
        if not self._loose:
            return
        if self._loose_rows + len(self._new) > _NEW_ROWS:
            self._fold()
            return
        for number, digests in self._loose:
            for digest in _whole(digests):
                self._new[digest] = (*self._new.get(digest, ()), number)
        self._settled += self._loose
        self._loose, self._loose_rows = [], 0

    def _fold(self) -> None:
        parts = [(number, keys) for number, keys in [*self._settled, *self._loose] if number in self._segments]
        alive = np.isin(self._places, np.fromiter(self._segments, dtype=np.int32, count=len(self._segments)))
        keys = np.concatenate([self._keys[alive], *(digests for _, digests in parts)])
        numbers = [np.full(len(digests), number, dtype=np.int32) for number, digests in parts]
        places = np.concatenate([self._places[alive], *numbers])
        order = np.argsort(keys, kind="stable")
        self._keys, self._places = keys[order], places[order]
        self._loose, self._loose_rows, self._new, self._settled = [], 0, {}, []


def _whole(digests: Digests) -> list[bytes]:
    """Each digest as 32 bytes: numpy's own conversion would strip zero bytes from the end."""
    raw = digests.tobytes()
    return [raw[start : start + 32] for start in range(0, len(raw), 32)]
