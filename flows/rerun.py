"""Run some shards of a plan again, then publish; a verb, and a deployment to start from the UI.

The store has the recipe that a plan was last built with, so that the plan's id is enough.
"""

import json
from typing import Any

from prefect import flow

from flows.build import build, recipe_path
from flows.one_build import lease_of_plan
from flows.recipes import read_recipe
from infra.errors import InputError
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tasks.records.plan import load_plan, resolve_plan
from tasks.records.shard import discard_shard_result, missing_results


@flow(name="rerun", flow_run_name="rerun of plan {plan_id}")
def rerun(
    plan_id: str,
    store: str = "mill",
    failed: bool = True,
    shards: str = "",
    recipe: str = "",
    train: bool = True,
    retry_drops: bool = False,
    drop_failed: bool = False,
) -> dict[str, Any]:
    """Run the failed and missing shards of a plan (or those that `shards` names, like "3,7-9"), then publish.

    With `retry_drops` calls that servers have refused are made again: in those of `shards`, else in all shards, of
    which the finished ones are run again where they dropped questions for them. Other calls come from the ledger.
    With `drop_failed` calls that fail all their attempts are given up, and do not fail their shard.
    `recipe` is a recipe file to take endpoints and limits from; without it, the one the plan was built with.
    """
    settings = read_recipe(recipe) if recipe else recipe_of_plan(store, plan_id)
    if drop_failed:
        execution = settings.execution.model_copy(update={"drop_failed": True})
        settings = settings.model_copy(update={"execution": execution})
    files = open_store(settings.store)
    plan = load_plan(files, resolve_plan(files, plan_id))
    everywhere = retry_drops and not shards
    with lease_of_plan(files, plan, settings.execution.wait_s):  # results are discarded under no other build
        indices = None if everywhere else choose_shards(settings, plan_id, shards)
        built: dict[str, Any] = build(settings, plan_id=plan_id, shards=indices, train=train, retry_drops=retry_drops)
    return built


def recipe_of_plan(store: str, plan_id: str) -> Recipe:
    """The recipe that a plan was last built with. Raises InputError when there is none."""
    files = open_store(store)
    path = recipe_path(resolve_plan(files, plan_id))
    if not files.exists(path):
        raise InputError(f"{files.place(path)}: no recipe is kept with this plan; give one with --recipe")
    return parse_recipe(json.loads(files.read(path)), files.place(path))


def choose_shards(recipe: Recipe, plan_id: str, ranges: str) -> list[int]:
    """Shards to run: those in `ranges`, whose results are discarded; without ranges, all that have no result.

    Raises InputError when the plan lacks one of them.
    """
    store = open_store(recipe.store)
    plan = load_plan(store, resolve_plan(store, plan_id))
    planned = [shard.index for shard in plan.shards]
    if not ranges:
        return missing_results(store, plan.plan_id, planned)
    chosen = parse_ranges(ranges)
    for index in chosen:
        if index not in planned:
            raise InputError(f"--shards: plan {plan.plan_id} has shards 0 to {planned[-1]}; it has no {index}")
    for index in chosen:
        discard_shard_result(store, plan.plan_id, index)
    return chosen


def parse_ranges(text: str) -> list[int]:
    """Numbers of "3,7-9", ascending and once each. Raises InputError naming the part it cannot read."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low = int(first)
            high = int(last) if dash else low
        except ValueError:
            raise InputError(f"--shards: cannot read {part!r}; write numbers and ranges like 3,7-9") from None
        if high < low:
            raise InputError(f"--shards: {part.strip()} runs backwards")
        numbers.update(range(low, high + 1))
    return sorted(numbers)
