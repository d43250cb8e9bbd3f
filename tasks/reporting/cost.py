"""What a run has cost: the tokens of every model at its own price."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from infra.models.budget import call_cost
from infra.recipe import Recipe
from tasks.planning.estimate import currency

Counts = Mapping[str, Mapping[str, int]]  # of calls, by kind


def run_cost(recipe: Recipe, by_model: Mapping[str, Counts]) -> dict[str, Any]:
    """Cost of the calls made now, `amount`, and of those that the ledger has spared, `reused`; in all and by model.

    `by_model`: counts of calls by the section of the recipe whose model was asked.
    """
    models = {}
    for section, counts in by_model.items():
        price = getattr(recipe, section).price
        tokens = total_tokens(counts.values())
        models[section] = {
            name: round(call_cost(tokens["prompt"][what], tokens["completion"][what], price), 6)
            for name, what in (("amount", "made"), ("reused", "reused"))
        }
    total = {name: round(sum(each[name] for each in models.values()), 6) for name in ("amount", "reused")}
    return {**total, "currency": currency(recipe), "models": models}


def total_tokens(counts: Iterable[Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Prompt and completion tokens of the calls made in this run, and of the replies that were reused."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return {
        side: {"made": total[f"{side}_tokens"], "reused": total[f"reused_{side}_tokens"]}
        for side in ("prompt", "completion")
    }


def add_counts(*sources: Counts) -> dict[str, Counter[str]]:
    """Counters of calls by kind, those of the same kind added up."""
    kinds: dict[str, Counter[str]] = {}
    for source in sources:
        for kind, counts in source.items():
            kinds.setdefault(kind, Counter()).update(counts)
    return kinds
