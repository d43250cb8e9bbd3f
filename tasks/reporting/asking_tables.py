"""Tables of figures of asking: what a plan of it takes, and what its checks have dropped."""

from collections.abc import Mapping
from typing import Any

from tasks.reporting.planned_evaluation import cost_words
from tasks.reporting.tables import NOTHING, Rows, drop_rows, token_rows


def asking_plan_rows(view: Mapping[str, Any]) -> Rows:
    """What a plan of asking holds, the calls it is expected to need, and its cost."""
    rows = [["planned", f"{view['planned']:,}"], ["shards", f"{view['shards']:,}"]]
    rows += [[f"questions: {kind}", f"{count:,}"] for kind, count in view["kinds"].items()]
    rows += [[f"language: {language}", f"{count:,}"] for language, count in view["languages"].items()]
    rows += drop_rows(view["drops"])
    for kind, calls in view["calls"].items():
        total = f"about {calls['total']:,}, expected" if calls["to_make"] else f"{calls['total']:,}"
        rows.append([f"calls: {kind}", f"{total} ({calls['held']:,} in the ledger)"])
    rows += token_rows("", view["tokens"], exact=False)
    cost = view["cost"]
    rows.append(["cost", cost_words(cost, cost["currency"], view["tokens"]["output"]["high"])])
    return ["", ""], rows


def kind_rows(figures: Mapping[str, Any]) -> Rows:
    """Questions by kind and split, and how hard they are."""
    rows = []
    for kind, counts in figures["kinds"].items():
        difficulty = NOTHING if counts["difficulty"] is None else f"{counts['difficulty']:.2f}"
        rows.append([kind, f"{counts['train']:,}", f"{counts['test']:,}", difficulty])
    return ["kind", "train", "test", "mean difficulty"], rows


def check_rows(figures: Mapping[str, Any]) -> Rows:
    """The checks in their order, with the questions that reached each, and those that it dropped."""
    rows = []
    for counts in figures["checks"]:
        dropped = counts.get("dropped", 0)
        reached = dropped + counts.get("passed", 0)
        rows.append([counts["check"], f"{reached:,}", f"{dropped:,}", f"{100 * dropped / reached:.1f}"])
    return ["check", "questions", "dropped", "%"], rows


def call_rows(figures: Mapping[str, Any]) -> Rows:
    """Calls and tokens by kind of call, and of each published question."""
    rows = []
    total = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0}
    for kind, counts in figures["calls"].items():
        rows.append([kind, *(f"{counts.get(name, 0):,}" for name in total)])
        for name in total:
            total[name] += counts.get(name, 0)
    questions = figures["counts"]["questions"]
    if questions:
        rows.append(["for each question", *(f"{number / questions:,.1f}" for number in total.values())])
    return ["call", "calls", "prompt tokens", "output tokens"], rows
