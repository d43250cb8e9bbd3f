"""Run some shards of a plan again, then publish; a verb, and a deployment to start from the UI.

The store has the recipe that a plan was last built with, so that the plan's id and the store are enough.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from prefect import flow

from flows.build import build, plan_tags
from flows.one_build import lease_of_plan
from flows.recipes import read_recipe
from infra.errors import InputError, StoreError, UsageError
from infra.recipe import Recipe, parse_recipe
from infra.running.run_page import name_run
from infra.running.server_away import run_when_server_answers
from infra.store import Store, open_store
from tasks.records.hint import default_store
from tasks.records.plan import load_plan, recipe_path, resolve_plan
from tasks.records.shard import ShardResult, discard_shard_result, missing_results, read_shard_results
from tasks.records.table import StoredTable

Step = Literal["sample", "score", "pair"]
ALL = "all"
_TAKEN_OVER: Mapping[Step, tuple[str, ...]] = {
    "sample": (),
    "score": ("answers",),
    "pair": ("answers", "judgements"),
}


@flow(name="rerun", flow_run_name="rerun of plan {plan_id}")
def rerun(
    plan_id: str,
    store: str = "",
    failed: bool = True,
    shards: str = "",
    from_step: Step = "sample",
    recipe: str = "",
    train: bool = True,
    retry_drops: bool = False,
    drop_failed: bool = False,
) -> dict[str, Any]:
    """Run the failed and missing shards of a plan, or those that `shards` names, then publish.

    No reply is paid for twice: what the ledger has is read there. Raises RecipeError for options that contradict one
    another.

    Args:
        plan_id: Plan to work on; the beginning of its id is enough.
        store: Folder or URL of the store that has the plan; empty for the recipe's, else LONGMILL_STORE, else mill.
        failed: Run the shards that failed or never ran. Where `shards` says which, these run instead.
        shards: Run these shards, done or not: numbers and ranges like 3,7-9, or all.
        from_step: Where finished ones of `shards` begin: score keeps their answers, pair their judgements too.
        recipe: Recipe for endpoints and limits, a file, URL or name; empty for the one that the plan was built with.
        train: Request the training of the published dataset, as a nightly build does.
        retry_drops: Ask again what servers refused, and run shards again that dropped questions for it.
        drop_failed: Give calls up that fail every time; their questions may be dropped.
    """
    _check_options(failed, shards, from_step, retry_drops)
    settings = recipe_for(plan_id, store, recipe)
    if drop_failed:
        execution = settings.execution.model_copy(update={"drop_failed": True})
        settings = settings.model_copy(update={"execution": execution})
    files = open_store(settings.store)
    plan = load_plan(files, resolve_plan(files, plan_id))
    name_run(f"rerun {settings.name} · {f'shards {shards}' if shards else 'failed shards'}", plan_tags(settings, plan))
    everywhere = retry_drops and not shards
    with lease_of_plan(files, plan, settings.execution.wait_s):  # results are discarded under no other build
        indices = None if everywhere else choose_shards(settings, plan.plan_id, shards, from_step)
        built: dict[str, Any] = run_when_server_answers(
            build, settings, plan_id=plan.plan_id, shards=indices, train=train, retry_drops=retry_drops
        )
    return built


def _check_options(failed: bool, shards: str, from_step: Step, retry_drops: bool) -> None:
    if not (failed or shards or retry_drops):
        raise UsageError("rerun: say --failed, or --shards 3,7-9 (or all), or --retry-drops")
    if from_step != "sample" and not shards:
        raise UsageError(
            f"rerun: --from {from_step} is for finished shards: say which, --shards 3,7-9 or all; a shard that has "
            "failed goes on where it stopped"
        )
    if from_step != "sample" and retry_drops:
        raise UsageError(f"rerun: --retry-drops asks for answers again, so it does not go with --from {from_step}")


def recipe_for(plan_id: str, store: str, recipe: str) -> Recipe:
    """The recipe to build a plan with, its store the one that the plan is in.

    `recipe` names it, else it is the one that the plan was last built with; `store` is the recipe's where it is not
    given. Raises InputError where the plan is not in the store, with the command that finds it.
    """
    settings = read_recipe(recipe) if recipe else None
    url = store or (settings.store if settings else default_store())
    files = open_store(url)
    try:
        whole_id = resolve_plan(files, plan_id)
    except InputError as error:
        if store or recipe:
            raise
        raise InputError(
            f"{error}. If the plan is in another store, name it: longmill rerun {plan_id} --failed --store "
            "s3://BUCKET/PREFIX, or --recipe FILE, whose store it is; or set LONGMILL_STORE"
        ) from error
    if settings is None:
        settings = _recipe_of_plan(files, whole_id)
    return settings.model_copy(update={"store": url})


def _recipe_of_plan(store: Store, plan_id: str) -> Recipe:
    path = recipe_path(plan_id)
    if not store.exists(path):
        raise InputError(
            f"{store.place(path)}: this plan was never built, so there is no recipe for it; give one with --recipe"
        )
    return parse_recipe(json.loads(store.read(path)), store.place(path))


def choose_shards(recipe: Recipe, plan_id: str, ranges: str, from_step: Step = "sample") -> list[int]:
    """Shards to run: those in `ranges`, whose results are discarded; without ranges, all that have no result.

    From `score` on, a finished one takes its answers over, from `pair` on its judgements too. Raises InputError when
    the plan lacks one of them, and StoreError for a table to be taken over that is missing or damaged.
    """
    store = open_store(recipe.store)
    plan = load_plan(store, resolve_plan(store, plan_id))
    planned = [shard.index for shard in plan.shards]
    if not ranges:
        return missing_results(store, plan.plan_id, planned)
    chosen = planned if ranges.strip() == ALL else parse_ranges(ranges)
    for index in chosen:
        if not 0 <= index < len(planned):
            raise InputError(f"--shards: plan {plan.plan_id} has shards 0 to {planned[-1]}; it has no {index}")
    taken_over: dict[int, dict[str, StoredTable]] = {}
    if from_step != "sample":
        for index, result in zip(chosen, read_shard_results(store, plan.plan_id, chosen), strict=True):
            taken_over[index] = _tables(store, result, from_step)
    for index in chosen:
        discard_shard_result(store, plan.plan_id, index, taken_over.get(index))
    return chosen


def _tables(store: Store, result: ShardResult | None, from_step: Step) -> dict[str, StoredTable]:
    """The tables that a shard takes over: none of one without a result. Raises StoreError for a damaged one."""
    tables: dict[str, StoredTable] = {}
    if result is None:
        return tables
    for name in _TAKEN_OVER[from_step]:
        table = result.files[name]
        try:
            table.check(store, remedy="")
        except StoreError as error:
            earlier = "sample" if name == "answers" else "score"
            raise StoreError(
                f"shard {result.shard} cannot begin with {from_step}: {str(error).rstrip('; ')}; say --from {earlier}"
            ) from error
        tables[name] = table
    return tables


def parse_ranges(text: str) -> list[int]:
    """Numbers of "3,7-9", ascending and once each. Raises InputError naming the part it cannot read."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low = int(first)
            high = int(last) if dash else low
        except ValueError:
            raise InputError(f"--shards: cannot read {part!r}; write numbers and ranges like 3,7-9, or all") from None
        if high < low:
            raise InputError(f"--shards: {part.strip()} runs backwards")
        numbers.update(range(low, high + 1))
    return sorted(numbers)
