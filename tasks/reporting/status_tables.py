"""Tables of `longmill status`: the plans of a store, and one plan with its builds' calls, cost and errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tasks.reporting.tables import NOTHING, Rows

BUILD_ENDED = {
    "completed": "the last build has ended",
    "failed": "the last build has failed",
    "stopped": "the last build was stopped",
    "killed": "the last build was killed",
}
BEGINS = "the build begins, models that run here are started first"
GOES_ON = "the build has ended, its run goes on (training, evaluation)"

_IN_A_LINE = ("scored", "time left", "cost")
_SHARD_STATES = ("done", "running", "failed", "waiting")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a build: its name, the figure alone, what there is to say of it; `short` where it stands beside
    others."""

    name: str
    value: str
    detail: str
    short: str

    @property
    def words(self) -> str:
        """The figure with what there is to say of it."""
        return f"{self.value}, {self.detail}" if self.detail else self.value


def live_figures(build: Mapping[str, Any], spending: Mapping[str, Any]) -> list[Figure]:
    """What a build says of itself (`build_view`, `spending_view`), in the order of importance.

    Rates, calls in flight and the time left are there while it runs.
    """
    figures: list[Figure] = []
    rate = build["per_minute"] if build["state"] == "running" else None
    scored = (
        f"{build['scored']:,} of {build['questions']:,} questions" if build["questions"] else "nothing was left to do"
    )
    details = [f"{rate:,.1f} a minute"] if rate else []
    if build["questions"] < build["planned"]:
        details.append(f"{build['planned']:,} in the plan")
    short = f"{rate:,.0f} questions a minute" if rate else ""
    figures.append(Figure("scored", scored, ", ".join(details), short))
    if build["seconds_left"]:
        left = f"about {timedelta(seconds=build['seconds_left'])}"
        figures.append(Figure("time left", left, "", f"{left} left"))
    if speeds := build["tokens_per_second"]:
        total = sum(sum(speed.values()) for speed in speeds.values())
        parts = []
        for name, speed in speeds.items():
            parts.append(f"{name} {speed['prompt']:,.0f} in and {speed['completion']:,.0f} out")
        figures.append(Figure("tokens", f"{total:,.0f} a second", "; ".join(parts), f"{total:,.0f} tokens a second"))
    if in_flight := build["in_flight"]:
        calls_in_flight = f"{sum(in_flight.values()):,} calls"
        by_model = ", ".join(f"{name} {calls:,}" for name, calls in in_flight.items())
        figures.append(Figure("in flight", calls_in_flight, by_model, f"{calls_in_flight} in flight"))
    reuse = spending["reuse"] or {}
    if reuse.get("calls") is not None:
        share = f"{reuse['calls']:.0%} of the calls"
        cached = reuse["prompt_tokens"]
        detail = "" if cached is None else f"and {cached:.0%} of the prompt tokens from the servers' caches"
        figures.append(Figure("reused", share, detail, f"{share} reused" if reuse["calls"] else ""))
    if cost := cost_figure(spending):
        figures.append(cost)
    return figures


def cost_figure(spending: Mapping[str, Any]) -> Figure | None:
    """What a plan has cost, of what is expected; None where its recipe cannot be read."""
    cost = spending["cost"]
    if not cost:
        return None
    if not cost["expected"]:
        return Figure("cost", "no price in the recipe", "", "")
    paid, expected = f"{_money(cost['paid'])} {cost['currency']}", f"{_money(cost['expected'])} {cost['currency']}"
    return Figure("cost", f"{paid} so far", f"of about {expected} for the whole plan", f"{paid} of about {expected}")


def figures_line(build: Mapping[str, Any], spending: Mapping[str, Any], *, short: bool) -> str:
    """The figures in a line, for a log; a short one goes under the bars of a terminal, which count the questions."""
    figures = live_figures(build, spending)
    parts = [figure.short for figure in figures]
    if not short:
        parts[0] = figures[0].words.replace(" questions", " questions scored")
    return " · ".join(filter(None, parts))


def plans_rows(states: Sequence[Mapping[str, Any]]) -> Rows:
    """A row for each plan: its recipe, age, shards by state, dataset, and, where one is built now, who builds it."""
    rows = []
    some_built = any(state["builder"] for state in states)
    for state in states:
        written = state["written"][:16].replace("T", " ")
        rows.append([state["plan_id"], state["recipe"] or NOTHING, written, f"{state['questions']:,}"])
        rows[-1] += [_shards_words(state["states"]), "published" if state["dataset"] else NOTHING]
        if some_built:
            builder = state["builder"]
            rows[-1].append(f"{builder['work']} on {builder['host']}" if builder else NOTHING)
    columns = ["plan", "recipe", "planned (UTC)", "questions", "shards", "dataset"]
    return [*columns, "built now by"] if some_built else columns, rows


def _shards_words(states: Mapping[str, Any]) -> str:
    """How many shards are in which state; of those in which there are any."""
    counts = [f"{states[name]['shards']:,} {name}" for name in _SHARD_STATES if states[name]["shards"]]
    return ", ".join(counts) or NOTHING


def plan_title(state: Mapping[str, Any]) -> str:
    """The plan, its recipe, its size and its age."""
    name = f" · {state['recipe']}" if state["recipe"] else ""
    written = f" · planned {state['written'][:16].replace('T', ' ')} UTC" if state["written"] else ""
    return f"plan {state['plan_id']}{name} · {state['questions']:,} questions{written}"


def around_the_build(state: Mapping[str, Any]) -> str:
    """What a run that has the plan does before its build, or after it: it trains, evaluates, or has another round.

    "" where nobody has the plan, and while the build is at work.
    """
    build, builder = state["build"], state["builder"]
    if builder is None or (build and build["state"] == "running"):
        return ""
    if build is None or clock_words(build["started"]) < clock_words(builder["since"]):  # the report of an earlier build
        return BEGINS
    return GOES_ON if build["state"] == "completed" else ""


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
        lines.append((around_the_build(state) or "built now by", builder["words"]))
    elif build:
        ended = BUILD_ENDED.get(build["state"], build["state"])
        lines.append((ended, f"{build['run']['name']}, {clock_words(build['at'])}"))
    if build:
        lines.extend((figure.name, figure.words) for figure in live_figures(build, state))
        lines.extend((f"{section} waits", text) for section, text in build["waits"].items())
        if build["state"] == "running":
            lines.append(("last sign", clock_words(build["at"])))
    elif cost := cost_figure(state):
        lines.append((cost.name, cost.words))
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
        cost = f"{_money(model['money'])} {currency}" if state["cost"]["expected"] else NOTHING
        rows.append([f"{section}: {model['name']}", *figures, cost])
    return ["model", "calls made", "reused", "prompt tokens", "completion tokens", "cost"], rows


def progress_line(state: Mapping[str, Any]) -> str:
    """The plan in a line: what `status --watch` prints where it cannot draw."""
    counts = ", ".join(f"{counts['shards']:,} {name}" for name, counts in state["states"].items() if counts["shards"])
    words = [f"plan {state['plan_id']}: {counts}"]
    for what, text in build_lines(state):
        if what in _IN_A_LINE:
            words.append(f"{what} {text}")
    return "; ".join(words)


def _money(amount: float) -> str:
    """Cents, and less of small amounts."""
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:,.4f}"


def clock_words(iso: str) -> str:
    """A time of a record, for people."""
    return iso[:19].replace("T", " ") + " UTC"
