"""The result of one finished shard: its tables, by hash, and counts over them.

`plans/PLAN/shards/0003.json` is written after the tables and only once, so a reader that finds it also finds the
tables. When two workers run one shard, the result of the first to finish stays. `0003.failed.json` beside it holds
the last error of a shard that failed. Neither file holds a time, a machine or a count of calls: the same plan and the
same replies give the same bytes. `0003.reruns.json` counts how often the shard's result was discarded: what Prefect has
cached of its earlier runs is not used by the next one.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.canonical import canonical_json
from infra.errors import StoreError
from infra.store import Store
from tasks.records.hint import rerun_command
from tasks.records.plan import Plan
from tasks.records.product import PAIRS, PRODUCTS, Product
from tasks.records.table import StoredTable

_REASONING_TOKENS = "reasoning_tokens"
_TOKENS = ("prompt_tokens", "completion_tokens", _REASONING_TOKENS)


@dataclass(frozen=True, slots=True)
class ShardResult:
    """A finished shard: a file for each of its tables, and counts over them.

    `pairs` counts the rows of the table of its product, which are pairs or questions.

    Its JSON has `paired_questions` only where it is not the number of pairs, and tokens of reasoning only where an
    answer has any.
    """

    plan_id: str
    shard: int
    files: Mapping[str, StoredTable]
    questions: int
    pairs: int
    paired_questions: int  # with one pair or more
    drops: Mapping[str, int]  # reason -> questions
    prompt_tokens: int  # over all answers, as the server counted
    completion_tokens: int
    reasoning_tokens: int | None = None  # of completion_tokens; None where no answer has reasoning
    product: Product = PAIRS

    @classmethod
    def of(
        cls, store: Store, plan_id: str, index: int, questions: int, tables: Mapping[str, StoredTable]
    ) -> "ShardResult":
        """The result of a shard whose tables are written. Raises StoreError for a missing or changed table."""
        product = _product_of(tables)
        reasons = tables["drops"].read_checked(store, ["reason"]).column("reason").to_pylist()
        paired = tables[product.name].read_checked(store, ["example_id"]).column("example_id")
        tokens = tables["answers"].read_checked(store, _TOKENS)
        has_reasoning = _REASONING_TOKENS in tokens.schema.names
        return cls(
            plan_id=plan_id,
            shard=index,
            files={name: tables[name] for name in table_names(product)},
            questions=questions,
            pairs=tables[product.name].rows,
            paired_questions=len(paired.unique()),
            drops=dict(sorted(Counter(reasons).items())),
            prompt_tokens=_total(tokens, "prompt_tokens"),
            completion_tokens=_total(tokens, "completion_tokens"),
            reasoning_tokens=_total(tokens, _REASONING_TOKENS) if has_reasoning else None,
            product=product,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; the canonical bytes of them are the file."""
        counts = {self.product.planned: self.questions, self.product.name: self.pairs}
        if self.product == PAIRS:
            counts = with_paired(counts, self.paired_questions)
        tokens = {"prompt": self.prompt_tokens, "completion": self.completion_tokens}
        if self.reasoning_tokens is not None:
            tokens["reasoning"] = self.reasoning_tokens
        return {
            "shard": self.shard,
            "plan_id": self.plan_id,
            "files": {name: table.to_json() for name, table in self.files.items()},
            "counts": {**counts, "drops": dict(self.drops)},
            "tokens": tokens,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ShardResult":
        """The inverse of `to_json`. Raises KeyError or TypeError for a value of another shape."""
        counts, tokens = value["counts"], value["tokens"]
        product = _product_of(value["files"])
        files = {}
        for name in table_names(product):
            files[name] = StoredTable.from_json(value["files"][name])
        return cls(
            plan_id=value["plan_id"],
            shard=value["shard"],
            files=files,
            questions=counts[product.planned],
            pairs=counts[product.name],
            paired_questions=counts.get("paired_questions", counts[product.name]),
            drops=dict(counts["drops"]),
            prompt_tokens=tokens["prompt"],
            completion_tokens=tokens["completion"],
            reasoning_tokens=tokens.get("reasoning"),
            product=product,
        )


def table_names(product: Product) -> tuple[str, ...]:
    """The names of the tables of a shard that makes this."""
    return ("answers", "judgements", product.name, "drops")


def _product_of(tables: Mapping[str, Any]) -> Product:
    """What a shard with these tables has made. Raises KeyError where there is no such table."""
    for product in PRODUCTS.values():
        if product.name in tables:
            return product
    raise KeyError(PAIRS.name)


def with_paired(counts: Mapping[str, Any], paired: int) -> dict[str, Any]:
    """Counts, with the number of questions that have pairs where it is not the number of pairs."""
    if paired == counts["pairs"]:
        return dict(counts)
    return {**counts, "paired_questions": paired}


def paired_questions(counts: Mapping[str, Any]) -> int:
    """The number of questions that have pairs, from the counts of a shard, a manifest or a report."""
    return int(counts.get("paired_questions", counts["pairs"]))


def read_shard_result(store: Store, plan_id: str, index: int) -> ShardResult | None:
    """The result of a shard, or None while there is none. Raises StoreError for a file that cannot be read."""
    return next(read_shard_results(store, plan_id, [index]))


def read_shard_results(store: Store, plan_id: str, indices: Sequence[int]) -> Iterator[ShardResult | None]:
    """The result of each shard in turn, None for one that has none. Raises StoreError for one that cannot be read."""
    contents = store.read_several([_path(plan_id, index) for index in indices])
    for index, data in zip(indices, contents, strict=True):
        try:
            yield None if data is None else ShardResult.from_json(json.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{store.place(_path(plan_id, index))}: not a shard result ({type(error).__name__}: {error}); "
                f"run the shard again with: {rerun_command(store, plan_id, '--shards', str(index))}"
            ) from error


def finished_results(store: Store, plan_id: str, shards: int) -> list[ShardResult]:
    """The results of the finished ones among a plan's so many shards."""
    return [result for result in read_shard_results(store, plan_id, range(shards)) if result is not None]


def missing_results(store: Store, plan_id: str, indices: Sequence[int]) -> list[int]:
    """Those of the shards that have no result. Raises StoreError for a result that cannot be read."""
    results = read_shard_results(store, plan_id, indices)
    return [index for index, result in zip(indices, results, strict=True) if result is None]


def unfinished_shards(store: Store, plan: Plan) -> list[int]:
    """The shards of a plan without a result, from one listing: no result is read, nor checked."""
    return [index for index, state in shard_states(store, plan).items() if state != "done"]


def shard_states(store: Store, plan: Plan) -> dict[int, str]:
    """ "done", "failed" or "waiting" for each shard of a plan, from one listing: no result is read, nor checked."""
    files, _ = store.children(f"plans/{plan.plan_id}/shards")
    paths = set(files)
    states = {}
    for shard in plan.shards:
        state = "waiting"
        if _path(plan.plan_id, shard.index) in paths:
            state = "done"
        elif _failure_path(plan.plan_id, shard.index) in paths:
            state = "failed"
        states[shard.index] = state
    return states


def write_shard_result(store: Store, result: ShardResult) -> None:
    """Write the result of a finished shard, unless there is one already."""
    store.put_if_absent(_path(result.plan_id, result.shard), canonical_json(result.to_json()))


@dataclass(frozen=True, slots=True)
class Reruns:
    """How often a shard's result was discarded, and the tables that its next run takes over from the last one."""

    count: int = 0
    tables: Mapping[str, StoredTable] = field(default_factory=dict)


NO_RERUNS = Reruns()


def discard_shard_result(
    store: Store, plan_id: str, index: int, tables: Mapping[str, StoredTable] | None = None
) -> None:
    """Remove a shard's result, so that the shard runs again. Its tables stay; they are named by content.

    The next run takes over `tables`: its answers, or its answers and judgements.
    """
    count = read_reruns(store, plan_id, index).count + 1
    record: dict[str, Any] = {"shard": index, "plan_id": plan_id, "reruns": count}
    if tables:
        record["tables"] = {name: table.to_json() for name, table in tables.items()}
    store.write(_reruns_path(plan_id, index), canonical_json(record))
    store.delete(_path(plan_id, index))


def read_reruns(store: Store, plan_id: str, index: int) -> Reruns:
    """The record of a shard's re-runs. Raises StoreError for a file that cannot be read."""
    path = _reruns_path(plan_id, index)
    if not store.exists(path):
        return Reruns()
    try:
        record = json.loads(store.read(path))
        tables = {}
        for name, table in record.get("tables", {}).items():
            tables[name] = StoredTable.from_json(table)
        return Reruns(int(record["reruns"]), tables)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{store.place(path)}: no count of re-runs; remove the file and run again") from error


def write_failure(store: Store, plan_id: str, index: int, error: BaseException) -> None:
    """Write the error that a shard ended with; `longmill status` shows it."""
    record = {"shard": index, "plan_id": plan_id, "error": type(error).__name__, "message": str(error)}
    store.write(_failure_path(plan_id, index), canonical_json(record))


def forget_failure(store: Store, plan_id: str, index: int) -> None:
    """Remove the last error of a shard, because it is about to run again."""
    store.delete(_failure_path(plan_id, index))


def read_failure(store: Store, plan_id: str, index: int) -> str | None:
    """The last error of a shard, as "CLASS: MESSAGE", or None when it has not failed."""
    return next(read_failures(store, plan_id, [index]))


def read_failures(store: Store, plan_id: str, indices: Sequence[int]) -> Iterator[str | None]:
    """`read_failure` of each shard in turn."""
    paths = [_failure_path(plan_id, index) for index in indices]
    for path, data in zip(paths, store.read_several(paths), strict=True):
        if data is None:
            yield None
            continue
        try:
            record = json.loads(data)
            yield f"{record['error']}: {record['message']}"
        except (ValueError, KeyError, TypeError):
            yield f"{store.place(path)} cannot be read"


def _total(table: pa.Table, column: str) -> int:
    return int(pc.sum(table.column(column)).as_py() or 0)


def _path(plan_id: str, index: int) -> str:
    return f"plans/{plan_id}/shards/{index:04d}.json"


def _reruns_path(plan_id: str, index: int) -> str:
    return f"plans/{plan_id}/shards/{index:04d}.reruns.json"


def _failure_path(plan_id: str, index: int) -> str:
    return f"plans/{plan_id}/shards/{index:04d}.failed.json"
