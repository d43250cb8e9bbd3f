"""What a plan says of the evaluation that follows its build, as rows of its table."""

from collections import Counter
from collections.abc import Mapping
from typing import Any


def cost_words(cost: Mapping[str, float], currency: str, tokens: int) -> str:
    """The least, the most and what is expected, in a line. `tokens`: the most that calls will write."""
    if tokens and not cost["high"]:
        return "no price in the recipe"
    return f"{cost['low']:.2f} to {cost['high']:.2f} {currency}, about {cost['expected']:.2f}"


def planned_evaluation_rows(evaluation: Mapping[str, Any], cost: Mapping[str, Any], tokens: int) -> list[list[str]]:
    """What evaluating the models takes, by suite, and the cost of all together.

    `cost` and `tokens`: those of the build.
    """
    rows, models = [], len(evaluation["models"])
    for label, suite in evaluation["suites"].items():
        answers = suite["answers"]
        judgements = list(suite["judgements"].values())
        text = f"{suite['questions']:,} questions, {models} {'model' if models == 1 else 'models'}: "
        text += f"{answers['calls']['total']:,} answers ({answers['calls']['held']:,} in the ledger)"
        if judgements:
            count, recorded = (sum(part["calls"][name] for part in judgements) for name in ("total", "held"))
            text += f", {'about' if suite['expected'] else 'at most'} {count:,} judgements"
            text += f" ({recorded:,} in the ledger)" if recorded else ""
        parts = [answers, *judgements]
        expected = sum(part["tokens"]["input"] + part["tokens"]["output"]["expected"] for part in parts)
        tokens += sum(part["tokens"]["output"]["high"] for part in parts)
        text += f"; about {expected:,} tokens, {suite['cost']['expected']:.2f} {cost['currency']}"
        rows.append([f"evaluation: {label}", text])
    whole = {bound: cost[bound] + evaluation["cost"][bound] for bound in ("low", "expected", "high")}
    rows.append(["cost with evaluation", cost_words(whole, cost["currency"], tokens)])
    return rows


def gpu_hour_rows(hours: Mapping[str, float], evaluation: Mapping[str, Any] | None) -> list[list[str]]:
    """The hours of a build by section of the recipe, and with those of the evaluation that follows it."""
    rows = [["GPU hours, where you serve", _hours_words(hours)]]
    if evaluation:
        whole = Counter(hours)
        whole.update(evaluation["gpu_hours"])
        rows.append(["GPU hours with evaluation", _hours_words(whole)])
    return rows


def _hours_words(hours: Mapping[str, float]) -> str:
    return "about " + ", ".join(f"{section} {value:,.2f}" for section, value in hours.items())
