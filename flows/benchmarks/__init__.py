"""What Longmill measures of itself: `longmill bench`. Each module has `measure() -> figures`."""

from collections.abc import Callable
from typing import Any

from infra.errors import RecipeError


def run_benchmarks(what: str) -> dict[str, Any]:
    """Run one benchmark, or all; figures by name, with the machine they were measured on."""
    known = _benchmarks()
    if what != "all" and what not in known:
        raise RecipeError(f"there is no benchmark {what!r}; there are: all, {', '.join(known)}")
    return {"machine": _machine(), **{name: known[name]() for name in known if what in ("all", name)}}


def _benchmarks() -> dict[str, Callable[[], dict[str, Any]]]:
    from flows.benchmarks import client, kill, memory, prefect_share, vllm_flow

    return {
        "client": client.measure,
        "flow": vllm_flow.measure,
        "prefect": prefect_share.measure,
        "kill": kill.measure,
        "memory": memory.measure,
    }


def _machine() -> dict[str, Any]:
    import os
    import platform
    from pathlib import Path

    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = names[0].partition(":")[2].strip() if names else platform.machine()
    return {"processor": model, "cores": os.cpu_count(), "python": platform.python_version()}
