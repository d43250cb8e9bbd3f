"""Build a dataset: plan, run every shard, publish. Then the training run is requested.

A shard that fails leaves the others running; the dataset is published when all shards have a result. With
`execution.shard_deployment` the shards run as that deployment's flow runs on whatever workers serve it, else
in this process.
"""

import contextlib
import contextvars
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from prefect import flow, task
from prefect.runtime import flow_run

from flows.recipes import read_recipe
from flows.shard import shard, shard_recipe
from infra.errors import BudgetReached, LedgerError, LongmillError, RecipeError
from infra.models.serving import launched
from infra.recipe import Recipe, parse_recipe
from infra.running import progress
from infra.running.prefect import announce, in_turn, run_elsewhere, without_heartbeats
from infra.store import Store, open_store
from tasks.planning.make_plan import make_plan
from tasks.publishing import publish
from tasks.records.plan import Plan, load_plan, resolve_plan
from tasks.records.shard import ShardResult, forget_failure, read_failure, read_shard_result
from tasks.reporting.tables import build_table
from tasks.resources import RunResources, bench_named, open_resources
from tasks.sampling import calls_per_example
from tasks.scoring import check_scorers

TRAIN_DEPLOYMENT = "train/longmill-train"
HOPELESS = (BudgetReached, LedgerError)  # what fails one shard so will fail the next one too
SHARD_WAIT_S = 7 * 86_400  # for a shard on another worker, its time in the queue included


@task(name="plan", task_run_name="plan {recipe[name]}")
def plan_questions(recipe: dict[str, Any]) -> str:
    """Read the questions, build the contexts, count the tokens; returns the plan's id."""
    settings = parse_recipe(recipe)
    return make_plan(settings, open_store(settings.store)).plan_id


@task(name="publish", task_run_name="publish {name}")
def publish_dataset(bench: str, plan_id: str, name: str) -> dict[str, Any]:
    """Write the dataset of a plan whose shards all have results; the manifest comes last. Never cached."""
    work = bench_named(bench)
    plan = load_plan(work.store, plan_id)
    results = [found for each in plan.shards if (found := read_shard_result(work.store, plan_id, each.index))]
    published: dict[str, Any] = publish(plan, results, work.recipe, work.store).to_json()
    return published


@flow(name="build", flow_run_name="build {recipe[name]}", validate_parameters=False)
def build(
    recipe: dict[str, Any], plan_id: str | None = None, shards: Sequence[int] | None = None, train: bool = False
) -> dict[str, Any]:
    """Build the recipe's dataset.

    With `plan_id` an existing plan is worked on; with `shards` only those of its shards. Returns the plan's id,
    the published dataset (null while shards are missing), the calls made and the seconds by stage. With `train`
    the training deployment is started for the manifest, once per manifest.
    """
    with planned(parse_recipe(recipe), plan_id) as (settings, plan_id, seconds), open_resources(settings) as bench:
        plan = load_plan(bench.store, plan_id)
        keep_recipe(bench.store, plan_id, settings)
        clock = time.monotonic()
        run_shards(bench, plan, [each.index for each in plan.shards] if shards is None else list(shards))
        seconds["shards"] = time.monotonic() - clock
        clock = time.monotonic()
        dataset = None
        if all(read_shard_result(bench.store, plan_id, each.index) for each in plan.shards):
            dataset = publish_dataset(bench.name, plan_id, settings.dataset.name)
        seconds["publish"] = time.monotonic() - clock
        built = {
            "plan_id": plan_id,
            "dataset": dataset,
            "calls": {kind: asdict(counts) for kind, counts in bench.counts().items()},
            "calls_by_model": bench.counts_by_model(),
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        }
    announce(f"build-{plan_id}", build_table(built))
    if train and dataset and settings.training is not None:
        request_training(recipe, dataset)
    return built


@contextlib.contextmanager
def planned(recipe: Recipe, plan_id: str | None = None) -> Iterator[tuple[Recipe, str, dict[str, float]]]:
    """The recipe with endpoints that answer, its plan's id, and the seconds that each took.

    The server starts while the questions are read, so bad input is found before anything is called.
    """
    seconds: dict[str, float] = {}
    clock = time.monotonic()
    check_scorers(recipe)
    with launched(recipe) as ready:
        found = resolve_plan(open_store(recipe.store), plan_id) if plan_id else plan_questions(shard_recipe(recipe))
        seconds["plan"] = time.monotonic() - clock
        settings = ready()
        seconds["serve"] = time.monotonic() - clock - seconds["plan"]
        yield settings, found, seconds


def run_shards(bench: RunResources, plan: Plan, indices: Sequence[int]) -> None:
    """Run shards, some at once; raises when the last has ended and some have failed.

    A spent budget, or a ledger out of reach, stops the shards that have not started. Raises BudgetReached, or
    LongmillError naming the failed shards and how to run them again.
    """
    calls = calls_per_example(bench.recipe)
    questions = sum(each.questions for each in plan.shards if each.index in set(indices))
    progress.expect("sample", questions * calls)
    progress.expect("score", questions)
    failures: dict[int, BaseException] = {}
    here = in_turn(shard)

    def run_one(index: int) -> None:
        if not any(isinstance(error, HOPELESS) for error in failures.values()):
            try:
                _run_shard(bench, plan, index, here)
            except Exception as error:
                failures[index] = error

    execution = bench.recipe.execution
    # Here, one more is begun ahead and waits for its turn at the workbench, so that the calls do not run out.
    pool = ThreadPoolExecutor(execution.shards_in_flight + int(execution.shard_deployment is None))
    try:
        with without_heartbeats():  # those of this flow run are the process's
            # Each shard's flow run needs a context of its own to become a child of this one.
            for future in [pool.submit(contextvars.copy_context().run, run_one, index) for index in indices]:
                future.result()
    except BaseException:  # an interruption: the calls in flight get a moment to be recorded, no other starts
        pool.shutdown(wait=False, cancel_futures=True)
        bench.hang_up()
        raise
    pool.shutdown()
    for error in failures.values():
        if isinstance(error, BudgetReached):
            raise error
    if failures:
        first = failures[min(failures)]
        names = ", ".join(map(str, sorted(failures)))
        raise LongmillError(
            f"{len(failures)} of {len(indices)} shards failed ({names}); the first says: {first} "
            f"What was paid for is kept. Run them again with: longmill rerun {plan.plan_id} --failed"
        ) from first


def _run_shard(bench: RunResources, plan: Plan, index: int, here: Callable[..., Any]) -> ShardResult:
    parameters: dict[str, Any] = {"recipe": shard_recipe(bench.recipe), "plan_id": plan.plan_id, "index": index}
    deployment = bench.recipe.execution.shard_deployment
    if deployment is None:
        here(**parameters)
    else:
        # Once per build: a build that Prefect tries again finds the shard's run, a new build starts a new one.
        key = f"{plan.plan_id}-{index}-{flow_run.id}"
        forget_failure(bench.store, plan.plan_id, index)
        state = run_elsewhere(deployment, parameters, key, timeout_s=SHARD_WAIT_S)
        if state is None:
            raise RecipeError(f"execution.shard_deployment: there is no deployment {deployment!r}; see prefect.yaml")
        _refuse_unfinished(bench.store, plan.plan_id, index, state)
    result = read_shard_result(bench.store, plan.plan_id, index)
    assert result is not None  # `shard` and `_refuse_unfinished` see to it
    return result


def _refuse_unfinished(store: Store, plan_id: str, index: int, state: str) -> None:
    """Raise what kept a shard that ran elsewhere from its result: the error it left, or its flow run's state."""
    if read_shard_result(store, plan_id, index) is not None:
        return
    if said := read_failure(store, plan_id, index):
        raise (BudgetReached if said.startswith("BudgetReached: ") else LongmillError)(f"shard {index}: {said}")
    raise LongmillError(
        f"shard {index} has no result and its flow run is {state}; the Prefect UI says why, "
        "or a worker for its work pool is missing"
    )


def request_training(recipe: dict[str, Any], dataset: dict[str, Any]) -> str | None:
    """Start the training deployment for a published manifest, once per manifest.

    Returns the state of the manifest's training run, new or old; None where the deployment does not exist.
    """
    parameters = {"recipe": recipe, "manifest": dataset["manifest"]}
    return run_elsewhere(TRAIN_DEPLOYMENT, parameters, f"train-{dataset['sha256']}", timeout_s=0)


@flow(name="nightly", flow_run_name="nightly {recipe}")
def nightly(recipe: str, changes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Build from a recipe file and request the training: what the schedule runs."""
    return build(shard_recipe(read_recipe(recipe, changes)), train=True)


def keep_recipe(store: Store, plan_id: str, recipe: Recipe) -> None:
    """Keep the recipe that a plan is built with; without the endpoints of servers that end with the run."""
    kept = recipe.model_copy(
        update={
            section: model.model_copy(update={"endpoints": ()})
            for section, model in recipe.models().items()
            if model.starts_here()
        }
    )
    store.write(recipe_path(plan_id), json.dumps(kept.model_dump(mode="json"), indent=2).encode())


def recipe_path(plan_id: str) -> str:
    """Where the recipe of a plan lies in the store."""
    return f"plans/{plan_id}/recipe.json"
