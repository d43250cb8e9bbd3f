"""What a plan takes besides money: hours of GPUs that serve its models, and bytes in the store.

Hours come from two speeds of one GPU, which the caller gives: prompt tokens that it reads and reply tokens that it
writes in a second, over all requests in flight. The samples of a question share its prompt, which a server with a
prefix cache (vLLM's default) reads once; prompts of the judge, and those of samples that do not all see the same
context, are counted in full.

The inputs of the plan are in the store, so their bytes are known. What comes to them is expected: the published pairs
repeat the contexts, and lie in an object store twice (the rows that shards wrote, and their copies in the dataset; in a
folder these are one file with two names). A reply is in the ledger, in the tables of its shard and in the evidence.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra.recipe import Recipe
from infra.store import Store
from tasks.planning.estimate import Estimate, expected_answer_tokens
from tasks.planning.expected import Calls
from tasks.records.plan import Plan

_REPLY_BYTES = 4.0  # of a token of a reply, in all its places: four characters, packed to a third, three times
_CALL_BYTES = 600  # of a call besides its text, in all its places: keys, ids, scores, counts


@dataclass(frozen=True, slots=True)
class GpuSpeed:
    """Tokens a second of one GPU with requests enough in flight."""

    reads: float
    writes: float

    def hours(self, prompt_tokens: float, reply_tokens: float) -> float:
        """Hours for so many tokens."""
        return (prompt_tokens / self.reads + reply_tokens / self.writes) / 3600


POLICY_SPEED = GpuSpeed(10_000, 1_500)  # assumed: a model of 8B parameters in bfloat16, contexts of 32k tokens
JUDGE_SPEED = GpuSpeed(3_000, 500)  # assumed: one of 32B


@dataclass(frozen=True, slots=True)
class Sizing:
    """GPU hours by section of the recipe, and bytes in the store when the dataset is published."""

    gpu_hours: Mapping[str, float]
    store_bytes: int

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def sizing(
    plan: Plan,
    estimated: Estimate,
    recipe: Recipe,
    store: Store,
    policy: GpuSpeed = POLICY_SPEED,
    judge: GpuSpeed = JUDGE_SPEED,
) -> Sizing:
    """The sizing of a plan: hours of the calls that are still to be made, bytes of the whole."""
    reading = sum(shard.sample_tokens or shard.prompt_tokens for shard in plan.shards)
    share_to_read = estimated.input_tokens / estimated.input_tokens_total if estimated.input_tokens_total else 0.0
    hours = {"policy": policy.hours(reading * share_to_read, estimated.output_tokens.expected)}
    calls = _total(estimated.calls)
    to_make = sum(of_kind.to_make_range.expected for of_kind in estimated.calls.values())
    reply = estimated.output_tokens.expected / to_make if to_make else expected_answer_tokens(recipe)
    replies = reply * calls
    if estimated.judge is not None:
        hours["judge"] = judge.hours(estimated.judge.input_tokens, estimated.judge.output_tokens.expected)
        calls += _total(estimated.judge.calls)
        replies += estimated.judge.output_tokens.expected
    sizes = store.sizes("inputs")
    inputs = sum(sizes.get(path, 0) for shard in plan.shards for path in (shard.examples, shard.contexts))
    copies = 1 if store.local_path("") is not None else 2
    stored = inputs * (1 + copies) + replies * _REPLY_BYTES + calls * _CALL_BYTES
    return Sizing({section: round(value, 2) for section, value in hours.items()}, round(stored))


def _total(calls: Mapping[str, Calls]) -> int:
    return sum(of_kind.total for of_kind in calls.values())
