"""A published dataset as its readers see it: reports, `longmill inspect` and training.

A reader needs nothing but the dataset's folder. Each file is hashed before a row of it is used, and rows come in
batches, so memory does not grow with the dataset. A damaged dataset gives one error, StoreError, whoever reads it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.errors import InputError, StoreError
from infra.store import Store, open_store
from tasks.records.manifest import parse_manifest
from tasks.records.table import StoredTable

SPLITS = ("train", "test")


@dataclass(frozen=True, slots=True)
class PublishedDataset:
    """A dataset in a store. `folder` is its path there, "" where the store is the dataset's own folder."""

    store: Store
    folder: str
    manifest: Mapping[str, Any]
    sha256: str  # of the manifest's bytes, 64 hex digits

    @property
    def place(self) -> str:
        """Its folder, as a person would paste it."""
        return self.store.place(self.folder)

    @property
    def weights(self) -> dict[str, float]:
        """Each scorer's weight in the reward."""
        weights = {}
        for scorer in self.manifest["recipe"]["scoring"]["scorers"]:
            weights[scorer["scorer"]] = float(scorer.get("weight", 1.0))
        return weights

    def tables(self, config: str, split: str) -> list[StoredTable]:
        """The tables of a configuration ("pairs", "evidence" or "drops") and a split, in the dataset's order.

        Raises StoreError for a manifest that does not describe them.
        """
        tables = []
        for file in self.manifest["files"]:
            try:
                if (file.get("config"), file.get("split")) == (config, split):
                    path = f"{self.folder}/{file['path']}".lstrip("/")
                    tables.append(StoredTable(path, file["sha256"], file["rows"]))
            except (KeyError, TypeError, AttributeError) as error:
                raise StoreError(
                    f"{self.place}/manifest.json: not a manifest of a published dataset ({error!r}); "
                    "remove the folder and build again"
                ) from error
        return tables

    def rows(
        self, config: str, columns: Sequence[str] | None = None, optional: Sequence[str] = ()
    ) -> Iterator[dict[str, Any]]:
        """The rows of a configuration, train before test, each with its `split`.

        `optional` columns are left out where a file has none such. Raises StoreError for a file that is missing or was
        changed.
        """
        for split in SPLITS:
            for table in self.tables(config, split):
                table.check(self.store)
                names = table.column_names(self.store) if optional else ()
                own = columns and [*columns, *(name for name in optional if name in names)]
                for row in table.rows_of(self.store, own):
                    yield {**row, "split": split}


def open_dataset(store: Store, manifest: str) -> PublishedDataset:
    """The dataset whose manifest has this path in the store.

    Raises MissingError where there is none, StoreError for what is not a manifest.
    """
    data = store.read(manifest)
    content = parse_manifest(data, store.place(manifest))
    return PublishedDataset(store, manifest.rpartition("/")[0], content, hashlib.sha256(data).hexdigest())


def read_dataset(place: str) -> PublishedDataset:
    """The dataset at a path or URL: its folder, its manifest.json, or the folder of its versions (the latest is taken).

    Raises InputError where there is none, StoreError for a damaged manifest.
    """
    folder = place.removesuffix("manifest.json").rstrip("/") or ("/" if place.startswith("/") else ".")
    store = open_store(folder)
    if store.exists("manifest.json"):
        return open_dataset(store, "manifest.json")
    if store.exists("latest.json"):
        version = json.loads(store.read("latest.json"))["version"]
        return open_dataset(open_store(f"{folder}/{version}"), "manifest.json")
    raise InputError(f"{place}: no dataset there (no manifest.json); give the folder that build printed")
