"""A run's bill beside what its plan expected: calls, tokens and money of each model.

Both are of the same work: samples of all shards of the run, judging of those that it has scored itself, since of other
shards nothing is counted. Replies that the ledger had are on the bill as well: they are what this work costs, whoever
paid. The expectation is the one that `longmill plan` shows for an empty ledger, with the stronger model's calls.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.models.budget import call_cost
from infra.recipe import Price, Recipe
from infra.store import Store
from tasks.asking.estimate import shard_calls
from tasks.asking.work import section_of
from tasks.judging.reward_settings import called_models
from tasks.planning.estimate import currency, expected_answer_tokens, judge_calls
from tasks.records.plan import Plan, load_examples
from tasks.records.product import QUESTIONS
from tasks.sampling import calls_per_example, sample_prompt_tokens

FIGURES = ("calls", "prompt_tokens", "completion_tokens", "money")
WARNED_ABOVE = 1.5  # times what was planned
_MONEY_DIGITS = 6


@dataclass(slots=True)
class Amounts:
    """Calls and tokens of one model."""

    calls: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0

    def add(self, calls: float, prompt_tokens: float, completion_tokens: float) -> None:
        """Add calls, and tokens of all of them."""
        self.calls += calls
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    def figures(self, price: Price) -> tuple[float, ...]:
        """The values of FIGURES."""
        money = round(call_cost(self.prompt_tokens, self.completion_tokens, price), _MONEY_DIGITS)
        return round(self.calls), round(self.prompt_tokens), round(self.completion_tokens), money


def bill_view(
    plan: Plan,
    recipe: Recipe,
    store: Store,
    counts_by_model: Mapping[str, Mapping[str, Mapping[str, int]]],
    shards: Iterable[int],
    judged: Iterable[int],
) -> dict[str, Any]:
    """The bill as JSON values: "models", each with its figures planned, billed and their ratio; "warnings"; "currency".

    "counted_here": of how many replies the server has sent no usage. `counts_by_model` are the run's calls by the names
    of `called_models` and by kind, `shards` those of the run, `judged` those that it has scored. Raises StoreError.
    """
    planned = planned_amounts(plan, recipe, store, shards, judged)
    models: dict[str, Any] = {}
    warnings = []
    replies = without_usage = 0
    for section, model in called_models(recipe).items():
        billed = Amounts()
        for counts in counts_by_model.get(section, {}).values():
            calls = counts["made"] + counts["reused"]
            prompts = counts["prompt_tokens"] + counts["reused_prompt_tokens"]
            billed.add(calls, prompts, counts["completion_tokens"] + counts["reused_completion_tokens"])
            replies += calls
            without_usage += counts.get("counted_here", 0)
        models[section] = {}
        figures = zip(
            FIGURES, planned[section].figures(model.call_price), billed.figures(model.call_price), strict=True
        )
        for name, expected, real in figures:
            ratio = round(real / expected, 3) if expected else None
            models[section][name] = {"planned": expected, "billed": real, "ratio": ratio}
        if warning := _warning(section, models[section], currency(recipe)):
            warnings.append(warning)
    return {
        "models": models,
        "counted_here": {"replies": without_usage, "of": replies},
        "currency": currency(recipe),
        "warnings": warnings,
    }


def planned_amounts(
    plan: Plan, recipe: Recipe, store: Store, shards: Iterable[int], judged: Iterable[int]
) -> dict[str, Amounts]:
    """What is expected of each model that the run calls, by the names of `called_models`. Raises StoreError."""
    amounts = {section: Amounts() for section in called_models(recipe)}
    if plan.product == QUESTIONS:
        for index in shards:
            for asking in shard_calls(plan, index, recipe, store):
                count = asking.count
                amounts[section_of(asking.kind, recipe)].add(count, count * asking.prompt, count * asking.reply)
        return amounts
    answer_tokens = expected_answer_tokens(recipe)
    strong = recipe.strong is not None
    for index in shards:
        shard = plan.shards[index]
        examples = len(load_examples(store, plan, index))
        calls_each = calls_per_example(recipe) - strong
        calls = calls_each * examples
        amounts["policy"].add(calls, sample_prompt_tokens(shard, recipe), calls * answer_tokens)
        if strong:
            amounts["strong"].add(examples, shard.prompt_tokens, examples * answer_tokens)
    context_tokens: Counter[int] = Counter()  # examples by the tokens of their contexts
    for index in judged:
        table = store.read_table(plan.shards[index].contexts, ["context_id", "tokens"]).to_pydict()
        tokens_by_id = dict(zip(table["context_id"], table["tokens"], strict=True))
        for example in load_examples(store, plan, index):
            context_tokens[tokens_by_id[example.context_id]] += 1
    for calls_of_kind in judge_calls(recipe, context_tokens, answer_tokens):
        count, size = calls_of_kind.count, calls_of_kind.size
        amounts[calls_of_kind.section].add(count, count * size.prompt, count * size.reply.expected)
    return amounts


def rough_amounts(plan: Plan, recipe: Recipe) -> tuple[dict[str, tuple[float, ...]], dict[str, float]]:
    """What is expected of each model for the whole plan (FIGURES), and calls by kind, from the plan's record alone.

    Contexts count with the mean length of their shard, rounded, which `planned_amounts` reads one by one.
    """
    amounts = {section: Amounts() for section in called_models(recipe)}
    by_kind: dict[str, float] = defaultdict(float)
    answer_tokens = expected_answer_tokens(recipe)
    strong = recipe.strong is not None
    context_tokens: Counter[int] = Counter()
    for shard in plan.shards:
        calls_each = calls_per_example(recipe) - strong
        calls = calls_each * shard.questions
        amounts["policy"].add(calls, sample_prompt_tokens(shard, recipe), calls * answer_tokens)
        by_kind["sample"] += recipe.sampling.samples * shard.questions
        by_kind["greedy"] += recipe.sampling.greedy * shard.questions
        if strong:
            amounts["strong"].add(shard.questions, shard.prompt_tokens, shard.questions * answer_tokens)
            by_kind["strong"] += shard.questions
        tokens = shard.prompt_tokens / max(1, shard.questions)
        context_tokens[int(float(f"{tokens:.1e}"))] += shard.questions  # two digits: few different lengths
    for calls_of_kind in judge_calls(recipe, context_tokens, answer_tokens):
        count, size = calls_of_kind.count, calls_of_kind.size
        amounts[calls_of_kind.section].add(count, count * size.prompt, count * size.reply.expected)
        by_kind[calls_of_kind.kind] += count
    figures = {section: amounts[section].figures(model.call_price) for section, model in called_models(recipe).items()}
    return figures, dict(by_kind)


def _warning(section: str, figures: Mapping[str, Mapping[str, Any]], currency: str) -> str | None:
    """A sentence where a model has cost much more than was planned; by money where it has a price, else by tokens."""
    planned_tokens = billed_tokens = 0
    for name in ("prompt_tokens", "completion_tokens"):
        planned_tokens += figures[name]["planned"]
        billed_tokens += figures[name]["billed"]
    planned, billed = figures["money"]["planned"], figures["money"]["billed"]
    if planned and billed > WARNED_ABOVE * planned:
        times = f"{billed / planned:.1f} times the {planned:.2f} that were planned"
        return f"the {section} costs {billed:.2f} {currency}, {times}"
    if not planned and billed_tokens > WARNED_ABOVE * planned_tokens:
        return f"the {section} has {billed_tokens:,} tokens, where {planned_tokens:,} were planned"
    return None
