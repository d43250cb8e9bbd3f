"""The rows of a published dataset: their types, their Arrow schemas, and their splits.

`pairs` rows are TRL's conversational preference format (`prompt`, `chosen`, `rejected` as chat messages) with ids,
scores and provenance; the pairs of one question stand together, in the order of the pairing rule. `evidence` rows are
all answers with every judgement. `drops` rows are `example.DROP`. A plan keeps the questions of one context together
and rows keep its order, so Parquet stores the text of a context about once.
Leaves out: how a shard becomes rows (`tasks/published_rows.py`), files, and the manifest.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import pyarrow as pa

from infra.canonical import fingerprint
from infra.models.tool_calls import json_text
from tasks.records.example import Answer, AnswerId, Context, Drop, Example, Judgement, Pair
from tasks.records.schema import schema_of

SplitName = Literal["train", "test"]


class Message(TypedDict):
    """A chat message. In datasets with tool calls a message of a prompt may have more: then prompts are JSON."""

    role: str
    content: str


class ScoreEntry(TypedDict):
    """The score of one scorer; null where the scorer gave none."""

    scorer: str
    score: float | None


class JudgementEntry(TypedDict):
    """What one scorer says of an answer. `evidence` is a JSON object, `keys` are those of ledger entries."""

    scorer: str
    score: float | None
    reason: str | None
    evidence: str
    keys: list[str]


class PairRow(TypedDict):
    """A row of `pairs`. Token counts are the server's, by the policy's tokenizer; of an answer without its reasoning.

    Columns of reasoning are in datasets of models that think alone; `short_prompt`, which is `prompt` over the part of
    the context that holds the answer, where chosen answers may have been drawn from it (sampling.context: evidence).
    `tools` are in datasets whose histories call tools: those of the row as JSON, null for a row without.
    `chosen_by` and `rejected_by` are in datasets of a cascade: the stage whose word the reward is, or "judge".
    """

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    example_id: str
    context_id: str
    question: str
    references: list[str]
    kind: str
    language: str
    chosen_index: int
    rejected_index: int
    chosen_reward: float
    rejected_reward: float
    margin: float
    chosen_scores: list[ScoreEntry]
    rejected_scores: list[ScoreEntry]
    strategy: str
    model: str
    revision: str
    prompt_tokens: int
    chosen_tokens: int
    rejected_tokens: int
    plan_id: str
    chosen_reasoning: str | None
    rejected_reasoning: str | None
    chosen_reasoning_tokens: int | None
    rejected_reasoning_tokens: int | None
    short_prompt: list[Message] | None
    tools: str | None
    chosen_by: str | None
    rejected_by: str | None


class EvidenceRow(TypedDict):
    """A row of `evidence`: one answer, the greedy one (sample_index -1) and a stronger model's (-2) too.

    `text` is the answer alone; `completion_tokens` count the whole reply.
    """

    example_id: str
    context_id: str
    question: str
    references: list[str]
    kind: str
    language: str
    sample_index: int
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    strategy: str
    reward: float | None
    judgements: list[JudgementEntry]
    is_chosen: bool
    is_rejected: bool
    ledger_key: str
    plan_id: str
    reasoning: str | None  # this and the next in datasets of models that think alone
    reasoning_tokens: int | None
    seen: str | None  # of the context, where not all samples saw all of it; null where this one did
    reward_by: str | None  # this and the next in datasets of a cascade: the last stage that was asked
    expected_reward: float | None  # what the stages say that the judge's reward would be; null where it was asked


PAIRS = schema_of(PairRow)
EVIDENCE = schema_of(EvidenceRow)
SAMPLER_COLUMNS = frozenset({"short_prompt", "seen"})  # of datasets whose samples do not all see the whole context
CASCADE_COLUMNS = frozenset({"chosen_by", "rejected_by", "reward_by", "expected_reward"})  # of those of a cascade
TOOLS = "tools"  # the column of datasets whose histories call tools
_PROMPTS = ("prompt", "short_prompt")


def published_schema(schema: pa.Schema, with_reasoning: bool, columns: Collection[str] = ()) -> pa.Schema:
    """`PAIRS` or `EVIDENCE` as a dataset has it: all its files have the same columns. `columns`: those of
    SAMPLER_COLUMNS, CASCADE_COLUMNS and TOOLS that it has."""
    left_out = (SAMPLER_COLUMNS | CASCADE_COLUMNS | {TOOLS}).difference(columns)
    fields = []
    for field in schema:
        if field.name not in left_out and (with_reasoning or "reasoning" not in field.name):
            fields.append(field)
    return pa.schema(fields)


def pair_table(rows: Sequence[PairRow], with_reasoning: bool, columns: Collection[str]) -> pa.Table:
    """Rows of `PAIRS` as a table of `published_schema`.

    With TOOLS each message of a prompt is a value of Arrow's type JSON, and so are tools: `datasets` gives them to
    training as they are, without a null for each field that another row's calls have.
    """
    schema = published_schema(PAIRS, with_reasoning, columns)
    if TOOLS not in columns:
        return pa.Table.from_pylist(rows, schema=schema)
    encoded: list[dict[str, Any]] = []
    for row in rows:
        texts: dict[str, Any] = {}
        for name in _PROMPTS:
            messages = row[name]  # type: ignore[literal-required]
            texts[name] = None if messages is None else list(map(json_text, messages))
        encoded.append({**row, **texts})
    as_text, as_json = schema, schema
    for place, field in enumerate(schema):
        if field.name in _PROMPTS:
            as_text = as_text.set(place, field.with_type(pa.list_(pa.string())))
            as_json = as_json.set(place, field.with_type(pa.list_(pa.json_())))
        elif field.name == TOOLS:
            as_json = as_json.set(place, field.with_type(pa.json_()))
    return pa.Table.from_pylist(encoded, schema=as_text).cast(as_json)


@dataclass(frozen=True, slots=True)
class ShardData:
    """One shard in memory, with all its tables."""

    examples: list[Example]
    contexts: Mapping[str, Context]
    answers: list[Answer]
    judgements: list[Judgement]
    pairs: list[Pair]
    drops: list[Drop]
    rewards: Mapping[AnswerId, float | None]


@dataclass(frozen=True, slots=True)
class Split:
    """Which contexts are for training and which for testing, decided by the seed and the context's id alone.

    `always_train` is the one exception, the id of a context: when every context with a pair would be in the test
    split, the last of them (by its draw) goes to train, so that a small dataset can be trained on.
    """

    seed: int
    test_fraction: float
    always_train: str | None = None

    def side(self, context_id: str) -> SplitName:
        """The split of a context and of everything that belongs to it."""
        if context_id != self.always_train and self.draw(context_id) < self.test_fraction:
            return "test"
        return "train"

    def draw(self, context_id: str) -> float:
        """A number in [0, 1), evenly spread over contexts."""
        return int(fingerprint(["split", self.seed, context_id])[:13], 16) / 16**13

    def last(self, context_ids: Iterable[str]) -> str | None:
        """The context with the highest draw; None of none."""
        return max(context_ids, key=lambda context_id: (self.draw(context_id), context_id), default=None)

    def with_training(self, context_ids: Iterable[str]) -> "Split":
        """The split for a dataset whose pairs have these contexts: at least one of them is for training."""
        last = self.last(context_ids)
        if last is None or self.side(last) == "train":
            return self
        return Split(self.seed, self.test_fraction, last)

    def to_json(self) -> dict[str, Any]:
        """The value of `split` in a manifest."""
        return {"seed": self.seed, "test_fraction": self.test_fraction, "always_train": self.always_train}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Split":
        """The split of a manifest's `split`."""
        return cls(value["seed"], value["test_fraction"], value["always_train"])
