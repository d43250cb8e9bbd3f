"""When the ledger lists, reads again, gives up, and merges: rules that are not seen in its answers alone."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.errors import LedgerError, MissingError, StoreError
from infra.ledger import Ledger, group_commit, segment_store
from infra.ledger import ledger as ledger_module
from infra.ledger.segment import SegmentInfo, encode, entries_table, segment_name
from infra.store import Store, open_store
from tests.support.ledger_entries import entry, key, keys


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_store, "_CACHE_BYTES", 0)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "_MAX_PAUSE_S", 0.0)


def write(store: Store, *numbers: int) -> str:
    """Write a segment as another worker would; returns its path."""
    data = encode(entries_table(entry(number) for number in numbers))
    path = f"ledger/{segment_name(data)}"
    store.write(path, data)
    return path


def count_listings(store: Store, monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> list[str]:
    """The folders that are listed from now on; `then` is called at every listing."""
    folders: list[str] = []
    sizes = store.sizes

    def counting_sizes(prefix: str) -> dict[str, int]:
        folders.append(prefix)
        then()
        return sizes(prefix)

    monkeypatch.setattr(store, "sizes", counting_sizes)
    return folders


def test_a_refresh_is_due_after_five_seconds_or_ten_times_its_duration(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0, listing_s=0.0)
    monkeypatch.setattr(ledger_module, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def take_time() -> None:
        clock.now += clock.listing_s

    listings = count_listings(store, monkeypatch, take_time)
    ledger = Ledger(store)
    clock.now = 1004.9
    assert ledger.refresh(when_due=True) is False
    clock.now, clock.listing_s = 1005.0, 2.0
    assert ledger.refresh(when_due=True) is True
    assert (clock.now, len(listings)) == (1009.0, 4)  # two listings a refresh
    clock.now = 1048.9
    assert ledger.refresh(when_due=True) is False
    clock.now = 1049.0
    assert ledger.refresh(when_due=True) is True


def test_keys_that_are_all_present_or_asked_for_again_at_once_cost_no_listing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, 1)
    ledger = Ledger(store)
    listings = count_listings(store, monkeypatch, lambda: None)
    assert ledger.holds(keys([1, 2])) == {key(1)}
    assert list(ledger.lookup(keys([1, 2]))) == [key(1)]
    ledger._next_refresh = 0.0
    assert ledger.holds([key(1)]) == {key(1)}
    assert list(ledger.lookup([key(1)])) == [key(1)]
    assert not listings


async def test_a_reply_that_cannot_be_encoded_fails_alone(store: Store) -> None:
    ledger = Ledger(store)
    results = await asyncio.gather(
        ledger.record(entry(1)), ledger.record(entry(2, "\ud800")), ledger.record(entry(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), UnicodeEncodeError, type(None)]
    ledger.close()
    assert Ledger(store).holds(keys([1, 2, 3])) == set(keys([1, 3]))


@pytest.mark.parametrize(("failures", "opens"), [(7, True), (8, False)])
def test_opening_gives_up_when_segments_vanish_eight_times(
    store: Store, monkeypatch: pytest.MonkeyPatch, failures: int, opens: bool
) -> None:
    write(store, 1)
    read, attempts = store.read, []

    def vanishing_read(path: str) -> bytes:
        attempts.append(path)
        if len(attempts) <= failures:
            raise MissingError("gone")
        return read(path)

    monkeypatch.setattr(store, "read", vanishing_read)
    if opens:
        assert Ledger(store).entries == 1
    else:
        with pytest.raises(LedgerError, match=r"/ledger: segments keep vanishing .*; run again"):
            Ledger(store)
    assert len(attempts) == 8


def test_a_lookup_gives_up_when_segments_vanish_eight_times(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, 1)
    monkeypatch.setattr(segment_store, "_SMALL_FILE_BYTES", 0)  # opening the ledger reads the keys alone
    ledger = Ledger(store)
    attempts: list[str] = []

    def gone(path: str) -> bytes:
        attempts.append(path)
        raise MissingError("gone")

    monkeypatch.setattr(store, "read", gone)
    with pytest.raises(LedgerError, match=r"/ledger: segments keep vanishing .*; run again"):
        ledger.lookup([key(1)])
    assert len(attempts) == 8


def test_a_segment_that_is_merged_while_the_ledger_opens_is_found_in_the_merged_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [write(store, 1), write(store, 2)]
    read = store.read

    def merged_meanwhile(path: str) -> bytes:
        if path in parts:
            write(store, 1, 2)
            store.delete(*parts)
        return read(path)

    monkeypatch.setattr(store, "read", merged_meanwhile)
    assert Ledger(store).holds(keys([1, 2])) == set(keys([1, 2]))


def test_compacting_everything_takes_the_segments_that_others_have_just_written(store: Store) -> None:
    ledger = Ledger(store)
    write(store, 1)
    write(store, 2)
    ledger.compact()
    assert len(store.list("ledger")) == 2
    ledger.compact(all=True)
    assert len(store.list("ledger")) == 1


@pytest.mark.usefixtures("no_pause")
async def test_leaving_the_with_block_closes_the_ledger(store: Store) -> None:
    with Ledger(store) as ledger:
        for number in range(3):
            await ledger.record(entry(number))
    assert len(store.list("ledger")) == 1
    with pytest.raises(LedgerError, match="closed"):
        await ledger.record(entry(4))


@pytest.mark.usefixtures("no_cache", "no_pause")
async def test_own_segments_that_others_have_merged_are_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(store)
    for number in range(3):
        await ledger.record(entry(number))
    Ledger(store).compact(all=True)
    attempts: list[str] = []
    read = store.read

    def counting_read(path: str) -> bytes:
        attempts.append(path)
        return read(path)

    monkeypatch.setattr(store, "read", counting_read)
    ledger.compact()
    assert len(attempts) == 3
    ledger.compact()
    assert len(attempts) == 3
    ledger.close()


@pytest.mark.usefixtures("no_pause")
async def test_parts_that_were_merged_are_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(store)
    for number in range(3):
        await ledger.record(entry(number))
    ledger.compact()

    def fail(path: str) -> bytes:
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr(store, "read", fail)
    ledger.compact()
    ledger.close()
    assert len(store.list("ledger")) == 1


async def test_merging_the_segments_of_others_does_not_make_them_own(store: Store) -> None:
    write(store, 1)
    write(store, 2)
    ledger = Ledger(store)
    ledger.compact(all=True)
    await ledger.record(entry(3))
    ledger.close()
    assert len(store.list("ledger")) == 2


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize(("records", "segments"), [(3, 3), (4, 1)])
async def test_own_segments_are_merged_when_there_are_so_many(
    store: Store, monkeypatch: pytest.MonkeyPatch, records: int, segments: int
) -> None:
    monkeypatch.setattr(ledger_module, "_MAX_OWN_SEGMENTS", 4)
    ledger = Ledger(store)
    for number in range(records):
        await ledger.record(entry(number))
    await asyncio.to_thread(ledger._group_commit.close)  # without the merge of `close`
    assert len(store.list("ledger")) == segments


@pytest.mark.usefixtures("no_pause")
async def test_a_merge_that_fails_stops_neither_the_run_nor_closing(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*paths: str) -> None:
        raise StoreError("no permission")

    monkeypatch.setattr(store, "delete", fail)
    monkeypatch.setattr(ledger_module, "_MAX_OWN_SEGMENTS", 2)
    ledger = Ledger(store)
    for number in range(4):
        await ledger.record(entry(number))
    monkeypatch.setattr(ledger_module, "_MAX_OWN_SEGMENTS", 100)
    await ledger.record(entry(4))
    await ledger.record(entry(5))
    await asyncio.to_thread(ledger.close)
    assert "stay unmerged for now: merged segments cannot be removed" in caplog.text
    assert "stay unmerged, which loses nothing: merged segments cannot be removed" in caplog.text
    assert set(Ledger(store).lookup(keys(range(6)))) == set(keys(range(6)))


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([5], []),
        ([5, 5], [[0, 1]]),
        ([5, 10, 5], [[0, 2]]),  # a segment of 10 is not small
        ([9, 9, 2, 1], [[0, 1, 2]]),  # a group ends when it has 20; a group of one is no merge
        ([9, 9, 1, 9, 1], [[0, 1, 2, 3]]),
        ([9, 9, 2, 9, 9, 1, 1], [[0, 1, 2], [3, 4, 5, 6]]),
    ],
)
def test_small_segments_are_grouped_from_the_oldest_on(
    sizes: list[int], groups: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_SMALL_SEGMENT_BYTES", 10)
    monkeypatch.setattr(ledger_module, "_MERGE_BYTES", 20)
    segments = [SegmentInfo(f"s{number}", 1, size, float(number)) for number, size in enumerate(sizes)]
    actual: list[list[int]] = []
    for group in ledger_module._merge_groups(segments[::-1]):
        actual.append([segments.index(segment) for segment in group])
    assert actual == groups
