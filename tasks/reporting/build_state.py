"""How far a build is, in figures: made from its own report (flows/reports.py), its plan and its recipe.

`longmill status`, the page of a run, the terminal of the build, its page in Prefect, `/metrics` and OpenTelemetry all
show these figures, so that they agree.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra.models.budget import call_cost
from infra.recipe import Recipe
from tasks.judging.reward_settings import called_models
from tasks.planning.estimate import currency
from tasks.records.plan import Plan
from tasks.reporting.bill import rough_amounts

Sums = dict[str, dict[str, dict[str, int]]]  # by model and kind of call

_OF_REPORT = ("run", "error", "started", "at", "questions", "scored", "per_minute")
_ACTIVITY = ("tokens_per_second", "in_flight", "waits", "runs")  # by model, or by shard; an older report has none


def build_view(report: Mapping[str, Any], plan: Plan, *, running: bool) -> dict[str, Any]:
    """How far a build is: its own words, seconds left, what it does now, and its last refusals and drops.

    "questions": what the build works on, which is less than is "planned" where it runs some shards again.
    """
    state = report["state"]
    if state == "running" and not running:
        state = "killed"
    left = None
    if state == "running" and report["per_minute"]:
        left = round(60 * max(0, report["questions"] - report["scored"]) / report["per_minute"])
    now = {name: report.get(name, {}) if state == "running" else {} for name in _ACTIVITY}
    last = {name: report.get(name, []) for name in ("refused", "dropped")}
    own = {name: report[name] for name in _OF_REPORT}
    return {"state": state, **own, "planned": plan.planned_questions, "seconds_left": left, **now, **last}


@dataclass(slots=True)
class _Step:
    """Calls of a kind."""

    made: int = 0  # by all builds of the plan
    reused: int = 0  # by the last one, as those that follow
    retried: int = 0
    failed: int = 0
    expected: int | None = None  # of the whole plan


def spending_view(report: Mapping[str, Any], plan: Plan, recipe: Recipe) -> dict[str, Any]:
    """Calls by step; calls, tokens and money by model, with what the plan expects of it."""
    steps: dict[str, _Step] = {}
    paid: dict[str, Counter[str]] = {}
    earlier: Sums = report["earlier"]
    for by_model in (earlier, report["calls"]):
        for section, kinds in by_model.items():
            for kind, counts in kinds.items():
                step = steps.setdefault(kind, _Step())
                for name in ("made", "reused", "retried", "failed"):
                    setattr(step, name, getattr(step, name) + counts.get(name, 0))
                names = ("made", "reused", "failed", "prompt_tokens", "completion_tokens", "cached_prompt_tokens")
                paid.setdefault(section, Counter()).update({name: counts.get(name, 0) for name in names})
    expected, by_kind = rough_amounts(plan, recipe)
    for kind, calls in by_kind.items():
        if round(calls):
            steps.setdefault(kind, _Step()).expected = round(calls)
    models: dict[str, Any] = {}
    money = money_expected = 0.0
    for section, model in called_models(recipe).items():
        counter = paid.get(section, Counter())
        cost = call_cost(counter["prompt_tokens"], counter["completion_tokens"], model.call_price)
        planned = dict(zip(("calls", "prompt_tokens", "completion_tokens", "money"), expected[section], strict=True))
        models[section] = {"name": model.name, **counter, "money": round(cost, 4), "expected": planned}
        money += cost
        money_expected += planned["money"]
    cost_view = {"paid": round(money, 4), "expected": round(money_expected, 4), "currency": currency(recipe)}
    return {
        "steps": {kind: asdict(step) for kind, step in steps.items()},
        "models": models,
        "cost": cost_view,
        "reuse": _reuse(report["calls"]),
    }


def _reuse(calls: Mapping[str, Any]) -> dict[str, float | None]:
    """Shares of the last build: of its calls those from the ledger, of the prompt tokens those that servers had cached.

    None where there is nothing to share, and where no server says that it had any cached.
    """
    total: Counter[str] = Counter()
    for kinds in calls.values():
        for counts in kinds.values():
            names = ("made", "reused", "prompt_tokens", "cached_prompt_tokens")
            total.update({name: counts.get(name, 0) for name in names})
    ended, cached = total["made"] + total["reused"], total["cached_prompt_tokens"]
    return {
        "calls": round(total["reused"] / ended, 4) if ended else None,
        "prompt_tokens": round(cached / total["prompt_tokens"], 4) if cached else None,
    }
