"""How far a run is, as a small record in the store that is written every few seconds.

A run of shards on a worker writes one for its build (flows/workers.py), which adds it up. A build writes
`plans/PLAN/build.json`, from which `longmill status` has calls, cost, rate and time left; it stays when the build has
ended, and the next build of the plan goes on from its sums. No result depends on either.
"""

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.runtime import flow_run

from infra.canonical import canonical_json
from infra.errors import MissingError, StoreError
from infra.running.run_page import ProgressBar, run_log
from infra.store import Store
from infra.store.lease import Lease
from tasks.records.hint import status_command
from tasks.records.plan import Plan
from tasks.records.product import product_of_counts
from tasks.resources import RunResources

REPORT_S = 10.0  # between two reports
_FIRST_LINE_S, _LINE_S = 60.0, 300.0  # to the first line in the run's log, and between two
_RATE_S = 600.0  # the rate is that of the last ten minutes
_SUMMED = ("made", "prompt_tokens", "completion_tokens")  # over the builds of a plan

Sums = dict[str, dict[str, dict[str, int]]]  # by model and kind of call


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
        self._path = build_path(plan.plan_id)
        self._questions = sum(plan.shards[index].questions for index in unfinished)
        self._run = {"id": str(flow_run.id or ""), "name": flow_run.name or ""}  # the thread that reports has none
        self._started = _now()
        self._scored = deque([(time.monotonic(), 0)])
        previous = read_build(resources.store, plan.plan_id) or {}
        self._shards = len(unfinished)
        self._plan_id = plan.plan_id
        self._log = run_log()
        self._next_line = time.monotonic() + _FIRST_LINE_S
        self._earlier = _sums(previous.get("earlier", {}), previous.get("calls", {}))
        self._dataset_before = previous.get("dataset")

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Write the report until the block ends, with how it has ended, and show it on the run's page."""
        if self._questions:
            self._log.info(
                f"plan {self._plan_id}: {self._questions:,} questions to work on, shards: {self._shards:,}; how far: "
                f"{status_command(self._resources.store, self._plan_id)}"
            )
            self._bar = ProgressBar(f"progress-{self._plan_id}", self.words())
        with reporting(self._resources.store, self._path, self._look):
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
        """Show how far the build is on its page; returns the report."""
        values = self.to_json()
        if self._bar is not None:
            share = self._resources.scored() / self._questions
            self._bar.show(100 * min(1.0, share), self.words())
            if time.monotonic() >= self._next_line or (share >= 1 and not self._is_at_end):
                self._log.info(self.words())
                self._next_line = time.monotonic() + _LINE_S
                self._is_at_end = share >= 1
        return values

    def words(self) -> str:
        """How far the build is, in a line."""
        scored = self._resources.scored()
        text = f"{scored:,} of {self._questions:,} questions scored"
        if rate := self._rate(scored):
            left = timedelta(seconds=round(60 * max(0, self._questions - scored) / rate))
            text += f", {rate:,.0f} a minute" + (f", about {left} left" if left else "")
        made = sum(counts.made for counts in self._resources.counts().values())
        return f"{text}; {made:,} calls made"

    def to_json(self) -> dict[str, Any] | None:
        """JSON-ready values; None once another build has taken over."""
        if self._lease.lost is not None:
            return None
        scored = self._resources.scored()
        return {
            "run": self._run,
            "state": self.state,
            "error": self.error,
            "started": self._started,
            "at": _now(),
            "questions": self._questions,
            "scored": scored,
            "per_minute": self._rate(scored),
            "shards": self._resources.shards_in_work() if self.state == "running" else [],
            "calls": self._resources.counts_by_model(),
            "earlier": self._earlier,
            "dataset": self.dataset or self._dataset_before,
        }

    def _rate(self, scored: int) -> float | None:
        """Questions a minute, lately; None before the first."""
        now = time.monotonic()
        self._scored.append((now, scored))
        while len(self._scored) > 2 and now - self._scored[1][0] >= _RATE_S:
            self._scored.popleft()
        since, before = self._scored[0]
        return round(60 * (scored - before) / (now - since), 2) if scored > before else None


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
