"""What `status` shows, as JSON values: read from listings and small records of the store, never from tables.

A plan's shards by state come from one listing of names. Calls, rate and time left come from what the plan's last build
has said of itself (flows/reports.py), and the builder from the plan's lease.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from flows.reports import read_build
from infra.errors import InputError, LongmillError, MissingError, StoreError
from infra.models.batches.records import open_batches
from infra.recipe import Recipe, parse_recipe
from infra.running.run_page import pages_address, run_link
from infra.store import Store, open_store
from infra.store.lease import LEASES, current_holder
from tasks.evaluation.heldout import is_heldout
from tasks.records.hint import rerun_command
from tasks.records.manifest import read_manifest
from tasks.records.plan import Plan, load_plan, plan_path, recipe_path, resolve_plan
from tasks.records.shard import read_failures, shard_states
from tasks.reporting.build_state import build_view, spending_view

STATES = ("done", "running", "failed", "waiting")
MOST_ERRORS = 20  # that are read
NO_SPENDING: Mapping[str, Any] = {"steps": {}, "models": {}, "cost": None, "reuse": None}
_PLANS_AT_ONCE = 8


def plan_status(store_url: str, prefix: str, newest: int | None = None) -> list[dict[str, Any]]:
    """The state of one plan, or of all, the newest first; and the store's open batches (`batches`), if there are any.

    With `newest` only so many. Raises InputError when the store holds no plan.
    """
    store = open_store(store_url)
    states = [_state_of(store, prefix)] if prefix else _all_states(store, newest)
    if not states:
        raise InputError(f"{store_url}: no plan in this store; `longmill plan RECIPE` makes one, or give --store")
    if batches := [asdict(batch) for batch in open_batches(store)]:
        for state in states:
            state["batches"] = batches
    return states


def _state_of(store: Store, prefix: str) -> dict[str, Any]:
    try:
        return plan_state(store, load_plan(store, resolve_plan(store, prefix)))
    except InputError as error:
        elsewhere = f"longmill status {prefix} --store s3://BUCKET/PREFIX"
        raise InputError(f"{error}. If it is in another store: {elsewhere}") from error


def _all_states(store: Store, newest: int | None) -> list[dict[str, Any]]:
    def written(plan_id: str) -> tuple[str, str] | None:
        with contextlib.suppress(MissingError):
            return _written(store, plan_id), plan_id
        return None  # its folder has no plan: one that is being made

    def state(plan_id: str) -> dict[str, Any] | None:
        plan = load_plan(store, plan_id)
        return None if is_heldout(plan) else plan_state(store, plan)

    _, folders = store.children("plans")
    with ThreadPoolExecutor(_PLANS_AT_ONCE) as pool:
        times = pool.map(written, [folder.removeprefix("plans/") for folder in folders])
        plan_ids = [plan_id for _, plan_id in sorted(filter(None, times), reverse=True)]
        states: list[dict[str, Any]] = []
        for plan_of_many in pool.map(state, plan_ids if newest is None else plan_ids[: 2 * newest]):
            if plan_of_many is not None:
                states.append(plan_of_many)
    return states[:newest]


def plan_state(store: Store, plan: Plan) -> dict[str, Any]:
    """One plan: its shards, who builds it, its dataset, and what its builds have called. Raises StoreError."""
    recipe = _recipe_of(store, plan.plan_id)
    report = read_build(store, plan.plan_id)
    holder = current_holder(store, f"{LEASES}/{plan.plan_id}")
    running = set(report["shards"]) if report and holder else set()
    shards = list(_shards(store, plan, running))
    counts: dict[str, dict[str, int]] = {name: {"shards": 0, "questions": 0} for name in STATES}
    for shard in shards:
        counts[shard["state"]]["shards"] += 1
        counts[shard["state"]]["questions"] += shard["questions"]
    failed = counts["failed"]["shards"]
    return {
        "plan_id": plan.plan_id,
        "recipe": recipe.name if recipe else None,
        "written": _written(store, plan.plan_id),
        "questions": sum(shard["questions"] for shard in shards),
        "states": counts,
        "dataset": _dataset(store, plan, recipe, report),
        "builder": None if holder is None else {**asdict(holder), "words": str(holder)},
        "build": _build(report, plan, running=holder is not None) if report else None,
        **(spending_view(report, plan, recipe) if report and recipe else NO_SPENDING),
        "rerun": rerun_command(store, plan.plan_id, "--failed") if failed and holder is None else None,
        "shards": shards,
    }


def _shards(store: Store, plan: Plan, running: set[int]) -> Iterator[dict[str, Any]]:
    """Each shard with its state, its questions, and its last error where it has failed and few have."""
    states = shard_states(store, plan)
    failed = [index for index, state in states.items() if state == "failed"]
    errors = dict(zip(failed[:MOST_ERRORS], read_failures(store, plan.plan_id, failed[:MOST_ERRORS]), strict=True))
    for shard in plan.shards:
        state, error = states[shard.index], None
        if state == "waiting" and shard.index in running:
            state = "running"
        elif state == "failed":
            error = errors.get(shard.index, f"see plans/{plan.plan_id}/shards/{shard.index:04d}.failed.json")
        yield {"shard": shard.index, "state": state, "questions": shard.questions, "error": error}


def _build(report: Mapping[str, Any], plan: Plan, *, running: bool) -> dict[str, Any]:
    """How far a build is, with the pages of its flow runs in the Prefect UI: its own, and those of the shards in work.

    They are at the server of this process, else at that of the build, which may be gone with it.
    """
    build = build_view(report, plan, running=running)
    here = pages_address() or (report.get("pages", "") if build["state"] == "running" else "")
    links = {shard: run_link(run_id, here) for shard, run_id in build.pop("runs").items()}
    return {**build, "link": run_link(build["run"]["id"], here), "shard_links": links}


def _dataset(
    store: Store, plan: Plan, recipe: Recipe | None, report: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The published dataset of a plan: what its build has said, else the latest of the name if it is the plan's."""
    if report and report["dataset"] and store.exists(report["dataset"]["manifest"]):
        return dict(report["dataset"])
    if recipe is None:
        return None
    try:
        latest = json.loads(store.read(f"datasets/{recipe.dataset.name}/latest.json"))
        manifest = read_manifest(store, latest["manifest"])
    except (StoreError, ValueError, KeyError, TypeError):
        return None
    if manifest["plan_id"] != plan.plan_id:
        return None
    folder = latest["manifest"].rpartition("/")[0]
    return {"name": recipe.dataset.name, "folder": store.place(folder), "manifest": latest["manifest"]}


def _recipe_of(store: Store, plan_id: str) -> Recipe | None:
    """The recipe that a plan was last built with; None before, and where this version cannot read it."""
    try:
        return parse_recipe(json.loads(store.read(recipe_path(plan_id))))
    except (LongmillError, ValueError):
        return None


def _written(store: Store, plan_id: str) -> str:
    return store.written_at(plan_path(plan_id)).isoformat(timespec="seconds")


def failed_shards(state: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The failed shards of a plan's state whose errors were read."""
    return [shard for shard in state["shards"] if shard["state"] == "failed"][:MOST_ERRORS]
