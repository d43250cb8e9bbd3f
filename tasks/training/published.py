"""A published dataset as training reads it: its train split, checked, its pairs one after another.

Leaves out: the evidence and the test split, which are not trained on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.store import Store
from tasks.records.reader import open_dataset
from tasks.records.table import StoredTable

_COLUMNS = ("example_id", "prompt", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class TrainSplit:
    """The train split of a published dataset. `sha256` is that of the manifest's bytes."""

    name: str
    licence: str | None
    sha256: str
    files: tuple[StoredTable, ...]

    @property
    def rows(self) -> int:
        """Pairs in the train split."""
        return sum(file.rows for file in self.files)


def read_train_split(store: Store, path: str) -> TrainSplit:
    """The train split of a manifest. Raises MissingError, or StoreError for a file that is no manifest."""
    dataset = open_dataset(store, path)
    name, licence = str(dataset.manifest["name"]), dataset.manifest.get("licence")
    return TrainSplit(name, licence, dataset.sha256, tuple(dataset.tables("pairs", "train")))


def check_hashes(store: Store, published: TrainSplit) -> None:
    """Raises StoreError naming the first file that is missing or has other bytes than were published."""
    for table in published.files:
        table.check(store)


def train_rows(store: Store, published: TrainSplit) -> Iterator[dict[str, Any]]:
    """The pairs of the train split in their order. Raises StoreError when a file has other rows or columns."""
    for table in published.files:
        yield from table.rows_of(store, _COLUMNS)


def count_questions(store: Store, published: TrainSplit) -> int:
    """Questions of the train split: neighbouring rows of one example are its pairs. Raises as `train_rows`."""
    questions = 0
    last_id = None
    for table in published.files:
        for row in table.rows_of(store, ("example_id",)):
            if row["example_id"] != last_id:
                questions += 1
                last_id = row["example_id"]
    return questions
