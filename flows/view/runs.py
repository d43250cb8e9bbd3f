"""The pages of runs: the plans of a store, and one plan as `longmill status` has it."""

from collections.abc import Mapping
from typing import Any

from flows.cli.plan_state import failed_shards, plan_status
from flows.view.rendering import page
from infra.errors import InputError
from tasks.reporting.status_tables import BUILD_ENDED, around_the_build, live_figures, model_rows, plans_rows, step_rows
from tasks.viewing.library import Library

_NEWEST = 50  # plans of a store


def runs_page(library: Library) -> str:
    """The newest plans of each store."""
    stores: list[dict[str, Any]] = []
    running = False
    for store in library.stores:
        plans = newest_plans(store.url)
        running = running or any(plan["builder"] for plan in plans)
        columns, rows = plans_rows(plans)
        stores.append({"place": store.place(""), "columns": columns, "rows": rows})
    return page("runs", stores=stores, running=running)


def newest_plans(store_url: str) -> list[dict[str, Any]]:
    """The state of a store's newest plans."""
    try:
        return plan_status(store_url, "", _NEWEST)
    except InputError:  # no plan in this store
        return []


def run_page(library: Library, plan_id: str) -> str:
    """One plan: how far its build is, shards by state, calls, tokens and money, and what was refused and dropped."""
    for number, store in enumerate(library.stores, 1):
        try:
            (state,) = plan_status(store.url, plan_id)
        except InputError:
            if number == len(library.stores):
                raise
            continue
        return _page_of(state)
    raise InputError("no store was given, so there are no runs to show; give the store instead of a dataset")


def _page_of(state: Mapping[str, Any]) -> str:
    build, builder = state["build"], state["builder"]
    if builder:
        around = around_the_build(state)
        outcome, words = "running", f"{around}: {builder['words']}" if around else builder["words"]
    elif build:
        outcome, words = build["state"], BUILD_ENDED.get(build["state"], "")
    else:
        outcome, words = "waiting", "it has not been built yet"
    links = build["shard_links"] if build else {}
    dataset = state["dataset"]
    return page(
        "run",
        state=state,
        running=builder is not None,
        outcome=outcome,
        words=words,
        figures=live_figures(build, state) if build else [],
        bar=_bar(state["states"]),
        in_work=[{"index": int(shard), "link": link} for shard, link in links.items()],
        waits=build["waits"] if build else {},
        tables=[rows for rows in (step_rows(state), model_rows(state)) if rows[1]],
        errors=failed_shards(state),
        refused=list(reversed(build["refused"])) if build else [],
        dropped=list(reversed(build["dropped"])) if build else [],
        version=dataset["manifest"].split("/")[-2] if dataset else "",
    )


def _bar(states: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """The parts of the bar of shards by state, in thousandths of its width."""
    total = sum(counts["shards"] for counts in states.values())
    parts: list[dict[str, Any]] = []
    start = 0.0
    for name, counts in states.items():
        width = 1000 * counts["shards"] / total if total else 0.0
        if width:
            parts.append({"name": name, "start": f"{start:.1f}", "width": f"{width:.1f}"})
        start += width
    return parts
