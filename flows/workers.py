"""Shards on the workers of a work pool: a build starts runs of some shards each, and takes over what a lost run leaves.

There are as many runs at once as the pool has workers. Each gets its share of `execution.concurrency`, so that the
limit holds over all processes of the build, and some shards, so that few starts are paid: `shards_per_run`, and fewer
towards the end, so that no worker has the last ones alone. A run whose process or worker is killed is marked as
crashed by the Prefect server (infra/running/remote_runs.py); its unfinished shards go to another run. A server that was
away may take a live run for a lost one, and two runs of a shard would pay twice: every run writes a report into the
store every few seconds, and only one whose report has stood still is succeeded. The report has what the run has called,
which the build counts.
"""

import contextlib
import json
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect import flow, tags
from prefect.runtime import flow_run

from flows.reach import check_reach
from flows.reports import REPORT_S, reporting
from flows.shard import shard_recipe, work_on_shard
from flows.shards import (
    STOPPED,
    Failures,
    is_stopped,
    raise_failures,
    run_here,
    saying_how_to_go_on,
    shards_name,
)
from infra.errors import LongmillError, MissingError, StoreError
from infra.recipe import Execution, Recipe, parse_recipe
from infra.running import progress
from infra.running.remote_runs import cancel_runs, pool_of, run_states, start_run, watch_for_lost_runs
from infra.running.telemetry import current_trace, inside_trace
from infra.store import Store
from tasks.records.plan import Plan, load_plan
from tasks.records.product import PAIRS
from tasks.records.shard import forget_failure, read_failure, read_shard_result
from tasks.resources import RunResources, open_resources
from tasks.sampling import calls_per_example
from tasks.spending import PlanSpending, count_given_spending

POLL_S = 2.0  # between two looks at the runs
STILL_S = 35.0  # that the report of a lost run must have stood still
_POOL_S = 30.0  # between two looks at the workers
MOST_LOSSES = 4  # of runs with one shard: then it may be the shard that kills them
STAGE = "shards"


def run_name() -> str:
    """The name of a run of shards."""
    parameters = flow_run.parameters
    return shards_name(parameters["recipe"]["name"], parameters["indices"])


@flow(name="shard", flow_run_name=run_name, validate_parameters=False)
def shard(
    recipe: dict[str, Any],
    plan_id: str,
    indices: list[int],
    report: str = "",
    retry_drops: bool = False,
    spent: dict[str, list[int]] | None = None,
    build_host: str = "",
    trace_parent: str = "",
) -> None:
    """Work on shards of a plan until their results are in the store. A build starts it; `rerun` is for people.

    Raises as a build does, after the last of the shards has ended.

    Args:
        recipe: The whole recipe as JSON, as the build has it.
        plan_id: The whole id of the plan.
        indices: Numbers of the shards to work on.
        report: Where in the store the run says that it lives, and what it has called; the build reads it.
        retry_drops: Ask again what servers refused, and run shards again that dropped questions for it.
        spent: Calls and tokens that the plan's other shards have cost; null where the store is to be read for it.
        build_host: Host of a build that has started servers itself: its addresses mean nothing on another host.
        trace_parent: The build's span of OpenTelemetry, of which this run is a part.
    """
    settings = parse_recipe(recipe)
    check_reach(settings, build_host)
    with tags(*flow_run.tags), open_resources(settings, retry_drops) as resources, inside_trace(trace_parent):
        plan = load_plan(resources.store, plan_id)
        if spent is not None:
            count_given_spending(resources, plan, spent)
        failures: Failures = {}
        with reporting(resources.store, report, resources.report):
            if len(indices) == 1:
                with saying_how_to_go_on(resources.store, plan_id, indices[0]):
                    work_on_shard(resources, plan, indices[0])
            else:
                failures = run_here(resources, plan, indices)
        raise_failures(resources.store, plan, indices, failures)


@dataclass(slots=True)
class _Run:
    """A run that was started, its report in the store, and since when that has stood still."""

    indices: list[int]
    concurrency: int
    report_path: str
    report: bytes = b""
    still_since: float = field(default_factory=time.monotonic)
    next_look: float = 0.0  # at the report


class Workers:
    """The runs of a build on its deployment's workers, and the shards that wait."""

    def __init__(self, resources: RunResources, plan: Plan, indices: Sequence[int]) -> None:
        self._resources = resources
        self._plan = plan
        self._execution = resources.recipe.execution
        assert self._execution.shard_deployment is not None
        self._deployment = self._execution.shard_deployment
        self._spending = PlanSpending(resources, plan)
        self._waiting = deque(indices)
        self._runs: dict[UUID, _Run] = {}
        self._losses: dict[int, int] = {}  # of runs with one shard, by shard; 0 for one that was lost with others
        self._started = 0
        self._room = 0
        self._next_look = 0.0  # at the pool
        self.failures: Failures = {}

    def work(self) -> None:
        """Return when every shard has its result or its failure, or none is to be started any more."""
        watch_for_lost_runs()
        try:
            while self._runs or (self._waiting and not is_stopped(self.failures)):
                self._start_runs()
                time.sleep(POLL_S)
                self._settle_runs()
                self._raise_if_stopped()
        except BaseException:
            cancel_runs(list(self._runs))
            raise

    def _raise_if_stopped(self) -> None:
        """Another build may have taken over the plan."""
        if self._resources.stopped is not None:
            raise self._resources.stopped

    def _start_runs(self) -> None:
        while self._waiting and not is_stopped(self.failures):
            room = self._look_at_pool() - len(self._runs)
            free = self._execution.concurrency - sum(run.concurrency for run in self._runs.values())
            if room <= 0 or free <= 0:
                return
            size = group_size(len(self._waiting), self._room, self._execution.shards_per_run)
            indices = [self._waiting.popleft() for _ in range(size)]
            if any(index in self._losses for index in indices):  # alone, so that what kills a run is found
                self._waiting.extendleft(reversed(indices[1:]))
                indices = indices[:1]
            runs_to_come = min(room, 1 + len(self._waiting))
            self._start(indices, max(1, free // runs_to_come))

    def _look_at_pool(self) -> int:
        """How many runs there may be."""
        if time.monotonic() >= self._next_look:
            pool = pool_of(self._deployment)
            self._next_look = time.monotonic() + _POOL_S
            self._room = max(1, pool.most_runs)
            if pool.workers == 0:
                self._next_look = time.monotonic() + POLL_S
                progress.wait(STAGE, f"no worker of the pool {pool.name} is online: prefect worker start --pool ...")
            else:
                progress.wait(STAGE, "")
        return self._room

    def _start(self, indices: list[int], concurrency: int) -> None:
        """Start a run, once per build: a build that Prefect tries again finds its runs, a new build starts new ones."""
        plan_id = self._plan.plan_id
        for index in indices:
            forget_failure(self._resources.store, plan_id, index)
        report = f"plans/{plan_id}/runs/{flow_run.id}-{self._started:05d}.json"
        parameters: dict[str, Any] = {
            "recipe": shard_recipe(with_share(self._resources.recipe, concurrency)),
            "plan_id": plan_id,
            "indices": indices,
            "report": report,
        }
        if self._resources.refusals.retry:
            parameters["retry_drops"] = True
        if spent := self._spending.besides(indices):
            parameters["spent"] = spent
        if any(model.starts_here() for model in self._resources.recipe.models().values()):
            parameters["build_host"] = socket.gethostname()
        if trace := current_trace():
            parameters["trace_parent"] = trace
        key = f"{plan_id}-{flow_run.id}-{self._started}"
        run_id = start_run(self._deployment, parameters, key, shards_name(self._resources.recipe.name, indices))
        self._started += 1
        self._runs[run_id] = _Run(indices, concurrency, report)

    def _settle_runs(self) -> None:
        """Look at the runs; of those that have ended, count the calls and take over what is left."""
        if not self._runs:
            return
        for run_id, state in run_states(list(self._runs)).items():
            run = self._runs[run_id]
            still_s = self._look_at_report(run)
            if not state.is_final or (state.is_lost and still_s < STILL_S):
                continue
            del self._runs[run_id]
            self._count_calls(run)
            self._spending.count(run.indices)
            again: list[int] = []
            for index in run.indices:
                if read_shard_result(self._resources.store, self._plan.plan_id, index) is not None:
                    questions = self._plan.shards[index].questions
                    if self._plan.product == PAIRS:
                        progress.advance("sample", questions * calls_per_example(self._resources.recipe))
                    progress.advance(self._plan.product.stage, questions)
                    continue
                if state.is_lost and self._may_run_again(index, len(run.indices) == 1):
                    again.append(index)
                else:
                    self.failures[index] = self._failure(index, f"{state.name} ({state.message})")
            self._waiting.extendleft(reversed(again))
            if again:
                name = shards_name(self._resources.recipe.name, again)
                progress.say(f"{name}: the run was lost; another takes what it has left")

    def _may_run_again(self, index: int, alone: bool) -> bool:
        """Whether a shard whose run was lost goes to another one. `alone`: it was the only shard of its run."""
        self._losses[index] = self._losses.get(index, 0) + alone
        return self._losses[index] <= MOST_LOSSES

    def _look_at_report(self, run: _Run) -> float:
        """For how many seconds the report of a run has stood still. While it cannot be read nothing is known."""
        now = time.monotonic()
        if now >= run.next_look:
            run.next_look = now + REPORT_S
            try:
                report = self._resources.store.read(run.report_path)
            except MissingError:
                report = b""  # it has not begun
            except StoreError:
                report, run.report = run.report, b"unknown"
            if report != run.report:
                run.report, run.still_since = report, now
                self._take_report(run, report, ended=False)
        return now - run.still_since

    def _count_calls(self, run: _Run) -> None:
        """Add what a run has called and paid to the counts of the build; of a killed one all but the last seconds."""
        store = self._resources.store
        with contextlib.suppress(StoreError):
            self._take_report(run, store.read(run.report_path), ended=True)
            store.delete(run.report_path)

    def _take_report(self, run: _Run, report: bytes, *, ended: bool) -> None:
        """Count what a run says. From its first report to its end all its shards count as being worked on."""
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            values = json.loads(report)
            values["shards"] = [] if ended else run.indices
            if ended:
                values |= {"runs": {}, "waits": {}, "in_flight": {}}
            self._resources.take_report(run.report_path, values)

    def _failure(self, index: int, state: str) -> LongmillError:
        return unfinished_error(self._resources.store, self._plan.plan_id, index, state)


def run_on_workers(resources: RunResources, plan: Plan, indices: Sequence[int]) -> Failures:
    """Have the recipe's deployment work on shards; returns what failed."""
    workers = Workers(resources, plan, indices)
    workers.work()
    return workers.failures


def group_size(waiting: int, runs: int, most: int) -> int:
    """Shards of the next run: `most`, and towards the end so few that each run still gets two groups.

    As in guided self-scheduling (Polychronopoulos and Kuck 1987), with half of the share.
    """
    return max(1, min(most, -(-waiting // (2 * runs))))


def with_share(recipe: Recipe, concurrency: int) -> Recipe:
    """The recipe of a run that may have so many of the recipe's calls in flight."""
    execution: Execution = recipe.execution
    contexts = max(1, execution.contexts_in_flight * concurrency // execution.concurrency)
    share = execution.model_copy(update={"concurrency": concurrency, "contexts_in_flight": contexts})
    return recipe.model_copy(update={"execution": share})


def unfinished_error(store: Store, plan_id: str, index: int, state: str) -> LongmillError:
    """What kept a shard that ran elsewhere from its result: the error it left, or its flow run's state."""
    failure = read_failure(store, plan_id, index)
    if failure:
        for error in STOPPED:
            if failure.startswith(f"{error.__name__}: "):
                return error(f"shard {index}: {failure}")
        return LongmillError(f"shard {index}: {failure}")
    return LongmillError(f"shard {index} has no result and its flow run is {state}; the Prefect UI says why")
