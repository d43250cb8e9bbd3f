"""How far a run is, as a small record in the store that is written every few seconds.

A run of shards on a worker writes one for its build (flows/workers.py), which adds it up. A build writes
`plans/PLAN/build.json`, from which `longmill status` and `longmill view` have calls, cost, rate and time left; it stays
when the build has ended, and the next build of the plan goes on from its sums. No result depends on either. The
terminal and the run's page in Prefect show the same figures (tasks/reporting/build_state.py).
"""

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from prefect.runtime import flow_run

from infra.canonical import canonical_json
from infra.errors import MissingError, StoreError
from infra.running import progress
from infra.running.run_page import ProgressBar, pages_address, run_log
from infra.running.telemetry import Point, observed
from infra.store import Store
from infra.store.lease import Lease
from tasks.records.hint import status_command
from tasks.records.plan import Plan
from tasks.records.product import product_of_counts
from tasks.reporting.build_state import Sums, build_view, spending_view
from tasks.reporting.metric_points import METRICS, build_points
from tasks.reporting.status_tables import figures_line
from tasks.resources import RunResources

REPORT_S = 10.0  # between two reports
_FIRST_LINE_S, _LINE_S = 60.0, 300.0  # to the first line in the run's log, and between two
_RATE_S = 600.0  # questions a minute are those of the last ten minutes
_TOKENS_S = 60.0  # tokens a second are those of the last minute
_SUMMED = ("made", "prompt_tokens", "completion_tokens")  # over the builds of a plan

Figures = tuple[dict[str, Any], dict[str, Any]]  # of a build, and of what its plan has spent (build_state.py)


@contextlib.contextmanager
def reporting(store: Store, path: str, content: Callable[[], Mapping[str, Any] | None]) -> Iterator[None]:
    """Write `content()` to `path` when the block begins, every few seconds, and when it ends.

    "number" is added, which grows and is -1 at the end. Nothing is written without a path, or where there is no
    content. A store that is away costs a report.
    """
    if not path:
        yield
        return
    ended = threading.Event()

    def write(number: int) -> None:
        values = content()
        if values is not None:
            with contextlib.suppress(StoreError):
                store.write(path, canonical_json({"number": number, **values}))

    def write_until_end() -> None:
        number = 0
        while not ended.wait(REPORT_S):
            number += 1
            write(number)

    write(0)
    thread = threading.Thread(target=write_until_end, name="report", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        write(-1)


class Rate:
    """How fast a count has grown lately."""

    def __init__(self, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s, self._clock = window_s, clock
        self._counts = deque([(clock(), 0)])

    def per_second(self, count: int) -> float | None:
        """The rate over the window, given the count now; None before it first grows."""
        now = self._clock()
        self._counts.append((now, count))
        while len(self._counts) > 2 and now - self._counts[1][0] >= self._window_s:
            self._counts.popleft()
        since, before = self._counts[0]
        return (count - before) / (now - since) if count > before and now > since else None


class BuildReport:
    """What a build says of itself. `state`: "running", and at the end "completed", "failed" or "stopped"."""

    def __init__(self, resources: RunResources, plan: Plan, unfinished: Sequence[int], lease: Lease) -> None:
        """`unfinished`: the shards of the build that have no result yet."""
        self.state = "running"
        self._bar: ProgressBar | None = None  # where there is work to do
        self._is_at_end = False
        self.error = ""
        self.dataset: Mapping[str, Any] | None = None
        self._resources = resources
        self._lease = lease
        self._last: Figures | None = None  # of the last report
        self._path = build_path(plan.plan_id)
        self._questions = sum(plan.shards[index].questions for index in unfinished)
        self._run = {"id": str(flow_run.id or ""), "name": flow_run.name or ""}  # the thread that reports has none
        self._started = _now()
        self._scored_rate = Rate(_RATE_S)
        self._token_rates: dict[tuple[str, str], Rate] = {}  # by model, and prompt or completion
        previous = read_build(resources.store, plan.plan_id) or {}
        self._shards = len(unfinished)
        self._plan = plan
        self._log = run_log()
        self._next_line = time.monotonic() + _FIRST_LINE_S
        self._earlier = _sums(previous.get("earlier", {}), previous.get("calls", {}))
        self._dataset_before = previous.get("dataset")

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Write the report until the block ends, with how it has ended; show it on the run's page and the terminal."""
        plan = self._plan
        if self._questions:
            self._log.info(
                f"plan {plan.plan_id}: {self._questions:,} questions to work on, shards: {self._shards:,}; how far: "
                f"{status_command(self._resources.store, plan.plan_id)}"
            )
            self._bar = ProgressBar(f"progress-{plan.plan_id}", self._words(self._figures(self._values())))
        try:
            with (
                observed({"plan": plan.plan_id, "recipe": self._resources.recipe.name}, METRICS, self._points),
                reporting(self._resources.store, self._path, self._look),
                self._ending(),
            ):
                yield
        finally:
            progress.show_figures("")

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Take note of how the block ends."""
        try:
            yield
        except Exception as error:
            self.state = "stopped" if self._resources.stopped is not None else "failed"
            self.error = str(error)
            raise
        except BaseException:
            self.state = "stopped"
            raise
        self.state = "completed"

    def published(self, name: str, dataset: Mapping[str, Any]) -> None:
        """Take note of the dataset that the build has published."""
        self.dataset = {"name": name, "folder": dataset["folder"], "manifest": dataset["manifest"]}
        counts = dataset["counts"]
        product = product_of_counts(counts)
        made, planned = f"{product.made(counts):,} {product.name}", f"{counts[product.planned]:,} {product.planned}"
        self._log.info(f"published {made} of {planned}: {dataset['folder']}")

    def _look(self) -> dict[str, Any] | None:
        """Show how far the build is on its page and on the terminal; returns the report.

        None once another build has taken over.
        """
        if self._lease.lost is not None:
            return None
        values = self._values()
        figures = self._last = self._figures(values)
        if self._bar is not None:
            share = values["scored"] / self._questions
            words = self._words(figures)
            self._bar.show(100 * min(1.0, share), words)
            if time.monotonic() >= self._next_line or (share >= 1 and not self._is_at_end):
                self._log.info(words)
                self._next_line = time.monotonic() + _LINE_S
                self._is_at_end = share >= 1
            if self.state == "running":
                progress.show_figures(self._words(figures, short=True))
        return values

    def _points(self) -> Iterator[Point]:
        """The last report as points of metrics."""
        return iter(()) if self._last is None else build_points(*self._last)

    def _figures(self, values: Mapping[str, Any]) -> Figures:
        """The figures of a report."""
        return build_view(values, self._plan, running=True), spending_view(values, self._plan, self._resources.recipe)

    def _words(self, figures: Figures, *, short: bool = False) -> str:
        """How far the build is, in a line; a short one leaves out what the bars of a terminal show."""
        return figures_line(*figures, short=short)

    def _values(self) -> dict[str, Any]:
        """The report: JSON-ready values."""
        running = self.state == "running"
        now = self._resources.report()
        per_second = self._scored_rate.per_second(now["scored"])
        return {
            "run": self._run,
            "pages": pages_address(),
            "state": self.state,
            "error": self.error,
            "started": self._started,
            "at": _now(),
            "questions": self._questions,
            "per_minute": None if per_second is None else round(60 * per_second, 2),
            "tokens_per_second": self._tokens_per_second(now["calls"]),
            **now,
            "shards": now["shards"] if running else [],
            "earlier": self._earlier,
            "dataset": self.dataset or self._dataset_before,
        }

    def _tokens_per_second(self, calls: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, float]]:
        """Prompt and completion tokens a second by model, of calls that were paid for lately."""
        rates: dict[str, dict[str, float]] = {}
        for section, kinds in calls.items():
            for name in ("prompt", "completion"):
                tokens = sum(counts.get(f"{name}_tokens", 0) for counts in kinds.values())
                rate = self._token_rates.setdefault((section, name), Rate(_TOKENS_S))
                rates.setdefault(section, {})[name] = round(rate.per_second(tokens) or 0.0, 1)
        return rates


def read_build(store: Store, plan_id: str) -> dict[str, Any] | None:
    """What the last build of a plan has said of itself; None where there was none, or it cannot be read."""
    try:
        report = json.loads(store.read(build_path(plan_id)))
    except (MissingError, ValueError):
        return None
    return report if isinstance(report, dict) else None


def build_path(plan_id: str) -> str:
    """Where the builds of a plan say how far they are."""
    return f"plans/{plan_id}/build.json"


def _sums(*reports: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Sums:
    """The calls made, and their tokens, of several builds together."""
    sums: Sums = {}
    for report in reports:
        for section, kinds in report.items():
            for kind, counts in kinds.items():
                total = sums.setdefault(section, {}).setdefault(kind, dict.fromkeys(_SUMMED, 0))
                for name in _SUMMED:
                    total[name] += counts.get(name, 0)
    return sums


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
