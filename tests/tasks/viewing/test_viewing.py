"""The index of a dataset, texts as HTML, the diff of words, and passages."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import InputError, StoreError
from infra.store import open_store
from tasks.viewing.library import Library
from tasks.viewing.listing import Query, positions
from tasks.viewing.text import passages_of, visible, word_diff
from tests.support.viewed import pair_row, write_dataset


def test_the_index_has_the_first_rows_before_it_has_all_and_names_a_damaged_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    shards = [[pair_row(number) for number in range(start, start + 4)] for start in range(0, 40, 4)]
    folder = write_dataset(store, shards, with_evidence=False)
    library = Library([str(tmp_path)])
    index = library.dataset("0123456789abcdef").index("pairs")
    table = index.table(1, 60)
    assert table is not None and table.column("example_id")[0].as_py() == "q000000"
    table = index.table(index.rows, 60)
    assert table is not None and table.num_rows == 40 and index.complete
    assert table.column("example_id").to_pylist() == [f"q{number:06d}" for number in range(40)]
    assert positions(table, Query(sort="margin")).tolist()[:2] == [6, 13], "equal margins stay in the dataset's order"
    library.close()
    damaged = next(Path(tmp_path, folder, "data/train").glob("0003-*"))
    data = bytearray(damaged.read_bytes())
    place = data.index(b"q000013") if b"q000013" in data else len(data) // 2
    data[place] ^= 0xFF
    damaged.write_bytes(bytes(data[: len(data) // 2]))
    again = Library([str(tmp_path)])
    with pytest.raises(StoreError, match="0003-"):
        again.dataset("0123456789abcdef").index("pairs").table(40, 60)
    again.close()


def test_a_folder_that_is_neither_store_nor_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a store"):
        Library([str(tmp_path)])


def test_a_dataset_alone_is_opened_by_its_folder(tmp_path: Path) -> None:
    folder = write_dataset(open_store(str(tmp_path)), [[pair_row(1)]])
    (entry,) = Library([str(tmp_path / folder)]).entries()
    assert (entry.name, entry.version) == ("lr", "0123456789abcdef")


@settings(deadline=None)
@given(st.text())
def test_a_text_becomes_html_without_markup_or_hidden_characters(text: str) -> None:
    html = visible(text)
    html.encode()
    tags = html.replace('<span class="mark" title="', "").replace("</span>", "")
    assert "<" not in tags
    assert not any(letter in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\x1b\x00" for letter in html)


@settings(deadline=None)
@given(st.text("ab. \n中", max_size=60), st.text("ab. \n中", max_size=60))
def test_the_pieces_of_a_diff_are_both_texts_and_share_what_is_unmarked(first: str, second: str) -> None:
    sides = word_diff(first, second)
    assert ["".join(piece.text for piece in side) for side in sides] == [first, second]
    shared = ["".join(piece.text for piece in side if not piece.changed) for side in sides]
    assert shared[0] == shared[1]


@settings(deadline=None)
@given(st.text(max_size=40), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=6))
def test_passages_are_the_context_cut_at_every_border(context: str, spans: list[tuple[int, int]]) -> None:
    passages = passages_of(context, spans)
    assert "".join(passage.text for passage in passages) == context
    for passage in passages:
        covered = any(start <= passage.start and passage.end <= end for start, end in spans)
        assert passage.used == covered
