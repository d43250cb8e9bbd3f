"""The simulated fleet: the scheduler loses no shard and runs none twice, whatever is killed; figures of a real one."""

import itertools
import uuid
from pathlib import Path

import pytest

from flows import workers
from flows.bench.fleet_figures import requests_by_kind, run_figures
from flows.bench.fleet_simulation import simulate
from flows.bench.fleet_workers import Kill


def test_every_shard_is_finished_once_though_runs_and_workers_are_killed() -> None:
    figures = simulate(workers=8, shards=150, seed=1)
    assert figures["finished"] == 150
    assert (figures["finished_twice"], figures["failed"], figures["at_work_twice_at_once"]) == (0, 0, 0)
    assert figures["kills"] > 3
    assert figures["most_runs_at_once"] == 8
    assert figures["most_calls_in_flight"] <= 16 * 8


def test_the_simulation_sees_a_scheduler_that_takes_over_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that takes live runs for lost ones works on shards twice at once."""
    looks = itertools.count()
    settle = workers.Workers._settle_runs

    def settle_too_early(self: workers.Workers) -> None:
        if next(looks) == 20:
            self._waiting.extendleft(next(iter(self._runs.values())).indices)
        settle(self)

    monkeypatch.setattr(workers.Workers, "_settle_runs", settle_too_early)
    figures = simulate(workers=4, shards=60, seed=1)
    assert figures["finished_twice"] or figures["at_work_twice_at_once"]


def test_figures_of_runs_and_of_the_time_that_kills_cost() -> None:
    def run(indices: list[int], state: str, start: int, end: int) -> dict[str, object]:
        times = [f"2026-11-28T10:{minute:02d}:00Z" for minute in (start, end)]
        parameters = {"indices": indices}
        known = {"created": times[0], "start_time": times[0], "end_time": times[1]}
        return {"state_type": state, "parameters": parameters, **known}

    runs = [run([0, 1], "CRASHED", 0, 4), run([0], "COMPLETED", 5, 6), run([1], "COMPLETED", 6, 9)]
    runs.append({"state_type": "COMPLETED", "start_time": None, "end_time": None, "parameters": {"index": 0}})
    killed = 1795860000.0 + 120  # 10:02
    figures = run_figures(runs, [Kill(killed, False)])
    assert (figures.runs, figures.lost_runs) == (3, 1)
    assert figures.lost_s == [180.0]
    assert figures.seconds_per_shard == 120.0


def test_requests_of_a_servers_log_by_kind(tmp_path: Path) -> None:
    log = tmp_path / f"{uuid.uuid4().hex}.log"
    lines = [
        '"PUT /fleet/mill/ledger/segments/a.parquet HTTP/1.1" 200 -',
        '"GET /fleet/mill/plans/abc/shards/0001.json HTTP/1.1" 404 -',
        '"GET /fleet?list-type=2&prefix=mill%2Fledger HTTP/1.1" 200 -',
        "no request",
    ]
    log.write_text("\n".join(lines))
    assert requests_by_kind(str(log)) == {"PUT ledger": 1, "GET plans/shards": 1, "GET listing": 1}
    assert not requests_by_kind("")
