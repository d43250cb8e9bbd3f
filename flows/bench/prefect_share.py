"""Prefect's share of the wall time: a build's shards with Prefect, and the same functions called plainly.

10,240 calls against a stub server that answers after 50 ms, at three paces: a recipe's own settings (32 samples a
question, 64 calls in flight, shards of 64 questions); a quarter of the samples, so four times as many shards; and
that with four times as many calls in flight, where a small machine has no processor to spare and whatever Prefect
computes comes on top. Plain and Prefect take turns on fresh stores; the share is what Prefect adds, divided by the
whole. A table of figures by pace.
"""

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prefect.utilities.annotations import quote

from flows.bench.common import run_as_flow, stub_recipe, stub_server, write_questions
from flows.shard import sample_score_pair
from infra.recipe import Execution, Sampling
from tasks.planning.planning import make_plan
from tasks.records.plan import Plan, load_shard
from tasks.records.shard import write_shard_result
from tasks.resources import RunResources, open_resources
from tasks.shard_tasks import ShardInMemory

CALLS, LATENCY_S = 10_240, 0.05
PACES: dict[str, tuple[int, dict[str, Any]]] = {  # samples a question, and how the work runs
    "usual": (Sampling().samples, Execution().model_dump()),
    "few_samples": (8, Execution().model_dump()),
    "few_samples_fast": (8, {"concurrency": 256, "contexts_in_flight": 256, "shard_size": 256}),
}


def measure(rounds: int = 5) -> dict[str, Any]:
    """Seconds with and without Prefect, and its share of the wall time (median of the rounds), by pace."""
    with tempfile.TemporaryDirectory() as name, stub_server("--latency", str(LATENCY_S)) as url:
        folder = Path(name)
        write_questions(folder / "questions.jsonl", CALLS // min(samples for samples, _ in PACES.values()), 4000)
        figures = {pace: _shares(folder, url, pace, rounds) for pace in PACES}
    return {"calls": CALLS, "latency_s": LATENCY_S, **figures}


def _shares(folder: Path, url: str, pace: str, rounds: int) -> dict[str, Any]:
    plain, with_prefect = [], []
    for number in range(-1, rounds):  # the first round warms up and is not counted
        plain.append(_one(folder, url, pace, f"plain-{number}", _run_plainly))
        with_prefect.append(_one(folder, url, pace, f"prefect-{number}", run_as_flow))
    share = [1 - without / whole for without, whole in zip(plain[1:], with_prefect[1:], strict=True)]
    return {
        "samples": PACES[pace][0],
        "concurrency": PACES[pace][1]["concurrency"],
        "plain_s": [round(value, 2) for value in plain[1:]],
        "prefect_s": [round(value, 2) for value in with_prefect[1:]],
        "prefect_share_median": round(statistics.median(share), 4),
    }


def _one(folder: Path, url: str, pace: str, name: str, work: Any) -> float:
    samples, execution = PACES[pace]
    limit = {"limit": CALLS // samples}
    recipe = stub_recipe(folder, url, execution=execution, sampling={"samples": samples}, questions=limit)
    recipe = recipe.model_copy(update={"store": str(folder / f"{pace}-{name}")})
    with open_resources(recipe) as bench:
        plan = make_plan(recipe, bench.store)
        clock = time.monotonic()
        work(bench, plan)
        return time.monotonic() - clock


def _run_plainly_task(prefect_task: Any, arguments: tuple[Any, ...], *_: Any) -> tuple[Any, bool]:
    """The task's function, called without Prefect."""
    plain = [argument.unquote() if isinstance(argument, quote) else argument for argument in arguments]
    return prefect_task.fn(*plain), False


def _run_plainly(resources: RunResources, plan: Plan) -> None:
    """What the shards' flow runs do, without Prefect: the tasks' functions are called as they are."""

    def work(index: int) -> None:
        examples, contexts = load_shard(resources.store, plan, index)
        shard = ShardInMemory(resources, plan, index, examples, contexts, _run_plainly_task)
        write_shard_result(resources.store, sample_score_pair(shard))

    with ThreadPoolExecutor(resources.recipe.execution.shards_in_flight) as pool:
        list(pool.map(work, [planned.index for planned in plan.shards]))
