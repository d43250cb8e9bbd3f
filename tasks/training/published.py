"""A published dataset as training reads it: its train split, checked, its pairs one after another.

Leaves out: the evidence and the test split, which are not trained on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.errors import TrainingError
from infra.store import Store
from tasks.records.dataset import TOOLS
from tasks.records.reader import open_dataset
from tasks.records.table import StoredTable
from tasks.training.answer_form import REASONING_FIELD

_COLUMNS = ("example_id", "prompt", "chosen", "rejected")
_SHORT_PROMPT = "short_prompt"
_REASONING_COLUMNS = {"chosen": "chosen_reasoning", "rejected": "rejected_reasoning"}


@dataclass(frozen=True, slots=True)
class TrainSplit:
    """The train split of a published dataset. `sha256` is that of the manifest's bytes.

    `with_reasoning`: an answer's message has its reasoning, as "reasoning_content". `with_short_prompt`: rows have the
    prompt over the evidence alone.
    """

    store: Store
    name: str
    licence: str | None
    sha256: str
    files: tuple[StoredTable, ...]
    with_reasoning: bool = False
    with_short_prompt: bool = False

    @property
    def rows(self) -> int:
        """Pairs in the train split."""
        return sum(file.rows for file in self.files)

    def check(self) -> None:
        """Raises StoreError naming the first file that is missing or has other bytes than were published."""
        for table in self.files:
            table.check(self.store)

    def pairs(self) -> Iterator[dict[str, Any]]:
        """The pairs in their order.

        Raises StoreError when a file has other rows or columns, TrainingError when there is no reasoning to train.
        """
        columns = [*_COLUMNS, *([_SHORT_PROMPT] if self.with_short_prompt else [])]
        if self.with_reasoning:
            columns += _REASONING_COLUMNS.values()
        for table in self.files:
            names = table.column_names(self.store)
            missing = set(columns).difference(names)
            if _SHORT_PROMPT in missing:
                raise TrainingError(
                    f"training.loss compares with the reference over a short prompt, and the dataset {self.name} has "
                    "none: it is one of sampling.context: evidence that has; take the loss dpo"
                )
            if missing.intersection(_REASONING_COLUMNS.values()):
                raise TrainingError(
                    f"training.reasoning is keep, and the dataset {self.name} has no reasoning: its answers are of a "
                    "model that does not think, or were built by an earlier version; set training.reasoning to drop"
                )
            for row in table.rows_of(self.store, [*columns, TOOLS] if TOOLS in names else columns):
                yield _with_reasoning(row) if self.with_reasoning else row

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


def _with_reasoning(row: dict[str, Any]) -> dict[str, Any]:
    for side, column in _REASONING_COLUMNS.items():
        reasoning = row.pop(column)
        if reasoning:
            *before, answer = row[side]
            row[side] = [*before, {**answer, REASONING_FIELD: reasoning}]
    return row


def read_train_split(
    store: Store, path: str, *, with_reasoning: bool = False, with_short_prompt: bool = False
) -> TrainSplit:
    """The train split of a manifest. Raises MissingError, or StoreError for a file that is no manifest."""
    dataset = open_dataset(store, path)
    name, licence = str(dataset.manifest["name"]), dataset.manifest.get("licence")
    files = tuple(dataset.tables("pairs", "train"))
    return TrainSplit(store, name, licence, dataset.sha256, files, with_reasoning, with_short_prompt)
