"""What `plan` and `status` show, as JSON values and as table rows."""

import json
from pathlib import Path
from typing import Any

from infra.errors import InputError
from infra.ledger import Ledger
from infra.recipe import Recipe
from infra.store import open_store
from tasks.evaluation.heldout import is_heldout
from tasks.planning.estimate import estimate
from tasks.planning.make_plan import make_plan
from tasks.records.plan import load_plan, resolve_plan
from tasks.records.shard import read_failure, read_shard_result


def plan_view(recipe: Recipe) -> dict[str, Any]:
    """Make the plan of a recipe and estimate it, without a paid call."""
    store = open_store(recipe.store)
    made = make_plan(recipe, store)
    ledger = Ledger(store)
    try:
        estimated = estimate(made, recipe, store, ledger).to_json()
    finally:
        ledger.close()
    return {"plan_id": made.plan_id, "shards": len(made.shards), **estimated}


def plan_status(store_url: str, prefix: str) -> list[dict[str, Any]]:
    """The shards of one plan, or of all, by state. Raises InputError when the store holds no plan."""
    store = open_store(store_url)
    if prefix:
        names = [resolve_plan(store, prefix)]
    else:
        all_plans = sorted({path.split("/")[1] for path in store.list("plans") if path.endswith("/plan.json")})
        names = [name for name in all_plans if not is_heldout(load_plan(store, name))]
    if not names:
        raise InputError(f"{store_url}: no plan in this store; `longmill plan RECIPE` makes one, or give --store")
    return [_plan_state(store_url, name) for name in names]


def _plan_state(store_url: str, plan_id: str) -> dict[str, Any]:
    store = open_store(store_url)
    shards = []
    for each in load_plan(store, plan_id).shards:
        result = read_shard_result(store, plan_id, each.index)
        failure = None if result else read_failure(store, plan_id, each.index)
        state = "done" if result else "failed" if failure else "waiting"
        shards.append({"shard": each.index, "state": state, "questions": each.questions, "error": failure})
    return {"plan_id": plan_id, "shards": shards}


def path_in_store(store_url: str, given: str, file: str = "manifest.json") -> str:
    """A path as a person gives it (a folder or a file, in the store or on disk) as a path in the store."""
    store = open_store(store_url)
    path = given.removeprefix(f"{store_url.rstrip('/')}/")
    root = store.local("")
    if root is not None and Path(given).exists():
        try:
            path = str(Path(given).resolve().relative_to(root.resolve()))
        except ValueError:
            raise InputError(f"{given}: lies outside the store {store_url}; give --set store=FOLDER") from None
    if "://" in path:
        raise InputError(f"{given}: lies outside the store {store_url}; give --set store=URL")
    path = path if path.endswith(f"/{file}") else f"{path.rstrip('/')}/{file}"
    if not store.exists(path):
        raise InputError(f"{given}: no {file} there in the store {store_url}; check the path")
    return path


def trained_at(store_url: str, given: str) -> dict[str, Any]:
    """What the train flow returned for the model in a folder of the store."""
    path = path_in_store(store_url, given, "result.json")
    trained: dict[str, Any] = json.loads(open_store(store_url).read(path))
    return trained
