"""What the dataset of a variant says: its quality by the references, and what it takes to make.

Quality is SubEM against the references, question by question, so that variants can be compared in pairs. Calls are
counted by their keys in the ledger, so they do not depend on which run has paid for them, nor on interruptions: `total`
are those that the variant's answers and judgements rest on, `new` those among them that no variant above it in the
table needs. Tokens and cost are those of all its calls, as if the variant were built alone. Left out: calls for
embeddings, and the probe for structured replies.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra.ledger import Ledger
from infra.models.budget import call_cost
from infra.recipe import Price, Recipe
from infra.store import Store
from tasks.evaluation.statistics import difference_interval, mean_interval
from tasks.judging.reward_settings import called_models
from tasks.judging.verifier_settings import VERIFIER, VERIFY
from tasks.planning.estimate import scorer_price
from tasks.publishing import load_shard_data, read_summary
from tasks.records.example import STRONG
from tasks.records.plan import Plan
from tasks.records.shard import read_shard_result
from tasks.reporting.agreement import RESAMPLES, SEED
from tasks.reporting.subem import SUBEM, subem_by_question
from tasks.scoring import parse_scorers

_LOOKUP = 4096  # keys that are looked up in the ledger at once
_COST_DIGITS = 6

Picks = Mapping[str, Mapping[str, float]]  # by example, by a name of SUBEM


@dataclass(slots=True)
class VariantCalls:
    """The calls of a variant: their keys, tokens, and money in the recipe's currency."""

    keys: set[str]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


def quality(store: Store, folder: str, picks: Picks, first_picks: Picks) -> dict[str, Any]:
    """Questions, pairs, SubEM by pick, and how often the reward agrees with the references; JSON-ready.

    `picks` are the variant's, by question, and `first_picks` those of the first variant: "gain" is the difference of
    their best-scored answers, on the questions that both have. Figures have 95 % intervals over questions.
    """
    summary = read_summary(store, folder)
    subem: dict[str, Any] = {}
    for name in SUBEM:
        scores = [of_question[name] for of_question in picks.values() if name in of_question]
        subem[name] = asdict(mean_interval(scores, RESAMPLES, SEED)) if scores else None
    before, after = [], []
    for example_id, of_question in picks.items():
        first = first_picks.get(example_id, {})
        if "mbr" in of_question and "mbr" in first:
            before.append(first["mbr"])
            after.append(of_question["mbr"])
    return {
        "questions": summary.questions,
        "pairs": summary.pairs,
        "drops": dict(summary.drops),
        "subem": subem,
        "gain": asdict(difference_interval(before, after, RESAMPLES, SEED)) if before else None,
        "agreement": summary.agreement["mean"] if summary.agreement else None,
    }


def picks_of(store: Store, plan: Plan, recipe: Recipe) -> Picks:
    """SubEM of every way of picking an answer, by question, of a finished plan."""
    picks: dict[str, dict[str, float]] = {}
    for shard in plan.shards:
        result = read_shard_result(store, plan.plan_id, shard.index)
        assert result is not None  # the plan's dataset is published
        picks |= subem_by_question(load_shard_data(plan, result, recipe, store, with_contexts=False))
    return picks


def calls_of(store: Store, ledger: Ledger, plan: Plan, recipe: Recipe) -> VariantCalls:
    """The calls that a finished plan rests on."""
    calls = VariantCalls(set())
    called = called_models(recipe)
    prices_of_verifier = {VERIFY: called[VERIFIER].call_price} if VERIFIER in called else {}
    for shard in plan.shards:
        price_of_key = _prices_by_key(store, plan, shard.index, recipe)
        new_keys = sorted(price_of_key.keys() - calls.keys)
        for start in range(0, len(new_keys), _LOOKUP):
            for key, entry in ledger.lookup(new_keys[start : start + _LOOKUP]).items():
                calls.keys.add(key)
                calls.prompt_tokens += entry.prompt_tokens
                calls.completion_tokens += entry.completion_tokens
                price = prices_of_verifier.get(entry.kind, price_of_key[key])
                calls.cost += call_cost(entry.prompt_tokens, entry.completion_tokens, price)
    calls.cost = round(calls.cost, _COST_DIGITS)
    return calls


def _prices_by_key(store: Store, plan: Plan, index: int, recipe: Recipe) -> dict[str, Price]:
    """The price of the model of each call that a shard's answers and judgements rest on, by the call's key."""
    result = read_shard_result(store, plan.plan_id, index)
    assert result is not None  # the plan's dataset is published
    prices: dict[str, Price] = {}
    answers = store.read_table(result.files["answers"].path, ["sample_index", "key"])
    for sample_index, key in zip(*answers.to_pydict().values(), strict=True):
        model = recipe.strong if sample_index == STRONG and recipe.strong is not None else recipe.policy
        if key:
            prices[key] = model.call_price
    price_of_scorer = {scorer.name: scorer_price(scorer, recipe) for scorer in parse_scorers(recipe)}
    judgements = store.read_table(result.files["judgements"].path, ["scorer", "keys"])
    for name, keys in zip(*judgements.to_pydict().values(), strict=True):
        prices.update(dict.fromkeys(keys, price_of_scorer[name]))
    return prices
