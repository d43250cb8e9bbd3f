"""The pages of runs: the plans of a store and one plan, as `longmill status` has them."""

from typing import Any

from flows.cli.plan_state import failed_shards, plan_status
from flows.view.rendering import page
from infra.errors import InputError
from tasks.reporting.status_tables import build_lines, model_rows, plan_title, plans_rows, state_rows, step_rows
from tasks.viewing.library import Library

_NEWEST = 50  # plans of a store


def runs_page(library: Library) -> str:
    """The newest plans of each store."""
    stores: list[dict[str, Any]] = []
    for store in library.stores:
        try:
            plans = plan_status(store.url, "", _NEWEST)
        except InputError:  # no plan in this store
            plans = []
        columns, rows = plans_rows(plans)
        stores.append({"place": store.place(""), "columns": columns, "rows": rows})
    return page("runs", stores=stores)


def run_page(library: Library, plan_id: str) -> str:
    """One plan: shards by state, calls, tokens and money by model, and the last errors."""
    for number, store in enumerate(library.stores, 1):
        try:
            (state,) = plan_status(store.url, plan_id)
        except InputError:
            if number == len(library.stores):
                raise
            continue
        tables = [rows for rows in (state_rows(state), step_rows(state), model_rows(state)) if rows[1]]
        return page(
            "run",
            title=plan_title(state),
            lines=[line for line in build_lines(state) if line[0] != "run"],
            link=state["build"]["link"] if state["build"] else None,
            tables=tables,
            errors=failed_shards(state),
            rerun=state["rerun"],
        )
    raise InputError("no store was given, so there are no runs to show; give the store instead of a dataset")
