"""Reference log-probabilities that are computed once: of all answers of every question, under the base model.

While the subprocess computes them they stand in the run's folder, a line per question and process, so a stopped run
goes on after its last line. When all are computed, they go to the store as `references/KEY.parquet`, where every job
over the same questions and base model reads them, whatever its beta, learning rate, epochs or weight of the likelihood.
KEY is the hash of the encoded questions (dataset, template, tokens, mix) with the base model, its number format, and
what decides how sums are rounded. Leaves out: removing them; each is 8 bytes an answer, and any may be deleted.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.canonical import fingerprint
from infra.errors import TrainingError
from infra.recipe import Training
from infra.store import Store, table_bytes
from tasks.training.settings import RunConfig

_ROUNDING_SETTINGS = ("method", "dtype", "sharing")  # settings that change a sum, if only in its last digits

Rows = list[list[float]]  # of each question, of each of its answers: the sum of log p over its tokens, in nats


def reference_path(pairs: Path, base: str, base_revision: str, settings: Training) -> str:
    """The file in the store for the log-probabilities of the rows in `pairs` under the model of identity `base`."""
    with pairs.open("rb") as file:
        rows = hashlib.file_digest(file, "sha256").hexdigest()
    rounding = {name: getattr(settings, name) for name in _ROUNDING_SETTINGS}
    key = fingerprint({"rows": rows, "base": base, "base_revision": base_revision, **rounding})
    return f"references/{key[:16]}.parquet"


def fetch_reference(store: Store, config: RunConfig) -> None:
    """Copy the store's file into the run's folder; without one, cut what an earlier run left there to whole lines.

    Raises TrainingError when the store's file is not about these rows, StoreError when it cannot be read.
    """
    if config.reference is None:
        return
    if not store.exists(config.reference):
        text = config.reference_rows.read_text(encoding="utf-8") if config.reference_rows.exists() else ""
        config.reference_rows.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
        return
    rows: Rows = store.read_table(config.reference).column("log_probs").to_pylist()
    if len(rows) != config.lengths.rows:
        raise TrainingError(
            f"{store.place(config.reference)}: has {len(rows)} questions, there are {config.lengths.rows} to train on; "
            "remove the file, and they are computed again"
        )
    check_reference(rows, 0)
    config.reference_rows.write_text(json.dumps(rows) + "\n", encoding="utf-8")


def store_reference(store: Store, config: RunConfig) -> None:
    """Put the run's log-probabilities into the store when all are computed, unless they are there."""
    import pyarrow as pa

    if config.reference is None:
        return
    rows = read_reference(config.reference_rows)
    if len(rows) != config.lengths.rows:
        return
    table = pa.table({"log_probs": pa.array(rows, pa.list_(pa.float64()))})
    store.put_if_absent(config.reference, table_bytes(table))


def read_reference(path: Path) -> Rows:
    """The rows of a run's file, in the order of the encoded rows; those still to be computed come after them."""
    rows: Rows = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        rows += json.loads(line)
    return rows


def append_reference(path: Path, rows: Rows) -> None:
    """Append rows as one line."""
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(rows) + "\n")


def check_reference(rows: Sequence[Sequence[Any]], first: int) -> None:
    """Raises TrainingError, naming the row, when a sum is not a finite number; `first` is the number of rows[0]."""
    for number, row in enumerate(rows, first):
        if not all(isinstance(value, float) and math.isfinite(value) for value in row):
            raise TrainingError(
                f"the reference log-probabilities of question {number} are {', '.join(map(str, row))}; set "
                "training.dtype to float32, and look at this question"
            )
