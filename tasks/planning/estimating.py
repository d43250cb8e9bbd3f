"""What a plan will take, before it is paid: calls by kind, tokens, money, and what the ledger already holds.

Input tokens are exact (the plan counted them). Output tokens are a range: from none known to what the plan's
own replies in the ledger were like. With replies: low is their 10th percentile, expected their mean. Without:
an eighth and a half of `sampling.max_tokens`. High is always max_tokens. What judging takes can only be expected
(`estimating_judge.py`). One shard is in memory at a time.
"""

from collections import Counter
from collections.abc import Mapping

from infra.ledger import Entry, Ledger
from infra.models.budget import call_cost
from infra.recipe import Recipe
from infra.running import progress
from infra.store import Store
from tasks.planning.estimating_judge import JudgeTally
from tasks.planning.estimating_nouns import Calls, Estimate, JudgeEstimate, Range
from tasks.records.plan import Plan, load_shard
from tasks.sampling import sample_requests

_LOOKUP = 4096  # keys looked up in the ledger at once
_PAID = 200  # status of a reply with a completion


def estimate(plan: Plan, recipe: Recipe, store: Store, ledger: Ledger) -> Estimate:
    """Compare a plan's calls with the ledger. Makes no call; raises StoreError and LedgerError.

    `recipe` is the one that the plan was made from.
    """
    totals: Counter[str] = Counter()
    held: Counter[str] = Counter()
    held_input = 0
    outputs: Counter[int] = Counter()
    judging = JudgeTally(plan, recipe, store, ledger)
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
        judging.add(shard.index, examples, contexts)
        progress.advance("estimate")
    calls = {kind: Calls(totals[kind], held[kind], totals[kind] - held[kind]) for kind in sorted(totals)}
    one = _one_output(recipe.sampling.max_tokens, outputs)
    return _priced(plan, recipe, calls, held_input, one, judging.estimate(one.expected))


def _output(found: Mapping[str, Entry]) -> list[int]:
    return [entry.completion_tokens for entry in found.values() if entry.status == _PAID]


def _priced(
    plan: Plan, recipe: Recipe, calls: Mapping[str, Calls], held_input: int, one: Range, judging: JudgeEstimate | None
) -> Estimate:
    """`one`: output tokens of one answer."""
    to_make = sum(each.to_make for each in calls.values())
    examples = sum(shard.questions for shard in plan.shards)
    per_example = sum(each.total for each in calls.values()) // examples
    total_input = per_example * sum(shard.prompt_tokens for shard in plan.shards)
    remaining = max(0, total_input - held_input) if to_make else 0
    price = recipe.policy.price
    written = [round(to_make * each) for each in (one.low, one.expected, one.high)]
    money = [call_cost(remaining, each, price) for each in written]
    if judging is not None:
        own = judging.cost
        money = [each + some for each, some in zip(money, (own.low, own.expected, own.high), strict=True)]
    return Estimate(
        plan.plan_id,
        plan.questions,
        examples,
        examples * recipe.pairing.pairs_per_question,
        calls,
        total_input,
        remaining,
        Range(*written),
        Range(*(round(each, 4) for each in money)),
        currency(recipe),
        plan.drop_counts,
        plan.warnings,
        judging,
    )


def currency(recipe: Recipe) -> str:
    """The one currency of all prices that are not zero."""
    priced = (model.price.currency for model in recipe.models().values() if not model.price.free)
    return next(priced, recipe.policy.price.currency)


def _one_output(longest: int, outputs: Counter[int]) -> Range:
    """Tokens of one answer."""
    if not outputs:
        return Range(longest / 8, longest / 2, longest)
    seen = sorted(outputs.elements())
    return Range(seen[len(seen) // 10], sum(seen) / len(seen), longest)
