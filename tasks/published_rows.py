"""The rows of a published dataset: how a shard becomes pairs with their messages, and evidence."""

import json
from collections.abc import Collection
from typing import cast

from infra.models.special_tokens import NO_TOKENS
from infra.models.tool_calls import json_text
from infra.recipe import Recipe
from infra.recipe.public import public_text
from tasks.judging.cascade_calibration import JUDGE
from tasks.records.dataset import (
    CASCADE_COLUMNS,
    SAMPLER_COLUMNS,
    TOOLS,
    EvidenceRow,
    JudgementEntry,
    Message,
    PairRow,
    ScoreEntry,
    ShardData,
    Split,
    SplitName,
)
from tasks.records.example import STRONG, AnswerId, Context, Example, Pair
from tasks.records.plan import Plan
from tasks.sample_prompt import sample_prompt
from tasks.samplers import FULL, find_sampler, no_short_context
from tasks.scoring import CASCADE


def pair_rows(
    shard: ShardData, recipe: Recipe, plan_id: str, split: Split, special_tokens: Collection[str] = NO_TOKENS
) -> dict[SplitName, list[PairRow]]:
    """The rows of `PAIRS` by split, in the shard's order. `special_tokens` are the plan's."""
    examples = {example.example_id: example for example in shard.examples}
    answers = {answer.id: answer for answer in shard.answers}
    scores: dict[AnswerId, list[ScoreEntry]] = {}
    for judgement in shard.judgements:
        entry: ScoreEntry = {"scorer": judgement.scorer, "score": judgement.score}
        scores.setdefault(judgement.answer_id, []).append(entry)
    by_stage = _by_stage(shard)
    rows: dict[SplitName, list[PairRow]] = {"train": [], "test": []}
    # By example; the pairs of a question share one list, to save memory.
    prompts: dict[str, list[Message]] = {}
    tools: dict[str, str | None] = {}
    short_prompts: dict[str, list[Message] | None] = {}
    short_context = find_sampler(recipe.sampling.context).short
    for pair in shard.pairs:
        example = examples[pair.example_id]
        if pair.example_id not in prompts:
            context = shard.contexts[pair.context_id]
            prompts[pair.example_id], tools[pair.example_id] = _prompt(example, context, recipe, special_tokens)
            short = short_context(example, context, recipe)
            short_prompts[pair.example_id] = (
                None if short is None else _prompt(example, short, recipe, special_tokens)[0]
            )
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
            # A chosen answer may be of another model with its own tokenizer.
            "prompt_tokens": example.whole_prompt_tokens or rejected.prompt_tokens,
            "chosen_tokens": chosen.answer_tokens,
            "rejected_tokens": rejected.answer_tokens,
            "plan_id": plan_id,
            "chosen_reasoning": chosen.reasoning,
            "rejected_reasoning": rejected.reasoning,
            "chosen_reasoning_tokens": chosen.reasoning_tokens,
            "rejected_reasoning_tokens": rejected.reasoning_tokens,
            "short_prompt": short_prompts[pair.example_id],
            "tools": tools[pair.example_id],
            "chosen_by": by_stage.get(chosen.id, (None, None))[0],
            "rejected_by": by_stage.get(rejected.id, (None, None))[0],
        }
        rows[split.side(pair.context_id)].append(row)
    return rows


def evidence_rows(shard: ShardData, plan_id: str, split: Split) -> dict[SplitName, list[EvidenceRow]]:
    """The rows of `EVIDENCE` by split, in the shard's order."""
    examples = {example.example_id: example for example in shard.examples}
    chosen: set[AnswerId] = set()
    rejected: set[AnswerId] = set()
    for pair in shard.pairs:
        chosen.add((pair.example_id, pair.chosen_index))
        rejected.add((pair.example_id, pair.rejected_index))
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
    by_stage = _by_stage(shard)
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
            "reasoning": answer.reasoning,
            "reasoning_tokens": answer.reasoning_tokens,
            "seen": answer.seen,
            "reward_by": by_stage.get(answer.id, (None, None))[0],
            "expected_reward": by_stage.get(answer.id, (None, None))[1],
        }
        rows[split.side(example.context_id)].append(row)
    return rows


def further_columns(recipe: Recipe, plan: Plan) -> frozenset[str]:
    """The columns that a dataset has for its sampler, its cascade and for tools."""
    columns = {TOOLS} if plan.has_tool_calls else set()
    if recipe.scoring.cascade is not None:
        columns |= CASCADE_COLUMNS
    sampler = find_sampler(recipe.sampling.context)
    if sampler.name != FULL:
        columns |= SAMPLER_COLUMNS if sampler.short is not no_short_context else SAMPLER_COLUMNS - {"short_prompt"}
    return frozenset(columns)


def _by_stage(shard: ShardData) -> dict[AnswerId, tuple[str | None, float | None]]:
    """Of a cascade's answers: whose word the reward is, and what is expected of those that were not judged."""
    by_stage = {}
    for judgement in shard.judgements:
        if judgement.scorer == CASCADE:
            by = json.loads(judgement.evidence)["by"]
            by_stage[judgement.answer_id] = by, None if by == JUDGE else judgement.score
    return by_stage


def _prompt(
    example: Example, context: Context, recipe: Recipe, special_tokens: Collection[str]
) -> tuple[list[Message], str | None]:
    """The messages, and the tools as JSON."""
    prompt = sample_prompt(example, context, recipe.sampling.strategy, recipe.policy, special_tokens)
    messages = cast(list[Message], list(prompt.messages))
    return messages, json_text(list(prompt.tools)) if prompt.tools else None


def _model(pair: Pair, recipe: Recipe) -> str:
    """The model of both answers; "A over B" where the chosen one is the stronger model's."""
    policy = public_text(recipe.policy.name)
    if pair.chosen_index == STRONG and recipe.strong is not None:
        return f"{public_text(recipe.strong.name)} over {policy}"
    return policy
