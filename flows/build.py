"""Build a dataset: plan, run every shard, publish. Then the training run is requested.

The dataset has pairs of answers to questions; of a recipe with documents, questions about them (`flows/ask.py`).

A shard that fails leaves the others running; the dataset is published when all shards have a result. With
`execution.shard_deployment` the shards run as that deployment's flow runs on whatever workers serve it, else
in this process.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.early import check_windows
from flows.one_build import lease_of_plan
from flows.planning import planning_elsewhere
from flows.reports import BuildReport
from flows.shard import shard_recipe
from flows.shards import raise_failures, run_here
from infra.models.api_key import check_api_keys
from infra.recipe import Recipe, parse_recipe
from infra.running import progress
from infra.running.prefect import live
from infra.running.run_page import announce, name_run, run_log, said_in_log
from infra.running.telemetry import span
from infra.serving.servers import restart_counts, restarts_since, start_servers
from infra.store import Store, open_store
from infra.store.lease import Lease
from tasks.asking.planning import make_asking_plan
from tasks.asking.recipes import asking_half, product_of
from tasks.late_servers import servers_may_wait
from tasks.planning.embedding_fit import embedding_fit
from tasks.planning.make_plan import make_plan
from tasks.planning.references import count_references
from tasks.planning.rules import as_planned
from tasks.publish_tasks import publish_dataset
from tasks.records.plan import Plan, load_plan, recipe_path, resolve_plan
from tasks.records.product import PAIRS, QUESTIONS
from tasks.records.shard import finished_results, missing_results, unfinished_shards
from tasks.reporting.bill import bill_view
from tasks.reporting.run_summary import build_summary
from tasks.resources import RunResources, open_resources
from tasks.sampling import calls_per_example
from tasks.scoring import check_scorers, embeds_texts
from tasks.yield_gate import check_reading

TRAIN_DEPLOYMENT = "train/longmill-train"
CUT_PLAN = (
    "this plan cuts texts that are longer than the window of its embedding model, as plans did before "
    "embedding.long_texts; a new plan, with embedding.long_texts: windows, sees them whole and pays for no answer again"
)


@task(name="plan", task_run_name="plan {name}", cache_policy=NO_CACHE)
def plan_questions(recipe: Recipe, name: str) -> str:
    """Read the questions, build the contexts, count the tokens; returns the plan's id."""
    store = open_store(recipe.store)
    if product_of(recipe) == QUESTIONS:
        return make_asking_plan(recipe, store).plan_id
    plan = make_plan(recipe, store, elsewhere=planning_elsewhere(recipe, store))
    fit = embedding_fit(store, plan, recipe)
    for note in (count_references(store, plan).note, fit.note if fit else ""):
        if note:
            run_log().warning(note)
    return plan.plan_id


def build_run_name() -> str:
    """The name of a build's flow run."""
    recipe = flow_run.parameters["recipe"]
    return f"build {recipe.name if isinstance(recipe, Recipe) else recipe['name']}"


@flow(name="build", flow_run_name=build_run_name, validate_parameters=False)
def build(
    recipe: dict[str, Any] | Recipe,
    plan_id: str | None = None,
    shards: Sequence[int] | None = None,
    train: bool = False,
    retry_drops: bool = False,
) -> dict[str, Any]:
    """Build the recipe's dataset; of a recipe with documents, that of its questions.

    With `plan_id` an existing plan is worked on; with `shards` only those of its shards; with `retry_drops` refused
    calls are made again, and finished shards that dropped questions for them are run again. Returns the plan's id,
    the published dataset (null while shards are missing), the calls made, how often servers were started again, the
    seconds by stage, the bill beside the plan's estimate (`bill`), and, if anything, what
    servers refused in the form of requests (`settled`). Raises YieldError when too many questions gave no pair: nothing
    is published then. With `train` the training deployment is started for the manifest, once per manifest.
    """
    given = as_recipe(recipe)
    if given.documents is not None:
        given = asking_half(given)
    with said_in_log():
        return _build(given, plan_id, shards, train=train, retry_drops=retry_drops)


def _build(
    given: Recipe, plan_id: str | None, shards: Sequence[int] | None, *, train: bool, retry_drops: bool
) -> dict[str, Any]:
    log = run_log()
    with (
        planned(given, plan_id) as (settings, plan_id, seconds, lease),
        open_resources(settings, retry_drops) as resources,
        lease.calling_when_lost(resources.stop),
    ):
        plan = load_plan(resources.store, plan_id)
        keep_recipe(resources.store, plan_id, settings)
        restarts = restart_counts(settings)
        clock = time.monotonic()
        indices = [shard.index for shard in plan.shards] if shards is None else list(shards)
        unscored = missing_results(resources.store, plan_id, indices)
        report = BuildReport(resources, plan, unscored, lease)
        whole = span("build", plan=plan_id, recipe=settings.name, questions=plan.planned_questions)
        with tags(*_name_this_run(settings, plan)), whole, report.written():
            run_shards(resources, plan, indices)
            seconds["shards"] = time.monotonic() - clock
            clock = time.monotonic()
            dataset = None
            results = finished_results(resources.store, plan_id, len(plan.shards))
            if len(results) == len(plan.shards):
                lease.check()
                dataset = publish_dataset(resources, plan, results)
                report.published(settings.dataset.name, dataset)
                for note in filter(None, (dataset["yield"]["smaller"], dataset["yield"]["warning"])):
                    log.warning(note)
        seconds["publish"] = time.monotonic() - clock
        built: dict[str, Any] = {
            "plan_id": plan_id,
            "dataset": dataset,
            "calls": {kind: asdict(counts) for kind, counts in resources.counts().items()},
            "calls_by_model": resources.counts_by_model(),
            "restarts": restarts_since(restarts, settings),
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        }
        if settled := resources.settled():
            built["settled"] = settled
        built["bill"] = bill_view(plan, settings, resources.store, built["calls_by_model"], indices, unscored)
        for warning in built["bill"]["warnings"]:
            log.warning(warning)
        announce(f"build-{plan_id}", build_summary(built, resources.store, settings.name))
    if train and dataset and settings.training is not None:
        state = request_training(shard_recipe(given), dataset)
        log.info(f"training requested: {state}" if state else f"no training: there is no deployment {TRAIN_DEPLOYMENT}")
    return built


def recipe_tags(recipe: Recipe) -> list[str]:
    """The tags of a recipe's flow runs."""
    return [f"recipe:{recipe.name}", f"dataset:{recipe.dataset.name}"]


def plan_tags(recipe: Recipe, plan: Plan) -> list[str]:
    """The tags of flow runs that work on a plan."""
    return [*recipe_tags(recipe), f"plan:{plan.plan_id}"]


def _name_this_run(recipe: Recipe, plan: Plan) -> list[str]:
    """Name and tag the flow run for the UI, now that its size is known; returns the tags, which its parts get too."""
    own_tags = plan_tags(recipe, plan)
    name_run(f"build {recipe.name} · {plan.planned_questions:,} questions", own_tags)
    return own_tags


@contextlib.contextmanager
def planned(recipe: Recipe, plan_id: str | None = None) -> Iterator[tuple[Recipe, str, dict[str, float], Lease]]:
    """The recipe with endpoints, its plan's id, the seconds that each took, and the lease of the plan.

    The servers start while the questions are read, so bad input is found before anything is called, and respond when
    this yields. Where the dataset is published and all shards have a result, each starts at the first call that is not
    in the ledger. While another build works on the plan, this one waits, without its servers.
    """
    seconds: dict[str, float] = {}
    clock = time.monotonic()
    check_scorers(recipe)
    check_api_keys(recipe)
    if recipe.execution.shard_deployment is not None:
        from flows.reach import check_workers_reach

        check_workers_reach(recipe)
    with contextlib.ExitStack() as leases, contextlib.ExitStack() as servers:  # who waits needs the servers' GPUs
        store = open_store(recipe.store)
        waiting = servers_may_wait(store, recipe)
        own = servers.enter_context(start_servers(recipe, waiting=waiting))
        whole_id = resolve_plan(store, plan_id) if plan_id else plan_questions(live(recipe), recipe.name)
        plan = load_plan(store, whole_id)
        check_reading(store, plan, recipe.execution)
        seconds["plan"] = time.monotonic() - clock
        lease = leases.enter_context(lease_of_plan(store, plan, recipe.execution.wait_s, before_wait=servers.close))
        if lease.waited_s:
            seconds["wait"] = lease.waited_s
            waiting = servers_may_wait(store, recipe)
            own = servers.enter_context(start_servers(recipe, waiting=waiting))
        needed = not waiting or unfinished_shards(store, plan)
        settings = own.wait_until_ready() if needed else own.with_endpoints()
        if plan.product == PAIRS:
            settings = as_planned(settings, plan)
            check_windows(settings, plan, store)
            if settings.embedding.long_texts == "cut" and embeds_texts(settings):
                run_log().warning(CUT_PLAN)
        seconds["serve"] = time.monotonic() - clock - seconds["plan"] - seconds.get("wait", 0.0)
        yield settings, whole_id, seconds, lease


def run_shards(resources: RunResources, plan: Plan, indices: Sequence[int]) -> None:
    """Run shards, some at once; raises when the last has ended and some have failed.

    A spent budget, a server that refuses, too many drops, a ledger out of reach, or a signal, stops the shards that
    have not started. Raises one of STOPPED, or LongmillError naming the failed shards and how to run them again.
    """
    chosen = set(indices)
    questions = sum(shard.questions for shard in plan.shards if shard.index in chosen)
    if plan.product == PAIRS:
        progress.expect("sample", questions * calls_per_example(resources.recipe))
    progress.expect(plan.product.stage, questions)
    if resources.recipe.execution.shard_deployment is None:
        failures = run_here(resources, plan, indices)
    else:
        from flows.workers import run_on_workers

        failures = run_on_workers(resources, plan, indices)
    raise_failures(resources.store, plan, indices, failures)


def request_training(recipe: dict[str, Any], dataset: dict[str, Any]) -> str | None:
    """Start the training deployment for a published manifest, once per manifest.

    Returns the state of the manifest's training run, new or old; None where the deployment does not exist.
    """
    from infra.running.remote_runs import request_run

    parameters = {"recipe": recipe, "manifest": dataset["manifest"]}
    return request_run(TRAIN_DEPLOYMENT, parameters, f"train-{dataset['sha256']}")


def as_recipe(recipe: dict[str, Any] | Recipe) -> Recipe:
    """A recipe that came as a flow's parameter: parsed here, or live from another flow of this process."""
    return recipe if isinstance(recipe, Recipe) else parse_recipe(recipe)


def keep_recipe(store: Store, plan_id: str, recipe: Recipe) -> None:
    """Keep the recipe that a plan is built with; without the endpoints of servers that end with the run."""
    without_endpoints = {}
    for section, model in recipe.models().items():
        if model.starts_here():
            without_endpoints[section] = model.model_copy(update={"endpoints": ()})
    execution = recipe.execution.model_copy(update={"drop_failed": False})  # that was said for one run
    lasting = recipe.model_copy(update={**without_endpoints, "execution": execution})
    store.write(recipe_path(plan_id), json.dumps(lasting.model_dump(mode="json"), indent=2).encode())
