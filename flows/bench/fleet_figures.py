"""Figures of a fleet: from the flow runs that the Prefect server knows, and from the log of the store's server."""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.bench.fleet_workers import Kill

_REQUEST = re.compile(r'"(GET|PUT|HEAD|POST|DELETE) /[^/ ?]*/?([^ "]*) HTTP')


@dataclass(frozen=True)
class RunFigures:
    """Runs of shards, and what kills have cost."""

    runs: int
    lost_runs: int  # that the server knows as crashed
    median_run_s: float  # from start to end, of those that were completed
    seconds_per_shard: float  # of a worker: the time of completed runs by their shards
    lost_s: list[float]  # from each kill until another run of its first unfinished shard began

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def run_figures(flow_runs: Iterable[dict[str, Any]], kills: Sequence[Kill]) -> RunFigures:
    """The figures of flow runs as the server's API gives them."""
    runs = [run for run in flow_runs if "indices" in run["parameters"]]  # a shard beside others is a run of its own too
    completed = [run for run in runs if run["state_type"] == "COMPLETED"]
    crashed = [run for run in runs if run["state_type"] == "CRASHED"]
    seconds = [_time(run["end_time"]) - _time(run["start_time"]) for run in completed]
    shards = sum(len(run["parameters"]["indices"]) for run in completed)
    lost = []
    for kill in kills:
        takers = []
        for run in crashed:
            # Of a run that was killed before it said so, the server knows no earlier beginning than its end.
            if not _time(run["created"]) <= kill.time <= _time(run["end_time"]) + 1:
                continue
            for other in completed:
                begun = _time(other["start_time"])
                if begun > kill.time and set(other["parameters"]["indices"]) & set(run["parameters"]["indices"]):
                    takers.append(begun - kill.time)
        if takers:
            lost.append(round(min(takers), 1))
    return RunFigures(
        runs=len(runs),
        lost_runs=len(crashed),
        median_run_s=round(statistics.median(seconds), 1),
        seconds_per_shard=round(sum(seconds) / shards, 2),
        lost_s=lost,
    )


def requests_by_kind(log: str) -> Counter[str]:
    """Requests by method and the kind of their object, from the lines of a server's log; empty without a log."""
    counts: Counter[str] = Counter()
    if not log:
        return counts
    with Path(log).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            match = _REQUEST.search(line)
            if match:
                method, path = match.groups()
                counts[f"{method} {_kind(path)}"] += 1
    return counts


def _kind(path: str) -> str:
    """What a path is about: its folder in the store; a plan's runs, shards and rows apart."""
    if path.startswith("?") or "list-type" in path:
        return "listing"
    parts = path.partition("?")[0].split("/")[1:]  # without the store's prefix
    if parts and parts[0] == "plans" and len(parts) > 3:
        return f"plans/{parts[2]}"
    return parts[0] if parts else "bucket"


def _time(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
