"""The ledger: nothing is paid twice or lost, damaged files are set aside, and a fault is no missing entry."""

import asyncio
import hashlib
import itertools
import logging
import threading
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import LedgerError, StoreError
from infra.ledger import Entry, Ledger, group_commit, segment_store
from infra.ledger import ledger as ledger_module
from infra.ledger.index import LedgerIndex
from infra.ledger.segment import SegmentInfo, encode, entries_table, merge_tables, precedence, segment_name, table_info
from infra.store import Store, open_store
from tests.support.ledger_entries import entry, key, keys
from tests.support.s3 import store_url


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with store_url(request.param, tmp_path, monkeypatch) as url:
        yield open_store(url)


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def write(store: Store, entries: Iterable[Entry]) -> str:
    """Put a segment there as another worker would; returns its path."""
    data = encode(entries_table(entries))
    path = f"ledger/{segment_name(data)}"
    store.write(path, data)
    return path


async def record_all(ledger: Ledger, entries: Iterable[Entry]) -> None:
    await asyncio.gather(*(ledger.record(entry) for entry in entries))


@pytest.mark.medium
async def test_recorded_entries_are_found_by_every_ledger(store: Store) -> None:
    entries = [entry(number) for number in range(20)]
    with Ledger(store) as ledger:
        await record_all(ledger, entries)
        assert ledger.lookup(keys(range(20))) == {entry.key: entry for entry in entries}
        assert ledger.holds(keys(range(15, 25))) == set(keys(range(15, 20)))
        assert ledger.entries == 20
    other = Ledger(store)
    assert other.lookup(keys(range(18, 22))) == {entry.key: entry for entry in entries[18:]}
    assert list(other.lookup([key(19), key(3), key(99), key(7)])) == [key(19), key(3), key(7)]
    assert (other.entries, other.damaged_segments) == (20, 0)


async def test_a_segment_is_named_by_its_bytes(folder: Store) -> None:
    ledger = Ledger(folder)
    await ledger.record(entry(1))
    (path,) = folder.list("ledger")
    assert path == f"ledger/{hashlib.sha256(folder.read(path)).hexdigest()}.parquet"
    ledger.close()


async def test_waiting_entries_share_one_write(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write, first = folder.write, threading.Event()
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def slow_at_first(path: str, data: bytes) -> None:
        loop.call_soon_threadsafe(begun.set)
        first.wait(20)
        write(path, data)

    monkeypatch.setattr(folder, "write", slow_at_first)
    ledger = Ledger(folder)
    early = asyncio.create_task(ledger.record(entry(0)))
    await begun.wait()
    others = [asyncio.create_task(ledger.record(entry(number))) for number in range(1, 50)]
    await asyncio.sleep(0)
    assert not early.done()  # it does not return before its reply is in the store
    first.set()
    await asyncio.gather(early, *others)
    assert len(folder.list("ledger")) == 2
    ledger.close()


async def test_closing_commits_waiting_entries(folder: Store) -> None:
    ledger = Ledger(folder)
    tasks = [asyncio.create_task(ledger.record(entry(number))) for number in range(10)]
    await asyncio.sleep(0)
    await asyncio.to_thread(ledger.close)
    await asyncio.gather(*tasks)
    assert len(Ledger(folder).lookup(keys(range(10)))) == 10
    with pytest.raises(LedgerError, match="closed"):
        await ledger.record(entry(11))


async def test_an_entry_is_written_although_its_task_was_cancelled(folder: Store) -> None:
    ledger = Ledger(folder)
    task = asyncio.create_task(ledger.record(entry(1)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(ledger.close)
    assert Ledger(folder).holds([key(1)]) == {key(1)}


@pytest.mark.medium
def test_one_loop_records_while_other_threads_look_up(store: Store) -> None:
    ledger = Ledger(store)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    faults: list[Exception] = []

    def read(start: int) -> None:
        try:
            for number in range(start, start + 40):
                asyncio.run_coroutine_threadsafe(ledger.record(entry(number)), loop).result(30)
                assert ledger.lookup([key(number)])[key(number)] == entry(number)
                assert ledger.holds(keys(range(number - 5, number + 1))) >= {key(number)}
        except Exception as error:
            faults.append(error)

    readers = [threading.Thread(target=read, args=(1000 * number,)) for number in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    ledger.close()
    assert not faults
    assert ledger.entries == 160


async def test_a_failing_write_is_retried_and_then_raised_in_every_waiting_task(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, faults = folder.write, [StoreError("s3://b/x: cannot write (network)")] * 2

    def failing(path: str, data: bytes) -> None:
        if faults:
            raise faults.pop()
        write(path, data)

    monkeypatch.setattr(folder, "write", failing)
    monkeypatch.setattr(segment_store, "_WRITE_RETRY_PAUSES_S", (0.0, 0.0))
    ledger = Ledger(folder)
    await ledger.record(entry(1))
    faults += [StoreError("s3://b/x: cannot write (disk full)")] * 100
    results = await asyncio.gather(*(ledger.record(entry(number)) for number in (2, 3)), return_exceptions=True)
    assert [type(result) for result in results] == [LedgerError] * 2
    assert "disk full" in str(results[0])
    assert ledger.holds(keys([1, 2, 3])) == {key(1)}
    faults.clear()
    await ledger.record(entry(2))
    ledger.close()


@pytest.mark.parametrize("bad", ["", "abc", "A" * 64, "../" + "a" * 61, "g" * 64])
async def test_a_key_that_is_no_sha256_is_refused(folder: Store, bad: str) -> None:
    ledger = Ledger(folder)
    with pytest.raises(LedgerError, match="sha256"):
        await ledger.record(replace(entry(1), key=bad))
    with pytest.raises(LedgerError, match="sha256"):
        ledger.lookup([bad])


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.medium
@pytest.mark.parametrize("damage", [_cut, _flipped, lambda data: b""])
@pytest.mark.parametrize("read_whole", [True, False])
def test_a_damaged_segment_is_set_aside_and_the_rest_is_used(
    store: Store, damage: Any, read_whole: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not read_whole:  # as for large segments, of which the keys alone are read at first
        monkeypatch.setattr(segment_store, "_SMALL_FILE_BYTES", 0)
    damaged = write(store, [entry(number) for number in range(10)])
    write(store, [entry(number) for number in range(10, 20)])
    store.write(damaged, damage(store.read(damaged)))
    ledger = Ledger(store)
    assert set(ledger.lookup(keys(range(20)))) == set(keys(range(10, 20)))
    assert ledger.holds(keys(range(20))) == set(keys(range(10, 20)))
    assert (ledger.damaged_segments, ledger.entries) == (1, 10)
    assert store.list("ledger-set-aside") == [damaged.replace("ledger/", "ledger-set-aside/")]
    assert damaged not in store.list("ledger")
    assert "does not fit its checksum" in caplog.text
    assert Ledger(store).damaged_segments == 0


def test_a_damaged_segment_that_cannot_be_moved_is_passed_over(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = write(folder, [entry(1)])
    write(folder, [entry(2)])
    folder.write(damaged, b"noise")

    def refused(source: str, target: str) -> None:
        raise StoreError("read-only")

    monkeypatch.setattr(folder, "move", refused)
    ledger = Ledger(folder)
    ledger.refresh()
    assert ledger.holds(keys([1, 2])) == {key(2)}
    assert ledger.damaged_segments == 1


def test_a_short_transfer_is_read_again(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, [entry(1)])
    read, short = folder.read, [True]
    monkeypatch.setattr(folder, "read", lambda path: read(path)[:100] if short and short.pop() else read(path))
    ledger = Ledger(folder)
    assert ledger.lookup([key(1)]) == {key(1): entry(1)}
    assert ledger.damaged_segments == 0


def test_a_whole_file_that_is_no_segment_stops_the_run(folder: Store) -> None:
    data = b"from another version"
    folder.write(f"ledger/{segment_name(data)}", data)
    with pytest.raises(LedgerError, match="the version of Longmill that wrote it"):
        Ledger(folder)


def test_files_of_other_names_are_passed_over(folder: Store) -> None:
    folder.write("ledger/README.md", b"mine")
    folder.write("ledger/notes/" + "a" * 64 + ".parquet", b"mine")
    write(folder, [entry(1)])
    assert Ledger(folder).entries == 1


@pytest.mark.parametrize("verb", ["sizes", "read"])
def test_a_store_that_cannot_be_read_stops_the_run_and_is_no_miss(
    store: Store, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, [entry(1)])
    ledger = Ledger(store)
    monkeypatch.setattr(ledger_module, "_REFRESH_INTERVAL_S", 0.0)
    ledger._segments._cache.clear()

    def fault(*arguments: Any) -> None:
        raise StoreError("s3://b: cannot read (network); try again")

    monkeypatch.setattr(store, verb, fault)
    ledger._next_refresh = 0.0
    with pytest.raises(LedgerError, match="network"):
        ledger.lookup(keys([1, 2]))
    with pytest.raises(LedgerError, match="network"):
        Ledger(store)


def test_entries_of_others_are_found_after_a_refresh(store: Store) -> None:
    ledger = Ledger(store)
    write(store, [entry(1)])
    assert ledger.lookup([key(1)]) == {}  # listed a moment ago
    ledger.refresh()
    assert ledger.lookup([key(1)]) == {key(1): entry(1)}
    write(store, [entry(2)])
    ledger._next_refresh = 0.0
    assert ledger.lookup([key(2)]) == {key(2): entry(2)}
    write(store, [entry(3)])
    ledger._next_refresh = 0.0
    assert ledger.holds([key(3)]) == {key(3)}


CONFLICTING = [entry(1, "late", 20.0), entry(1, "early b", 10.0), entry(1, "early a", 10.0)]
WINNER = min(CONFLICTING[1:], key=lambda entry: hashlib.sha256(entry.reply.encode()).hexdigest())


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_conflicting_replies_the_same_one_wins_everywhere(folder: Store, order: Sequence[int]) -> None:
    ledger = Ledger(folder)
    for number in order:
        write(folder, [CONFLICTING[number], entry(100 + number)])
        ledger.refresh()
    assert ledger.lookup([key(1)]) == {key(1): WINNER}
    ledger.compact(all=True)
    assert ledger.lookup([key(1)]) == {key(1): WINNER} == Ledger(folder).lookup([key(1)])
    assert ledger.entries == 4


@pytest.mark.medium
async def test_closing_merges_this_ledgers_segments_and_no_others(store: Store) -> None:
    foreign = write(store, [entry(number) for number in range(100, 103)])
    ledger = Ledger(store)
    for number in range(6):
        await ledger.record(entry(number))
    assert len(store.list("ledger")) == 7
    ledger.close()
    assert len(store.list("ledger")) == 2 and foreign in store.list("ledger")
    expected = {key(number): entry(number) for number in [*range(6), 100, 101, 102]}
    assert ledger.lookup(list(expected)) == expected == Ledger(store).lookup(list(expected))


async def test_a_long_run_merges_on_the_way(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_MAX_OWN_SEGMENTS", 4)
    monkeypatch.setattr(group_commit, "_MIN_PAUSE_S", 0.0)
    monkeypatch.setattr(group_commit, "_MAX_PAUSE_S", 0.0)
    ledger = Ledger(folder)
    for number in range(30):
        await ledger.record(entry(number))
        assert len(folder.list("ledger")) <= 5
    assert len(ledger.lookup(keys(range(30)))) == 30
    ledger.close()


@pytest.mark.medium
def test_a_reader_finds_entries_whose_segment_was_merged_away(store: Store) -> None:
    for number in range(5):
        write(store, [entry(number)])
    reader = Ledger(store)
    reader._segments._cache.clear()
    Ledger(store).compact(all=True)
    assert len(store.list("ledger")) == 1
    assert reader.lookup(keys(range(5))) == {key(number): entry(number) for number in range(5)}


def test_merging_again_changes_nothing(folder: Store) -> None:
    for number in range(5):
        write(folder, [entry(number), entry(number + 1)])
    Ledger(folder).compact(all=True)
    once = folder.list("ledger")
    write(folder, [entry(2)])  # a part of what is merged: the whole keeps its name
    Ledger(folder).compact(all=True)
    assert folder.list("ledger") == once and len(once) == 1
    assert Ledger(folder).entries == 6


def test_merged_segments_are_bounded(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write(folder, [entry(number, "x" * 1000)])
    monkeypatch.setattr(ledger_module, "_MERGE_BYTES", 5000)
    monkeypatch.setattr(ledger_module, "_SMALL_SEGMENT_BYTES", 3000)
    ledger = Ledger(folder)
    ledger.compact(all=True)
    assert 4 <= len(folder.list("ledger")) <= 5
    assert len(ledger.lookup(keys(range(20)))) == 20
    before = folder.list("ledger")
    Ledger(folder).compact(all=True)
    assert folder.list("ledger") == before


@pytest.mark.medium
def test_two_mergers_at_once_lose_nothing(store: Store) -> None:
    for number in range(24):
        write(store, [entry(number), entry(number + 1)])
    ledgers = [Ledger(store) for _ in range(3)]
    start = threading.Barrier(3)

    def merge(ledger: Ledger) -> None:
        start.wait()
        ledger.compact(all=True)

    threads = [threading.Thread(target=merge, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ledger in (*ledgers, Ledger(store)):
        assert len(ledger.lookup(keys(range(25)))) == 25


def test_a_merge_that_is_killed_before_it_removes_the_parts_loses_nothing(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write(folder, [entry(number)])
    ledger = Ledger(folder)

    def killed(*paths: str) -> None:
        raise StoreError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(folder, "delete", killed)
        with pytest.raises(LedgerError, match="killed"):
            ledger.compact(all=True)
    assert len(folder.list("ledger")) == 6
    ledger = Ledger(folder)
    assert len(ledger.lookup(keys(range(5)))) == 5
    ledger.compact(all=True)
    assert (len(folder.list("ledger")), ledger.entries) == (1, 5)


def test_a_merge_that_cannot_be_written_removes_nothing(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(write(folder, [entry(number)]) for number in range(3))
    ledger = Ledger(folder)

    def full(path: str, data: bytes) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(folder, "write", full)
    monkeypatch.setattr(segment_store, "_WRITE_RETRY_PAUSES_S", (0.0,))
    with pytest.raises(LedgerError, match="disk full"):
        ledger.compact(all=True)
    assert folder.list("ledger") == before


def test_a_listing_that_a_merge_overtakes_is_made_again(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of one listing: the merged segment's place is passed before it is written, the parts' after they went."""
    parts = [write(folder, [entry(number)]) for number in range(3)]
    sizes, calls = folder.sizes, []

    def overtaken(prefix: str) -> dict[str, int]:
        calls.append(prefix)
        if len(calls) > 1:
            return sizes(prefix)
        write(folder, [entry(number) for number in range(3)])
        folder.delete(*parts)
        return {}

    monkeypatch.setattr(folder, "sizes", overtaken)
    assert Ledger(folder).holds(keys(range(3))) == set(keys(range(3)))


ENTRIES = st.lists(
    st.builds(
        entry,
        st.integers(0, 12),
        st.sampled_from(["{}", "a", "b", "文🙂", ""]),
        st.floats(0, 3, allow_nan=False, width=16),
    ),
    max_size=12,
)


@pytest.mark.medium
@settings(max_examples=60, deadline=None)
@given(st.lists(ENTRIES, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_merge_keeps_every_key_and_its_winner_in_any_order(segments: list[list[Entry]], random: Any) -> None:
    entries = list(itertools.chain.from_iterable(segments))
    tables = [entries_table(segment) for segment in segments]
    random.shuffle(tables)
    table = merge_tables(tables)
    expected: dict[str, Entry] = {}
    for candidate in sorted(entries, key=precedence):
        expected.setdefault(candidate.key, candidate)
    rows = [Entry(**row) for row in table.to_pylist()]
    assert [row.key for row in rows] == sorted(expected)
    assert {row.key: row for row in rows} == expected
    assert encode(table) == encode(entries_table(entries))


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 30), max_size=8, unique=True)),
        st.tuples(st.just("drop"), st.integers(0, 10)),
        st.tuples(st.just("find"), st.none()),
        st.tuples(st.just("fold"), st.none()),
    ),
    max_size=20,
)


def _digest(number: int) -> bytes:
    return bytes([number]) * 3 + bytes(29)  # ends in zero bytes, which numpy would strip


@settings(max_examples=100, deadline=None)
@given(OPERATIONS)
def test_the_index_finds_what_a_dictionary_would(operations: list[tuple[str, Any]]) -> None:
    index, model = LedgerIndex(), dict[str, list[int]]()
    for position, (verb, value) in enumerate(operations):
        if verb == "add":
            segment = SegmentInfo(f"s{position}", len(value), 0, 0.0)
            index.add(segment, np.array([_digest(number) for number in sorted(value)], dtype="S32"))
            model[segment.name] = value
        elif verb == "drop" and value < len(model):
            name = list(model)[value]
            index.remove([name])
            del model[name]
        elif verb == "fold":
            index._merge_arrays()
        elif verb == "find":
            names_by_digest = index.find([_digest(number) for number in range(31)])
            for number in range(31):
                expected = [name for name, numbers in model.items() if number in numbers]
                assert sorted(names_by_digest.get(_digest(number), [])) == sorted(expected)
    assert index.names() == set(model)
    assert index.rows == sum(map(len, model.values()))


@pytest.mark.medium
def test_a_hundred_thousand_entries_take_under_fifty_bytes_each_in_the_index() -> None:
    index = LedgerIndex()
    segments = []
    for start in range(0, 100_000, 1000):
        table = entries_table(entry(number) for number in range(start, start + 1000))
        digests = np.frombuffer(bytes.fromhex("".join(table.column("key").to_pylist())), "S32")
        segments.append((table_info(str(start), table), digests))
    tracemalloc.start()
    for segment, digests in segments:
        index.add(segment, digests.copy())
    assert len(index.find([bytes.fromhex(key(number)) for number in range(0, 100_000, 97)])) == 1031
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used_bytes / 100_000 < 50


def test_no_secret_reaches_a_segment_or_a_log(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "kept-out-of-every-log")
    with caplog.at_level(logging.DEBUG, logger="infra"), Ledger(store) as ledger:
        asyncio.run(record_all(ledger, [entry(1), entry(2)]))
    assert "kept-out" not in caplog.text
    assert all(b"kept-out" not in store.read(path) for path in store.list())
