"""The rows of a published dataset: which split they belong to, their Arrow schemas, and how a shard becomes them.

`pairs` rows are TRL's conversational preference format (`prompt`, `chosen`, `rejected` as chat messages) plus
ids, scores and provenance; those of one question stand together, in the rule's order. `evidence` rows are all
answers with every judgement. `drops` rows are `nouns.DROP`.
A plan keeps questions of one context together and rows keep its order, so Parquet stores the text about once.
Leaves out: files and the manifest, which are `publishing`'s and `manifest`'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from infra.canonical import fingerprint
from infra.recipe import Recipe
from infra.recipe.public import public_text
from tasks.records.example import Answer, Context, Drop, Example, Judgement, Pair
from tasks.sampling import STRONG, sample_prompt

SplitName = Literal["train", "test"]
AnswerId = tuple[str, int]

_MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string(), False), pa.field("content", pa.string(), False)]))
_SCORES = pa.list_(pa.struct([pa.field("scorer", pa.string(), False), pa.field("score", pa.float64())]))
_JUDGEMENTS = pa.list_(
    pa.struct(
        [
            pa.field("scorer", pa.string(), False),
            pa.field("score", pa.float64()),
            pa.field("reason", pa.string()),
            pa.field("evidence", pa.string(), False),
            pa.field("keys", pa.list_(pa.string()), False),
        ]
    )
)
PAIRS = pa.schema(
    [
        pa.field("prompt", _MESSAGES, False),
        pa.field("chosen", _MESSAGES, False),
        pa.field("rejected", _MESSAGES, False),
        pa.field("example_id", pa.string(), False),
        pa.field("context_id", pa.string(), False),
        pa.field("question", pa.string(), False),
        pa.field("references", pa.list_(pa.string()), False),
        pa.field("kind", pa.string(), False),
        pa.field("language", pa.string(), False),
        pa.field("chosen_index", pa.int32(), False),
        pa.field("rejected_index", pa.int32(), False),
        pa.field("chosen_reward", pa.float64(), False),
        pa.field("rejected_reward", pa.float64(), False),
        pa.field("margin", pa.float64(), False),
        pa.field("chosen_scores", _SCORES, False),
        pa.field("rejected_scores", _SCORES, False),
        pa.field("strategy", pa.string(), False),
        pa.field("model", pa.string(), False),
        pa.field("revision", pa.string(), False),
        pa.field("prompt_tokens", pa.int32(), False),
        pa.field("chosen_tokens", pa.int32(), False),
        pa.field("rejected_tokens", pa.int32(), False),
        pa.field("plan_id", pa.string(), False),
    ]
)
EVIDENCE = pa.schema(
    [
        pa.field("example_id", pa.string(), False),
        pa.field("context_id", pa.string(), False),
        pa.field("question", pa.string(), False),
        pa.field("references", pa.list_(pa.string()), False),
        pa.field("kind", pa.string(), False),
        pa.field("language", pa.string(), False),
        pa.field("sample_index", pa.int32(), False),
        pa.field("text", pa.string(), False),
        pa.field("finish_reason", pa.string(), False),
        pa.field("prompt_tokens", pa.int32(), False),
        pa.field("completion_tokens", pa.int32(), False),
        pa.field("strategy", pa.string(), False),
        pa.field("reward", pa.float64()),
        pa.field("judgements", _JUDGEMENTS, False),
        pa.field("is_chosen", pa.bool_(), False),
        pa.field("is_rejected", pa.bool_(), False),
        pa.field("ledger_key", pa.string(), False),
        pa.field("plan_id", pa.string(), False),
    ]
)


@dataclass(frozen=True, slots=True)
class ShardData:
    """All that is known of one shard, in memory."""

    examples: list[Example]
    contexts: Mapping[str, Context]
    answers: list[Answer]
    judgements: list[Judgement]
    pairs: list[Pair]
    drops: list[Drop]
    rewards: Mapping[AnswerId, float | None]


@dataclass(frozen=True, slots=True)
class Split:
    """Which side a context is on: a matter of the seed and the context's id alone, whatever its shard.

    `always_train` is the one exception: when every context with a pair would be on the test side, the last of
    them goes to train, so that a small set can be trained on.
    """

    seed: int
    test_fraction: float
    always_train: str | None = None

    def side(self, context_id: str) -> SplitName:
        """The split of a context and of everything that belongs to it."""
        on_test = context_id != self.always_train and self.draw(context_id) < self.test_fraction
        return "test" if on_test else "train"

    def draw(self, context_id: str) -> float:
        """A number in [0, 1), evenly spread over contexts."""
        return int(fingerprint(["split", self.seed, context_id])[:13], 16) / 16**13

    def with_training(self, context_ids: Iterable[str]) -> "Split":
        """The split for a dataset whose pairs have these contexts: at least one of them is for training."""
        last = max(context_ids, key=lambda each: (self.draw(each), each), default=None)
        if last is None or self.side(last) == "train":
            return self
        return Split(self.seed, self.test_fraction, last)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest, under `split`."""
        return {"seed": self.seed, "test_fraction": self.test_fraction, "always_train": self.always_train}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Split":
        """The split of a manifest's `split`."""
        return cls(value["seed"], value["test_fraction"], value["always_train"])


def pair_rows(shard: ShardData, recipe: Recipe, plan_id: str, split: Split) -> dict[SplitName, list[dict[str, Any]]]:
    """The rows of `PAIRS` by split, in the shard's order."""
    examples = {example.example_id: example for example in shard.examples}
    answers = {(answer.example_id, answer.sample_index): answer for answer in shard.answers}
    scores: dict[AnswerId, list[dict[str, Any]]] = {}
    for each in shard.judgements:
        score = {"scorer": each.scorer, "score": each.score}
        scores.setdefault((each.example_id, each.sample_index), []).append(score)
    rows: dict[SplitName, list[dict[str, Any]]] = {"train": [], "test": []}
    prompts: dict[str, list[Any]] = {}  # the pairs of a question share the one in memory
    for pair in shard.pairs:
        example = examples[pair.example_id]
        if pair.example_id not in prompts:
            text = shard.contexts[pair.context_id].text
            prompts[pair.example_id] = list(sample_prompt(example, text, recipe.sampling.strategy).messages)
        row: dict[str, Any] = {
            "prompt": prompts[pair.example_id],
            **_about(example),
            **_side("chosen", answers, scores, (pair.example_id, pair.chosen_index)),
            **_side("rejected", answers, scores, (pair.example_id, pair.rejected_index)),
            "chosen_reward": pair.chosen_reward,
            "rejected_reward": pair.rejected_reward,
            "margin": pair.margin,
            "strategy": recipe.sampling.strategy,
            "model": _wrote(pair, recipe),
            "revision": public_text(recipe.policy.revision),
            "prompt_tokens": answers[pair.example_id, pair.rejected_index].prompt_tokens,  # by the policy's tokenizer
            "plan_id": plan_id,
        }
        rows[split.side(pair.context_id)].append(row)
    return rows


def evidence_rows(shard: ShardData, plan_id: str, split: Split) -> dict[SplitName, list[dict[str, Any]]]:
    """The rows of `EVIDENCE` by split: every answer, the greedy one (sample_index -1) too, in the shard's order."""
    examples = {example.example_id: example for example in shard.examples}
    chosen = {(pair.example_id, pair.chosen_index) for pair in shard.pairs}
    rejected = {(pair.example_id, pair.rejected_index) for pair in shard.pairs}
    judgements: dict[AnswerId, list[dict[str, Any]]] = {}
    for each in shard.judgements:
        judgement: dict[str, Any] = {"scorer": each.scorer, "score": each.score, "reason": each.reason}
        judgement |= {"evidence": each.evidence, "keys": list(each.keys)}
        judgements.setdefault((each.example_id, each.sample_index), []).append(judgement)
    rows: dict[SplitName, list[dict[str, Any]]] = {"train": [], "test": []}
    for answer in shard.answers:
        example, answer_id = examples[answer.example_id], (answer.example_id, answer.sample_index)
        row: dict[str, Any] = {
            **_about(example),
            "sample_index": answer.sample_index,
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "strategy": answer.strategy,
            "reward": shard.rewards.get(answer_id),
            "judgements": judgements.get(answer_id, []),
            "is_chosen": answer_id in chosen,
            "is_rejected": answer_id in rejected,
            "ledger_key": answer.key,
            "plan_id": plan_id,
        }
        rows[split.side(example.context_id)].append(row)
    return rows


def _wrote(pair: Pair, recipe: Recipe) -> str:
    """The model of both answers; "A over B" where they are not of the same."""
    policy = public_text(recipe.policy.name)
    strong = pair.chosen_index == STRONG and recipe.strong is not None
    return f"{public_text(recipe.strong.name)} over {policy}" if strong and recipe.strong else policy


def _about(example: Example) -> dict[str, Any]:
    return {
        "example_id": example.example_id,
        "context_id": example.context_id,
        "question": example.question,
        "references": list(example.references),
        "kind": example.kind,
        "language": example.language,
    }


def _side(
    name: str,
    answers: Mapping[AnswerId, Answer],
    scores: Mapping[AnswerId, list[dict[str, Any]]],
    answer_id: AnswerId,
) -> dict[str, Any]:
    answer = answers[answer_id]
    return {
        name: [{"role": "assistant", "content": answer.text}],
        f"{name}_index": answer.sample_index,
        f"{name}_scores": scores.get(answer_id, []),
        f"{name}_tokens": answer.completion_tokens,
    }
