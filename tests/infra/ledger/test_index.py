"""The index keeps few rows in its dictionary, however many are added."""

import numpy as np
import pytest

from infra.ledger import index as index_module
from infra.ledger.index import LedgerIndex
from infra.ledger.segment import Digests, SegmentInfo


def digests(start: int, count: int) -> Digests:
    return np.array([bytes([number]) * 32 for number in range(start, start + count)], dtype="S32")


def test_the_dictionary_of_recent_rows_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_RECENT_ROWS", 10)
    index = LedgerIndex()
    sizes = []
    for number in range(8):
        index.add(SegmentInfo(f"s{number}", 4, 0, 0.0), digests(1 + 4 * number, 4))
        assert index.find([bytes([1 + 4 * number]) * 32]) == {bytes([1 + 4 * number]) * 32: [f"s{number}"]}
        sizes.append(len(index._recent))
    assert sizes == [4, 8, 0, 4, 8, 0, 4, 8]
    assert len(index.find([bytes([number]) * 32 for number in range(1, 33)])) == 32


def test_a_segment_that_is_added_twice_or_removed_twice_counts_once() -> None:
    index = LedgerIndex()
    segment = SegmentInfo("s", 4, 0, 0.0)
    index.add(segment, digests(1, 4))
    index.add(segment, digests(1, 4))
    assert (index.rows, index.segments()) == (4, [segment])
    index.remove(["s", "s", "other"])
    assert (index.rows, index.segments(), index.find([bytes([1]) * 32])) == (0, [], {})
