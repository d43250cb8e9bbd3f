"""What a plan of asking will take, for `longmill plan`: expected calls, tokens and cost, without those that are paid.

Calls that write are known; of the others, `estimate.SHARES` says how many questions are expected to reach each check.
Finished shards count by the calls that they have made.
"""

from collections import Counter
from typing import Any

from infra.models.budget import call_cost
from infra.recipe import Recipe
from infra.store import Store
from tasks.asking.estimate import AskingCalls, shard_calls
from tasks.asking.work import section_of
from tasks.asking.writing import IntendedQuestion, write_prompt
from tasks.planning.estimate import currency
from tasks.records.plan import Plan, load_shard
from tasks.records.shard import read_shard_results


def asking_view(plan: Plan, recipe: Recipe, store: Store) -> dict[str, Any]:
    """The plan and what it takes, as JSON values. Makes no call; raises StoreError."""
    made: Counter[str] = Counter()
    to_make: dict[str, float] = {}
    prompt_tokens = 0.0
    output = {"low": 0.0, "expected": 0.0, "high": 0.0}
    cost = dict(output)
    indices = [shard.index for shard in plan.shards]
    for index, result in zip(indices, read_shard_results(store, plan.plan_id, indices), strict=True):
        if result is not None:
            made.update(store.read_table(result.files["answers"].path, ["strategy"]).column("strategy").to_pylist())
            continue
        for calls in shard_calls(plan, index, recipe, store):
            to_make[calls.kind] = to_make.get(calls.kind, 0.0) + calls.count
            prompt_tokens += calls.count * calls.prompt
            price = recipe.models()[section_of(calls.kind, recipe)].call_price
            for name, tokens in _reply_range(calls).items():
                output[name] += calls.count * tokens
                cost[name] += calls.count * call_cost(calls.prompt, tokens, price)
    calls_by_kind = {}
    for kind in dict.fromkeys((*made, *to_make)):
        rest = round(to_make.get(kind, 0.0))
        calls_by_kind[kind] = {"total": made[kind] + rest, "held": made[kind], "to_make": rest}
    kinds: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    for index in indices:
        for example in load_shard(store, plan, index)[0]:
            kinds[example.kind] += 1
            languages[example.language] += 1
    return {
        "plan_id": plan.plan_id,
        "makes": plan.makes,
        "shards": len(plan.shards),
        "planned": plan.questions,
        "kinds": dict(sorted(kinds.items())),
        "languages": dict(sorted(languages.items())),
        "calls": calls_by_kind,
        "tokens": {"input": round(prompt_tokens), "output": {name: round(value) for name, value in output.items()}},
        "cost": {**{name: round(value, 4) for name, value in cost.items()}, "currency": currency(recipe)},
        "drops": dict(plan.drop_counts),
        "warnings": list(plan.warnings),
        "first_prompt": _first_prompt(plan, recipe, store),
    }


def _reply_range(calls: AskingCalls) -> dict[str, float]:
    return {"low": calls.reply / 2, "expected": calls.reply, "high": float(max(calls.most, calls.reply))}


def _first_prompt(plan: Plan, recipe: Recipe, store: Store) -> str:
    """The first prompt that a question is written with."""
    examples, contexts = load_shard(store, plan, 0)
    intended = IntendedQuestion.of(examples[0], contexts[examples[0].context_id])
    prompt = write_prompt(intended, recipe.judge.prompts if recipe.judge else "full")
    return str(prompt.messages[-1]["content"])
