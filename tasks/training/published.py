"""A published dataset as training reads it: the manifest, the hashes of its files, its pairs one after another.

Every file is hashed before a row of it is used. Rows come in batches, so memory does not grow with the
dataset. Leaves out: the evidence and the test split, which are not trained on.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.errors import InputError
from infra.store import Store

_COLUMNS = ["example_id", "prompt", "chosen", "rejected"]
_BATCH = 16
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of the train split; `path` is relative to the store."""

    path: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class TrainSplit:
    """The train split of a published dataset. `sha256` is that of the manifest's bytes."""

    name: str
    licence: str | None
    sha256: str
    files: tuple[DataFile, ...]

    @property
    def rows(self) -> int:
        """Pairs in the train split."""
        return sum(file.rows for file in self.files)


def read_train_split(store: Store, path: str) -> TrainSplit:
    """The train split of a manifest. Raises MissingError, or InputError for a file that is no manifest."""
    data = store.read(path)
    folder = path.rpartition("/")[0]
    try:
        raw: dict[str, Any] = json.loads(data)
        files = tuple(
            DataFile(f"{folder}/{each['path']}".lstrip("/"), each["sha256"], each["rows"])
            for each in raw["files"]
            if each["path"].startswith("data/train/")
        )
        name, licence = str(raw["name"]), raw.get("licence")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{store.show(path)}: not a manifest of a published dataset ({error!r}); give the path that build printed"
        ) from error
    return TrainSplit(name, licence, hashlib.sha256(data).hexdigest(), files)


def check_hashes(store: Store, published: TrainSplit) -> None:
    """Raises InputError naming the first file whose bytes are not those that were published."""
    for file in published.files:
        digest = hashlib.sha256()
        with store.open(file.path) as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
        if digest.hexdigest() != file.sha256:
            raise InputError(
                f"{store.show(file.path)}: its sha256 is {digest.hexdigest()}, the manifest says {file.sha256}; "
                "the file was changed after it was published: remove the dataset's folder and build it again"
            )


def train_rows(store: Store, published: TrainSplit) -> Iterator[dict[str, Any]]:
    """The pairs of the train split in their order. Raises InputError when a file has other rows or columns."""
    return _rows(store, published, _COLUMNS)


def count_questions(store: Store, published: TrainSplit) -> int:
    """Questions of the train split: neighbouring rows of one example are its pairs. Raises as `train_rows`."""
    names = (row["example_id"] for row in _rows(store, published, ["example_id"]))
    return sum(1 for _ in itertools.groupby(names))


def _rows(store: Store, published: TrainSplit, columns: list[str]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in published.files:
        seen = 0
        with store.open(file.path) as stream:
            try:
                for batch in pq.ParquetFile(stream).iter_batches(_BATCH, columns=columns):
                    if missing := set(columns) - set(batch.schema.names):
                        raise InputError(f"{store.show(file.path)}: there is no column {', '.join(sorted(missing))}")
                    seen += batch.num_rows
                    yield from batch.to_pylist()
            except pa.ArrowInvalid as error:
                raise InputError(f"{store.show(file.path)}: not a Parquet file ({error}); build again") from error
        if seen != file.rows:
            raise InputError(f"{store.show(file.path)}: has {seen} rows, the manifest says {file.rows}; build again")
