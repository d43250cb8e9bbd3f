"""Planning on the workers of a work pool: runs there build ranges of the source, which are put in order here.

A run gets some ranges and builds them with all cores of its machine. What does not come from a run is built here: the
ranges of one that fails or is lost, or that no worker has taken. So the plan is the same, byte for byte, with whatever
workers there are. Ids that repeat, shards and their tables are the planner's own work.
"""

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID, uuid4

from prefect import flow
from prefect.runtime import flow_run

from flows.shard import shard_recipe
from infra.errors import MissingError
from infra.recipe import Questions, Recipe, parse_recipe
from infra.running import progress
from infra.running.remote_runs import RunState, cancel_runs, pool_of, run_states, start_run, watch_for_lost_runs
from infra.store import Store, open_store
from tasks.planning.built_range import BuiltRange
from tasks.planning.elsewhere import (
    FOLDER,
    build_elsewhere,
    discard,
    discard_folder,
    hand_over,
    source_sizes,
    take_built,
)
from tasks.planning.workers import Elsewhere, PlanningWorkers
from tasks.questions.ranges import RowRange

RANGES_PER_RUN = 8  # of 8 MB at most each: about a minute of one core
AHEAD = 2  # runs for each that the pool has at once, so that none of its workers waits
POLL_S = 2.0  # between two looks at a run
BEGIN_S = 120.0  # that the next run may wait for a worker, before its ranges are built here
_POOL_S = 30.0  # between two looks at the workers


def run_name() -> str:
    """The name of a run of ranges."""
    parameters = flow_run.parameters
    return _ranges_name(parameters["recipe"]["name"], map(int, parameters["ranges"]))


@flow(name="plan-ranges", flow_run_name=run_name, validate_parameters=False)
def plan_ranges(
    recipe: dict[str, Any],
    questions: dict[str, Any],
    folder: str,
    ranges: dict[str, dict[str, Any]],
    sizes: dict[str, int],
) -> None:
    """Build ranges of a source for a build that plans, and leave them in the store. A build starts it.

    Args:
        recipe: The whole recipe as JSON, as the build has it.
        questions: The source, as the recipe has it.
        folder: Where in the store the build has put what is needed, and takes the ranges from.
        ranges: The ranges, by their numbers.
        sizes: Bytes of the files that they are in, by URL.
    """
    settings = parse_recipe(recipe)
    by_number = {int(number): RowRange(**rows) for number, rows in ranges.items()}
    build_elsewhere(open_store(settings.store), folder, settings, Questions.model_validate(questions), by_number, sizes)


def planning_elsewhere(recipe: Recipe, store: Store) -> Elsewhere | None:
    """What has ranges built by the recipe's deployment; None where it names none."""
    deployment = recipe.execution.planning_deployment
    if deployment is None:
        return None

    def build(workers: PlanningWorkers, ranges: Iterable[RowRange]) -> Iterator[tuple[RowRange, BuiltRange]]:
        yield from _RangesOnWorkers(deployment, store, workers).build(ranges)

    return build


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that was started, and its ranges by their numbers."""

    id: UUID
    ranges: Mapping[int, RowRange]


class _RangesOnWorkers:
    """The runs of one planning."""

    def __init__(self, deployment: str, store: Store, workers: PlanningWorkers) -> None:
        self._deployment, self._store, self._workers = deployment, store, workers
        self._folder = f"{FOLDER}/{uuid4().hex}"  # nothing that is planned depends on it
        self._begun: deque[_Run] = deque()
        self._room = 0
        self._next_look = 0.0  # at the pool

    def build(self, ranges: Iterable[RowRange]) -> Iterator[tuple[RowRange, BuiltRange]]:
        """Each range, built, in their order."""
        self._look_at_pool()
        watch_for_lost_runs()
        numbered = enumerate(ranges)
        try:
            hand_over(self._store, self._folder, self._workers.files)
            while True:
                while len(self._begun) < AHEAD * self._look_at_pool():
                    of_run = dict(itertools.islice(numbered, RANGES_PER_RUN))
                    if not of_run:
                        break
                    self._begun.append(_Run(self._start(of_run), of_run))
                if not self._begun:
                    return
                yield from self._take(self._begun[0])
                self._begun.popleft()
        finally:
            cancel_runs([run.id for run in self._begun])
            discard_folder(self._store, self._folder)

    def _look_at_pool(self) -> int:
        """How many runs there may be at once."""
        if time.monotonic() >= self._next_look:
            self._room = max(1, pool_of(self._deployment).most_runs)
            self._next_look = time.monotonic() + _POOL_S
        return self._room

    def _start(self, ranges: Mapping[int, RowRange]) -> UUID:
        parameters = {
            "recipe": shard_recipe(self._workers.recipe),
            "questions": self._workers.questions.model_dump(mode="json"),
            "folder": self._folder,
            "ranges": {str(number): asdict(rows) for number, rows in ranges.items()},
            "sizes": source_sizes(list(ranges.values())),
        }
        name = _ranges_name(self._workers.recipe.name, ranges)
        return start_run(self._deployment, parameters, f"{self._folder}-{min(ranges)}", name)

    def _take(self, run: _Run) -> Iterator[tuple[RowRange, BuiltRange]]:
        """The ranges of a run, when it has ended; those that it has not built are built here."""
        state = self._wait(run)
        missing: list[RowRange] = []
        for number, rows in run.ranges.items():
            if not missing:  # else all that follow, so that the order stays
                try:
                    yield rows, take_built(self._store, self._folder, number)
                    continue
                except MissingError:
                    pass
            missing.append(rows)
        if missing:
            progress.say(f"{len(missing)} ranges are planned here: their run is {state.name}{_why(state)}")
            yield from self._workers.build_here(missing)
        discard(self._store, self._folder, list(run.ranges))

    def _wait(self, run: _Run) -> RunState:
        """The last state of a run: its end, or, when no worker takes it, that it was cancelled."""
        waits_since = time.monotonic()
        while True:
            state = run_states([run.id])[run.id]
            if state.is_final:
                return state
            if state.is_running:
                waits_since = time.monotonic()
            elif time.monotonic() - waits_since > BEGIN_S:
                cancel_runs([run.id])
                return RunState("without a worker", f"for {BEGIN_S:.0f} s", is_final=True, is_lost=True)
            time.sleep(POLL_S)


def _ranges_name(recipe: str, numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    return f"plan {recipe} · ranges {ordered[0]}-{ordered[-1]}"


def _why(state: RunState) -> str:
    return f" ({state.message})" if state.message else ""
