"""Prefect's share of the wall time: a build's shards with Prefect, and the same functions called without it.

10,240 calls against stub servers that reply after 50 ms, in four cases: the defaults of a recipe (32 samples a
question, 64 calls in flight, shards of 64 questions); a quarter of the samples, so four times as many shards; that
with four times as many calls in flight, where a small machine has no processor to spare, so that whatever Prefect
computes makes the run longer; and LongReward's four scorers with a stub judge (10 answers of 20 facts a question,
every fact judged), where each kind of call is a task of its own. The two ways take turns on fresh stores; the share
is what Prefect adds, divided by the whole.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from flows.bench.common import rounded, run_as_flow, stub_recipe, stub_server, write_questions
from infra.recipe import Execution, Sampling
from tasks.planning.make_plan import make_plan
from tasks.records.plan import Plan, load_shard
from tasks.records.shard import write_shard_result
from tasks.resources import RunResources, open_resources

CALLS, LATENCY_S = 10_240, 0.05
CASES: dict[str, tuple[int, int, dict[str, Any]]] = {  # samples and calls a question, the recipe's section `execution`
    "usual": (Sampling().samples, Sampling().samples, Execution().model_dump()),
    "few_samples": (8, 8, Execution().model_dump()),
    "few_samples_fast": (8, 8, {"concurrency": 256, "contexts_in_flight": 256, "shard_size": 256}),
    "judged": (10, 10 + 10 * (4 + 20) + 1, Execution().model_dump()),
}
DIMENSIONS = ("helpfulness", "logicality", "completeness", "faithfulness")


def measure(rounds: int = 5) -> dict[str, Any]:
    """Seconds with and without Prefect, and its share of the wall time (median of the rounds), by case."""
    latency = ("--latency", str(LATENCY_S))
    with (
        tempfile.TemporaryDirectory() as name,
        stub_server(*latency) as url,
        stub_server(*latency, module="stub_judge") as judge_url,
    ):
        folder = Path(name)
        fewest_calls = min(calls for _, calls, _ in CASES.values())
        write_questions(folder / "questions.jsonl", CALLS // fewest_calls, 4000)
        figures = {case: _shares(folder, url, judge_url, case, rounds) for case in CASES}
    return {"calls": CALLS, "latency_s": LATENCY_S, **figures}


def _shares(folder: Path, url: str, judge_url: str, case: str, rounds: int) -> dict[str, Any]:
    plain, with_prefect = [], []
    for number in range(-1, rounds):  # the first round warms up and is not counted
        plain.append(_seconds(folder, url, judge_url, case, f"plain-{number}", _run_plainly))
        with_prefect.append(_seconds(folder, url, judge_url, case, f"prefect-{number}", run_as_flow))
    plain, with_prefect = plain[1:], with_prefect[1:]
    shares = [1 - without / whole for without, whole in zip(plain, with_prefect, strict=True)]
    return {
        "samples": CASES[case][0],
        "concurrency": CASES[case][2]["concurrency"],
        "plain_s": rounded(plain, 2),
        "prefect_s": rounded(with_prefect, 2),
        "prefect_share_median": round(statistics.median(shares), 4),
    }


def _seconds(
    folder: Path, url: str, judge_url: str, case: str, name: str, work: Callable[[RunResources, Plan], None]
) -> float:
    """Seconds that `work` takes on a new store of that name."""
    samples, calls, execution = CASES[case]
    sections = {"execution": execution, "sampling": {"samples": samples}, "questions": {"limit": CALLS // calls}}
    if case == "judged":
        sections |= _judged_sections(url, judge_url)
    recipe = stub_recipe(folder, url, **sections)
    recipe = recipe.model_copy(update={"store": str(folder / f"{case}-{name}")})
    with open_resources(recipe) as resources:
        plan = make_plan(recipe, resources.store)
        clock = time.monotonic()
        work(resources, plan)
        return time.monotonic() - clock


def _judged_sections(url: str, judge_url: str) -> dict[str, Any]:
    """LongReward's scorers, each fact of each answer judged."""
    judge = {"name": "stub", "tokenizer": "microworld", "endpoints": [judge_url], "prompts": "terse"}
    scorers: list[dict[str, Any]] = [{"scorer": name} for name in DIMENSIONS]
    scorers[-1]["share_facts"] = False
    return {
        "judge": {**judge, "structured": "never"},
        "embedding": {"model": "stub", "endpoint": url},
        "scoring": {"scorers": scorers, "prune": False},
        "pairing": {"rule": "best_vs_worst"},
    }


def _run_plainly(resources: RunResources, plan: Plan) -> None:
    """Work on all shards of a plan without Prefect, as many at once as the flow does."""
    from flows.shard import sample_score_pair
    from tasks.shard_tasks import ShardInMemory

    def run_shard(index: int) -> None:
        examples, contexts = load_shard(resources.store, plan, index)
        shard = ShardInMemory(resources, plan, index, examples, contexts, _call_function)
        write_shard_result(resources.store, sample_score_pair(shard))

    with ThreadPoolExecutor(resources.recipe.execution.shards_in_flight) as pool:
        list(pool.map(run_shard, [shard.index for shard in plan.shards]))


def _call_function(prefect_task: Any, arguments: tuple[Any, ...], *_: Any) -> tuple[Any, bool]:
    """Call a task's function without Prefect: (its result, False because no cache was used)."""
    from prefect.utilities.annotations import quote

    plain = []
    for argument in arguments:
        plain.append(argument.unquote() if isinstance(argument, quote) else argument)
    return prefect_task.fn(*plain), False
