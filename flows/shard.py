"""One shard of a plan: sample, score, pair, then the shard's result. Alone re-runnable.

A shard that fails leaves its error beside its place in the store, where `longmill status` reads it; what its
calls brought is in the ledger, so a re-run pays for the missing calls only.
"""

import contextlib
from dataclasses import asdict
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from infra import progress
from infra.errors import LongmillError, StoreError
from infra.orchestration import retry_settings
from infra.recipe import Recipe, parse_recipe
from tasks.plan import Plan, load_plan
from tasks.sampling import calls_per_example, sample_batches
from tasks.shard_result import ShardResult, read_shard_result, write_failure, write_shard_result
from tasks.shard_tasks import Reference, count_reused, pair, references_exist, sample, score, spend_finished
from tasks.workbench import Workbench, workbench

TASKS_AT_ONCE = 4  # micro-batches in flight: the next one's calls are ready when the last one's run out


@flow(
    name="shard",
    flow_run_name="shard {index:04d} of plan {plan_id}",
    task_runner=ThreadPoolTaskRunner(max_workers=TASKS_AT_ONCE),  # type: ignore[arg-type]
    validate_parameters=False,
)
def shard(recipe: dict[str, Any], plan_id: str, index: int) -> dict[str, Any]:
    """Work on one shard until its result is in the store; returns that result."""
    with workbench(parse_recipe(recipe)) as bench:
        plan = load_plan(bench.store, plan_id)
        done = read_shard_result(bench.store, plan_id, index)
        if done is None:
            try:
                with bench.shard(plan, index):
                    spend_finished(bench, plan)
                    done = _work(bench, plan, index)
            except LongmillError as error:
                with contextlib.suppress(StoreError):  # a store that is away is the error already
                    write_failure(bench.store, plan_id, index, error)
                raise
            write_shard_result(bench.store, done)
        else:
            count_reused(bench, asdict(done.files["answers"]))
            progress.advance("score", plan.shards[index].questions)
        return done.to_json()


def _work(bench: Workbench, plan: Plan, index: int) -> ShardResult:
    examples, _ = bench.shard_in_memory(plan.plan_id, index)
    again = retry_settings(bench.recipe.execution)
    place, key = (bench.name, plan.plan_id, index), f"{plan.plan_id}-{index}"
    answers = _sample_all(bench, plan.plan_id, index, again)
    scored = score.with_options(**again)(*place, answers, key)
    if not references_exist(bench, list(scored.values())):
        scored = score.with_options(refresh_cache=True, **again)(*place, answers, key)
    paired = pair.with_options(**again)(*place, scored, key)
    if not references_exist(bench, list(paired.values())):
        paired = pair.with_options(refresh_cache=True, **again)(*place, scored, key)
    return ShardResult.of(bench.store, plan.plan_id, index, len(examples), {**scored, **paired})


def _sample_all(bench: Workbench, plan_id: str, index: int, again: dict[str, Any]) -> list[Reference]:
    """Answers of the whole shard, micro-batch by micro-batch, several in flight."""
    examples, _ = bench.shard_in_memory(plan_id, index)
    calls = calls_per_example(bench.recipe)
    arguments = []
    start = 0
    for batch, some in enumerate(sample_batches(examples, calls, bench.recipe.execution.batch_calls)):
        stop = start + len(some)
        arguments.append((bench.name, plan_id, index, batch, start, stop, f"{plan_id}-{index}-{start}-{stop}"))
        start = stop
    futures = [sample.with_options(**again).submit(*each) for each in arguments]
    references: list[Reference] = [future.result() for future in futures]
    for position, (future, reference) in enumerate(zip(futures, references, strict=True)):
        if not references_exist(bench, [reference]):
            references[position] = sample.with_options(refresh_cache=True, **again)(*arguments[position])
        elif future.state.name == "Cached":
            count_reused(bench, reference)
    return references


def shard_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as flow parameters: JSON values alone, which the Prefect UI shows."""
    return recipe.model_dump(mode="json")
