"""Tables of `longmill status`: the plans of a store, and one plan with its builds' calls, cost and errors."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from tasks.reporting.tables import NOTHING, Rows

_BUILD_ENDED = {
    "completed": "the last build has ended",
    "failed": "the last build has failed",
    "stopped": "the last build was stopped",
    "killed": "the last build was killed",
}


def plans_rows(states: Sequence[Mapping[str, Any]]) -> Rows:
    """A row for each plan: its recipe, age, shards by state, dataset, and who builds it."""
    rows = []
    for state in states:
        shards = state["states"]
        counts = [f"{shards[name]['shards']:,}" for name in ("done", "running", "failed", "waiting")]
        dataset = "published" if state["dataset"] else NOTHING
        builder = state["builder"]
        built = f"{builder['work']} on {builder['host']}" if builder else NOTHING
        written = state["written"][:16].replace("T", " ")
        rows.append([state["plan_id"], state["recipe"] or NOTHING, written, f"{state['questions']:,}", *counts])
        rows[-1] += [dataset, built]
    columns = ["plan", "recipe", "planned (UTC)", "questions", "done", "running", "failed", "waiting", "dataset"]
    return [*columns, "built now by"], rows


def plan_title(state: Mapping[str, Any]) -> str:
    """The plan, its recipe, its size and its age."""
    name = f" · {state['recipe']}" if state["recipe"] else ""
    written = f" · planned {state['written'][:16].replace('T', ' ')} UTC" if state["written"] else ""
    return f"plan {state['plan_id']}{name} · {state['questions']:,} questions{written}"


def state_rows(state: Mapping[str, Any]) -> Rows:
    """Shards and questions by state."""
    rows = []
    for name, counts in state["states"].items():
        rows.append([name, f"{counts['shards']:,}", f"{counts['questions']:,}"])
    return ["", "shards", "questions"], rows


def build_lines(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, words) of who builds the plan, how fast, how long it will take, and what has come of it."""
    lines = []
    build, builder = state["build"], state["builder"]
    if builder:
        lines.append(("built now by", builder["words"]))
    elif build:
        ended = _BUILD_ENDED.get(build["state"], build["state"])
        lines.append((ended, f"{build['run']['name']}, {_time(build['at'])}"))
    if build:
        done = f"{build['scored']:,} of {build['questions']:,} questions"
        rate = f", {build['per_minute']:,.1f} a minute" if builder and build["per_minute"] else ""
        lines.append(("scored", f"{done}{rate}"))
        if builder and build["seconds_left"] is not None:
            lines.append(("time left", f"about {timedelta(seconds=build['seconds_left'])}"))
        if builder:
            lines.append(("last sign", _time(build["at"])))
    if cost := state["cost"]:
        whole = f"of about {_money(cost['expected'])} {cost['currency']} for the whole plan"
        words = f"{_money(cost['paid'])} {cost['currency']} so far, {whole}"
        lines.append(("cost", words if cost["expected"] else "no price in the recipe"))
    lines.append(("dataset", state["dataset"]["folder"] if state["dataset"] else "not published"))
    if build and build["link"]:
        lines.append(("run", build["link"]))
    return lines


def step_rows(state: Mapping[str, Any]) -> Rows:
    """Calls of each step or dimension."""
    rows = []
    for kind, step in state["steps"].items():
        expected = NOTHING if step["expected"] is None else f"{step['expected']:,}"
        counts = [f"{step[name]:,}" for name in ("made", "reused", "retried", "failed")]
        rows.append([kind, *counts, expected])
    return ["calls", "made", "reused", "retried", "failed", "expected"], rows


def model_rows(state: Mapping[str, Any]) -> Rows:
    """Calls, tokens and money of each model that has been called, or will be."""
    rows = []
    for section, model in state["models"].items():
        figures = [f"{model.get(name, 0):,}" for name in ("made", "reused", "prompt_tokens", "completion_tokens")]
        currency = state["cost"]["currency"]
        rows.append([f"{section}: {model['name']}", *figures, f"{_money(model['money'])} {currency}"])
    return ["model", "calls made", "reused", "prompt tokens", "completion tokens", "cost"], rows


def progress_line(state: Mapping[str, Any]) -> str:
    """The plan in a line: what `status --watch` prints where it cannot draw."""
    counts = ", ".join(f"{counts['shards']:,} {name}" for name, counts in state["states"].items() if counts["shards"])
    words = [f"plan {state['plan_id']}: {counts}"]
    for what, text in build_lines(state):
        if what in ("scored", "time left", "cost"):
            words.append(f"{what} {text}")
    return "; ".join(words)


def _money(amount: float) -> str:
    """Cents, and less of small amounts."""
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:,.4f}"


def _time(iso: str) -> str:
    """A time of a record, for people."""
    return iso[:19].replace("T", " ") + " UTC"
