"""What Longmill measures of itself: `longmill bench`. Each module has `measure() -> figures`."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.bench.machine import machine
from infra.errors import RecipeError
from infra.running.prefect import local_server


def run_benchmarks(what: str) -> dict[str, Any]:
    """Run one benchmark, or all; figures by name, with the machine they were measured on.

    With a Prefect server of their own, as the command line starts one.
    """
    known = _benchmarks()
    if what != "all" and what not in known:
        raise RecipeError(f"there is no benchmark {what!r}; there are: all, {', '.join(known)}")
    with tempfile.TemporaryDirectory() as folder, local_server(Path(folder)):
        return {"machine": machine(), **{name: known[name]() for name in known if what in ("all", name)}}


def _benchmarks() -> dict[str, Callable[[], dict[str, Any]]]:
    from flows.bench import client, judging, kill, memory, prefect_share, training, vllm_flow

    return {
        "client": client.measure,
        "flow": vllm_flow.measure,
        "prefect": prefect_share.measure,
        "judging": judging.measure,
        "kill": kill.measure,
        "memory": memory.measure,
        "training": training.measure,
    }
