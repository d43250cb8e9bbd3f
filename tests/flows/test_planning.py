"""Ranges of a source that runs build elsewhere: the plan of one process, byte for byte, whatever becomes of the runs.

The runs are stood in for here: each builds its ranges at once, or ends in another way. Real ones are in
test_deployments.py.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from flows import planning
from infra.errors import InputError
from infra.recipe import Recipe
from infra.running.remote_runs import Pool, RunState
from infra.store import open_store
from tasks.planning import building
from tasks.planning.elsewhere import build_elsewhere, source_sizes
from tasks.planning.make_plan import make_plan
from tasks.questions.ranges import RowRange
from tests.support.planning import pooled_rows, small_recipe

pytestmark = pytest.mark.medium

COMPLETED = RunState("Completed", "", is_final=True, is_lost=False)
FAILED = RunState("Failed", "no such file", is_final=True, is_lost=False)
CRASHED = RunState("Crashed", "no sign of life for 90 s", is_final=True, is_lost=True)
SCHEDULED = RunState("Scheduled", "", is_final=False, is_lost=False)


class Runs:
    """Runs that have built what they can by the time that they are asked about. `states`: of each in turn."""

    def __init__(self, states: list[RunState]) -> None:
        self._states = states
        self._by_id: dict[UUID, RunState] = {}
        self.parameters: list[dict[str, Any]] = []
        self.cancelled: list[UUID] = []
        self.keys: set[str] = set()

    def start(self, deployment: str, parameters: dict[str, Any], key: str, name: str) -> UUID:
        assert deployment == "plan-ranges/longmill-plan"
        assert key not in self.keys
        self.keys.add(key)
        state = self._states[len(self.parameters) % len(self._states)]
        self.parameters.append(parameters)
        if state == COMPLETED:
            planning.plan_ranges.fn(**parameters)
        elif state == CRASHED:  # after the first of its ranges
            first = dict(list(parameters["ranges"].items())[:1])
            planning.plan_ranges.fn(**{**parameters, "ranges": first})
        run = uuid4()
        self._by_id[run] = state
        return run

    def states(self, runs: list[UUID]) -> dict[UUID, RunState]:
        return {run: self._by_id[run] for run in runs}

    def cancel(self, runs: list[UUID]) -> None:
        self.cancelled += runs


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[RunState]], Runs]]:
    monkeypatch.setattr(building, "SMALL_CHARACTERS", 0)
    monkeypatch.setattr(building, "_BATCH_QUESTIONS", 3)
    monkeypatch.setattr(planning, "RANGES_PER_RUN", 2)
    monkeypatch.setattr(planning, "POLL_S", 0.0)
    monkeypatch.setattr(planning, "BEGIN_S", 0.0)
    monkeypatch.setattr(planning, "watch_for_lost_runs", lambda: "left")
    monkeypatch.setattr(planning, "pool_of", lambda deployment: Pool("longmill", 1, 1))

    def stand_in(states: list[RunState]) -> Runs:
        runs = Runs(states)
        monkeypatch.setattr(planning, "start_run", runs.start)
        monkeypatch.setattr(planning, "run_states", runs.states)
        monkeypatch.setattr(planning, "cancel_runs", runs.cancel)
        return runs

    yield stand_in


def files_of(store_folder: Path, recipe: Recipe, *, elsewhere: bool = False) -> Mapping[str, bytes]:
    recipe = recipe.model_copy(update={"store": str(store_folder)})
    store = open_store(recipe.store)
    make_plan(recipe, store, elsewhere=planning.planning_elsewhere(recipe, store) if elsewhere else None)
    return {path: store.read(path) for path in store.list()}


def recipe_of(folder: Path, **sections: Any) -> Recipe:
    rows = pooled_rows(31, length=120)
    rows[20]["id"] = rows[7]["id"]
    rows[25]["question"] = " "
    contexts = {"build": "pooled", "min_tokens": 300, "max_tokens": 900, "step_tokens": 100}
    execution = {"planning_deployment": "plan-ranges/longmill-plan", "planning_processes": 1, "shard_size": 7}
    return small_recipe(folder, rows, execution=execution, contexts=contexts, **sections)


@pytest.mark.parametrize(
    ("states", "planned_here"),
    [
        ([COMPLETED], 0),
        ([COMPLETED, FAILED], 5),
        ([CRASHED], 5),
        ([SCHEDULED, COMPLETED], 6),
    ],
)
def test_the_plan_is_that_of_one_process(
    tmp_path: Path,
    runs: Callable[[list[RunState]], Runs],
    monkeypatch: pytest.MonkeyPatch,
    states: list[RunState],
    planned_here: int,
) -> None:
    recipe = recipe_of(tmp_path)
    files = files_of(tmp_path / "one", recipe)
    made, lines = runs(states), list[str]()
    monkeypatch.setattr(planning.progress, "say", lines.append)
    assert files_of(tmp_path / "several", recipe, elsewhere=True) == files
    ranges = [number for parameters in made.parameters for number in parameters["ranges"]]
    assert ranges == [str(number) for number in range(11)]
    assert sum(int(line.split()[0]) for line in lines) == planned_here
    assert bool(made.cancelled) == (SCHEDULED in states)


def test_a_worker_without_the_source_says_so(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    store = open_store(recipe.store)
    source = Path(recipe.questions.source)
    rows = RowRange(source.as_uri(), source.name, None, 0, 10, 1)
    sizes = source_sizes([rows])
    source.write_text(source.read_text() + "\n")
    with pytest.raises(InputError, match=r"jsonl: it has [\d,]+ bytes here and [\d,]+ where the plan is made"):
        build_elsewhere(store, "planning/x", recipe, recipe.questions, {0: rows}, sizes)
    source.unlink()
    with pytest.raises(InputError, match=r"this worker cannot read it .*; give questions.source as a URL"):
        build_elsewhere(store, "planning/x", recipe, recipe.questions, {0: rows}, sizes)


def test_a_planning_that_is_broken_off_leaves_nothing(
    tmp_path: Path, runs: Callable[[list[RunState]], Runs], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tmp_path)
    store = open_store(recipe.store)
    made = runs([COMPLETED])

    def broken(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(planning, "take_built", broken)
    with pytest.raises(KeyboardInterrupt):
        make_plan(recipe, store, elsewhere=planning.planning_elsewhere(recipe, store))
    assert len(made.cancelled) == 2
    assert store.list("planning/") == []
