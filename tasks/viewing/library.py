"""The datasets that `longmill view` shows: of one or several stores, or single ones, each opened when it is looked at.

A dataset never changes, so what has been read of it stays. Its indexes are made when a list first needs them.
"""

import contextlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import InputError, MissingError, StoreError
from infra.store import Store, open_store
from tasks.records.product import PAIRS, QUESTIONS, Product, product_of_counts
from tasks.records.reader import SPLITS, PublishedDataset, open_dataset, read_dataset
from tasks.records.table import StoredTable
from tasks.viewing import columns
from tasks.viewing.index import FILE, ROW, TableIndex
from tasks.viewing.labels import Labels
from tasks.viewing.listing import Query

DROPS = "drops"
LOOKUP_S = 20.0  # that a question is waited for, while the index grows

_SEARCHES = 2  # through answers that a dataset remembers
_SHARD = re.compile(r"(\d+)-[0-9a-f]+\.parquet$")  # the file of a shard's rows


class ViewedDataset:
    """A published dataset with its indexes, by configuration: "pairs" or "questions", and "drops"."""

    def __init__(self, published: PublishedDataset, name: str, version: str) -> None:
        self.published, self.name, self.version = published, name, version
        self._lock = threading.Lock()
        self._indexes: dict[str, TableIndex] = {}
        self._searches: OrderedDict[str, TableIndex] = OrderedDict()  # through answers, by text; the last one used last

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Its manifest."""
        return self.published.manifest

    @property
    def product(self) -> Product:
        """Pairs or questions."""
        return product_of_counts(self.manifest["counts"])

    @property
    def scorers(self) -> list[str]:
        """The dimensions of a pair's scores; none of a dataset of questions."""
        return list(self.published.weights) if self.product == PAIRS else []

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """Its summary.json; empty where it cannot be read."""
        path = f"{self.published.folder}/summary.json".lstrip("/")
        try:
            summary: Mapping[str, Any] = json.loads(self.published.store.read(path))
        except (StoreError, ValueError):
            return {}
        return summary

    def index(self, config: str) -> TableIndex:
        """The index of a configuration; its first use begins to make it. Raises StoreError for a damaged manifest."""
        with self._lock:
            if config not in self._indexes:
                self._indexes[config] = self._new_index(config)
            return self._indexes[config].start()

    def table(self, config: str, query: Query, rows: int, timeout_s: float) -> tuple[pa.Table | None, bool]:
        """The index as `TableIndex.table` has it, with what the query asks for of the answers; and whether it is whole.

        A search through answers reads them all, file after file, and keeps a bit of each pair. The last ones stay.
        """
        index = self.index(config)
        table = index.table(rows, timeout_s)
        if table is None or not query.answer or config != PAIRS.name:
            return table, index.complete
        search = self._search(query.answer.lower())
        hits = search.table(rows, timeout_s)
        if hits is None:
            return None, False
        count = min(table.num_rows, hits.num_rows)
        column = hits.column(columns.IN_ANSWERS).slice(0, count)
        return table.slice(0, count).append_column(columns.IN_ANSWERS, column), index.complete and search.complete

    def _search(self, text: str) -> TableIndex:
        """The search for a text through the answers of all pairs; its first use begins it."""
        with self._lock:
            search = self._searches.pop(text, None)
            if search is None:
                tables, _ = self._tables(PAIRS.name)
                arguments = columns.ANSWER_COLUMNS, lambda table: table, columns.answers_with(text)
                search = TableIndex(self.published.store, tables, *arguments)
            self._searches[text] = search
            ended = [self._searches.popitem(last=False)[1] for _ in range(len(self._searches) - _SEARCHES)]
        for earlier in ended:
            earlier.close()
        return search.start()

    def close(self) -> None:
        """Remove the indexes."""
        for index in (*self._indexes.values(), *self._searches.values()):
            index.close()

    def row(self, config: str, place: Mapping[str, Any]) -> dict[str, Any]:
        """The whole row that a row of the index was made from, with its split. Raises StoreError."""
        table = self.index(config).tables[place[FILE]]
        (row,) = table.rows_between(self.published.store, place[ROW], place[ROW] + 1)
        return {**row, "split": place.get("split", SPLITS[0])}

    def places(self, config: str, example_id: str) -> list[dict[str, Any]]:
        """The rows of the index that are of this question, in the dataset's order; waits for it while it grows."""
        index = self.index(config)
        table = index.table(index.rows, LOOKUP_S)
        if table is None:
            return []
        rows = pc.indices_nonzero(pc.equal(table.column("example_id"), example_id))
        return [dict(row) for row in table.take(rows).to_pylist()]

    def number(self, config: str, place: Mapping[str, Any]) -> tuple[int, int]:
        """Which of its question's rows, from 1, a row of the index is, and how many there are; they are neighbours."""
        table = self.index(config).tables[place[FILE]]
        ids = table.columns_of(self.published.store, ["example_id"]).column("example_id")
        rows = pc.indices_nonzero(pc.equal(ids, place["example_id"])).to_pylist()
        return 1 + rows.index(place[ROW]), len(rows)

    def evidence(self, config: str, place: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The answers of the question of a row of the index, with their judgements; none where there are none."""
        shard = _SHARD.search(self.index(config).tables[place[FILE]].path)
        if shard is None:
            return []
        for split in SPLITS:
            for table in self._evidence_tables.get((split, shard[1]), ()):
                ids = table.columns_of(self.published.store, ["example_id"]).column("example_id")
                rows = pc.indices_nonzero(pc.equal(ids, place["example_id"])).to_numpy()
                if len(rows):  # the answers of a question are neighbours
                    answers = table.rows_between(self.published.store, int(rows[0]), int(rows[-1]) + 1)
                    return [{**answer, "split": split} for answer in answers]
        return []

    @cached_property
    def _evidence_tables(self) -> dict[tuple[str, str], list[StoredTable]]:
        """The tables of evidence by split and shard."""
        tables: dict[tuple[str, str], list[StoredTable]] = {}
        for split in SPLITS:
            for table in self.published.tables("evidence", split):
                if shard := _SHARD.search(table.path):
                    tables.setdefault((split, shard[1]), []).append(table)
        return tables

    def _tables(self, config: str) -> tuple[list[StoredTable], list[str]]:
        """The tables of a configuration, in the dataset's order, and the split of each."""
        tables: list[StoredTable] = []
        splits: list[str] = []
        for split in SPLITS:
            of_split = self.published.tables(config, split)
            tables += of_split
            splits += [split] * len(of_split)
        return tables, splits

    def _new_index(self, config: str) -> TableIndex:
        tables, splits = self._tables(config)
        store = self.published.store
        if config == PAIRS.name:
            return TableIndex(store, tables, columns.PAIR_COLUMNS, columns.pair_columns(self.scorers, splits))
        if config == QUESTIONS.name:
            return TableIndex(store, tables, columns.QUESTION_COLUMNS, columns.question_columns(splits))
        return TableIndex(store, tables, columns.DROP_COLUMNS, columns.drop_columns)


@dataclass(slots=True)
class Entry:
    """A dataset that can be opened: the store, the path of its manifest there, its name and version."""

    store: Store
    manifest: str
    name: str
    version: str
    latest: bool = False  # the version that latest.json of its name points at
    dataset: ViewedDataset | None = field(default=None)


class Library:
    """Datasets by version. A store's are listed anew by `entries`, so that new ones are seen."""

    def __init__(self, places: Sequence[str]) -> None:
        """Raises InputError for a place that is neither a store nor a dataset, StoreError where it cannot be read."""
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._labels: dict[str, Labels] = {}
        self.stores: list[Store] = []
        for place in places:
            self._add(place)

    def entries(self) -> list[Entry]:
        """All datasets, by name, then by version; the latest of a name first."""
        with self._lock:
            for store in self.stores:
                for entry in _entries_of(store):
                    if entry.version in self._entries:
                        self._entries[entry.version].latest = entry.latest
                    else:
                        self._entries[entry.version] = entry
            return sorted(self._entries.values(), key=lambda entry: (entry.name, not entry.latest, entry.version))

    def dataset(self, version: str) -> ViewedDataset:
        """The dataset of a version. Raises MissingError where there is none, StoreError for a damaged manifest."""
        if version not in self._entries:
            self.entries()
        with self._lock:
            entry = self._entries.get(version)
            if entry is None:
                raise MissingError(f"no dataset {version!r} here; the first page lists them")
            if entry.dataset is None:
                published = open_dataset(entry.store, entry.manifest)
                entry.dataset = ViewedDataset(published, entry.name, entry.version)
            return entry.dataset

    def labels(self, dataset: ViewedDataset) -> Labels:
        """People's labels of a dataset of a store. Raises InputError for a dataset that was given alone."""
        store = self._entries[dataset.version].store
        if store not in self.stores:
            raise InputError(
                f"{dataset.published.place}: labels are written to a store, and this dataset was given alone; start "
                "the page with its store: longmill view STORE"
            )
        if dataset.version not in self._labels:
            self._labels[dataset.version] = Labels(store, dataset.name, dataset.version)
        return self._labels[dataset.version]

    def close(self) -> None:
        """Remove all indexes."""
        for entry in self._entries.values():
            if entry.dataset is not None:
                entry.dataset.close()

    def _add(self, place: str) -> None:
        store = open_store(place)
        _, folders = store.children("")
        if {"datasets", "plans"} & set(folders):
            self.stores.append(store)
            return
        try:
            published = read_dataset(place)
        except InputError as error:
            raise InputError(
                f"{place}: neither a store (no folder `datasets` or `plans`) nor a dataset (no manifest.json); give "
                "the store of a recipe, or the folder that build printed"
            ) from error
        name, version = str(published.manifest["name"]), str(published.manifest["version"])
        manifest = f"{published.folder}/manifest.json".lstrip("/")
        dataset = ViewedDataset(published, name, version)
        self._entries[version] = Entry(published.store, manifest, name, version, dataset=dataset)


def _entries_of(store: Store) -> Iterator[Entry]:
    """The datasets of a store, from listings and the small latest.json files."""
    _, folders = store.children("datasets")
    pointers = store.read_several([f"{folder}/latest.json" for folder in folders])
    for folder, pointer in zip(folders, pointers, strict=True):
        latest = ""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            latest = str(json.loads(pointer or b"{}")["version"])
        _, versions = store.children(folder)
        for version_folder in versions:
            name, version = folder.rpartition("/")[2], version_folder.rpartition("/")[2]
            manifest = f"{version_folder}/manifest.json"
            if store.exists(manifest):
                yield Entry(store, manifest, name, version, latest=version == latest)
