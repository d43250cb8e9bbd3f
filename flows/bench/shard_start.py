"""What it costs to start a shard on a worker: processor seconds before its first call, and in all.

A Prefect server, a process worker and the stub model server; the worker's descendants
are measured from outside (/proc), when the stub gets its first request and when the build has ended.
"""

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from flows.bench.common import rounded, stub_recipe, stub_server, stub_stats, write_questions
from infra.recipe import Recipe
from infra.running.processes import ChildProcess

SHARDS, SHARD_SIZE = 8, 8
LATENCY_S = 3.0  # of each reply: long enough to look at the processes while the first calls are in flight


def measure(rounds: int = 3) -> dict[str, Any]:
    """Processor and clock seconds from the build's request to the first call of a shard, and in all, by round."""
    from flows.cli.deploying import register_all
    from infra.running.registration import Named

    figures: dict[str, list[float]] = {"before_first_call_cpu_s": [], "before_first_call_s": [], "one_shard_cpu_s": []}
    with tempfile.TemporaryDirectory() as name, stub_server("--latency", str(LATENCY_S)) as url:
        folder = Path(name)
        register_all(Named("longmill"), notify="")
        with _worker(folder) as worker:
            for number in range(-1, rounds):  # the first round warms up and is not counted
                cpu_s, clock_s, whole_s = _one_shard(folder / str(number), url, worker)
                if number >= 0:
                    figures["before_first_call_cpu_s"].append(cpu_s)
                    figures["before_first_call_s"].append(clock_s)
                    figures["one_shard_cpu_s"].append(whole_s)
            several_s = _several_shards(folder / "several", url, worker)
    rounds_figures = {figure: rounded(values, 2) for figure, values in figures.items()}
    return {**rounds_figures, "shards": SHARDS, "several_shards_cpu_s": round(several_s, 2)}


def _one_shard(folder: Path, url: str, worker: psutil.Process) -> tuple[float, float, float]:
    """Processor seconds before the first call, clock seconds until then, processor seconds in all, of one shard."""
    recipe = _recipe(folder, url, SHARD_SIZE)
    earlier = stub_stats(url)["requests"]
    seen: list[float] = []
    start, cpu_start = time.monotonic(), _spent(worker)

    def watch() -> None:
        while stub_stats(url)["requests"] == earlier:
            time.sleep(0.02)
        seen.extend((_spent(worker) - cpu_start, time.monotonic() - start))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    _build(recipe)
    watcher.join(60)
    return seen[0], seen[1], _spent(worker) - cpu_start


def _several_shards(folder: Path, url: str, worker: psutil.Process) -> float:
    """Processor seconds of all flow runs of a build of several shards."""
    recipe = _recipe(folder, url, SHARD_SIZE * SHARDS)
    cpu_start = _spent(worker)
    _build(recipe)
    return _spent(worker) - cpu_start


def _recipe(folder: Path, url: str, questions: int) -> Recipe:
    folder.mkdir()
    write_questions(folder / "questions.jsonl", questions, 4000)
    execution = {"shard_deployment": "shard/longmill-shard", "shard_size": SHARD_SIZE, "concurrency": 64}
    return stub_recipe(folder, url, execution=execution)


def _build(recipe: Recipe) -> None:
    from flows.build import build

    build(recipe)


def _spent(worker: psutil.Process) -> float:
    """Processor seconds of all processes that the worker has started, without its own."""
    ended = worker.cpu_times()
    seconds = ended.children_user + ended.children_system
    for process in worker.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return float(seconds)


@contextlib.contextmanager
def _worker(folder: Path) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "longmill", "--work-queue", "default"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PREFECT_WORKER_QUERY_SECONDS": "1", "PATH": path}
    with ChildProcess(command, log=folder / "worker.log", env=environment, cwd=folder):
        while True:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "worker" in process.cmdline() and "-I" not in process.cmdline():
                        yield process
                        return
            time.sleep(0.1)
