"""Run some shards of a plan again, then publish; a verb, and a deployment to start from the UI.

The recipe that a plan was last built with lies beside the plan, so that the plan's id is all one needs.
"""

import json
from typing import Any

from prefect import flow

from flows.build import build, recipe_path
from flows.recipes import read_recipe
from infra.errors import InputError
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tasks.records.plan import load_plan, resolve_plan
from tasks.records.shard import discard_shard_result, read_shard_result


@flow(name="rerun", flow_run_name="rerun of plan {plan_id}")
def rerun(
    plan_id: str, store: str = "mill", failed: bool = True, shards: str = "", recipe: str = "", train: bool = True
) -> dict[str, Any]:
    """Run the failed and missing shards of a plan (or those that `shards` names, like "3,7-9"), then publish.

    `recipe` is a recipe file to take endpoints and limits from; without it, the one the plan was built with.
    """
    settings = read_recipe(recipe) if recipe else recipe_of_plan(store, plan_id)
    chosen = choose_shards(settings, plan_id, shards if not failed or shards else "")
    return build(settings, plan_id=plan_id, shards=chosen, train=train)


def recipe_of_plan(store: str, plan_id: str) -> Recipe:
    """The recipe that a plan was last built with. Raises InputError when there is none."""
    opened = open_store(store)
    path = recipe_path(resolve_plan(opened, plan_id))
    if not opened.exists(path):
        raise InputError(f"{opened.show(path)}: no recipe is kept with this plan; give one with --recipe")
    return parse_recipe(json.loads(opened.read(path)), opened.show(path))


def choose_shards(recipe: Recipe, plan_id: str, wanted: str) -> list[int]:
    """Shards to run: those that `wanted` names, whose results are discarded; else all without a result."""
    store = open_store(recipe.store)
    plan = load_plan(store, resolve_plan(store, plan_id))
    known = [each.index for each in plan.shards]
    if not wanted:
        return [index for index in known if read_shard_result(store, plan.plan_id, index) is None]
    chosen = parse_ranges(wanted)
    if strange := [index for index in chosen if index not in set(known)]:
        raise InputError(f"--shards: plan {plan.plan_id} has shards 0 to {known[-1]}; it has no {strange[0]}")
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
