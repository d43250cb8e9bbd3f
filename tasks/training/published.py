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

    store: Store
    name: str
    licence: str | None
    sha256: str
    files: tuple[StoredTable, ...]

    @property
    def rows(self) -> int:
        """Pairs in the train split."""
        return sum(file.rows for file in self.files)

    def check(self) -> None:
        """Raises StoreError naming the first file that is missing or has other bytes than were published."""
        for table in self.files:
            table.check(self.store)

    def pairs(self) -> Iterator[dict[str, Any]]:
        """The pairs in their order. Raises StoreError when a file has other rows or columns."""
        for table in self.files:
            yield from table.rows_of(self.store, _COLUMNS)

    def count_questions(self) -> int:
        """Questions of the split: neighbouring rows of one example are its pairs. Raises as `pairs`."""
        questions = 0
        last_id = None
        for table in self.files:
            for row in table.rows_of(self.store, ("example_id",)):
                if row["example_id"] != last_id:
                    questions += 1
                    last_id = row["example_id"]
        return questions

    def identity(self) -> dict[str, Any]:
        """The dataset in a job's id."""
        return {"manifest": self.sha256}

    def cited(self) -> str:
        """The bytes that were trained on, for a card."""
        return f"manifest `{self.sha256}`"


def read_train_split(store: Store, path: str) -> TrainSplit:
    """The train split of a manifest. Raises MissingError, or StoreError for a file that is no manifest."""
    dataset = open_dataset(store, path)
    name, licence = str(dataset.manifest["name"]), dataset.manifest.get("licence")
    return TrainSplit(store, name, licence, dataset.sha256, tuple(dataset.tables("pairs", "train")))
