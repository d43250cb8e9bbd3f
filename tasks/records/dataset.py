"""The rows of a published dataset: their splits, their Arrow schemas, and how the rows of a shard are made.

`pairs` rows are TRL's conversational preference format (`prompt`, `chosen`, `rejected` as chat messages) with ids,
scores and provenance; the pairs of one question stand together, in the order of the pairing rule. `evidence` rows are
all answers with every judgement. `drops` rows are `example.DROP`. A plan keeps the questions of one context together
and rows keep its order, so Parquet stores the text of a context about once.
Leaves out: files, which are `publishing`'s, and the manifest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from infra.canonical import fingerprint
from infra.recipe import Recipe
from infra.recipe.public import public_text
from tasks.records.example import Answer, AnswerId, Context, Drop, Example, Judgement, Pair
from tasks.records.schema import schema_of
from tasks.sampling import STRONG, sample_prompt

SplitName = Literal["train", "test"]


class Message(TypedDict):
    """A chat message."""

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
    """A row of `pairs`. Token counts are the server's, by the policy's tokenizer."""

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


class EvidenceRow(TypedDict):
    """A row of `evidence`: one answer, the greedy one (sample_index -1) and a stronger model's (-2) too."""

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


PAIRS = schema_of(PairRow)
EVIDENCE = schema_of(EvidenceRow)


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

    def with_training(self, context_ids: Iterable[str]) -> "Split":
        """The split for a dataset whose pairs have these contexts: at least one of them is for training."""
        last = max(context_ids, key=lambda context_id: (self.draw(context_id), context_id), default=None)
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


def pair_rows(shard: ShardData, recipe: Recipe, plan_id: str, split: Split) -> dict[SplitName, list[PairRow]]:
    """The rows of `PAIRS` by split, in the shard's order."""
    examples = {example.example_id: example for example in shard.examples}
    answers = {answer.id: answer for answer in shard.answers}
    scores: dict[AnswerId, list[ScoreEntry]] = {}
    for judgement in shard.judgements:
        entry: ScoreEntry = {"scorer": judgement.scorer, "score": judgement.score}
        scores.setdefault(judgement.answer_id, []).append(entry)
    rows: dict[SplitName, list[PairRow]] = {"train": [], "test": []}
    prompts: dict[str, list[Message]] = {}  # by example; the pairs of a question share one list, to save memory
    for pair in shard.pairs:
        example = examples[pair.example_id]
        if pair.example_id not in prompts:
            prompts[pair.example_id] = _prompt(example, shard.contexts[pair.context_id], recipe)
        chosen = answers[pair.example_id, pair.chosen_index]
        rejected = answers[pair.example_id, pair.rejected_index]
        row: PairRow = {
            "prompt": prompts[pair.example_id],
            "chosen": [{"role": "assistant", "content": chosen.text}],
            "rejected": [{"role": "assistant", "content": rejected.text}],
            "example_id": example.example_id,
            "context_id": example.context_id,
            "question": example.question,
            "references": list(example.references),
            "kind": example.kind,
            "language": example.language,
            "chosen_index": chosen.sample_index,
            "rejected_index": rejected.sample_index,
            "chosen_reward": pair.chosen_reward,
            "rejected_reward": pair.rejected_reward,
            "margin": pair.margin,
            "chosen_scores": scores.get(chosen.id, []),
            "rejected_scores": scores.get(rejected.id, []),
            "strategy": recipe.sampling.strategy,
            "model": _model(pair, recipe),
            "revision": public_text(recipe.policy.revision),
            "prompt_tokens": rejected.prompt_tokens,  # a chosen answer may be of another model with its own tokenizer
            "chosen_tokens": chosen.completion_tokens,
            "rejected_tokens": rejected.completion_tokens,
            "plan_id": plan_id,
        }
        rows[split.side(pair.context_id)].append(row)
    return rows


def evidence_rows(shard: ShardData, plan_id: str, split: Split) -> dict[SplitName, list[EvidenceRow]]:
    """The rows of `EVIDENCE` by split, in the shard's order."""
    examples = {example.example_id: example for example in shard.examples}
    chosen = {(pair.example_id, pair.chosen_index) for pair in shard.pairs}
    rejected = {(pair.example_id, pair.rejected_index) for pair in shard.pairs}
    judgements: dict[AnswerId, list[JudgementEntry]] = {}
    for judgement in shard.judgements:
        entry: JudgementEntry = {
            "scorer": judgement.scorer,
            "score": judgement.score,
            "reason": judgement.reason,
            "evidence": judgement.evidence,
            "keys": list(judgement.keys),
        }
        judgements.setdefault(judgement.answer_id, []).append(entry)
    rows: dict[SplitName, list[EvidenceRow]] = {"train": [], "test": []}
    for answer in shard.answers:
        example = examples[answer.example_id]
        row: EvidenceRow = {
            "example_id": example.example_id,
            "context_id": example.context_id,
            "question": example.question,
            "references": list(example.references),
            "kind": example.kind,
            "language": example.language,
            "sample_index": answer.sample_index,
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "strategy": answer.strategy,
            "reward": shard.rewards.get(answer.id),
            "judgements": judgements.get(answer.id, []),
            "is_chosen": answer.id in chosen,
            "is_rejected": answer.id in rejected,
            "ledger_key": answer.key,
            "plan_id": plan_id,
        }
        rows[split.side(example.context_id)].append(row)
    return rows


def _prompt(example: Example, context: Context, recipe: Recipe) -> list[Message]:
    messages = sample_prompt(example, context.text, recipe.sampling.strategy).messages
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _model(pair: Pair, recipe: Recipe) -> str:
    """The model of both answers; "A over B" where the chosen one is the stronger model's."""
    policy = public_text(recipe.policy.name)
    if pair.chosen_index == STRONG and recipe.strong is not None:
        return f"{public_text(recipe.strong.name)} over {policy}"
    return policy
