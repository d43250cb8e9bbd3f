"""The part of a finished shard in its plan's dataset: what publishing would else read the shard's tables for.

The worker of a shard writes its final rows to `plans/PLAN/rows/`, under the paths that they will have in the dataset,
its figures beside its tables, and last `shards/0003.part-HASH.json`, which names them by hash. HASH is of the shard's
tables, so a part is never that of another result. A part that is missing (of a shard from before parts), damaged or of
another schema is None: publishing reads the tables then, and the dataset is the same to the last byte.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from infra.canonical import canonical_json, fingerprint
from infra.store import Store
from tasks.records.dataset import Split
from tasks.records.manifest import SCHEMA_VERSION, ManifestFile
from tasks.records.shard import ShardResult

SCHEMA = f"1.{SCHEMA_VERSION}"  # of the part, and of the rows


@dataclass(frozen=True, slots=True)
class Spending:
    """Calls that brought an answer, and their tokens."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: "Spending") -> "Spending":
        """Both together."""
        return Spending(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    def minus(self, other: "Spending") -> "Spending":
        """This one without the other, which is a part of it."""
        return Spending(
            self.calls - other.calls,
            self.prompt_tokens - other.prompt_tokens,
            self.completion_tokens - other.completion_tokens,
        )

    def to_json(self) -> list[int]:
        """[calls, prompt tokens, completion tokens]."""
        return [self.calls, self.prompt_tokens, self.completion_tokens]


@dataclass(frozen=True, slots=True)
class ShardPart:
    """What a shard adds to the dataset. `outcome` and the figures are JSON values of the yield gate and the summary."""

    rows: Sequence[ManifestFile]  # the files of its final rows, as in the manifest
    split: Split  # by which the rows were put into files
    with_reasoning: bool  # whether the rows have columns for reasoning, as those of a whole dataset have or have not
    last_context: str | None  # of the contexts with a pair, that with the last draw of the split
    outcome: Mapping[str, Any]
    spending: Mapping[str, Spending]  # by kind of answer, of the calls whose server says what they cost
    without_usage: Sequence[str]  # ledger keys of the other calls for answers
    figures: str  # path of the file
    figures_sha256: str

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "schema": SCHEMA,
            "rows": list(self.rows),
            "split": self.split.to_json(),
            "with_reasoning": self.with_reasoning,
            "last_context": self.last_context,
            "outcome": dict(self.outcome),
            "spending": {kind: spent.to_json() for kind, spent in self.spending.items()},
            "without_usage": list(self.without_usage),
            "figures": {"path": self.figures, "sha256": self.figures_sha256},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ShardPart":
        """The inverse of `to_json`."""
        return cls(
            rows=value["rows"],
            split=Split.from_json(value["split"]),
            with_reasoning=value["with_reasoning"],
            last_context=value["last_context"],
            outcome=value["outcome"],
            spending={kind: Spending(*numbers) for kind, numbers in value["spending"].items()},
            without_usage=value["without_usage"],
            figures=value["figures"]["path"],
            figures_sha256=value["figures"]["sha256"],
        )


def rows_folder(plan_id: str) -> str:
    """Where the shards of a plan write their final rows, in the store."""
    return f"plans/{plan_id}/rows"


def write_figures(store: Store, plan_id: str, index: int, figures: Mapping[str, Any]) -> tuple[str, str]:
    """Write the figures of a shard; returns path and sha256. The order of keys stays: it decides that of tables."""
    text = json.dumps(figures, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    data = text.encode("utf-8", "surrogatepass")
    sha256 = hashlib.sha256(data).hexdigest()
    path = f"plans/{plan_id}/shards/{index:04d}/figures-{sha256[:16]}.json"
    store.write(path, data)
    return path, sha256


def read_figures(store: Store, parts: Sequence[ShardPart]) -> Iterator[Mapping[str, Any] | None]:
    """The figures of each part in turn; None for those that are missing or were changed."""
    contents = store.read_several([part.figures for part in parts])
    for part, data in zip(parts, contents, strict=True):
        if data is None or hashlib.sha256(data).hexdigest() != part.figures_sha256:
            yield None
        else:
            yield _figures(data)


def _figures(data: bytes) -> Mapping[str, Any]:
    try:
        figures: Mapping[str, Any] = from_json(data)  # a third of the time of json.loads, for 20 KB a shard
    except ValueError:  # lone surrogates
        figures = json.loads(data)
    return figures


def write_part(store: Store, result: ShardResult, part: ShardPart) -> None:
    """Write the part of a result. Everything that it names is written before."""
    content = part.to_json()
    store.write(part_path(result), canonical_json({"part": content, "sha256": fingerprint(content)}))


def read_parts(store: Store, results: Sequence[ShardResult]) -> Iterator[ShardPart | None]:
    """The part of each result in turn; None for one that is not there, or cannot be used."""
    for data in store.read_several([part_path(result) for result in results]):
        yield None if data is None else _parsed(data)


def _parsed(data: bytes) -> ShardPart | None:
    try:
        value = json.loads(data)
        content = value["part"]
        if value["sha256"] != fingerprint(content) or content["schema"] != SCHEMA:
            return None
        return ShardPart.from_json(content)
    except (ValueError, KeyError, TypeError):
        return None


def part_path(result: ShardResult) -> str:
    """The path of the part of a result."""
    tables = {name: table.sha256 for name, table in result.files.items()}
    return f"plans/{result.plan_id}/shards/{result.shard:04d}.part-{fingerprint(tables)[:16]}.json"
