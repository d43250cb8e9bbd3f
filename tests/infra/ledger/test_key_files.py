"""Key files: every entry is found through them as without them, whatever became of segments since."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.ledger import Ledger
from infra.ledger import ledger as ledger_module
from infra.ledger.index import LedgerIndex
from infra.ledger.key_files import FOLDER, KeyFile, open_key_file, write_key_file
from infra.ledger.segment import SegmentInfo, digests_of, encode, entries_table, segment_name, table_info
from infra.ledger.segment_store import SegmentStore
from infra.store import Store, open_store
from tests.support.ledger_entries import entry, key, keys
from tests.support.s3 import store_url

pytestmark = pytest.mark.medium

SEGMENTS, ROWS = 10, 5


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with store_url(request.param, tmp_path, monkeypatch) as url:
        yield open_store(url)


@pytest.fixture
def covered(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose segments are all in a key file."""
    monkeypatch.setattr(ledger_module, "_LEAST_ROWS", 1)
    for number in range(SEGMENTS):
        write(store, range(number * ROWS, (number + 1) * ROWS))
    Ledger(store).close()
    assert len(store.list(FOLDER)) == 1
    return store


def write(store: Store, numbers: Iterable[int]) -> str:
    """Put a segment there as another worker would; returns its name."""
    data = encode(entries_table(map(entry, numbers)))
    store.write(f"ledger/{segment_name(data)}", data)
    return segment_name(data)


def reads_of_info(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the segments whose keys are read one by one from now on."""
    names: list[str] = []
    info = SegmentStore.info

    def counting(self: SegmentStore, name: str, size: int) -> object:
        names.append(name)
        return info(self, name, size)

    monkeypatch.setattr(SegmentStore, "info", counting)
    return names


def test_a_process_reads_no_segment_that_a_key_file_covers(covered: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = write(covered, [1000])
    read = reads_of_info(monkeypatch)
    ledger = Ledger(covered)
    assert read == [newer]
    assert ledger.entries == SEGMENTS * ROWS + 1
    assert ledger.holds(keys([0, 49, 1000, 2000])) == set(keys([0, 49, 1000]))
    assert ledger.lookup([key(17), key(2000)]) == {key(17): entry(17)}


def test_merged_segments_are_found_and_the_next_key_file_covers_them(
    covered: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = covered.list(FOLDER)
    Ledger(covered).compact(all=True)  # all rows of the key file are now of segments that are gone
    assert Ledger(covered).holds(keys(range(60))) == set(keys(range(SEGMENTS * ROWS)))
    for number in range(100, 100 + SEGMENTS):
        write(covered, [number])
    Ledger(covered).close()
    assert covered.list(FOLDER) != earlier
    assert len(covered.list(FOLDER)) == 1
    read = reads_of_info(monkeypatch)
    assert Ledger(covered).holds(keys([3, 104, 999])) == set(keys([3, 104]))
    assert read == []


def test_a_damaged_key_file_is_passed_over_and_named(covered: Store, caplog: pytest.LogCaptureFixture) -> None:
    (path,) = covered.list(FOLDER)
    data = bytearray(covered.read(path))
    data[-1] ^= 1
    covered.write(path, bytes(data))
    for copy in Path(tempfile.gettempdir()).rglob("*.keys"):
        if covered.local_path(path) is None:
            copy.unlink()
    assert Ledger(covered).holds(keys(range(60))) == set(keys(range(SEGMENTS * ROWS)))
    assert "passed over" in caplog.text


def test_a_key_file_is_written_when_it_pays_alone(covered: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = covered.list(FOLDER)
    ledger = Ledger(covered)
    write(covered, [1000])
    ledger.compact(all=True)
    assert covered.list(FOLDER) == earlier
    other = Ledger(covered)
    for number in range(1001, 1001 + 2 * SEGMENTS):
        write(covered, [number, number + 500])
    other.refresh()
    covered.delete(*earlier)
    Ledger(covered).close()
    newest = covered.list(FOLDER)
    assert len(newest) == 1
    other.close()  # it sees that another process has written one
    assert covered.list(FOLDER) == newest


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 30), min_size=1), min_size=1, max_size=6),
    st.sets(st.integers(0, 5)),
    st.sets(st.integers(0, 5)),
)
def test_an_index_with_files_finds_what_one_without_finds(
    segments: list[set[int]], in_file: set[int], removed: set[int]
) -> None:
    plain, mixed, for_file = LedgerIndex(), LedgerIndex(), LedgerIndex()
    infos: list[SegmentInfo] = []
    for position, numbers in enumerate(segments):
        table = entries_table(map(entry, numbers))
        info = table_info(f"s{position}", table)
        infos.append(info)
        plain.add(info, digests_of(table))
        if position in in_file:
            for_file.add(info, digests_of(table))
    with tempfile.TemporaryDirectory() as place:
        file = written(open_store(place), for_file)
        mixed.add_file(file, {info.name for info in infos})
        for info, numbers in zip(infos, segments, strict=True):
            mixed.add(info, digests_of(entries_table(map(entry, numbers))))
        gone = [infos[position].name for position in removed if position < len(infos)]
        plain.remove(gone)
        mixed.remove(gone)
        targets = [bytes.fromhex(each) for each in keys(range(32))]
        assert sets_of(mixed.find(targets)) == sets_of(plain.find(targets))
        assert mixed.rows == plain.rows
        again = LedgerIndex()  # a file that is made of files and arrays holds the same
        again.add_file(written(open_store(place), mixed), mixed.names())
        assert sets_of(again.find(targets)) == sets_of(plain.find(targets))


def written(store: Store, index: LedgerIndex) -> KeyFile:
    file = open_key_file(store, write_key_file(store, *index.file_rows()))
    assert file is not None
    return file


def sets_of(names: dict[bytes, list[str]]) -> dict[bytes, set[str]]:
    return {digest: set(of_digest) for digest, of_digest in names.items()}
