"""The figures of a build as metrics: what `/metrics` of the viewer and OpenTelemetry give, under the same names.

They are those of tasks/reporting/build_state.py. A counter grows over all builds of a plan. No text of a model and no
prompt is among the labels.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from infra.running.telemetry import Metric, Point

CALLS = Metric(
    "longmill.calls", "counter", "{call}", "Calls of a plan's builds, by step and outcome", ("step", "outcome")
)
TOKENS = Metric("longmill.tokens", "counter", "{token}", "Tokens paid for", ("model", "direction"))
COST = Metric("longmill.cost", "counter", "{money}", "Money spent, in the recipe's currency", ("model", "currency"))
EXPECTED = Metric(
    "longmill.cost.expected", "gauge", "{money}", "Money that the whole plan is expected to cost", ("currency",)
)
IN_FLIGHT = Metric("longmill.calls.in_flight", "gauge", "{call}", "Calls in flight", ("model",))
SPEED = Metric(
    "longmill.tokens.rate", "gauge", "{token}/s", "Tokens a second of the last minute", ("model", "direction")
)
RATE = Metric("longmill.questions.rate", "gauge", "{question}/min", "Questions a minute of the last ten minutes")
SCORED = Metric("longmill.questions.scored", "gauge", "{question}", "Questions that the last build has scored")
QUESTIONS = Metric("longmill.questions.planned", "gauge", "{question}", "Questions that the last build works on")
LEFT = Metric("longmill.build.time_left", "gauge", "s", "Seconds until the shards are done, at the present rate")
RUNNING = Metric("longmill.build.running", "gauge", "1", "1 while a build works on the plan")
REPORTED = Metric(
    "longmill.build.last_report", "gauge", "s", "When the last build has last written its report, Unix time"
)
SHARDS = Metric("longmill.shards", "gauge", "{shard}", "Shards of the plan", ("state",))
METRICS = (
    CALLS, TOKENS, COST, EXPECTED, IN_FLIGHT, SPEED, RATE, SCORED, QUESTIONS, LEFT, RUNNING, REPORTED, SHARDS
)  # fmt: skip


def build_points(build: Mapping[str, Any], spending: Mapping[str, Any]) -> Iterator[Point]:
    """The points of a build (`build_view`, `spending_view`)."""
    for step, counts in spending["steps"].items():
        for outcome in ("made", "reused", "retried", "failed"):
            yield Point(CALLS, counts[outcome], (step, outcome))
    for section, model in spending["models"].items():
        for direction in ("prompt", "completion"):
            yield Point(TOKENS, model.get(f"{direction}_tokens", 0), (section, direction))
        yield Point(COST, model["money"], (section, spending["cost"]["currency"]))
    if cost := spending["cost"]:
        yield Point(EXPECTED, cost["expected"], (cost["currency"],))
    for section, calls in build["in_flight"].items():
        yield Point(IN_FLIGHT, calls, (section,))
    for section, speed in build["tokens_per_second"].items():
        for direction, rate in speed.items():
            yield Point(SPEED, rate, (section, direction))
    running = build["state"] == "running"
    if running and build["per_minute"] is not None:
        yield Point(RATE, build["per_minute"])
    if build["seconds_left"] is not None:
        yield Point(LEFT, build["seconds_left"])
    yield Point(SCORED, build["scored"])
    yield Point(QUESTIONS, build["questions"])
    yield Point(RUNNING, int(running))
    yield Point(REPORTED, datetime.fromisoformat(build["at"]).timestamp())


def plan_points(state: Mapping[str, Any]) -> Iterator[Point]:
    """The points of a plan, as `longmill status` has it."""
    for name, counts in state["states"].items():
        yield Point(SHARDS, counts["shards"], (name,))
    if state["build"]:
        yield from build_points(state["build"], state)
