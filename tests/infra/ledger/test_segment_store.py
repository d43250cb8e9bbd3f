"""Segments in the store: what is read, how often, what is cached, and what happens to damaged ones."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infra.errors import LedgerError, MissingError, StoreError
from infra.ledger import segment_store
from infra.ledger.segment import encode, entries_table, segment_name
from infra.ledger.segment_store import SegmentGoneError, SegmentStore
from infra.store import Store, open_store
from tests.support.ledger_entries import entry, keys


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


@pytest.fixture
def reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each segment was read from the store, by name."""
    counts: Counter[str] = Counter()
    read = store.read

    def counting_read(path: str) -> bytes:
        counts[path.removeprefix("ledger/")] += 1
        return read(path)

    monkeypatch.setattr(store, "read", counting_read)
    return counts


def write(store: Store, *numbers: int) -> tuple[str, int]:
    """Write a segment as another worker would; returns its name and its size in the store."""
    data = encode(entries_table(entry(number) for number in numbers))
    name = segment_name(data)
    store.write(f"ledger/{name}", data)
    return name, len(data)


def test_a_segment_is_read_from_the_store_once(store: Store, reads: Counter[str]) -> None:
    name, _ = write(store, 1, 2)
    segments = SegmentStore(store)
    for _ in range(3):
        table, digests = segments.read(name)
    assert table.column("key").to_pylist() == sorted(keys([1, 2]))
    assert [bytes(digest) for digest in digests] == [bytes.fromhex(text) for text in sorted(keys([1, 2]))]
    assert reads == {name: 1}


def test_a_segment_is_written_once_and_not_read_back(
    store: Store, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[str] = []
    monkeypatch.setattr(store, "write", lambda path, data: paths.append(path))
    segments = SegmentStore(store)
    info = segments.write(entries_table([entry(1)]))
    segments.read(info.name)
    assert paths == [f"ledger/{info.name}"]
    assert not reads


def test_the_cache_is_bounded_and_drops_the_segment_that_was_not_read_for_longest(
    store: Store, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [write(store, number)[0] for number in range(3)]
    segment_bytes = max(SegmentStore(store).read(name)[0].nbytes for name in names)
    reads.clear()
    monkeypatch.setattr(segment_store, "_CACHE_BYTES", 2 * segment_bytes)
    segments = SegmentStore(store)
    for position in (0, 1, 0, 2, 0, 1):  # 2 takes the place of 1
        segments.read(names[position])
    assert [reads[name] for name in names] == [1, 2, 1]


def test_a_segment_larger_than_the_cache_is_read_and_drops_no_other(
    store: Store, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, _ = write(store, 1)
    large, _ = write(store, *range(100))
    monkeypatch.setattr(segment_store, "_CACHE_BYTES", SegmentStore(store).read(small)[0].nbytes)
    reads.clear()
    segments = SegmentStore(store)
    for name in (small, large, small, large):
        assert segments.read(name)[0].num_rows == (1 if name == small else 100)
    assert reads == {small: 1, large: 2}


def test_a_removed_segment_leaves_the_cache(store: Store) -> None:
    segments = SegmentStore(store)
    name = segments.write(entries_table([entry(1)])).name
    segments.remove([name, "f" * 64 + ".parquet"])
    with pytest.raises(SegmentGoneError):
        segments.read(name)


@pytest.mark.parametrize(("limit_above_size", "whole"), [(0, True), (-1, False)])
def test_of_a_large_segment_only_the_keys_are_read(
    store: Store, reads: Counter[str], monkeypatch: pytest.MonkeyPatch, limit_above_size: int, whole: bool
) -> None:
    name, size = write(store, *range(50))
    monkeypatch.setattr(segment_store, "_SMALL_FILE_BYTES", size + limit_above_size)
    info, digests = SegmentStore(store).info(name, size)
    assert (info.name, info.rows, len(digests)) == (name, 50, 50)
    assert info.first_created == entry(0).created
    assert (reads[name] == 1) is whole


def test_a_listing_that_loses_a_name_is_made_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [segment_name(bytes([number])) for number in range(4)]
    listings = [names[:2], names[1:3], names[2:], names[1:]]
    monkeypatch.setattr(store, "sizes", lambda prefix: {f"{prefix}/{name}": 1 for name in listings.pop(0)})
    assert SegmentStore(store).sizes() == dict.fromkeys(names[1:], 1)
    assert not listings


def test_a_write_is_tried_three_times_with_growing_pauses(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)

    def fail(path: str, data: bytes) -> None:
        raise StoreError("no network")

    monkeypatch.setattr(store, "write", fail)
    with pytest.raises(LedgerError, match="2 replies cannot be written to the ledger: no network"):
        SegmentStore(store).write(entries_table([entry(1), entry(2)]))
    assert pauses == [0.2, 1.0]


def test_a_damaged_segment_that_cannot_be_moved_is_listed_again_after_it_was_written_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = write(store, 1)
    store.write(f"ledger/{name}", b"damaged")

    def refuse(source: str, target: str) -> None:
        raise StoreError("read-only")

    monkeypatch.setattr(store, "move", refuse)
    segments = SegmentStore(store)
    with pytest.raises(SegmentGoneError):
        segments.read(name)
    assert (segments.sizes(), segments.damaged_segments) == ({}, 1)
    assert segments.write(entries_table([entry(1)])).name == name
    assert list(segments.sizes()) == [name]


def test_a_damaged_segment_that_another_worker_has_moved_is_no_fault(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name, _ = write(store, 1)
    store.write(f"ledger/{name}", b"damaged")

    def too_late(source: str, target: str) -> None:
        raise MissingError("moved already")

    monkeypatch.setattr(store, "move", too_late)
    segments = SegmentStore(store)
    with pytest.raises(SegmentGoneError):
        segments.read(name)
    assert list(segments.sizes()) == [name]  # it is not on the list of those that could not be moved
    assert "7 bytes" in caplog.text and "could not be moved" not in caplog.text


@pytest.mark.parametrize("fault", [MissingError("gone"), StoreError("no network")])
def test_a_missing_segment_and_a_failing_store_are_different_errors(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: StoreError
) -> None:
    name, size = write(store, 1)

    def fail(path: str) -> Any:
        raise fault

    monkeypatch.setattr(store, "read", fail)
    monkeypatch.setattr(store, "open", fail)
    monkeypatch.setattr(segment_store, "_SMALL_FILE_BYTES", 0)
    expected = SegmentGoneError if isinstance(fault, MissingError) else LedgerError
    with pytest.raises(expected):
        SegmentStore(store).info(name, size)
