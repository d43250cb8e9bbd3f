"""What Longmill measures of itself: `longmill bench`. Each module has `measure() -> figures`."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.bench.machine import machine
from infra.errors import RecipeError


def run_benchmarks(name: str) -> dict[str, Any]:
    """Run one benchmark, or "all"; figures by name, and the machine that they were measured on.

    Starts a Prefect server, as the command line does. Raises RecipeError when there is no benchmark of that name.
    """
    from infra.running.prefect import local_server

    measures = benchmarks()
    if name != "all" and name not in measures:
        raise RecipeError(f"there is no benchmark {name!r}; there are: all, {', '.join(measures)}")
    figures: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder, local_server(Path(folder)):
        for benchmark, measure in measures.items():
            if name in ("all", benchmark):
                figures[benchmark] = measure()
    return figures


def benchmarks() -> dict[str, Callable[[], dict[str, Any]]]:
    """The benchmarks' functions by name. Prefect is imported inside them, after its server has started."""
    from flows.bench import (
        asking,
        client,
        consensus,
        fleet,
        judging,
        kill,
        ledger_keys,
        memory,
        planning,
        prefect_share,
        publishing,
        reward,
        shard_start,
        status,
        suite_judging,
        training,
        verifying,
        vllm_flow,
    )

    return {
        "client": client.measure,
        "flow": vllm_flow.measure,
        "prefect": prefect_share.measure,
        "judging": judging.measure,
        "suite_judging": suite_judging.measure,
        "consensus": consensus.measure,
        "kill": kill.measure,
        "memory": memory.measure,
        "plan": planning.measure,
        "publish": publishing.measure,
        "ledger": ledger_keys.measure,
        "shard_start": shard_start.measure,
        "fleet": fleet.measure,
        "status": status.measure,
        "training": training.measure,
        "reward": reward.measure,
        "ask": asking.measure,
        "verifying": verifying.measure,
    }
