"""The record of one finished shard: which tables it wrote, by hash, and what they hold.

`plans/PLAN/shards/0003.json` is written last and only once, so a reader that finds it finds the tables; of
two workers on one shard the first to finish is the record. `0003.failed.json` beside it holds the last error of
a shard that failed. Neither holds a time, a machine or a count of calls: the same plan and the same replies
give the same bytes.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.canonical import canonical
from infra.errors import StoreError
from infra.store import Store

TABLES = ("answers", "judgements", "pairs", "drops")


@dataclass(frozen=True, slots=True)
class TableFile:
    """A Parquet file in the store, the sha256 of its bytes (64 hex digits) and its number of rows."""

    path: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class ShardResult:
    """A finished shard: a file for each of `TABLES`, and counts over them.

    In its file `paired_questions` stands where it is not the number of pairs.
    """

    plan_id: str
    shard: int
    files: Mapping[str, TableFile]
    questions: int
    pairs: int
    paired_questions: int  # that have a pair, or several
    drops: Mapping[str, int]  # reason -> questions
    prompt_tokens: int  # over all answers, as the server counted
    completion_tokens: int

    @classmethod
    def of(
        cls, store: Store, plan_id: str, index: int, questions: int, references: Mapping[str, Mapping[str, Any]]
    ) -> "ShardResult":
        """The result of a shard whose tables are written; `references` are {"path", "sha256", "rows"} by table.

        Raises StoreError when a table is missing or its bytes are not those of its hash.
        """
        files = {name: TableFile(**{k: references[name][k] for k in ("path", "sha256", "rows")}) for name in TABLES}
        reasons = read_checked(store, files["drops"], ["reason"]).column("reason").to_pylist()
        paired = read_checked(store, files["pairs"], ["example_id"]).column("example_id")
        tokens = read_checked(store, files["answers"], ["prompt_tokens", "completion_tokens"])
        return cls(
            plan_id=plan_id,
            shard=index,
            files=files,
            questions=questions,
            pairs=files["pairs"].rows,
            paired_questions=len(paired.unique()),
            drops=dict(sorted(Counter(reasons).items())),
            prompt_tokens=_total(tokens, "prompt_tokens"),
            completion_tokens=_total(tokens, "completion_tokens"),
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; the canonical bytes of them are the file."""
        counts = with_paired({"questions": self.questions, "pairs": self.pairs}, self.paired_questions)
        return {
            "shard": self.shard,
            "plan_id": self.plan_id,
            "files": {
                name: {"path": file.path, "sha256": file.sha256, "rows": file.rows} for name, file in self.files.items()
            },
            "counts": {**counts, "drops": dict(self.drops)},
            "tokens": {"prompt": self.prompt_tokens, "completion": self.completion_tokens},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ShardResult":
        """The inverse of `to_json`. Raises KeyError or TypeError for a value of another shape."""
        counts, tokens = value["counts"], value["tokens"]
        return cls(
            plan_id=value["plan_id"],
            shard=value["shard"],
            files={name: TableFile(**value["files"][name]) for name in TABLES},
            questions=counts["questions"],
            pairs=counts["pairs"],
            paired_questions=paired_questions(counts),
            drops=dict(counts["drops"]),
            prompt_tokens=tokens["prompt"],
            completion_tokens=tokens["completion"],
        )


def with_paired(counts: Mapping[str, Any], paired: int) -> dict[str, Any]:
    """Counts, with the questions that have pairs where these are not as many as the pairs."""
    return {**counts, **({"paired_questions": paired} if paired != counts["pairs"] else {})}


def paired_questions(counts: Mapping[str, Any]) -> int:
    """How many questions have pairs, of the counts of a shard, a manifest or a report."""
    return int(counts.get("paired_questions", counts["pairs"]))


def read_shard_result(store: Store, plan_id: str, index: int) -> ShardResult | None:
    """The result of a shard, or None while there is none. Raises StoreError for a file that cannot be read."""
    path = _path(plan_id, index)
    if not store.exists(path):
        return None
    try:
        return ShardResult.from_json(json.loads(store.read(path)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{store.show(path)}: not a shard result ({type(error).__name__}: {error}); "
            f"run the shard again with: longmill rerun {plan_id} --shards {index}"
        ) from error


def write_shard_result(store: Store, result: ShardResult) -> None:
    """Record a finished shard, unless it is recorded already, and forget its last failure."""
    store.put_if_absent(_path(result.plan_id, result.shard), canonical(result.to_json()))
    forget_failure(store, result.plan_id, result.shard)


def discard_shard_result(store: Store, plan_id: str, index: int) -> None:
    """Take a shard's record away, so that it runs again. Its tables stay; they are named by content."""
    store.delete(_path(plan_id, index))


def write_failure(store: Store, plan_id: str, index: int, error: BaseException) -> None:
    """Leave the error that a shard ended with where `longmill status` reads it."""
    record = {"shard": index, "plan_id": plan_id, "error": type(error).__name__, "message": str(error)}
    store.write(_failure_path(plan_id, index), canonical(record))


def forget_failure(store: Store, plan_id: str, index: int) -> None:
    """Take the last error of a shard away: it is done, or is about to run again elsewhere."""
    store.delete(_failure_path(plan_id, index))


def read_failure(store: Store, plan_id: str, index: int) -> str | None:
    """What the shard's last failure said, or None when it has not failed."""
    path = _failure_path(plan_id, index)
    if not store.exists(path):
        return None
    try:
        record = json.loads(store.read(path))
        return f"{record['error']}: {record['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{store.show(path)} cannot be read"


def read_checked(store: Store, file: TableFile, columns: list[str] | None = None) -> pa.Table:
    """A table whose bytes are those that its hash names. Raises StoreError when they are others."""
    data = store.read(file.path)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise StoreError(
            f"{store.show(file.path)}: its bytes are not those that were written (sha256 {file.sha256[:16]}...); "
            "remove the file and run its shard again with: longmill rerun PLAN --shards N"
        )
    return pq.ParquetFile(io.BytesIO(data)).read(columns=columns)


def _total(table: pa.Table, column: str) -> int:
    return int(pc.sum(table.column(column)).as_py() or 0)


def _path(plan_id: str, index: int) -> str:
    return f"plans/{plan_id}/shards/{index:04d}.json"


def _failure_path(plan_id: str, index: int) -> str:
    return f"plans/{plan_id}/shards/{index:04d}.failed.json"
