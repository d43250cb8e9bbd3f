"""A build with more workers than a machine takes: the real scheduler of shards (flows/workers.py), a simulated fleet.

Real are the class Workers, its decisions and what it writes and reads, in a store in memory. Simulated are the clock,
the Prefect server, and the workers, which take a run a few seconds after it was asked for, work on its shards one after
another, and report as runs do. Every tenth run is killed at a random moment: half of these with their worker, which
the server notices by the missing heartbeat, and half without, which the worker says at once. Once the server is away
for a minute.
"""

import heapq
import itertools
import json
import random
import resource
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from flows.bench.common import stub_recipe
from infra.running.remote_runs import LOST_AFTER_S, Pool, RunState
from infra.store import Store
from tasks.records.plan import Plan, PlannedShard
from tasks.records.product import PAIRS
from tasks.records.shard import ShardResult, table_names, write_shard_result
from tasks.records.table import StoredTable
from tasks.resources import open_resources

START_S = (4.0, 12.0)  # from asking for a run to its first call: the worker's next look at the queue, and imports
SHARD_S = (20.0, 40.0)  # of the work on a shard
AWAY_S = 60.0  # of the server, once
KILL_EVERY = 10
_RUNNING = RunState("Running", "", is_final=False, is_lost=False)
_COMPLETED = RunState("Completed", "", is_final=True, is_lost=False)
_CRASHED = RunState("Crashed", "killed", is_final=True, is_lost=True)


def simulate(workers: int, shards: int, seed: int = 0) -> dict[str, Any]:
    """The figures of one simulated build."""
    from flows import workers as module

    recipe = stub_recipe(
        Path("simulated"),
        "http://127.0.0.1:9/v1",
        execution={"shard_deployment": "shard/longmill-shard", "concurrency": 16 * workers},
    ).model_copy(update={"store": f"memory://fleet-{uuid.uuid4().hex}"})
    plan = _plan(shards, recipe.identity())
    with open_resources(recipe) as resources:
        fleet = _SimulatedFleet(resources.store, plan, workers, random.Random(seed))
        replaced: dict[str, Any] = {
            "start_run": fleet.start_run,
            "run_states": fleet.run_states,
            "pool_of": fleet.pool_of,
            "cancel_runs": lambda run_ids: None,
            "watch_for_lost_runs": lambda: None,
            "time": SimpleNamespace(monotonic=lambda: fleet.now, sleep=fleet.sleep),
        }
        start, processor = fleet.now, time.process_time()
        with mock.patch.multiple(module, **replaced):
            build = module.Workers(resources, plan, range(shards))
            build.work()
        processor = time.process_time() - processor
    ideal = fleet.worked_s / workers
    return {
        "workers": workers,
        "shards": shards,
        "finished": len(fleet.finished),
        "finished_twice": sum(count > 1 for count in fleet.finished.values()),
        "failed": len(build.failures),
        "at_work_twice_at_once": fleet.collisions,
        "runs": len(fleet.runs),
        "kills": fleet.kills,
        "most_runs_at_once": fleet.most_at_once,
        "most_calls_in_flight": fleet.most_concurrency,
        "simulated_s": round(fleet.now - start),
        "ideal_s": round(ideal),
        "lost_s_per_kill": round(sum(fleet.lost_s) / max(1, len(fleet.lost_s)), 1),
        "coordinator_processor_s": round(processor, 1),
        "coordinator_processor_ms_per_shard": round(1000 * processor / shards, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


@dataclass
class _Run:
    """A simulated run."""

    indices: list[int]
    concurrency: int
    report: str
    state: RunState = _RUNNING
    dies_at: float = float("inf")
    with_worker: bool = False
    index: int | None = None  # of the shard that it works on
    reports: int = 0
    unfinished: list[int] = field(default_factory=list)


class _SimulatedFleet:
    """The Prefect server and its workers, in simulated time."""

    def __init__(self, store: Store, plan: Plan, workers: int, rng: random.Random) -> None:
        self.now = time.monotonic()  # as the scheduler's own records have begun
        self.runs: dict[uuid.UUID, _Run] = {}
        self.finished: Counter[int] = Counter()
        self.kills = self.collisions = self.most_at_once = self.most_concurrency = 0
        self.worked_s = 0.0
        self.lost_s: list[float] = []
        self._store = store
        self._plan = plan
        self._workers = workers
        self._rng = rng
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._going: dict[uuid.UUID, _Run] = {}
        self._killed_at: dict[int, float] = {}  # by shard, until another run begins it
        self._away = False

    def sleep(self, seconds: float) -> None:
        """Let the time pass, and what happens in it."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        self.now = end

    def pool_of(self, deployment: str) -> Pool:
        """Every worker that was killed is replaced at once."""
        return Pool("simulated", self._workers, self._workers)

    def start_run(self, deployment: str, parameters: dict[str, Any], key: str, name: str) -> uuid.UUID:
        """Take a run; each tenth will be killed."""
        concurrency = parameters["recipe"]["execution"]["concurrency"]
        run = _Run(list(parameters["indices"]), concurrency, parameters["report"])
        run.unfinished = list(run.indices)
        run_id = uuid.uuid4()
        self.runs[run_id] = self._going[run_id] = run
        begins = self.now + self._rng.uniform(*START_S)
        if len(self.runs) % KILL_EVERY == 0:
            whole = sum(SHARD_S) / 2 * len(run.indices)
            run.dies_at, run.with_worker = begins + self._rng.uniform(0, whole), self._rng.random() < 0.5
        at_work = self._going.values()
        self.most_at_once = max(self.most_at_once, len(self._going))
        self.most_concurrency = max(self.most_concurrency, sum(other.concurrency for other in at_work))
        self._at(begins, lambda: self._begin(run_id, run))
        return run_id

    def run_states(self, run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, RunState]:
        """The states; once the server is away for a minute, in which the scheduler waits."""
        if not self._away and len(self.finished) * 2 > len(self._plan.shards):
            self._away = True
            self.sleep(AWAY_S)
        return {run_id: self.runs[run_id].state for run_id in run_ids}

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen))

    def _begin(self, run_id: uuid.UUID, run: _Run) -> None:
        for index in run.indices:
            if index in self._killed_at:
                self.lost_s.append(self.now - self._killed_at.pop(index))
        if run.dies_at < float("inf"):
            self._at(run.dies_at, lambda: self._die(run_id, run))
        self._report(run)
        self._next_shard(run_id, run)

    def _report(self, run: _Run) -> None:
        """As a run does: at once, and every ten seconds."""
        if run.state is _RUNNING and self.now < run.dies_at:
            run.reports += 1
            self._store.write(run.report, json.dumps({"number": run.reports, "calls": {}}).encode())
            self._at(self.now + 10.0, lambda: self._report(run))

    def _next_shard(self, run_id: uuid.UUID, run: _Run) -> None:
        if self.now >= run.dies_at:
            return
        if not run.unfinished:
            run.state, run.index = _COMPLETED, None
            del self._going[run_id]
            return
        run.index = run.unfinished[0]
        self.collisions += sum(other.index == run.index for other in self._going.values()) - 1
        seconds = self._rng.uniform(*SHARD_S)
        self._at(self.now + seconds, lambda: self._finish_shard(run_id, run, seconds))

    def _finish_shard(self, run_id: uuid.UUID, run: _Run, seconds: float) -> None:
        if self.now >= run.dies_at:
            return
        index = run.unfinished.pop(0)
        self.finished[index] += 1
        self.worked_s += seconds
        write_shard_result(self._store, _result(self._plan.plan_id, index))
        self._next_shard(run_id, run)

    def _die(self, run_id: uuid.UUID, run: _Run) -> None:
        if run.state is not _RUNNING:
            return
        self.kills += 1
        run.index = None
        if run.unfinished:
            self._killed_at[run.unfinished[0]] = self.now
        self._at(self.now + (LOST_AFTER_S if run.with_worker else 1.0), lambda: self._crash(run_id, run))

    def _crash(self, run_id: uuid.UUID, run: _Run) -> None:
        run.state = _CRASHED
        del self._going[run_id]


def _plan(shards: int, recipe: dict[str, Any]) -> Plan:
    planned = [PlannedShard(index, "examples", "contexts", 64, 64, 64 * 32_000) for index in range(shards)]
    return Plan.from_json(
        {
            "plan_id": "simulated",
            "recipe": recipe,
            "prompts": {},
            "shards": [shard.to_json() for shard in planned],
            "questions": 64 * shards,
            "drops": "drops",
            "drop_counts": {},
            "exact_prompt_tokens": True,
            "warnings": [],
        }
    )


def _result(plan_id: str, index: int) -> ShardResult:
    tables = {name: StoredTable(f"{name}.parquet", "0" * 64, 64) for name in table_names(PAIRS)}
    return ShardResult(plan_id, index, tables, 64, 64, 64, {}, 0, 0)
