"""The nouns of the factory and their Arrow schemas, in one place.

Rows are frozen dataclasses in memory and Arrow tables at rest; `to_table` and `from_table` convert. Text
offsets count Unicode characters of the context's text, token counts are the policy tokenizer's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Document:
    """One source text that contexts are built from."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """A question over one context. `references` are gold answers, for reporting only."""

    example_id: str
    question: str
    context_id: str
    references: tuple[str, ...]
    kind: str
    language: str  # "en" or "zh"
    metadata: str  # a JSON object, kept as it came


@dataclass(frozen=True, slots=True)
class Context:
    """A long text. `context_id` is the sha256 of `text`; spans are [start, end) per source document."""

    context_id: str
    text: str
    tokens: int
    span_starts: tuple[int, ...]
    span_ends: tuple[int, ...]
    span_titles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer. `sample_index` counts from 0; the greedy one, for reporting only, is -1, and a stronger
    model's is -2."""

    example_id: str
    sample_index: int
    text: str
    finish_reason: str  # "stop", "length", "content_filter" or, for a call without a reply, its outcome
    prompt_tokens: int
    completion_tokens: int
    strategy: str
    key: str  # of its ledger entry


@dataclass(frozen=True, slots=True)
class Judgement:
    """One scorer's word on one answer. `score` is null exactly when `reason` says why."""

    example_id: str
    sample_index: int
    scorer: str
    score: float | None
    reason: str | None
    evidence: str  # a JSON object
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A chosen and a rejected answer of one example, which may have several; `margin` is their difference in reward."""

    example_id: str
    context_id: str
    chosen_index: int
    rejected_index: int
    chosen_reward: float
    rejected_reward: float
    margin: float


@dataclass(frozen=True, slots=True)
class Drop:
    """An example that gives no pair, and why."""

    example_id: str
    stage: str  # "read", "context", "sample", "score" or "pair"
    reason: str
    detail: str


_TEXT = pa.string()
_TEXTS = pa.list_(pa.string())

EXAMPLE = pa.schema(
    [
        pa.field("example_id", _TEXT, False),
        pa.field("question", _TEXT, False),
        pa.field("context_id", _TEXT, False),
        pa.field("references", _TEXTS, False),
        pa.field("kind", _TEXT, False),
        pa.field("language", _TEXT, False),
        pa.field("metadata", _TEXT, False),
    ]
)
CONTEXT = pa.schema(
    [
        pa.field("context_id", _TEXT, False),
        pa.field("text", _TEXT, False),
        pa.field("tokens", pa.int32(), False),
        pa.field("span_starts", pa.list_(pa.int32()), False),
        pa.field("span_ends", pa.list_(pa.int32()), False),
        pa.field("span_titles", _TEXTS, False),
    ]
)
ANSWER = pa.schema(
    [
        pa.field("example_id", _TEXT, False),
        pa.field("sample_index", pa.int32(), False),
        pa.field("text", _TEXT, False),
        pa.field("finish_reason", _TEXT, False),
        pa.field("prompt_tokens", pa.int32(), False),
        pa.field("completion_tokens", pa.int32(), False),
        pa.field("strategy", _TEXT, False),
        pa.field("key", _TEXT, False),
    ]
)
JUDGEMENT = pa.schema(
    [
        pa.field("example_id", _TEXT, False),
        pa.field("sample_index", pa.int32(), False),
        pa.field("scorer", _TEXT, False),
        pa.field("score", pa.float64(), True),
        pa.field("reason", _TEXT, True),
        pa.field("evidence", _TEXT, False),
        pa.field("keys", _TEXTS, False),
    ]
)
PAIR = pa.schema(
    [
        pa.field("example_id", _TEXT, False),
        pa.field("context_id", _TEXT, False),
        pa.field("chosen_index", pa.int32(), False),
        pa.field("rejected_index", pa.int32(), False),
        pa.field("chosen_reward", pa.float64(), False),
        pa.field("rejected_reward", pa.float64(), False),
        pa.field("margin", pa.float64(), False),
    ]
)
DROP = pa.schema(
    [
        pa.field("example_id", _TEXT, False),
        pa.field("stage", _TEXT, False),
        pa.field("reason", _TEXT, False),
        pa.field("detail", _TEXT, False),
    ]
)

Noun = TypeVar("Noun", Example, Context, Answer, Judgement, Pair, Drop)


def to_table(rows: Iterable[Noun], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table, in their order."""
    kept = list(rows)
    columns = {name: [getattr(row, name) for row in kept] for name in schema.names}
    return pa.Table.from_pydict(columns, schema=schema)


def from_table(table: pa.Table, noun: type[Noun]) -> list[Noun]:
    """An Arrow table's rows as `noun`s; Arrow lists become tuples."""
    names = [field.name for field in fields(noun)]
    columns: Sequence[list[Any]] = [table.column(name).to_pylist() for name in names]
    return [noun(*map(_frozen, values)) for values in zip(*columns, strict=True)]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
