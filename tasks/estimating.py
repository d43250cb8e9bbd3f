"""What a plan will take, before it is paid: calls by kind, tokens, money, and what the ledger already holds.

Input tokens are exact (the plan counted them). Output tokens are a range: from none known to what the plan's
own replies in the ledger were like. With replies: low is their 10th percentile, expected their mean. Without:
an eighth and a half of `sampling.max_tokens`. High is always max_tokens. Judge calls of later scorers are not
in it. One shard is in memory at a time.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra import progress
from infra.ledger import Entry, Ledger
from infra.recipe import Recipe
from infra.store import Store
from tasks.plan import Plan, load_shard
from tasks.sampling import sample_requests

_LOOKUP = 4096  # keys looked up in the ledger at once
_PAID = 200  # status of a reply with a completion


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one kind: in all, held by the ledger, still to be made."""

    total: int
    held: int
    to_make: int


@dataclass(frozen=True, slots=True)
class Range:
    """A lower, an expected and a highest value."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is still to be paid for a plan. Token counts and `cost` cover the calls that are still to be made."""

    plan_id: str
    questions: int
    examples: int
    calls: Mapping[str, Calls]  # by kind
    input_tokens_total: int  # of all calls, made or not
    input_tokens: int
    output_tokens: Range
    cost: Range
    currency: str
    drops: Mapping[str, int]  # by reason
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values: plan_id, questions, examples, calls, tokens, cost, drops, warnings."""
        return {
            "plan_id": self.plan_id,
            "questions": self.questions,
            "examples": self.examples,
            "calls": {kind: asdict(calls) for kind, calls in self.calls.items()},
            "tokens": {
                "input_total": self.input_tokens_total,
                "input": self.input_tokens,
                "output": asdict(self.output_tokens),
            },
            "cost": {**asdict(self.cost), "currency": self.currency},
            "drops": dict(self.drops),
            "warnings": list(self.warnings),
        }


def estimate(plan: Plan, recipe: Recipe, store: Store, ledger: Ledger) -> Estimate:
    """Compare a plan's calls with the ledger. Makes no call; raises StoreError and LedgerError.

    `recipe` is the one that the plan was made from.
    """
    totals: Counter[str] = Counter()
    held: Counter[str] = Counter()
    held_input = 0
    outputs: Counter[int] = Counter()
    progress.expect("estimate", len(plan.shards))
    for shard in plan.shards:
        examples, contexts = load_shard(store, plan, shard.index)
        kinds = {
            request.key: request.kind
            for example in examples
            for request in sample_requests(example, contexts[example.context_id], recipe)
        }
        totals.update(kinds.values())
        keys = list(kinds)
        for start in range(0, len(keys), _LOOKUP):
            found = ledger.lookup(keys[start : start + _LOOKUP])
            held.update(kinds[key] for key in found)
            held_input += sum(entry.prompt_tokens for entry in found.values())
            outputs.update(_output(found))
        progress.advance("estimate")
    calls = {kind: Calls(totals[kind], held[kind], totals[kind] - held[kind]) for kind in sorted(totals)}
    return _priced(plan, recipe, calls, held_input, outputs)


def _output(found: Mapping[str, Entry]) -> list[int]:
    return [entry.completion_tokens for entry in found.values() if entry.status == _PAID]


def _priced(plan: Plan, recipe: Recipe, calls: Mapping[str, Calls], held_input: int, outputs: Counter[int]) -> Estimate:
    to_make = sum(each.to_make for each in calls.values())
    examples = sum(shard.questions for shard in plan.shards)
    per_example = sum(each.total for each in calls.values()) // examples
    total_input = per_example * sum(shard.prompt_tokens for shard in plan.shards)
    remaining = max(0, total_input - held_input) if to_make else 0
    one = _one_output(recipe.sampling.max_tokens, outputs)
    price = recipe.policy.price
    written = [round(to_make * each) for each in (one.low, one.expected, one.high)]
    money = [(remaining * price.input_per_million + each * price.output_per_million) / 1e6 for each in written]
    return Estimate(
        plan.plan_id,
        plan.questions,
        examples,
        calls,
        total_input,
        remaining,
        Range(*written),
        Range(*(round(each, 4) for each in money)),
        price.currency,
        plan.drop_counts,
        plan.warnings,
    )


def _one_output(longest: int, outputs: Counter[int]) -> Range:
    """Tokens of one answer."""
    if not outputs:
        return Range(longest / 8, longest / 2, longest)
    seen = sorted(outputs.elements())
    return Range(seen[len(seen) // 10], sum(seen) / len(seen), longest)
