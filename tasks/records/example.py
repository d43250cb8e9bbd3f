"""The records of the factory: example, context, answer, judgement, pair and drop.

A record is a frozen dataclass in memory and a row of an Arrow table in the store; `to_table` and `from_table`
convert. The Arrow schema of a record is derived from its class (`EXAMPLE` from `Example`, and so on). Text offsets
count Unicode characters of the context's text, token counts are the policy tokenizer's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import pyarrow as pa

from infra.canonical import canonical_json
from tasks.records.question import WrittenQuestion
from tasks.records.schema import schema_of

AnswerId = tuple[str, int]  # example_id, sample_index
GREEDY = -1  # sample_index of the greedy answer, which is for reporting only
STRONG = -2  # sample_index of the answer of the recipe's stronger model


@dataclass(frozen=True, slots=True)
class Document:
    """One source text that contexts are built from."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """A question over one context. `references` are gold answers, for reporting alone where no scorer names them.

    The last three are of plans whose samples do not all see the whole context (tasks/samplers).
    """

    example_id: str
    question: str
    context_id: str
    references: tuple[str, ...]
    kind: str
    language: str  # "en" or "zh"
    metadata: str  # a JSON object, as it came
    evidence_starts: tuple[int, ...] | None = None  # of the parts of the context that hold the answer
    evidence_ends: tuple[int, ...] | None = None
    whole_prompt_tokens: int | None = None  # of the prompt with the whole context


@dataclass(frozen=True, slots=True)
class Context:
    """A long text. `context_id` is the sha256 of `text`; spans are [start, end) per source document.

    A context of chat messages has a role for each span ("user", "assistant", "tool"): the span is the message's text.
    """

    context_id: str
    text: str
    tokens: int
    span_starts: tuple[int, ...]
    span_ends: tuple[int, ...]
    span_titles: tuple[str, ...]
    span_roles: tuple[str, ...] | None = None  # of chat messages; null where the context is one text
    tool_use: str | None = None  # JSON (tasks/records/history.py); null where no message calls a tool


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer. `sample_index` counts from 0, or is GREEDY or STRONG. `text` is without what the model has
    thought; `completion_tokens` count both."""

    example_id: str
    sample_index: int
    text: str
    finish_reason: str  # "stop" or "length"; of an answer without text its outcome: "content_filter", "abort", ...
    prompt_tokens: int
    completion_tokens: int
    strategy: str
    key: str  # of its ledger entry
    reasoning: str | None = None  # what the model has thought before it; null where it has not
    reasoning_tokens: int | None = None  # of completion_tokens; by its tokenizer where the server does not count them
    seen: str | None = None  # what its sample saw of the context, in its sampler's words; null where it was all of it

    @property
    def answer_tokens(self) -> int:
        """Tokens of the answer alone, without the reasoning."""
        return max(0, self.completion_tokens - (self.reasoning_tokens or 0))

    @property
    def id(self) -> AnswerId:
        """Its example's id and its sample index; no other answer has both."""
        return self.example_id, self.sample_index

    def judged(
        self,
        scorer: str,
        score: float | None,
        reason: str | None = None,
        evidence: Mapping[str, Any] | str = "{}",
        keys: Iterable[str] = (),
    ) -> "Judgement":
        """What a scorer says of this answer.

        `evidence` is a JSON object: a mapping, written as canonical JSON, or JSON text that is taken as it is.
        """
        text = evidence if isinstance(evidence, str) else canonical_json(dict(evidence)).decode()
        return Judgement(self.example_id, self.sample_index, scorer, score, reason, text, tuple(keys))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one scorer says of one answer. `score` is null exactly when `reason` says why."""

    example_id: str
    sample_index: int
    scorer: str
    score: float | None
    reason: str | None
    evidence: str  # a JSON object
    keys: tuple[str, ...]  # of the ledger entries of its calls

    @property
    def answer_id(self) -> AnswerId:
        """The `id` of the answer that it is about."""
        return self.example_id, self.sample_index


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
    stage: str  # "read", "context", "sample", "score", "pair" or "ask"
    reason: str
    detail: str


EXAMPLE = schema_of(Example)
CONTEXT = schema_of(Context)
ANSWER = schema_of(Answer)
JUDGEMENT = schema_of(Judgement)
PAIR = schema_of(Pair)
DROP = schema_of(Drop)

# Columns that only some tables have: those of models that think, of contexts that are chat messages, or have tool calls
# in them, and of samples that do not all see the whole context.
REASONING = ("reasoning", "reasoning_tokens")
_OPTIONAL = (
    REASONING,
    ("span_roles",),
    ("tool_use",),
    ("evidence_starts", "evidence_ends"),
    ("whole_prompt_tokens",),
    ("seen",),
)

Record = TypeVar("Record", Example, Context, Answer, Judgement, Pair, WrittenQuestion, Drop)


def to_table(rows: Iterable[Record], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table, in their order. Columns that only some tables have are left out where no row has any."""
    rows = list(rows)
    columns = {}
    for name in schema.names:
        columns[name] = [getattr(row, name) for row in rows]
    table = pa.Table.from_pydict(columns, schema=schema)
    for group in _OPTIONAL:
        unused = [name for name in group if name in columns and table.column(name).null_count == len(rows)]
        if len(unused) == len(group):
            table = table.drop_columns(unused)
    return table


def from_table(table: pa.Table, record: type[Record]) -> list[Record]:
    """An Arrow table's rows as records of this type; Arrow lists become tuples. Of a column that it does not have, the
    values are null."""
    columns = [_column_values(table, field.name) for field in fields(record)]
    return [record(*values) for values in zip(*columns, strict=True)]


def _column_values(table: pa.Table, name: str) -> list[Any]:
    if name not in table.schema.names and any(name in group for group in _OPTIONAL):
        return [None] * table.num_rows
    values: list[Any] = table.column(name).to_pylist()
    if pa.types.is_list(table.schema.field(name).type):
        return [None if value is None else tuple(value) for value in values]
    return values
